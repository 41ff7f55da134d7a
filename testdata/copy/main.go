// Command copy moves bytes through calls of net.Conn that happen in one another:
// ReadFrom, which writes in a loop, and vectored writes.
//
// One control line on stdin moves bytes one way and is answered by
// "WORD {json}" with the number of bytes that arrived at the other end.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

func main() {
	fmt.Printf("ready pid %d\n", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word := strings.TrimSpace(lines.Text())
		if send, ok := ways[word]; ok {
			line, err := json.Marshal(move(send))
			must(err)
			fmt.Printf("%s %s\n", word, line)
		} else {
			fmt.Println("pong" + strings.TrimPrefix(word, "ping"))
		}
	}
}

// Of 200 KiB io.Copy makes several writes of 32 KiB each.
const size = 200 << 10

var ways = map[string]func(*net.TCPConn){
	// A reader that is no file and no socket: ReadFrom calls Write.
	"readfrom": func(c *net.TCPConn) {
		_, err := c.ReadFrom(onlyReader{strings.NewReader(strings.Repeat("x", size))})
		must(err)
	},
	"plain": func(c *net.TCPConn) {
		for i := 0; i < 10; i++ {
			_, err := c.Write(make([]byte, size/10))
			must(err)
		}
	},
	// writev(2), which calls no Write at all.
	"buffers": func(c *net.TCPConn) {
		buffers := net.Buffers{make([]byte, size/4), make([]byte, size/4), make([]byte, size/2)}
		_, err := buffers.WriteTo(c)
		must(err)
	},
}

// onlyReader hides what else a reader can do.
type onlyReader struct{ io.Reader }

func move(send func(*net.TCPConn)) map[string]int64 {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	received := make(chan int64)
	go func() {
		c, err := ln.Accept()
		must(err)
		n, err := io.Copy(io.Discard, onlyReader{c})
		must(err)
		c.Close()
		received <- n
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	must(err)
	send(c.(*net.TCPConn))
	c.Close()
	n := <-received
	ln.Close()
	return map[string]int64{"bytes": n}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
