//! The table: one line a function.

use super::{Buffer, Family, Flow, Gives, Receiver};
use Receiver::{Conn, File, HttpConn, Interface, InterfaceAt, NetFd, PollFd, TcpListener};
use Receiver::{TlsConn, UnixListener};

const fn on(kind: Receiver, flow: Flow, err: u8) -> Family {
    Family {
        receiver: Some((0, kind)),
        flow,
        buffer: None,
        n: None,
        err: Some(err),
        gives: None,
    }
}

/// `(b []byte, …) (n, …, err)` of a method.
const fn bytes(kind: Receiver, flow: Flow, err: u8) -> Family {
    Family {
        buffer: Some(Buffer { ptr: 1, len: 2 }),
        n: Some(0),
        ..on(kind, flow, err)
    }
}

const fn reads(kind: Receiver, err: u8) -> Family {
    bytes(kind, Flow::In, err)
}

const fn writes(kind: Receiver, err: u8) -> Family {
    bytes(kind, Flow::Out, err)
}

/// `() error` and the like.
const fn control(kind: Receiver) -> Family {
    on(kind, Flow::Both, 0)
}

/// `(…) (n int64, err error)` without a buffer of its own.
const fn copies(kind: Receiver, flow: Flow) -> Family {
    Family {
        n: Some(0),
        ..on(kind, flow, 1)
    }
}

/// The connection is not the first argument.
const fn at(register: u8, family: Family) -> Family {
    let kind = match family.receiver {
        Some((_, kind)) => kind,
        None => Receiver::Fd,
    };
    Family {
        receiver: Some((register, kind)),
        ..family
    }
}

/// Returns a connection first, then its error.
const fn gives(receiver: Option<Receiver>, flow: Flow, kind: Receiver) -> Family {
    Family {
        receiver: match receiver {
            Some(r) => Some((0, r)),
            None => None,
        },
        flow,
        buffer: None,
        n: None,
        err: Some(if matches!(kind, Interface) { 2 } else { 1 }),
        gives: Some(Gives { register: 0, kind }),
    }
}

const fn accepts(listener: Receiver, kind: Receiver) -> Family {
    gives(Some(listener), Flow::In, kind)
}

const fn dials(kind: Receiver) -> Family {
    gives(None, Flow::Out, kind)
}

const fn listens(kind: Receiver) -> Family {
    gives(None, Flow::Both, kind)
}

