//! What every goroutine of a program is doing, as plain data.
//!
//! Who lives here: one look at a program ([`Survey`]), a goroutine of it
//! ([`Entry`]), those put together that do the same ([`fold`]), the frames and
//! places they name ([`names`]), groups ([`group`]), the facts that filters ask
//! for ([`facts`]) and the sentence that sums it up ([`verdict`]). Pure: nobody
//! here reads a target. Allowed in: sink, session, cli.

pub mod compare;
mod entry;
pub mod facts;
pub mod fold;
pub mod group;
pub mod names;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::golang::blocked::Lock;
use crate::golang::endpoint::Endpoint;
use crate::golang::gs::Status;
pub use entry::{Entry, Kind};
pub use names::{Line, Names, Place, PlaceId, StackId};

/// The kinds of doing that an operator tells apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// It waits for a descriptor in the network poller.
    Network,
    /// It waits for other goroutines, or for time to pass.
    Blocked,
    /// It waits for the collector or another part of the runtime.
    Runtime,
    /// It is in a system call, or in C.
    Syscall,
    /// It could run and does not.
    Runnable,
    /// It runs.
    Running,
}

impl Class {
    /// As filters and JSON call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Network => "network",
            Class::Blocked => "blocked",
            Class::Runtime => "runtime",
            Class::Syscall => "syscall",
            Class::Runnable => "runnable",
            Class::Running => "running",
        }
    }

    /// All that [`Class::as_str`] says.
    pub const WORDS: &'static [&'static str] = &[
        "network", "blocked", "runtime", "syscall", "runnable", "running",
    ];

    /// The class of a goroutine with this status and reason. Reasons that are
    /// not known belong to user logic: new ones of the runtime's own are rare.
    pub fn of(status: Status, reason: &str) -> Class {
        /// Beginnings of reasons that are the runtime's own business
        /// (runtime/runtime2.go of 1.19 to 1.27).
        const RUNTIME: &[&str] = &[
            "GC ",
            "garbage collection",
            "wait for GC cycle",
            "dumping heap",
            "stopping the world",
            "wait until GC ends",
            "flushing proc caches",
            "panicwait",
            "trace ",
        ];
        match status {
            Status::Runnable | Status::Preempted => Class::Runnable,
            Status::Running | Status::CopyStack => Class::Running,
            Status::Syscall => Class::Syscall,
            _ if reason == "IO wait" => Class::Network,
            _ if RUNTIME.iter().any(|r| reason.starts_with(r)) => Class::Runtime,
            _ => Class::Blocked,
        }
    }
}

/// As the runtime calls it (runtime/traceback.go: gStatusStrings).
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Idle => "idle",
        Status::Runnable => "runnable",
        Status::Running => "running",
        Status::Syscall => "syscall",
        Status::Waiting => "waiting",
        Status::Dead | Status::DeadExtra => "dead",
        Status::CopyStack => "copystack",
        Status::Preempted => "preempted",
        Status::Leaked => "leaked",
        Status::Other(_) => "unknown",
    }
}

/// How long a goroutine has waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// At least so many nanoseconds: since a collection saw it waiting.
    AtLeast(u64),
    /// It was at the same place when gotap looked so many nanoseconds ago.
    Observed(u64),
}

impl Wait {
    /// Nanoseconds.
    pub fn ns(self) -> u64 {
        match self {
            Wait::AtLeast(ns) | Wait::Observed(ns) => ns,
        }
    }

    /// `at_least` or `observed`.
    pub fn kind(self) -> &'static str {
        match self {
            Wait::AtLeast(_) => "at_least",
            Wait::Observed(_) => "observed",
        }
    }
}

/// The descriptor that a goroutine waits for, or that its system call is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Net {
    /// The descriptor.
    pub fd: Option<i64>,
    /// Go's name of the network; of other files the kernel's (`pipe`).
    pub network: Option<Arc<str>>,
    /// This end.
    pub local: Option<Endpoint>,
    /// The other end.
    pub remote: Option<Endpoint>,
    /// It waits to write; `None`: not known which way.
    pub write: Option<bool>,
    /// Nanoseconds until it gives up; below 0 when that has passed.
    pub deadline_ns: Option<i64>,
}

/// A channel that a goroutine waits on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chan {
    /// Its address.
    pub at: u64,
    /// Values in its buffer.
    pub len: u64,
    /// Size of its buffer.
    pub cap: u64,
    /// It was closed.
    pub closed: bool,
    /// It is a timer's.
    pub timer: bool,
    /// Type of its values, where it is known.
    pub elem: Option<Arc<str>>,
}

