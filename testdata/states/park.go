package main

import (
	"context"
	"net"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"
)

// parked is what it keeps alive.
var parked []interface{}

var nilChan chan int

// small is inlined into whoever calls it.
func small(c chan int) int { return <-c + 1 }

type store struct {
	name string
	mu   sync.Mutex
}

//go:noinline
func parkReceive(c chan int) { small(c) }

//go:noinline
func parkSend(c chan int) { c <- 7 }

//go:noinline
func parkNilReceive() { <-nilChan }

//go:noinline
func parkNilSend() { nilChan <- 1 }

//go:noinline
func parkSelect(a chan int, b chan string) {
	select {
	case <-a:
	case b <- "x":
	}
}

//go:noinline
func parkForever() { select {} }

//go:noinline
func parkSleep() { time.Sleep(time.Hour) }

//go:noinline
func parkMutex(s *store) {
	s.mu.Lock()
	s.name += "."
	s.mu.Unlock()
}

//go:noinline
func parkRead(m *sync.RWMutex) {
	m.RLock()
	parked = nil
	m.RUnlock()
}

//go:noinline
func parkWrite(m *sync.RWMutex) {
	m.Lock()
	parked = nil
	m.Unlock()
}

//go:noinline
func parkCond(c *sync.Cond) {
	c.L.Lock()
	c.Wait()
	c.L.Unlock()
}

//go:noinline
func parkWait(w *sync.WaitGroup) { w.Wait() }

//go:noinline
func parkSyscall(fd int) {
	buf := make([]byte, 1)
	syscall.Read(fd, buf)
}

//go:noinline
func parkLocked(c chan int) {
	runtime.LockOSThread()
	<-c
}

//go:noinline
func parkNetRead(c net.Conn) { c.Read(make([]byte, 100)) }

//go:noinline
func parkQueue(c net.Conn) { c.Read(make([]byte, 200)) }

//go:noinline
func parkNetWrite(c net.Conn) {
	for {
		if _, err := c.Write(make([]byte, 1<<20)); err != nil {
			return
		}
	}
}

//go:noinline
func parkLabelled(c chan int) {
	labels := pprof.Labels("color", "green", "shape", "round")
	pprof.Do(context.Background(), labels, func(context.Context) { <-c })
}

//go:noinline
func parkDeep(depth int, c chan int) int {
	if depth == 0 {
		return <-c
	}
	return parkDeep(depth-1, c) + depth
}

func pair(network, address string) (client, server net.Conn) {
	l, err := net.Listen(network, address)
	must(err)
	done := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		must(err)
		done <- c
	}()
	client, err = net.Dial(network, l.Addr().String())
	must(err)
	server = <-done
	if l, ok := l.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(true)
	}
	must(l.Close())
	return
}

// park parks n goroutines of each kind, and tells the kinds by the function
// that they wait in.
func park(n int) map[string]int {
	kinds := map[string]int{}
	keep := []interface{}{}
	var servers []net.Conn
	for i := 0; i < n; i++ {
		c := make(chan int)
		go parkReceive(c)
		full := make(chan int, 2)
		full <- 1
		full <- 2
		go parkSend(full)
		go parkNilReceive()
		go parkNilSend()
		go parkSelect(make(chan int), make(chan string))
		go parkForever()
		go parkSleep()
		s := &store{}
		s.mu.Lock()
		go parkMutex(s)
		var read, write sync.RWMutex
		read.Lock()
		go parkRead(&read)
		write.RLock()
		go parkWrite(&write)
		go parkCond(sync.NewCond(&sync.Mutex{}))
		w := &sync.WaitGroup{}
		w.Add(1)
		go parkWait(w)
		var pipe [2]int
		must(syscall.Pipe(pipe[:]))
		go parkSyscall(pipe[0])
		go parkLocked(make(chan int))
		client, server := pair("tcp", "127.0.0.1:0")
		go parkNetRead(server)
		servers = append(servers, server)
		far, idle := pair("tcp", "127.0.0.1:0")
		go parkNetWrite(idle)
		go parkLabelled(make(chan int))
		go parkDeep(10*i, make(chan int))
		keep = append(keep, c, full, s, &read, &write, w, client, server, idle, far)
		parkC()
	}
	// Behind those that read already.
	settle()
	for _, server := range servers {
		go parkQueue(server)
	}
	for _, kind := range []string{
		"parkReceive", "parkSend", "parkNilReceive", "parkNilSend", "parkSelect",
		"parkForever", "parkSleep", "parkMutex", "parkRead", "parkWrite", "parkCond",
		"parkWait", "parkSyscall", "parkLocked", "parkNetRead", "parkQueue",
		"parkNetWrite", "parkLabelled", "parkDeep",
	} {
		kinds[kind] = n
	}
	if hasC {
		kinds["parkInC"] = n
	}
	parked = keep
	return kinds
}
