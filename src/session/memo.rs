//! Values that were decoded before: those of a call that are in registers, and
//! of which nothing is followed, are the same for the same words.

use std::cell::{Cell, RefCell};

use crate::addr::LiveAddr;
use crate::memory::{Memory, MemoryError, Piece};
use crate::probe::hash::WordMap;

/// So many are kept; with more of them it is not worth while.
const MOST: usize = 1 << 12;

/// A function and its registers.
pub(super) type Key = (usize, [u64; 9]);

/// What was decoded, by function and registers.
pub(super) struct Memo<T>(RefCell<WordMap<Key, T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Memo(RefCell::default())
    }
}

impl<T: Clone> Memo<T> {
    pub fn get(&self, key: &Key) -> Option<T> {
        self.0.borrow().get(key).cloned()
    }

    pub fn put(&self, key: Key, what: T) {
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, what);
    }
}

/// The registers of a mask, the others as 0.
pub(super) fn words(registers: &[u64; 9], mask: u16) -> [u64; 9] {
    let mut words = *registers;
    for (i, word) in words.iter_mut().enumerate() {
        if mask >> i & 1 == 0 {
            *word = 0;
        }
    }
    words
}

/// Memory that knows whether anything was read of it.
pub(super) struct Watched<'a> {
    memory: &'a dyn Memory,
    read: Cell<bool>,
}

impl<'a> Watched<'a> {
    pub fn new(memory: &'a dyn Memory) -> Watched<'a> {
        Watched {
            memory,
            read: Cell::new(false),
        }
    }

    pub fn was_read(&self) -> bool {
        self.read.get()
    }
}

impl Memory for Watched<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.read.set(true);
        self.memory.read(at, into)
    }

    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        if !pieces.is_empty() {
            self.read.set(true);
        }
        self.memory.read_many(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registers_of_the_mask_count() {
        let registers = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(
            words(&registers, 0b1_0000_0101),
            [1, 0, 3, 0, 0, 0, 0, 0, 9]
        );
    }

    #[test]
    fn what_is_too_much_is_forgotten() {
        let memo = Memo::default();
        for i in 0..10_000 {
            memo.put((i, [i as u64; 9]), i);
            assert_eq!(memo.get(&(i, [i as u64; 9])), Some(i));
        }
        assert!(memo.0.borrow().len() <= MOST);
    }
}
