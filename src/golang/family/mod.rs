//! What is known by name of the functions through which Go programs do
//! network and file I/O: which argument is the connection, where the buffer
//! is, which results are the byte count and the error.
//!
//! Registers are numbered in the order of Go's internal ABI on amd64 (RAX RBX
//! RCX RDI RSI R8 R9 R10 R11 are 0 to 8; cmd/compile/abi-internal.md), for
//! arguments and results alike. Signatures: GOROOT/src of 1.19 to 1.27.

mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::OnceLock;

/// What a register holds that leads to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Receiver {
    /// `*net.conn`, `*net.TCPConn`, `*net.UDPConn`, `*net.UnixConn`, `*net.IPConn`.
    Conn,
    /// `*net.netFD`
    NetFd,
    /// `*internal/poll.FD`, inside a netFD or an os.file.
    PollFd,
    /// `*net.TCPListener`
    TcpListener,
    /// `*net.UnixListener`
    UnixListener,
    /// `*crypto/tls.Conn`
    TlsConn,
    /// `*net/http.conn`
    HttpConn,
    /// `*os.File`
    File,
    /// An interface (`net.Conn`, `net.Listener`, `io.Writer`): two registers,
    /// itab and data.
    Interface,
    /// A pointer to a struct that begins with such an interface (`*tls.listener`).
    InterfaceAt,
    /// The descriptor's number itself.
    Fd,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Flow {
    /// From the other end: Read, ReadFrom of a packet, Accept.
    In,
    /// To the other end: Write, WriteTo, Dial.
    Out,
    /// Close, deadlines, handshakes.
    Both,
}

/// The buffer handed in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Buffer {
    /// Register with the address of the first byte.
    pub ptr: u8,
    /// Register with the length.
    pub len: u8,
}

/// A connection that a function returns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Gives {
    /// First register of it.
    pub register: u8,
    /// What is in it.
    pub kind: Receiver,
}

/// What is known of one function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Family {
    /// The connection: its (first) register, and what is in it. `None`: a
    /// dialer, or a function that makes connections.
    pub receiver: Option<(u8, Receiver)>,
    /// Which way bytes go.
    pub flow: Flow,
    /// The buffer read into or written from.
    pub buffer: Option<Buffer>,
    /// Result register of the byte count.
    pub n: Option<u8>,
    /// Result register of the error's itab; its data word is in the next one.
    pub err: Option<u8>,
    /// The connection it returns.
    pub gives: Option<Gives>,
}

impl Family {
    /// Register of the error's data word.
    pub fn err_data(&self) -> Option<u8> {
        self.err.map(|r| r.saturating_add(1))
    }
}

/// What is known of the function of that name (as pclntab spells it) in a
/// binary of Go 1.`minor`; `None` when it is not of the family.
pub fn family_of(name: &str, minor: Option<u32>) -> Option<Family> {
    static INDEX: OnceLock<HashMap<&'static str, Family>> = OnceLock::new();
    let index = INDEX.get_or_init(|| table::TABLE.iter().copied().collect());
    // internal/poll.Splice lost its `sc string` result in 1.23.
    if name == "internal/poll.Splice" && minor.is_some_and(|m| m <= 22) {
        return index.get(name).map(|f| Family { err: Some(4), ..*f });
    }
    // net.genericReadFrom took an io.Writer until 1.21, a *TCPConn since 1.22.
    if name == "net.genericReadFrom" && minor.is_some_and(|m| m <= 21) {
        return index.get(name).map(|f| Family {
            receiver: Some((0, Receiver::Interface)),
            ..*f
        });
    }
    index.get(name).copied()
}

/// The function that does the work of one of [`preset_conn`] that compilers
/// inline everywhere: where that has no code, this is what can be seen.
pub fn preset_inner(name: &str) -> Option<&'static str> {
    let found = table::PRESET_INNER.iter().find(|(outer, _)| *outer == name);
    found.map(|(_, inner)| *inner)
}

/// All that a `net.Conn`, a listener and a dialer do, at the level of
/// `net.(*conn)` (not of TLS above it nor of poll.FD below it, so that no byte
/// is counted on two levels but where one function calls another of the list).
/// Not every name exists in every program and Go version.
pub fn preset_conn() -> &'static [&'static str] {
    table::PRESET_CONN
}
