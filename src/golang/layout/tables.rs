//! The structs, their fields, and the table of last resort.
//!
//! Each row: the field's path in Go, and its offset in 1.19 … 1.27, measured
//! from DWARF of release toolchains (1.19.13, 1.20.14, 1.21.13, 1.22.10,
//! 1.23.9, 1.24.11, 1.25.5, 1.26.6, 1.27.3); -1: that version has no such
//! field. Early patch releases of 1.23 and 1.24 differ in pollDesc and m.

use super::{Filling, Row};

const fn same(v: i32) -> Row {
    [v; 9]
}

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident = $go:literal {
        $($(#[$fdoc:meta])* $field:ident: $kind:ident $path:literal $row:expr;)*
    }) => {
        $(#[$doc])*
        ///
        /// Byte offsets of its fields.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name { $($(#[$fdoc])* pub $field: layout!(@type $kind),)* }
        impl $name {
            pub(super) fn fill(fill: &mut Filling<'_>) -> Self {
                Self { $($field: fill.$kind($go, $path, &$row),)* }
            }
            /// Go's name of the struct.
            pub const GO: &'static str = $go;
            /// Go's paths of the fields, in the order of this struct; empty: the size.
            pub const PATHS: &'static [&'static str] = &[$($path),*];
        }
    };
    (@type required) => { u64 };
    (@type optional) => { Option<u64> };
}

layout! {
    /// `runtime.g`: a goroutine (runtime/runtime2.go).
    G = "runtime.g" {
        /// Size in bytes.
        size: required "" [392, 392, 408, 424, 432, 440, 440, 456, 456];
        /// Lowest address of its stack.
        stack_lo: required "stack.lo" same(0);
        /// One past the highest address of its stack.
        stack_hi: required "stack.hi" same(8);
        /// What prologues compare the stack pointer with.
        stackguard0: required "stackguard0" same(16);
        /// Innermost panic.
        panic: required "_panic" same(32);
        /// Innermost defer.
        defer: required "_defer" same(40);
        /// The m it runs on, nil when it does not run.
        m: required "m" same(48);
        /// Stack pointer while it does not run.
        sched_sp: required "sched.sp" same(56);
        /// Where it goes on.
        sched_pc: required "sched.pc" same(64);
        /// Frame pointer while it does not run.
        sched_bp: required "sched.bp" [104, 104, 104, 104, 104, 104, 96, 96, 96];
        /// Stack pointer at the system call it is in.
        syscallsp: required "syscallsp" [112, 112, 112, 112, 112, 112, 104, 104, 104];
        /// Where that system call was made.
        syscallpc: required "syscallpc" [120, 120, 120, 120, 120, 120, 112, 112, 112];
        /// Status word; 0x1000 is the scan bit.
        atomicstatus: required "atomicstatus" [144, 144, 144, 144, 152, 152, 144, 144, 144];
        /// Number of the goroutine.
        goid: required "goid" [152, 152, 152, 152, 160, 160, 152, 152, 152];
        /// Since when it is blocked, approximately; 0 unless a GC saw it.
        waitsince: required "waitsince" [168, 168, 168, 168, 176, 176, 168, 168, 168];
        /// Why it waits (u8).
        waitreason: required "waitreason" [176, 176, 176, 176, 184, 184, 176, 176, 176];
        /// It was stopped at a point that is safe for asynchronous preemption.
        async_safe_point: required "asyncSafePoint" [180, 180, 180, 180, 188, 188, 180, 180, 180];
        /// `LockOSThread`.
        lockedm: required "lockedm" [232, 232, 208, 208, 216, 216, 208, 208, 208];
        /// Number of the goroutine that made it.
        parent_goid: optional "parentGoid" [-1, -1, 272, 272, 280, 280, 272, 280, 280];
        /// The `go` statement that made it.
        gopc: required "gopc" [296, 296, 280, 280, 288, 288, 280, 288, 288];
        /// Its function.
        startpc: required "startpc" [312, 312, 296, 296, 304, 304, 296, 304, 304];
        /// sudogs it waits on.
        waiting: required "waiting" [328, 328, 312, 312, 320, 320, 312, 320, 320];
        /// Profiler labels.
        labels: required "labels" [360, 360, 344, 344, 352, 352, 344, 352, 352];
        /// Its timer for time.Sleep.
        timer: required "timer" [368, 368, 352, 352, 360, 360, 352, 360, 360];
        /// When time.Sleep ends, CLOCK_MONOTONIC nanoseconds.
        sleep_when: optional "sleepWhen" [-1, -1, -1, -1, 368, 368, 360, 368, 368];
    }
}

