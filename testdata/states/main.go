// States parks a known number of goroutines in each state and for each reason,
// and tells what it parked. The first argument says what:
//
//	states N   N goroutines of each kind
//	conns N    N connections and pipes of each kind, and who waits on them
//	churn      goroutines that come and go
//	starve N   N goroutines that cannot run
//	many N     N goroutines that wait on one channel
//	mutex N    N goroutines that wait for one mutex, which another holds
//	spin N     goroutines that never park, and N in system calls
//	leak       goroutines that are made and never end
//	replies N  N clients that wait for an answer of one server
//	deadlock N N goroutines and main, which wait for each other
//	crash      a goroutine that panics when told to go on
//
// It answers lines on its standard input: count, dump, gc, bracket.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

var out sync.Mutex

func say(word string, what interface{}) {
	text, err := json.Marshal(what)
	must(err)
	out.Lock()
	defer out.Unlock()
	fmt.Printf("%s %s\n", word, text)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func goid() (id int) {
	var buf [64]byte
	n := runtime.Stack(buf[:], false)
	fmt.Sscanf(string(buf[:n]), "goroutine %d ", &id)
	return
}

func dump() string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			return string(buf[:n])
		}
		buf = make([]byte, 2*len(buf))
	}
}

// settle returns when nobody but its caller runs or could.
func settle() {
	for quiet := 0; quiet < 3; {
		time.Sleep(5 * time.Millisecond)
		text := dump()
		busy := strings.Count(text, " [running") + strings.Count(text, " [runnable")
		if busy == 1 {
			quiet++
		} else {
			quiet = 0
		}
	}
}

func main() {
	number := 3
	if len(os.Args) > 2 {
		var err error
		number, err = strconv.Atoi(os.Args[2])
		must(err)
	}
	switch os.Args[1] {
	case "states":
		kinds := park(number)
		settle()
		say("ready", kinds)
	case "conns":
		waits := connect(number)
		settle()
		say("ready", waits)
	case "churn":
		go churn()
		say("ready", nil)
	case "mutex":
		s := &store{}
		held := make(chan int)
		go holdMutex(s, held)
		say("holder", <-held)
		for i := 0; i < number; i++ {
			go parkMutex(s)
		}
		settle()
		say("ready", fmt.Sprintf("%p", &s.mu))
	case "crash":
		go panicLater(make(chan int))
		settle()
		say("ready", nil)
	case "replies":
		say("ready", replies(number))
	case "deadlock":
		deadlock(number)
	case "spin":
		say("ready", spin(number))
	case "leak":
		go leak()
		say("ready", nil)
	case "starve":
		starve(number)
		return
	case "many":
		c := make(chan int)
		for i := 0; i < number; i++ {
			go waitForOne(c)
		}
		settle()
		say("ready", number)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch lines.Text() {
		case "count":
			say("count", runtime.NumGoroutine())
		case "dump":
			say("dump", dump())
		case "gc":
			runtime.GC()
			runtime.GC()
			say("gc", nil)
		case "bracket":
			say("bracket", bracket())
		case "crash":
			close(crash)
			select {}
		case "ping x":
			fmt.Println("pong x")
		}
	}
}

//go:noinline
func waitForOne(c chan int) { <-c }

//go:noinline
func holdMutex(s *store, held chan int) {
	lock(&s.mu)
	held <- goid()
	time.Sleep(time.Hour)
	unlock(&s.mu)
}

//go:noinline
func lock(mu *sync.Mutex) { mu.Lock() }

//go:noinline
func unlock(mu *sync.Mutex) { mu.Unlock() }

var crash = make(chan int)

//go:noinline
func panicLater(c chan int) {
	<-crash
	panic("on purpose")
}
