//! Which descriptor a goroutine waits for in the network poller, for many
//! goroutines at a time.
//!
//! A parked goroutine's stack holds the address of its pollDesc's `rg` or `wg`,
//! and that word holds the goroutine (runtime/netpoll.go: netpollblock); 64
//! bytes above its stack pointer in Go 1.19 to 1.27, else it is looked for.
//! The `internal/poll.FD` that owns the descriptor lies on the stack as well:
//! it knows the pollDesc and the number. Each claim is checked against memory.

use std::collections::HashSet;

use crate::addr::LiveAddr;
use crate::golang::gs::{Goroutine, word_at};
use crate::golang::layout::Layouts;
use crate::memory::{Memory, MemoryError, Paged, read_each};

/// Where netpollblock keeps the address, in bytes above the stack pointer.
const USUAL: usize = 64;
/// Bytes of the stack that are looked through.
const WINDOW: u64 = 1280;
/// Goroutines looked at in one batch.
const BATCH: usize = 512;
/// Places on the stack where an owner was found, tried first.
const PLACES: usize = 16;

/// What a goroutine waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollWait {
    /// Its `runtime.pollDesc`.
    pub desc: LiveAddr,
    /// The file descriptor.
    pub fd: i64,
    /// It waits to write, else to read (or to accept).
    pub write: bool,
    /// When it gives up, CLOCK_MONOTONIC nanoseconds; 0 never, below 0 when
    /// that has passed already.
    pub deadline: i64,
    /// The `internal/poll.FD` that it waits with.
    pub owner: Option<LiveAddr>,
}

/// What each of `waiting` waits for; `None` for one that does not wait in the
/// poller, or went on meanwhile. Only a target that is gone is an error.
pub fn poll_waits(
    memory: &dyn Memory,
    layouts: &Layouts,
    waiting: &[Goroutine],
) -> Result<Vec<Option<PollWait>>, MemoryError> {
    let mut finder = Finder {
        memory,
        near: Paged::new(memory),
        layouts,
        places: Vec::new(),
    };
    let mut found = Vec::with_capacity(waiting.len());
    for batch in waiting.chunks(BATCH) {
        finder.near = Paged::new(memory);
        finder.batch(batch, &mut found)?;
    }
    Ok(found)
}

struct Finder<'a> {
    memory: &'a dyn Memory,
    /// The same by the page: connections lie beside each other.
    near: Paged<'a>,
    layouts: &'a Layouts,
    /// Offsets in the window where owners were found.
    places: Vec<usize>,
}

