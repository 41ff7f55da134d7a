//! What goroutines wait for that do not wait for a descriptor: channels,
//! semaphores behind sync's types, the end of a sleep.
//!
//! Channels are named by the `sudog`s of a goroutine (runtime/chan.go,
//! runtime/select.go). A semaphore's address is the first argument of
//! runtime.semacquire1, kept in its home on the stack as the function looks at
//! it again when it wakes (runtime/sema.go); whose it is, the caller tells.

use crate::addr::LiveAddr;
use crate::golang::census::Resident;
use crate::golang::gs::word_at;
use crate::golang::layout::Layouts;
use crate::memory::{Memory, MemoryError, Piece};

/// Channels of one select that are told.
const MAX_CASES: usize = 64;
/// Goroutines read in one batch.
const BATCH: usize = 1024;

/// A channel that a goroutine waits on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Channel {
    /// Its `runtime.hchan`.
    pub at: LiveAddr,
    /// Values in its buffer.
    pub len: u64,
    /// Size of its buffer.
    pub cap: u64,
    /// It was closed.
    pub closed: bool,
    /// It is a timer's (from Go 1.23 on).
    pub timer: bool,
    /// Descriptor of the type of its values.
    pub elem: LiveAddr,
}

/// Channels that each of `waiting` waits on, in the order of their locks.
/// Only a target that is gone is an error.
pub fn channels(
    memory: &dyn Memory,
    layouts: &Layouts,
    waiting: &[Resident],
) -> Result<Vec<Vec<Channel>>, MemoryError> {
    let mut found: Vec<Vec<Channel>> = Vec::with_capacity(waiting.len());
    for batch in waiting.chunks(BATCH) {
        let start = found.len();
        found.resize(start + batch.len(), Vec::new());
        let mut next: Vec<(usize, LiveAddr)> = batch
            .iter()
            .enumerate()
            .filter(|(_, r)| !r.waiting.is_null())
            .map(|(i, r)| (start + i, r.waiting))
            .collect();
        for _ in 0..MAX_CASES {
            if next.is_empty() {
                break;
            }
            next = one_each(memory, layouts, batch, start, &next, &mut found)?;
        }
    }
    Ok(found)
}

/// Reads one sudog of each and its channel; gives the sudogs that follow.
fn one_each(
    memory: &dyn Memory,
    layouts: &Layouts,
    batch: &[Resident],
    start: usize,
    at: &[(usize, LiveAddr)],
    found: &mut [Vec<Channel>],
) -> Result<Vec<(usize, LiveAddr)>, MemoryError> {
    let l = &layouts.sudog;
    let len = l.g.max(l.waitlink).max(l.c).saturating_add(8);
    let places: Vec<LiveAddr> = at.iter().map(|(_, a)| *a).collect();
    let sudogs = read_each(memory, &places, len)?;
    let mut owned = Vec::new();
    let mut next = Vec::new();
    for ((index, _), bytes) in at.iter().zip(sudogs) {
        let Some(bytes) = bytes else { continue };
        let g = index.checked_sub(start).and_then(|i| batch.get(i));
        if g.is_none_or(|r| r.g.addr.0 != word_at(&bytes, l.g)) {
            continue; // it went on meanwhile
        }
        let channel = LiveAddr(word_at(&bytes, l.c));
        if !channel.is_null() {
            owned.push((*index, channel));
        }
        let link = LiveAddr(word_at(&bytes, l.waitlink));
        if !link.is_null() {
            next.push((*index, link));
        }
    }
    let l = &layouts.hchan;
    let len = l.elemtype.max(l.timer.unwrap_or(0)).max(l.closed);
    let places: Vec<LiveAddr> = owned.iter().map(|(_, a)| *a).collect();
    let channels = read_each(memory, &places, len.saturating_add(8))?;
    for ((index, at), bytes) in owned.into_iter().zip(channels) {
        let (Some(bytes), Some(list)) = (bytes, found.get_mut(index)) else {
            continue;
        };
        list.push(Channel {
            at,
            len: word_at(&bytes, l.qcount),
            cap: word_at(&bytes, l.dataqsiz),
            closed: word_at(&bytes, l.closed) as u32 != 0,
            timer: l.timer.is_some_and(|t| word_at(&bytes, t) != 0),
            elem: LiveAddr(word_at(&bytes, l.elemtype)),
        });
    }
    Ok(next)
}

fn read_each(
    memory: &dyn Memory,
    places: &[LiveAddr],
    len: u64,
) -> Result<Vec<Option<Vec<u8>>>, MemoryError> {
    let len = usize::try_from(len.min(4096)).unwrap_or(8);
    let mut buffers = vec![vec![0; len]; places.len()];
    let mut pieces: Vec<Piece<'_>> = places
        .iter()
        .zip(&mut buffers)
        .map(|(&at, into)| Piece {
            at,
            into,
            ok: false,
        })
        .collect();
    memory.read_many(&mut pieces)?;
    let oks: Vec<bool> = pieces.iter().map(|p| p.ok).collect();
    Ok(oks
        .into_iter()
        .zip(buffers)
        .map(|(ok, bytes)| ok.then_some(bytes))
        .collect())
}

