// Command ends makes calls that end in every way a Go call can: by returning,
// after the stack grew or moved, by a panic that is recovered further out, by
// Goexit, changed by a defer, or not at all while somebody looks.
//
// One control line on stdin runs one case and is answered, when it is over, by
// "CASE {json}" with the numbers that a tracer has to find.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	// "ends CASE…" runs the cases and ends; "ends" waits for control lines.
	if len(os.Args) > 1 {
		for _, word := range os.Args[1:] {
			run(word)
		}
		return
	}
	say(fmt.Sprintf("ready pid %d", os.Getpid()), nil)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		run(strings.TrimSpace(lines.Text()))
	}
}

func run(word string) {
	if one, ok := cases[word]; ok {
		say(word, one())
	} else if strings.HasPrefix(word, "ping") {
		say("pong"+strings.TrimPrefix(word, "ping"), nil)
	} else {
		say("unknown "+word, nil)
	}
}

var outMu sync.Mutex

func say(word string, value any) {
	line := []byte(word)
	if value != nil {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		line = append(append(line, ' '), text...)
	}
	outMu.Lock()
	os.Stdout.Write(append(line, '\n'))
	outMu.Unlock()
}

type numbers map[string]any

var cases map[string]func() numbers

func init() {
	cases = map[string]func() numbers{
		"recurse": func() numbers {
			var result int
			fresh(func() { result = recurse(60) })
			return numbers{"calls": 61, "result": result}
		},
		"moved": func() numbers {
			var before, after uintptr
			fresh(func() { before, after = movedOuter(7, "seven") })
			return numbers{"calls": 1, "moved": before != after}
		},
		"panic": func() numbers {
			var text string
			fresh(func() { text = recoverInFourth("boom") })
			return numbers{"unwound": 3, "returned": 1, "text": text}
		},
		"repanic": func() numbers {
			var text string
			fresh(func() { text = recoverAgain() })
			return numbers{"text": text}
		},
		"goexit": func() numbers {
			before := runtime.NumGoroutine()
			fresh(func() { exitOuter(3) })
			// It says that it is done in a deferred call, and ends after it.
			for runtime.NumGoroutine() > before {
				runtime.Gosched()
			}
			return numbers{"exited": 3}
		},
		"defer": func() numbers {
			var n int
			var err error
			fresh(func() { n, err = deferChanges(5) })
			return numbers{"n": n, "err": err.Error()}
		},
		"deferrecover": func() numbers {
			var n int
			var err error
			fresh(func() { n, err = deferRecovers(5) })
			return numbers{"n": n, "err": err.Error()}
		},
		"block":   blockSome,
		"unblock": unblockAll,
		"many":    func() numbers { return many(50, 1000) },
		"deep":    func() numbers { return manyDeep(50, 20) },
		"loop": func() numbers {
			var n int
			fresh(func() { n = countDown(100) })
			return numbers{"calls": 1, "result": n}
		},
		"tail": func() numbers {
			var n int
			fresh(func() { n = viaWrapper(promoted{&inner{base: 40}}, 2) })
			return numbers{"calls": 1, "result": n}
		},
		"mutual": func() numbers {
			var odd bool
			fresh(func() { odd = isOdd(41) })
			return numbers{"odd": 21, "even": 21, "result": odd}
		},
		"values": values,
		"gc":     func() numbers { runtime.GC(); return numbers{} },
		// The same program from its start: "ready" is the answer.
		"exec": func() numbers {
			panic(syscall.Exec("/proc/self/exe", os.Args[:1], os.Environ()))
		},
	}
}

// fresh runs f on a goroutine of its own, whose stack starts small.
func fresh(f func()) {
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		f()
	}()
	done.Wait()
}

// recurse calls itself n times; each frame is over 1 KB, so that the stack
// grows several times on the way and its entry runs twice where it does.
//
//go:noinline
func recurse(n int) int {
	var pad [1024]byte
	pad[n%len(pad)] = byte(n)
	if n == 0 {
		return int(pad[0])
	}
	return recurse(n-1) + int(pad[n%len(pad)])
}

// movedOuter has its stack moved while it runs: its return lies at another
// address than its entry, the offset from the stack's top is the same.
//
//go:noinline
func movedOuter(n int, s string) (before, after uintptr) {
	var here [16]byte
	before = addressOf(&here)
	growBy(200)
	after = addressOf(&here)
	here[n%16] = s[0]
	return before, after
}

//go:noinline
func growBy(n int) int {
	var pad [512]byte
	pad[n%len(pad)] = 1
	if n == 0 {
		return 0
	}
	return growBy(n-1) + int(pad[n%len(pad)])
}

// recoverInFourth recovers what three frames below it were unwound by.
//
//go:noinline
func recoverInFourth(text string) (result string) {
	defer func() {
		result = fmt.Sprint("recovered ", recover())
	}()
	unwoundOne(text)
	return "not reached"
}

