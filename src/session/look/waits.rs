//! What goroutines wait for: descriptors with both ends, channels, sleeps and
//! system calls.

use std::collections::HashMap;
use std::sync::Arc;

use super::Source;
use crate::addr::LiveAddr;
use crate::golang::blocked::{Lock, channels, sleep_end};
use crate::golang::census::Resident;
use crate::golang::dynamic::DynamicTypes;
use crate::golang::family::Receiver;
use crate::golang::gs::Status;
use crate::golang::net::{ConnFacts, ConnReader};
use crate::golang::polled::poll_waits;
use crate::memory::{Memory, MemoryError, Paged};
use crate::process::procfs;
use crate::survey::{BlockedOn, Chan, Class, Entry, Net};

/// System calls whose first argument is a descriptor (asm/unistd_64.h): read,
/// write, fstat, poll excepted, ioctl, pread64, pwrite64, readv, writev,
/// sendfile, connect, accept, sendto, recvfrom, sendmsg, recvmsg, flock,
/// fsync, accept4.
const OF_DESCRIPTORS: &[i64] = &[
    0, 1, 5, 16, 17, 18, 19, 20, 40, 42, 43, 44, 45, 46, 47, 73, 74, 288,
];

/// Fills in the descriptors that goroutines in the poller wait for; `entries`
/// tell of `own`, one by one.
pub(super) fn connections(
    source: &Source,
    now: Option<i64>,
    own: &[Resident],
    entries: &mut [Entry],
) -> Result<(), MemoryError> {
    let target = &source.target;
    let waiting: Vec<usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, e)| e.class == Class::Network && e.status == Status::Waiting)
        .map(|(i, _)| i)
        .collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let gs: Vec<_> = waiting
        .iter()
        .filter_map(|i| own.get(*i).map(|r| r.g))
        .collect();
    let waits = poll_waits(&*source.memory, &target.layouts, &gs)?;
    let types = target.live_types();
    let mut reader = ConnReader::new(target.layouts.clone());
    // Connections lie beside connections, addresses beside addresses.
    let memory = Paged::new(&*source.memory);
    for (&index, wait) in waiting.iter().zip(waits) {
        let (Some(wait), Some(entry)) = (wait, entries.get_mut(index)) else {
            continue;
        };
        let facts = match wait.owner {
            Some(owner) => {
                reader.facts(&memory, &types, Receiver::PollFd, [owner.0, 0], &mut [])?
            }
            None => Arc::new(ConnFacts::default()),
        };
        let network = match (&facts.network, wait.owner) {
            (Some(network), _) => Some(network.clone()),
            (None, Some(owner)) => file_kind(source, &memory, owner)?,
            (None, None) => None,
        };
        entry.net = Some(Box::new(Net {
            fd: Some(wait.fd),
            network,
            local: facts.local.clone(),
            remote: facts.remote.clone(),
            write: Some(wait.write),
            deadline_ns: left(wait.deadline, now),
        }));
    }
    Ok(())
}

/// Time left until a deadline; -1 is the runtime's for one that has passed
/// (runtime/netpoll.go: poll_runtime_pollSetDeadline).
fn left(deadline: i64, now: Option<i64>) -> Option<i64> {
    match (deadline, now) {
        (0, _) | (_, None) => None,
        (past, _) if past < 0 => Some(-1),
        (at, Some(now)) => Some(at.saturating_sub(now)),
    }
}

/// `pipe` or `file` of the os.File that a poll.FD is part of, by its name
/// (os/pipe2_unix.go: os.Pipe).
fn file_kind(
    source: &Source,
    memory: &dyn Memory,
    owner: LiveAddr,
) -> Result<Option<Arc<str>>, MemoryError> {
    let layouts = &source.target.layouts;
    let kind = || -> Result<Option<&str>, MemoryError> {
        if memory.read_u8(owner.offset(layouts.poll_fd.is_file))? == 0 {
            return Ok(None);
        }
        let file = LiveAddr(owner.0.wrapping_sub(layouts.os_file_inner.pfd));
        let name = file.offset(layouts.os_file_inner.name);
        let (at, len) = (memory.read_addr(name)?, memory.read_u64(name.offset(8))?);
        let pipe = len == 2 && memory.read_u8(at)? == b'|';
        Ok(Some(if pipe { "pipe" } else { "file" }))
    };
    match kind() {
        Ok(kind) => Ok(kind.map(Arc::from)),
        Err(MemoryError::Unmapped { .. }) => Ok(None),
        Err(gone @ MemoryError::Gone) => Err(gone),
    }
}

