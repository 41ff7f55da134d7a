// snapshot serves lines over TCP with a heap of the size asked for. Each request
// has its own number while it is handled, which is gone afterwards: only a copy
// of the memory of that moment can still tell it.
//
//	snapshot -mb 200
//
// Control lines on stdin: `served` prints how many requests were handled,
// `recorded N` what request N was handled with, `filter NAME` sets a filter of
// system calls (see filter.go), `shut` closes every connection, `ping x` answers
// `pong x`.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// Request is what handle is called with.
type Request struct {
	Number uint64
	Again  uint64 // equal to Number, or a copy was torn
	Order  uint64 // counts requests as they are handled
	Name   string
	Parts  []uint64
}

// every so many requests are recorded.
const every = 16

var (
	heap   [][]byte
	served atomic.Uint64
	sink   atomic.Uint64
	order  atomic.Uint64

	mu       sync.Mutex
	recorded = map[uint64]string{}
	conns    = map[net.Conn]bool{}
)

//go:noinline
func handle(r *Request) uint64 {
	heap[int(r.Number)%len(heap)][int(r.Number)%4096]++
	return r.Number * 2
}

func serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	mu.Lock()
	conns[conn] = true
	mu.Unlock()
	r := &Request{}
	for lines.Scan() {
		var n uint64
		fmt.Sscan(lines.Text(), &n)
		*r = Request{n, n, order.Add(1), "request " + lines.Text(), []uint64{n, 2 * n}}
		if n%every == 0 {
			mu.Lock()
			recorded[n] = fmt.Sprintf("%d %q %v", r.Order, r.Name, r.Parts)
			mu.Unlock()
		}
		sink.Add(handle(r))
		*r = Request{}
		served.Add(1)
		fmt.Fprintf(conn, "%d\n", n)
	}
}

func main() {
	mb := flag.Int("mb", 16, "megabytes of heap")
	flag.String("name", "", "for whoever looks for it, or for copies of it")
	flag.Parse()
	heap = make([][]byte, *mb)
	for i := range heap {
		heap[i] = make([]byte, 1<<20)
		for j := 0; j < len(heap[i]); j += 512 {
			heap[i][j] = byte(i)
		}
	}
	runtime.GC()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Printf("listening %s pid %d\n", l.Addr(), os.Getpid())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch line := in.Text(); {
		case strings.HasPrefix(line, "recorded "):
			var n uint64
			fmt.Sscan(strings.TrimPrefix(line, "recorded "), &n)
			mu.Lock()
			fmt.Println("recorded", n, recorded[n])
			mu.Unlock()
		case strings.HasPrefix(line, "filter "):
			fmt.Println("filter", filter(strings.TrimPrefix(line, "filter ")))
		case line == "shut":
			mu.Lock()
			for conn := range conns {
				conn.Close()
			}
			fmt.Println("shut", len(conns))
			mu.Unlock()
		case line == "served":
			fmt.Println("served", served.Load())
		case strings.HasPrefix(line, "ping "):
			fmt.Println("pong", strings.TrimPrefix(line, "ping "))
		}
	}
}
