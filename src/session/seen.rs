//! What there is to be seen when a thread comes to a site.

use std::cell::Cell;
use std::sync::Arc;

use crate::memory::Memory;
use crate::probe::join::Stack;
use crate::record::Conn;
use crate::sys::Regs;

/// A goroutine at a hit.
#[derive(Debug, Clone, Copy)]
pub(super) struct GInfo {
    /// Whose calls these are.
    pub stack: Stack,
    /// `stack.hi - sp`
    pub depth: u64,
    /// First address behind the stack.
    pub hi: u64,
}

impl GInfo {
    /// The goroutine's number, for one that has one.
    pub fn goid(&self) -> Option<u64> {
        match self.stack {
            Stack::Goroutine(id) => Some(id),
            Stack::System(_) => None,
        }
    }
}

/// What is to be seen at a site: by a thread that waits there, or by a record
/// that it has left.
pub(super) struct Seen<'a> {
    /// Its registers; `rip` is the site's address.
    pub regs: &'a Regs,
    /// The thread; 0 where that is not known.
    pub tid: i32,
    /// Memory as it was, as far as that is known.
    pub memory: &'a dyn Memory,
    /// The goroutine, when it is known already.
    pub g: Option<GInfo>,
    /// X0 to X15, when they are known already.
    pub floats: Option<[[u8; 16]; 16]>,
    /// Return addresses of the stack, when they are known already: where each lies,
    /// and what it is; behind the last 0.
    pub frames: Option<&'a [u64]>,
    /// At a RET, the first bytes of the buffer that the call has filled, when they are
    /// known already.
    pub filled: Option<&'a [u64]>,
    /// Set when something is read of memory as it is now, and the thread has
    /// gone on.
    pub late: Option<&'a Cell<bool>>,
    /// The connection of the receiver, when it is known already.
    pub conn: Option<&'a Arc<Conn>>,
}

impl<'a> Seen<'a> {
    /// Something was.
    pub fn was_late(&self) -> bool {
        self.late.is_some_and(Cell::get)
    }

    /// What is worked out by `read` of what a thread has left that has gone on, if
    /// nothing of memory as it is now was needed. `None` as well of a thread that
    /// waits.
    pub fn in_time<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let late = self.late?;
        let before = late.replace(false);
        let found = read();
        let needed = late.replace(before);
        (!needed).then_some(found)
    }

    /// By a thread that waits.
    pub fn stopped(regs: &'a Regs, tid: i32, memory: &'a dyn Memory) -> Seen<'a> {
        Seen {
            regs,
            tid,
            memory,
            g: None,
            floats: None,
            frames: None,
            filled: None,
            late: None,
            conn: None,
        }
    }
}
