// Goroutines that spin for ever in main.spin, which calls nothing: at every
// moment each of them is somewhere in it, on a thread, in the signal frame of
// one, or parked by asynchronous preemption. SIGPROF comes 1,000 times a second
// of processor time, and the collector runs all the time.
//
//	resting SPINNERS PROCS PARKED
//
// It prints `ready`, and ends when its standard input does.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"time"
)

var sink [64]uint64

//go:noinline
func spin(into *uint64) {
	x := uint64(1)
	for {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		if x == 0 {
			*into = x
		}
	}
}

//go:noinline
func never(x int) int {
	if x > 1000 {
		return x * 3
	}
	return x + 1
}

func number(i int) int {
	n, err := strconv.Atoi(os.Args[i])
	if err != nil {
		panic(err)
	}
	return n
}

func main() {
	runtime.GOMAXPROCS(number(2))
	// StartCPUProfile says so on standard error, and keeps this rate.
	runtime.SetCPUProfileRate(1000)
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		panic(err)
	}
	for i := 0; i < number(1); i++ {
		go spin(&sink[i%len(sink)])
	}
	wait := make(chan bool)
	for i := 0; i < number(3); i++ {
		go func() { <-wait }()
	}
	go func() {
		for {
			runtime.GC()
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if len(os.Args) > 100 {
		fmt.Println(never(len(os.Args)))
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