/// When a goroutine in time.Sleep goes on, CLOCK_MONOTONIC nanoseconds.
pub fn sleep_end(
    memory: &dyn Memory,
    layouts: &Layouts,
    sleeping: &Resident,
) -> Result<Option<i64>, MemoryError> {
    if layouts.g.sleep_when.is_some() {
        return Ok(Some(sleeping.sleep_when).filter(|when| *when != 0));
    }
    if sleeping.timer.is_null() {
        return Ok(None);
    }
    match memory.read_u64(sleeping.timer.offset(layouts.timer.when)) {
        Ok(when) => Ok(Some(when as i64).filter(|when| *when != 0)),
        Err(MemoryError::Unmapped { .. }) => Ok(None),
        Err(gone @ MemoryError::Gone) => Err(gone),
    }
}

/// What the semaphore belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lock {
    /// `sync.Mutex`
    Mutex,
    /// `sync.RWMutex`
    RwMutex,
    /// `sync.WaitGroup`
    WaitGroup,
    /// `sync.Cond`
    Cond,
    /// `internal/poll.FD`: another call reads or writes the same descriptor.
    PollFd,
    /// Anything else of the runtime or of a package that uses semaphores.
    Semaphore,
}

impl Lock {
    /// For output.
    pub fn as_str(self) -> &'static str {
        match self {
            Lock::Mutex => "mutex",
            Lock::RwMutex => "rwmutex",
            Lock::WaitGroup => "waitgroup",
            Lock::Cond => "cond",
            Lock::PollFd => "poll_fd",
            Lock::Semaphore => "semaphore",
        }
    }
}

/// A frame, as [`lock_of`] looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The function, inlined ones included.
    pub function: &'a str,
    /// Where its arguments begin, of a function with a frame of its own.
    pub args: Option<LiveAddr>,
}

/// What a goroutine waits for by its innermost frames; `word` reads its stack.
pub fn lock_of(
    frames: &[Named<'_>],
    word: &dyn Fn(LiveAddr) -> Option<u64>,
) -> Option<(Lock, LiveAddr)> {
    if let Some(wait) = frames.iter().find(|f| f.function == "sync.(*Cond).Wait") {
        let cond = word(wait.args?)?;
        return Some((Lock::Cond, LiveAddr(cond)));
    }
    let at = frames
        .iter()
        .position(|f| f.function == "runtime.semacquire1")?;
    let (inner, outer) = frames.split_at_checked(at + 1)?;
    let semaphore = word(inner.last()?.args?)?;
    // sync.runtime_SemacquireMutex and the like stand between.
    let caller = outer
        .iter()
        .find(|f| !f.function.contains(".runtime_Semacquire"))?
        .function;
    // Offsets of the semaphores: sync/mutex.go, sync/rwmutex.go,
    // sync/waitgroup.go, internal/poll/fd_mutex.go of 1.19 to 1.27.
    let (lock, offset) = match caller {
        "sync.(*Mutex).lockSlow" | "internal/sync.(*Mutex).lockSlow" => (Lock::Mutex, 4),
        "sync.(*RWMutex).RLock" | "sync.(*RWMutex).rlockSlow" => (Lock::RwMutex, 12),
        "sync.(*RWMutex).Lock" => (Lock::RwMutex, 8),
        "sync.(*WaitGroup).Wait" => (Lock::WaitGroup, 8),
        "internal/poll.(*fdMutex).rwlock" => {
            // rsema, wsema: the descriptor's state before both.
            let read = semaphore % 8 == 0;
            (Lock::PollFd, if read { 8 } else { 12 })
        }
        _ => (Lock::Semaphore, 0),
    };
    Some((lock, LiveAddr(semaphore.wrapping_sub(offset))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, args: Option<u64>) -> Named<'_> {
        Named {
            function,
            args: args.map(LiveAddr),
        }
    }

    #[test]
    fn a_mutex_begins_before_its_semaphore() {
        let frames = [
            frame("runtime.gopark", Some(0x10)),
            frame("runtime.semacquire1", Some(0x20)),
            frame("internal/sync.runtime_SemacquireMutex", Some(0x30)),
            frame("internal/sync.(*Mutex).lockSlow", Some(0x40)),
        ];
        let word = |at: LiveAddr| (at.0 == 0x20).then_some(0xc000_1004);
        assert_eq!(
            lock_of(&frames, &word),
            Some((Lock::Mutex, LiveAddr(0xc000_1000)))
        );
        assert_eq!(lock_of(&frames[..1], &word), None);
        assert_eq!(lock_of(&frames[..2], &word), None);
    }

    #[test]
    fn a_second_reader_of_a_descriptor_waits_for_the_first() {
        let frames = [
            frame("runtime.semacquire1", Some(0x20)),
            frame("internal/poll.runtime_Semacquire", Some(0x30)),
            frame("internal/poll.(*fdMutex).rwlock", Some(0x40)),
        ];
        let word = |_: LiveAddr| Some(0xc000_100c);
        assert_eq!(
            lock_of(&frames, &word),
            Some((Lock::PollFd, LiveAddr(0xc000_1000)))
        );
    }
}
