//! From a receiver down to the netFD and its addresses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::ConnFacts;
use super::addr::{AddrKind, endpoint, read_go_string, word};
use crate::addr::LiveAddr;
use crate::golang::dynamic::DynamicTypes;
use crate::golang::endpoint::Endpoint;
use crate::golang::family::Receiver;
use crate::golang::layout::Layouts;
use crate::image::types::TypeKind;
use crate::memory::{Memory, MemoryError};

/// Wrappers inside wrappers are followed this deep.
const MAX_DEPTH: u32 = 5;
/// Fields of a wrapper that are looked at.
const MAX_FIELDS: usize = 32;
/// Itabs remembered; a program has a few hundred.
const MAX_KINDS: usize = 16_384;

/// What an interface's dynamic type means to a walk.
#[derive(Clone, Debug)]
pub(super) enum Dynamic {
    /// A type of the standard library that leads to a netFD.
    Known(Receiver),
    /// A pointer to a struct with fields that may lead there: offset, and
    /// `None` for an interface field or what the pointer points to.
    Wrapper {
        fields: Arc<[(u64, Option<Receiver>)]>,
    },
    /// Nothing that leads to a netFD.
    Unknown,
}

/// One walk. Itabs and type descriptors never change and are read past the
/// recorder; everything else goes through it.
pub(super) struct Walker<'a> {
    raw: &'a dyn Memory,
    memory: &'a dyn Memory,
    types: &'a dyn DynamicTypes,
    layouts: &'a Layouts,
    kinds: &'a RefCell<HashMap<u64, Dynamic>>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(
        raw: &'a dyn Memory,
        memory: &'a dyn Memory,
        types: &'a dyn DynamicTypes,
        layouts: &'a Layouts,
        kinds: &'a RefCell<HashMap<u64, Dynamic>>,
    ) -> Self {
        Walker {
            raw,
            memory,
            types,
            layouts,
            kinds,
        }
    }

    /// What the dynamic type of an interface with this itab means.
    pub(super) fn dynamic(&self, itab: u64) -> Result<Dynamic, MemoryError> {
        if let Some(known) = self.kinds.borrow().get(&itab) {
            return Ok(known.clone());
        }
        let descriptor = match self
            .raw
            .read_addr(LiveAddr(itab).offset(self.layouts.itab.ty))
        {
            Ok(at) => at,
            Err(MemoryError::Unmapped { .. }) => return Ok(Dynamic::Unknown),
            Err(gone @ MemoryError::Gone) => return Err(gone),
        };
        let found = self.classify(descriptor);
        let mut kinds = self.kinds.borrow_mut();
        if kinds.len() < MAX_KINDS {
            kinds.insert(itab, found.clone());
        }
        Ok(found)
    }

    fn classify(&self, descriptor: LiveAddr) -> Dynamic {
        let Some(ty) = self.types.described(descriptor) else {
            return Dynamic::Unknown;
        };
        if let Some(known) = known_receiver(&ty.name) {
            return Dynamic::Known(known);
        }
        let TypeKind::Pointer(elem) = ty.kind else {
            return Dynamic::Unknown;
        };
        let elem = self.types.get(elem);
        let TypeKind::Struct(fields) = &elem.kind else {
            return Dynamic::Unknown;
        };
        let mut ways = Vec::new();
        for field in fields.iter().take(MAX_FIELDS) {
            let ty = self.types.get(field.ty);
            match &ty.kind {
                TypeKind::Interface { empty: false } if leads_down(&ty.name) => {
                    ways.push((field.offset, None));
                }
                TypeKind::Pointer(_) => {
                    if let Some(known) = known_receiver(&ty.name) {
                        ways.push((field.offset, Some(known)));
                    }
                }
                _ => {}
            }
        }
        if ways.is_empty() {
            Dynamic::Unknown
        } else {
            Dynamic::Wrapper {
                fields: ways.into(),
            }
        }
    }

    /// An interface value.
    pub(super) fn interface(
        &self,
        itab: u64,
        data: u64,
        depth: u32,
    ) -> Result<ConnFacts, MemoryError> {
        if itab == 0 || data == 0 {
            return Ok(ConnFacts::noted("nil"));
        }
        let foreign = ConnFacts::noted("not a connection of package net");
        if depth > MAX_DEPTH {
            return Ok(foreign);
        }
        match self.dynamic(itab)? {
            Dynamic::Known(kind) => self.receiver(kind, data, depth.saturating_add(1)),
            Dynamic::Unknown => Ok(foreign),
            Dynamic::Wrapper { fields } => {
                for &(offset, kind) in fields.iter() {
                    let at = LiveAddr(data).offset(offset);
                    let found = match kind {
                        Some(kind) => {
                            let pointer = self.memory.read_u64(at)?;
                            self.receiver(kind, pointer, depth.saturating_add(1))?
                        }
                        None => self.interface_at(at, depth.saturating_add(1))?,
                    };
                    if found.fd.is_some() {
                        return Ok(found);
                    }
                }
                Ok(foreign)
            }
        }
    }

    fn interface_at(&self, at: LiveAddr, depth: u32) -> Result<ConnFacts, MemoryError> {
        let words = self.memory.read_vec(at, 16)?;
        self.interface(word(&words, 0), word(&words, 8), depth)
    }

    /// A receiver of a known kind.
    pub(super) fn receiver(
        &self,
        kind: Receiver,
        word: u64,
        depth: u32,
    ) -> Result<ConnFacts, MemoryError> {
        if word == 0 && kind != Receiver::Fd {
            return Ok(ConnFacts::noted("nil"));
        }
        let at = LiveAddr(word);
        let l = self.layouts;
        match kind {
            Receiver::Conn => self.net_fd_behind(at.offset(l.conn.fd)),
            Receiver::TcpListener => self.net_fd_behind(at.offset(l.tcp_listener.fd)),
            Receiver::UnixListener => self.net_fd_behind(at.offset(l.unix_listener.fd)),
            Receiver::NetFd => self.net_fd(at),
            Receiver::PollFd => self.poll_fd(at),
            Receiver::TlsConn => self.interface_at(at.offset(l.tls_conn.conn), depth),
            Receiver::HttpConn => self.interface_at(at.offset(l.http_conn.rwc), depth),
            Receiver::InterfaceAt => self.interface_at(at, depth),
            Receiver::File => {
                let file = self.memory.read_addr(at.offset(l.os_file.file))?;
                if file.is_null() {
                    return Ok(ConnFacts::noted("nil"));
                }
                self.descriptor(file.offset(l.os_file_inner.pfd))
            }
            // An interface comes with two words, see `interface`.
            Receiver::Interface => Ok(ConnFacts::noted("not a connection of package net")),
            Receiver::Fd => Ok(ConnFacts {
                fd: Some(i64::from(word as u32 as i32)),
                ..ConnFacts::default()
            }),
        }
    }

    fn net_fd_behind(&self, at: LiveAddr) -> Result<ConnFacts, MemoryError> {
        let fd = self.memory.read_addr(at)?;
        if fd.is_null() {
            return Ok(ConnFacts::noted("nil"));
        }
        self.net_fd(fd)
    }

    /// Only the number, of a poll.FD.
    fn descriptor(&self, at: LiveAddr) -> Result<ConnFacts, MemoryError> {
        let number = self
            .memory
            .read_u64(at.offset(self.layouts.poll_fd.sysfd))?;
        Ok(numbered(number))
    }

    /// A poll.FD: of an os.file, or the first field of a netFD.
    fn poll_fd(&self, at: LiveAddr) -> Result<ConnFacts, MemoryError> {
        let is_file = self
            .memory
            .read_u8(at.offset(self.layouts.poll_fd.is_file))?;
        if is_file != 0 {
            return self.descriptor(at);
        }
        let outer = LiveAddr(at.0.wrapping_sub(self.layouts.net_fd.pfd));
        match self.net_fd(outer) {
            // Not in a netFD after all: the number stands all the same.
            Ok(facts) if facts.network.is_none() => self.descriptor(at),
            Err(MemoryError::Unmapped { .. }) => self.descriptor(at),
            other => other,
        }
    }

    /// A netFD: one read of the part that tells everything.
    fn net_fd(&self, at: LiveAddr) -> Result<ConnFacts, MemoryError> {
        let l = &self.layouts.net_fd;
        let sysfd = l.pfd.wrapping_add(self.layouts.poll_fd.sysfd);
        let number = self.memory.read_u64(at.offset(sysfd))?;
        // From the network's name to the second address (name, laddr, raddr
        // lie together; what lies before them changes with every read lock).
        let first = l.net.min(l.laddr).min(l.raddr);
        let last = l.net.max(l.laddr).max(l.raddr).saturating_add(16);
        let len = usize::try_from(last.saturating_sub(first)).unwrap_or(0);
        let bytes = self.memory.read_vec(at.offset(first), len.min(512))?;
        let field = |offset: u64| {
            let at = offset.saturating_sub(first);
            (word(&bytes, at), word(&bytes, at.saturating_add(8)))
        };
        let (name, name_len) = field(l.net);
        let network = self.network(name, name_len)?;
        let mut facts = numbered(number);
        if network.is_some() {
            let (itab, data) = field(l.laddr);
            facts.local = self.address(itab, data)?;
            let (itab, data) = field(l.raddr);
            facts.remote = self.address(itab, data)?;
        }
        facts.network = network;
        Ok(facts)
    }

    /// Go's network names (net/dial.go: Dial); anything else is garbage.
    fn network(&self, ptr: u64, len: u64) -> Result<Option<Arc<str>>, MemoryError> {
        if ptr == 0 || len == 0 || len > 32 {
            return Ok(None);
        }
        let (bytes, _) = read_go_string(self.memory, ptr, len, 32)?;
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Ok(None);
        };
        let known = ["tcp", "udp", "unix", "ip"]
            .iter()
            .any(|n| text.starts_with(n));
        Ok(known.then(|| text.into()))
    }

    fn address(&self, itab: u64, data: u64) -> Result<Option<Endpoint>, MemoryError> {
        if itab == 0 || data == 0 {
            return Ok(None);
        }
        let descriptor = self
            .raw
            .read_addr(LiveAddr(itab).offset(self.layouts.itab.ty))?;
        let Some(ty) = self.types.described(descriptor) else {
            return Ok(None);
        };
        let Some(kind) = AddrKind::of_type(&ty.name) else {
            return Ok(None);
        };
        endpoint(self.memory, self.layouts, kind, LiveAddr(data))
    }
}

