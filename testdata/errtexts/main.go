// Errtexts holds errors of many types and prints of each: the two words of the
// interface, whether its Error method is the program's own, and its text.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

type Mine struct {
	Code int
	Why  string
	Err  error
}

func (m *Mine) Error() string { return "own code runs" }

type Number int

func (n Number) Error() string { return "own code runs" }

// errorString has the name of a type of package errors, but is ours.
type errorString struct{ s string }

func (e *errorString) Error() string { return "own code runs: " + e.s }

type held struct {
	err        error
	structural bool
	text       string
}

var all []held

func add(err error) {
	if err == nil {
		panic("no error")
	}
	all = append(all, held{err, false, err.Error()})
}

func own(err error, text string) { all = append(all, held{err, true, text}) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func errOf[T any](_ T, err error) error { return err }

func recovered(f func()) (err error) {
	defer func() { err = recover().(error) }()
	f()
	return
}

func sockets() {
	l := must(net.Listen("tcp4", "127.0.0.1:0"))
	addr := l.Addr().String()
	add(errOf(net.Listen("tcp4", addr)))
	c := must(net.Dial("tcp4", addr))
	s := must(l.Accept())
	c.SetReadDeadline(time.Now().Add(-time.Second))
	add(errOf(c.Read(make([]byte, 1))))
	c.SetReadDeadline(time.Time{})
	s.(*net.TCPConn).SetLinger(0)
	s.Close()
	time.Sleep(50 * time.Millisecond)
	add(errOf(c.Read(make([]byte, 1))))
	for i := 0; i < 100; i++ {
		if _, err := c.Write([]byte("x")); err != nil {
			add(err)
			break
		}
		time.Sleep(time.Millisecond)
	}
	c.Close()
	add(errOf(c.Read(make([]byte, 1))))
	add(c.Close())
	l.Close()
	add(errOf(l.Accept()))
	add(errOf(net.Dial("tcp4", addr)))
	add(errOf(net.Dial("tcp4", "127.0.0.1:notaport")))
	add(errOf(net.Dial("nonet", addr)))
	add(errOf(net.Dial("tcp", "nowhere")))
	add(errOf(net.Dial("unix", "/nonexistent/socket")))
	add(errOf(net.Dial("tcp6", "[::1]:1")))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var d net.Dialer
	add(errOf(d.DialContext(ctx, "tcp4", "127.0.0.1:1")))
	add(errOf(net.ParseMAC("xyz")))
	_, _, err := net.ParseCIDR("1.2.3")
	add(err)
	u := must(net.Dial("udp6", "[::1]:9")).(*net.UDPConn)
	u.Close()
	add(errOf(u.Write([]byte("x"))))
	p1, p2 := net.Pipe()
	p2.Close()
	add(errOf(p1.Read(make([]byte, 1))))
	add(&net.OpError{Op: "read", Net: "pipe", Source: p1.LocalAddr(), Addr: p1.RemoteAddr(), Err: io.EOF})
	z := &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 80, Zone: "eth0"}
	add(&net.OpError{Op: "read", Net: "tcp", Source: z, Addr: &net.IPAddr{IP: net.IPv4(1, 2, 3, 4)}, Err: syscall.ECONNRESET})
	add(&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{Port: 80}, Err: syscall.EAGAIN})
	add(&net.OpError{Op: "write", Net: "unix", Source: &net.UnixAddr{Name: "@a"}, Addr: &net.UnixAddr{}, Err: syscall.EPIPE})
	add(&net.OpError{Op: "close", Err: net.ErrClosed})
	add((*net.OpError)(nil))
	add(&net.DNSError{Err: "no such host", Name: "nowhere.invalid", Server: "1.1.1.1:53"})
	add(&net.DNSError{Err: "no such host", Name: "nowhere.invalid"})
	add(net.InvalidAddrError("bad address"))
	add(&net.AddrError{Err: "alone"})
}