layout! {
    /// `runtime._defer`: a deferred call (runtime/runtime2.go).
    Defer = "runtime._defer" {
        /// Stack pointer of the function that deferred it.
        sp: required "sp" same(8);
        /// What is called: a func value.
        callee: required "fn" same(24);
        /// The next one.
        link: required "link" [40, 40, 40, 32, 32, 32, 32, 32, 32];
        /// Of a loop over a function: where the list begins that its body defers to.
        head: optional "head" [-1, -1, -1, 40, 40, 40, 40, 40, 40];
    }
}

layout! {
    /// `runtime.m`: an OS thread (runtime/runtime2.go).
    M = "runtime.m" {
        /// The goroutine with the scheduling stack.
        g0: required "g0" same(0);
        /// Thread id; 0 for the extra m.
        procid: required "procid" [72, 72, 72, 72, 72, 72, 64, 64, 64];
        /// The goroutine that handles signals.
        gsignal: required "gsignal" [80, 80, 80, 80, 80, 80, 72, 72, 72];
        /// The goroutine that runs on it.
        curg: required "curg" [192, 192, 192, 192, 192, 192, 184, 184, 184];
        /// The p it holds.
        p: required "p" [208, 208, 208, 208, 208, 208, 200, 208, 208];
        /// Its number.
        id: required "id" [232, 232, 232, 232, 232, 232, 224, 232, 232];
        /// It executes a cgo call.
        incgo: required "incgo" [280, 280, 280, 280, 280, 280, 272, 280, 280];
        /// Next in `runtime.allm`.
        alllink: required "alllink" [336, 336, 336, 328, 328, 352, 344, 352, 352];
        /// Stack pointer before a call into the vDSO.
        vdso_sp: required "vdsoSP" [800, 800, 808, 1120, 856, 904, 896, 896, 896];
        /// Where that call was made.
        vdso_pc: required "vdsoPC" [808, 808, 816, 1128, 864, 912, 904, 904, 904];
    }
}

layout! {
    /// `runtime.p`: a processor (runtime/runtime2.go).
    P = "runtime.p" {
        /// Its number (i32).
        id: required "id" same(0);
        /// Its status (u32).
        status: required "status" same(4);
        /// Grows with every goroutine it starts (u32).
        schedtick: required "schedtick" same(16);
        /// The m that holds it.
        m: required "m" [56, 56, 56, 56, 48, 48, 48, 48, 48];
    }
}

layout! {
    /// `runtime.sudog`: a goroutine in a wait queue (runtime/runtime2.go).
    Sudog = "runtime.sudog" {
        /// Who waits.
        g: required "g" same(0);
        /// The element that is sent or received, or the address of a semaphore.
        elem: required "elem" same(24);
        /// It waits in a select (bool).
        is_select: required "isSelect" [52, 52, 52, 52, 52, 52, 52, 60, 60];
        /// Next in the goroutine's list.
        waitlink: required "waitlink" [64, 64, 64, 64, 64, 64, 64, 72, 72];
        /// The channel.
        c: required "c" [80, 80, 80, 80, 80, 80, 80, 88, 88];
    }
}

layout! {
    /// `runtime.hchan`: a channel (runtime/chan.go).
    Hchan = "runtime.hchan" {
        /// Values in its buffer.
        qcount: required "qcount" same(0);
        /// Size of its buffer.
        dataqsiz: required "dataqsiz" same(8);
        /// Not 0 once it was closed.
        closed: required "closed" same(28);
        /// The timer whose channel it is.
        timer: optional "timer" [-1, -1, -1, -1, 32, 32, 32, 32, 32];
        /// Type of its values.
        elemtype: required "elemtype" [32, 32, 32, 32, 40, 40, 40, 40, 40];
    }
}

layout! {
    /// `runtime.timer` (runtime/time.go).
    Timer = "runtime.timer" {
        /// When it fires, CLOCK_MONOTONIC nanoseconds.
        when: required "when" [8, 8, 8, 8, 16, 16, 24, 24, 24];
    }
}

layout! {
    /// `runtime.pollDesc`: a descriptor known to the network poller (runtime/netpoll.go).
    PollDesc = "runtime.pollDesc" {
        /// Size in bytes.
        size: required "" [240, 240, 248, 248, 280, 280, 296, 296, 296];
        /// Next free one.
        link: required "link" same(0);
        /// File descriptor (uintptr).
        fd: required "fd" same(8);
        /// Sequence number against stale events.
        fdseq: optional "fdseq" [-1, -1, 16, 16, 16, 16, 16, 16, 16];
        /// 0, 1 (ready), 2 (about to wait), or the g that waits to read.
        rg: required "rg" [24, 24, 32, 32, 32, 32, 32, 32, 32];
        /// The same for writing.
        wg: required "wg" [32, 32, 40, 40, 40, 40, 40, 40, 40];
        /// It is being closed (bool).
        closing: required "closing" [48, 48, 56, 56, 56, 56, 56, 56, 56];
        /// Read deadline, CLOCK_MONOTONIC ns.
        rd: required "rd" [136, 136, 144, 144, 160, 160, 168, 168, 168];
        /// Write deadline, CLOCK_MONOTONIC ns.
        wd: required "wd" [224, 224, 232, 232, 264, 264, 280, 280, 280];
        /// Pointer to itself.
        self_: required "self" [232, 232, 240, 240, 272, 272, 288, 288, 288];
    }
}

