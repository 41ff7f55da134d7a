//! Memory that is read in rounds: the loader runs without reading, what it
//! would have read is then fetched in one batch, and it runs again. A value
//! costs as many kernel entries as it has levels, not as it has pieces; the
//! thread that hit a probe waits for nothing else.

use std::cell::{Cell, RefCell};

use crate::addr::LiveAddr;
use crate::memory::{Memory, MemoryError, Piece, read_each};

/// Bytes fetched for one set of values; what does not fit is read directly.
const MAX_BYTES: usize = 256 << 10;

/// A place and a length.
type Span = (LiveAddr, usize);

/// See the module's header.
pub(super) struct Staged<'a> {
    inner: &'a dyn Memory,
    held: RefCell<Vec<(LiveAddr, Vec<u8>)>>,
    bad: RefCell<Vec<Span>>,
    wanted: RefCell<Vec<Span>>,
    collecting: Cell<bool>,
}

impl<'a> Staged<'a> {
    pub(super) fn new(inner: &'a dyn Memory) -> Staged<'a> {
        Staged {
            inner,
            held: RefCell::default(),
            bad: RefCell::default(),
            wanted: RefCell::default(),
            collecting: Cell::new(true),
        }
    }

    /// Fetches what the last round missed; false when it missed nothing.
    pub(super) fn fetch(&self) -> bool {
        let mut wanted = self.wanted.take();
        if wanted.is_empty() {
            return false;
        }
        let held: usize = self.held.borrow().iter().map(|(_, b)| b.len()).sum();
        let mut room = MAX_BYTES.saturating_sub(held);
        wanted.retain(|(_, len)| {
            let fits = *len <= room;
            room = room.saturating_sub(*len);
            fits
        });
        if wanted.is_empty() {
            self.collecting.set(false);
            return true;
        }
        let read = read_each(self.inner, &wanted).unwrap_or_else(|_| vec![None; wanted.len()]);
        for (span, bytes) in wanted.into_iter().zip(read) {
            match bytes {
                Some(bytes) => self.held.borrow_mut().push((span.0, bytes)),
                None => self.bad.borrow_mut().push(span),
            }
        }
        true
    }

    /// From here on what is missing is read at once.
    pub(super) fn stop_collecting(&self) {
        self.collecting.set(false);
    }

    /// True while reads are noted instead of done.
    pub(super) fn is_collecting(&self) -> bool {
        self.collecting.get()
    }

    fn find(&self, at: LiveAddr, into: &mut [u8]) -> bool {
        for (start, bytes) in self.held.borrow().iter() {
            let skip =
                at.0.checked_sub(start.0)
                    .and_then(|skip| usize::try_from(skip).ok());
            let found = skip
                .and_then(|skip| bytes.get(skip..))
                .and_then(|rest| rest.get(..into.len()));
            if let Some(found) = found {
                into.copy_from_slice(found);
                return true;
            }
        }
        false
    }
}

impl Memory for Staged<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        if into.is_empty() || self.find(at, into) {
            return Ok(());
        }
        let span = (at, into.len());
        let unmapped = Err(MemoryError::Unmapped {
            at,
            len: into.len(),
        });
        if self.bad.borrow().contains(&span) {
            return unmapped;
        }
        if !self.collecting.get() {
            return self.inner.read(at, into);
        }
        let mut wanted = self.wanted.borrow_mut();
        if !wanted.contains(&span) {
            wanted.push(span);
        }
        unmapped
    }

    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        if !self.collecting.get() {
            return self.inner.read_many(pieces);
        }
        for piece in pieces {
            piece.ok = self.read(piece.at, piece.into).is_ok();
        }
        Ok(())
    }
}
