//! One goroutine of a look: small, because a program has millions of them.

use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::{BlockedOn, Class, Net, PlaceId, StackId, StackState, Wait};
use crate::golang::gs::Status;
use crate::golang::labels::Labels;

/// One goroutine, or many of a large program that do the same.
///
/// What it shares with others stands in its [`Kind`], which is kept once; its
/// fields are read as if they were the entry's own.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its number; of many the lowest.
    pub goid: u64,
    /// How many goroutines this tells of: 1, unless those were put together
    /// that have the kind in common and wait for no descriptor. The wait is
    /// then the longest.
    pub count: usize,
    /// What it does.
    pub kind: Arc<Kind>,
    /// How long, where that is known.
    pub wait: Option<Wait>,
    /// The goroutine that made it (from Go 1.21 on).
    pub parent: Option<NonZeroU64>,
    /// Stands for where it is parked and why: another value, and it has moved
    /// between two looks.
    pub at: u64,
    /// The descriptor that it waits for.
    pub net: Option<Box<Net>>,
    /// What else it waits for.
    pub blocked_on: Option<Box<BlockedOn>>,
    /// Its arguments as a traceback prints them, when they were asked for: a
    /// line of text for each line of the stack.
    pub args: Option<Box<str>>,
}

/// A million of them are 88 MB.
const _: () = assert!(size_of::<Entry>() <= 88);

/// What many goroutines have in common.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kind {
    /// What it does.
    pub status: Status,
    /// The collector was looking at its stack.
    pub scanned: bool,
    /// Why it waits, in the program's own words; empty when it does not.
    pub reason: Arc<str>,
    /// Its class.
    pub class: Class,
    /// The `go` statement that made it.
    pub created: Option<PlaceId>,
    /// Bytes from that function's entry to the statement's return address.
    pub created_offset: u32,
    /// Its function.
    pub start: Option<PlaceId>,
    /// Its thread, when it is on one.
    pub tid: Option<u64>,
    /// It may run on one thread alone.
    pub locked: bool,
    /// pprof labels.
    pub labels: Option<Arc<Labels>>,
    /// What became of its stack.
    pub stack_state: StackState,
    /// Its stack.
    pub stack: Option<StackId>,
    /// The innermost frame of the program's own code; of a goroutine whose
    /// stack was not read, that of others parked at the same place.
    pub user: Option<PlaceId>,
    /// The innermost frame outside of package runtime, likewise.
    pub func: Option<PlaceId>,
}

impl Kind {
    /// With this status and reason; nothing else is known.
    pub fn new(status: Status, reason: Arc<str>) -> Kind {
        Kind {
            status,
            scanned: false,
            class: Class::of(status, &reason),
            reason,
            created: None,
            created_offset: 0,
            start: None,
            tid: None,
            locked: false,
            labels: None,
            stack_state: StackState::Unread,
            stack: None,
            user: None,
            func: None,
        }
    }
}

impl Entry {
    /// Of a kind; nothing else is known.
    pub fn new(goid: u64, kind: Arc<Kind>) -> Entry {
        Entry {
            goid,
            count: 1,
            kind,
            wait: None,
            parent: None,
            at: 0,
            net: None,
            blocked_on: None,
            args: None,
        }
    }

    /// The arguments of each line of the stack.
    pub fn arguments(&self) -> Vec<&str> {
        self.args
            .as_deref()
            .map_or(Vec::new(), |a| a.split('\n').collect())
    }
}

impl Deref for Entry {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        &self.kind
    }
}

impl DerefMut for Entry {
    /// It gets a kind of its own.
    fn deref_mut(&mut self) -> &mut Kind {
        Arc::make_mut(&mut self.kind)
    }
}
