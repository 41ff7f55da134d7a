// Command errs makes one error of each kind that network programs meet, each
// returned by a function of its own, and says what its Error method prints.
//
// The control line "all" runs them all; the answer lists, by function, the text
// and whether the Error method is this program's own code. It
// ends when stdin does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type made struct {
	Func string  `json:"func"`
	N    int     `json:"n"`
	Err  *string `json:"err"`
	Own  bool    `json:"own"`
}

func main() {
	if len(os.Args) > 1 {
		say("all", all())
		return
	}
	say(fmt.Sprintf("ready pid %d", os.Getpid()), nil)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch word := strings.TrimSpace(lines.Text()); word {
		case "all":
			say("all", all())
		default:
			say("pong"+strings.TrimPrefix(word, "ping"), nil)
		}
	}
}

func say(word string, value any) {
	line := []byte(word)
	if value != nil {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		line = append(append(line, ' '), text...)
	}
	os.Stdout.Write(append(line, '\n'))
}

// list names each function of this file that a tracer has to find once.
var list = []struct {
	name string
	call func() (int, error)
	own  bool
}{
	{"main.errNil", errNil, false},
	{"main.errEOF", errEOF, false},
	{"main.errReset", errReset, false},
	{"main.errPipe", errPipe, false},
	{"main.errTimeout", errTimeout, false},
	{"main.errClosed", errClosed, false},
	{"main.errWriteClosed", errWriteClosed, false},
	{"main.errRefused", errRefused, false},
	{"main.errDialTimeout", errDialTimeout, false},
	{"main.errDNS", errDNS, false},
	{"main.errDNSTimeout", errDNSTimeout, false},
	{"main.errAddr", errAddr, false},
	{"main.errParse", errParse, false},
	{"main.errNetwork", errNetwork, false},
	{"main.errPath", errPath, false},
	{"main.errErrno", errErrno, false},
	{"main.errSyscall", errSyscall, false},
	{"main.errWrapped", errWrapped, false},
	{"main.errWrappedTwice", errWrappedTwice, false},
	{"main.errPlain", errPlain, false},
	{"main.errURL", errURL, false},
	{"main.errNumber", errNumber, false},
	{"main.errDeadline", errDeadline, false},
	{"main.errCanceled", errCanceled, false},
	{"main.errUnexpectedEOF", errUnexpectedEOF, false},
	{"main.errOwnPointer", errOwnPointer, true},
	{"main.errOwnValue", errOwnValue, true},
}

func all() []made {
	var results []made
	for _, one := range list {
		n, err := one.call()
		m := made{Func: one.name, N: n, Own: one.own}
		if err != nil {
			text := err.Error()
			m.Err = &text
		}
		results = append(results, m)
	}
	return results
}

// twoEnds is a connection to this program itself.
func twoEnds() (client, server *net.TCPConn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		panic(err)
	}
	s, err := ln.Accept()
	if err != nil {
		panic(err)
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

//go:noinline
func errNil() (int, error) { return 0, nil }

//go:noinline
func errEOF() (int, error) {
	c, s := twoEnds()
	defer c.Close()
	s.Close()
	return c.Read(make([]byte, 16))
}

//go:noinline
func errReset() (int, error) {
	c, s := twoEnds()
	defer c.Close()
	s.SetLinger(0)
	s.Close()
	return c.Read(make([]byte, 16))
}

//go:noinline
func errPipe() (int, error) {
	c, s := twoEnds()
	defer c.Close()
	s.SetLinger(0)
	s.Close()
	// The first write or two may still meet the reset itself.
	for i := 0; i < 1000; i++ {
		if n, err := c.Write([]byte("x")); errors.Is(err, syscall.EPIPE) {
			return n, err
		}
		time.Sleep(time.Millisecond)
	}
	return 0, errors.New("no EPIPE came")
}

//go:noinline
func errTimeout() (int, error) {
	c, s := twoEnds()
	defer c.Close()
	defer s.Close()
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	return c.Read(make([]byte, 16))
}

//go:noinline
func errClosed() (int, error) {
	c, s := twoEnds()
	defer s.Close()
	c.Close()
	return c.Read(make([]byte, 16))
}

//go:noinline
func errWriteClosed() (int, error) {
	c, s := twoEnds()
	defer s.Close()
	c.Close()
	return c.Write([]byte("x"))
}

//go:noinline
func errRefused() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	at := ln.Addr().String()
	ln.Close()
	_, err = net.Dial("tcp", at)
	return 0, err
}

//go:noinline
func errDialTimeout() (int, error) {
	d := net.Dialer{Timeout: time.Nanosecond}
	_, err := d.Dial("tcp", "127.0.0.1:9")
	return 0, err
}

//go:noinline
func errDNS() (int, error) {
	return 0, &net.DNSError{Err: "no such host", Name: "nowhere.invalid", Server: "127.0.0.53:53", IsNotFound: true}
}

//go:noinline
func errDNSTimeout() (int, error) {
	inside := &net.DNSError{Err: "i/o timeout", Name: "slow.invalid", IsTimeout: true}
	return 0, &net.OpError{Op: "dial", Net: "tcp", Err: inside}
}

//go:noinline
func errAddr() (int, error) {
	_, _, err := net.SplitHostPort("no-port-here")
	return 0, err
}

//go:noinline
func errParse() (int, error) {
	_, _, err := net.ParseCIDR("10.0.0.1/99")
	return 0, err
}

//go:noinline
func errNetwork() (int, error) {
	_, err := net.Dial("tcp9", "127.0.0.1:1")
	return 0, err
}

//go:noinline
func errPath() (int, error) {
	_, err := os.Open("/nowhere/at/all")
	return 0, err
}

//go:noinline
func errErrno() (int, error) { return -1, syscall.ENOENT }

//go:noinline
func errSyscall() (int, error) { return -1, os.NewSyscallError("epoll_wait", syscall.EINTR) }

//go:noinline
func errWrapped() (int, error) { return 1, fmt.Errorf("reading the header: %w", io.ErrUnexpectedEOF) }

//go:noinline
func errWrappedTwice() (int, error) {
	return 2, fmt.Errorf("outer: %w", fmt.Errorf("inner: %w", io.EOF))
}

//go:noinline
func errPlain() (int, error) { return 3, errors.New("plain text, with \"quotes\" and ünïcode") }

//go:noinline
func errURL() (int, error) {
	return 0, &url.Error{Op: "Get", URL: "http://127.0.0.1:1/", Err: io.EOF}
}

//go:noinline
func errNumber() (int, error) { return strconv.Atoi("twelve") }

//go:noinline
func errDeadline() (int, error) { return 0, context.DeadlineExceeded }

//go:noinline
func errCanceled() (int, error) { return 0, context.Canceled }

//go:noinline
func errUnexpectedEOF() (int, error) { return 0, io.ErrUnexpectedEOF }

type ownPointer struct {
	Code int
	What string
}

func (o *ownPointer) Error() string { return fmt.Sprintf("code %d: %s", o.Code, o.What) }

type ownValue struct{ Status int }

func (o ownValue) Error() string { return "status " + strconv.Itoa(o.Status) }

//go:noinline
func errOwnPointer() (int, error) { return 0, &ownPointer{404, "not here"} }

//go:noinline
func errOwnValue() (int, error) { return 0, ownValue{503} }