pub(super) const TABLE: &[(&str, Family)] = &[
    // net.conn: what TCPConn, UDPConn, UnixConn and IPConn embed (net/net.go).
    ("net.(*conn).Read", reads(Conn, 1)),
    ("net.(*conn).Write", writes(Conn, 1)),
    ("net.(*conn).Close", control(Conn)),
    ("net.(*conn).SetDeadline", control(Conn)),
    ("net.(*conn).SetReadDeadline", control(Conn)),
    ("net.(*conn).SetWriteDeadline", control(Conn)),
    ("net.(*conn).SetReadBuffer", control(Conn)),
    ("net.(*conn).SetWriteBuffer", control(Conn)),
    ("net.(*conn).writeBuffers", copies(Conn, Flow::Out)),
    ("net.(*conn).File", on(Conn, Flow::Both, 1)),
    // The promoted ones, where the compiler made frames of their own.
    ("net.(*TCPConn).Read", reads(Conn, 1)),
    ("net.(*TCPConn).Write", writes(Conn, 1)),
    ("net.(*TCPConn).Close", control(Conn)),
    ("net.(*TCPConn).SetDeadline", control(Conn)),
    ("net.(*TCPConn).SetReadDeadline", control(Conn)),
    ("net.(*TCPConn).SetWriteDeadline", control(Conn)),
    ("net.(*UDPConn).Read", reads(Conn, 1)),
    ("net.(*UDPConn).Write", writes(Conn, 1)),
    ("net.(*UDPConn).Close", control(Conn)),
    ("net.(*UDPConn).SetDeadline", control(Conn)),
    ("net.(*UDPConn).SetReadDeadline", control(Conn)),
    ("net.(*UDPConn).SetWriteDeadline", control(Conn)),
    ("net.(*UnixConn).Read", reads(Conn, 1)),
    ("net.(*UnixConn).Write", writes(Conn, 1)),
    ("net.(*UnixConn).Close", control(Conn)),
    ("net.(*UnixConn).SetDeadline", control(Conn)),
    ("net.(*UnixConn).SetReadDeadline", control(Conn)),
    ("net.(*UnixConn).SetWriteDeadline", control(Conn)),
    ("net.(*IPConn).Read", reads(Conn, 1)),
    ("net.(*IPConn).Write", writes(Conn, 1)),
    ("net.(*IPConn).Close", control(Conn)),
    // net/tcpsock.go
    ("net.(*TCPConn).ReadFrom", copies(Conn, Flow::Out)),
    ("net.(*TCPConn).readFrom", copies(Conn, Flow::Out)),
    ("net.(*TCPConn).WriteTo", copies(Conn, Flow::In)),
    ("net.(*TCPConn).writeTo", copies(Conn, Flow::In)),
    ("net.(*TCPConn).CloseRead", control(Conn)),
    ("net.(*TCPConn).CloseWrite", control(Conn)),
    ("net.(*TCPConn).SetLinger", control(Conn)),
    ("net.(*TCPConn).SetNoDelay", control(Conn)),
    ("net.(*TCPConn).SetKeepAlive", control(Conn)),
    ("net.(*TCPConn).SetKeepAlivePeriod", control(Conn)),
    ("net.(*TCPConn).SetKeepAliveConfig", control(Conn)),
    ("net.genericReadFrom", copies(Conn, Flow::Out)),
    ("net.genericWriteTo", copies(Conn, Flow::In)),
    ("net.sendFile", copies(NetFd, Flow::Out)),
    ("net.splice", copies(NetFd, Flow::Out)),
    ("net.spliceFrom", copies(NetFd, Flow::Out)),
    ("net.spliceTo", at(2, copies(NetFd, Flow::In))),
    // net/udpsock.go; a netip.AddrPort takes four registers.
    ("net.(*UDPConn).ReadFrom", reads(Conn, 3)),
    ("net.(*UDPConn).ReadFromUDP", reads(Conn, 2)),
    ("net.(*UDPConn).readFromUDP", reads(Conn, 2)),
    ("net.(*UDPConn).readFrom", reads(Conn, 2)),
    ("net.(*UDPConn).ReadFromUDPAddrPort", reads(Conn, 5)),
    ("net.(*UDPConn).readFromAddrPort", reads(Conn, 5)),
    ("net.(*UDPConn).ReadMsgUDP", reads(Conn, 4)),
    ("net.(*UDPConn).ReadMsgUDPAddrPort", reads(Conn, 7)),
    ("net.(*UDPConn).readMsg", reads(Conn, 7)),
    ("net.(*UDPConn).WriteTo", writes(Conn, 1)),
    ("net.(*UDPConn).WriteToUDP", writes(Conn, 1)),
    ("net.(*UDPConn).WriteToUDPAddrPort", writes(Conn, 1)),
    ("net.(*UDPConn).writeTo", writes(Conn, 1)),
    ("net.(*UDPConn).writeToAddrPort", writes(Conn, 1)),
    ("net.(*UDPConn).WriteMsgUDP", writes(Conn, 2)),
    ("net.(*UDPConn).WriteMsgUDPAddrPort", writes(Conn, 2)),
    ("net.(*UDPConn).writeMsg", writes(Conn, 2)),
    ("net.(*UDPConn).writeMsgAddrPort", writes(Conn, 2)),
    // net/unixsock.go
    ("net.(*UnixConn).ReadFrom", reads(Conn, 3)),
    ("net.(*UnixConn).ReadFromUnix", reads(Conn, 2)),
    ("net.(*UnixConn).readFrom", reads(Conn, 2)),
    ("net.(*UnixConn).ReadMsgUnix", reads(Conn, 4)),
    ("net.(*UnixConn).readMsg", reads(Conn, 4)),
    ("net.(*UnixConn).WriteTo", writes(Conn, 1)),
    ("net.(*UnixConn).WriteToUnix", writes(Conn, 1)),
    ("net.(*UnixConn).writeTo", writes(Conn, 1)),
    ("net.(*UnixConn).WriteMsgUnix", writes(Conn, 2)),
    ("net.(*UnixConn).writeMsg", writes(Conn, 2)),
    ("net.(*UnixConn).CloseRead", control(Conn)),
    ("net.(*UnixConn).CloseWrite", control(Conn)),
    // net/iprawsock.go
    ("net.(*IPConn).ReadFrom", reads(Conn, 3)),
    ("net.(*IPConn).ReadFromIP", reads(Conn, 2)),
    ("net.(*IPConn).readFrom", reads(Conn, 2)),
    ("net.(*IPConn).ReadMsgIP", reads(Conn, 4)),
    ("net.(*IPConn).readMsg", reads(Conn, 4)),
    ("net.(*IPConn).WriteTo", writes(Conn, 1)),
    ("net.(*IPConn).WriteToIP", writes(Conn, 1)),
    ("net.(*IPConn).writeTo", writes(Conn, 1)),
    ("net.(*IPConn).WriteMsgIP", writes(Conn, 2)),
    ("net.(*IPConn).writeMsg", writes(Conn, 2)),
    // Gathered writes: the connection is the io.Writer in registers 1 and 2.
    (
        "net.(*Buffers).WriteTo",
        at(1, copies(Interface, Flow::Out)),
    ),
    // Listeners.
    ("net.(*TCPListener).Accept", accepts(TcpListener, Interface)),
    ("net.(*TCPListener).AcceptTCP", accepts(TcpListener, Conn)),
    ("net.(*TCPListener).accept", accepts(TcpListener, Conn)),
    ("net.(*TCPListener).Close", control(TcpListener)),
    ("net.(*TCPListener).close", control(TcpListener)),
    ("net.(*TCPListener).SetDeadline", control(TcpListener)),
    (
        "net.(*UnixListener).Accept",
        accepts(UnixListener, Interface),
    ),
    (
        "net.(*UnixListener).AcceptUnix",
        accepts(UnixListener, Conn),
    ),
    ("net.(*UnixListener).accept", accepts(UnixListener, Conn)),
    ("net.(*UnixListener).Close", control(UnixListener)),
    ("net.(*UnixListener).close", control(UnixListener)),
    ("net.(*UnixListener).SetDeadline", control(UnixListener)),
    (
        "crypto/tls.(*listener).Accept",
        accepts(InterfaceAt, Interface),
    ),
    // Dialers (net/dial.go); the Dialer itself holds no connection.
    ("net.Dial", dials(Interface)),
    ("net.DialTimeout", dials(Interface)),
    ("net.DialTCP", dials(Conn)),
    ("net.DialUDP", dials(Conn)),
    ("net.DialUnix", dials(Conn)),
    ("net.DialIP", dials(Conn)),
    ("net.dialTCP", dials(Conn)),
    ("net.dialUDP", dials(Conn)),
    ("net.dialUnix", dials(Conn)),
    ("net.dialIP", dials(Conn)),
    ("net.(*Dialer).Dial", dials(Interface)),
    ("net.(*Dialer).DialContext", dials(Interface)),
    ("net.(*Dialer).DialTCP", dials(Conn)),
    ("net.(*Dialer).DialUDP", dials(Conn)),
    ("net.(*Dialer).DialUnix", dials(Conn)),
    ("net.(*Dialer).DialIP", dials(Conn)),
    ("net.(*sysDialer).dialParallel", dials(Interface)),
    ("net.(*sysDialer).dialSerial", dials(Interface)),
    ("net.(*sysDialer).dialSingle", dials(Interface)),
    ("net.(*sysDialer).dialTCP", dials(Conn)),
    ("net.(*sysDialer).doDialTCP", dials(Conn)),
    ("net.(*sysDialer).doDialTCPProto", dials(Conn)),
    ("net.(*sysDialer).dialUDP", dials(Conn)),
    ("net.(*sysDialer).dialUnix", dials(Conn)),
    ("net.(*sysDialer).dialIP", dials(Conn)),
    ("crypto/tls.Dial", dials(TlsConn)),
    ("crypto/tls.DialWithDialer", dials(TlsConn)),
    ("crypto/tls.(*Dialer).Dial", dials(Interface)),
    ("crypto/tls.(*Dialer).DialContext", dials(Interface)),
    ("net.Listen", listens(Interface)),
    ("net.ListenPacket", listens(Interface)),
    ("net.ListenTCP", listens(TcpListener)),
    ("net.ListenUnix", listens(UnixListener)),
    ("net.ListenUDP", listens(Conn)),
    ("net.ListenMulticastUDP", listens(Conn)),
    ("net.ListenUnixgram", listens(Conn)),
    ("net.ListenIP", listens(Conn)),
    ("net.(*ListenConfig).Listen", listens(Interface)),
    ("net.(*ListenConfig).ListenPacket", listens(Interface)),
    // net.netFD (net/fd_unix.go, net/fd_posix.go)
    ("net.(*netFD).Read", reads(NetFd, 1)),
    ("net.(*netFD).Write", writes(NetFd, 1)),
    ("net.(*netFD).Close", control(NetFd)),
    ("net.(*netFD).accept", accepts(NetFd, NetFd)),
    ("net.(*netFD).connect", on(NetFd, Flow::Out, 2)),
    ("net.(*netFD).dial", on(NetFd, Flow::Out, 0)),
    ("net.(*netFD).listenStream", control(NetFd)),
    ("net.(*netFD).listenDatagram", control(NetFd)),
    ("net.(*netFD).shutdown", control(NetFd)),
    ("net.(*netFD).closeRead", control(NetFd)),
    ("net.(*netFD).closeWrite", control(NetFd)),
    ("net.(*netFD).SetDeadline", control(NetFd)),
    ("net.(*netFD).SetReadDeadline", control(NetFd)),
    ("net.(*netFD).SetWriteDeadline", control(NetFd)),
    ("net.(*netFD).writeBuffers", copies(NetFd, Flow::Out)),
    ("net.(*netFD).readFrom", reads(NetFd, 3)),
    ("net.(*netFD).readFromInet4", reads(NetFd, 1)),
    ("net.(*netFD).readFromInet6", reads(NetFd, 1)),
    ("net.(*netFD).readMsg", reads(NetFd, 5)),
    ("net.(*netFD).readMsgInet4", reads(NetFd, 3)),
    ("net.(*netFD).readMsgInet6", reads(NetFd, 3)),
    ("net.(*netFD).writeTo", writes(NetFd, 1)),
    ("net.(*netFD).writeToInet4", writes(NetFd, 1)),
    ("net.(*netFD).writeToInet6", writes(NetFd, 1)),
    ("net.(*netFD).writeMsg", writes(NetFd, 2)),
    ("net.(*netFD).writeMsgInet4", writes(NetFd, 2)),
    ("net.(*netFD).writeMsgInet6", writes(NetFd, 2)),
    // internal/poll.FD (internal/poll/fd_unix.go)
    ("internal/poll.(*FD).Read", reads(PollFd, 1)),
    ("internal/poll.(*FD).Write", writes(PollFd, 1)),
    ("internal/poll.(*FD).WriteOnce", writes(PollFd, 1)),
    ("internal/poll.(*FD).Pread", reads(PollFd, 1)),
    ("internal/poll.(*FD).Pwrite", writes(PollFd, 1)),
    ("internal/poll.(*FD).Close", control(PollFd)),
    ("internal/poll.(*FD).Shutdown", control(PollFd)),
    ("internal/poll.(*FD).Fsync", control(PollFd)),
    ("internal/poll.(*FD).WaitWrite", control(PollFd)),
    ("internal/poll.(*FD).SetDeadline", control(PollFd)),
    ("internal/poll.(*FD).SetReadDeadline", control(PollFd)),
    ("internal/poll.(*FD).SetWriteDeadline", control(PollFd)),
    ("internal/poll.(*FD).RawControl", control(PollFd)),
    ("internal/poll.(*FD).RawRead", on(PollFd, Flow::In, 0)),
    ("internal/poll.(*FD).RawWrite", on(PollFd, Flow::Out, 0)),
    (
        "internal/poll.(*FD).Accept",
        Family {
            gives: Some(Gives {
                register: 0,
                kind: Receiver::Fd,
            }),
            ..on(PollFd, Flow::In, 5)
        },
    ),
    ("internal/poll.(*FD).ReadFrom", reads(PollFd, 3)),
    ("internal/poll.(*FD).ReadFromInet4", reads(PollFd, 1)),
    ("internal/poll.(*FD).ReadFromInet6", reads(PollFd, 1)),
    ("internal/poll.(*FD).ReadMsg", reads(PollFd, 5)),
    ("internal/poll.(*FD).ReadMsgInet4", reads(PollFd, 3)),
    ("internal/poll.(*FD).ReadMsgInet6", reads(PollFd, 3)),
    ("internal/poll.(*FD).ReadDirent", reads(PollFd, 1)),
    ("internal/poll.(*FD).WriteTo", writes(PollFd, 1)),
    ("internal/poll.(*FD).WriteToInet4", writes(PollFd, 1)),
    ("internal/poll.(*FD).WriteToInet6", writes(PollFd, 1)),
    ("internal/poll.(*FD).WriteMsg", writes(PollFd, 2)),
    ("internal/poll.(*FD).WriteMsgInet4", writes(PollFd, 2)),
    ("internal/poll.(*FD).WriteMsgInet6", writes(PollFd, 2)),
    ("internal/poll.(*FD).Writev", copies(PollFd, Flow::Out)),
    ("internal/poll.SendFile", copies(PollFd, Flow::Out)),
    (
        "internal/poll.Splice",
        Family {
            err: Some(2),
            ..copies(PollFd, Flow::Out)
        },
    ),
    (
        "internal/poll.CopyFileRange",
        Family {
            err: Some(2),
            ..copies(PollFd, Flow::Out)
        },
    ),
    // crypto/tls.Conn (crypto/tls/conn.go)
    ("crypto/tls.(*Conn).Read", reads(TlsConn, 1)),
    ("crypto/tls.(*Conn).Write", writes(TlsConn, 1)),
    ("crypto/tls.(*Conn).Close", control(TlsConn)),
    ("crypto/tls.(*Conn).CloseWrite", control(TlsConn)),
    ("crypto/tls.(*Conn).Handshake", control(TlsConn)),
    ("crypto/tls.(*Conn).HandshakeContext", control(TlsConn)),
    ("crypto/tls.(*Conn).handshakeContext", control(TlsConn)),
    ("crypto/tls.(*Conn).SetDeadline", control(TlsConn)),
    ("crypto/tls.(*Conn).SetReadDeadline", control(TlsConn)),
    ("crypto/tls.(*Conn).SetWriteDeadline", control(TlsConn)),
    (
        "crypto/tls.(*Conn).readRecordOrCCS",
        on(TlsConn, Flow::In, 0),
    ),
    ("crypto/tls.(*Conn).write", writes(TlsConn, 1)),
    ("crypto/tls.(*Conn).flush", copies(TlsConn, Flow::Out)),
    // net/http.conn (net/http/server.go)
    (
        "net/http.(*conn).serve",
        Family {
            err: None,
            ..control(HttpConn)
        },
    ),
    (
        "net/http.(*conn).close",
        Family {
            err: None,
            ..control(HttpConn)
        },
    ),
    ("net/http.(*conn).readRequest", on(HttpConn, Flow::In, 1)),
    // os.File (os/file.go); ReadFrom writes to the file.
    ("os.(*File).Read", reads(File, 1)),
    ("os.(*File).ReadAt", reads(File, 1)),
    ("os.(*File).Write", writes(File, 1)),
    ("os.(*File).WriteAt", writes(File, 1)),
    ("os.(*File).WriteString", writes(File, 1)),
    ("os.(*File).ReadFrom", copies(File, Flow::Out)),
    ("os.(*File).WriteTo", copies(File, Flow::In)),
    ("os.(*File).Close", control(File)),
    ("os.(*File).Sync", control(File)),
    ("os.(*File).Truncate", control(File)),
    ("os.(*File).SetDeadline", control(File)),
    ("os.(*File).SetReadDeadline", control(File)),
    ("os.(*File).SetWriteDeadline", control(File)),
    // syscall: the descriptor's number is the first argument.
    ("syscall.Read", reads(Receiver::Fd, 1)),
    ("syscall.read", reads(Receiver::Fd, 1)),
    ("syscall.Pread", reads(Receiver::Fd, 1)),
    ("syscall.Recvfrom", reads(Receiver::Fd, 3)),
    ("syscall.recvfrom", reads(Receiver::Fd, 1)),
    ("syscall.recvfromInet4", reads(Receiver::Fd, 1)),
    ("syscall.recvfromInet6", reads(Receiver::Fd, 1)),
    ("syscall.Write", writes(Receiver::Fd, 1)),
    ("syscall.write", writes(Receiver::Fd, 1)),
    ("syscall.Pwrite", writes(Receiver::Fd, 1)),
    ("syscall.SendmsgN", writes(Receiver::Fd, 1)),
    (
        "syscall.Sendto",
        Family {
            n: None,
            ..writes(Receiver::Fd, 0)
        },
    ),
    (
        "syscall.sendto",
        Family {
            n: None,
            ..writes(Receiver::Fd, 0)
        },
    ),
    ("syscall.Sendfile", copies(Receiver::Fd, Flow::Out)),
    ("syscall.Close", control(Receiver::Fd)),
    ("syscall.Connect", on(Receiver::Fd, Flow::Out, 0)),
    ("syscall.Shutdown", control(Receiver::Fd)),
    ("syscall.Bind", control(Receiver::Fd)),
    ("syscall.Listen", control(Receiver::Fd)),
    (
        "syscall.Accept4",
        Family {
            gives: Some(Gives {
                register: 0,
                kind: Receiver::Fd,
            }),
            ..on(Receiver::Fd, Flow::In, 3)
        },
    ),
];

