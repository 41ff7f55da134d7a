//! Who is kept by itself, who is folded, and whose stack is read, when a
//! program has many goroutines.
//!
//! Goroutines are seen one by one as their structs are read. Of a small
//! program every one becomes an entry with its stack. Of a large one those that
//! are parked at one spot (status, reason, creation site, pc, depth of the
//! stack) are counted in a [`Cell`], and of some of them the stacks are read;
//! who waits for a descriptor is kept by itself, for its two ends.

use std::collections::HashMap;
use std::sync::Arc;

use super::entries::{Entries, made_at};
use super::locks::{Waiter, Waiters};
use super::stacks::{self, Reader, Said, Seen, Tops, UNREAD};
use super::{Source, Wanted, waits};
use crate::addr::LiveAddr;
use crate::golang::blocked::Lock;
use crate::golang::census::{self, Resident};
use crate::golang::gs::{Status, Thread};
use crate::golang::labels::Labels;
use crate::session::SessionError;
use crate::survey::fold::Fold;
use crate::survey::group::Shared;
use crate::survey::verdict::{self, busiest_lock};
use crate::survey::{BlockedOn, Entry, StackState, Survey};

/// A program with more goroutines is large: so many stacks are read of it at
/// most, unless all are wanted.
const SAMPLE: usize = 10_000;
/// Of goroutines parked at one spot, so many stacks at most.
const PER_SPOT: usize = 16;
/// Of goroutines on threads, so many at most.
const PER_STATE: usize = 1024;
/// Goroutines whose stacks are looked through for a lock, before those are left
/// out that wait for it themselves.
const SUSPECTS: usize = 2 * SAMPLE;
/// Goroutines looked at together.
const BATCH: usize = 4096;

/// Goroutines that are parked at one place, as far as their structs tell.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Spot {
    pub status: Status,
    pub reason: u8,
    /// The `go` statement; 0 of the first goroutine.
    pub created: u64,
    pub pc: u64,
    pub depth: u64,
    pub labels: Option<Arc<Labels>>,
}

/// The goroutines at one spot.
#[derive(Debug)]
pub(super) struct Cell {
    pub spot: Spot,
    /// How many, without those that have entries of their own.
    pub rest: usize,
    /// How many in all.
    count: usize,
    /// Lowest number among them all.
    pub first: u64,
    /// Since when the oldest waits; 0 when that is of none known.
    pub since: i64,
    samples: Vec<Sample>,
    /// What those whose stacks were read have in common.
    tops: Shared<Tops>,
    said: Shared<Option<Said>>,
}

impl Cell {
    /// The frames that people look for, where all that were read agree.
    pub(super) fn top(&self) -> Tops {
        self.tops.get().copied().unwrap_or_default()
    }

    /// Where their stacks name the lock that they wait for, where all that were
    /// read agree.
    pub(super) fn said(&self) -> Option<Said> {
        self.said.get().copied().flatten()
    }

    fn note(&mut self, r: &Resident) {
        self.first = self.first.min(r.g.goid);
        if r.wait_since > 0 && (self.since == 0 || r.wait_since < self.since) {
            self.since = r.wait_since;
        }
    }
}

/// A goroutine whose stack may be read.
#[derive(Clone, Copy, Debug)]
struct Sample {
    addr: LiveAddr,
    goid: u64,
    /// Index of its entry, when it has one of its own.
    entry: Option<usize>,
}

/// A look under way.
pub(super) struct Crowd<'a> {
    source: &'a Source,
    wanted: Wanted,
    now: Option<i64>,
    survey: Survey,
    threads: HashMap<LiveAddr, Thread>,
    entries: Entries<'a>,
    reader: Reader<'a>,
    /// It has more than [`SAMPLE`] goroutines.
    large: bool,
    /// Goroutines that become entries next; of a small program all.
    batch: Vec<Resident>,
    cells: Vec<Cell>,
    by_spot: HashMap<Spot, usize>,
    /// Of each entry of a sampled program its cell.
    cell_of: Vec<usize>,
    fold: Fold,
    /// Of a sampled program those that are counted only.
    waiters: Waiters,
    /// Whose stacks may hold the address of a lock, and the lock that they
    /// wait for themselves.
    suspects: Vec<(Resident, Option<u64>)>,
}

