// Prints the signatures of functions as the running program knows them, to
// compare with what its DWARF says: entry, name, parameters, results.
package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"time"
)

type pair struct {
	a int
	b string
}

type deep struct {
	p pair
	f [1]float64
	e error
}

//go:noinline
func unused(a int, _ string, b []byte, _ struct{}, c float64) (n int, _ error) { return 1, nil }

//go:noinline
func unnamed(int, string) (int, error) { return 1, nil }

//go:noinline
func nothing() {}

//go:noinline
func escapes(a int, b string, c pair) (*int, *pair) { return &a, &c }

//go:noinline
func variadic(format string, args ...any) (s string) { return fmt.Sprintf(format, args...) }

//go:noinline
func onStack(a [3]int, b int, c deep, d chan<- int, e func(int) error) (r [2]string, err error) {
	if e != nil {
		err = e(b)
	}
	return
}

//go:noinline
func floats(a float32, b float64, c complex128) (complex64, bool) { return 0, a > 0 }

//go:noinline
func manyArgs(a, b, c, d, e, f, g, h, i, j, k, l int) (m, n, o, p, q, r, s, t, u, v int) { return }

// Inlined where it is called, and there as a function of its own.
func inlined(a int, b string, _ bool) (int, error) { return a + len(b), nil }

func inlinedNamed(_ io.Reader, x *pair, y uint8) (sum int, err error) {
	sum = x.a + int(y)
	return
}

//go:noinline
func (p *pair) pointer(x map[string]int, y ...pair) (z chan int, w <-chan bool) { return }

//go:noinline
func (pair) value(h http.Handler) { _ = h }

func (p *pair) small() int { return p.a }

//go:noinline
func recovers(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("recovered: %v", r)
		}
	}()
	f()
	return nil
}

type kind int

func (k kind) String() string { return [...]string{"a", "b"}[k] }

func main() {
	keep := len(os.Args) > 1000
	list := []any{
		unused, unnamed, nothing, escapes, variadic, onStack, floats, manyArgs,
		inlined, inlinedNamed, (*pair).pointer, pair.value, (*pair).small, recovers,
		kind.String,
		net.Dial, net.Listen, (*net.TCPConn).CloseWrite, (*net.Dialer).DialContext,
		net.ParseIP, net.ResolveTCPAddr, net.JoinHostPort,
		http.Get, http.NewRequest, http.ListenAndServe, (*http.Client).Do,
		(*http.ServeMux).HandleFunc, (*http.Server).Serve,
		(*tls.Conn).Read, (*tls.Conn).Write, (*tls.Conn).Handshake, tls.Dial,
		(*bufio.Reader).ReadString, (*bufio.Writer).Flush, bufio.NewReaderSize,
		(*os.File).Read, (*os.File).WriteAt, os.Open, os.OpenFile, os.ReadFile,
		io.ReadFull, io.Copy, io.WriteString, errors.Is, errors.New, errors.As,
		fmt.Fprintf, fmt.Sprint, fmt.Errorf, strings.Split, strings.Replace,
		strings.Repeat, time.ParseDuration, (*time.Timer).Reset,
		time.Time.Add, time.Time.Format, time.Now, time.Date, time.Since,
	}
	if keep {
		inlined(1, "", true)
		inlinedNamed(nil, &pair{}, 1)
		generics()
	}
	for _, f := range list {
		v := reflect.ValueOf(f)
		fn := runtime.FuncForPC(v.Pointer())
		var in, out []string
		for i := 0; i < v.Type().NumIn(); i++ {
			in = append(in, describe(v.Type().In(i)))
		}
		for i := 0; i < v.Type().NumOut(); i++ {
			out = append(out, describe(v.Type().Out(i)))
		}
		fmt.Printf("%#x\t%s\t%s\t%s\n", fn.Entry(), fn.Name(), strings.Join(in, ";"), strings.Join(out, ";"))
	}
}

func describe(t reflect.Type) string {
	return fmt.Sprintf("%s/%s/%d", t, t.Kind(), t.Size())
}

type list[K comparable, V any] struct{ m map[K]V }

//go:noinline
func (l *list[K, V]) put(k K, v V) (old V, ok bool) {
	old, ok = l.m[k]
	l.m[k] = v
	return
}

//go:noinline
func filter[X any](xs []X, f func(X) bool) (r []X) {
	for _, x := range xs {
		if f(x) {
			r = append(r, x)
		}
	}
	return
}

// Called by name only: an instance has no entry that Go code can ask for.
func generics() {
	l := &list[string, int]{map[string]int{}}
	l.put("a", 1)
	_ = filter([]int{1, 2}, func(i int) bool { return i > 1 })
}
