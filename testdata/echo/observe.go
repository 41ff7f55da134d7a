package main

import (
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// stall measures by how much a 1 ms tick comes late: what a pause of the
// process looks like from the inside.
type stall struct {
	mu    sync.Mutex
	worst time.Duration
	ticks int64
}

func (s *stall) run() {
	runtime.LockOSThread()
	last := time.Now()
	for {
		time.Sleep(time.Millisecond)
		now := time.Now()
		s.mu.Lock()
		s.ticks++
		if late := now.Sub(last) - time.Millisecond; late > s.worst {
			s.worst = late
		}
		s.mu.Unlock()
		last = now
	}
}

// take answers for the time since it was last asked.
func (s *stall) take() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := map[string]int64{"worst_us": s.worst.Microseconds(), "ticks": s.ticks}
	s.worst, s.ticks = 0, 0
	return answer
}

// sigaction is the kernel's own struct (arch/x86/include/uapi/asm/signal.h).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// sigactions asks the kernel, not the runtime, what every signal does.
func sigactions() map[string]string {
	all := map[string]string{}
	for sig := uintptr(1); sig <= 64; sig++ {
		var act sigaction
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&act)), 8, 0, 0)
		if errno != 0 {
			continue
		}
		hex := func(v uint64) string { return strconv.FormatUint(v, 16) }
		all[strconv.Itoa(int(sig))] = hex(uint64(act.handler)) + " " + hex(act.flags) + " " + hex(uint64(act.restorer)) + " " + hex(act.mask)
	}
	return all
}
