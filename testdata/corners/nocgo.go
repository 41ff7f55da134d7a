//go:build !cgoprobe

package main

func share() int   { return -1 }
func unshare() int { return -1 }
func vfork() int   { return -1 }
func unvfork() int { return -1 }

func execWhen(string) int { return -1 }
