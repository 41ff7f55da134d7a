//! Facts of a connection: descriptor, network, both ends, read from a
//! function's receiver.
//!
//! [`ConnReader`] is asked at every hit while a thread of the target waits:
//! what it learnt is kept with the bytes it was learnt from, so that the
//! common case is one batched read, shared with whatever else the caller
//! wants to read at that moment, and no string is built.

mod addr;
#[cfg(test)]
mod tests;
mod walk;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

pub use addr::{AddrKind, addr_text, endpoint, read_go_string};

use super::dynamic::DynamicTypes;
use super::endpoint::Endpoint;
use super::family::Receiver;
use super::layout::Layouts;
use super::witness::Memo;
use crate::memory::{Memory, MemoryError, Piece};

/// How many connections are remembered.
const REMEMBERED: usize = 65_536;

/// What is known of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnFacts {
    /// The file descriptor; `None` when it could not be read or is closed.
    pub fd: Option<i64>,
    /// Go's name: `tcp`, `tcp4`, `udp`, `unix` …
    pub network: Option<Arc<str>>,
    /// This end.
    pub local: Option<Endpoint>,
    /// The other end.
    pub remote: Option<Endpoint>,
    /// Said instead of an fd: `nil`, `closed`, `unreadable`, `not a net.Conn
    /// of package net`.
    pub note: Option<&'static str>,
}

impl ConnFacts {
    fn noted(note: &'static str) -> Self {
        ConnFacts {
            note: Some(note),
            ..ConnFacts::default()
        }
    }
}

/// Reads [`ConnFacts`], remembering them.
pub struct ConnReader {
    layouts: Arc<Layouts>,
    memo: Memo<([u64; 2], Receiver), Arc<ConnFacts>>,
    kinds: RefCell<HashMap<u64, walk::Dynamic>>,
}

impl ConnReader {
    /// For a program of these layouts.
    pub fn new(layouts: Arc<Layouts>) -> Self {
        ConnReader {
            layouts,
            memo: Memo::new(REMEMBERED),
            kinds: RefCell::default(),
        }
    }

    /// The facts of the connection that `words` lead to: one register, or two
    /// (itab, data) for [`Receiver::Interface`]. `extra` is read along in any
    /// case. Only a target that is gone is an error; everything else is told
    /// in [`ConnFacts::note`].
    pub fn facts(
        &mut self,
        memory: &dyn Memory,
        types: &dyn DynamicTypes,
        kind: Receiver,
        words: [u64; 2],
        extra: &mut [Piece<'_>],
    ) -> Result<Arc<ConnFacts>, MemoryError> {
        let ConnReader {
            layouts,
            memo,
            kinds,
        } = self;
        let (kind, key) = match kind {
            Receiver::Fd => {
                if !extra.is_empty() {
                    memory.read_many(extra)?;
                }
                return Ok(Arc::new(ConnFacts {
                    fd: Some(i64::from(words[0] as u32 as i32)),
                    ..ConnFacts::default()
                }));
            }
            Receiver::Interface => {
                let walker = walk::Walker::new(memory, memory, types, layouts, kinds);
                match walker.dynamic(words[0])? {
                    walk::Dynamic::Known(known) => (known, [words[1], 0]),
                    // The way down depends on the wrapper's type.
                    walk::Dynamic::Wrapper { .. } | walk::Dynamic::Unknown => {
                        (Receiver::Interface, words)
                    }
                }
            }
            Receiver::Conn
            | Receiver::NetFd
            | Receiver::PollFd
            | Receiver::TcpListener
            | Receiver::UnixListener
            | Receiver::TlsConn
            | Receiver::HttpConn
            | Receiver::File
            | Receiver::InterfaceAt => (kind, [words[0], 0]),
        };
        memo.get(&(key, kind), memory, extra, |recording| {
            let walker = walk::Walker::new(memory, recording, types, layouts, kinds);
            let facts = match kind {
                Receiver::Interface => walker.interface(words[0], words[1], 0),
                _ => walker.receiver(kind, key[0], 0),
            };
            match facts {
                Ok(facts) => Ok(Arc::new(facts)),
                Err(MemoryError::Unmapped { .. }) => Ok(Arc::new(ConnFacts::noted("unreadable"))),
                Err(gone @ MemoryError::Gone) => Err(gone),
            }
        })
    }

    /// The same of a memory that is asked for what it has and nothing more: what was
    /// learnt before is not looked at.
    pub fn facts_afresh(
        &self,
        memory: &dyn Memory,
        types: &dyn DynamicTypes,
        kind: Receiver,
        words: [u64; 2],
    ) -> Result<Arc<ConnFacts>, MemoryError> {
        let walker = walk::Walker::new(memory, memory, types, &self.layouts, &self.kinds);
        let facts = match kind {
            Receiver::Interface => walker.interface(words[0], words[1], 0),
            _ => walker.receiver(kind, words[0], 0),
        };
        facts.map(Arc::new)
    }
}
