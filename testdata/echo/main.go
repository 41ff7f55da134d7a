// Command echo is a server that counts its own calls, and the client that
// loads it. What the server counts around Read and Write is what a tracer has
// to report.
//
//	echo serve [-network tcp|unix|udp] [-addr A] [flags]
//	echo load -addr A [-conns N] [-calls N] [-size N] [flags]
//	echo both [-conns N] [-calls N] [-size N]
//
// Both sides take one control line at a time on stdin and answer each with one
// line on stdout. They end when stdin does, so that they never outlive the test
// that started them (-keep turns that off).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
)

func main() {
	if len(os.Args) < 2 {
		fail("usage: echo serve|load|both [flags]")
	}
	switch os.Args[1] {
	case "serve":
		serve(os.Args[2:])
	case "load":
		load(os.Args[2:])
	case "both":
		both(os.Args[2:])
	default:
		fail("echo: no mode " + os.Args[1])
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}

var outMu sync.Mutex

// say prints one line; lines of different goroutines never mix.
func say(word string, value any) {
	line := []byte(word)
	if value != nil {
		text, err := json.Marshal(value)
		if err != nil {
			fail(err.Error())
		}
		line = append(append(line, ' '), text...)
	}
	outMu.Lock()
	os.Stdout.Write(append(line, '\n'))
	outMu.Unlock()
}

// control runs the handler of each line read from stdin. A line "word rest"
// calls handlers["word"]("rest"). It returns when stdin ends.
func control(handlers map[string]func(rest string)) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if handler, ok := handlers[word]; ok {
			handler(rest)
		} else {
			say("unknown "+word, nil)
		}
	}
}