func web() {
	l := must(net.Listen("tcp4", "127.0.0.1:0"))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				bufio.NewReader(c).ReadString('\n')
				c.Write([]byte("this is not http, and it is long enough\r\n\r\n"))
				c.Close()
			}()
		}
	}()
	add(errOf(http.Get("http://" + l.Addr().String() + "/path?q=\"x\"")))
	add(errOf(http.Get("https://" + l.Addr().String())))
	add(errOf(http.Get("nosuch://x")))
	add(errOf(tls.Dial("tcp4", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})))
	add(http.ErrNotSupported)
	add(http.ErrServerClosed)
	add(http.ErrHandlerTimeout)
	add(errOf(io.ReadAll(http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("long")), 2))))
	client := http.Client{Timeout: time.Nanosecond}
	add(errOf(client.Get("http://127.0.0.1:1")))
	add(errOf(url.Parse("http://a b.com/%zz")))
	add(errOf(url.Parse("http://x/%zz")))
	add(textproto.ProtocolError("short response"))
	add(&textproto.Error{Code: 50, Msg: "not \"there\""})
	add(x509.UnknownAuthorityError{})
	add(x509.CertificateInvalidError{Reason: x509.Expired, Detail: "today"})
	add(x509.CertificateInvalidError{Reason: x509.TooManyIntermediates})
	add(x509.SystemRootsError{Err: fs.ErrNotExist})
	add(x509.ConstraintViolationError{})
	add(tls.RecordHeaderError{Msg: "oversized record"})
}

func main() {
	add(io.EOF)
	add(io.ErrUnexpectedEOF)
	add(errors.New(""))
	add(errors.New(strings.Repeat("long ", 100)))
	add(fmt.Errorf("plain %d", 7))
	add(fmt.Errorf("outer: %w", fmt.Errorf("inner: %w", io.EOF)))
	add(net.ErrClosed)
	add(os.ErrDeadlineExceeded)
	add(os.ErrNotExist)
	add(context.Canceled)
	add(context.DeadlineExceeded)
	for i := 0; i < 140; i++ {
		add(syscall.Errno(i))
	}
	add(os.NewSyscallError("read", syscall.EBADF))
	add(errOf(os.Open("/nonexistent\nfile")))
	add(os.Rename("/nonexistent-a", "/nonexistent-b"))
	add(errOf(strconv.Atoi("12\"x")))
	add(errOf(strconv.ParseUint("99999999999999999999999", 10, 64)))
	add(json.Unmarshal([]byte("{]"), new(any)))
	add(errOf(exec.LookPath("nonexistent-program")))
	add(exec.Command("false").Run())
	add(exec.Command("sh", "-c", "kill -9 $$").Run())
	add(exec.Command("sh", "-c", "exit 7").Run())
	add(recovered(func() { var m map[string]int; m["a"] = len(os.Args) }))
	add(recovered(func() { var p *int; *p = len(os.Args) }))
	add(recovered(func() { var i any = 7; _ = i.(string) }))
	add(recovered(func() { var i any; _ = i.(string) }))
	add(recovered(func() { var i any = 7; _ = i.(error) }))
	add(recovered(func() { z := len(os.Args) - len(os.Args); _ = 1 / z }))
	sockets()
	web()
	newer()
	own(&Mine{7, "because", io.EOF}, `main.Mine{Code:7, Why:"because", Err:"EOF"}`)
	own(&Mine{Err: &Mine{Code: 1}}, `main.Mine{Code:0, Why:"", Err:"main.Mine{Code:1, Why:\"\", Err:nil}"}`)
	own((*Mine)(nil), `(*main.Mine)(nil)`)
	own(Number(42), `main.Number(42)`)
	own(&errorString{"text"}, `main.errorString{s:"text"}`)
	own(&net.OpError{Op: "read", Net: "tcp", Err: Number(3)}, `read tcp: main.Number(3)`)
	for _, h := range all {
		w := *(*[2]uintptr)(unsafe.Pointer(&h.err))
		fmt.Printf("err %#x %#x %v %q\n", w[0], w[1], h.structural, h.text)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	fmt.Println(len(all))
}
