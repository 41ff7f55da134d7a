//! The ring that trampolines write to and gotap reads: one piece of memory that
//! both have mapped.
//!
//! ```text
//! +0     magic, number of records, bytes of one
//! +24    where the records lie in the target, the marks, the buffers, the copied
//! +64    head: tickets given (the target adds)
//! +128   tail: records read (gotap writes)
//! +192   dropped: records for which there was no room (the target adds)
//! +512   counters of trampolines that let one of many through
//! +4096  records, a power of two of them; see `capture` for one
//!        marks of calls that were let in, where their buffers are, and what was
//!        copied; see `handed`
//! ```
//!
//! Before it lies a page of the target's own, not shared, whose first word is not 0,
//! and which the kernel gives to a forked child as zeros (madvise(2),
//! MADV_WIPEONFORK): the child, which has jumps and ring as well, writes nothing.
//!
//! A ticket is a record: what was given a ticket and cannot be read is counted
//! as lost, so received + lost + dropped is what the target did, exactly.
//!
//! A writer takes a ticket, writes 0 to the commit word, the rest, and the
//! ticket + 1 to the commit word. amd64 shows stores in their order. A writer
//! looks for room before it takes a ticket; between the two others may take
//! theirs, so [`SPARE`] records are kept free for as many threads.
//!
//! Writing to memory that no cache holds is what a record costs most. So a reader
//! that has read everything moves the head on to the next lap's first record
//! ([`Reader::fold`]): writers use the same few pages again and again, and the
//! rest of the ring is there for when the reader is late. The tickets left out
//! are nobody's.
//!
//! A thread may be put aside for long between ticket and commit. The reader waits
//! for it; when it has waited too long it is told to [`Reader::skip`], and
//! never believes that place of the ring again: the late writer could still
//! write to it while another does.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use super::capture::{HEAD, LINE, words_written};
use super::gate::COUNTERS;
use super::handed::{BUFFERS, COPIED, COPIED_PLACE, MARKS, PLACE, key, mark_place};
use crate::sys::prefetch;

/// What a ring begins with; the last byte counts layouts.
pub const MAGIC: u64 = u64::from_le_bytes(*b"GOTAPRG\x03");

/// Bytes before the first record.
pub const CONTROL: u64 = 4096;

/// Records that are kept free: Go has at most 10,000 threads
/// (runtime/proc.go, sched.maxmcount).
pub const SPARE: u64 = 1 << 14;

/// So many records before it is read a record is asked for, and so many lines of it.
const AHEAD: u64 = 8;
const LINES_AHEAD: usize = 3;

const COUNT: usize = 1;
const BYTES: usize = 2;
const DATA: usize = 3;
const MARKS_AT: usize = 4;
const BUFFERS_AT: usize = 5;
const COPIED_AT: usize = 6;
/// In a record.
const SITE: usize = 3;
const HEAD_WORD: usize = 8;
const TAIL_WORD: usize = 16;
const DROPPED_WORD: usize = 24;
const COUNTER_WORDS: usize = 64;

/// Where a ring lies in the target, and how large it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingLayout {
    /// Address of its first byte in the target.
    pub at: u64,
    /// How many records it has: a power of two, more than twice [`SPARE`].
    pub count: u32,
    /// Bytes of one: whole cache lines.
    pub record: u32,
}

impl RingLayout {
    /// A ring of about `bytes` bytes for records of at most `longest` bytes.
    pub fn new(at: u64, bytes: u64, longest: usize) -> RingLayout {
        let record = longest.max(HEAD * 8).next_multiple_of(LINE) as u64;
        let fits = (bytes / record).clamp(2 * SPARE, 1 << 24);
        RingLayout {
            at,
            count: 1 << fits.ilog2(),
            record: record as u32,
        }
    }

    /// Bytes to map; whole pages.
    pub fn len(&self) -> u64 {
        let tables = (MARKS + BUFFERS) * PLACE + COPIED * COPIED_PLACE;
        (CONTROL + self.marks_offset() + tables).next_multiple_of(4096)
    }

