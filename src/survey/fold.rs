//! Goroutines that do the same become one entry.

use std::collections::HashMap;
use std::sync::Arc;

use super::{BlockedOn, Entry, Kind, Wait};
use crate::golang::blocked::Lock;

/// What goroutines have in common that become one entry.
#[derive(PartialEq, Eq, Hash, Debug)]
struct Same {
    kind: Arc<Kind>,
    lock: Option<(Lock, u64)>,
}

impl Same {
    /// `None` for one that waits for something of its own.
    fn of(e: &Entry) -> Option<Same> {
        if e.net.is_some() || e.args.is_some() {
            return None;
        }
        let lock = match e.blocked_on.as_deref() {
            None => None,
            Some(BlockedOn::Lock(lock, at)) => Some((*lock, *at)),
            Some(_) => return None,
        };
        Some(Same {
            kind: e.kind.clone(),
            lock,
        })
    }
}

/// Which entries stand for many.
#[derive(Default, Debug)]
pub struct Fold {
    index: HashMap<Same, usize>,
}

impl Fold {
    /// Puts `one` with those of `all` that do the same, else behind them; how
    /// many the entry stands for now. `all` is changed by this alone.
    pub fn add(&mut self, all: &mut Vec<Entry>, one: Entry) -> usize {
        let at = match Same::of(&one) {
            Some(same) => *self.index.entry(same).or_insert(all.len()),
            None => all.len(),
        };
        let Some(known) = all.get_mut(at) else {
            let count = one.count;
            all.push(one);
            return count;
        };
        known.goid = known.goid.min(one.goid);
        known.count += one.count;
        if one.wait.map_or(0, Wait::ns) > known.wait.map_or(0, Wait::ns) {
            known.wait = one.wait;
        }
        known.count
    }
}
