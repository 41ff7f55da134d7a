package main

import (
	"net"
	"sync"
)

// replies has n clients wait for an answer; it returns the server's address.
func replies(n int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go acceptAll(l)
	for i := 0; i < n; i++ {
		c, err := net.Dial("tcp", l.Addr().String())
		must(err)
		go askServer(c)
	}
	settle()
	return l.Addr().String()
}

var accepted []net.Conn

func acceptAll(l net.Listener) {
	for {
		c, err := l.Accept()
		must(err)
		accepted = append(accepted, c)
	}
}

func askServer(c net.Conn) {
	c.Read(make([]byte, 1))
}

// deadlock has n goroutines and its caller wait for each other. Programs with C
// in them are not told so by the runtime (runtime/proc.go: checkdead).
func deadlock(n int) {
	var all sync.WaitGroup
	locks := make([]sync.Mutex, n)
	var first sync.WaitGroup
	first.Add(n)
	for i := 0; i < n; i++ {
		all.Add(1)
		go func(own, next *sync.Mutex) {
			own.Lock()
			first.Done()
			first.Wait()
			next.Lock()
			all.Done()
		}(&locks[i], &locks[(i+1)%n])
	}
	settle()
	say("ready", nil)
	all.Wait()
}
