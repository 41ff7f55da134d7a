//! Where records are missing, in the order of tickets: so that what is told of calls
//! that were open then can be believed or not.
//!
//! A record that found no room has no ticket, only a count. Its goroutine counts
//! before it takes its next ticket: so when the head is read first and the count
//! then, whatever was dropped before a ticket below that head is in the count. When
//! the count has grown, records are missing somewhere between the head as it was
//! when the count was last looked at, and the head as it is.

use std::sync::atomic::AtomicU64;

use crate::arch::jump::Reader;
use crate::probe::join::Join;

/// What is known of the records that are missing.
#[derive(Debug, Default)]
pub struct Gaps {
    /// The head when the count was last looked at.
    head: u64,
    dropped: u64,
    /// Records are missing from the first of these tickets on, until before the
    /// second.
    at: Option<(u64, u64)>,
}

impl Gaps {
    /// The record of `ticket` is about to be shown to `join`.
    pub fn before<T>(
        &mut self,
        ticket: u64,
        (reader, ring): (&Reader, &[AtomicU64]),
        join: &mut Join<T>,
    ) {
        if ticket >= self.head {
            self.look(reader, ring);
        }
        self.reach(ticket, ticket.min(reader.settled()), join);
    }

    /// All that was taken has been shown.
    pub fn after<T>(&mut self, (reader, ring): (&Reader, &[AtomicU64]), join: &mut Join<T>) {
        self.look(reader, ring);
        self.reach(reader.reached(), reader.settled(), join);
    }

    /// Records from this ticket on, up to that one, cannot be read.
    pub fn lost(&mut self, from: u64, to: u64) {
        let (first, last) = self.at.unwrap_or((from, to));
        self.at = Some((first.min(from), last.max(to)));
    }

    fn look(&mut self, reader: &Reader, ring: &[AtomicU64]) {
        let head = reader.given(ring);
        let dropped = reader.dropped(ring);
        if dropped != self.dropped {
            self.lost(self.head, reader.given(ring));
        }
        (self.head, self.dropped) = (head, dropped);
    }

    /// Records up to `ticket` are being shown; all before `settled` have been.
    fn reach<T>(&mut self, ticket: u64, settled: u64, join: &mut Join<T>) {
        let Some((_, to)) = self.at.filter(|(from, _)| ticket >= *from) else {
            return;
        };
        join.losing(true);
        if settled >= to {
            join.losing(false);
            self.at = None;
        }
    }
}

#[cfg(test)]
#[path = "gaps_tests.rs"]
mod tests;
