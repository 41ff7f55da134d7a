//! What has to be copied where a call begins and ends, so that its connection and
//! its error can be told when the program has gone on or is gone: the walks of
//! `net/walk.rs` and `errors/` as data, for code that copies.

use std::sync::Arc;

use super::dynamic::TypePlaces;
use super::family::Receiver;
use super::layout::Layouts;
use crate::addr::LiveAddr;
use crate::arch::jump::Capture;
use crate::arch::jump::capture::Once;
use crate::arch::jump::held::{Kind, Kinds, Part};

/// What is copied in a program.
pub struct Copied {
    /// Of an error: as much as the errors of package net say that stand alone.
    errors: Arc<Kinds>,
    /// Of what may be a connection.
    connections: Arc<Kinds>,
    /// Of a `net.netFD`.
    net_fd: Option<Vec<Part>>,
    /// When it is the same as before.
    once: Option<Once>,
    conn: Option<i32>,
    tcp_listener: Option<i32>,
    unix_listener: Option<i32>,
    tls_conn: Option<i32>,
    http_conn: Option<i32>,
}

struct Maker<'a> {
    types: &'a dyn TypePlaces,
    layouts: &'a Layouts,
}

impl Copied {
    /// For a program of these types and layouts. `age` is where the garbage
    /// collector counts its cycles (`memstats.numgc`), if that is known: it does so
    /// while the world is stopped and before anything of the cycle is swept
    /// (runtime/mgc.go, gcMarkTermination, Go 1.19 to 1.27), so that of one count
    /// an object's address is its own.
    pub fn of(types: &dyn TypePlaces, layouts: &Layouts, age: Option<LiveAddr>) -> Copied {
        let make = Maker { types, layouts };
        let addresses = make.addresses();
        let net_fd = make.net_fd(&addresses);
        Copied {
            errors: make.errors(&addresses),
            connections: make.connections(net_fd.as_deref()),
            net_fd,
            once: age.and_then(|age| {
                let name = |at: u64| near(at.checked_add(8)?);
                Some(Once {
                    names: [name(layouts.net_fd.laddr)?, name(layouts.net_fd.raddr)?],
                    age: age.0,
                })
            }),
            conn: near(layouts.conn.fd),
            tcp_listener: near(layouts.tcp_listener.fd),
            unix_listener: near(layouts.unix_listener.fd),
            tls_conn: near(layouts.tls_conn.conn),
            http_conn: near(layouts.http_conn.rwc),
        }
    }

    /// An error whose two words are in registers.
    pub fn error(&self, itab: u8, data: u8) -> Capture {
        let of = self.errors.clone();
        Capture::Interface { itab, data, of }
    }

    /// A connection from what a register has of it; `None` where its addresses do
    /// not hang on it. With `again`, calls that follow on one connection leave out
    /// what is the same.
    pub fn connection(&self, register: u8, kind: Receiver, again: bool) -> Option<Capture> {
        let net_fd = |hops: Vec<i32>| {
            Some(Capture::Copied {
                from: register,
                hops,
                parts: self.net_fd.clone()?,
                once: self.once.filter(|_| again),
            })
        };
        let interface = |at: i32| Capture::Copied {
            from: register,
            hops: Vec::new(),
            parts: vec![Part::Interface {
                at,
                of: self.connections.clone(),
            }],
            once: None,
        };
        match kind {
            Receiver::Conn => net_fd(vec![self.conn?]),
            Receiver::TcpListener => net_fd(vec![self.tcp_listener?]),
            Receiver::UnixListener => net_fd(vec![self.unix_listener?]),
            Receiver::NetFd => net_fd(Vec::new()),
            Receiver::TlsConn => Some(interface(self.tls_conn?)),
            Receiver::HttpConn => Some(interface(self.http_conn?)),
            Receiver::InterfaceAt => Some(interface(0)),
            Receiver::Interface => Some(Capture::Interface {
                itab: register,
                data: register.checked_add(1)?,
                of: self.connections.clone(),
            }),
            Receiver::PollFd | Receiver::File | Receiver::Fd => None,
        }
    }
}

