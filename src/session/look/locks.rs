//! Which lock many goroutines wait for whose stacks are not read.
//!
//! Those that are parked at one spot have the same frames: where the stacks that
//! were read name their locks, the others have theirs as well. One word of each
//! is read, and only when so many wait for locks that a verdict may come of it.

use std::collections::{HashMap, HashSet};

use super::Source;
use super::crowd::Cell;
use super::stacks::Said;
use crate::addr::LiveAddr;
use crate::golang::blocked::Lock;
use crate::golang::gs::word_at;
use crate::memory::{MemoryError, Piece};

/// Words read in one batch, as many as one system call takes.
const BATCH: usize = 1024;

/// A goroutine that waits for a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub cell: usize,
    /// Index of its entry, when it has one of its own.
    pub entry: Option<usize>,
    /// Its stack pointer.
    pub sp: u64,
}

/// Goroutines that wait for locks.
#[derive(Default, Debug)]
pub(super) struct Waiters(Vec<Waiter>);

/// A lock, and how many of each cell wait for it.
#[derive(Debug)]
pub(super) struct Busiest {
    pub lock: Lock,
    pub address: u64,
    pub by_cell: HashMap<usize, usize>,
}

impl Waiters {
    pub(super) fn add(&mut self, waiter: Waiter) {
        self.0.push(waiter);
    }

    pub(super) fn all(&self) -> &[Waiter] {
        &self.0
    }

    /// The lock of each, where a stack of its cell said where that stands.
    pub(super) fn locks(
        &self,
        source: &Source,
        cells: &[Cell],
    ) -> Result<Vec<Option<(Lock, u64)>>, MemoryError> {
        let said = |index: usize| {
            let cell = cells.get(index)?;
            let said = cell.said()?;
            // It runs again: words that were not kept would be of another moment.
            let then = source.moment.is_none() || source.hints.get(&cell.spot) == Some(&said.at);
            then.then_some(said)
        };
        let mut locks: Vec<Option<(Lock, u64)>> = Vec::with_capacity(self.0.len());
        let mut bytes = vec![[0; 8]; BATCH];
        for batch in self.0.chunks(BATCH) {
            let places: Vec<Option<(LiveAddr, Said)>> = batch
                .iter()
                .map(|waiter| {
                    let said = said(waiter.cell)?;
                    Some((LiveAddr(waiter.sp.wrapping_add(said.at)), said))
                })
                .collect();
            let mut pieces: Vec<Piece<'_>> = places
                .iter()
                .flatten()
                .zip(&mut bytes)
                .map(|((at, _), into)| Piece {
                    at: *at,
                    into,
                    ok: false,
                })
                .collect();
            source.memory.read_many(&mut pieces)?;
            let mut words = pieces.iter().map(|p| p.ok.then(|| word_at(p.into, 0)));
            locks.extend(places.iter().map(|place| {
                let (_, said) = (*place)?;
                let semaphore = words.next().flatten()?;
                Some((said.lock, semaphore.wrapping_sub(said.from)))
            }));
        }
        Ok(locks)
    }

    /// Has the words kept that [`Waiters::locks`] will ask for, as far as the look
    /// before this one tells where they stand.
    pub(super) fn keep(&self, source: &Source, cells: &[Cell]) -> Result<(), MemoryError> {
        let mut bytes = vec![[0; 8]; BATCH];
        for batch in self.0.chunks(BATCH) {
            let places = batch.iter().filter_map(|waiter| {
                let at = source.hints.get(&cells.get(waiter.cell)?.spot)?;
                Some(LiveAddr(waiter.sp.wrapping_add(*at)))
            });
            let mut pieces: Vec<Piece<'_>> = places
                .zip(&mut bytes)
                .map(|(at, into)| Piece {
                    at,
                    into,
                    ok: false,
                })
                .collect();
            source.memory.read_many(&mut pieces)?;
        }
        Ok(())
    }

    /// The mutex that most wait for, those at the stack pointers in `known`
    /// excepted; `None` when it is of none known.
    pub(super) fn busiest(
        &self,
        locks: &[Option<(Lock, u64)>],
        known: &HashSet<u64>,
    ) -> Option<Busiest> {
        let mut counts: HashMap<(Lock, u64), usize> = HashMap::new();
        let asked = || {
            let all = self.0.iter().zip(locks);
            all.filter(|(waiter, _)| !known.contains(&waiter.sp))
        };
        for lock in asked().filter_map(|(_, lock)| *lock) {
            if matches!(lock.0, Lock::Mutex | Lock::RwMutex) {
                *counts.entry(lock).or_default() += 1;
            }
        }
        let most = counts
            .into_iter()
            .max_by_key(|((_, address), count)| (*count, std::cmp::Reverse(*address)));
        let ((lock, address), _) = most?;
        let mut by_cell = HashMap::new();
        for (waiter, one) in asked() {
            if *one == Some((lock, address)) {
                *by_cell.entry(waiter.cell).or_default() += 1;
            }
        }
        Some(Busiest {
            lock,
            address,
            by_cell,
        })
    }
}
