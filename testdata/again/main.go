// Program again makes connections that do not last, while the garbage collector
// runs all the time: their structs come to lie where others lay before. Each call
// writes the port of its own end.
//
// On stdin: "go N" makes N connections one after the other in each of four
// goroutines, and says how many structs lay where an earlier one did.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go serve(listener)
	fmt.Printf("ready pid %d\n", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 2 || words[0] != "go" {
			log.Fatalf("not known: %q", lines.Text())
		}
		rounds, err := strconv.Atoi(words[1])
		if err != nil {
			log.Fatal(err)
		}
		answer, err := json.Marshal(map[string]int{"again": all(listener.Addr().String(), rounds)})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("done %s\n", answer)
	}
}

// serve reads what comes, without a method of a connection.
func serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer conn.Close()
			io.Copy(io.Discard, conn)
		}()
	}
}

func all(address string, rounds int) int {
	stop := make(chan struct{})
	var collector, callers sync.WaitGroup
	collector.Add(1)
	go func() {
		defer collector.Done()
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
				time.Sleep(time.Millisecond)
			}
		}
	}()
	var lock sync.Mutex
	seen, again := map[uintptr]bool{}, 0
	for i := 0; i < 4; i++ {
		callers.Add(1)
		go func() {
			defer callers.Done()
			for n := 0; n < rounds; n++ {
				at := one(address)
				lock.Lock()
				if seen[at] {
					again++
				}
				seen[at] = true
				lock.Unlock()
			}
		}()
	}
	callers.Wait()
	close(stop)
	collector.Wait()
	return again
}

// one writes some times; where the connection's netFD lay.
func one(address string) uintptr {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	// *net.TCPConn, net.conn, fd
	at := reflect.ValueOf(conn).Elem().Field(0).Field(0).Pointer()
	own := conn.LocalAddr().(*net.TCPAddr).Port
	said := []byte(fmt.Sprintf("port %5d", own))
	for i := 0; i < 3; i++ {
		if _, err := conn.Write(said); err != nil {
			log.Fatal(err)
		}
	}
	return at
}
