//! A target that stands still for as long as somebody looks at it.
//!
//! Every thread is brought to a stop (`leave.rs`, `settle`), but for those that
//! hit a site and were told of: they stay in the very stop that told,
//! unconsumed, so that the handler sends them on should gotap die. The kernel
//! lets all others go on then. A thread that ran into a site and was not told of
//! stands before it again, and hits it when it goes on; one that was told of
//! before and is in its slot stays there, and is only shown at its site: no hit
//! is lost or counted twice. A signal that a thread stopped for is delivered when
//! it goes on.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::ProcessError;
use super::die;
use super::leave::Settled;
use super::procfs;
use super::quiet::{ThreadAt, returns_into};
use super::region::Installed;
use super::remote::Remote;
use super::still::StillThread;
use super::tracer::{Ending, Event, Hit, Tracer};
use crate::arch::unit::Interiors;
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{Regs, ptrace, wait};

/// Between two looks at the only thread that runs.
const GLANCE: Duration = Duration::from_micros(30);

/// Threads that stand still.
#[derive(Debug, Default)]
pub(super) struct Halt {
    /// Brought to a stop, and with what they go on.
    pub(super) threads: HashMap<i32, Settled>,
    /// In the stop of a hit that was told, and the site.
    pub(super) hits: HashMap<i32, u64>,
}

/// What became of a thread that ran while all others stood.
#[derive(Debug)]
pub enum Alone {
    /// It is at a site.
    Hit(Box<Hit>),
    /// It did not get to one in time, or a signal came for it: it stands where
    /// its registers say.
    Stands,
    /// It ended.
    Gone,
}

impl Tracer {
    /// Stops every thread, those that start meanwhile too, until
    /// [`Tracer::go_on_all`]. `hit` was told by [`Tracer::next_event`], and is
    /// passed by going on. On an error all run, but for the hit's thread, which
    /// is still to be passed.
    pub fn halt(&mut self, hit: Option<&Hit>) -> Result<(), ProcessError> {
        if self.halted.is_some() {
            return Ok(());
        }
        if let Some(hit) = hit {
            self.standing.insert(hit.tid);
        }
        self.halting = true;
        let threads = self.stop_all();
        self.halting = false;
        let threads = threads?;
        die::here("halt:stopped");
        self.halted = Some(Halt {
            threads,
            hits: hit.iter().map(|h| (h.tid, h.regs.rip)).collect(),
        });
        Ok(())
    }

    /// It stands still.
    pub fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    /// The threads that stand still with their registers; `rip` is the site's
    /// address where one is at a site. A thread that sleeps in the kernel where
    /// nothing stops it has none.
    pub fn halted_threads(&self) -> Vec<StillThread> {
        let Some(halt) = &self.halted else {
            return Vec::new();
        };
        let elsewhere = procfs::pid_namespace(self.pid)
            != procfs::pid_namespace(std::process::id().cast_signed());
        let mut tids: Vec<i32> = halt
            .threads
            .keys()
            .chain(halt.hits.keys())
            .copied()
            .collect();
        tids.sort_unstable();
        tids.into_iter()
            .filter_map(|tid| {
                let regs = self.halted_registers(tid)?;
                let own = elsewhere.then(|| procfs::own_thread_id(tid)).flatten();
                Some(StillThread {
                    tid,
                    own_tid: own.unwrap_or(tid),
                    regs,
                })
            })
            .collect()
    }

    fn halted_registers(&self, tid: i32) -> Option<Regs> {
        let halt = self.halted.as_ref()?;
        let mut regs = ptrace::registers(tid).ok()?;
        if let Some(site) = halt.hits.get(&tid)
            && regs.rip == site.wrapping_add(1)
        {
            regs.rip = *site;
        } else if let Some(home) = self.home_of(regs.rip) {
            regs.rip = home.rip;
            regs.rsp = regs.rsp.wrapping_add_signed(home.rsp_adjust);
        }
        Some(regs)
    }

    /// Changes the registers of a thread that stands still; not where it goes on,
    /// and not its stack pointer.
    pub fn change_registers(&mut self, tid: i32, mut regs: Regs) -> Result<(), ProcessError> {
        let fail = |errno| ProcessError::Ptrace {
            what: "changing registers",
            tid,
            errno,
        };
        let now = ptrace::registers(tid).map_err(fail)?;
        regs.rip = now.rip;
        regs.rsp = now.rsp;
        regs.orig_rax = now.orig_rax;
        ptrace::set_registers(tid, regs).map_err(fail)
    }

    /// Lets all go on: who hit, through the slot.
    pub fn go_on_all(&mut self) {
        let Some(halt) = self.halted.take() else {
            return;
        };
        die::here("halt:going-on");
        self.standing.clear();
        for (tid, site) in halt.hits {
            self.go_on_from(tid, site);
        }
        for (tid, settled) in halt.threads {
            self.go_on_halted(tid, settled);
        }
    }

    fn go_on_halted(&mut self, tid: i32, settled: Settled) {
        match settled {
            Settled::Signal(signal) => self.on_signal(tid, signal),
            settled => self.go_on(tid, settled),
        }
    }

    fn go_on_from(&self, tid: i32, site: u64) {
        let Ok(regs) = ptrace::registers(tid) else {
            return;
        };
        let installed = self.installed.as_ref();
        let slot = installed.and_then(|i| i.slot_of(i.site_at(site)?.0));
        if let Some(slot) = slot.filter(|_| regs.rip == site.wrapping_add(1))
            && ptrace::set_rip(tid, slot).is_err()
        {
            return;
        }
        self.resume(tid, 0);
    }