impl Finder<'_> {
    fn batch(
        &mut self,
        batch: &[Goroutine],
        found: &mut Vec<Option<PollWait>>,
    ) -> Result<(), MemoryError> {
        let windows: Vec<(LiveAddr, usize)> = batch
            .iter()
            .map(|g| {
                let room = g.stack_hi.0.saturating_sub(g.sched_sp.0).min(WINDOW);
                (g.sched_sp, usize::try_from(room).unwrap_or(0) & !7)
            })
            .collect();
        let stacks = self.pieces(&windows)?;
        let usual: Vec<(LiveAddr, usize)> = stacks
            .iter()
            .map(|stack| {
                let word = stack.as_deref().map_or(0, |s| word_at(s, USUAL as u64));
                self.desc_around(word)
            })
            .collect();
        let descs = self.pieces(&usual)?;
        for ((g, stack), (desc, (at, _))) in batch.iter().zip(&stacks).zip(descs.iter().zip(&usual))
        {
            let Some(stack) = stack else {
                found.push(None);
                continue;
            };
            let mut wait = desc.as_deref().and_then(|d| {
                let word = word_at(stack, USUAL as u64);
                self.wait_at(g, LiveAddr(word), *at, d)
            });
            if wait.is_none() {
                wait = self.search(g, stack)?;
            }
            if let Some(wait) = &mut wait {
                wait.owner = self.owner(stack, wait)?;
            }
            found.push(wait);
        }
        Ok(())
    }

    /// What lies at each place; `None` where nothing does, or nothing is asked for.
    fn pieces(&self, places: &[(LiveAddr, usize)]) -> Result<Vec<Option<Vec<u8>>>, MemoryError> {
        let read = read_each(self.memory, places)?;
        let some = |bytes: &Vec<u8>| !bytes.is_empty();
        Ok(read.into_iter().map(|bytes| bytes.filter(some)).collect())
    }

    /// Where to read so that the pollDesc is in it whichever field `word`
    /// points to: rg lies before wg.
    fn desc_around(&self, word: u64) -> (LiveAddr, usize) {
        let l = &self.layouts.poll_desc;
        let far = l.rg.max(l.wg);
        let near = l.rg.min(l.wg);
        let last = l.self_.max(l.rd).max(l.wd).saturating_add(8);
        let len = far.saturating_sub(near).saturating_add(last);
        if !word.is_multiple_of(8) || !(0x1000..1 << 47).contains(&word) {
            return (LiveAddr(0), 8);
        }
        (
            LiveAddr(word.wrapping_sub(far)),
            usize::try_from(len.min(4096)).unwrap_or(8),
        )
    }

    /// `word` points to the rg or wg of a pollDesc that holds `g`; `bytes`
    /// were read at `at`.
    fn wait_at(
        &self,
        g: &Goroutine,
        word: LiveAddr,
        at: LiveAddr,
        bytes: &[u8],
    ) -> Option<PollWait> {
        let l = &self.layouts.poll_desc;
        for (field, write, limit) in [(l.rg, false, l.rd), (l.wg, true, l.wd)] {
            let desc = word.0.wrapping_sub(field);
            let read = |offset: u64| {
                let skip = desc.wrapping_add(offset).wrapping_sub(at.0);
                word_at(bytes, skip)
            };
            if read(l.self_) == desc && read(field) == g.addr.0 {
                return Some(PollWait {
                    desc: LiveAddr(desc),
                    fd: read(l.fd) as i64,
                    write,
                    deadline: read(limit) as i64,
                    owner: None,
                });
            }
        }
        None
    }

    /// The word may lie elsewhere in a runtime that is not known.
    fn search(&self, g: &Goroutine, stack: &[u8]) -> Result<Option<PollWait>, MemoryError> {
        let (words, _) = stack.as_chunks::<8>();
        let places = words.iter().map(|w| u64::from_le_bytes(*w));
        for holder in self.words_at(places, g.addr.0)? {
            let (at, len) = self.desc_around(holder);
            if let Ok(bytes) = self.memory.read_vec(at, len)
                && let Some(wait) = self.wait_at(g, LiveAddr(holder), at, &bytes)
            {
                return Ok(Some(wait));
            }
        }
        Ok(None)
    }

    /// The poll.FD among the words of the stack.
    fn owner(&mut self, stack: &[u8], wait: &PollWait) -> Result<Option<LiveAddr>, MemoryError> {
        for &place in &self.places {
            let word = word_at(stack, place as u64);
            if word != 0 && self.is_owner(LiveAddr(word), wait)? {
                return Ok(Some(LiveAddr(word)));
            }
        }
        let l = &self.layouts.poll_fd;
        let (words, _) = stack.as_chunks::<8>();
        let places = words
            .iter()
            .map(|w| u64::from_le_bytes(*w).wrapping_add(l.runtime_ctx));
        for place in self.words_at(places, wait.desc.0)? {
            let owner = LiveAddr(place.wrapping_sub(l.runtime_ctx));
            if self.is_owner(owner, wait)? {
                let lies = words.iter().position(|w| u64::from_le_bytes(*w) == owner.0);
                if let Some(at) = lies.filter(|_| self.places.len() < PLACES) {
                    self.places.push(at.saturating_mul(8));
                }
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    fn is_owner(&self, at: LiveAddr, wait: &PollWait) -> Result<bool, MemoryError> {
        let l = &self.layouts.poll_fd;
        let len = usize::try_from(l.size.clamp(8, 256)).unwrap_or(56);
        match self.near.read_vec(at, len) {
            Ok(bytes) => Ok(word_at(&bytes, l.runtime_ctx) == wait.desc.0
                && word_at(&bytes, l.sysfd) as i64 == wait.fd),
            Err(MemoryError::Unmapped { .. }) => Ok(false),
            Err(gone @ MemoryError::Gone) => Err(gone),
        }
    }

    /// Those of `places` that hold `value`, read in one batch.
    fn words_at(
        &self,
        places: impl Iterator<Item = u64>,
        value: u64,
    ) -> Result<Vec<u64>, MemoryError> {
        let mut seen = HashSet::new();
        let places: Vec<(LiveAddr, usize)> = places
            .filter(|p| p % 8 == 0 && *p > 0x1000 && *p < 1 << 47 && seen.insert(*p))
            .map(|p| (LiveAddr(p), 8))
            .collect();
        let read = self.pieces(&places)?;
        Ok(places
            .iter()
            .zip(read)
            .filter(|(_, bytes)| bytes.as_deref() == Some(&value.to_le_bytes()[..]))
            .map(|((at, _), _)| at.0)
            .collect())
    }
}