    /// The page before the ring.
    pub fn own(&self) -> u64 {
        self.at.saturating_sub(CONTROL)
    }

    /// Never: it has a control page at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Tickets given.
    pub(super) fn head(&self) -> u64 {
        self.at + HEAD_WORD as u64 * 8
    }

    pub(super) fn tail(&self) -> u64 {
        self.at + TAIL_WORD as u64 * 8
    }

    pub(super) fn dropped(&self) -> u64 {
        self.at + DROPPED_WORD as u64 * 8
    }

    pub(super) fn data_pointer(&self) -> u64 {
        self.at + DATA as u64 * 8
    }

    /// From the first record to the first mark.
    fn marks_offset(&self) -> u64 {
        u64::from(self.count) * u64::from(self.record)
    }

    /// Where it is written where marks lie.
    pub(super) fn marks_pointer(&self) -> u64 {
        self.at + MARKS_AT as u64 * 8
    }

    /// Where it is written where buffers are kept.
    pub(super) fn buffers_pointer(&self) -> u64 {
        self.at + BUFFERS_AT as u64 * 8
    }

    /// Where it is written where the table of what was copied lies.
    pub(super) fn copied_pointer(&self) -> u64 {
        self.at + COPIED_AT as u64 * 8
    }

    /// Where a counter lies.
    pub(super) fn counter(&self, counter: u16) -> u64 {
        self.at + (COUNTER_WORDS as u64 + u64::from(counter % COUNTERS)) * 8
    }

    /// Takes away the marks that were there from the beginning.
    pub fn close_marks(&self, words: &[AtomicU64]) {
        for mark in self.all_marks(words) {
            mark.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The counts of all places for marks.
    fn all_marks<'a>(&self, words: &'a [AtomicU64]) -> impl Iterator<Item = &'a AtomicU64> {
        let first = usize::try_from((CONTROL + self.marks_offset()) / 8).unwrap_or(usize::MAX);
        let marks = first
            .checked_add((MARKS * PLACE / 8) as usize)
            .and_then(|end| words.get(first..end));
        marks.unwrap_or_default().iter().step_by(PLACE as usize / 8)
    }

    /// Leaves a mark of a call that was found running.
    pub fn leave_mark(&self, words: &[AtomicU64], id: u64, depth: u64) {
        let key = key(id, depth);
        if let Some((count, last)) = self.mark(words, key) {
            count.fetch_add(1, Ordering::AcqRel);
            let _ = last.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Takes away the mark of a call that has ended, and that its RET has not taken.
    pub fn take_mark(&self, words: &[AtomicU64], id: u64, depth: u64) {
        let key = key(id, depth);
        if let Some((count, last)) = self.mark(words, key) {
            // First the key: a RET that finds it counts down itself.
            let _ = last.compare_exchange(key, 0, Ordering::AcqRel, Ordering::Acquire);
            let less = |marks: u64| marks.checked_sub(1);
            let _ = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        }
    }

    /// A place for marks: the count, and the last one's key.
    fn mark<'a>(&self, words: &'a [AtomicU64], key: u64) -> Option<(&'a AtomicU64, &'a AtomicU64)> {
        let first = (CONTROL + self.marks_offset() + mark_place(key) * PLACE) / 8;
        let at = usize::try_from(first).ok()?;
        Some((words.get(at)?, words.get(at.checked_add(1)?)?))
    }

    /// With so many records unread there is no room.
    pub(super) fn limit(&self) -> i32 {
        (u64::from(self.count) - SPARE) as i32
    }

    pub(super) fn mask(&self) -> u32 {
        self.count - 1
    }

    /// Writes the control page of a ring whose bytes are all 0, and a mark at each
    /// place: until [`RingLayout::close_marks`] every RET is recorded, since calls
    /// run that nobody has left a mark of.
    pub fn prepare(&self, words: &[AtomicU64]) {
        let put = |at: usize, value: u64| {
            if let Some(word) = words.get(at) {
                word.store(value, Ordering::Release);
            }
        };
        put(COUNT, u64::from(self.count));
        put(BYTES, u64::from(self.record));
        put(DATA, self.at + CONTROL);
        let marks = self.at + CONTROL + self.marks_offset();
        put(MARKS_AT, marks);
        put(BUFFERS_AT, marks + MARKS * PLACE);
        put(COPIED_AT, marks + (MARKS + BUFFERS) * PLACE);
        for mark in self.all_marks(words) {
            mark.store(1, Ordering::Release);
        }
        put(0, MAGIC);
    }
}

/// What comes next in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A record was copied out.
    Record,
    /// One was lost: overwritten, or its place is not to be believed.
    Lost,
    /// There is none.
    Nothing,
    /// There is one, and it is not whole yet.
    Unfinished,
}

