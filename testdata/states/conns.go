package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// wait is what one goroutine waits for.
type wait struct {
	Goid    int    `json:"goid"`
	FD      int    `json:"fd"`
	Network string `json:"network"`
	Local   string `json:"local"`
	Remote  string `json:"remote"`
	Mode    string `json:"mode"`
}

var (
	waits   []wait
	waitsMu sync.Mutex
	started sync.WaitGroup
)

func fdOf(c interface{}) (fd int) {
	raw, err := c.(syscall.Conn).SyscallConn()
	must(err)
	must(raw.Control(func(f uintptr) { fd = int(f) }))
	return
}

// waiting starts f, which waits for c in that way.
func waiting(c interface{}, mode string, f func()) {
	w := wait{FD: fdOf(c), Mode: mode}
	if c, ok := c.(net.Conn); ok {
		w.Network = c.LocalAddr().Network()
		w.Local = c.LocalAddr().String()
		if c.RemoteAddr() != nil {
			w.Remote = c.RemoteAddr().String()
		}
	} else {
		w.Network = "pipe"
	}
	started.Add(1)
	go func() {
		w.Goid = goid()
		waitsMu.Lock()
		waits = append(waits, w)
		waitsMu.Unlock()
		started.Done()
		f()
	}()
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// connect makes n connections of each kind. Of TCP ones every fourth is
// written to until nothing goes in any more.
func connect(n int) []wait {
	config := &tls.Config{Certificates: []tls.Certificate{certificate()}}
	for i := 0; i < n; i++ {
		client, server := pair("tcp", "127.0.0.1:0")
		parked = append(parked, client, server)
		if i%4 == 3 {
			waiting(client, "write", func() { parkNetWrite(client) })
		} else {
			if i%2 == 0 {
				must(server.SetReadDeadline(time.Now().Add(time.Hour)))
			}
			waiting(server, "read", func() { parkNetRead(server) })
		}

		near, far := pair("unix", fmt.Sprintf("@states-%d-%d", os.Getpid(), i))
		parked = append(parked, near, far)
		waiting(far, "read", func() { parkNetRead(far) })

		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		must(err)
		waiting(udp, "read", func() { udp.ReadFrom(make([]byte, 100)) })

		r, w, err := os.Pipe()
		must(err)
		parked = append(parked, w)
		waiting(r, "read", func() { r.Read(make([]byte, 1)) })

		raw1, raw2 := pair("tcp", "127.0.0.1:0")
		outer, inner := tls.Client(raw1, &tls.Config{InsecureSkipVerify: true}), tls.Server(raw2, config)
		done := make(chan bool)
		go func() {
			must(outer.Handshake())
			close(done)
		}()
		must(inner.Handshake())
		<-done
		parked = append(parked, outer, inner)
		waiting(raw2, "read", func() { inner.Read(make([]byte, 10)) })
	}
	started.Wait()
	return waits
}
