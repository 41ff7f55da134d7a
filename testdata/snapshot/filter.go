package main

import (
	"syscall"
	"unsafe"
)

// filter sets a filter of system calls in every thread (seccomp(2),
// linux/filter.h, linux/seccomp.h): `harmless` has getsid(2) fail, `clone` kills
// for a clone that is no thread, `wait` kills for wait4, `close` has close_range
// fail.
func filter(name string) string {
	const (
		load      = 0x20 // BPF_LD | BPF_W | BPF_ABS
		jumpEqual = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
		jumpSet   = 0x45 // BPF_JMP | BPF_JSET | BPF_K
		answer    = 0x06 // BPF_RET | BPF_K

		number = 0
		first  = 16 // the first argument

		allow = 0x7fff0000
		fail  = 0x00050000
		kill  = 0x80000000

		setNoNewPrivs = 38  // PR_SET_NO_NEW_PRIVS
		seccomp       = 317 // SYS_SECCOMP on amd64
		closeRange    = 436 // SYS_CLOSE_RANGE
		modeFilter    = 1
		allThreads    = 1 // SECCOMP_FILTER_FLAG_TSYNC
	)
	call, action := uint32(syscall.SYS_GETSID), uint32(fail)|uint32(syscall.EPERM)
	switch name {
	case "clone":
		call, action = syscall.SYS_CLONE, kill
	case "wait":
		call, action = syscall.SYS_WAIT4, kill
	case "close":
		call = closeRange
	}
	program := []syscall.SockFilter{
		{Code: load, K: number},
		{Code: jumpEqual, K: call, Jf: 3},
		{Code: load, K: first},
		{Code: jumpSet, K: syscall.CLONE_THREAD, Jt: 1},
		{Code: answer, K: action},
		{Code: answer, K: allow},
	}
	if name == "close" {
		// Its first argument is 0.
		program[3].K = 1 << 31
	}
	all := syscall.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, errno := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return errno.Error()
	}
	_, _, errno := syscall.Syscall(seccomp, modeFilter, allThreads, uintptr(unsafe.Pointer(&all)))
	if errno != 0 {
		return errno.Error()
	}
	return "set"
}
