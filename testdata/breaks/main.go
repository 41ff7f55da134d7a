// Command breaks calls functions as often as it is told to, for breakpoints to
// stop it, and says what its variables held.
//
// With an argument it does not end with its input.
//
// Control lines on stdin, answered by "WORD {json}":
//
//	visit N    two goroutines call visit N times each
//	count      what the program counted itself
//	spin on    a goroutine calls visit for ever, another one counts
//	spin off   both end
//	late       defers three calls
//	race on    a goroutine calls visit for ever, as fast as it can
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Request is what is visited.
type Request struct {
	ID     int
	Name   string
	Header map[string][]string
	Next   *Request
}

var (
	visits  atomic.Int64
	evens   atomic.Int64
	factor  = 3
	greet   = "hello"
	ratio   = 0.5
	on      = true
	last    = &Request{ID: -1}
	ticks   atomic.Int64
	signals atomic.Int64
	stop    chan struct{}
	stopped sync.WaitGroup
)

//go:noinline
func visit(req *Request, n int, label string) (total int, err error) {
	visits.Add(1)
	if req.ID%2 == 0 {
		evens.Add(1)
	}
	total = req.ID * factor
	for i := 0; i < n%3; i++ {
		total += weigh(i, label)
	}
	if on {
		total++
	}
	return total, nil
}

//go:noinline
func weigh(i int, label string) int {
	return i + len(label)
}

func run(base, times int) int {
	sum := 0
	for i := 0; i < times; i++ {
		req := &Request{ID: base + i, Name: "r" + strconv.Itoa(base+i), Header: map[string][]string{"Host": {"h" + strconv.Itoa(i)}}}
		got, _ := visit(req, i, "label")
		sum += got
	}
	return sum
}

// late defers three calls, the last one first in line, and rests.
func late() {
	for i := 0; i < 3; i++ {
		defer tidy(i)
	}
	rest()
}

// closing defers two closures in a loop, and rests.
//
//go:noinline
func closing(id int, label string) {
	for i := 0; i < 2; i++ {
		defer func() {
			evens.Add(int64(i + id + len(label)))
			i++
		}()
	}
	rest()
}

//go:noinline
func tidy(i int) {
	evens.Add(int64(i))
}

//go:noinline
func rest() {
	visits.Add(1)
}

func main() {
	heard := make(chan os.Signal, 100)
	signal.Notify(heard, syscall.SIGUSR1)
	go func() {
		for range heard {
			signals.Add(1)
		}
	}()
	fmt.Printf("ready pid %d\n", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "visit":
			times, err := strconv.Atoi(words[1])
			if err != nil {
				panic(err)
			}
			answer("visit", both(times))
		case "count":
			answer("count", counts())
		case "spin":
			if words[1] == "on" {
				spin()
			} else {
				close(stop)
				stopped.Wait()
			}
			answer("spin", counts())
		case "late":
			late()
			closing(20, "label")
			answer("late", counts())
		case "race":
			go func() {
				req := &Request{ID: 1, Name: "racer"}
				for i := 0; ; i++ {
					visit(req, i%3, "label")
				}
			}()
			answer("race", counts())
		default:
			fmt.Println("pong" + strings.TrimPrefix(lines.Text(), "ping"))
		}
	}
	if len(os.Args) > 1 {
		time.Sleep(time.Hour)
	}
}

func both(times int) map[string]any {
	var wait sync.WaitGroup
	var sum atomic.Int64
	for g := 0; g < 2; g++ {
		wait.Add(1)
		go func(base int) {
			defer wait.Done()
			sum.Add(int64(run(base, times)))
		}(g * 1000)
	}
	wait.Wait()
	all := counts()
	all["sum"] = sum.Load()
	return all
}

func counts() map[string]any {
	return map[string]any{
		"visits": visits.Load(),
		"evens":  evens.Load(),
		"ticks":  ticks.Load(),
		"factor": factor,
		"greet":  greet,
		"ratio":  ratio,
		"on":     on,
		"last":   last != nil,
		"usr1":   signals.Load(),
	}
}

// spin has one goroutine visit and another one count, until told to end.
func spin() {
	stop = make(chan struct{})
	stopped.Add(2)
	go func() {
		defer stopped.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			run(i, 1)
			time.Sleep(time.Millisecond)
		}
	}()
	go func() {
		defer stopped.Done()
		for {
			select {
			case <-stop:
				return
			default:
				ticks.Add(1)
				time.Sleep(time.Millisecond)
			}
		}
	}()
}

func answer(word string, what any) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s %s\n", word, line)
}
