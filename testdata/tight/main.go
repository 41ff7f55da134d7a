// Command tight calls a small function in a loop: what a hit adds to it.
//
// Control line: `run CALLS BURST GOROUTINES` makes so many calls, by each of the
// goroutines, in bursts of BURST with a pause after each, and answers how many
// nanoseconds a call took within the bursts.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// small is the function to trace: it has a frame, as most have.
//
//go:noinline
func small(b []byte, n int) int {
	if n > len(b) {
		return large(b, n)
	}
	return n + 1
}

//go:noinline
func large(b []byte, n int) int {
	return len(append(b, make([]byte, n)...))
}

func main() {
	fmt.Printf("ready pid %d\n", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var calls, burst, goroutines int
		line := strings.TrimSpace(lines.Text())
		if n, _ := fmt.Sscanf(line, "run %d %d %d", &calls, &burst, &goroutines); n == 3 {
			fmt.Printf("run %.3f\n", run(calls, burst, goroutines))
			continue
		}
		fmt.Println("pong" + strings.TrimPrefix(line, "ping"))
	}
}

func run(calls, burst, goroutines int) float64 {
	var done sync.WaitGroup
	times := make([]time.Duration, goroutines)
	for i := range times {
		done.Add(1)
		go func(i int) {
			defer done.Done()
			b := make([]byte, 64)
			for left := calls; left > 0; left -= burst {
				began := time.Now()
				for n := 0; n < burst; n++ {
					small(b, 7)
				}
				times[i] += time.Since(began)
				// Long enough for what was recorded to be read.
				time.Sleep(time.Duration(burst)*2*time.Microsecond + 15*time.Millisecond)
			}
		}(i)
	}
	done.Wait()
	var all time.Duration
	for _, t := range times {
		all += t
	}
	return float64(all.Nanoseconds()) / float64(calls*goroutines)
}
