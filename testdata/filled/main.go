// Command filled reads into buffers that lie on stacks, which move meanwhile.
//
// A line on stdin: goroutines, each deeper than the one before, read a message of
// their own; answered by "read N" with the number of stacks that moved from before
// the call to behind it.
package main

import (
	"bufio"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

const goroutines = 600

var moved int

//go:noinline
func deep(n int, fd int, want string) {
	if n > 0 {
		deep(n-1, fd, want)
		return
	}
	var buf [32]byte
	before := uintptr(unsafe.Pointer(&buf[0]))
	k, err := syscall.Read(fd, buf[:])
	after := uintptr(unsafe.Pointer(&buf[0]))
	if before != after {
		moved++
	}
	if err != nil || string(buf[:k]) != want {
		panic("what was read is not what was written")
	}
}

func main() {
	fmt.Println("ready", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var pipe [2]int
		if err := syscall.Pipe(pipe[:]); err != nil {
			panic(err)
		}
		moved = 0
		for n := 0; n < goroutines; n++ {
			want := fmt.Sprintf("message-%04d", n)
			syscall.Write(pipe[1], []byte(want))
			done := make(chan bool)
			go func(n int) {
				deep(n, pipe[0], want)
				close(done)
			}(n)
			<-done
		}
		fmt.Println("read", moved)
	}
}
