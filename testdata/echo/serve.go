package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// tally counts what one connection's calls returned.
type tally struct {
	FD        int    `json:"fd"`
	Local     string `json:"local"`
	Remote    string `json:"remote"`
	Reads     int64  `json:"reads"`      // Reads that returned
	ReadData  int64  `json:"read_data"`  // … with n > 0
	ReadEOF   int64  `json:"read_eof"`   // … with io.EOF
	ReadErr   int64  `json:"read_err"`   // … with another error
	ReadBytes int64  `json:"read_bytes"` // sum of n
	Writes    int64  `json:"writes"`
	WriteErr  int64  `json:"write_err"`
	WriteByte int64  `json:"write_bytes"`
	Closes    int64  `json:"closes"`
}

// counts is the answer to the control line of that name.
type counts struct {
	Pid     int      `json:"pid"`
	Accepts int64    `json:"accepts"`
	Open    int64    `json:"open"`
	Total   tally    `json:"total"`
	Conns   []*tally `json:"conns"`
}

type server struct {
	accepts, open atomic.Int64
	reads         atomic.Int64 // of all connections, for -rate
	bytes         atomic.Int64

	mu    sync.Mutex
	conns []*tally
	size  int
}

func (s *server) track(t *tally) *tally {
	s.mu.Lock()
	s.conns = append(s.conns, t)
	s.mu.Unlock()
	return t
}

func (s *server) counts() counts {
	c := counts{Pid: os.Getpid(), Accepts: s.accepts.Load(), Open: s.open.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.conns {
		one := &tally{
			FD: t.FD, Local: t.Local, Remote: t.Remote,
			Reads:     atomic.LoadInt64(&t.Reads),
			ReadData:  atomic.LoadInt64(&t.ReadData),
			ReadEOF:   atomic.LoadInt64(&t.ReadEOF),
			ReadErr:   atomic.LoadInt64(&t.ReadErr),
			ReadBytes: atomic.LoadInt64(&t.ReadBytes),
			Writes:    atomic.LoadInt64(&t.Writes),
			WriteErr:  atomic.LoadInt64(&t.WriteErr),
			WriteByte: atomic.LoadInt64(&t.WriteByte),
			Closes:    atomic.LoadInt64(&t.Closes),
		}
		c.Conns = append(c.Conns, one)
		c.Total.Reads += one.Reads
		c.Total.ReadData += one.ReadData
		c.Total.ReadEOF += one.ReadEOF
		c.Total.ReadErr += one.ReadErr
		c.Total.ReadBytes += one.ReadBytes
		c.Total.Writes += one.Writes
		c.Total.WriteErr += one.WriteErr
		c.Total.WriteByte += one.WriteByte
		c.Total.Closes += one.Closes
	}
	return c
}

// countRead books what one Read returned.
func (s *server) countRead(t *tally, n int, err error) {
	atomic.AddInt64(&t.Reads, 1)
	atomic.AddInt64(&t.ReadBytes, int64(n))
	s.reads.Add(1)
	s.bytes.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		atomic.AddInt64(&t.ReadEOF, 1)
	case err != nil:
		atomic.AddInt64(&t.ReadErr, 1)
	}
	if n > 0 {
		atomic.AddInt64(&t.ReadData, 1)
	}
}

// countWrite books what one Write returned.
func (s *server) countWrite(t *tally, n int, err error) {
	atomic.AddInt64(&t.Writes, 1)
	atomic.AddInt64(&t.WriteByte, int64(n))
	if err != nil {
		atomic.AddInt64(&t.WriteErr, 1)
	}
}

// echoTCP answers one connection. Read and Write are called on the concrete
// type: the compiler calls net.(*conn).Read itself, no wrapper.
//
//go:noinline
func (s *server) echoTCP(c *net.TCPConn, t *tally) {
	buf := make([]byte, s.size)
	for {
		n, err := c.Read(buf)
		s.countRead(t, n, err)
		if n > 0 {
			w, werr := c.Write(buf[:n])
			s.countWrite(t, w, werr)
			if werr != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	c.Close()
	atomic.AddInt64(&t.Closes, 1)
	s.open.Add(-1)
}

// echoUnix is echoTCP for a Unix stream socket.
//
//go:noinline
func (s *server) echoUnix(c *net.UnixConn, t *tally) {
	buf := make([]byte, s.size)
	for {
		n, err := c.Read(buf)
		s.countRead(t, n, err)
		if n > 0 {
			w, werr := c.Write(buf[:n])
			s.countWrite(t, w, werr)
		}
		if err != nil {
			break
		}
	}
	c.Close()
	atomic.AddInt64(&t.Closes, 1)
	s.open.Add(-1)
}

// echoUDP answers every datagram of one socket.
//
//go:noinline
func (s *server) echoUDP(c *net.UDPConn, t *tally) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buf)
		s.countRead(t, n, err)
		if err != nil {
			return
		}
		w, werr := c.WriteTo(buf[:n], from)
		s.countWrite(t, w, werr)
	}
}