/// Reads a ring's records in the order of their tickets. Its memory is written
/// by somebody else at any time; nothing in it is believed without a check.
#[derive(Debug)]
pub struct Reader {
    layout: RingLayout,
    next: u64,
    received: u64,
    lost: u64,
    /// Tickets that were left out.
    folded: u64,
    /// Places that a writer which was given up may still write to.
    doubtful: HashSet<u64>,
    /// Tickets that were passed over, ascending: their records were not whole.
    passed: VecDeque<u64>,
}

impl Reader {
    /// For a ring from its beginning.
    pub fn new(layout: RingLayout) -> Reader {
        Reader {
            layout,
            next: 0,
            received: 0,
            lost: 0,
            folded: 0,
            doubtful: HashSet::new(),
            passed: VecDeque::new(),
        }
    }

    /// Records that were read.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Records that had a ticket and could not be read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Records for which the target found no room.
    pub fn dropped(&self, words: &[AtomicU64]) -> u64 {
        load(words, DROPPED_WORD)
    }

    /// Tickets that the target has taken.
    pub fn written(&self, words: &[AtomicU64]) -> u64 {
        load(words, HEAD_WORD).wrapping_sub(self.folded)
    }

    /// The next ticket that the target will take: behind [`Reader::reached`], if
    /// not the same.
    pub fn given(&self, words: &[AtomicU64]) -> u64 {
        load(words, HEAD_WORD)
    }

    /// Takes the next record into `into`, which is as long as a record or
    /// shorter.
    pub fn next(&mut self, words: &[AtomicU64], into: &mut [u64]) -> Next {
        let head = load(words, HEAD_WORD);
        if head == self.next {
            return Next::Nothing;
        }
        self.ask_for(self.next.wrapping_add(AHEAD), head, words);
        let found = self.look(self.next, words, into);
        if found != Next::Unfinished {
            self.next = self.next.wrapping_add(1);
        }
        self.count(found)
    }

    /// The ticket of the next record: all before were read, lost or passed over.
    pub fn reached(&self) -> u64 {
        self.next
    }

    /// All before this ticket were read or lost, those that were passed over too.
    pub fn settled(&self) -> u64 {
        self.passed.front().copied().unwrap_or(self.next)
    }

    /// Leaves the next record, which is not whole, for later.
    pub fn pass(&mut self) {
        self.passed.push_back(self.next);
        self.next = self.next.wrapping_add(1);
    }

    /// Some were passed over and have not been read since.
    pub fn has_passed(&self) -> bool {
        !self.passed.is_empty()
    }

    /// Takes one of those that were passed over, when it is whole by now.
    pub fn passed(&mut self, words: &[AtomicU64], into: &mut [u64]) -> Next {
        for i in 0..self.passed.len() {
            let Some(ticket) = self.passed.get(i).copied() else {
                break;
            };
            let found = self.look(ticket, words, into);
            if found != Next::Unfinished {
                self.passed.remove(i);
                return self.count(found);
            }
        }
        Next::Nothing
    }

