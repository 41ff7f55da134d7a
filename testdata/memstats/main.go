// A program that is quiet and knows its own memory statistics.
//
// It allocates small, large and tiny objects on several Ps, collects twice,
// allocates more, and prints `ready PID PATTERN HEAP`: addresses of words that
// hold their own index times a prime. Then it reads commands, blocked in a
// plain system call:
//
//	hold    runtime.ReadMemStats; answers without allocating
//	print   what hold read, as JSON, and other figures of the runtime
//	crash   panics in another goroutine (GOTRACEBACK=crash dumps core)
//	fault   writes to address 8
//
// Arguments: limit (a memory limit is in force), gc (collections go on, which
// else are off after those two).
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"syscall"
	"unsafe"
)

const prime = 0x9e3779b97f4a7c15

type node struct {
	next *node
	a, b int
}

var (
	pattern [4096]uint64
	heap    []uint64
	nodes   *node
	large   [][]byte
	texts   []string
	mu      sync.Mutex
	stats   runtime.MemStats
	held    = []byte("held\n")
)

func main() {
	collect := false
	for _, arg := range os.Args[1:] {
		switch arg {
		case "limit":
			debug.SetMemoryLimit(64 << 20)
		case "gc":
			collect = true
		}
	}
	heap = make([]uint64, 1<<16)
	for i := range pattern {
		pattern[i] = uint64(i) * prime
	}
	for i := range heap {
		heap[i] = uint64(i) * prime
	}
	everywhere(3000)
	for i := 0; i < 30; i++ {
		large = append(large, make([]byte, 100<<10))
	}
	runtime.GC()
	large = large[10:]
	runtime.GC()
	if !collect {
		debug.SetGCPercent(-1)
	}
	everywhere(777)
	fmt.Println("ready", os.Getpid(), address(&pattern[0]), address(&heap[0]))
	commands()
}

func address(p *uint64) string { return fmt.Sprintf("%#x", uintptr(unsafe.Pointer(p))) }

// everywhere allocates on many Ps, so that each has spans in its cache.
func everywhere(n int) {
	var wg sync.WaitGroup
	for g := 0; g < 4; g++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < n; i++ {
				made := &node{a: i}
				text := fmt.Sprint(i)
				mu.Lock()
				made.next, nodes = nodes, made
				texts = append(texts, text)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
}

func commands() {
	var line [64]byte
	n := 0
	for {
		got, err := syscall.Read(0, line[n:n+1])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || got <= 0 {
			return
		}
		n++
		if line[n-1] != '\n' && n < len(line) {
			continue
		}
		command := line[:n]
		n = 0
		switch string(command) {
		case "hold\n":
			runtime.ReadMemStats(&stats)
			syscall.Write(1, held)
		case "print\n":
			text, _ := json.Marshal(map[string]any{
				"stats":      stats,
				"goroutines": runtime.NumGoroutine(),
				"threads":    pprof.Lookup("threadcreate").Count(),
				"gomaxprocs": runtime.GOMAXPROCS(0),
				"cpus":       runtime.NumCPU(),
				"version":    runtime.Version(),
			})
			fmt.Println("print", string(text))
		case "crash\n":
			go func() { panic("as asked") }()
			select {}
		case "fault\n":
			*(*uint64)(unsafe.Pointer(uintptr(8))) = 1
		}
	}
}
