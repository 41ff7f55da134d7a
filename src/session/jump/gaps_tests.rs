use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::arch::jump::{Next, RingLayout};
use crate::probe::join::{EntrySite, Stack};
use crate::record::End;

/// Words of the ring's control page (`arch::jump::ring`).
const HEAD: usize = 8;
const DROPPED: usize = 24;

struct Run {
    ring: Vec<AtomicU64>,
    layout: RingLayout,
    reader: Reader,
    gaps: Gaps,
    join: Join<()>,
    ended: Vec<(u64, End, bool)>,
}

impl Run {
    fn new() -> Run {
        let layout = RingLayout::new(0, 1 << 21, 64);
        let ring: Vec<_> = (0..layout.len() / 8).map(|_| AtomicU64::new(0)).collect();
        layout.prepare(&ring);
        Run {
            ring,
            layout,
            reader: Reader::new(layout),
            gaps: Gaps::default(),
            join: Join::default(),
            ended: Vec::new(),
        }
    }

    /// A record that takes a ticket, and one that is whole.
    fn begin(&self) -> usize {
        let ticket = self.ring[HEAD].fetch_add(1, Relaxed);
        let place = ticket % u64::from(self.layout.count) * u64::from(self.layout.record);
        let at = (4096 + place) as usize / 8;
        self.ring[at + 1].store(ticket, Relaxed);
        at
    }

    fn finish(&self, at: usize, goid: u64, entry: bool) {
        self.ring[at + 4].store(goid, Relaxed);
        self.ring[at + 3].store(u64::from(entry), Relaxed);
        self.ring[at].store(self.ring[at + 1].load(Relaxed) + 1, Relaxed);
    }

    fn write(&self, goid: u64, entry: bool) {
        self.finish(self.begin(), goid, entry);
    }

    fn drop_one(&self) {
        self.ring[DROPPED].fetch_add(1, Relaxed);
    }

    /// Reads so many records and shows them.
    fn read(&mut self, most: usize) {
        let mut words = [0; 8];
        for _ in 0..most {
            match self.reader.next(&self.ring, &mut words) {
                Next::Record => self.show(&words),
                Next::Unfinished => self.reader.pass(),
                Next::Lost | Next::Nothing => break,
            }
        }
    }

    fn show(&mut self, words: &[u64; 8]) {
        let from = (&self.reader, &*self.ring);
        self.gaps.before(words[1], from, &mut self.join);
        let (stack, mut ended) = (Stack::Goroutine(words[4]), Vec::new());
        let site = EntrySite {
            func: 0,
            branch_target: false,
            tail_callers: &[],
            sure: false,
        };
        if words[3] == 1 {
            self.join.enter(stack, site, 64, 0, || (), &mut ended);
        } else {
            self.join.leave(stack, 64, 0, &mut ended);
        }
        let ended = ended.iter().map(|e| (e.call.id, e.end, e.doubtful));
        self.ended.extend(ended);
    }

    fn after(&mut self) {
        self.gaps.after((&self.reader, &self.ring), &mut self.join);
    }
}

#[test]
fn what_a_full_ring_dropped_is_missing_where_it_was_dropped() {
    let mut r = Run::new();
    r.write(1, true); // gone before anything was lost
    r.write(1, true);
    r.read(1);
    r.drop_one(); // the RET of the second
    r.write(1, true);
    r.read(9);
    r.after();
    r.write(1, false); // the end of the third, as far as is known
    r.write(2, true);
    r.write(2, true);
    r.read(9);
    r.after();
    let expected = [
        (1, End::Unwound, false),
        (2, End::Lost, true),
        (3, End::Return, true),
        (4, End::Unwound, false),
    ];
    assert_eq!(r.ended, expected);
}

/// The count is looked at before each record that may come after a loss, not only
/// at the beginning of a batch.
#[test]
fn a_loss_in_the_middle_of_a_batch_is_seen_in_time() {
    let mut r = Run::new();
    r.write(1, true);
    r.read(1);
    r.write(2, true);
    r.read(1);
    r.drop_one();
    r.write(1, true);
    r.read(1);
    assert_eq!(r.ended, [(1, End::Lost, true)]);
}

/// A record that was passed over is shown late; it was written before the loss.
#[test]
fn a_record_that_was_not_whole_comes_within_the_gap() {
    let mut r = Run::new();
    let at = r.begin();
    r.write(2, true);
    r.drop_one();
    r.read(9);
    r.after();
    assert!(r.reader.has_passed());
    r.write(2, true);
    r.read(9);
    // Its end may be lost.
    r.finish(at, 1, true);
    let mut words = [0; 8];
    assert_eq!(r.reader.passed(&r.ring, &mut words), Next::Record);
    r.show(&words);
    r.after();
    r.write(1, true);
    r.read(9);
    r.after();
    r.write(1, true);
    r.read(9);
    let expected = [
        (1, End::Lost, true),
        (3, End::Lost, true),
        (4, End::Unwound, false),
    ];
    assert_eq!(r.ended, expected);
}

#[test]
fn nothing_is_missing_when_nothing_was_dropped() {
    let mut r = Run::new();
    for goid in 1..2000 {
        r.write(goid, true);
        r.write(goid, false);
        r.read(1);
    }
    r.read(5000);
    r.after();
    assert!(!r.join.has_lost());
    assert!(r.ended.iter().all(|e| e.1 == End::Return && !e.2));
    // One that cannot be read is one that is missing.
    r.gaps.lost(0, r.reader.reached());
    r.after();
    assert!(r.join.has_lost());
}
