//go:build usecgo

package main

// static int three(void) { return 3; }
import "C"

func init() { fromC = int(C.three()) }
