//! Whole pages, kept for a while: for many small structs that lie near each
//! other, read by a walk that follows pointers.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{Memory, MemoryError};
use crate::addr::LiveAddr;

const PAGE: usize = 4096;
/// Pages that are kept.
const MAX_PAGES: usize = 2048;

/// A target whose bytes are read by the page, each page once. All that is read
/// of a page is of one moment, that of its first read: make one for each batch.
pub struct Paged<'a> {
    target: &'a dyn Memory,
    /// `None`: it cannot be read whole.
    pages: RefCell<HashMap<u64, Option<Box<[u8; PAGE]>>>>,
}

impl<'a> Paged<'a> {
    /// With no page read.
    pub fn new(target: &'a dyn Memory) -> Self {
        Paged {
            target,
            pages: RefCell::default(),
        }
    }

    /// Copies from one page; `false` where it cannot be read whole.
    fn copy(&self, page: u64, from: usize, into: &mut [u8]) -> Result<bool, MemoryError> {
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= MAX_PAGES && !pages.contains_key(&page) {
            pages.clear();
        }
        let kept = match pages.entry(page) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                let mut bytes = Box::new([0; PAGE]);
                free.insert(match self.target.read(LiveAddr(page), &mut *bytes) {
                    Ok(()) => Some(bytes),
                    Err(MemoryError::Unmapped { .. }) => None,
                    Err(gone @ MemoryError::Gone) => return Err(gone),
                })
            }
        };
        let found = kept
            .as_ref()
            .and_then(|bytes| bytes.get(from..from.checked_add(into.len())?));
        if let Some(found) = found {
            into.copy_from_slice(found);
        }
        Ok(found.is_some())
    }
}

impl Memory for Paged<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let from = (at.0 % PAGE as u64) as usize;
        let page = at.0 - from as u64;
        let here = into.len().min(PAGE - from);
        if into.len() > PAGE {
            return self.target.read(at, into);
        }
        let (first, second) = into.split_at_mut(here);
        let mut whole = self.copy(page, from, first)?;
        if whole && !second.is_empty() {
            whole = match page.checked_add(PAGE as u64) {
                Some(next) => self.copy(next, 0, second)?,
                None => false,
            };
        }
        if whole {
            Ok(())
        } else {
            self.target.read(at, into)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Patchwork;

    #[test]
    fn what_is_read_by_the_page_is_what_is_read_alone() {
        let bytes = |n: usize| (0..n).map(|i| (i * 7 / 3) as u8).collect();
        let target = Patchwork {
            // Two pages, and a part of one.
            pieces: vec![
                (LiveAddr(0x1000), bytes(2 * PAGE)),
                (LiveAddr(0x5100), bytes(100)),
            ],
        };
        let paged = Paged::new(&target);
        let places = [
            (0x1000, 8),
            (0x1ffc, 8),
            (0x1001, 4096),
            (0x2ffc, 8),
            (0x5100, 100),
            (0x5090, 32),
            (0x1000, 8192),
            (u64::MAX - 3, 8),
            (0, 0),
        ];
        for (at, len) in places {
            let at = LiveAddr(at);
            assert_eq!(
                paged.read_vec(at, len).ok(),
                target.read_vec(at, len).ok(),
                "{at} {len}"
            );
        }
    }
}
