//! Leaving a target: the sites' bytes go back first, then every thread is
//! brought to a stop on the program's own ground, then the action and the
//! region go. And settling itself, which borrowing a thread needs too.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::ProcessError;
use super::die;
use super::procfs;
use super::region::move_to;
use super::tracer::Tracer;
use crate::arch::slot::Place;
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{ptrace, vm, wait};

/// How long a thread may take to stop before gotap gives up on them.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long one thread may keep the others waiting.
const BRIEFLY: Duration = Duration::from_millis(20);

/// Visits between which the threads that were visited are served.
const VISITS: usize = 16;

/// Between two looks at a thread that was asked to stop.
const GLANCE: Duration = Duration::from_micros(20);
/// Looks after which others are served: the thread may wait for them.
const PATIENT_GLANCES: u32 = 16;
/// How many others are served at a time.
const SERVED: usize = 64;

/// A Go handler's stack is 32 KiB (gsignal, runtime/os_linux.go).
const HANDLER_STACK: usize = 32 << 10;

/// Where a thread was brought. All but the last two are stops on the program's
/// own ground, with nothing of ours pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// This signal is still to be delivered.
    Signal(i32),
    /// Nothing is.
    Stopped,
    /// The same, and it belongs in the stop of its whole process.
    Group,
    /// It ended.
    Gone,
    /// It does not stop.
    Stuck,
}

impl Tracer {
    /// Takes everything out of the target and lets every thread go. After it
    /// the code is byte for byte as it was, the SIGTRAP action too, and nothing
    /// stays mapped. What could not be done is the error; the rest is done.
    pub fn leave(&mut self) -> Result<(), ProcessError> {
        let mut first_error = None;
        let mut note = |r: Result<(), ProcessError>| {
            if let Err(e) = r
                && !matches!(e, ProcessError::Gone(_) | ProcessError::Replaced(_))
            {
                first_error.get_or_insert(e);
            }
        };
        self.go_on_all();
        self.give_back();
        let sites = self.installed.as_ref().map_or(0, |i| i.armed.len());
        for index in 0..sites {
            note(self.disarm(index));
        }
        die::here("leave:after-restore");
        let stuck = self.visit_all();
        let mut clear = stuck.iter().all(|tid| self.is_outside(*tid));
        if !stuck.is_empty() {
            note(Err(ProcessError::Stuck(self.pid)));
        }
        clear &= self.let_children_go();
        tracing::debug!(?stuck, clear, "every thread was visited");
        die::here("leave:after-visit");
        if clear && !self.threads.is_empty() {
            note(self.take_out());
            note(self.drop_snapshot_page());
            self.collect_dead();
            // Children that were forked until now have a copy of what was there.
            self.serve_others(0);
            self.let_children_go();
        }
        self.installed = None;
        self.retired.clear();
        self.give_back_for_good();
        self.let_threads_go();
        match first_error {
            // Of the program that gotap was in, nothing is left.
            Some(e) if !self.replaced => Err(e),
            _ => Ok(()),
        }
    }

    /// Settles every thread once, and lets it go on, traced. Gives back those
    /// that did not stop.
    pub(super) fn visit_all(&mut self) -> Vec<i32> {
        let mut stuck = Vec::new();
        if self.held {
            return stuck;
        }
        let mut seen = HashSet::new();
        let mut slow = Vec::new();
        loop {
            // Threads may have started meanwhile. None waits for one that sleeps
            // in the kernel: that one is asked again, and again.
            let mut ask: Vec<(i32, Option<Instant>)> = std::mem::take(&mut slow);
            let new: Vec<i32> = self.threads.difference(&seen).copied().collect();
            seen.extend(&new);
            ask.extend(new.into_iter().map(|tid| (tid, None)));
            if ask.is_empty() {
                return stuck;
            }
            for (i, (tid, asked)) in ask.into_iter().enumerate() {
                if i % VISITS == VISITS - 1 {
                    self.serve_others(tid);
                }
                let now = Instant::now();
                if self.visit(tid, now + BRIEFLY) != Settled::Stuck {
                    continue;
                }
                // Patience is each thread's own: there may be thousands.
                let asked = asked.unwrap_or(now);
                if now > asked + PATIENCE {
                    self.threads.remove(&tid);
                    stuck.push(tid);
                } else {
                    slow.push((tid, Some(asked)));
                }
            }
        }
    }

