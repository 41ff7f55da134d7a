package main

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// Goroutines that come and go: created is counted before the go statement,
// begun first thing inside, ended last thing.
var created, begun, ended int64

// spawners is how many goroutines make others.
const spawners = 1

//go:noinline
func shortLived(life time.Duration, done chan int) {
	atomic.AddInt64(&begun, 1)
	select {
	case <-done:
	case <-time.After(life):
	}
	atomic.AddInt64(&ended, 1)
}

// churn makes some 10,000 goroutines a second.
func churn() {
	for i := 0; ; i++ {
		for k := 0; k < 20; k++ {
			atomic.AddInt64(&created, 1)
			go shortLived(time.Duration(k)*time.Millisecond, nil)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// bracket tells counts, in the order that they are read.
func bracket() map[string]int64 {
	before := atomic.LoadInt64(&created)
	return map[string]int64{
		"created_before": before,
		"number":         int64(runtime.NumGoroutine()),
		"begun":          atomic.LoadInt64(&begun),
		"ended":          atomic.LoadInt64(&ended),
		"created":        atomic.LoadInt64(&created),
		"spawners":       spawners,
	}
}

//go:noinline
func couldRun() { time.Sleep(time.Hour) }

// starve makes n goroutines that could run and keeps the only processor, with
// calls alone that the scheduler does not see, until its standard input ends.
// It needs GODEBUG=asyncpreemptoff=1.
func starve(n int) {
	runtime.GOMAXPROCS(1)
	text := []byte("ready " + strconv.Itoa(n) + "\n")
	for i := 0; i < n; i++ {
		go couldRun()
	}
	syscall.SetNonblock(0, true)
	hog(text)
}

//go:noinline
func hog(text []byte) {
	raw(syscall.SYS_WRITE, 1, text)
	var buf [16]byte
	for raw(syscall.SYS_READ, 0, buf[:]) != 0 {
	}
}

// leak makes a goroutine every few milliseconds, and forgets it.
func leak() {
	for {
		go parkReceive(make(chan int))
		time.Sleep(3 * time.Millisecond)
	}
}
