package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// flow is what one client connection sent and received.
type flow struct {
	Local    string `json:"local"`
	Sent     int64  `json:"sent"`
	Received int64  `json:"received"`
	Calls    int64  `json:"calls"` // messages echoed
	Err      string `json:"err,omitempty"`
}

type client struct {
	network, addr string
	size          int
	pause         time.Duration
	trips         atomic.Int64
	stop          atomic.Bool
}

// run sends calls messages (without end when negative) and waits for each echo.
func (c *client) run(conn net.Conn, calls int, f *flow) {
	out, in := make([]byte, c.size), make([]byte, c.size)
	for i := range out {
		out[i] = byte('a' + i%26)
	}
	for i := 0; calls < 0 || i < calls; i++ {
		if c.stop.Load() {
			return
		}
		n, err := conn.Write(out)
		f.Sent += int64(n)
		if err == nil {
			n, err = io.ReadFull(conn, in)
			f.Received += int64(n)
		}
		if err != nil {
			f.Err = err.Error()
			return
		}
		f.Calls++
		c.trips.Add(1)
		if c.pause > 0 {
			time.Sleep(c.pause)
		}
	}
}

func load(args []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	network := flags.String("network", "tcp", "tcp, unix or udp")
	addr := flags.String("addr", "", "the server")
	conns := flags.Int("conns", 64, "connections")
	calls := flags.Int("calls", 1000, "messages a connection; -1: until the control line `stop`")
	size := flags.Int("size", 64, "bytes a message")
	pause := flags.Duration("pause", 0, "between two messages of a connection")
	gate := flags.Bool("gate", false, "connect, then wait for the control line `go`")
	late := flags.Bool("late", false, "wait for the control line `go`, then connect")
	linger := flags.Bool("linger", false, "when done, wait for the control line `close` before closing")
	keep := flags.Bool("keep", false, "go on when stdin ends")
	flags.Parse(args)

	c := &client{network: *network, addr: *addr, size: *size, pause: *pause}
	began, closing := make(chan struct{}), make(chan struct{})
	var once, onceClose sync.Once
	go func() {
		control(map[string]func(string){
			"go":    func(string) { once.Do(func() { close(began) }) },
			"close": func(string) { onceClose.Do(func() { close(closing) }) },
			"stop":  func(string) { c.stop.Store(true) },
			"trips": func(string) { say("trips", c.trips.Load()) },
		})
		if !*keep {
			os.Exit(0)
		}
	}()
	if *late {
		say(fmt.Sprintf("ready pid %d", os.Getpid()), nil)
		<-began
	}
	flows := make([]*flow, *conns)
	open := make([]net.Conn, *conns)
	for i := range flows {
		conn, err := dial(*network, *addr)
		if err != nil {
			fail("dial " + *addr + ": " + err.Error())
		}
		open[i], flows[i] = conn, &flow{Local: conn.LocalAddr().String()}
	}
	if !*late {
		say(fmt.Sprintf("ready pid %d", os.Getpid()), nil)
	}
	if *gate {
		<-began
	}
	var all sync.WaitGroup
	for i := range flows {
		all.Add(1)
		go func(conn net.Conn, f *flow) {
			defer all.Done()
			c.run(conn, *calls, f)
		}(open[i], flows[i])
	}
	all.Wait()
	if *linger {
		say("finished", nil)
		<-closing
	}
	for _, conn := range open {
		conn.Close()
	}
	say("done", flows)
}

func dial(network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	return d.Dial(network, addr)
}

// both is a server and its client in one process.
func both(args []string) {
	flags := flag.NewFlagSet("both", flag.ExitOnError)
	conns := flags.Int("conns", 4, "connections")
	calls := flags.Int("calls", 1000, "messages a connection; -1: until stdin ends")
	size := flags.Int("size", 64, "bytes a message")
	pause := flags.Duration("pause", 0, "between two messages of a connection")
	flags.Parse(args)

	s := &server{size: 4096}
	at := s.listen("tcp", "127.0.0.1:0")
	say(fmt.Sprintf("listening %s pid %d", at, os.Getpid()), nil)
	if *calls < 0 {
		go func() {
			control(map[string]func(string){
				"counts": func(string) { say("counts", s.counts()) },
			})
			say("counts", s.counts())
			os.Exit(0)
		}()
	}
	c := &client{size: *size, pause: *pause}
	var all sync.WaitGroup
	for i := 0; i < *conns; i++ {
		conn, err := dial("tcp", at)
		if err != nil {
			fail(err.Error())
		}
		all.Add(1)
		go func() {
			defer all.Done()
			c.run(conn, *calls, &flow{})
			conn.Close()
		}()
	}
	all.Wait()
	for s.open.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	say("counts", s.counts())
}