    fn visit(&mut self, tid: i32, deadline: Instant) -> Settled {
        if !self.threads.contains(&tid) {
            return Settled::Gone;
        }
        let settled = self.settle(tid, deadline);
        if settled == Settled::Gone {
            self.threads.remove(&tid);
        }
        self.go_on(tid, settled);
        settled
    }

    fn let_threads_go(&mut self) {
        while let Some(tid) = self.threads.iter().next().copied() {
            let settled = self.settle(tid, Instant::now() + PATIENCE);
            self.let_go(tid, settled);
            self.threads.remove(&tid);
        }
    }

    /// A thread that does not stop sleeps in the kernel. True if it will not
    /// wake up inside the region.
    fn is_outside(&self, tid: i32) -> bool {
        if self.installed.is_none() {
            return true;
        }
        procfs::sleeping_at(self.pid, tid)
            .is_some_and(|(sp, pc)| !self.in_region(pc) && self.pcs_on_stack(tid, sp).is_empty())
    }

    /// Our action and our region leave the target.
    pub(super) fn take_out(&mut self) -> Result<(), ProcessError> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        let (base, len) = (installed.region.base, installed.mapped_len);
        let old = installed.old_action_at();
        if installed.handling && self.still_handling(base + len)? {
            self.trap_action(old, 0)?;
        }
        die::here("leave:after-sigaction");
        // An exec since then took everything along.
        if self.installed.is_some() {
            self.unmap(base, len)?;
        }
        while let Some(earlier) = self.retired.pop() {
            self.unmap(earlier.region.base, earlier.mapped_len)?;
        }
        Ok(())
    }

    /// True unless the program has set another SIGTRAP action since. The default
    /// is the kernel's doing, see [`super::Event::Blocked`].
    fn still_handling(&mut self, scratch: u64) -> Result<bool, ProcessError> {
        let now = self.with_scratch(scratch, |t| t.current_action(scratch));
        match now {
            Ok(now) => Ok(self
                .installed
                .as_ref()
                .is_some_and(|i| now.handler == 0 || i.region.contains(now.handler))),
            // No page to be had for asking: it hardly ever changes.
            Err(ProcessError::Remote { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Lets a settled thread go on, traced.
    pub(super) fn go_on(&self, tid: i32, settled: Settled) {
        let done = match settled {
            Settled::Signal(signal) => ptrace::cont(tid, signal),
            Settled::Stopped => ptrace::cont(tid, 0),
            Settled::Group => ptrace::listen(tid),
            Settled::Gone | Settled::Stuck => Ok(()),
        };
        if let Err(errno) = done {
            tracing::debug!(tid, %errno, "a thread could not be continued");
        }
    }

    /// Lets a settled thread go for good. The kernel remembers a group stop.
    pub(super) fn let_go(&self, tid: i32, settled: Settled) {
        let signal = match settled {
            Settled::Signal(signal) => signal,
            Settled::Stopped | Settled::Group => 0,
            Settled::Gone | Settled::Stuck => return,
        };
        if let Err(errno) = ptrace::detach(tid, signal) {
            tracing::debug!(tid, %errno, "a thread could not be let go");
        }
    }

    /// Brings a thread to a stop in which it stands on the program's own code
    /// with nothing of ours pending.
    pub(super) fn settle(&mut self, tid: i32, deadline: Instant) -> Settled {
        if tid == self.pid && std::mem::take(&mut self.held) {
            return Settled::Stopped;
        }
        if ptrace::interrupt(tid).is_err() && !self.is_there(tid) {
            return Settled::Gone;
        }
        let mut glances = 0;
        loop {
            match wait::peek(Whom::Tid(tid), true) {
                Wait::Nothing | Wait::Interrupted => {
                    if Instant::now() > deadline {
                        return Settled::Stuck;
                    }
                    glances += 1;
                    if glances % PATIENT_GLANCES == 0 {
                        if !self.is_there(tid) {
                            return Settled::Gone;
                        }
                        self.serve_others(tid);
                    }
                    std::thread::sleep(GLANCE);
                }
                Wait::NoTracees => return Settled::Gone,
                Wait::Exited { .. } | Wait::Killed { .. } => {
                    // The event loop tells how the process ended.
                    if tid != self.pid {
                        wait::consume_end(tid);
                    }
                    return Settled::Gone;
                }
                Wait::Stopped { stop, .. } => {
                    if let Some(settled) = self.settle_stop(tid, stop) {
                        return settled;
                    }
                    if tid == self.pid && std::mem::take(&mut self.held) {
                        return Settled::Stopped;
                    }
                }
            }
        }
    }

    /// False for a thread that has ended although nobody can be told yet: the
    /// first thread of a process whose others go on is a zombie until they end.
    fn is_there(&self, tid: i32) -> bool {
        tid != self.pid || procfs::status(tid).is_ok_and(|s| !"ZX".contains(s.state))
    }

    /// What a thread may be waiting for while we wait for it: a vfork child that
    /// waits for us, threads whose end must be seen before an exec goes on. And
    /// those that we have seen already run, and have signals to take.
    pub(super) fn serve_others(&mut self, waiting_for: i32) {
        if !self.standing.is_empty() {
            self.serve_while_all_stand();
            return;
        }
        for _ in 0..SERVED {
            match wait::peek(Whom::Any, true) {
                Wait::Stopped { tid, stop } if tid != waiting_for && self.attended != Some(tid) => {
                    // A hit is not lost: its stop is reported until it is passed.
                    if self.on_stop(tid, stop).is_some() {
                        return;
                    }
                }
                Wait::Exited { tid, .. } | Wait::Killed { tid, .. }
                    if tid != waiting_for && tid != self.pid =>
                {
                    wait::consume_end(tid);
                    self.forget(tid);
                }
                Wait::Stopped { .. }
                | Wait::Exited { .. }
                | Wait::Killed { .. }
                | Wait::Nothing
                | Wait::NoTracees
                | Wait::Interrupted => return,
            }
        }
    }

    /// While all are brought to stand, those that do stand are not to go on. One
    /// that stopped for a signal is reported again each time: were it let go on,
    /// it would run while it is thought to stand, and be given its signal twice.
    pub(super) fn serve_while_all_stand(&mut self) {
        self.serve_children();
        for tid in self.standing.iter().copied().collect::<Vec<_>>() {
            let change = wait::peek(Whom::Tid(tid), true);
            if tid != self.pid && matches!(change, Wait::Exited { .. } | Wait::Killed { .. }) {
                wait::consume_end(tid);
                self.forget(tid);
            }
        }
    }

    /// Inside the handler, which has still to send its thread to a slot: that
    /// happens when a gotap was killed and threads go on hitting what it left.
    fn in_handler(&self, tid: i32) -> bool {
        if self.installed.is_none() {
            return false;
        }
        ptrace::registers(tid).is_ok_and(|r| self.in_region(r.rip) && self.home_of(r.rip).is_none())
    }

    fn settle_stop(&mut self, tid: i32, stop: Stop) -> Option<Settled> {
        if stop != Stop::Syscall && self.in_handler(tid) {
            let signal = if let Stop::Signal(signal) = stop {
                signal
            } else {
                wait::consume(tid);
                0
            };
            // On to its sigreturn. (An interrupt would stop it where it is.)
            let _ = ptrace::cont_to_syscall(tid, signal);
            return None;
        }
        match stop {
            Stop::Signal(libc::SIGTRAP) => self.settle_trap(tid),
            Stop::Signal(signal) => {
                self.clean_thread(tid);
                Some(Settled::Signal(signal))
            }
            Stop::Interrupt | Stop::Group(_) => {
                wait::consume(tid);
                if self.trap_pending(tid) {
                    // The interrupt came before the int3's own signal: let that out.
                    let _ = ptrace::cont(tid, 0);
                    return None;
                }
                self.clean_thread(tid);
                Some(match stop {
                    Stop::Group(_) => Settled::Group,
                    _ => Settled::Stopped,
                })
            }
            Stop::Clone | Stop::Fork | Stop::Vfork => {
                wait::consume(tid);
                let child = ptrace::event_message(tid).unwrap_or(0) as i32;
                self.on_child(stop, child);
                let _ = ptrace::cont(tid, 0);
                None
            }
            Stop::Exec => {
                wait::consume(tid);
                if tid == self.pid {
                    self.on_exec();
                } else {
                    let _ = ptrace::cont(tid, 0);
                }
                None
            }
            Stop::Syscall | Stop::Other(_) => {
                wait::consume(tid);
                let _ = ptrace::interrupt(tid);
                let _ = ptrace::cont(tid, 0);
                None
            }
        }
    }

    /// A thread that stopped for SIGTRAP. One that ran into a site goes back to
    /// it, by way of the slot: were gotap killed between two of these steps,
    /// every one of them is a place to go on from (see arch/handler.rs).
    fn settle_trap(&mut self, tid: i32) -> Option<Settled> {
        let Ok(mut regs) = ptrace::registers(tid) else {
            return Some(Settled::Gone);
        };
        let at = regs.rip.wrapping_sub(1);
        let slot = self.installed.as_ref().and_then(|i| {
            let (index, _) = i.site_at(at)?;
            i.slot_of(index)
        });
        let (Some(slot), Ok(libc::SI_KERNEL)) = (slot, ptrace::signal_code(tid)) else {
            self.clean_thread(tid);
            return Some(Settled::Signal(libc::SIGTRAP));
        };
        let _ = ptrace::set_rip(tid, slot);
        die::here("settle:in-slot");
        wait::consume(tid);
        die::here("settle:consumed");
        regs.rip = at;
        let _ = ptrace::set_registers(tid, regs);
        // Whether it belongs in a group stop is told by the next.
        let _ = ptrace::interrupt(tid);
        let _ = ptrace::cont(tid, 0);
        None
    }

    fn trap_pending(&self, tid: i32) -> bool {
        let at_site = ptrace::registers(tid).is_ok_and(|r| {
            self.installed
                .as_ref()
                .is_some_and(|i| i.site_at(r.rip.wrapping_sub(1)).is_some())
        });
        let trap = 1 << (libc::SIGTRAP - 1);
        at_site && procfs::status(tid).is_ok_and(|s| s.pending & trap != 0)
    }

    /// Moves a stopped thread out of the region: its pc, and pcs that the
    /// kernel saved for it in signal frames (a handler that interrupted a slot
    /// returns there).
    fn clean_thread(&self, tid: i32) {
        if self.installed.is_none() || self.halting {
            return;
        }
        let Ok(regs) = ptrace::registers(tid) else {
            return;
        };
        if let Some(home) = self.home_of(regs.rip) {
            move_to(tid, regs, home);
            return;
        }
        for (at, home) in self.pcs_on_stack(tid, regs.rsp) {
            let moved = self.move_saved(tid, at, home);
            if let Err(error) = moved {
                tracing::warn!(tid, %error, "a saved pc could not be moved");
            }
        }
    }

    /// In a signal frame the stack pointer is saved just below the pc
    /// (`struct sigcontext`, arch/x86/include/uapi/asm/sigcontext.h).
    fn move_saved(&self, tid: i32, at: u64, home: Place) -> Result<(), ProcessError> {
        if home.rsp_adjust != 0 {
            let sp_at = at.wrapping_sub(8);
            let mut sp = [0; 8];
            if vm::read(tid, sp_at, &mut sp) != Ok(sp.len()) {
                return Err(ProcessError::Gone(self.pid));
            }
            let moved = u64::from_le_bytes(sp).wrapping_add_signed(home.rsp_adjust);
            self.memory.write(sp_at, &moved.to_le_bytes())?;
        }
        self.memory.write(at, &home.rip.to_le_bytes())
    }

    /// Words near the top of a stack that lie in a slot: where, and the slot's
    /// place in the program.
    pub(super) fn pcs_on_stack(&self, tid: i32, sp: u64) -> Vec<(u64, Place)> {
        if self.installed.is_none() {
            return Vec::new();
        }
        let mut stack = vec![0u8; HANDLER_STACK];
        let got = vm::read(tid, sp, &mut stack).unwrap_or(0);
        let words = stack.get(..got).unwrap_or_default().chunks_exact(8);
        let mut found = Vec::new();
        for (i, word) in words.enumerate() {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            let value = u64::from_le_bytes(bytes);
            if self.in_region(value)
                && let Some(home) = self.home_of(value)
            {
                found.push((sp + 8 * i as u64, home));
            }
        }
        found
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.never_ran {
            self.abandon_launch();
        }
        self.drop_snapshots();
        if self.threads.is_empty() && self.children.is_empty() {
            return;
        }
        if let Err(error) = self.leave() {
            tracing::error!(pid = self.pid, %error, "the target could not be left in good order");
        }
    }
}
