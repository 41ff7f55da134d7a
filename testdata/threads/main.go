// Command threads keeps a number of OS threads blocked while a hot function is
// called in a loop: what a hit costs must not depend on how many there are.
//
// Control lines: `calls` answers how often the hot function was called, `pause`
// and `go` stop and start the loop.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	calls  atomic.Int64
	paused atomic.Bool
)

// hot is the function to trace.
//
//go:noinline
func hot(n int) int { return n + 1 }

func main() {
	threads := flag.Int("threads", 4, "OS threads to lock and block")
	loops := flag.Int("loops", 1, "goroutines that call main.hot")
	rate := flag.Bool("rate", false, "print `rate N` each second")
	flag.Parse()

	var up sync.WaitGroup
	for i := 0; i < *threads; i++ {
		up.Add(1)
		go func() {
			runtime.LockOSThread()
			up.Done()
			select {} // parked in its own futex
		}()
	}
	up.Wait()
	for i := 0; i < *loops; i++ {
		go loop()
	}
	fmt.Printf("ready pid %d\n", os.Getpid())
	if *rate {
		go func() {
			last := int64(0)
			for range time.Tick(time.Second) {
				now := calls.Load()
				fmt.Printf("rate %d\n", now-last)
				last = now
			}
		}()
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch word := strings.TrimSpace(lines.Text()); word {
		case "calls":
			fmt.Printf("calls %d\n", calls.Load())
		case "pause":
			paused.Store(true)
			fmt.Println("pause")
		case "go":
			paused.Store(false)
			fmt.Println("go")
		default:
			fmt.Println("pong" + strings.TrimPrefix(word, "ping"))
		}
	}
}

func loop() {
	n := 0
	for {
		if paused.Load() {
			time.Sleep(time.Millisecond)
			continue
		}
		n = hot(n)
		calls.Add(1)
	}
}
