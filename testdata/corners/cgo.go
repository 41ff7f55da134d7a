//go:build cgoprobe

package main

/*
#cgo LDFLAGS: -pthread
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static volatile int told;
static volatile int held;
static char stack[64 << 10];

static void snooze(void) {
	struct timespec t = {0, 1000000};
	nanosleep(&t, NULL);
}

static int shared(void *arg) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!told)
		snooze();
	_exit(3);
}

// Shares memory, is no thread, and nobody waits for its exec.
static int start_sharing(void) {
	told = 0;
	return clone(shared, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
}

static void tell(void) { told = 1; }

// The thread sleeps in vfork until the child ends.
static int hold_in_vfork(void) {
	held = 1;
	int pid = vfork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (held)
			snooze();
		_exit(4);
	}
	return pid;
}

static void release(void) { held = 0; }

static void *exec_when(void *file) {
	char *args[] = {"corners", NULL};
	prctl(PR_SET_NAME, "exec");
	while (access(file, F_OK) != 0)
		snooze();
	execv("/proc/self/exe", args);
	abort();
}

static int start_exec_when(char *file) {
	pthread_t thread;
	return pthread_create(&thread, NULL, exec_when, file);
}
*/
import "C"

var vforked = make(chan int)

func share() int {
	child = int(C.start_sharing())
	return child
}

func unshare() int {
	C.tell()
	return wait(child)
}

func vfork() int {
	go func() { vforked <- int(C.hold_in_vfork()) }()
	return 0
}

func execWhen(file string) int {
	return int(C.start_exec_when(C.CString(file)))
}

func unvfork() int {
	C.release()
	return wait(<-vforked)
}