    /// Asks for the record of this ticket if it lies well behind the head: its lines are
    /// in another processor's cache, and are far apart.
    fn ask_for(&self, ticket: u64, head: u64, words: &[AtomicU64]) {
        if head.wrapping_sub(ticket).cast_signed() < AHEAD.cast_signed() {
            return;
        }
        let place = ticket & u64::from(self.layout.mask());
        let first = CONTROL / 8 + place * u64::from(self.layout.record / 8);
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let lines = (0..LINES_AHEAD).filter_map(|i| words.get(first.checked_add(i * LINE / 8)?));
        lines.for_each(prefetch);
    }

    /// The record of this ticket, which was given.
    fn look(&self, ticket: u64, words: &[AtomicU64], into: &mut [u64]) -> Next {
        let place = ticket & u64::from(self.layout.mask());
        let first = CONTROL / 8 + place * u64::from(self.layout.record / 8);
        let want = ticket.wrapping_add(1);
        let Some(record) = usize::try_from(first).ok().and_then(|at| words.get(at..)) else {
            return Next::Lost;
        };
        let commit = load(record, 0);
        // An older one, or 0, is still to be written; a later one has taken the place.
        if commit != want {
            return if commit > want {
                Next::Lost
            } else {
                Next::Unfinished
            };
        }
        if self.doubtful.contains(&place) {
            return Next::Lost;
        }
        // No cache line more than was written.
        let written = words_written(load(record, SITE)).clamp(HEAD, into.len().max(HEAD));
        let (written, rest) = into.split_at_mut(written.min(into.len()));
        for (to, from) in written.iter_mut().zip(record) {
            *to = from.load(Ordering::Acquire);
        }
        rest.fill(0);
        if load(record, 0) != want || into.get(1) != Some(&ticket) {
            return Next::Lost;
        }
        Next::Record
    }

    fn count(&mut self, found: Next) -> Next {
        match found {
            Next::Record => self.received += 1,
            Next::Lost => self.lost += 1,
            Next::Nothing | Next::Unfinished => {}
        }
        found
    }

    /// Gives up a record that stays unfinished: the first that was passed over,
    /// else the next.
    pub fn skip(&mut self) {
        let ticket = self.passed.pop_front().unwrap_or_else(|| {
            let ticket = self.next;
            self.next = self.next.wrapping_add(1);
            ticket
        });
        self.doubtful.insert(ticket & u64::from(self.layout.mask()));
        self.lost += 1;
    }

    /// When everything has been read, and `far` records or more lie behind the
    /// ring's beginning: goes on at the beginning.
    pub fn fold(&mut self, words: &[AtomicU64], far: u32) {
        let (Some(head), Some(tail)) = (words.get(HEAD_WORD), words.get(TAIL_WORD)) else {
            return;
        };
        let mask = u64::from(self.layout.mask());
        let behind = head.load(Ordering::Acquire) != self.next;
        if behind || self.has_passed() || self.next & mask < u64::from(far) {
            return;
        }
        let folded = (self.next | mask).wrapping_add(1);
        // The tail first: a writer that finds the head a lap ahead of it would
        // take the ring for full. One that finds the tail ahead has room.
        tail.store(folded, Ordering::SeqCst);
        let moved = head.compare_exchange(self.next, folded, Ordering::SeqCst, Ordering::SeqCst);
        if moved.is_ok() {
            self.folded = self.folded.wrapping_add(folded.wrapping_sub(self.next));
            self.next = folded;
        } else {
            tail.store(self.next, Ordering::SeqCst);
        }
    }

    /// Tells the target that what was read may be overwritten.
    pub fn release(&self, words: &[AtomicU64]) {
        if let Some(tail) = words.get(TAIL_WORD) {
            tail.store(self.settled(), Ordering::Release);
        }
    }
}

fn load(words: &[AtomicU64], at: usize) -> u64 {
    words.get(at).map_or(0, |w| w.load(Ordering::Acquire))
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
