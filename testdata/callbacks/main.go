// Command callbacks goes through C and back: Go calls C, which calls Go, on the
// same goroutine, panics on the way, and on threads that C has made.
//
// One control line on stdin runs everything once; it is answered by "run {json}"
// with the numbers of calls.
package main

/*
#include <pthread.h>

extern int goCallback(int);
extern int goPanics(int);

static int throughC(int n) { return goCallback(n); }
static int panicsThroughC(int n) { return goPanics(n); }

static void *onThread(void *sum) {
	for (int i = 0; i < 100; i++) *(int *)sum += goCallback(0);
	return 0;
}

static int onThreads(int n) {
	pthread_t threads[16];
	int sums[16] = {0}, sum = 0;
	for (int i = 0; i < n; i++) pthread_create(&threads[i], 0, onThread, &sums[i]);
	for (int i = 0; i < n; i++) {
		pthread_join(threads[i], 0);
		sum += sums[i];
	}
	return sum;
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"sync"
)

//export goCallback
func goCallback(n C.int) C.int { return C.int(nested(int(n))) }

//export goPanics
func goPanics(n C.int) C.int {
	if n == 0 {
		panic("on the other side of C")
	}
	return C.int(panics(int(n - 1)))
}

//go:noinline
func nested(n int) int {
	if n == 0 {
		return 1
	}
	return int(C.throughC(C.int(n-1))) + 1
}

//go:noinline
func panics(n int) int { return int(C.panicsThroughC(C.int(n))) }

//go:noinline
func recovers() (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	panics(3)
	return "not reached"
}

func main() {
	fmt.Printf("ready pid %d\n", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var all sync.WaitGroup
		for g := 0; g < 20; g++ {
			all.Add(1)
			go func() {
				defer all.Done()
				for i := 0; i < 10; i++ {
					nested(10)
				}
			}()
		}
		all.Wait()
		recovers()
		own := C.onThreads(8)
		fmt.Printf("run {\"nested\":%d,\"panics\":4,\"recovers\":1}\n", 20*10*11+int(own))
	}
}
