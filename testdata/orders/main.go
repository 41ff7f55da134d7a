// A server that handles orders when it is told to: `handle N` on stdin has two
// goroutines handle N orders each, `flood N` one goroutine as fast as it can.
// Goroutines are parked in handle and in fail meanwhile.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

type session struct {
	name string
	hits int
}

type order struct {
	ID     int
	Header map[string][]string
	Body   []byte
}

type server struct {
	addr     string
	sessions []*session
	byName   map[string]*session
}

var (
	global  = newServer("127.0.0.1:1")
	handled int
	lastErr error
	mu      sync.Mutex
	stop    = make(chan struct{})
)

var errOdd = errors.New("odd order")

func newServer(addr string) *server {
	s := &server{addr: addr, byName: map[string]*session{}}
	for i := 0; i < 5; i++ {
		one := &session{name: fmt.Sprintf("session-%d", i), hits: i}
		s.sessions = append(s.sessions, one)
		s.byName[one.name] = one
	}
	return s
}

func newOrder(id int) *order {
	host := "a.example"
	if id%10 == 3 {
		host = "b.example"
	}
	return &order{ID: id, Header: map[string][]string{"Host": {host}}, Body: []byte("body")}
}

//go:noinline
func (s *server) handle(req *order, tag string) (n int, err error) {
	id := req.ID
	n = work(s, req, tag)
	req.ID = -1
	req.Header["Host"][0] = "gone"
	if id%2 == 1 {
		return n, errOdd
	}
	return n, nil
}

//go:noinline
func work(s *server, req *order, tag string) int {
	total := len(tag)
	for i := 0; i < 3; i++ {
		total += req.ID * i
	}
	s.sessions[req.ID%5].hits++
	return total
}

//go:noinline
func (s *server) wait(req *order, tag string, err error) int {
	var held any = req
	<-stop
	fmt.Fprintln(os.Stderr, s.addr, req.ID, tag, err, held)
	return len(tag)
}

//go:noinline
func idle(n int) int { return n + 1 }

func main() {
	go global.wait(newOrder(42), "parked", &net.OpError{Op: "dial", Net: "tcp", Err: errOdd})
	in := bufio.NewScanner(os.Stdin)
	time.Sleep(10 * time.Millisecond)
	fmt.Println("ready", os.Getpid())
	for in.Scan() {
		words := strings.Fields(in.Text())
		count := 0
		if len(words) > 1 {
			fmt.Sscan(words[1], &count)
		}
		switch words[0] {
		case "handle":
			var wg sync.WaitGroup
			for g := 0; g < 2; g++ {
				wg.Add(1)
				go func(g int) {
					defer wg.Done()
					s := newServer("127.0.0.1:2")
					for id := 0; id < count; id++ {
						n, err := s.handle(newOrder(id), fmt.Sprintf("g%d", g))
						mu.Lock()
						handled += n
						lastErr = err
						mu.Unlock()
					}
				}(g)
			}
			wg.Wait()
			fmt.Println("handle", count)
		case "flood":
			total := 0
			for i := 0; i < count; i++ {
				total += idle(i)
			}
			fmt.Println("flood", total)
		}
	}
}