layout! {
    /// `internal/poll.FD` (internal/poll/fd_unix.go).
    PollFd = "poll.FD" {
        /// Size in bytes.
        size: required "" same(56);
        /// File descriptor (int); -1 after close.
        sysfd: required "Sysfd" same(16);
        /// The pollDesc.
        runtime_ctx: required "pd.runtimeCtx" [24, 24, 32, 32, 32, 32, 32, 32, 32];
        /// It belongs to an `os.File` (bool).
        is_file: required "isFile" same(50);
    }
}

layout! {
    /// `net.netFD` (net/fd_posix.go).
    NetFd = "net.netFD" {
        /// Size in bytes.
        size: required "" same(128);
        /// The poll.FD, embedded.
        pfd: required "pfd" same(0);
        /// Address family (int).
        family: required "family" same(56);
        /// Socket type (int).
        sotype: required "sotype" same(64);
        /// Name of the network (string).
        net: required "net" same(80);
        /// This end (interface net.Addr).
        laddr: required "laddr" same(96);
        /// The other end (interface net.Addr).
        raddr: required "raddr" same(112);
    }
}

layout! {
    /// `net.conn` (net/net.go).
    Conn = "net.conn" {
        /// Its netFD.
        fd: required "fd" same(0);
    }
}

layout! {
    /// `net.TCPListener` (net/tcpsock.go).
    TcpListener = "net.TCPListener" {
        /// Its netFD.
        fd: required "fd" same(0);
    }
}

layout! {
    /// `net.UnixListener` (net/unixsock.go).
    UnixListener = "net.UnixListener" {
        /// Its netFD.
        fd: required "fd" same(0);
    }
}

layout! {
    /// `net.TCPAddr` (net/tcpsock.go).
    TcpAddr = "net.TCPAddr" {
        /// Size in bytes.
        size: required "" same(48);
        /// Address bytes (slice).
        ip: required "IP" same(0);
        /// Port (int).
        port: required "Port" same(24);
        /// IPv6 zone (string).
        zone: required "Zone" same(32);
    }
}

layout! {
    /// `net.UDPAddr` (net/udpsock.go).
    UdpAddr = "net.UDPAddr" {
        /// Size in bytes.
        size: required "" same(48);
        /// Address bytes (slice).
        ip: required "IP" same(0);
        /// Port (int).
        port: required "Port" same(24);
        /// IPv6 zone (string).
        zone: required "Zone" same(32);
    }
}

layout! {
    /// `net.IPAddr` (net/iprawsock.go).
    IpAddr = "net.IPAddr" {
        /// Size in bytes.
        size: required "" same(40);
        /// Address bytes (slice).
        ip: required "IP" same(0);
        /// IPv6 zone (string).
        zone: required "Zone" same(24);
    }
}

layout! {
    /// `net.UnixAddr` (net/unixsock.go).
    UnixAddr = "net.UnixAddr" {
        /// Size in bytes.
        size: required "" same(32);
        /// Path (string).
        name: required "Name" same(0);
    }
}

layout! {
    /// `crypto/tls.Conn` (crypto/tls/conn.go).
    TlsConn = "tls.Conn" {
        /// The connection underneath (interface net.Conn).
        conn: required "conn" same(0);
    }
}

layout! {
    /// `net/http.conn` (net/http/server.go).
    HttpConn = "http.conn" {
        /// The network connection (interface net.Conn).
        rwc: required "rwc" same(16);
    }
}

layout! {
    /// `os.File` (os/types.go).
    OsFile = "os.File" {
        /// The file behind it.
        file: required "file" same(0);
    }
}

layout! {
    /// `os.file` (os/file_unix.go).
    OsFileInner = "os.file" {
        /// The poll.FD, embedded.
        pfd: required "pfd" same(0);
        /// Path it was opened by (string).
        name: required "name" same(56);
    }
}

layout! {
    /// `runtime.itab`, `internal/abi.ITab`: the same in every version.
    Itab = "runtime.itab" {
        /// Descriptor of the dynamic type (internal/abi/iface.go: `Type`; before 1.23
        /// runtime/runtime2.go: `_type`).
        ty: required "_type" same(8);
    }
}
