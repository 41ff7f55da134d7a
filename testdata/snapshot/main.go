// snapshot serves lines over TCP with a heap of the size asked for. Each request
// has its own number while it is handled, which is gone afterwards: only a copy
// of the memory of that moment can still tell it.
//
//	snapshot -mb 200
//
// Control lines on stdin: `served` prints how many requests were handled, `sum`
// the sum of the heap, `ping x` answers `pong x`.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
)

// Request is what handle is called with.
type Request struct {
	Number uint64
	Again  uint64 // equal to Number, or a copy was torn
}

var (
	heap   [][]byte
	served atomic.Uint64
	sink   atomic.Uint64
)

//go:noinline
func handle(r *Request) uint64 {
	heap[int(r.Number)%len(heap)][int(r.Number)%4096]++
	return r.Number * 2
}

func serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	r := &Request{}
	for lines.Scan() {
		var n uint64
		fmt.Sscan(lines.Text(), &n)
		r.Number, r.Again = n, n
		sink.Add(handle(r))
		r.Number, r.Again = 0, 0
		served.Add(1)
		fmt.Fprintf(conn, "%d\n", n)
	}
}

func main() {
	mb := flag.Int("mb", 16, "megabytes of heap")
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
		case line == "served":
			fmt.Println("served", served.Load())
		case strings.HasPrefix(line, "ping "):
			fmt.Println("pong", strings.TrimPrefix(line, "ping "))
		}
	}
}