    /// Lets one thread go on while all others stand, until it is at an armed
    /// site, or for so long.
    pub fn run_alone(&mut self, tid: i32, longest: Duration) -> Alone {
        let Some(halt) = &mut self.halted else {
            return Alone::Gone;
        };
        let (site, settled) = (halt.hits.remove(&tid), halt.threads.remove(&tid));
        match (site, settled) {
            (Some(site), _) => self.go_on_from(tid, site),
            (None, Some(settled)) => self.go_on_halted(tid, settled),
            (None, None) => return Alone::Gone,
        }
        let end = Instant::now() + longest;
        let hit = loop {
            match wait::peek(Whom::Tid(tid), true) {
                Wait::Stopped {
                    stop: stop @ Stop::Signal(libc::SIGTRAP),
                    ..
                } => {
                    // Else it was not a site's.
                    let event = self.on_stop(tid, stop);
                    if let Some(Event::Blocked(hit)) = &event {
                        self.undo_default(hit);
                    }
                    if let Some(Event::Hit(hit) | Event::Blocked(hit)) = event {
                        break Some(hit);
                    }
                }
                Wait::Nothing | Wait::Interrupted if Instant::now() < end => {
                    self.serve_while_all_stand();
                    std::thread::sleep(GLANCE);
                }
                // What is left of being stopped before.
                Wait::Stopped {
                    stop: Stop::Interrupt,
                    ..
                } if Instant::now() < end => {
                    wait::consume(tid);
                    self.resume(tid, 0);
                }
                _ => break None,
            }
        };
        if let Some(hit) = hit {
            if let Some(halt) = &mut self.halted {
                halt.hits.insert(tid, hit.regs.rip);
            }
            return Alone::Hit(hit);
        }
        self.halting = true;
        let settled = self.settle(tid, end + super::leave::PATIENCE);
        // Whom it has started stands as well.
        let new = self.stop_all().unwrap_or_default();
        self.halting = false;
        if settled == Settled::Gone {
            self.forget(tid);
            return Alone::Gone;
        }
        if let Some(halt) = &mut self.halted {
            halt.threads.insert(tid, settled);
            halt.threads.extend(new);
            self.standing = halt
                .threads
                .keys()
                .chain(halt.hits.keys())
                .copied()
                .collect();
        }
        Alone::Stands
    }

    /// Looks after who has ended, and after children, while all stand still.
    pub fn glance_while_halted(&mut self) -> Option<Event> {
        self.halted.as_ref()?;
        self.serve_while_all_stand();
        if self.replaced {
            self.halted = None;
            self.standing.clear();
            self.held = true;
            return Some(Event::Exec);
        }
        let ending = match wait::peek(Whom::Tid(self.pid), true) {
            Wait::Exited { code, .. } => Ending::Exited(code),
            Wait::Killed { signal, .. } => Ending::Killed(signal),
            Wait::NoTracees => Ending::Unknown,
            _ => return None,
        };
        self.halted = None;
        self.standing.clear();
        self.on_exit(self.pid, ending)
    }

    /// While all stand still: one of those, by preference one that sleeps so.
    pub(super) fn borrow_halted(&mut self, remote: &Remote) -> Result<(), ProcessError> {
        let Some(halt) = &self.halted else {
            return Ok(());
        };
        let mut free: Vec<(bool, i32, u64, bool)> = halt
            .threads
            .iter()
            .filter(|(_, s)| matches!(s, Settled::Stopped | Settled::Group))
            .filter_map(|(tid, settled)| {
                let own = self.own_syscall(&ptrace::registers(*tid).ok()?, remote);
                let at = own.unwrap_or(remote.syscall);
                Some((own.is_none(), *tid, at, *settled == Settled::Group))
            })
            .collect();
        free.sort_unstable();
        match free.first() {
            Some((_, tid, at, group)) => self.borrow_at(*tid, *at, *group),
            None => Err(ProcessError::Stuck(self.pid)),
        }
    }

    /// Neither is a thread in one of these pieces, nor will it return there from a
    /// handler.
    fn is_elsewhere(&self, tid: i32, pieces: &Interiors) -> bool {
        // The borrowed one has other registers now; it was outside.
        if self.borrowed.as_ref().is_some_and(|b| b.tid() == tid) {
            return true;
        }
        ptrace::registers(tid).is_ok_and(|regs| {
            let (pc, sp) = (regs.rip, regs.rsp);
            returns_into(&self.memory, ThreadAt { tid, pc, sp }, pieces) == Ok(false)
        })
    }

    /// Regions that a later one took the place of go, where nobody can be in
    /// them: all stand outside.
    pub(super) fn drop_retired(&mut self) {
        let piece = |r: &Installed| r.region.base..r.region.base + r.mapped_len;
        let pieces = Interiors::whole(self.retired.iter().map(piece));
        let clear = self.halted.as_ref().is_some_and(|halt| {
            let mut all = halt.threads.iter();
            let mut hits = halt.hits.keys();
            // Who has hit is at its site, but for a thread that was borrowed there:
            // that one goes on from the slot.
            all.all(|(tid, s)| *s != Settled::Stuck && self.is_elsewhere(*tid, &pieces))
                && hits.all(|tid| self.is_elsewhere(*tid, &pieces))
        });
        if !clear || !self.children.is_empty() {
            return;
        }
        while let Some(earlier) = self.retired.pop() {
            let (base, len) = (earlier.region.base, earlier.mapped_len);
            if let Err(error) = self.unmap(base, len) {
                tracing::debug!(%error, "a region that nobody needs stays");
                self.retired.push(earlier);
                return;
            }
        }
    }
}
