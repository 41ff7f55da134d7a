// Types and signatures of every kind, and the packages whose functions people
// trace, all of it linked in. Never run: its file is what is looked at.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"syscall"
	"time"
)

type color uint8

type inner struct {
	a int8
	b int16
	_ struct{}
	c float32
}

type odd struct {
	name string
	inner
	*os.File
	list  []inner
	grid  [3][2]color
	one   [1]int
	m     map[string]*odd
	ch    chan<- inner
	f     func(int) error
	any   any
	err   error
	c64   complex64
	c128  complex128
	when  time.Time
	empty struct{}
}

type table map[string]inner

func (t table) Len() int                     { return len(t) }
func (o odd) ByValue(n int, f float64) color { return color(n) + color(f) }
func (o *odd) ByPointer(s ...string) (inner, error) {
	return o.inner, fmt.Errorf("%d", len(s))
}

//go:noinline
func mixed(a int8, x float32, s inner, b bool, y float64, one [1]int, two [2]int, s2 string) (float32, inner, [2]int, error) {
	two[0] += int(a) + len(s2) + one[0]
	s.c += x
	if b {
		return float32(y), s, two, nil
	}
	return x, s, two, io.EOF
}

//go:noinline
func many(a, b, c, d, e, f, g, h, i int, x float64, j int, t struct{}, k string) (n int, t2 struct{}, ok bool) {
	return a + b + c + d + e + f + g + h + i + int(x) + j + len(k), t, k == "x"
}

//go:noinline
func complexes(a complex64, b complex128, c *int) (complex128, complex64) {
	return complex128(a) * b, a + complex64(complex(float64(*c), 0))
}

//go:noinline
func floats(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p float64, q float32) float64 {
	return a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p + float64(q)
}

//go:noinline
func byStruct(o odd, t time.Time, d time.Duration, c color) (odd, time.Time) {
	o.when = t.Add(d + time.Duration(c))
	return o, t
}

//go:noinline
func generic[T any, U comparable](t T, u U, n int) (T, bool) {
	var zero U
	return t, u != zero && n > 0
}

type list[T any] struct{ items []T }

//go:noinline
func (l *list[T]) push(t T) int {
	l.items = append(l.items, t)
	return len(l.items)
}

func main() {
	// Calling methods by a name that is not constant makes the linker keep
	// the exported methods of every type that ends up in an interface.
	for _, v := range keep {
		value := reflect.ValueOf(v)
		if value.Kind() == reflect.Func || len(os.Args) < 2 {
			fmt.Println(v)
			continue
		}
		fmt.Println(value.MethodByName(os.Args[1]))
	}
	x := 1
	o := odd{name: "o"}
	fmt.Println(mixed(1, 2, inner{}, true, 3, [1]int{4}, [2]int{5, 6}, "7"))
	fmt.Println(many(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, struct{}{}, "12"))
	fmt.Println(complexes(1, 2, &x))
	fmt.Println(floats(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17))
	fmt.Println(byStruct(o, time.Now(), time.Second, 3))
	fmt.Println(generic("a", 2, 3))
	fmt.Println(generic(1.5, inner{}, 3))
	fmt.Println((&list[string]{}).push("a"), (&list[float64]{}).push(1))
	fmt.Println(o.ByValue(1, 2))
	fmt.Println(o.ByPointer("a"))
}

var keep = []any{
	&odd{}, table{}, os.Stdin, &net.TCPConn{}, &net.UDPConn{}, &net.UnixConn{}, &net.IPConn{}, &net.TCPListener{},
	&net.UnixListener{}, &net.Dialer{}, &net.ListenConfig{}, &net.Resolver{}, &net.OpError{}, &net.Buffers{},
	&http.Server{}, &http.Client{}, &http.Transport{}, &http.Request{}, &http.Response{}, http.NewServeMux(),
	&tls.Conn{}, &tls.Dialer{}, &tls.Config{}, &sql.DB{}, &sql.Conn{}, &sql.Tx{},
	&sql.Stmt{}, &sql.Rows{}, &sql.Row{}, &bufio.Reader{}, &bufio.Writer{}, &bufio.Scanner{}, &io.LimitedReader{},
	&io.SectionReader{}, &io.PipeReader{}, &io.PipeWriter{}, &os.Process{}, time.Time{}, time.Duration(0),
	&time.Timer{}, &time.Ticker{},
	net.Dial, net.DialTimeout, net.DialTCP, net.DialUDP, net.DialUnix, net.DialIP, net.Listen, net.ListenPacket,
	net.ListenTCP, net.ListenUDP, net.ListenUnix, net.ListenUnixgram, net.ListenIP, net.FileConn, net.FileListener,
	net.Pipe, net.LookupHost, net.LookupAddr, net.ResolveTCPAddr, net.ResolveUDPAddr, net.SplitHostPort,
	os.Open, os.OpenFile, os.Create, os.ReadFile, os.WriteFile, os.Remove, os.RemoveAll, os.Rename, os.Mkdir,
	os.MkdirAll, os.Stat, os.Lstat, os.ReadDir, os.Pipe, os.StartProcess, os.CreateTemp,
	syscall.Read, syscall.Write, syscall.Pread, syscall.Pwrite, syscall.Accept4, syscall.Accept, syscall.Connect,
	syscall.Bind, syscall.Listen, syscall.Socket, syscall.Close, syscall.Sendto, syscall.Recvfrom, syscall.Sendmsg,
	syscall.Recvmsg, syscall.Sendfile, syscall.Splice, syscall.EpollWait, syscall.EpollCtl, syscall.Open,
	syscall.Fstat, syscall.Shutdown, syscall.GetsockoptInt, syscall.SetsockoptInt, syscall.Getsockname,
	syscall.Getpeername, syscall.Kill, syscall.Mmap, syscall.ForkExec,
	io.Copy, io.CopyN, io.CopyBuffer, io.ReadAll, io.ReadFull, io.ReadAtLeast, io.WriteString, io.Pipe,
	bufio.NewReader, bufio.NewReaderSize, bufio.NewWriterSize, bufio.ScanLines,
	http.Get, http.Post, http.PostForm, http.Head, http.ListenAndServe, http.ListenAndServeTLS, http.Serve,
	http.Handle, http.HandleFunc, http.ReadRequest, http.ReadResponse, http.NewRequestWithContext, http.ServeFile,
	http.ServeContent, http.Error, http.Redirect, http.FileServer, http.TimeoutHandler,
	tls.Dial, tls.DialWithDialer, tls.Listen, tls.Server, tls.Client, tls.LoadX509KeyPair, tls.X509KeyPair,
	sql.Open, sql.OpenDB, sql.Register,
	context.WithCancel, context.WithTimeout, context.WithDeadline, context.WithValue,
	time.Sleep, time.After, time.AfterFunc, time.NewTimer, time.NewTicker, time.Tick, time.Parse, time.ParseDuration,
	time.LoadLocation, time.Unix,
}