/// `pipe`, `socket`, `file` … by what the kernel says.
fn kind_of(pid: i32, fd: i64) -> Option<Arc<str>> {
    let link = procfs::descriptor(pid, fd)?;
    let kind = match link.split_once(":[") {
        Some((kind, _)) => kind,
        None if link.starts_with("/dev/pts/") || link == "/dev/tty" => "tty",
        None => "file",
    };
    Some(kind.into())
}

/// Fills in channels, sleeps and system calls.
pub(super) fn details(
    source: &Source,
    now: Option<i64>,
    own: &[Resident],
    entries: &mut [Entry],
) -> Result<(), MemoryError> {
    let memory = &*source.memory;
    let layouts = &source.target.layouts;
    on_channels(source, own, entries)?;
    for (entry, r) in entries.iter_mut().zip(own) {
        if &*entry.reason == "sleep" {
            let end = sleep_end(memory, layouts, r)?;
            let left = end.zip(now).map(|(end, now)| end.saturating_sub(now));
            entry.blocked_on = left.map(|ns| Box::new(BlockedOn::Sleep(ns)));
        }
        if entry.status == Status::Syscall
            && let Some(tid) = entry.tid
            && let Some((number, first)) = syscall(source, tid)
        {
            entry.blocked_on = Some(Box::new(BlockedOn::Syscall(number)));
            if OF_DESCRIPTORS.contains(&number) {
                let fd = i64::from(first as u32 as i32);
                entry.net = Some(Box::new(Net {
                    fd: Some(fd),
                    network: source.live_pid().and_then(|pid| kind_of(pid, fd)),
                    ..Net::default()
                }));
            }
        }
    }
    queued(source, entries)
}

/// The system call that a thread is in, and its first argument.
fn syscall(source: &Source, tid: u64) -> Option<(i64, u64)> {
    match source.threads.iter().find(|t| t.tid == tid) {
        Some(thread) => thread.syscall,
        None => procfs::syscall(source.live_pid()?, tid),
    }
}

fn on_channels(
    source: &Source,
    own: &[Resident],
    entries: &mut [Entry],
) -> Result<(), MemoryError> {
    let types = source.target.live_types();
    let (indexes, residents): (Vec<usize>, Vec<Resident>) = own
        .iter()
        .enumerate()
        .filter(|(_, r)| r.g.status == Status::Waiting && !r.waiting.is_null())
        .map(|(i, r)| (i, *r))
        .unzip();
    let lists = channels(&*source.memory, &source.target.layouts, &residents)?;
    let mut names: HashMap<LiveAddr, Option<Arc<str>>> = HashMap::new();
    for (index, list) in indexes.into_iter().zip(lists) {
        let Some(entry) = entries.get_mut(index) else {
            continue;
        };
        if list.is_empty() || entry.blocked_on.is_some() {
            continue;
        }
        let mut chans = Vec::with_capacity(list.len());
        for c in list {
            let name = || types.described(c.elem).map(|t| t.name.clone());
            chans.push(Chan {
                at: c.at.0,
                len: c.len,
                cap: c.cap,
                closed: c.closed,
                timer: c.timer,
                elem: names.entry(c.elem).or_insert_with(name).clone(),
            });
        }
        entry.blocked_on = Some(Box::new(BlockedOn::Channels(chans)));
    }
    Ok(())
}

/// Those that wait until another call on the same descriptor ends.
fn queued(source: &Source, entries: &mut [Entry]) -> Result<(), MemoryError> {
    let types = source.target.live_types();
    let mut reader = ConnReader::new(source.target.layouts.clone());
    for entry in entries {
        let Some(BlockedOn::Lock(Lock::PollFd, at)) = entry.blocked_on.as_deref() else {
            continue;
        };
        let facts = reader.facts(&*source.memory, &types, Receiver::PollFd, [*at, 0], &mut [])?;
        entry.net = Some(Box::new(Net {
            fd: facts.fd,
            network: facts.network.clone(),
            local: facts.local.clone(),
            remote: facts.remote.clone(),
            ..Net::default()
        }));
    }
    Ok(())
}
