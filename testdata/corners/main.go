// Command corners does what a tracer seldom meets: it runs another program in
// its place, forks without exec, loses its first thread, starts and ends
// threads all the time, filters its own system calls.
//
// One control line on stdin, one answer:
//
//	work N      N goroutines, a thread each, call main.tick without end
//	least       how often the worker that did it least has called tick
//	churn N     N goroutines start and end threads without end
//	churned     how many threads that were
//	traps       SIGTRAPs received
//	faults N    N nil dereferences in main.(*point).get, which is reached in many
//	            ways (fault.go): how many were recovered
//	fork        a child with its own copy of everything: its pid
//	reap        lets that child end: its exit status
//	share       (cgo) a child with CLONE_VM: its pid
//	unshare     lets that child end: its exit status
//	vfork       (cgo) a vfork child that does not exec, its parent waits: "vfork"
//	unvfork     lets that child end: its exit status
//	leave       the first thread ends, the others go on
//	again       this program again, by execve
//	execwhen F  (cgo) the same, once the file F is there: by a thread of C, which
//	            needs nothing of Go's scheduler, whose threads a tracer may hold
//	blocked     a call of time.ParseDuration with all signals blocked: its result
//	filter      mmap with PROT_EXEC fails from now on (seccomp)
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

func init() {
	// main runs on the first thread, which `leave` ends.
	runtime.LockOSThread()
}

var (
	workers []*atomic.Int64
	traps   atomic.Int64
	churned atomic.Int64
	leave   = make(chan struct{})
)

func main() {
	received := make(chan os.Signal, 1024)
	signal.Notify(received, syscall.SIGTRAP)
	go func() {
		for range received {
			traps.Add(1)
		}
	}()
	say(fmt.Sprintf("ready pid %d", os.Getpid()), nil)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			word, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
			run(word, rest)
		}
		os.Exit(0)
	}()
	<-leave
	// exit(2) of one thread, as a system call that the scheduler knows of.
	syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

func run(word, rest string) {
	n, _ := strconv.Atoi(rest)
	switch word {
	case "work":
		for i := 0; i < n; i++ {
			count := new(atomic.Int64)
			workers = append(workers, count)
			go work(count)
		}
		say("work", n)
	case "least":
		least := workers[0].Load()
		for _, count := range workers {
			least = min64(least, count.Load())
		}
		say("least", least)
	case "churn":
		for i := 0; i < n; i++ {
			go churn()
		}
		say("churn", n)
	case "churned":
		say("churned", churned.Load())
	case "traps":
		say("traps", traps.Load())
	case "faults":
		recovered := 0
		for i := 0; i < n; i++ {
			recovered += fault(ways[i%len(ways)], i < len(ways))
		}
		say("faults", recovered)
	case "fork":
		say("fork", fork())
	case "reap":
		say("reap", reap())
	case "share":
		say("share", share())
	case "unshare":
		say("unshare", unshare())
	case "vfork":
		say("vfork", vfork())
	case "unvfork":
		say("unvfork", unvfork())
	case "leave":
		close(leave)
		say("leave", nil)
	case "again":
		err := syscall.Exec("/proc/self/exe", os.Args, os.Environ())
		say("again", err.Error())
	case "execwhen":
		say("execwhen", execWhen(rest))
	case "blocked":
		say("blocked", blocked())
	case "filter":
		say("filter", filter())
	case "ping":
		say("pong "+rest, nil)
	default:
		say("unknown "+word, nil)
	}
}

func min64(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
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
func tick(n int64) int64 { return n + 1 }

func work(count *atomic.Int64) {
	runtime.LockOSThread()
	for {
		count.Store(tick(count.Load()))
	}
}

// A goroutine that ends while it is locked takes its thread along
// (runtime.LockOSThread).
func churn() {
	for {
		var done sync.WaitGroup
		done.Add(1)
		go func() {
			runtime.LockOSThread()
			tick(0)
			done.Done()
		}()
		done.Wait()
		churned.Add(1)
	}
}
