// A program with one of everything that a function table can hold: methods,
// promoted methods, closures, generics, calls inlined three deep, a function
// that exists only inlined, assembly (of the runtime) and equality functions.
package main

import (
	"fmt"
	"os"

	dot "example.com/image/dot.v2"
)

type inner struct{ n int }

//go:noinline
func (i *inner) Add(by int) int {
	i.n += by
	return i.n
}

// outer promotes Add: the compiler makes (*outer).Add.
type outer struct {
	name string
	inner
}

type adder interface{ Add(int) int }

type key struct {
	name string
	n    int
}

func onlyInlined(n int) int { return deepest(n) + 1 }

func deepest(n int) int { return n*3 + len(os.Args) }

//go:noinline
func callsInlined(n int) int {
	return onlyInlined(n) // the body of two functions
}

//go:noinline
func manyArgs(a int, s string, b []byte, i any, e error, f float64) (int, error) {
	fmt.Fprintln(os.Stderr, a, s, b, i, f)
	return a + len(s) + len(b), e
}

//go:noinline
func generic[T any](values []T) int { return len(values) }

// fromC is set where the program is built with C code in it.
var fromC int

// Through an interface that the compiler cannot see through, Add is called
// by way of its wrapper.
//
//go:noinline
func newAdder() adder { return &outer{} }

func main() {
	a := newAdder()
	seen := map[key]int{{"a", 1}: a.Add(2)}
	add := func(n int) int { return n + fromC + seen[key{"a", 1}] + len(os.Args) }
	n, err := manyArgs(1, "two", nil, seen, nil, 3.5)
	fmt.Println(callsInlined(n), add(1), dot.Twice(2), generic([]string{"x"}), err)
}