fn numbered(number: u64) -> ConnFacts {
    let number = number as i64;
    if number < 0 {
        // poll.(*FD).destroy sets Sysfd to -1 (internal/poll/fd_unix.go).
        return ConnFacts::noted("closed");
    }
    ConnFacts {
        fd: Some(number),
        ..ConnFacts::default()
    }
}

fn known_receiver(name: &str) -> Option<Receiver> {
    match name {
        "*net.TCPConn" | "*net.UDPConn" | "*net.UnixConn" | "*net.IPConn" | "*net.conn"
        // Structs of one *TCPConn, which an interface holds as that pointer
        // (net/net.go: genericReadFrom; net/tcpsock.go from 1.22).
        | "net.tcpConnWithoutReadFrom" | "net.tcpConnWithoutWriteTo" => Some(Receiver::Conn),
        "*net.TCPListener" => Some(Receiver::TcpListener),
        "*net.UnixListener" => Some(Receiver::UnixListener),
        "*net.netFD" => Some(Receiver::NetFd),
        "*poll.FD" => Some(Receiver::PollFd),
        "*tls.Conn" => Some(Receiver::TlsConn),
        "*http.conn" => Some(Receiver::HttpConn),
        "*os.File" => Some(Receiver::File),
        _ => None,
    }
}

/// Interfaces through which a wrapper may hold a connection.
fn leads_down(name: &str) -> bool {
    matches!(
        name,
        "net.Conn"
            | "net.Listener"
            | "net.PacketConn"
            | "io.ReadWriteCloser"
            | "io.ReadWriter"
            | "io.Writer"
            | "io.Reader"
    )
}
