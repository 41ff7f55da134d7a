//! Frozen copies of the target: a child-like process with all its memory, made
//! while the target is held for the time that copying its page tables takes,
//! and never run. It holds no descriptor of the target, is killed with gotap,
//! and first in line when memory runs out.
//!
//! One thread of the target does it (see [`crate::arch::snapshot`]); the others
//! run on until they write to memory, which waits for the copy to be complete: so
//! what the copy has of one thread's doing, it has of all that this came from.
//!
//! Who lives here: what a copy costs ([`cost`], [`cgroup`]), whether filters of
//! system calls allow it ([`filter`]), a copy in the making ([`making`]), what
//! holds one ([`hold`]). Allowed in: session.

mod cgroup;
mod cost;
mod filter;
mod hold;
mod making;

pub use cost::{Estimate, estimate, memory_of, refusal};
pub use hold::Hold;

use std::time::{Duration, Instant};

use self::filter::{SystemCall, Verdict, judge, read_filters};
use self::making::{Failed, Making};
use super::ProcessError;
use super::die;
use super::leave::PATIENCE;
use super::procfs;
use super::region::PAGE;
use super::remote::Remote;
use super::room::room_near;
use super::still::StillThread;
use super::tracer::{Hit, Tracer};
use crate::addr::LiveAddr;
use crate::arch::region::{Owner, Region};
use crate::arch::snapshot::{CALLS, COPY_NAME, OWN_CALLS, assemble_snapshot};
use crate::sys::wait::{Wait, Whom};
use crate::sys::{Regs, ptrace, wait};

/// What is said of filters that gotap may not read.
const UNREADABLE_FILTER: &str = "a seccomp filter watches its system calls, and might kill it for \
     those of a copy: run gotap as root, outside of any filter, to have it read first";

/// A frozen copy. Dropping it ends the copy.
#[derive(Debug)]
pub struct Snapshot {
    /// The copy's process id; its memory is read as that of any process.
    pub pid: i32,
    /// How long the target was held.
    pub pause: Duration,
    /// What the target had in memory, bytes.
    pub resident: u64,
    /// When it was made.
    pub taken: Instant,
    /// Threads whose registers are known: the one that made it, or all.
    pub threads: Vec<StillThread>,
    /// The copy is there as long as this is.
    pub hold: Hold,
}

/// A copy that has not been seen to end.
#[derive(Debug)]
struct Held {
    pid: i32,
    /// The target collects it, dead, as its child: by this number.
    own_child: Option<i32>,
}

/// The copies that are held, and the page with the code that makes them.
#[derive(Debug, Default)]
pub(super) struct Copies {
    held: Vec<Held>,
    /// Dead ones that the target is to collect.
    dead: Vec<i32>,
    pub(super) page: Option<u64>,
}

impl Copies {
    pub(super) fn has(&self, pid: i32) -> bool {
        self.held.iter().any(|copy| copy.pid == pid)
    }

    /// A copy is gone.
    pub(super) fn forget(&mut self, pid: i32) {
        if let Some(at) = self.held.iter().position(|copy| copy.pid == pid) {
            self.dead.extend(self.held.swap_remove(at).own_child);
        }
    }
}

impl Tracer {
    /// Makes a frozen copy of the target, on the thread of a hit, which is still
    /// to be passed, or on any. `text` is the program's code. `consistent`: all
    /// threads are stopped first, and their registers taken.
    pub fn snapshot(
        &mut self,
        hit: Option<&Hit>,
        text: (LiveAddr, LiveAddr),
        consistent: bool,
    ) -> Result<Snapshot, ProcessError> {
        self.collect_dead();
        let resident = estimate(self.pid)?.resident;
        self.prepare_snapshots(text)?;
        match hit {
            Some(hit) => {
                let slot = self.installed.as_ref().and_then(|i| i.slot_of(hit.site));
                self.borrow_hit(hit.tid, slot.unwrap_or(hit.regs.rip))?;
            }
            None => self.borrow(Instant::now() + PATIENCE)?,
        }
        die::here("snap:borrowed");
        let made = self.snapshot_borrowed(consistent);
        match hit {
            Some(_) => self.give_back_stopped(),
            None => self.give_back(),
        }
        die::here("snap:given-back");
        let (hold, pause, mut threads) = made?;
        if let Some(hit) = hit
            && let Some(own) = threads.iter_mut().find(|t| t.tid == hit.tid)
        {
            // Where the program is, not the slot.
            own.regs = hit.regs;
        }
        Ok(Snapshot {
            pid: hold.pid(),
            pause,
            resident,
            taken: Instant::now(),
            threads,
            hold,
        })
    }

