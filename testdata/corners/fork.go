package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

var (
	child      int
	childReads [2]int
)

// fork makes a child with a copy of everything, one thread, and no runtime to
// speak of: it may only make raw system calls. It waits for a byte, calls
// childTick, and exits with 7.
func fork() int {
	if err := syscall.Pipe(childReads[:]); err != nil {
		return -1
	}
	child = forkInChild(childReads[0])
	return child
}

//go:noinline
//go:norace
//go:nosplit
func forkInChild(fd int) int {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return -int(errno)
	}
	if pid != 0 {
		return int(pid)
	}
	// The child ends with its parent, whatever ends that (prctl(2)).
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	var b [1]byte
	for {
		n, _, _ := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), 1)
		if n == 1 {
			break
		}
	}
	status := 0
	for i := 0; i < 7; i++ {
		status = childTick(status)
		if stride(int64(i)) != int64(i)*31+7 {
			status = 99
		}
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(status), 0, 0)
	}
}

// childTick is traced in the parent.
//
//go:noinline
//go:norace
//go:nosplit
func childTick(n int) int { return n + 1 }

// stride is called by target and child alike, and has room for two jumps.
//
//go:noinline
//go:norace
//go:nosplit
func stride(n int64) int64 {
	a, b := n*16+3, n*8+2
	c := n*4 + 1
	return a + b + c + n*2 + n + 1
}

func reap() int {
	childTick(0)
	stride(100)
	syscall.Write(childReads[1], []byte{1})
	return wait(child)
}

// wait answers the exit status, or 1000 + the signal that killed it.
func wait(pid int) int {
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err == syscall.EINTR {
			continue
		} else if err != nil {
			return -1
		}
		if status.Signaled() {
			return 1000 + int(status.Signal())
		}
		return status.ExitStatus()
	}
}

// filter makes mmap(PROT_EXEC) fail with EPERM, in every thread
// (seccomp(2), linux/filter.h, linux/seccomp.h).
func filter() string {
	const (
		load      = 0x20 // BPF_LD | BPF_W | BPF_ABS
		jumpEqual = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
		jumpSet   = 0x45 // BPF_JMP | BPF_JSET | BPF_K
		answer    = 0x06 // BPF_RET | BPF_K

		number     = 0
		protection = 16 + 2*8 // the third argument

		allow = 0x7fff0000
		fail  = 0x00050000

		setNoNewPrivs = 38  // PR_SET_NO_NEW_PRIVS
		seccomp       = 317 // SYS_SECCOMP on amd64
		modeFilter    = 1
		allThreads    = 1 // SECCOMP_FILTER_FLAG_TSYNC
	)
	program := []syscall.SockFilter{
		{Code: load, K: number},
		{Code: jumpEqual, K: syscall.SYS_MMAP, Jf: 3},
		{Code: load, K: protection},
		{Code: jumpSet, K: syscall.PROT_EXEC, Jf: 1},
		{Code: answer, K: fail | uint32(syscall.EPERM)},
		{Code: answer, K: allow},
	}
	all := syscall.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, errno := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return errno.Error()
	}
	_, _, errno := syscall.Syscall(seccomp, modeFilter, allThreads, uintptr(unsafe.Pointer(&all)))
	if errno != 0 {
		return errno.Error()
	}
	_, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_EXEC, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != syscall.EPERM {
		return "the filter does not work"
	}
	return ""
}

// blocked calls a function of the standard library as only the runtime would
// run code: with every signal blocked (rt_sigprocmask(2)).
func blocked() string {
	const block, set = 0, 2
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, old := ^uint64(0), uint64(0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, block, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	length, _ := time.ParseDuration("90s")
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, set, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	return length.String()
}