impl<'a> Crowd<'a> {
    pub(super) fn new(source: &'a Source, wanted: Wanted, now: Option<i64>) -> Self {
        Crowd {
            source,
            wanted,
            now,
            survey: Survey::default(),
            threads: HashMap::new(),
            entries: Entries::new(source, now, &HashMap::new()),
            reader: Reader::new(source, wanted.args),
            large: false,
            batch: Vec::new(),
            cells: Vec::new(),
            by_spot: HashMap::new(),
            cell_of: Vec::new(),
            fold: Fold::default(),
            waiters: Waiters::default(),
            suspects: Vec::new(),
        }
    }

    /// One more.
    pub(super) fn add(&mut self, r: &Resident) -> Result<(), SessionError> {
        if self.large {
            return self.one_of_many(r);
        }
        self.batch.push(*r);
        if self.batch.len() > SAMPLE {
            self.large = true;
            self.know_threads()?;
            for r in std::mem::take(&mut self.batch) {
                self.one_of_many(&r)?;
            }
        }
        Ok(())
    }

    /// That was all; with it of each spot where its stacks tell of a lock.
    pub(super) fn finish(mut self) -> Result<(Survey, HashMap<Spot, u64>), SessionError> {
        if !self.large {
            self.know_threads()?;
        }
        if self.reads_all() {
            self.whole_batch()?;
        } else {
            self.flush()?;
            self.sample()?;
            self.leave_rest()?;
        }
        let all = &mut self.survey.goroutines;
        all.sort_unstable_by_key(|e| (e.goid, e.stack_state == StackState::Unread));
        let crashed = |e: &&Entry| e.tid.is_some() && e.tid == self.source.crashed;
        self.survey.crashed = all.iter().find(crashed).map(|e| e.goid);
        if let Some((_, at, count)) = busiest_lock(&self.survey)
            && count > 1
        {
            let others = self.suspects.iter().filter(|(_, lock)| *lock != Some(at));
            let others: Vec<Resident> = others.map(|(r, _)| *r).take(SAMPLE).collect();
            self.survey.candidates = stacks::holders(self.source, &others, at)?;
        }
        let told = |c: Cell| c.said().map(|said| (c.spot, said.at));
        Ok((
            self.survey,
            self.cells.into_iter().filter_map(told).collect(),
        ))
    }

    fn reads_all(&self) -> bool {
        !self.large || self.wanted.all_stacks
    }

    fn know_threads(&mut self) -> Result<(), SessionError> {
        self.threads = self.source.runtime_threads()?;
        self.entries = Entries::new(self.source, self.now, &self.threads);
        Ok(())
    }

    fn one_of_many(&mut self, r: &Resident) -> Result<(), SessionError> {
        if self.reads_all() {
            self.batch.push(*r);
            if self.batch.len() == BATCH {
                self.whole_batch()?;
            }
            return Ok(());
        }
        let spot = self.spot(r)?;
        let alone = self.wanted.each
            || spot.pc == 0
            || self.source.waits_for_descriptor(r)
            || (self.source.crashed.is_some() && !r.g.m.is_null());
        let most = if spot.pc == 0 { PER_STATE } else { PER_SPOT };
        let index = self.cell(spot, r);
        let Some(cell) = self.cells.get_mut(index) else {
            return Ok(());
        };
        cell.count += 1;
        let entry = alone.then(|| self.survey.goroutines.len() + self.batch.len());
        if cell.samples.len() < most {
            cell.samples.push(Sample {
                addr: r.g.addr,
                goid: r.g.goid,
                entry,
            });
        }
        if self.source.may_wait_for_lock(r) {
            self.waiters.add(Waiter {
                cell: index,
                entry,
                sp: r.g.sched_sp.0,
            });
        }
        if alone {
            self.batch.push(*r);
            self.cell_of.push(index);
            if self.batch.len() == BATCH {
                self.flush()?;
            }
        } else {
            cell.rest += 1;
            cell.note(r);
        }
        Ok(())
    }

    /// Index of the cell of a spot.
    fn cell(&mut self, spot: Spot, r: &Resident) -> usize {
        if let Some(index) = self.by_spot.get(&spot) {
            return *index;
        }
        let index = self.cells.len();
        self.by_spot.insert(spot.clone(), index);
        self.cells.push(Cell {
            spot,
            rest: 0,
            count: 0,
            first: r.g.goid,
            since: 0,
            samples: Vec::new(),
            tops: Shared::Empty,
            said: Shared::Empty,
        });
        index
    }

