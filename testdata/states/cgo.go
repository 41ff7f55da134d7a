//go:build cgoprobe

package main

// #include <unistd.h>
// static void wait_in_c(void) { for (;;) pause(); }
import "C"

const hasC = true

//go:noinline
func parkInC() { C.wait_in_c() }

func parkC() { go parkInC() }