/// What a goroutine waits for, when that is no descriptor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlockedOn {
    /// Channels: one, or those of a select.
    Channels(Vec<Chan>),
    /// One of sync's types, by its address.
    Lock(Lock, u64),
    /// The end of a sleep, in nanoseconds from now.
    Sleep(i64),
    /// A system call, by its number.
    Syscall(i64),
}

/// What became of a goroutine's stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StackState {
    /// Read and unwound to its end.
    Whole,
    /// Unwinding stopped before the end: code that is not Go's, or too deep.
    Partial,
    /// Not asked for.
    Unread,
    /// The goroutine runs.
    Running,
    /// It moved each time it was read.
    Unstable,
    /// It could not be read.
    Unreadable,
}

impl StackState {
    /// For output.
    pub fn as_str(self) -> &'static str {
        match self {
            StackState::Whole => "whole",
            StackState::Partial => "partial",
            StackState::Unread => "unread",
            StackState::Running => "running",
            StackState::Unstable => "unstable",
            StackState::Unreadable => "unreadable",
        }
    }
}

/// A descriptor that goroutines wait for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Descriptor {
    /// Its number.
    pub fd: i64,
    /// Go's name of the network.
    pub network: Option<Arc<str>>,
    /// This end.
    pub local: Option<Endpoint>,
    /// The other end.
    pub remote: Option<Endpoint>,
    /// Goroutines that wait to read.
    pub readers: Vec<u64>,
    /// Goroutines that wait to write.
    pub writers: Vec<u64>,
    /// The nearest deadline, in nanoseconds from now.
    pub deadline_ns: Option<i64>,
}

/// One look at a program.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// When, in nanoseconds since 1970; `None` of a core.
    pub time_ns: Option<i64>,
    /// The program's Go.
    pub go_version: String,
    /// The processors it may use, where that could be read.
    pub gomaxprocs: Option<u32>,
    /// Its own goroutines, in order of their numbers.
    pub goroutines: Vec<Entry>,
    /// The runtime's goroutines.
    pub system: usize,
    /// Structs of goroutines that ended.
    pub dead: usize,
    /// Structs just made.
    pub idle: usize,
    /// Goroutines of which something could not be read.
    pub unreadable: usize,
    /// Goroutines whose stacks moved whenever they were read.
    pub unstable: usize,
    /// Stacks that were read.
    pub stacks_read: usize,
    /// Of a core: the goroutine that ran on the thread that crashed.
    pub crashed: Option<u64>,
    /// How long the program was stopped, when it was.
    pub stopped_ns: Option<u64>,
    /// Goroutines whose stacks hold the address of the lock that most wait
    /// for, and do not wait for it themselves.
    pub candidates: Vec<u64>,
    /// Frames and stacks.
    pub names: Names,
}

impl Survey {
    /// What runtime.NumGoroutine says.
    pub fn total(&self) -> usize {
        self.goroutines.iter().map(|e| e.count).sum()
    }

    /// How many per status, reason, class.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for one in &self.goroutines {
            *counts.status.entry(status_word(one.status)).or_default() += one.count;
            *counts.class.entry(one.class.as_str()).or_default() += one.count;
            if !one.reason.is_empty() {
                *counts.reason.entry(one.reason.clone()).or_default() += one.count;
            }
        }
        counts
    }

    /// The descriptors that are waited for, by number.
    pub fn descriptors(&self) -> Vec<Descriptor> {
        let mut all: BTreeMap<i64, Descriptor> = BTreeMap::new();
        for one in &self.goroutines {
            let Some(net) = one.net.as_deref().filter(|_| one.class == Class::Network) else {
                continue;
            };
            let Some(fd) = net.fd else { continue };
            let row = all.entry(fd).or_insert_with(|| Descriptor {
                fd,
                network: net.network.clone(),
                local: net.local.clone(),
                remote: net.remote.clone(),
                ..Descriptor::default()
            });
            match net.write {
                Some(true) => row.writers.push(one.goid),
                Some(false) => row.readers.push(one.goid),
                None => {}
            }
            row.deadline_ns = match (row.deadline_ns, net.deadline_ns) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        all.into_values().collect()
    }
}

/// How many goroutines there are of each kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// By status.
    pub status: BTreeMap<&'static str, usize>,
    /// By reason.
    pub reason: BTreeMap<Arc<str>, usize>,
    /// By class.
    pub class: BTreeMap<&'static str, usize>,
}