func fdOf(c syscall.Conn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1
	}
	fd := -1
	raw.Control(func(f uintptr) { fd = int(f) })
	return fd
}

func (s *server) acceptTCP(ln *net.TCPListener) {
	for {
		c, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		s.accepts.Add(1)
		s.open.Add(1)
		t := s.track(&tally{FD: fdOf(c), Local: c.LocalAddr().String(), Remote: c.RemoteAddr().String()})
		go s.echoTCP(c, t)
	}
}

func (s *server) acceptUnix(ln *net.UnixListener) {
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		s.accepts.Add(1)
		s.open.Add(1)
		t := s.track(&tally{FD: fdOf(c), Local: c.LocalAddr().String(), Remote: c.RemoteAddr().String()})
		go s.echoUnix(c, t)
	}
}

// listen opens the socket and answers in the background; it returns the
// address as a client has to dial it.
func (s *server) listen(network, addr string) string {
	switch network {
	case "udp":
		at, err := net.ResolveUDPAddr(network, addr)
		if err != nil {
			fail(err.Error())
		}
		c, err := net.ListenUDP(network, at)
		if err != nil {
			fail(err.Error())
		}
		t := s.track(&tally{FD: fdOf(c), Local: c.LocalAddr().String()})
		go s.echoUDP(c, t)
		return c.LocalAddr().String()
	default:
		ln, err := net.Listen(network, addr)
		if err != nil {
			fail(err.Error())
		}
		switch ln := ln.(type) {
		case *net.TCPListener:
			go s.acceptTCP(ln)
		case *net.UnixListener:
			go s.acceptUnix(ln)
		}
		return ln.Addr().String()
	}
}

func serve(args []string) {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	network := flags.String("network", "tcp", "tcp, unix or udp")
	addr := flags.String("addr", "127.0.0.1:0", "where to listen")
	size := flags.Int("buf", 4096, "size of the read buffer")
	rate := flags.Bool("rate", false, "print `rate N` (Reads returned) each second")
	tick := flags.Bool("ticker", false, "run a 1 ms ticker; the control line `ticker` asks for its worst stall")
	threads := flags.Int("threads", 0, "OS threads to lock and block")
	mdwe := flags.Bool("mdwe", false, "refuse memory that becomes executable (MemoryDenyWriteExecute)")
	keep := flags.Bool("keep", false, "go on when stdin ends")
	calls := flags.Int64("exit-after", 0, "exit with code 7 after so many Reads")
	flags.Parse(args)

	if *mdwe {
		// prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), Linux 6.3.
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, 65, 1, 0, 0, 0, 0); errno != 0 {
			fail("prctl(PR_SET_MDWE): " + errno.Error())
		}
	}
	lockThreads(*threads)
	s := &server{size: *size}
	var stall stall
	if *tick {
		go stall.run()
	}
	at := s.listen(*network, *addr)
	say(fmt.Sprintf("listening %s pid %d", at, os.Getpid()), nil)
	if *rate {
		go func() {
			last := int64(0)
			for range time.Tick(time.Second) {
				now := s.reads.Load()
				say("rate "+strconv.FormatInt(now-last, 10), nil)
				last = now
			}
		}()
	}
	if *calls > 0 {
		go func() {
			for s.reads.Load() < *calls {
				time.Sleep(time.Millisecond)
			}
			os.Exit(7)
		}()
	}
	control(map[string]func(string){
		"counts": func(string) { say("counts", s.counts()) },
		"reads":  func(string) { say("reads", s.reads.Load()) },
		"ticker": func(string) { say("ticker", stall.take()) },
		"sigactions": func(string) {
			say("sigactions", sigactions())
		},
		"gc":   func(string) { runtime.GC(); say("gc", nil) },
		"ping": func(rest string) { say("pong "+rest, nil) },
		"exit": func(rest string) {
			code, _ := strconv.Atoi(rest)
			say("counts", s.counts())
			os.Exit(code)
		},
	})
	if *keep {
		select {}
	}
	say("counts", s.counts())
}

func lockThreads(n int) {
	var up sync.WaitGroup
	for i := 0; i < n; i++ {
		up.Add(1)
		go func() {
			runtime.LockOSThread()
			up.Done()
			// A futex of its own: the thread stays, and costs nothing.
			select {}
		}()
	}
	up.Wait()
}
