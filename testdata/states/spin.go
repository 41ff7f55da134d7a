package main

import (
	"io"
	"runtime"
	"runtime/pprof"
	"sync/atomic"
	"syscall"
	"time"
)

var spun int64

//go:noinline
func spinDeep(depth int) int {
	if depth == 0 {
		sum := 0
		for i := 0; i < 1<<16; i++ {
			sum += i ^ int(atomic.LoadInt64(&spun))
		}
		return sum
	}
	return spinDeep(depth-1) + 1
}

//go:noinline
func spinLoop() {
	for {
		atomic.AddInt64(&spun, int64(spinDeep(7)&1))
	}
}

//go:noinline
func spinClock() {
	for {
		atomic.AddInt64(&spun, int64(time.Now().Nanosecond()&1))
	}
}

var spinKept [64]map[int]string

//go:noinline
func spinAlloc() {
	for i := 0; ; i++ {
		m := map[int]string{}
		for k := 0; k < 20; k++ {
			m[k] = string(make([]byte, 100))
		}
		spinKept[i%64] = m
	}
}

//go:noinline
func spinRaw() {
	buf := make([]byte, 8)
	for {
		raw(syscall.SYS_GETPID, 0, buf)
	}
}

//go:noinline
func spinCall() {
	for {
		syscall.Getppid()
		runtime.Gosched()
	}
}

// spin runs what is never parked, under the profiler's signals, and parks n
// goroutines in system calls.
func spin(n int) []string {
	must(pprof.StartCPUProfile(io.Discard))
	for i := 0; i < n; i++ {
		var pipe [2]int
		must(syscall.Pipe(pipe[:]))
		go parkSyscall(pipe[0])
	}
	go spinLoop()
	go spinLoop()
	go spinClock()
	go spinAlloc()
	go spinRaw()
	go spinCall()
	parkC()
	return []string{"spinLoop", "spinClock", "spinAlloc", "spinRaw", "spinCall"}
}