    fn spot(&mut self, r: &Resident) -> Result<Spot, SessionError> {
        let (pc, depth) =
            r.g.parked_at()
                .map_or((0, 0), |(pc, sp)| (pc.0, r.g.stack_hi.0.wrapping_sub(sp.0)));
        let waits = matches!(r.g.status, Status::Waiting | Status::Leaked);
        Ok(Spot {
            status: r.g.status,
            reason: if waits { r.g.wait_reason } else { 0 },
            created: made_at(r).0,
            pc,
            depth,
            labels: self.entries.labels(r.labels)?,
        })
    }

    /// Makes entries of the batch, without stacks.
    fn flush(&mut self) -> Result<(), SessionError> {
        let mut made = Vec::with_capacity(self.batch.len());
        for r in &self.batch {
            made.push(self.entries.make(r, UNREAD, &mut self.survey)?);
        }
        self.what_for(&mut made)?;
        self.survey.goroutines.append(&mut made);
        self.batch.clear();
        Ok(())
    }

    /// What those of the batch wait for.
    fn what_for(&self, made: &mut [Entry]) -> Result<(), SessionError> {
        waits::connections(self.source, self.now, &self.batch, made)?;
        if self.wanted.details {
            waits::details(self.source, self.now, &self.batch, made)?;
        }
        Ok(())
    }

    /// Makes entries of the batch, each with its stack.
    fn whole_batch(&mut self) -> Result<(), SessionError> {
        let seen = self
            .reader
            .read(&mut self.batch, &self.threads, &mut self.survey)?;
        let mut made = Vec::with_capacity(self.batch.len());
        for (r, seen) in self.batch.iter().zip(seen) {
            made.push(self.entries.make(r, seen, &mut self.survey)?);
        }
        self.what_for(&mut made)?;
        let fold = self.large && !self.wanted.each;
        for (r, entry) in self.batch.iter().zip(made) {
            let suspect = (*r, lock_of(&entry));
            let all = &mut self.survey.goroutines;
            let alike = if fold {
                self.fold.add(all, entry)
            } else {
                all.push(entry);
                1
            };
            // Of a large program some of each kind, as far as there is room.
            if alike <= PER_SPOT && self.suspects.len() < SUSPECTS {
                self.suspects.push(suspect);
            }
        }
        self.batch.clear();
        Ok(())
    }

    /// Whose stacks are read, with their cells: in the order of addresses.
    fn choose(&self) -> Vec<(usize, Sample)> {
        let mut order: Vec<usize> = (0..self.cells.len()).collect();
        let held = |i: &usize| self.cells.get(*i);
        // Those on threads first, then the largest.
        order.sort_by_key(|i| {
            let cell = held(i);
            let parked = cell.is_some_and(|c| c.spot.pc != 0);
            (parked, std::cmp::Reverse(cell.map_or(0, |c| c.count)))
        });
        let each = (SAMPLE / order.len().max(1)).clamp(1, PER_SPOT);
        let mut chosen = Vec::new();
        for index in order {
            let Some(cell) = self.cells.get(index) else {
                continue;
            };
            let most = if cell.spot.pc == 0 { PER_STATE } else { each };
            chosen.extend(cell.samples.iter().take(most).map(|s| (index, *s)));
        }
        chosen.truncate(SAMPLE);
        chosen.sort_unstable_by_key(|(_, s)| s.addr);
        chosen
    }