    /// Maps the page that copies are made with, if it is not there, on a thread
    /// that sleeps.
    pub fn prepare_snapshots(&mut self, text: (LiveAddr, LiveAddr)) -> Result<(), ProcessError> {
        if self.remote.is_none() {
            let mappings = procfs::mappings(self.pid)?;
            self.remote = Some(Remote::find(&mappings, &self.memory, text)?);
        }
        if self.copies.page.is_some() {
            return Ok(());
        }
        let (lo, hi) = text;
        let at = room_near(self.pid, lo.0, hi.0, PAGE)?;
        let mapped = self.map(at, PAGE, libc::PROT_READ | libc::PROT_EXEC);
        self.give_back();
        mapped?;
        die::here("snap:mapped");
        self.copies.page = Some(at);
        Ok(())
    }

    /// Copies that are held, and were not seen to end.
    pub fn snapshots_held(&self) -> usize {
        self.copies.held.len()
    }

    /// Sees copies go that have ended.
    pub fn collect_ended(&mut self) {
        let held: Vec<i32> = self.copies.held.iter().map(|copy| copy.pid).collect();
        for pid in held {
            if let Wait::Exited { .. } | Wait::Killed { .. } = wait::consume_end(pid) {
                self.copies.forget(pid);
            }
        }
        self.collect_dead();
    }

    /// Waits until no copy is held any more. For a target that was left, or is
    /// gone: nothing else is attended to.
    pub fn keep_snapshots(&mut self) {
        while !self.copies.held.is_empty() {
            match wait::peek(Whom::Any, false) {
                Wait::Exited { tid, .. } | Wait::Killed { tid, .. } => {
                    wait::consume_end(tid);
                    self.copies.forget(tid);
                    self.collect_dead_later();
                }
                Wait::Stopped { tid, .. } => {
                    wait::consume(tid);
                }
                Wait::NoTracees => self.copies.held.clear(),
                Wait::Interrupted | Wait::Nothing => {}
            }
        }
        self.collect_dead_later();
    }

    /// Ends all copies, and sees them go.
    pub(super) fn drop_snapshots(&mut self) {
        while let Some(copy) = self.copies.held.first().map(|copy| copy.pid) {
            end_copy(copy);
            self.copies.forget(copy);
        }
    }

    /// The page leaves the target, for good.
    pub(super) fn drop_snapshot_page(&mut self) -> Result<(), ProcessError> {
        match self.copies.page.take() {
            Some(at) => self.unmap(at, PAGE),
            None => Ok(()),
        }
    }

    /// Has the target collect copies that are dead, where it is the one to: the
    /// first process of a pid namespace, and one that asked for it
    /// (`PR_SET_CHILD_SUBREAPER` in prctl(2)).
    pub(super) fn collect_dead(&mut self) {
        if self.copies.dead.is_empty() {
            return;
        }
        for own in std::mem::take(&mut self.copies.dead) {
            let flags = libc::WNOHANG | libc::__WALL;
            let args = [own as u64, 0, flags as u64, 0, 0, 0];
            if let Err(error) = self.call("collect a dead copy", libc::SYS_wait4, args) {
                tracing::debug!(pid = self.pid, %error, "a dead copy stays the target's child");
            }
        }
        self.give_back();
    }

    /// The same from outside: of a target that was left, or by another gotap.
    fn collect_dead_later(&mut self) {
        if !self.copies.dead.is_empty() {
            let dead = std::mem::take(&mut self.copies.dead);
            let end = Instant::now() + PATIENCE;
            loop {
                match Tracer::attach(self.pid) {
                    Ok(mut tracer) => {
                        tracer.copies.dead = dead;
                        tracer.collect_at_leisure();
                        return;
                    }
                    // By another thread of ours, which may be at the same.
                    Err(ProcessError::AlreadyTraced { .. }) if Instant::now() < end => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(_) => return,
                }
            }
        }
    }

    fn collect_at_leisure(&mut self) {
        let found = procfs::mappings(self.pid)
            .and_then(|mappings| Remote::find(&mappings, &self.memory, EVERYWHERE));
        if let Ok(remote) = found {
            self.remote = Some(remote);
            self.collect_dead();
        }
    }

    /// Dead copies that a gotap which was killed left the target to collect.
    /// Tells whether there were any. [`Tracer::call`] must be possible.
    pub(super) fn collect_leftover_copies(&mut self) -> bool {
        let dead = procfs::children(self.pid).into_iter().filter(|child| {
            procfs::status(*child).is_ok_and(|s| s.state == 'Z' && s.name == COPY_NAME)
        });
        self.copies.dead = dead.filter_map(procfs::own_thread_id).collect();
        let any = !self.copies.dead.is_empty();
        if any {
            self.collect_at_leisure();
        }
        any
    }

