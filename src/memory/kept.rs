//! What was read of a target at one moment, to be read again afterwards.
//!
//! A target that is stopped must go on soon: its bytes are fetched while it
//! stands still, and looked at when it runs again.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::{Memory, MemoryError, Piece, read_each};
use crate::addr::LiveAddr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Reads go to the target, and nothing is kept.
    Through,
    /// The same, and what was read is kept.
    Keep,
    /// What was kept is read.
    Kept,
}

/// A target's memory that can be told to keep what is read from it.
#[derive(Debug)]
pub struct Keeping<M> {
    target: M,
    mode: Cell<Mode>,
    /// Where each piece begins; none overlaps another.
    pieces: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl<M: Memory> Keeping<M> {
    /// Keeps nothing yet.
    pub fn new(target: M) -> Self {
        Keeping {
            target,
            mode: Cell::new(Mode::Through),
            pieces: RefCell::default(),
        }
    }

    /// Forgets what was kept; from here on all that is read is kept, each byte
    /// read once. The target must not run meanwhile.
    pub fn keep(&self) {
        self.pieces.borrow_mut().clear();
        self.mode.set(Mode::Keep);
    }

    /// From here on what was kept is read. What was not is read from the
    /// target, if that is still there.
    pub fn replay(&self) {
        self.mode.set(Mode::Kept);
    }

    /// Forgets all, and reads the target again.
    pub fn forget(&self) {
        self.pieces.borrow_mut().clear();
        self.mode.set(Mode::Through);
    }

    /// The parts of these bytes that were not kept.
    fn gaps(&self, at: LiveAddr, len: usize) -> Vec<(u64, usize)> {
        let pieces = self.pieces.borrow();
        let end = at.0.saturating_add(len as u64);
        let mut from = at.0;
        let mut gaps = Vec::new();
        let before = pieces.range(..=from).next_back();
        for (start, bytes) in before.into_iter().chain(pieces.range(from..end)) {
            if *start > from {
                gaps.push((from, size(start.saturating_sub(from))));
            }
            from = from.max(start.saturating_add(bytes.len() as u64));
        }
        if from < end {
            gaps.push((from, size(end.saturating_sub(from))));
        }
        gaps
    }

    /// Keeps bytes, where none are kept yet.
    fn store(&self, at: u64, bytes: &[u8]) {
        for (from, len) in self.gaps(LiveAddr(at), bytes.len()) {
            let skip = size(from.saturating_sub(at));
            if let Some(part) = bytes.get(skip..skip.saturating_add(len)) {
                self.pieces.borrow_mut().insert(from, part.to_vec());
            }
        }
    }

    /// Copies what was kept of these bytes.
    fn copy(&self, at: LiveAddr, into: &mut [u8]) {
        let pieces = self.pieces.borrow();
        let end = at.0.saturating_add(into.len() as u64);
        let before = pieces.range(..=at.0).next_back();
        let behind = pieces.range(at.0.saturating_add(1)..end.max(at.0.saturating_add(1)));
        for (start, bytes) in before.into_iter().chain(behind) {
            let (skip, into) = match at.0.checked_sub(*start) {
                Some(skip) => (size(skip), &mut *into),
                None => match into.get_mut(size(start.wrapping_sub(at.0))..) {
                    Some(rest) => (0, rest),
                    None => continue,
                },
            };
            let found = bytes.get(skip..).unwrap_or_default();
            for (to, from) in into.iter_mut().zip(found) {
                *to = *from;
            }
        }
    }

    fn fetch(&self, gaps: &[(u64, usize)]) -> Result<bool, MemoryError> {
        let places: Vec<_> = gaps.iter().map(|(at, len)| (LiveAddr(*at), *len)).collect();
        let mut all = true;
        for ((at, _), bytes) in gaps.iter().zip(read_each(&self.target, &places)?) {
            match bytes {
                Some(bytes) => self.store(*at, &bytes),
                None => all = false,
            }
        }
        Ok(all)
    }
}

/// Lengths of what is in memory here.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl<M: Memory> Memory for Keeping<M> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let mode = self.mode.get();
        if mode == Mode::Through {
            return self.target.read(at, into);
        }
        let unmapped = MemoryError::Unmapped {
            at,
            len: into.len(),
        };
        if at.0.checked_add(into.len() as u64).is_none() {
            return Err(unmapped);
        }
        let gaps = self.gaps(at, into.len());
        match (mode, gaps.is_empty()) {
            (_, true) => {}
            (Mode::Kept, false) => {
                // Of another moment; and what was kept outlives the target.
                self.target.read(at, into).map_err(|_| unmapped)?;
            }
            (_, false) => {
                if !self.fetch(&gaps)? {
                    return Err(unmapped);
                }
            }
        }
        self.copy(at, into);
        Ok(())
    }

    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        match self.mode.get() {
            Mode::Through => return self.target.read_many(pieces),
            Mode::Keep => {
                let gaps: Vec<(u64, usize)> = pieces
                    .iter()
                    .flat_map(|p| self.gaps(p.at, p.into.len()))
                    .collect();
                if !gaps.is_empty() {
                    self.fetch(&gaps)?;
                }
            }
            Mode::Kept => {}
        }
        for piece in pieces {
            let kept = self.mode.get() == Mode::Kept;
            piece.ok = if kept || self.gaps(piece.at, piece.into.len()).is_empty() {
                self.read(piece.at, piece.into).is_ok()
            } else {
                false
            };
        }
        Ok(())
    }
}
