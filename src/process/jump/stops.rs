//! Stopping all threads for a moment, to write jumps or to take them out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::super::ProcessError;
use super::super::die;
use super::super::leave::{PATIENCE, Settled};
use super::super::procfs;
use super::super::quiet::{ThreadAt, Whereabouts, busy, returns_into, whereabouts};
use super::super::region::PAGE;
use super::super::remote::Remote;
use super::super::tracer::Tracer;
use super::{Jumps, LeftOut, Parked, Place};
use crate::addr::LiveAddr;
use crate::arch::unit::{Interiors, JUMP};
use crate::memory::Memory;
use crate::sys::ptrace;

/// A thread that does not stop within this sleeps in the kernel, and stops
/// before it is back in the program.
const BRIEFLY: Duration = Duration::from_millis(20);

/// In so many stops somebody may be inside the bytes to be replaced.
const TRIES: usize = 16;

/// Between two stops, and so much more each time: not in step with anything that
/// the program does again and again.
const BETWEEN: Duration = Duration::from_micros(700);

/// When writing takes longer, the rest is written in another stop.
const WRITING: Duration = Duration::from_micros(400);

/// What came of writing jumps.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub pause: Duration,
    pub stops: usize,
    pub armed: usize,
    pub left_out: Vec<(usize, LeftOut)>,
}