pub(super) const PRESET_CONN: &[&str] = &[
    "net.(*conn).Read",
    "net.(*conn).Write",
    "net.(*conn).Close",
    "net.(*conn).SetDeadline",
    "net.(*conn).SetReadDeadline",
    "net.(*conn).SetWriteDeadline",
    "net.(*conn).writeBuffers",
    "net.(*TCPConn).ReadFrom",
    "net.(*TCPConn).WriteTo",
    "net.(*TCPConn).CloseRead",
    "net.(*TCPConn).CloseWrite",
    "net.(*UDPConn).ReadFrom",
    "net.(*UDPConn).ReadFromUDP",
    "net.(*UDPConn).ReadFromUDPAddrPort",
    "net.(*UDPConn).ReadMsgUDP",
    "net.(*UDPConn).ReadMsgUDPAddrPort",
    "net.(*UDPConn).WriteTo",
    "net.(*UDPConn).WriteToUDP",
    "net.(*UDPConn).WriteToUDPAddrPort",
    "net.(*UDPConn).WriteMsgUDP",
    "net.(*UDPConn).WriteMsgUDPAddrPort",
    "net.(*UnixConn).ReadFrom",
    "net.(*UnixConn).ReadFromUnix",
    "net.(*UnixConn).ReadMsgUnix",
    "net.(*UnixConn).WriteTo",
    "net.(*UnixConn).WriteToUnix",
    "net.(*UnixConn).WriteMsgUnix",
    "net.(*UnixConn).CloseRead",
    "net.(*UnixConn).CloseWrite",
    "net.(*IPConn).ReadFrom",
    "net.(*IPConn).ReadFromIP",
    "net.(*IPConn).ReadMsgIP",
    "net.(*IPConn).WriteTo",
    "net.(*IPConn).WriteToIP",
    "net.(*IPConn).WriteMsgIP",
    "net.(*TCPListener).Accept",
    "net.(*TCPListener).AcceptTCP",
    "net.(*TCPListener).Close",
    "net.(*UnixListener).Accept",
    "net.(*UnixListener).AcceptUnix",
    "net.(*UnixListener).Close",
    "net.Dial",
    "net.DialTimeout",
    "net.DialTCP",
    "net.DialUDP",
    "net.DialUnix",
    "net.DialIP",
    "net.(*Dialer).Dial",
    "net.(*Dialer).DialContext",
    "net.(*Dialer).DialTCP",
    "net.(*Dialer).DialUDP",
    "net.(*Dialer).DialUnix",
    "net.(*Dialer).DialIP",
];

/// Thin functions of the list above, and what does their work.
pub(super) const PRESET_INNER: &[(&str, &str)] = &[
    ("net.(*UDPConn).ReadFromUDP", "net.(*UDPConn).readFromUDP"),
    ("net.Dial", "net.(*Dialer).DialContext"),
    ("net.DialTimeout", "net.(*Dialer).DialContext"),
    ("net.(*Dialer).Dial", "net.(*Dialer).DialContext"),
    ("net.DialTCP", "net.dialTCP"),
    ("net.DialUDP", "net.dialUDP"),
    ("net.DialUnix", "net.dialUnix"),
    ("net.DialIP", "net.dialIP"),
];
