//go:build !cgoprobe

package main

const hasC = false

func parkC() {}
