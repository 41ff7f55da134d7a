package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
	"unsafe"
)

func addressOf(p *[16]byte) uintptr { return uintptr(unsafe.Pointer(p)) }

type point struct {
	X, Y int
	Name string
}

type big struct {
	A, B, C, D, E, F, G, H, I, J, K int
	Last                            string
}

type state uint8

func (s state) String() string { return [...]string{"idle", "busy"}[s] }

// custom is an error whose Error method is this program's own code.
type custom struct {
	Code int
	What string
}

func (c *custom) Error() string { return fmt.Sprintf("custom %d: %s", c.Code, c.What) }

//go:noinline
func takesInts(a int, b int8, c int16, d int32, e int64) (int, int64) {
	return a + int(b), int64(c) + int64(d) + e
}

//go:noinline
func takesUints(a uint, b uint8, c uint16, d uint32, e uint64, p uintptr) uint64 {
	return uint64(a) + uint64(b) + uint64(c) + uint64(d) + e + uint64(p)
}

//go:noinline
func takesFloats(a float64, b float32, c complex128) (float64, float32) {
	return a + real(c), b * 2
}

//go:noinline
func takesString(s string, empty string) (result string, n int) { return s + "!", len(s) }

//go:noinline
func takesBytes(b []byte, nothing []byte) ([]byte, int) { return b[1:], cap(b) }

//go:noinline
func takesSlices(ints []int, words []string, points []point) ([]string, error) {
	return words[:len(ints)-1], nil
}

//go:noinline
func takesStruct(p point, q *point) point { return point{p.X + q.X, p.Y + q.Y, p.Name + q.Name} }

// takesBig: too large for registers, both ways.
//
//go:noinline
func takesBig(b big, n int) big { b.A += n; return b }

// takesMany: more words than the nine integer registers hold.
//
//go:noinline
func takesMany(a, b, c, d, e, f, g, h, i, j, k int, s string) (int, int, int, int, int, int, int, int, int, int, string) {
	return k, j, i, h, g, f, e, d, c, b, s
}

//go:noinline
func takesArray(one [1]int, two [2]int, none [0]int) [2]int { return [2]int{two[1], two[0] + one[0]} }

//go:noinline
func takesVariadic(format string, more ...any) int { return len(format) + len(more) }

//go:noinline
func takesInterfaces(e error, r io.Reader, v any) (error, any) { return e, v }

//go:noinline
func takesMap(m map[string]int, c chan int, f func(int) int) (bool, int) {
	return m != nil, f(cap(c))
}

//go:noinline
func takesPointers(p *int, q **int, n *int) *int { return p }

//go:noinline
func takesBool(a, b bool, s state, d time.Duration) (bool, state, time.Duration) {
	return a && b, s + 1, d * 2
}

//go:noinline
func takesContext(ctx context.Context, n int) error { return ctx.Err() }

// returnsErrors: the kinds of error value that there are.
//
//go:noinline
func returnsErrors(which int) (n int, err error) {
	switch which {
	case 0:
		return 0, nil
	case 1:
		return 1, io.EOF
	case 2:
		return 2, errors.New("plain text")
	case 3:
		return 3, fmt.Errorf("wrapped: %w", io.ErrUnexpectedEOF)
	case 4:
		return 4, &custom{Code: 404, What: "not here"}
	}
	return which, io.ErrClosedPipe
}

type pair[K comparable, V any] struct {
	Key   K
	Value V
}

// generic is instantiated for a pointer shape and for int: the shape's code
// takes a dictionary before the parameters.
//
//go:noinline
func generic[K comparable, V any](k K, v V) pair[K, V] { return pair[K, V]{k, v} }

//go:noinline
func (p point) valueMethod(dx int) int { return p.X + dx }

//go:noinline
func (p *point) pointerMethod(dx int) int { p.X += dx; return p.X }

//go:noinline
func takesNothing() {}

// values calls each once; "calls" is how many calls of each a tracer has to
// find, by function.
func values() numbers {
	seven := 7
	p := &seven
	ints := []int{1, 2, 3}
	words := []string{"a", "b", "c"}
	origin := &point{1, 2, "origin"}
	add := 1
	fresh(func() {
		takesInts(-1, -8, -16, -32, -64)
		takesUints(1, 8, 16, 32, 1<<63, 0xdeadbeef)
		takesFloats(1.5, 0.25, complex(2, -3))
		takesString("hello", "")
		takesBytes([]byte("bytes\x00\xff"), nil)
		takesSlices(ints, words, []point{{3, 4, "p"}})
		takesStruct(point{10, 20, "x"}, origin)
		takesBig(big{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "last"}, 100)
		takesMany(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "end")
		takesArray([1]int{5}, [2]int{6, 7}, [0]int{})
		takesVariadic("format", 1, "two", 3.0)
		takesInterfaces(io.EOF, nil, 42)
		takesMap(map[string]int{"one": 1}, make(chan int, 3), func(n int) int { return n + add })
		takesPointers(p, &p, nil)
		takesBool(true, false, 0, 1500*time.Millisecond)
		takesContext(context.Background(), 9)
		for which := 0; which <= 4; which++ {
			returnsErrors(which)
		}
		generic("key", 1)
		generic(2, origin)
		point{1, 2, "v"}.valueMethod(3)
		origin.pointerMethod(4)
		takesNothing()
	})
	return numbers{"calls": map[string]int{
		"main.takesInts": 1, "main.takesUints": 1, "main.takesFloats": 1, "main.takesString": 1,
		"main.takesBytes": 1, "main.takesSlices": 1, "main.takesStruct": 1, "main.takesBig": 1,
		"main.takesMany": 1, "main.takesArray": 1, "main.takesVariadic": 1, "main.takesInterfaces": 1,
		"main.takesMap": 1, "main.takesPointers": 1, "main.takesBool": 1, "main.takesContext": 1,
		"main.returnsErrors": 5, "main.point.valueMethod": 1, "main.(*point).pointerMethod": 1,
		"main.takesNothing": 1,
	}}
}