impl Maker<'_> {
    fn kinds(&self, kinds: impl IntoIterator<Item = Option<Kind>>) -> Arc<Kinds> {
        Arc::new(Kinds {
            type_at: near(self.layouts.itab.ty).unwrap_or(0),
            kinds: kinds.into_iter().flatten().collect(),
        })
    }

    /// A type as Go prints it; `None` when the program does not have it.
    fn kind(&self, name: &str, parts: Vec<Part>) -> Option<Kind> {
        let ty = self.types.descriptor(name)?.0;
        Some(Kind { ty, parts })
    }

    fn at(&self, strukt: &str, field: &str) -> Option<i32> {
        near(self.types.offset_of(strukt, field)?)
    }

    fn string(&self, strukt: &str, field: &str) -> Option<Part> {
        let at = self.at(strukt, field)?;
        Some(Part::Words { at, count: 2 })
    }

    fn interface(&self, strukt: &str, field: &str, of: &Arc<Kinds>) -> Option<Part> {
        let (at, of) = (self.at(strukt, field)?, of.clone());
        Some(Part::Interface { at, of })
    }

    /// net/tcpsock.go, net/udpsock.go: all of the struct, and the bytes of its IP.
    fn addresses(&self) -> Arc<Kinds> {
        let inet = |name: &str, size: u64, ip: u64| {
            let parts = vec![whole(size)?, Part::Short { at: near(ip)? }];
            self.kind(name, parts)
        };
        let (tcp, udp) = (&self.layouts.tcp_addr, &self.layouts.udp_addr);
        self.kinds([
            inet("*net.TCPAddr", tcp.size, tcp.ip),
            inet("*net.UDPAddr", udp.size, udp.ip),
        ])
    }

    /// The descriptor; the network's name with both addresses, which lie together.
    fn net_fd(&self, addresses: &Arc<Kinds>) -> Option<Vec<Part>> {
        let l = &self.layouts.net_fd;
        let first = l.net.min(l.laddr).min(l.raddr);
        let last = l.net.max(l.laddr).max(l.raddr).checked_add(16)?;
        let address = |at: u64| {
            let (at, of) = (near(at)?, addresses.clone());
            Some(Part::Interface { at, of })
        };
        Some(vec![
            Part::Words {
                at: near(l.pfd.checked_add(self.layouts.poll_fd.sysfd)?)?,
                count: 1,
            },
            Part::Words {
                at: near(first)?,
                count: u32::try_from(last.checked_sub(first)?.div_ceil(8).min(16)).ok()?,
            },
            address(l.laddr)?,
            address(l.raddr)?,
        ])
    }

    /// The connections of package net, and those of crypto/tls over them.
    fn connections(&self, net_fd: Option<&[Part]>) -> Arc<Kinds> {
        let plain = |name: &str| {
            let at = near(self.layouts.conn.fd)?;
            let parts = net_fd?.to_vec();
            self.kind(name, vec![Part::Pointer { at, parts }])
        };
        let plain = ["*net.TCPConn", "*net.UDPConn", "*net.UnixConn"].map(plain);
        let below = self.kinds(plain.iter().take(1).cloned());
        let tls = near(self.layouts.tls_conn.conn)
            .and_then(|at| self.kind("*tls.Conn", vec![Part::Interface { at, of: below }]));
        self.kinds(plain.into_iter().chain([tls]))
    }

    /// What calls of package net return, and what stands in it. Errors of other
    /// types are told by their type word, if they have nothing in them.
    fn errors(&self, addresses: &Arc<Kinds>) -> Arc<Kinds> {
        let number = self.kind("syscall.Errno", vec![Part::Words { at: 0, count: 1 }]);
        let text = (|| {
            let text = self.string("errors.errorString", "s")?;
            self.kind("*errors.errorString", vec![text])
        })();
        let plain = self.kinds([number.clone(), text.clone()]);
        let syscall = (|| {
            let name = "os.SyscallError";
            let parts = [
                self.string(name, "Syscall"),
                self.interface(name, "Err", &plain),
            ];
            self.kind(
                "*os.SyscallError",
                parts.into_iter().collect::<Option<_>>()?,
            )
        })();
        let inner = self.kinds([syscall.clone(), number.clone(), text.clone()]);
        let operation = (|| {
            let name = "net.OpError";
            let parts = [
                self.string(name, "Op"),
                self.string(name, "Net"),
                self.interface(name, "Source", addresses),
                self.interface(name, "Addr", addresses),
                self.interface(name, "Err", &inner),
            ];
            self.kind("*net.OpError", parts.into_iter().collect::<Option<_>>()?)
        })();
        // crypto/tls/conn.go: (*halfConn).setErrorLocked
        let permanent = (|| {
            let of = self.kinds([operation.clone()]);
            let err = self.interface("tls.permanentError", "err", &of)?;
            self.kind("*tls.permanentError", vec![err])
        })();
        self.kinds([text, operation, syscall, number, permanent])
    }
}

fn whole(size: u64) -> Option<Part> {
    let count = u32::try_from(size.div_ceil(8).min(32)).ok()?;
    Some(Part::Words { at: 0, count })
}

fn near(offset: u64) -> Option<i32> {
    i32::try_from(offset).ok()
}