    fn snapshot_borrowed(
        &mut self,
        consistent: bool,
    ) -> Result<(Hold, Duration, Vec<StillThread>), ProcessError> {
        let (Some(at), Some((tid, saved, unfiltered))) = (self.copies.page, self.borrowed_thread())
        else {
            return Err(ProcessError::Gone(self.pid));
        };
        let code = assemble_snapshot(at + Region::CODE as u64, &saved)
            .map_err(|e| self.no_snapshot(&e.to_string()))?;
        if let Some(unfiltered) = unfiltered {
            self.check_filters(tid, unfiltered, code.start)?;
        }
        let me = std::process::id();
        let owner = Owner {
            pid: me,
            start_time: procfs::start_time(me as i32).unwrap_or(0),
            pid_namespace: procfs::pid_namespace(me as i32).unwrap_or(0),
        };
        let bytes = Region::around(at, owner, &code.bytes).map_err(|e| self.cannot_build(&e))?;
        self.memory.write(at, &bytes)?;
        die::here("snap:written");
        let began = Instant::now();
        let mut threads = vec![self.standing_thread(tid, saved)];
        let mut stopped = None;
        if consistent {
            self.standing.insert(tid);
            let others = self.stop_all()?;
            die::here("snap:stopped");
            let regs = others
                .keys()
                .filter_map(|t| Some((*t, ptrace::registers(*t).ok()?)));
            threads.extend(regs.map(|(t, regs)| self.standing_thread(t, regs)));
            stopped = Some(others);
        }
        let mut making = Making::new(tid, &code, unfiltered == Some(true));
        let made = making.run(saved, began + PATIENCE);
        if let Some(others) = stopped {
            self.all_go_on(others);
        }
        let pause = began.elapsed();
        match made {
            Ok(copy) => Ok((self.hold(copy)?, pause, threads)),
            Err(Failed::Gone) => Err(ProcessError::Gone(self.pid)),
            Err(Failed::Stuck) => Err(ProcessError::Stuck(self.pid)),
            Err(Failed::Call(what, errno)) => Err(ProcessError::Remote { what, errno }),
        }
    }

    fn standing_thread(&self, tid: i32, mut regs: Regs) -> StillThread {
        if let Some(home) = self.home_of(regs.rip) {
            // In a slot: shown where the program is.
            regs.rip = home.rip;
            regs.rsp = regs.rsp.wrapping_add_signed(home.rsp_adjust);
        }
        StillThread {
            tid,
            own_tid: procfs::own_thread_id(tid).unwrap_or(tid),
            regs,
        }
    }

    fn hold(&mut self, copy: i32) -> Result<Hold, ProcessError> {
        let status = procfs::status(copy);
        let of_target = status.is_ok_and(|s| s.ppid == self.pid);
        self.copies.held.push(Held {
            pid: copy,
            own_child: of_target.then(|| procfs::own_thread_id(copy)).flatten(),
        });
        // Not its owner's fault when memory runs out.
        let _ = std::fs::write(format!("/proc/{copy}/oom_score_adj"), "1000");
        Hold::new(copy).map_err(|errno| {
            end_copy(copy);
            self.copies.forget(copy);
            ProcessError::Ptrace {
                what: "holding a copy",
                tid: copy,
                errno,
            }
        })
    }

    /// The filters of the thread's system calls allow those of a copy, made at
    /// `rip`. What the thread does itself must not harm it without us either:
    /// then its filters are there again.
    fn check_filters(&self, tid: i32, unfiltered: bool, rip: u64) -> Result<(), ProcessError> {
        let filters = read_filters(|index| ptrace::seccomp_filter(tid, index))
            .map_err(|_| self.no_snapshot(UNREADABLE_FILTER))?;
        for (index, (name, number, args)) in CALLS.into_iter().enumerate() {
            let call = SystemCall { number, args };
            let verdict = judge(&filters, &call, rip);
            let enough = match (unfiltered, index < OWN_CALLS) {
                (true, true) => Verdict::Fails,
                (true, false) => Verdict::Deadly,
                (false, _) => Verdict::Allowed,
            };
            if verdict < enough || filters.is_empty() {
                return Err(self.no_snapshot(&format!(
                    "its seccomp filter does not let it make the calls of a copy ({name}): \
                     nothing can be done but to allow that in the filter",
                )));
            }
        }
        Ok(())
    }

    fn no_snapshot(&self, why: &str) -> ProcessError {
        ProcessError::Snapshot {
            pid: self.pid,
            why: why.to_owned(),
        }
    }
}

/// Where any code may have an instruction that is looked for.
const EVERYWHERE: (LiveAddr, LiveAddr) = (LiveAddr(0), LiveAddr(u64::MAX));

/// Kills a copy, and sees it go. Its parent is whoever collects orphans.
fn end_copy(pid: i32) {
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    );
    loop {
        match wait::await_one(pid) {
            Wait::Stopped { .. } | Wait::Interrupted | Wait::Nothing => {}
            Wait::Exited { .. } | Wait::Killed { .. } | Wait::NoTracees => return,
        }
    }
}
