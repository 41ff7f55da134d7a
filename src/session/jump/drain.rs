//! Taking records out of the ring, and showing them to [`Calls`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::adapters::Constants;
use super::super::calls::Calls;
use super::super::report::Seen;
use super::super::target::Target;
use super::captures::SiteRecord;
use super::copies::Copies;
use super::gaps::Gaps;
use super::past::Past;
use super::ticks::Ticks;
use crate::arch::jump::capture::site_number;
use crate::arch::jump::handed::TOOK;
use crate::arch::jump::{Next, Reader};
use crate::probe::hash::WordMap;
use crate::probe::plan::{Plan, Role, Site};
use crate::process::{Jumped, procfs};
use crate::record::Conn;
use crate::sys::Regs;

/// How long a record may stay unfinished until it is given up: its thread is put
/// aside in the middle, on a machine that may itself be put aside.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the records behind it wait for it.
const IMPATIENCE: Duration = Duration::from_millis(100);

/// Records that are taken before anything else is looked at.
pub(super) const BATCH: usize = 4096;

/// With so many records behind its beginning, a ring that was read empty goes on
/// at its beginning.
const FOLD: u32 = 1024;

/// Connections are looked at again after so many ticks.
const CONNS_FOR: u32 = 5;

/// With so many calls waiting for the writer, records stay in the ring as long
/// as it has room: it is the larger buffer.
pub(super) const ENOUGH: usize = BATCH;

/// How long a writer that takes nothing is waited for at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What reads one ring.
pub struct Drain {
    fixed: Arc<Fixed>,
    reader: Reader,
    words: Vec<u64>,
    ticks: Ticks,
    /// Connections by the words written down of them, some ticks long.
    conns: WordMap<Key, Receiver>,
    copies: Copies,
    unfinished: Option<Instant>,
    told_lost: u64,
    gaps: Gaps,
    tids: Tids,
    ticks_passed: u32,
    /// Marks of calls that were running are left.
    marks_closed: bool,
}

/// What is the same for all records: shared once for many of them, since counting
/// who shares it is what costs.
struct Fixed {
    plan: Arc<Plan>,
    records: Arc<[SiteRecord]>,
    live: Vec<u64>,
    no_regs: Regs,
    constants: Constants,
}

/// Words that were written down of a connection, and how many.
type Key = [u64; 5];

/// What a call is made on.
#[derive(Clone)]
struct Receiver {
    conn: Option<Arc<Conn>>,
    /// It was read later than the record was written, and could not be compared
    /// with it.
    late: bool,
}

/// The runtime knows its threads by the ids of its own pid namespace.
struct Tids {
    /// By those ids, for a target in another namespace than ours.
    foreign: Option<HashMap<i32, i32>>,
    pid: i32,
    /// They were listed since the last tick.
    fresh: bool,
}

impl Tids {
    fn of(pid: i32) -> Tids {
        let own = procfs::pid_namespace(std::process::id().cast_signed());
        let elsewhere = procfs::pid_namespace(pid) != own;
        Tids {
            foreign: elsewhere.then(|| procfs::foreign_thread_ids(pid)),
            pid,
            fresh: true,
        }
    }

    /// A thread's id as we know it; 0 for one that is not known (any more).
    fn ours(&mut self, theirs: i32) -> i32 {
        let Some(foreign) = &mut self.foreign else {
            return theirs;
        };
        if !foreign.contains_key(&theirs) && !self.fresh {
            self.fresh = true;
            *foreign = procfs::foreign_thread_ids(self.pid);
        }
        foreign.get(&theirs).copied().unwrap_or(0)
    }
}

