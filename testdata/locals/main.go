// Goroutines that are parked with variables of every kind in scope. Each
// prints what it holds as Go prints it, `var FUNC NAME VALUE`, before it parks;
// when all are parked main prints `ready` and waits for the end of stdin.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

type point struct {
	X, Y int
}

type kind int8

func (k kind) String() string { return "kind" }

type node struct {
	Name string
	Next *node
}

type animal interface{ Sound() string }

type dog struct {
	Name string
	Age  uint8
}

func (d dog) Sound() string { return d.Name }

type wide struct {
	A, B, C, D, E, F int64
	S                string
}

const answer = 42

var (
	packageInt  = 7
	packageMap  = map[string]int{"one": 1, "two": 2}
	packageNode = &node{Name: "global"}
)

var (
	stop  = make(chan struct{})
	out   sync.Mutex
	count int
)

// say prints a line per variable: names and values in turn.
func say(fn string, pairs ...any) {
	out.Lock()
	defer out.Unlock()
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Printf("var %s %s %#v\n", fn, pairs[i], pairs[i+1])
	}
}

//go:noinline
func park() { <-stop }

//go:noinline
func use(...any) {}

//go:noinline
func scalars(b bool, i int, u8 uint8, f float64, s string) (n int, err error) {
	i8, i16, i32, i64 := int8(-8), int16(-1600), int32(1<<30), int64(-1<<62)
	u, u16, u32, u64, ptr := uint(9), uint16(65535), uint32(1<<31), uint64(1<<63), uintptr(0x1234)
	f32 := float32(0.1)
	c64, c128 := complex64(1+2i), complex(1.5, -2)
	k := kind(3)
	r := 'x'
	d := 1500 * time.Millisecond
	say("scalars", "b", b, "i", i, "u8", u8, "f", f, "s", s,
		"i8", i8, "i16", i16, "i32", i32, "i64", i64, "u", u, "u16", u16, "u32", u32, "u64", u64,
		"ptr", ptr, "f32", f32, "c64", c64, "c128", c128, "r", r)
	n = 5
	park()
	use(b, i, u8, f, s, i8, i16, i32, i64, u, u16, u32, u64, ptr, f32, c64, c128, k, r, d)
	return n, err
}

//go:noinline
func composites(items []int, names []string, pt point, w wide) {
	arr := [3]point{{1, 2}, {3, 4}, {5, 6}}
	pp := &point{7, 8}
	var np *point
	m := map[string]int{"a": 1, "b": 2, "c": 3}
	mi := map[int]string{1: "x", 2: "y"}
	var nm map[string]int
	big := make(map[int]int)
	for i := 0; i < 100; i++ {
		big[i] = i * i
	}
	var e any = "dynamic"
	var a animal = dog{"rex", 4}
	var pa animal = &dog{"pia", 5}
	var na animal
	err := errors.New("broken")
	ch := make(chan int, 3)
	ch <- 1
	fn := strings.ToUpper
	var nf func()
	cyc := &node{Name: "self"}
	cyc.Next = cyc
	empty := []int{}
	var none []int
	raw := []byte("GET /\r\n")
	anon := struct {
		A int
		B []string
	}{1, []string{"q"}}
	nested := [][]int{{1}, {2, 3}, nil}
	when := time.Date(2024, 5, 6, 7, 8, 9, 10, time.UTC)
	ip := net.IPv4(10, 0, 0, 1)
	say("composites", "items", items, "names", names, "pt", pt, "w", w, "arr", arr,
		"m", m, "mi", mi, "anon", anon, "pt", pt)
	park()
	use(items, names, pt, w, arr, pp, np, m, mi, nm, big, e, a, pa, na, err, ch, fn, nf, cyc, empty,
		none, raw, anon, nested, when, ip)
}

