// Parked keeps goroutines blocked in known places and tells what it knows of
// them. It answers lines on its standard input:
//
//	dump   runtime.Stack of all goroutines, then a line "end"
//	finish ends the program
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

var (
	out     sync.Mutex
	started sync.WaitGroup
)

func say(format string, args ...any) {
	out.Lock()
	defer out.Unlock()
	fmt.Printf(format+"\n", args...)
}

func goid() (id int) {
	var buf [64]byte
	n := runtime.Stack(buf[:], false)
	fmt.Sscanf(string(buf[:n]), "goroutine %d ", &id)
	return
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func fdOf(c syscall.Conn) (fd int) {
	raw, err := c.SyscallConn()
	must(err)
	must(raw.Control(func(f uintptr) { fd = int(f) }))
	return
}

type named interface {
	syscall.Conn
	net.Conn
}

func words(c net.Conn) [2]uintptr { return *(*[2]uintptr)(unsafe.Pointer(&c)) }

// tell prints what kind of receiver it is, its address, fd and both ends.
func tell(kind string, c named) {
	at := words(c)[1]
	netfd := *(*uintptr)(unsafe.Pointer(at))
	remote := "-"
	if c.RemoteAddr() != nil {
		remote = c.RemoteAddr().String()
	}
	local := c.LocalAddr().String()
	if local == "" {
		local = "-"
	}
	if remote == "" {
		remote = "-"
	}
	net := c.LocalAddr().Network()
	say("conn %s %#x %d %s %s %s", kind, at, fdOf(c), net, local, remote)
	say("conn netfd %#x %d %s %s %s", netfd, fdOf(c), net, local, remote)
	say("conn pollfd %#x %d %s %s %s", netfd, fdOf(c), net, local, remote)
	w := words(c)
	say("iface %s %#x %#x %d %s %s %s", kind, w[0], w[1], fdOf(c), net, local, remote)
}

// wrapped is a program's own connection type around another.
type wrapped struct {
	count int
	net.Conn
}

// park starts f, which is going to block, in a goroutine of its own.
func park(role string, f func()) {
	started.Add(1)
	go func() {
		say("goid %d %s", goid(), role)
		started.Done()
		f()
	}()
}

//go:noinline
func deep(n int, f func()) {
	if n > 0 {
		deep(n-1, f)
		runtime.KeepAlive(n)
		return
	}
	f()
	runtime.KeepAlive(n)
}

func pair(network, address string) (client, server net.Conn) {
	l, err := net.Listen(network, address)
	must(err)
	done := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		must(err)
		done <- c
	}()
	client, err = net.Dial(network, l.Addr().String())
	must(err)
	return client, <-done
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func main() {
	keep := []any{}

	for i, network := range []string{"tcp4", "tcp6", "unix"} {
		address := []string{"127.0.0.1:0", "[::1]:0", fmt.Sprintf("@parked-%d", os.Getpid())}[i]
		client, server := pair(network, address)
		keep = append(keep, client, server)
		tell("conn", client.(named))
		tell("conn", server.(named))
		park("read "+network, func() { server.Read(make([]byte, 1000)) })
		w := &wrapped{7, client}
		keep = append(keep, w)
		ww := words(w)
		c := client.(named)
		if network == "tcp4" {
			say("iface wrapped %#x %#x %d tcp %s %s", ww[0], ww[1], fdOf(c), c.LocalAddr(), c.RemoteAddr())
		}
	}

	client, server := pair("tcp4", "127.0.0.1:0")
	park("deep read", func() { deep(40, func() { server.Read(make([]byte, 10)) }) })
	keep = append(keep, client)

	raw1, raw2 := pair("tcp4", "127.0.0.1:0")
	ts := tls.Server(raw2, &tls.Config{Certificates: []tls.Certificate{certificate()}})
	tc := tls.Client(raw1, &tls.Config{InsecureSkipVerify: true})
	go tc.Handshake()
	must(ts.Handshake())
	c := raw2.(named)
	say("conn tls %p %d tcp %s %s", ts, fdOf(c), c.LocalAddr(), c.RemoteAddr())
	park("tls read", func() { ts.Read(make([]byte, 10)) })
	keep = append(keep, tc)

	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(err)
	u := udp.(*net.UDPConn)
	say("conn conn %p %d udp %s -", u, fdOf(u), u.LocalAddr())
	park("udp read", func() { udp.ReadFrom(make([]byte, 100)) })

	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err)
	tl := l.(*net.TCPListener)
	say("conn tcplistener %p %d tcp %s -", tl, fdOf(tl), tl.Addr())
	park("accept", func() { l.Accept() })

	gone, gone2 := pair("tcp4", "127.0.0.1:0")
	must(gone.Close())
	say("closed conn %#x", words(gone)[1])
	keep = append(keep, gone, gone2)

	pr, pw, err := os.Pipe()
	must(err)
	say("file %p %d", pr, fdOf(pr))
	park("pipe read", func() { pr.Read(make([]byte, 1)) })
	keep = append(keep, pw)

	var pipe [2]int
	must(syscall.Pipe(pipe[:]))
	park("syscall", func() { syscall.Read(pipe[0], make([]byte, 1)) })

	ch := make(chan int)
	park("chan receive", func() { <-ch })
	var mu sync.Mutex
	mu.Lock()
	park("mutex", func() { mu.Lock() })
	park("sleep", func() { time.Sleep(time.Hour) })
	park("select", func() {
		select {
		case <-ch:
		case <-make(chan bool):
		}
	})
	park("preempted", func() {
		n := 0
		for {
			n++
		}
	})

	started.Wait()
	say("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch lines.Text() {
		case "dump":
			buf := make([]byte, 1<<20)
			n := runtime.Stack(buf, true)
			say("%s\nend", buf[:n])
		case "finish":
			runtime.KeepAlive(keep)
			return
		}
	}
	runtime.KeepAlive(keep)
}