impl Tracer {
    /// Writes the jumps, group by group, in as many short stops of all threads as
    /// it takes until nobody was inside of each. The groups of `left_out` stay.
    pub(super) fn write_jumps(
        &mut self,
        place: &Place,
        jumps: &Jumps<'_>,
        left_out: Vec<(usize, LeftOut)>,
        parked: &mut Parked<'_>,
    ) -> Result<Written, ProcessError> {
        let numbers: HashMap<u64, usize> = jumps
            .sites
            .iter()
            .zip(jumps.groups)
            .map(|(site, group)| (site.unit.at, *group))
            .collect();
        let mut pending: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, site) in place.sites.iter().enumerate() {
            let group = numbers.get(&site.site).copied().unwrap_or(0);
            if left_out.iter().all(|(left, _)| *left != group) {
                pending.entry(group).or_default().push(index);
            }
        }
        let mut written = Written {
            left_out,
            ..Written::default()
        };
        self.own_pages(place)?;
        let mut tries = 0;
        while !pending.is_empty() && tries < TRIES {
            if tries > 0 {
                std::thread::sleep(BETWEEN.saturating_mul(tries as u32));
            }
            match self.one_stop(place, &mut pending, &mut written, parked) {
                Ok(true) => tries += 1,
                Ok(false) => {}
                Err(error) => {
                    let _ = self.restore(place);
                    let _ = self.wait_until_outside(place);
                    return Err(error);
                }
            }
        }
        let busy = pending.keys().map(|group| (*group, LeftOut::Busy(tries)));
        written.left_out.extend(busy);
        if written.armed == 0 {
            let why = written.left_out.first().map(|(_, why)| why.to_string());
            return Err(ProcessError::Region {
                pid: self.pid,
                why: why.unwrap_or_else(|| "there is nothing to jump".into()),
            });
        }
        Ok(written)
    }

    /// Has the kernel make the process's own copies of the pages that are to be
    /// written, while it runs: the bytes stay what they are.
    fn own_pages(&self, place: &Place) -> Result<(), ProcessError> {
        let mut last = None;
        for site in &place.sites {
            let end = site.site.saturating_add(JUMP as u64 - 1);
            for (at, byte) in [(site.site, 0), (end, JUMP - 1)] {
                let page = at / PAGE;
                if last.replace(page) != Some(page)
                    && let Some(byte) = site.original.get(byte)
                {
                    let mut now = [0];
                    let read = self.memory.read(LiveAddr(at), &mut now);
                    if read.is_ok() && now == [*byte] {
                        self.memory.write(at, &now)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One stop of all threads. True when all was tried, false when there was no
    /// time for more.
    fn one_stop(
        &mut self,
        place: &Place,
        pending: &mut BTreeMap<usize, Vec<usize>>,
        written: &mut Written,
        parked: &mut Parked<'_>,
    ) -> Result<bool, ProcessError> {
        let waiting: BTreeSet<usize> = pending.values().flatten().copied().collect();
        // Those that are not waited for are left empty: indexes stay.
        let inside = Interiors::strictly(place.sites.iter().enumerate().map(|(i, s)| {
            let end = if waiting.contains(&i) { JUMP as u64 } else { 0 };
            s.site..s.site.saturating_add(end)
        }));
        let held = self.held;
        let began = Instant::now();
        let stopped = self.stop_all()?;
        die::here("jump:stopped");
        let at = self.whereabouts(stopped.keys());
        let mut inhabited = busy(&at, &inside);
        match parked(&self.memory, &inside, &at) {
            Some(resting) => inhabited.extend(resting),
            None => inhabited = waiting,
        }
        let mut result = Ok(true);
        let mut done = Vec::new();
        let writing = Instant::now();
        for (group, sites) in &*pending {
            if sites.iter().any(|site| inhabited.contains(site)) || die::is_busy(*group) {
                continue;
            }
            if !done.is_empty() && writing.elapsed() > WRITING {
                result = Ok(false);
                break;
            }
            done.push(*group);
            for site in sites.iter().filter_map(|i| place.sites.get(*i)) {
                if let Err(error) = self.memory.write(site.site, &site.patch()) {
                    result = Err(error);
                    break;
                }
                written.armed += 1;
                die::here("jump:half");
            }
        }
        die::here("jump:written");
        if held {
            self.standing.clear();
            self.held = true;
        } else {
            self.all_go_on(stopped);
        }
        die::here("jump:in");
        written.pause = written.pause.max(began.elapsed());
        written.stops += 1;
        for group in done {
            pending.remove(&group);
        }
        result
    }

    /// Where these threads are, and where they return to from handlers.
    fn whereabouts<'a>(&self, threads: impl Iterator<Item = &'a i32>) -> Vec<Whereabouts> {
        let threads: Vec<ThreadAt> = threads.filter_map(|t| self.at(*t)).collect();
        // What cannot be read is gone.
        whereabouts(&self.memory, &threads).unwrap_or_default()
    }

    /// Stops every thread. Those that sleep in the kernel may do so on: they are
    /// `Stuck`, and stop before they run anything of the program.
    pub(in crate::process) fn stop_all(&mut self) -> Result<HashMap<i32, Settled>, ProcessError> {
        let deadline = Instant::now() + PATIENCE;
        let mut stopped: HashMap<i32, Settled> = HashMap::new();
        loop {
            let new: Vec<i32> = self
                .threads
                .iter()
                .copied()
                .filter(|t| !self.standing.contains(t))
                .collect();
            if new.is_empty() {
                return Ok(stopped);
            }
            if !self.held {
                for tid in &new {
                    let _ = ptrace::interrupt(*tid);
                }
            }
            for tid in new {
                let brief = deadline.min(Instant::now() + BRIEFLY);
                match self.settle(tid, brief) {
                    Settled::Gone => {
                        self.threads.remove(&tid);
                    }
                    Settled::Stuck
                        if procfs::sleeping_at(self.pid, tid).is_none()
                            && Instant::now() > deadline =>
                    {
                        self.all_go_on(stopped);
                        return Err(ProcessError::Stuck(self.pid));
                    }
                    Settled::Stuck if procfs::sleeping_at(self.pid, tid).is_none() => {}
                    settled => {
                        self.standing.insert(tid);
                        stopped.insert(tid, settled);
                    }
                }
            }
        }
    }

    pub(in crate::process) fn all_go_on(&mut self, stopped: HashMap<i32, Settled>) {
        self.standing.clear();
        for (tid, settled) in stopped {
            self.go_on(tid, settled);
        }
    }

    /// Lets every thread go for good, one after the other: what was put in stays.
    pub fn let_go_of(mut self) {
        self.give_back();
        self.let_children_go();
        self.never_ran = false;
        let mut slow = Vec::new();
        while let Some(tid) = self.threads.iter().next().copied() {
            die::here("jump:letting-go");
            let settled = self.settle(tid, Instant::now() + BRIEFLY);
            if settled == Settled::Stuck {
                slow.push(tid);
            }
            self.let_go(tid, settled);
            self.threads.remove(&tid);
        }
        // They sleep in the kernel: they are let go when they wake up.
        let deadline = Instant::now() + PATIENCE;
        for tid in slow {
            let settled = self.settle(tid, deadline);
            self.let_go(tid, settled);
        }
        self.let_children_go();
    }

    /// Where a thread is that is stopped, or sleeps in the kernel.
    fn at(&self, tid: i32) -> Option<ThreadAt> {
        if let Ok(regs) = ptrace::registers(tid) {
            let (pc, sp) = (regs.rip, regs.rsp);
            return Some(ThreadAt { tid, pc, sp });
        }
        let (sp, pc) = procfs::sleeping_at(self.pid, tid)?;
        Some(ThreadAt { tid, pc, sp })
    }

    /// Takes jumps out again, and what they lead to, and lets go of the target.
    pub(in crate::process) fn jump_out(&mut self, place: &Place) -> Result<(), ProcessError> {
        self.restore(place)?;
        die::here("jump:restored");
        self.wait_until_outside(place)?;
        let mappings = procfs::mappings(self.pid)?;
        if self.remote.is_none() {
            let code = (LiveAddr(0), LiveAddr(u64::MAX));
            self.remote = Some(Remote::find(&mappings, &self.memory, code)?);
        }
        let unmapped = self.unmap_all(place);
        self.give_back();
        unmapped
    }

    /// Puts the bytes back, in one stop of all threads.
    fn restore(&mut self, place: &Place) -> Result<(), ProcessError> {
        let stopped = self.stop_all()?;
        let mut foreign = None;
        for site in &place.sites {
            let mut now = [0; JUMP];
            let read = self.memory.read(LiveAddr(site.site), &mut now);
            if read.is_ok() && now == site.patch() {
                if let Err(error) = self.memory.write(site.site, &site.original) {
                    foreign.get_or_insert(error);
                }
                die::here("jump:half-out");
            }
        }
        self.all_go_on(stopped);
        foreign.map_or(Ok(()), Err)
    }

    /// Sees every thread once outside the pages: nobody gets in any more.
    fn wait_until_outside(&mut self, place: &Place) -> Result<(), ProcessError> {
        let pages = Interiors::whole(std::iter::once(place.base..place.base + place.len));
        let deadline = Instant::now() + PATIENCE;
        let mut seen: Vec<i32> = Vec::new();
        loop {
            let new: Vec<i32> = self
                .threads
                .iter()
                .copied()
                .filter(|t| !seen.contains(t))
                .collect();
            if new.is_empty() {
                return Ok(());
            }
            for tid in new {
                let settled = self.settle(tid, deadline.min(Instant::now() + BRIEFLY));
                if settled == Settled::Gone {
                    self.threads.remove(&tid);
                    continue;
                }
                let asleep =
                    settled != Settled::Stuck || procfs::sleeping_at(self.pid, tid).is_some();
                let inside = self.at(tid).is_some_and(|at| {
                    // What cannot be read is gone.
                    returns_into(&self.memory, at, &pages).unwrap_or(false)
                });
                if asleep && !inside {
                    seen.push(tid);
                }
                self.go_on(tid, settled);
            }
            if Instant::now() > deadline {
                return Err(ProcessError::Stuck(self.pid));
            }
        }
    }

    /// Unmaps pages and ring, and closes the ring's descriptor if gotap was
    /// killed before it did.
    pub(in crate::process) fn unmap_all(&mut self, place: &Place) -> Result<(), ProcessError> {
        let name = format!("/memfd:{} (deleted)", crate::arch::jump::pages::RING_NAME);
        let mappings = procfs::mappings(self.pid)?;
        let ring = mappings
            .iter()
            .any(|m| m.start == place.ring && m.name == name);
        if ring {
            self.unmap(place.ring, place.ring_len)?;
        }
        for fd in procfs::descriptors(self.pid) {
            if procfs::descriptor(self.pid, fd).as_deref() == Some(&name) {
                self.call("close a file", libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
            }
        }
        die::here("jump:ring-unmapped");
        let own = place.ring.saturating_sub(PAGE);
        let has_own = mappings
            .iter()
            .any(|m| (m.start, m.end, m.inode) == (own, place.ring, 0) && m.write && !m.exec);
        if has_own {
            self.unmap(own, PAGE)?;
        }
        self.unmap(place.base, place.len)
    }
}
