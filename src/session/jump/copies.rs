//! What records have copied of connections, for the records that leave it out
//! because it was copied before ([`Once`](crate::arch::jump::capture::Once)).

use std::sync::Arc;

use crate::probe::hash::WordMap;

/// Objects of which copies are kept, twice: what was not asked for while so many
/// others came is forgotten, and would be read late. The table in the target has
/// fewer places.
const MANY: usize = 1 << 15;

/// Copies by the addresses of their objects; the last of each.
#[derive(Default)]
pub(super) struct Copies {
    new: WordMap<u64, Arc<[u64]>>,
    old: WordMap<u64, Arc<[u64]>>,
    /// Of the reader's, when they were true.
    lost: u64,
}

impl Copies {
    /// A record that was lost may have had a copy, and another take its place.
    /// True when all were forgotten for that.
    pub(super) fn check(&mut self, lost: u64) -> bool {
        let changed = std::mem::replace(&mut self.lost, lost) != lost;
        if changed {
            self.new.clear();
            self.old.clear();
        }
        changed
    }

    /// The object at `pointer` was copied.
    pub(super) fn keep(&mut self, pointer: u64, copy: Arc<[u64]>) {
        if self.new.len() >= MANY {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(pointer, copy);
    }

    /// Its last copy.
    pub(super) fn of(&mut self, pointer: u64) -> Option<Arc<[u64]>> {
        if let Some(copy) = self.new.get(&pointer) {
            return Some(copy.clone());
        }
        let copy = self.old.remove(&pointer)?;
        self.keep(pointer, copy.clone());
        Some(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(word: u64) -> Arc<[u64]> {
        Arc::new([word])
    }

    #[test]
    fn the_last_copy_is_the_true_one_until_records_are_lost() {
        let mut copies = Copies::default();
        copies.keep(16, copy(1));
        copies.keep(16, copy(2));
        assert_eq!(copies.of(16).as_deref(), Some(&[2][..]));
        assert_eq!(copies.of(32), None);
        assert!(!copies.check(0));
        assert!(copies.check(1));
        assert_eq!(copies.of(16), None);
        assert!(!copies.check(1));
    }

    #[test]
    fn what_is_asked_for_is_not_forgotten() {
        let mut copies = Copies::default();
        copies.keep(1, copy(1));
        copies.keep(2, copy(2));
        for other in 0..3 * MANY as u64 {
            copies.keep(64 + other, copy(0));
            assert_eq!(copies.of(1).as_deref(), Some(&[1][..]));
        }
        assert_eq!(copies.of(2), None);
        assert!(copies.new.len() + copies.old.len() <= 2 * MANY);
    }
}