//go:noinline
func unwoundOne(text string) int { return unwoundTwo(text, 2) + 1 }

//go:noinline
func unwoundTwo(text string, n int) int { return unwoundThree(text, n+1) + 1 }

//go:noinline
func unwoundThree(text string, n int) int {
	if n > 0 {
		panic(text)
	}
	return n
}

// recoverAgain: a deferred call panics anew while the first panic unwinds.
//
//go:noinline
func recoverAgain() (result string) {
	defer func() { result = fmt.Sprint(recover()) }()
	repanicInner()
	return "not reached"
}

//go:noinline
func repanicInner() {
	defer repanicDeferred()
	panic("first")
}

//go:noinline
func repanicDeferred() { panic("second") }

//go:noinline
func exitOuter(n int) int { return exitMiddle(n-1) + 1 }

//go:noinline
func exitMiddle(n int) int { return exitInner(n-1) + 1 }

//go:noinline
func exitInner(n int) int {
	if n > 0 {
		runtime.Goexit()
	}
	return n
}

var errChanged = errors.New("changed by defer")

// deferChanges returns what its defer made of the results: 50, errChanged.
//
//go:noinline
func deferChanges(n int) (result int, err error) {
	defer func() {
		result *= 10
		err = errChanged
	}()
	return n, nil
}

// deferRecovers returns through its defer, not through a return statement.
//
//go:noinline
func deferRecovers(n int) (result int, err error) {
	defer func() {
		result = n + 1
		err = fmt.Errorf("recovered: %v", recover())
	}()
	panic("inside")
}

var (
	gates   []chan int
	blocked sync.WaitGroup
)

// blocksOn returns when somebody sends.
//
//go:noinline
func blocksOn(i int, gate chan int) int { return <-gate + i }

func blockSome() numbers {
	for i := 0; i < 5; i++ {
		gate := make(chan int)
		gates = append(gates, gate)
		blocked.Add(1)
		go func(i int) {
			defer blocked.Done()
			blocksOn(i, gate)
		}(i)
	}
	// Until all of them are parked inside: their state can be seen in a stack
	// dump, which is what the runtime itself says.
	buf := make([]byte, 1<<20)
	for {
		text := string(buf[:runtime.Stack(buf, true)])
		inside := 0
		for _, one := range strings.Split(text, "\n\n") {
			if strings.Contains(one, "main.blocksOn") && strings.Contains(one, "[chan receive") {
				inside++
			}
		}
		if inside == len(gates) {
			return numbers{"open": inside}
		}
		time.Sleep(time.Millisecond)
	}
}

func unblockAll() numbers {
	for i, gate := range gates {
		gate <- i * 100
	}
	blocked.Wait()
	n := len(gates)
	gates = nil
	return numbers{"closed": n}
}

// hot is called often from many goroutines.
//
//go:noinline
func hot(goroutine, call int) int { return goroutine*1000000 + call }

func many(goroutines, calls int) numbers {
	var done sync.WaitGroup
	var mu sync.Mutex
	sum := 0
	for g := 0; g < goroutines; g++ {
		done.Add(1)
		go func(g int) {
			defer done.Done()
			own := 0
			for i := 0; i < calls; i++ {
				own += hot(g, i)
				if i%100 == 0 {
					runtime.Gosched()
				}
			}
			mu.Lock()
			sum += own
			mu.Unlock()
		}(g)
	}
	done.Wait()
	return numbers{"calls": goroutines * calls, "goroutines": goroutines, "sum": sum}
}

// manyDeep lets many goroutines grow their stacks at the same time.
func manyDeep(goroutines, rounds int) numbers {
	var done sync.WaitGroup
	for g := 0; g < goroutines; g++ {
		done.Add(1)
		go func() {
			defer done.Done()
			for i := 0; i < rounds; i++ {
				fresh(func() { recurse(20) })
			}
		}()
	}
	done.Wait()
	return numbers{"calls": goroutines * rounds * 21}
}

// countDown loops: a compiler that turns the loop into a branch to the
// function's own entry makes no further call of it.
//
//go:noinline
func countDown(n int) int {
	for n > 1 {
		n -= 2
	}
	return n
}

type inner struct{ base int }

//go:noinline
func (i *inner) Add(n int) int { return i.base + n }

// promoted has Add by embedding: the compiler writes a wrapper for it, which
// jumps to (*inner).Add and has no return of its own in most versions.
type promoted struct{ *inner }

type adder interface{ Add(int) int }

//go:noinline
func viaWrapper(a adder, n int) int { return a.Add(n) }

//go:noinline
func isOdd(n int) bool {
	if n == 0 {
		return false
	}
	return isEven(n - 1)
}

//go:noinline
func isEven(n int) bool {
	if n == 0 {
		return true
	}
	return isOdd(n - 1)
}
