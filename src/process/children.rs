//! Children of the target. A forked child has its own copy of everything: it
//! gets clean code and is let go. One that shares the target's memory (vfork,
//! `CLONE_VM` without `CLONE_THREAD`) shares its int3s too, and is followed
//! until it runs another program.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::ProcessError;
use super::leave::{PATIENCE, Settled};
use super::memory::ProcessMemory;
use super::procfs;
use super::region::{INT3, Installed, move_to};
use super::remote::{Remote, call_in_child};
use super::tracer::Tracer;
use crate::addr::LiveAddr;
use crate::arch::region::SPARE;
use crate::memory::Memory;
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{ptrace, wait};

/// The children that have not been let go.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// These share the target's bytes.
    pub(super) sharing: HashSet<i32>,
    /// Stopped at their first stop; the event that explains them is to come.
    pub(super) early: HashSet<i32>,
    /// Explained; their first stop is to come.
    pub(super) expected: HashMap<i32, Stop>,
}

impl Children {
    /// True for one of them.
    pub(super) fn forget(&mut self, tid: i32) -> bool {
        self.sharing.remove(&tid) | self.early.remove(&tid) | self.expected.remove(&tid).is_some()
    }

    /// True when all have been let go.
    pub(super) fn is_empty(&self) -> bool {
        self.sharing.is_empty() && self.early.is_empty() && self.expected.is_empty()
    }

    fn all(&self) -> Vec<i32> {
        let expected = self.expected.keys();
        self.sharing.iter().chain(expected).copied().collect()
    }
}

impl Tracer {
    /// The event of a parent: `child` is a new thread or a new process.
    pub(super) fn on_child(&mut self, stop: Stop, child: i32) {
        let thread =
            stop == Stop::Clone && !procfs::status(child).is_ok_and(|s| s.tgid != self.pid);
        let early = self.children.early.remove(&child);
        if thread {
            self.threads.insert(child);
            if early {
                self.resume(child, 0);
            }
        } else if early {
            self.on_first_stop_of_child(child, stop);
        } else {
            self.children.expected.insert(child, stop);
        }
    }

    /// The first stop of a task that the kernel attached, or the leftover stop
    /// of an interrupt.
    pub(super) fn on_first_stop(&mut self, tid: i32) {
        if self.threads.contains(&tid) || self.children.sharing.contains(&tid) {
            self.resume(tid, 0);
        } else if let Some(stop) = self.children.expected.remove(&tid) {
            self.on_first_stop_of_child(tid, stop);
        } else if procfs::status(tid).is_ok_and(|s| s.tgid == self.pid) {
            self.threads.insert(tid);
            self.resume(tid, 0);
        } else {
            // A child whose parent's event is still to come: it waits for that.
            self.children.early.insert(tid);
        }
    }

    fn on_first_stop_of_child(&mut self, child: i32, stop: Stop) {
        if self.shares_memory(child, stop) {
            self.children.sharing.insert(child);
            self.resume(child, 0);
        } else {
            self.release_copy(child);
        }
    }

    /// Whether a stopped child has the target's memory or a copy: what is written
    /// to a spare word of its region shows in ours or not. The event does not
    /// tell: clone(2) with `CLONE_VM` and SIGCHLD is reported as a fork.
    fn shares_memory(&self, child: i32, stop: Stop) -> bool {
        let Some(installed) = &self.installed else {
            return stop == Stop::Vfork;
        };
        let word = LiveAddr(installed.region.base + SPARE);
        let Ok(memory) = ProcessMemory::open(child) else {
            return stop == Stop::Vfork;
        };
        let sign = u64::from(child.unsigned_abs()) | 1 << 63;
        let signed = memory.write(word.0, &sign.to_le_bytes()).is_ok()
            && self.memory.read_u64(word) == Ok(sign);
        let _ = memory.write(word.0, &0u64.to_le_bytes());
        signed
    }

    /// A child with its own copy gets clean code, its own SIGTRAP action, and is
    /// let go.
    fn release_copy(&mut self, child: i32) {
        if let (Some(installed), Some(remote)) = (&self.installed, &self.remote)
            && let Err(error) = installed.clean_copy(child, remote, &self.retired)
        {
            tracing::warn!(child, %error, "a forked child keeps what was injected into its parent");
        }
        let _ = ptrace::detach(child, 0);
    }

    /// Deals with what children have to report: their parents may wait for them.
    pub(super) fn serve_children(&mut self) {
        for child in self.children.all() {
            match wait::peek(Whom::Tid(child), true) {
                // Nobody hits: it is called where no site is armed, or none of theirs.
                Wait::Stopped { stop, .. } => drop(self.on_stop(child, stop)),
                Wait::Exited { .. } | Wait::Killed { .. } => {
                    wait::consume_end(child);
                    self.children.forget(child);
                }
                Wait::NoTracees => drop(self.children.forget(child)),
                Wait::Nothing | Wait::Interrupted => {}
            }
        }
    }

    /// Lets all children go, with clean code. False if one that shares the
    /// target's memory could not be brought out of the region.
    pub(super) fn let_children_go(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        // Their parents were seen, or are gone.
        for child in std::mem::take(&mut self.children.early) {
            self.on_first_stop_of_child(child, Stop::Fork);
        }
        while !self.children.expected.is_empty() && Instant::now() < deadline {
            self.serve_children();
            std::thread::sleep(Duration::from_micros(50));
        }
        let mut clear = true;
        for child in std::mem::take(&mut self.children.sharing) {
            let settled = self.settle(child, deadline);
            clear &= settled != Settled::Stuck;
            self.let_go(child, settled);
        }
        clear
    }
}

impl Installed {
    /// Cleans a forked child's copy: bytes, action, mapping. The child is stopped.
    fn clean_copy(
        &self,
        child: i32,
        remote: &Remote,
        retired: &[Installed],
    ) -> Result<(), ProcessError> {
        let memory = ProcessMemory::open(child)?;
        // What is armed now is not what was when it was forked.
        for slot in &self.region.slots {
            let mut byte = [0];
            if memory.read(LiveAddr(slot.site), &mut byte).is_ok() && byte == [INT3] {
                memory.write(slot.site, &[slot.original])?;
            }
        }
        if let Ok(regs) = ptrace::registers(child)
            && let Some(home) = std::iter::once(self)
                .chain(retired)
                .find_map(|i| i.home_of(regs.rip))
        {
            move_to(child, regs, home);
        }
        let action = [libc::SIGTRAP as u64, self.old_action_at(), 0, 8, 0, 0];
        let mut calls = Vec::new();
        // Both fail, and that is right, in a child forked after they were done.
        if self.handling {
            calls.push((libc::SYS_rt_sigaction, action));
        }
        for region in std::iter::once(self).chain(retired) {
            let region = [region.region.base, region.mapped_len, 0, 0, 0, 0];
            calls.push((libc::SYS_munmap, region));
        }
        call_in_child(child, remote, &calls).map_err(|errno| ProcessError::Ptrace {
            what: "cleaning a forked child",
            tid: child,
            errno,
        })
    }
}
