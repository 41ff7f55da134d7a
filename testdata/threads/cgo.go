//go:build cgoprobe

package main

// static int one(void) { return 1; }
import "C"

// cgoWorks keeps the C function in: the program is linked by the C linker.
var cgoWorks = C.one()
