// Program again makes connections that do not last, and lets the garbage collector
// run in between: their structs come to lie where others lay before. Each call
// writes the port of its own end.
//
// On stdin: "go N" makes N connections one after the other, and says how many had
// their structs where an earlier one had all of its own.
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

// all makes one connection after the other, with a collection after each, so that
// the next one's structs are given the same places; how many were.
func all(address string, rounds int) int {
	seen, again := map[[3]uintptr]bool{}, 0
	for n := 0; n < rounds; n++ {
		at := one(address)
		if seen[at] {
			again++
		}
		seen[at] = true
		runtime.GC()
	}
	return again
}

// one writes some times; where the connection's netFD and both addresses lay.
func one(address string) [3]uintptr {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	// *net.TCPConn, net.conn, fd
	fd := reflect.ValueOf(conn).Elem().Field(0).Field(0).Pointer()
	at := func(address net.Addr) uintptr { return reflect.ValueOf(address).Pointer() }
	own := conn.LocalAddr().(*net.TCPAddr).Port
	said := []byte(fmt.Sprintf("port %5d", own))
	for i := 0; i < 3; i++ {
		if _, err := conn.Write(said); err != nil {
			log.Fatal(err)
		}
	}
	return [3]uintptr{fd, at(conn.LocalAddr()), at(conn.RemoteAddr())}
}
