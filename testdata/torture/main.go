// Command torture calls the functions main.t… from many goroutines while
// everything moves that can: stacks grow and shrink, the collector runs every
// millisecond, SIGPROF and SIGURG come in storms, GOMAXPROCS changes, goroutines
// are born and gone by the thousand, panics and Goexit pass through frames.
//
// Each worker rests so many milliseconds after a round of some hundred calls as
// its argument says (20 when there is none): a reader has to keep up.
//
// Every result is checked: a register that a tracer spoilt shows. Control lines
// on stdin, each answered by the same word: `go`, `calls` (so many so far), `stop`
// (all come to an end; per function the calls, and those that did not return).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type tally struct {
	calls, unwound uint64
}

var (
	leafs, grows, boomOuters, boomMiddles, boomInners, spills, borns, exits, mixes tally

	all = map[string]*tally{
		"main.tLeaf": &leafs, "main.tGrow": &grows, "main.tBoomOuter": &boomOuters,
		"main.tBoomMiddle": &boomMiddles, "main.tBoomInner": &boomInners,
		"main.tSpill": &spills, "main.tBorn": &borns, "main.tExit": &exits,
		"main.tMixed": &mixes,
	}
	pause   = 20 * time.Millisecond
	stopped uint32
	running sync.WaitGroup
)

func entered(t *tally) { atomic.AddUint64(&t.calls, 1) }
func unwinds(t *tally) { atomic.AddUint64(&t.unwound, 1) }
func goesOn() bool     { return atomic.LoadUint32(&stopped) == 0 }
func must(ok bool, what string) {
	if !ok {
		fmt.Println("WRONG", what)
		os.Exit(3)
	}
}

//go:noinline
func tLeaf(a, b uint64) uint64 {
	entered(&leafs)
	return a*3 + b
}

// Frames of 512 bytes: the stack grows by copying, again and again.
//
//go:noinline
func tGrow(depth int, seed uint64) uint64 {
	entered(&grows)
	var room [64]uint64
	for i := range room {
		room[i] = seed + uint64(i)
	}
	if depth == 0 {
		return room[63]
	}
	below := tGrow(depth-1, seed)
	must(below == seed+63, "a frame below")
	return room[depth&63] + below - room[depth&63]
}

//go:noinline
func tBoomOuter(x int) int {
	entered(&boomOuters)
	unwinds(&boomOuters)
	return tBoomMiddle(x) + 1
}

//go:noinline
func tBoomMiddle(x int) int {
	entered(&boomMiddles)
	unwinds(&boomMiddles)
	return tBoomInner(x) + 1
}

//go:noinline
func tBoomInner(x int) int {
	entered(&boomInners)
	unwinds(&boomInners)
	var nobody *tally
	if x%2 == 0 {
		return int(nobody.calls) // a fault, which becomes a panic
	}
	panic(x)
}

//go:noinline
func tSpill(a, b, c, d, e, f, g, h, i, j, k, l int, s string, x, y float64) (int, string, float64) {
	entered(&spills)
	return a + b*2 + c*3 + d*4 + e*5 + f*6 + g*7 + h*8 + i*9 + j*10 + k*11 + l*12, s, x - y
}

//go:noinline
func tBorn(x int) int {
	entered(&borns)
	runtime.Gosched()
	return x + 1
}

//go:noinline
func tExit() {
	entered(&exits)
	unwinds(&exits)
	runtime.Goexit()
}

// Between calls of a number: what a tracer shows of the text has to be read
// while the call waits.
//
//go:noinline
func tMixed(text string, depth uint64) uint64 {
	entered(&mixes)
	sum := tLeaf(depth, uint64(len(text)))
	if depth > 0 {
		sum += tMixed(text, depth-1)
	}
	return sum
}

func recovered(x int) {
	defer func() { must(recover() != nil, "a panic") }()
	tBoomOuter(x)
}

func work(id int) {
	defer running.Done()
	for n := 0; goesOn(); n++ {
		for i := uint64(0); i < 10; i++ {
			must(tLeaf(i, 7) == i*3+7, "a leaf")
		}
		// On a stack of its own, which begins small.
		done := make(chan uint64)
		go func() { done <- tGrow(20+n%50, uint64(n)) }()
		must(<-done == uint64(n)+63, "a stack that grew")
		recovered(n)
		sum, text, diff := tSpill(n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, id, "text", 2.5, 1)
		expected := n + 2 + 6 + 12 + 20 + 30 + 42 + 56 + 72 + 90 + 110 + 12*id
		must(sum == expected && text == "text" && diff == 1.5, "spilled arguments")
		must(tMixed("text", 3) == 4*4+3*(3+2+1), "nested calls")
		gone := make(chan bool)
		go func() {
			defer close(gone)
			tExit()
		}()
		<-gone
		time.Sleep(pause)
	}
}

// Ten thousand goroutines a second, where the machine can.
func bear() {
	defer running.Done()
	for goesOn() {
		var born sync.WaitGroup
		for i := 0; i < 100; i++ {
			born.Add(1)
			go func(i int) {
				defer born.Done()
				must(tBorn(i) == i+1, "a goroutine's call")
			}(i)
		}
		born.Wait()
		time.Sleep(10 * time.Millisecond)
	}
}

func every(pause time.Duration, what func(n int)) {
	running.Add(1)
	go func() {
		defer running.Done()
		for n := 0; goesOn(); n++ {
			what(n)
			time.Sleep(pause)
		}
	}()
}

func start() {
	for id := 0; id < 4; id++ {
		running.Add(1)
		go work(id)
	}
	running.Add(1)
	go bear()
	every(time.Millisecond, func(int) { runtime.GC() })
	every(10*time.Millisecond, func(n int) { runtime.GOMAXPROCS(1 + n%4) })
	every(200*time.Microsecond, func(int) { _ = syscall.Kill(os.Getpid(), syscall.SIGURG) })
}

func calls() (sum uint64) {
	for _, t := range all {
		sum += atomic.LoadUint64(&t.calls)
	}
	return sum
}

func counts() map[string][2]uint64 {
	found := map[string][2]uint64{}
	for name, t := range all {
		found[name] = [2]uint64{t.calls, t.unwound}
	}
	return found
}

func main() {
	if len(os.Args) > 1 {
		ms, err := strconv.Atoi(os.Args[1])
		if err != nil {
			panic(err)
		}
		pause = time.Duration(ms) * time.Millisecond
	}
	// StartCPUProfile says so on standard error, and keeps this rate.
	runtime.SetCPUProfileRate(1000)
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		panic(err)
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word := strings.TrimSpace(lines.Text())
		var answer any = nil
		switch {
		case word == "go":
			start()
		case word == "calls":
			answer = calls()
		case word == "stop":
			atomic.StoreUint32(&stopped, 1)
			running.Wait()
			answer = counts()
		case strings.HasPrefix(word, "ping"):
			word = "pong" + strings.TrimPrefix(word, "ping")
		}
		text, err := json.Marshal(answer)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s %s\n", word, text)
	}
}
