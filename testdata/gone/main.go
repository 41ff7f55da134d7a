// Command gone meets the common errors of connections and ends at once.
//
// "go" on stdin: it says "done" with the text of each error that a method of a
// connection returned, in their order, and both ends of the connections, and
// exits; with "kill" it sends itself SIGKILL instead.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

type met struct {
	Func   string `json:"func"`
	Err    string `json:"err"`
	Local  string `json:"local"`
	Remote string `json:"remote"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// pair gives both ends of a connection.
func pair(address string) (net.Conn, net.Conn) {
	listener, err := net.Listen("tcp", address)
	must(err)
	defer listener.Close()
	one, err := net.Dial("tcp", listener.Addr().String())
	must(err)
	other, err := listener.Accept()
	must(err)
	return one, other
}

func all() []met {
	var found []met
	note := func(function string, conn net.Conn, err error) {
		if err == nil {
			panic(function + " has no error")
		}
		found = append(found, met{function, err.Error(), conn.LocalAddr().String(), conn.RemoteAddr().String()})
	}
	buffer := make([]byte, 64)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		// The other end was closed.
		one, other := pair(address)
		must(other.Close())
		_, err := one.Read(buffer)
		note("net.(*conn).Read", one, err)
		// So was this one.
		must(one.Close())
		_, err = one.Read(buffer)
		note("net.(*conn).Read", one, err)
		note("net.(*conn).Close", one, one.Close())
		note("net.(*conn).SetDeadline", one, one.SetDeadline(time.Now()))
		// Too late.
		one, other = pair(address)
		must(one.SetDeadline(time.Now().Add(-time.Second)))
		_, err = one.Read(buffer)
		note("net.(*conn).Read", one, err)
		_, err = one.Write(buffer)
		note("net.(*conn).Write", one, err)
		must(other.Close())
		// Reset: closed with something unread, and then written to.
		one, other = pair(address)
		_, err = one.Write(buffer)
		must(err)
		must(other.(*net.TCPConn).SetLinger(0))
		must(other.Close())
		_, err = one.Read(buffer)
		note("net.(*conn).Read", one, err)
		_, err = one.Write(buffer)
		note("net.(*conn).Write", one, err)
	}
	return found
}

func main() {
	fmt.Printf("ready pid %d\n", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word := strings.TrimSpace(lines.Text())
		found, err := json.Marshal(all())
		must(err)
		fmt.Printf("done %s\n", found)
		if word == "kill" {
			must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
			select {}
		}
		os.Exit(0)
	}
}
