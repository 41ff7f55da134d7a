package main

import (
	"bytes"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
)

type point struct{ x, y int }

// get has no frame: its first instruction is the one that faults.
//
//go:noinline
func (p *point) get() int { return p.y }

type getter interface{ get() int }

// How get comes to be called with a nil receiver, once each.
var ways = []func(p *point) int{
	(*point).get,
	plainly,
	inTheMiddle,
	byInterface,
	byMethodValue,
	byReflection,
	deferred,
	deferredInALoop,
	whilePanicking,
	onAnotherGoroutine,
}

//go:noinline
func plainly(p *point) int { return p.get() + 1 }

// A frame with pointers that are dead once get has panicked.
//
//go:noinline
func inTheMiddle(p *point) int {
	held := make([]*point, 4)
	for i := range held {
		held[i] = &point{i, i}
	}
	n := p.get()
	for _, h := range held {
		n += h.x
	}
	return n
}

//go:noinline
func byInterface(p *point) int {
	var g getter = p
	return g.get()
}

//go:noinline
func byMethodValue(p *point) int {
	f := p.get
	return f()
}

func byReflection(p *point) int {
	f := reflect.ValueOf((*point).get)
	return int(f.Call([]reflect.Value{reflect.ValueOf(p)})[0].Int())
}

//go:noinline
func deferred(p *point) int {
	defer p.get()
	return 1
}

//go:noinline
func deferredInALoop(p *point) int {
	for i := 0; i < 3; i++ {
		defer func(n int) {
			if n == 1 {
				p.get()
			}
		}(i)
	}
	return 1
}

//go:noinline
func whilePanicking(p *point) int {
	defer p.get()
	panic("the first")
}

func onAnotherGoroutine(p *point) int {
	came := make(chan any)
	go func() {
		defer func() { came <- recover() }()
		p.get()
	}()
	panic(<-came)
}

// fault answers 1 if the way ends in the panic of a nil dereference, and is
// recovered with stacks that can be walked, scanned and moved.
//
//go:noinline
func fault(way func(p *point) int, collect bool) (recovered int) {
	kept := []int{1, 2, 3}
	defer func() {
		grow(64)
		if collect {
			runtime.GC()
		}
		err, ok := recover().(runtime.Error)
		nilPointer := ok && strings.Contains(err.Error(), "nil pointer")
		if nilPointer && bytes.Contains(debug.Stack(), []byte("main.fault")) && kept[2] == 3 {
			recovered = 1
		}
	}()
	return way(nil)
}

//go:noinline
func grow(n int) byte {
	var room [1024]byte
	if n > 0 {
		room[n] = grow(n - 1)
	}
	return room[n]
}