impl Drain {
    /// For the ring that `jumped` has.
    pub(super) fn new(
        jumped: &Jumped,
        calls: &Calls,
        records: Arc<[SiteRecord]>,
        target: &Target,
    ) -> Drain {
        let layout = jumped.ring().1;
        let live = calls.plan.sites.iter().map(|s| target.bias.live(s.at).0);
        Drain {
            fixed: Arc::new(Fixed {
                live: live.collect(),
                plan: calls.plan.clone(),
                records,
                no_regs: crate::sys::no_registers(),
                constants: Constants {
                    image: target.image.clone(),
                    bias: target.bias,
                },
            }),
            words: vec![0; layout.record as usize / 8],
            reader: Reader::new(layout),
            ticks: Ticks::new(&calls.clock),
            conns: WordMap::default(),
            copies: Copies::default(),
            unfinished: None,
            told_lost: 0,
            gaps: Gaps::default(),
            tids: Tids::of(jumped.pid()),
            ticks_passed: 0,
            marks_closed: false,
        }
    }

    /// Records that were taken out of the ring, and those that were lost.
    pub fn numbers(&self) -> (u64, u64) {
        (self.reader.received(), self.told_lost)
    }

    /// How many records lie in the ring.
    pub fn unread(&self, jumped: &Jumped) -> u64 {
        let written = self.reader.written(jumped.ring().0);
        written.wrapping_sub(self.reader.received().wrapping_add(self.reader.lost()))
    }

