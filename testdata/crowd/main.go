// Crowd parks as many goroutines as it is told, in several ways, and measures
// by how much a 1 ms ticker comes late meanwhile.
//
//	crowd N [quiet]
//
// Quiet, it has no ticker: nothing runs until it is asked.
// Some 500 of them wait for pipes and loopback connections, the others for
// channels, a select, mutexes and the end of a sleep. It answers lines on its
// standard input: count, ticker.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// sockets is how many wait for descriptors, at most.
const sockets = 500

// here counts those that are about to park.
var here int64

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func say(word string, what interface{}) {
	text, err := json.Marshal(what)
	must(err)
	fmt.Printf("%s %s\n", word, text)
}

type job struct {
	reply chan int
	quit  chan struct{}
}

//go:noinline
func handle(j *job) { waitReply(j) }

//go:noinline
func waitReply(j *job) int {
	atomic.AddInt64(&here, 1)
	return <-j.reply
}

//go:noinline
func worker(j *job) {
	atomic.AddInt64(&here, 1)
	select {
	case <-j.reply:
	case <-j.quit:
	}
}

//go:noinline
func sleeper(long time.Duration) {
	atomic.AddInt64(&here, 1)
	time.Sleep(long)
}

//go:noinline
func writer(mu *sync.Mutex) {
	atomic.AddInt64(&here, 1)
	mu.Lock()
	mu.Unlock()
}

// walk parks after so many calls: stacks of many depths.
//
//go:noinline
func walk(depth int, j *job) int {
	if depth == 0 {
		return waitReply(j)
	}
	return walk(depth-1, j) + 1
}

//go:noinline
func readPipe(r *os.File) {
	atomic.AddInt64(&here, 1)
	r.Read(make([]byte, 8))
}

//go:noinline
func readConn(c net.Conn) {
	atomic.AddInt64(&here, 1)
	c.Read(make([]byte, 8))
}

var keep []interface{}

// park starts n goroutines.
func park(n int) map[string]int {
	kinds := map[string]int{}
	j := &job{make(chan int), make(chan struct{})}
	locks := make([]*sync.Mutex, 4)
	for i := range locks {
		locks[i] = &sync.Mutex{}
		locks[i].Lock()
	}
	keep = append(keep, j, locks)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	few := sockets
	if few > n/10 {
		few = n / 10
	}
	for i := 0; i < n; i++ {
		switch {
		case i < few/2:
			r, w, err := os.Pipe()
			must(err)
			keep = append(keep, r, w)
			go readPipe(r)
			kinds["readPipe"]++
		case i < few:
			c, err := net.Dial("tcp", l.Addr().String())
			must(err)
			s, err := l.Accept()
			must(err)
			keep = append(keep, c, s)
			go readConn(s)
			kinds["readConn"]++
		case i%10 < 4:
			go handle(j)
			kinds["handle"]++
		case i%10 < 6:
			go worker(&job{make(chan int), j.quit})
			kinds["worker"]++
		case i%10 < 7:
			go walk(i/10%20, j)
			kinds["walk"]++
		case i%10 < 8:
			go sleeper(time.Hour + time.Duration(i)*time.Microsecond)
			kinds["sleeper"]++
		default:
			go writer(locks[i/10%len(locks)])
			kinds["writer"]++
		}
	}
	for atomic.LoadInt64(&here) < int64(n) {
		time.Sleep(time.Millisecond)
	}
	return kinds
}

// lateness of a 1 ms ticker, in microseconds.
type lateness struct {
	mu   sync.Mutex
	late []int64
}

func (l *lateness) run() {
	runtime.LockOSThread()
	last := time.Now()
	for {
		time.Sleep(time.Millisecond)
		now := time.Now()
		l.mu.Lock()
		l.late = append(l.late, (now.Sub(last) - time.Millisecond).Microseconds())
		l.mu.Unlock()
		last = now
	}
}

// take answers for the time since it was last asked.
func (l *lateness) take() map[string]int64 {
	l.mu.Lock()
	late := l.late
	l.late = make([]int64, 0, 1<<16)
	l.mu.Unlock()
	if len(late) == 0 {
		return map[string]int64{"ticks": 0}
	}
	sort.Slice(late, func(i, j int) bool { return late[i] < late[j] })
	return map[string]int64{
		"ticks":     int64(len(late)),
		"median_us": late[len(late)/2],
		"p99_us":    late[len(late)*99/100],
		"worst_us":  late[len(late)-1],
	}
}

func main() {
	n, err := strconv.Atoi(os.Args[1])
	must(err)
	kinds := park(n)
	// A collection notes since when they wait.
	runtime.GC()
	ticker := &lateness{}
	if len(os.Args) == 2 {
		go ticker.run()
	}
	say("ready", kinds)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch lines.Text() {
		case "count":
			say("count", runtime.NumGoroutine())
		case "ticker":
			say("ticker", ticker.take())
		case "ping x":
			fmt.Println("pong x")
		}
	}
}
