//go:build go1.20

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

func newer() {
	add(errors.Join(io.EOF, fs.ErrExist, fmt.Errorf("third: %w", io.ErrShortWrite)))
	add(errors.Join(io.EOF))
	add(fmt.Errorf("two: %w, %w", io.EOF, fs.ErrExist))
	add(&tls.CertificateVerificationError{Err: io.EOF})
}