    /// Takes what was written until the last jump was out; nobody writes any more.
    pub(in crate::session) fn take_all(&mut self, jumped: &Jumped, calls: &mut Calls) {
        // A writer that took nothing for so long is not waited for again.
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            while calls.waiting() >= ENOUGH && since.elapsed() < LAST_WORDS {
                if calls.waiting() < least {
                    (least, since) = (calls.waiting(), Instant::now());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            if since.elapsed() < LAST_WORDS {
                (least, since) = (usize::MAX, Instant::now());
            }
            if self.take(jumped, calls) > 0 {
                continue;
            }
            if self.unread(jumped) == 0 {
                return;
            }
            self.skip();
        }
    }

    /// Gives up a record that stays unfinished.
    fn skip(&mut self) {
        self.reader.skip();
        self.gaps.lost(0, self.reader.reached());
    }

    /// Takes what is in the ring, in the order of tickets; how many records that
    /// were.
    pub(in crate::session) fn take(&mut self, jumped: &Jumped, calls: &mut Calls) -> usize {
        if self.reader.has_passed() {
            return self.take_past(jumped, calls);
        }
        let (ring, layout) = jumped.ring();
        for (goid, depth) in calls.take_found() {
            layout.leave_mark(ring, goid, depth);
        }
        if !std::mem::replace(&mut self.marks_closed, true) {
            layout.close_marks(ring);
        }
        let mut words = std::mem::take(&mut self.words);
        let fixed = self.fixed.clone();
        let mut taken = 0;
        while taken < BATCH {
            match self.reader.next(ring, &mut words) {
                Next::Record => {
                    self.unfinished = None;
                    self.on_record(&fixed, &words, jumped, calls);
                }
                Next::Lost => self.lose(),
                Next::Unfinished if self.waited() > IMPATIENCE => {
                    self.reader.pass();
                    break;
                }
                Next::Nothing | Next::Unfinished => break,
            }
            taken += 1;
            // Others may write again soon, not only after the whole batch.
            if taken % 256 == 0 {
                self.reader.release(ring);
            }
        }
        self.reader.release(ring);
        if taken < BATCH {
            self.reader.fold(ring, FOLD);
        }
        self.words = words;
        self.after(jumped, calls);
        taken
    }

    /// Calls that have ended leave no mark, and go to the writer together.
    fn after(&mut self, jumped: &Jumped, calls: &mut Calls) {
        let (ring, layout) = jumped.ring();
        self.gaps.after((&self.reader, &**ring), &mut calls.join);
        for (goid, depth) in calls.take_marks() {
            layout.take_mark(ring, goid, depth);
        }
        calls.send_gathered();
    }

    /// Takes all that was written by now by goroutines other than those that are
    /// writing at this moment: before a trap's hit is attended to, since what its
    /// goroutine has written comes before. What is written meanwhile stays.
    pub(in crate::session) fn catch_up(&mut self, jumped: &Jumped, calls: &mut Calls) {
        let until = self.reader.given(jumped.ring().0);
        while self.reader.reached() < until {
            if self.take(jumped, calls) == 0 {
                self.take_past(jumped, calls);
            }
        }
        if self.reader.has_passed() {
            self.take_past(jumped, calls);
        }
    }

    /// As [`Drain::take`], but records that are not whole are passed over. A
    /// goroutine's own order is kept: what it wrote before a record that is whole
    /// is whole, and is looked for again after that one was read.
    fn take_past(&mut self, jumped: &Jumped, calls: &mut Calls) -> usize {
        let (ring, _) = jumped.ring();
        let mut words = std::mem::take(&mut self.words);
        let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut taken = 0;
        while found.len() < BATCH {
            match self.reader.next(ring, &mut words) {
                Next::Record => {
                    let ticket = words.get(1).copied().unwrap_or(0);
                    found.insert(ticket, words.clone());
                }
                Next::Lost => {
                    taken += 1;
                    self.lose();
                }
                Next::Unfinished => self.reader.pass(),
                Next::Nothing => break,
            }
        }
        loop {
            match self.reader.passed(ring, &mut words) {
                Next::Record => {
                    self.unfinished = None;
                    let ticket = words.get(1).copied().unwrap_or(0);
                    found.insert(ticket, words.clone());
                }
                Next::Lost => {
                    taken += 1;
                    self.gaps.lost(0, self.reader.reached());
                }
                Next::Unfinished | Next::Nothing => break,
            }
        }
        taken += found.len();
        let fixed = self.fixed.clone();
        for words in found.values() {
            self.on_record(&fixed, words, jumped, calls);
        }
        if !self.reader.has_passed() {
            self.unfinished = None;
        } else if self.waited() > PATIENCE {
            self.unfinished = None;
            self.skip();
        }
        self.reader.release(ring);
        self.words = words;
        self.after(jumped, calls);
        taken
    }

    /// How long the first record that is not whole has been waited for.
    fn waited(&mut self) -> Duration {
        self.unfinished.get_or_insert_with(Instant::now).elapsed()
    }

    /// The record before the next one could not be read.
    fn lose(&mut self) {
        let next = self.reader.reached();
        self.gaps.lost(next.saturating_sub(1), next);
    }

    fn on_record(&mut self, fixed: &Fixed, words: &[u64], jumped: &Jumped, calls: &mut Calls) {
        let word = |i: usize| words.get(i).copied().unwrap_or(0);
        let index = site_number(word(3)) as usize;
        let (ring, _) = jumped.ring();
        let ring = (&self.reader, &**ring);
        self.gaps.before(word(1), ring, &mut calls.join);
        let memory = jumped.memory();
        calls.mark_taken = word(3) & TOOK != 0;
        let (Some(site), Some(record), Some(at)) = (
            fixed.plan.sites.get(index),
            fixed.records.get(index),
            fixed.live.get(index).copied(),
        ) else {
            return;
        };
        calls.stats.hits += 1;
        let at_ns = self.ticks.ns(word(2));
        if self.copies.check(self.reader.lost()) {
            self.conns.clear();
        }
        let known = self.known(record, words);
        let copy = match known {
            Some(_) => None,
            None => self.copy(record, words),
        };
        let place = (at, fixed.no_regs);
        let beyond = (memory, &fixed.constants);
        let mut past = Past::new(words, record, copy.as_deref(), place, beyond);
        past.tid = self.tids.ours(past.tid);
        let receiver = known.or_else(|| self.connection(site, record, words, &mut past, calls));
        past.set_late(receiver.as_ref().is_some_and(|known| known.late));
        let seen = Seen {
            conn: receiver.as_ref().and_then(|known| known.conn.as_ref()),
            ..past.seen()
        };
        for role in &site.roles {
            match *role {
                Role::Entry(func) => calls.on_entry(func, &seen, Some(at_ns)),
                Role::Return(func) => calls.on_return(func, &seen, at_ns),
                Role::Event(event) => calls.on_event(event, &seen, at_ns),
                // Only an engine of traps is given any.
                Role::Place(_) => {}
            }
        }
        calls.emit_ended();
        calls.mark_taken = false;
    }

    /// The connection of a record that has the words of one before, the descriptor's
    /// and both addresses' among them: they share it for a tenth of a second, then it is
    /// looked at again. A record with a copy of its own may have another object at
    /// the same address.
    fn known(&mut self, record: &SiteRecord, words: &[u64]) -> Option<Receiver> {
        let key = key(record, words)?;
        let copied = record.copied.and_then(|(at, _)| words.get(at));
        if copied.is_some_and(|pointer| *pointer != 0) {
            self.conns.remove(&key);
        }
        self.conns.get(&key).cloned()
    }

    /// What was copied before of a connection that the record leaves out; what it
    /// has copied itself is kept.
    fn copy(&mut self, record: &SiteRecord, words: &[u64]) -> Option<Arc<[u64]>> {
        let ((conn, _), (at, many)) = record.conn.as_ref().zip(record.copied)?;
        let word = |i: usize| words.get(i).copied().unwrap_or(0);
        if word(at) == 0 {
            return self.copies.of(word(*conn));
        }
        if let Some(copy) = words.get(at + 1..at + many) {
            self.copies.keep(word(at), copy.into());
        }
        None
    }

    /// The connection of a call that begins, if there is one.
    fn connection(
        &mut self,
        site: &Site,
        record: &SiteRecord,
        words: &[u64],
        past: &mut Past<'_>,
        calls: &mut Calls,
    ) -> Option<Receiver> {
        let (key, (_, fields)) = (key(record, words)?, record.conn.as_ref()?);
        let func = site.roles.iter().find_map(|role| match role {
            Role::Entry(func) => Some(*func),
            Role::Return(_) | Role::Event(_) | Role::Place(_) => None,
        })?;
        if let Some(conn) = calls.reporter.receiver_in_time(func, &past.seen()) {
            let known = Receiver {
                conn: Some(conn),
                late: false,
            };
            self.conns.insert(key, known.clone());
            return Some(known);
        }
        past.check_connection(words, record);
        let mut conn = calls.reporter.receiver(func, &past.seen());
        // It may have been closed while it was read.
        if !past.conn_changed {
            past.check_connection(words, record);
            if past.conn_changed {
                conn = calls.reporter.receiver(func, &past.seen());
            }
        }
        if past.conn_changed
            && let Some(conn) = &mut conn
        {
            Arc::make_mut(conn).note = Some("closed since");
        }
        // Of what has no addresses to be compared they are read all the same.
        let known = Receiver {
            late: !fields.has_addresses() && conn.as_ref().is_some_and(|c| c.network.is_some()),
            conn,
        };
        self.conns.insert(key, known.clone());
        Some(known)
    }

    /// From time to time: clocks, and what was lost.
    pub(in crate::session) fn tick(&mut self, jumped: &Jumped, calls: &mut Calls) {
        self.ticks.adjust(&calls.clock);
        self.ticks_passed = self.ticks_passed.wrapping_add(1);
        if self.ticks_passed.is_multiple_of(CONNS_FOR) {
            self.conns.clear();
        }
        self.tids.fresh = false;
        calls.bound();
        self.tell_lost(jumped, calls);
    }

    /// Tells of records that were lost since the last time.
    pub(in crate::session) fn tell_lost(&mut self, jumped: &Jumped, calls: &mut Calls) {
        let lost = self.reader.dropped(jumped.ring().0) + self.reader.lost();
        calls.gap(lost.saturating_sub(self.told_lost), "ring full");
        self.told_lost = lost;
    }
}

/// What a connection is known by, if the record has one.
fn key(record: &SiteRecord, words: &[u64]) -> Option<Key> {
    let (at, fields) = record.conn.as_ref()?;
    let many = fields.fields.len().checked_add(1)?;
    let words = words.get(*at..at.checked_add(many)?)?;
    let mut key = [0; 5];
    let (of, [count]) = key.split_at_mut(4) else {
        return None;
    };
    of.get_mut(..many)?.copy_from_slice(words);
    *count = many as u64;
    Some(key)
}
