// Command signals counts the signals that reach it, runs children, profiles
// itself at 1 kHz and lets the runtime preempt its loops, while a hot function
// gives a tracer something to do.
//
// One control line on stdin, one answer:
//
//	work N      N goroutines call main.tick without end
//	ticks       how often tick was called
//	counts      signals received, by name
//	children N  runs /bin/true N times, four at a time
//	profile D   CPU profile at 1 kHz for a duration, while loops spin
//	preempt N   N garbage collections against loops that only a signal stops
//	exit N      exits with this code from the middle of the work
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var watched = map[os.Signal]string{
	syscall.SIGTERM:      "TERM",
	syscall.SIGHUP:       "HUP",
	syscall.SIGINT:       "INT",
	syscall.SIGQUIT:      "QUIT",
	syscall.SIGUSR1:      "USR1",
	syscall.SIGUSR2:      "USR2",
	syscall.SIGCHLD:      "CHLD",
	syscall.SIGWINCH:     "WINCH",
	syscall.SIGCONT:      "CONT",
	syscall.Signal(0x28): "RT40",
}

var (
	countsMu sync.Mutex
	counts   = map[string]int{}
	ticks    atomic.Int64
)

func main() {
	for _, name := range watched {
		counts[name] = 0
	}
	received := make(chan os.Signal, 65536)
	for sig := range watched {
		signal.Notify(received, sig)
	}
	go func() {
		for sig := range received {
			countsMu.Lock()
			counts[watched[sig]]++
			countsMu.Unlock()
		}
	}()
	say(fmt.Sprintf("ready pid %d", os.Getpid()), nil)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		run(word, rest)
	}
}

func run(word, rest string) {
	n, _ := strconv.Atoi(rest)
	switch word {
	case "work":
		for i := 0; i < n; i++ {
			go work(i)
		}
		say("work", n)
	case "ticks":
		say("ticks", ticks.Load())
	case "counts":
		countsMu.Lock()
		say("counts", counts)
		countsMu.Unlock()
	case "children":
		say("children", children(n))
	case "profile":
		d, err := time.ParseDuration(rest)
		if err != nil {
			say("profile", err.Error())
			return
		}
		say("profile", profile(d))
	case "preempt":
		say("preempt", preempt(n))
	case "ping":
		say("pong "+rest, nil)
	case "exit":
		os.Exit(n)
	default:
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

// tick is the function to trace.
//
//go:noinline
func tick(worker, n int) int {
	ticks.Add(1)
	return worker + n
}

func work(worker int) {
	for n := 0; ; n++ {
		tick(worker, n)
		if n%16 == 15 {
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// children runs /bin/true and checks that every one is waited for.
func children(n int) map[string]int {
	var ok, failed atomic.Int64
	var first sync.Once
	jobs := make(chan struct{})
	var all sync.WaitGroup
	for i := 0; i < 4; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for range jobs {
				if err := runChild("/bin/true"); err != nil {
					failed.Add(1)
					first.Do(func() { fmt.Fprintln(os.Stderr, "child:", err) })
				} else {
					ok.Add(1)
				}
			}
		}()
	}
	for i := 0; i < n; i++ {
		jobs <- struct{}{}
	}
	close(jobs)
	all.Wait()
	return map[string]int{"ok": int(ok.Load()), "failed": int(failed.Load())}
}

//go:noinline
func runChild(path string) error { return exec.Command(path).Run() }

// spin is a loop without calls: only a signal stops it (asynchronous
// preemption, runtime/preempt.go).
//
//go:noinline
func spin(stop *atomic.Bool) int {
	n := 0
	for !stop.Load() {
		n++
	}
	return n
}

func preempt(rounds int) map[string]int {
	var stop atomic.Bool
	var all sync.WaitGroup
	for i := 0; i < runtime.GOMAXPROCS(0); i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			spin(&stop)
		}()
	}
	for i := 0; i < rounds; i++ {
		runtime.GC()
	}
	stop.Store(true)
	all.Wait()
	return map[string]int{"collections": rounds}
}

// profile takes a CPU profile at 1 kHz and answers how many samples it holds:
// each is one SIGPROF that reached the program.
func profile(d time.Duration) map[string]int {
	var out bytes.Buffer
	runtime.SetCPUProfileRate(1000)
	// It complains on stderr that the rate is set already, and keeps it.
	if err := pprof.StartCPUProfile(&out); err != nil {
		return map[string]int{"samples": -1}
	}
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		spin(&stop)
	}()
	time.Sleep(d)
	stop.Store(true)
	all.Wait()
	pprof.StopCPUProfile()
	return map[string]int{"samples": samples(out.Bytes()), "ms": int(d.Milliseconds())}
}