//go:noinline
func shadows(x int) {
	y := "outer"
	if x > 0 {
		x := x * 10
		for i := 0; i < 1; i++ {
			x := x * 10
			y := y + "!"
			say("shadows", "x", x, "y", y)
			park()
			use(x, y, i)
		}
		use(x)
	}
	z := "later"
	use(x, y, z)
}

// escapes holds variables that the compiler moves to the heap.
//
//go:noinline
func escapes(arg int) {
	local := point{arg, arg + 1}
	p := &local
	keep(p)
	keep(&arg)
	park()
	use(p, local, arg)
}

var kept []any

//go:noinline
func keep(p any) {
	out.Lock()
	kept = append(kept, p)
	out.Unlock()
}

//go:noinline
func captures(byRef int, byValue string) func() {
	byRef++
	pt := point{byRef, 2}
	return func() {
		byRef += 10
		local := len(byValue)
		say("captures.func1", "byRef", byRef, "byValue", byValue, "pt", pt, "local", local)
		park()
		use(byRef, byValue, local, pt)
	}
}

type list[K comparable, V any] struct {
	keys []K
	vals map[K]V
	head *V
}

//go:noinline
func (l *list[K, V]) wait(k K, v V) {
	ks := l.keys
	var zero V
	park()
	use(l, k, v, ks, zero)
}

//go:noinline
func generic[T any, P *T](v T, many []T, p P) {
	inner := v
	park()
	use(v, many, inner, p)
}

// inlinee is small enough to be inlined.
func inlinee(a int, text string) int {
	sum := a + len(text)
	park()
	return sum * len(text)
}

//go:noinline
func inlines(base int) int {
	doubled := base * 2
	return inlinee(doubled, "inlined") + doubled
}

//go:noinline
func ranges(m []string) {
	for i, s := range m {
		if i == 1 {
			park()
			use(i, s)
		}
	}
}

//go:noinline
func deferred(label string) (result int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("recovered: %v", r)
		}
		result++
		park()
		use(label, result, err)
	}()
	panic("on purpose")
}

func twice(n int) int {
	m := n * 2
	if m > 100 {
		m = 100
	}
	return m
}

func largest[T int | float64](list []T) T {
	best := list[0]
	for _, v := range list {
		if v > best {
			best = v
		}
	}
	return best
}

// steps is what a debugger steps through.
//
//go:noinline
func steps(n int) (sum int) {
	defer func() { sum++ }()
	for i := 0; i < n; i++ {
		switch {
		case i == 0:
			sum += twice(i)
		case i == 1:
			sum += twice(i + 1)
		default:
			sum -= i
		}
	}
	list := []int{sum, n, 3}
	add := func(k int) {
		sum += k
		list[0] = k
	}
	add(twice(4))
	add(largest(list))
	if sum > 3 {
		return sum
	}
	return -sum
}

func start(f func()) {
	count++
	go f()
}

func main() {
	use(steps(3))
	start(func() { scalars(true, -42, 200, 2.5, "héllo\n") })
	start(func() {
		composites([]int{1, 2, 3}, []string{"a", "b"}, point{3, 4}, wide{1, 2, 3, 4, 5, 6, "w"})
	})
	start(func() { shadows(2) })
	start(func() { escapes(5) })
	start(captures(1, "held"))
	start(func() {
		v := 2.5
		l := &list[string, float64]{keys: []string{"k"}, vals: map[string]float64{"k": 1.5}, head: &v}
		l.wait("key", 0.5)
	})
	start(func() { v := point{1, 2}; generic(v, []point{{3, 4}}, &v) })
	start(func() { v := int32(6); generic(v, []int32{7, 8}, &v) })
	start(func() { inlines(21) })
	start(func() { ranges([]string{"zero", "one", "two"}) })
	start(func() { deferred("tag") })
	use(answer, packageInt, packageMap, packageNode)
	buffer := make([]byte, 1<<20)
	for {
		text := string(buffer[:runtime.Stack(buffer, true)])
		if strings.Count(text, "[chan receive") == count {
			break
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	close(stop)
}
