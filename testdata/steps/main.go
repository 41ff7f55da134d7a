// What a step can meet: loops, defers, panics, closures, goroutines that run
// the same code, calls that are inlined, generic functions, loops over
// functions, methods through wrappers. It ends by itself. With the argument
// `wait` it prints `ready` and waits for a line first.
package main

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
)

var sink int

//go:noinline
func use(n int) { sink += n }

func small(n int) int {
	if n > 2 {
		return n * 2
	}
	return n + 1
}

func smaller(n int) int {
	m := small(n)
	return m + small(m)
}

//go:noinline
func loops(n int) int {
	total := 0
	for i := 0; i < n; i++ {
		total += i
		if i%2 == 0 {
			continue
		}
		use(total)
	}
	for _, v := range []int{1, 2, 3} {
		total += v
	}
	switch {
	case total > 100:
		total--
	case total > 3:
		total++
		fallthrough
	default:
		use(total)
	}
	return total
}

//go:noinline
func inlines(n int) int {
	a := small(n)
	b := smaller(a)
	use(a + b)
	c := small(small(b))
	return a + b + c
}

//go:noinline
func defers(n int) (out int) {
	defer use(1)
	defer func() {
		out += n
		use(out)
	}()
	for i := 0; i < 2; i++ {
		defer use(i)
	}
	if n > 1 {
		defer later(n)
	}
	out = small(n)
	return out + 1
}

//go:noinline
func later(n int) {
	use(n)
	use(n + 1)
}

//go:noinline
func panics(n int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("recovered")
		}
		use(n)
	}()
	throws(n)
	use(7)
	return nil
}

//go:noinline
func throws(n int) {
	defer use(2)
	if n > 0 {
		panic("thrown")
	}
	use(n)
}

//go:noinline
func nilled(p *int) (n int) {
	defer func() {
		recover()
		n = 3
	}()
	n = *p
	use(n)
	return n
}

//go:noinline
func recursive(n int) int {
	if n == 0 {
		return 1
	}
	m := recursive(n - 1)
	use(m)
	return m * n
}

//go:noinline
func closures(n int) int {
	add := func(d int) int {
		n += d
		return n
	}
	twice := func(f func(int) int, d int) int {
		f(d)
		return f(d + 1)
	}
	add(1)
	x := twice(add, 2)
	use(x)
	func() {
		use(n)
		n++
	}()
	return x + n
}

type number interface{ ~int | ~int64 }

//go:noinline
func sum[T number](all ...T) T {
	var total T
	for _, v := range all {
		total += v
	}
	return total
}

func pick[T any](cond bool, a, b T) T {
	if cond {
		return a
	}
	return b
}

type stack[T any] struct{ items []T }

//go:noinline
func (s *stack[T]) push(v T) {
	s.items = append(s.items, v)
}

func (s *stack[T]) each(yield func(int, T) bool) {
	for i, v := range s.items {
		if !yield(i, v) {
			return
		}
	}
}

//go:noinline
func generics(n int) int {
	a := sum(n, 2, 3)
	b := sum(int64(n), 5)
	c := pick(n > 1, a, int(b))
	var s stack[int]
	s.push(c)
	s.push(a)
	var t stack[string]
	t.push("x")
	return len(s.items) + len(t.items)
}

//go:noinline
func count(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; i < n; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

//go:noinline
func ranges(n int) int {
	total := 0
	for i := range count(n) {
		total += i
		use(total)
	}
	for i := range count(n) {
		for j := range count(2) {
			if j > 0 {
				break
			}
			total += i * j
		}
		use(total)
	}
	var s stack[int]
	s.push(4)
	s.push(5)
	for i, v := range s.each {
		defer use(v)
		if i > 5 {
			return v
		}
	}
	for i := range 2 {
		total += i
	}
	for _, v := range slices.Backward(s.items) {
		total += v
	}
	return total
}

type shape interface{ area(scale int) int }

type square struct{ side int }

//go:noinline
func (s square) area(scale int) int {
	return s.side * s.side * scale
}

type named struct {
	square
	name string
}

type circle struct{ r int }

//go:noinline
func (c *circle) area(scale int) int {
	r := c.r
	return r * 3 * scale
}

//go:noinline
func methods(n int) int {
	shapes := []shape{square{n}, &circle{n}, named{square{2}, "n"}, &named{square{3}, "m"}}
	total := 0
	for _, s := range shapes {
		total += s.area(2)
	}
	f := shapes[1].area
	total += f(1)
	g := square.area
	total += g(square{1}, 4)
	defer shapes[0].area(9)
	return total
}

type gate struct {
	in, out chan int
}

//go:noinline
func worker(g gate, n int) {
	for v := range g.in {
		w := v + n
		w = small(w)
		g.out <- w
	}
	use(n)
}

//go:noinline
func goroutines(n int) int {
	g := gate{make(chan int), make(chan int)}
	var wg sync.WaitGroup
	for i := 0; i < 1; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			worker(g, i)
		}()
	}
	total := 0
	for i := 0; i < n; i++ {
		g.in <- i
		got := <-g.out
		total += got - got
	}
	close(g.in)
	wg.Wait()
	settle()
	go use(0)
	settle()
	return total
}

// settle waits until the other goroutines have ended: the program does not end
// before one that is stepped.
//
//go:noinline
func settle() {
	for runtime.NumGoroutine() > 1 {
		runtime.Gosched()
	}
}

// crowd is one function that many goroutines run at once.
//
//go:noinline
func crowd(n int) int {
	var wg sync.WaitGroup
	results := make([]int, 4)
	for i := range results {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := 0; k < 200; k++ {
				results[i] += shared(k)
			}
		}()
	}
	for k := 0; k < n; k++ {
		results[0] += shared(k) - shared(k)
		runtime.Gosched()
	}
	wg.Wait()
	settle()
	return len(results)
}

//go:noinline
func shared(n int) int {
	a := n + 1
	runtime.Gosched()
	b := small(a)
	return a + b
}

func pass(n int) int {
	total := loops(n)
	total += inlines(n)
	total += defers(n)
	err := panics(n)
	if err != nil {
		total++
	}
	total += nilled(nil)
	total += recursive(n)
	total += closures(n)
	total += generics(n)
	total += ranges(n)
	total += methods(n)
	total += goroutines(n)
	total += crowd(n)
	return total
}

func main() {
	if len(os.Args) > 1 {
		os.Stdout.WriteString("ready\n")
		os.Stdin.Read(make([]byte, 1))
	}
	use(pass(3))
}