    /// Reads stacks of some at every spot.
    fn sample(&mut self) -> Result<(), SessionError> {
        let chosen = self.choose();
        let addrs = chosen.iter().map(|(_, s)| s.addr.0).collect();
        let layouts = &self.source.target.layouts;
        let fresh = census::read_at(&*self.source.memory, layouts, addrs)?;
        let by_addr: HashMap<LiveAddr, Resident> =
            fresh.into_iter().map(|r| (r.g.addr, r)).collect();
        let mut taken = Vec::with_capacity(chosen.len());
        for (index, sample) in chosen {
            let now = by_addr.get(&sample.addr);
            // Else it ended meanwhile: it counts as it was.
            if let Some(r) = now.filter(|r| r.g.goid == sample.goid && r.g.status.is_alive()) {
                taken.push((index, sample));
                self.batch.push(*r);
            }
        }
        let seen = self
            .reader
            .read(&mut self.batch, &self.threads, &mut self.survey)?;
        let mut made = Vec::with_capacity(taken.len());
        for (r, seen) in self.batch.iter().zip(&seen) {
            made.push(self.entries.make(r, seen.clone(), &mut self.survey)?);
        }
        self.what_for(&mut made)?;
        let batch = std::mem::take(&mut self.batch);
        for (((index, sample), r), (seen, entry)) in
            taken.into_iter().zip(&batch).zip(seen.iter().zip(made))
        {
            if seen.state == StackState::Unread {
                continue;
            }
            let spot = self.spot(r)?;
            self.suspects.push((*r, lock_of(&entry)));
            self.replace(index, sample, &spot, seen, entry);
        }
        let all = self.survey.goroutines.iter_mut();
        for (entry, index) in all.zip(&self.cell_of) {
            if entry.stack_state == StackState::Unread
                && let Some(cell) = self.cells.get(*index)
            {
                self.entries.like_others(entry, cell.top());
            }
        }
        Ok(())
    }

    /// One whose stack was read: it stands by itself from now on.
    fn replace(&mut self, index: usize, sample: Sample, spot: &Spot, seen: &Seen, entry: Entry) {
        let Some(cell) = self.cells.get_mut(index) else {
            return;
        };
        if cell.spot == *spot {
            cell.tops.add((seen.user, seen.func));
            cell.said.add(seen.said);
        }
        if let Some(at) = sample.entry {
            if let Some(known) = self.survey.goroutines.get_mut(at) {
                *known = entry;
            }
        } else {
            cell.rest = cell.rest.saturating_sub(1);
            self.survey.goroutines.push(entry);
            self.cell_of.push(index);
        }
    }

    /// Tells which locks those wait for whose stacks were not read, and makes
    /// entries of those that were counted only: those that wait for the busiest
    /// lock have one of their own.
    fn leave_rest(&mut self) -> Result<(), SessionError> {
        let all: usize = self.cells.iter().map(|c| c.count).sum();
        let waiters = self.waiters.all();
        let mut busiest = None;
        // Else they are not told of one by one, and no verdict comes of it.
        if self.wanted.details || waiters.len() * verdict::LOCKED_SHARE >= all {
            if self.source.gathering {
                self.waiters.keep(self.source, &self.cells)?;
            }
            let locks = self.waiters.locks(self.source, &self.cells)?;
            let known = self.suspects.iter().map(|(r, _)| r.g.sched_sp.0).collect();
            busiest = self.waiters.busiest(&locks, &known);
            for (waiter, lock) in waiters.iter().zip(locks) {
                let entry = waiter
                    .entry
                    .and_then(|at| self.survey.goroutines.get_mut(at));
                if let (Some(entry), Some((lock, at))) = (entry, lock)
                    && entry.stack_state == StackState::Unread
                {
                    entry.blocked_on = Some(Box::new(BlockedOn::Lock(lock, at)));
                }
            }
        }
        for (index, cell) in self.cells.iter_mut().enumerate() {
            if let Some(busiest) = &busiest
                && let Some(&waiting) = busiest.by_cell.get(&index)
            {
                let rest = cell.rest;
                cell.rest = waiting.min(rest);
                if cell.rest == 0 {
                    continue; // each has an entry of its own
                }
                let mut entry = self.entries.fold(cell, &mut self.survey);
                let on = BlockedOn::Lock(busiest.lock, busiest.address);
                entry.blocked_on = Some(Box::new(on));
                self.survey.goroutines.push(entry);
                cell.rest = rest.saturating_sub(waiting);
            }
            if cell.rest > 0 {
                let entry = self.entries.fold(cell, &mut self.survey);
                self.survey.goroutines.push(entry);
            }
        }
        Ok(())
    }
}

/// The address of the lock that it waits for.
fn lock_of(e: &Entry) -> Option<u64> {
    match e.blocked_on.as_deref() {
        Some(BlockedOn::Lock(Lock::Mutex | Lock::RwMutex, at)) => Some(*at),
        _ => None,
    }
}
