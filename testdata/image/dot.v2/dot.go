// Package dot has a dot in the last element of its import path, which the
// linker writes as %2e.
package dot

//go:noinline
func Twice(n int) int { return n + n }
