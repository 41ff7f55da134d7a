//! Frozen copies of the target: a child-like process with all its memory, made
//! while the target is held for the time that copying its page tables takes,
//! and never run. It holds no descriptor of the target, is killed with gotap,
//! and first in line when memory runs out.
//!
//! One thread of the target does it (see [`crate::arch::snapshot`]); the others
//! run on until they write to memory, which waits for the copy to be complete.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ProcessError;
use super::die;
use super::leave::PATIENCE;
use super::procfs;
use super::region::PAGE;
use super::remote::Remote;
use super::room::room_near;
use super::tracer::{Hit, Tracer};
use crate::addr::LiveAddr;
use crate::arch::region::{Owner, Region};
use crate::arch::snapshot::{SnapshotCode, assemble_snapshot};
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{ptrace, wait};

/// Between two looks while nothing is to be seen.
const GLANCE: Duration = Duration::from_micros(20);
/// Looks before the first pause.
const AWAKE: u32 = 200;
/// What a system call returns at its beginning.
const NOT_YET: u64 = (libc::ENOSYS as u64).wrapping_neg();
/// Errors are -4095..-1.
const ERRORS: u64 = u64::MAX - 4095;
/// ERESTARTSYS and its like (include/linux/errno.h): only a tracer sees them.
const RESTARTS: std::ops::RangeInclusive<u64> = 512..=516;
/// Copying page tables: 10 to 13 ms at 0.5 GB resident, 42 at 2 GB, 113 at 6 GB
/// were measured; a reader who doubts it has [`Snapshot::pause`].
const PER_GIB: Duration = Duration::from_millis(25);
/// What the two new processes take beside page tables, bytes.
const KERNEL_SHARE: u64 = 2 << 20;
/// A page table entry for each page, and some.
const TABLE_SHARE: u64 = 400;

/// A frozen copy.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    /// The copy's process id; its memory is read as that of any process.
    pub pid: i32,
    /// How long the target was held.
    pub pause: Duration,
    /// What the target had in memory, bytes.
    pub resident: u64,
    /// When it was made.
    pub taken: Instant,
}

/// What a copy would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// How long the target would be held.
    pub pause: Duration,
    /// What it has in memory, bytes: the most that a copy can come to cost, when
    /// the target writes to every page while the copy is held.
    pub resident: u64,
    /// What is needed at once, bytes.
    pub at_once: u64,
    /// What its control group has left, bytes; None without a limit.
    pub memory_left: Option<u64>,
    /// How many more tasks its control group may have; None without a limit.
    pub tasks_left: Option<u64>,
}

/// The copies that are held, and the page with the code that makes them.
#[derive(Debug, Default)]
pub(super) struct Copies {
    held: Vec<i32>,
    pub(super) page: Option<u64>,
}

impl Copies {
    pub(super) fn has(&self, pid: i32) -> bool {
        self.held.contains(&pid)
    }

    /// A copy is gone.
    pub(super) fn forget(&mut self, pid: i32) {
        self.held.retain(|p| *p != pid);
    }
}

/// What a snapshot of `pid` would cost.
pub fn estimate(pid: i32) -> Result<Estimate, ProcessError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|_| ProcessError::NoSuchProcess(pid))?;
    let kb = |name: &str| {
        status
            .lines()
            .find_map(|l| {
                l.strip_prefix(name)?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0u64)
    };
    // Pages of files are not copied, their tables hardly; shared memory is not.
    let resident = kb("RssAnon:").saturating_mul(1024);
    let micros = (u128::from(resident) * PER_GIB.as_micros()) >> 30;
    let group = ControlGroup::of(pid);
    Ok(Estimate {
        pause: Duration::from_micros(500 + u64::try_from(micros).unwrap_or(u64::MAX)),
        resident,
        at_once: KERNEL_SHARE + resident / TABLE_SHARE,
        memory_left: group
            .as_ref()
            .and_then(|g| g.left("memory.max", "memory.current")),
        tasks_left: group
            .as_ref()
            .and_then(|g| g.left("pids.max", "pids.current")),
    })
}

impl Estimate {
    /// Why no copy should be made, if the target may be held so long.
    pub fn refusal(&self, longest: Duration) -> Option<String> {
        if self.pause > longest {
            return Some(format!(
                "it would hold the target for some {} ms ({} MB in memory), longer than snap-max-pause allows ({} ms)",
                self.pause.as_millis(),
                self.resident >> 20,
                longest.as_millis()
            ));
        }
        if self.memory_left.is_some_and(|left| left < self.at_once) {
            return Some(format!(
                "its control group has less than {} MB of memory left",
                (self.at_once >> 20) + 1
            ));
        }
        if self.tasks_left.is_some_and(|left| left < 2) {
            return Some("its control group may not have two more tasks (pids.max)".to_owned());
        }
        None
    }
}

/// A control group of version 2 and all above it: the tightest counts
/// (Documentation/admin-guide/cgroup-v2.rst in the kernel's source).
struct ControlGroup {
    path: PathBuf,
}

impl ControlGroup {
    const ROOT: &'static str = "/sys/fs/cgroup";

    fn of(pid: i32) -> Option<ControlGroup> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = text.lines().find_map(|l| l.strip_prefix("0::/"))?;
        Some(ControlGroup {
            path: Path::new(Self::ROOT).join(path),
        })
    }

    fn left(&self, most: &str, now: &str) -> Option<u64> {
        let number = |dir: &Path, name: &str| -> Option<u64> {
            std::fs::read_to_string(dir.join(name))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        self.path
            .ancestors()
            .take_while(|dir| dir.starts_with(Self::ROOT))
            .filter_map(|dir| Some(number(dir, most)?.saturating_sub(number(dir, now)?)))
            .min()
    }
}

/// What a copy costs now beyond what it shares with the target, bytes.
pub fn memory_of(copy: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{copy}/smaps_rollup")).ok()?;
    let kb = text.lines().filter_map(|l| {
        let (name, rest) = l.split_once(':')?;
        let private = matches!(name, "Private_Clean" | "Private_Dirty");
        private.then(|| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())?
    });
    Some(kb.sum::<u64>() * 1024)
}

impl Tracer {
    /// Makes a frozen copy of the target, on the thread of a hit, which is still
    /// to be passed, or on any. `text` is the program's code.
    pub fn snapshot(
        &mut self,
        hit: Option<&Hit>,
        text: (LiveAddr, LiveAddr),
    ) -> Result<Snapshot, ProcessError> {
        let resident = estimate(self.pid)?.resident;
        if self.remote.is_none() {
            let mappings = procfs::mappings(self.pid)?;
            self.remote = Some(Remote::find(&mappings, &self.memory, text)?);
        }
        match hit {
            Some(hit) => {
                let slot = self.installed.as_ref().and_then(|i| i.slot_of(hit.site));
                self.borrow_hit(hit.tid, slot.unwrap_or(hit.regs.rip))?;
            }
            None => self.borrow(Instant::now() + PATIENCE)?,
        }
        let made = self.snapshot_borrowed(text);
        match hit {
            Some(_) => self.give_back_stopped(),
            None => self.give_back(),
        }
        let (pid, pause) = made?;
        Ok(Snapshot {
            pid,
            pause,
            resident,
            taken: Instant::now(),
        })
    }

    /// Ends a copy.
    pub fn drop_snapshot(&mut self, pid: i32) {
        if !self.copies.has(pid) {
            return;
        }
        self.copies.forget(pid);
        end_copy(pid);
    }

    /// Ends all copies, and takes the page away that they were made with.
    pub(super) fn drop_snapshots(&mut self) {
        for pid in std::mem::take(&mut self.copies.held) {
            end_copy(pid);
        }
    }

    /// The page leaves the target, for good.
    pub(super) fn drop_snapshot_page(&mut self) -> Result<(), ProcessError> {
        match self.copies.page.take() {
            Some(at) => self.unmap(at, PAGE),
            None => Ok(()),
        }
    }

    fn snapshot_borrowed(
        &mut self,
        (lo, hi): (LiveAddr, LiveAddr),
    ) -> Result<(i32, Duration), ProcessError> {
        let at = if let Some(at) = self.copies.page {
            at
        } else {
            let at = room_near(self.pid, lo.0, hi.0, PAGE)?;
            self.map(at, PAGE, libc::PROT_READ | libc::PROT_EXEC)?;
            self.copies.page = Some(at);
            at
        };
        let Some((tid, saved, filtered)) = self.borrowed_thread() else {
            return Err(ProcessError::Gone(self.pid));
        };
        if filtered {
            return Err(self.no_snapshot(
                "a seccomp filter watches its system calls, and might kill it for clone(2); run gotap as root to have it switched off meanwhile",
            ));
        }
        let code = assemble_snapshot(at + Region::CODE as u64, &saved)
            .map_err(|e| self.no_snapshot(&e.to_string()))?;
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
        let mut making = Making::new(tid, &code);
        let made = making.run(saved, began + PATIENCE);
        let pause = began.elapsed();
        match made {
            Ok(copy) => {
                self.copies.held.push(copy);
                // Not its owner's fault when memory runs out.
                let _ = std::fs::write(format!("/proc/{copy}/oom_score_adj"), "1000");
                Ok((copy, pause))
            }
            Err(Failed::Gone) => Err(ProcessError::Gone(self.pid)),
            Err(Failed::Stuck) => Err(ProcessError::Stuck(self.pid)),
            Err(Failed::Call(what, errno)) => Err(ProcessError::Remote { what, errno }),
        }
    }

    fn no_snapshot(&self, why: &str) -> ProcessError {
        ProcessError::Snapshot {
            pid: self.pid,
            why: why.to_owned(),
        }
    }
}

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

/// Why no copy came of it.
enum Failed {
    Gone,
    Stuck,
    Call(&'static str, Errno),
}

/// One copy in the making: the thread that makes it, the intermediate, the copy.
struct Making<'a> {
    code: &'a SnapshotCode,
    thread: i32,
    /// The thread stands behind its wait for the intermediate.
    waited: bool,
    /// How often its clone was seen to return "no such call": once at its beginning.
    unknown: u32,
    intermediate: Option<i32>,
    gone: bool,
    copy: Option<i32>,
    /// It holds no descriptor, and stays where it is.
    closed: bool,
    failed: Option<Failed>,
}

impl Making<'_> {
    fn new(thread: i32, code: &SnapshotCode) -> Making<'_> {
        Making {
            code,
            thread,
            waited: false,
            unknown: 0,
            intermediate: None,
            gone: false,
            copy: None,
            closed: false,
            failed: None,
        }
    }

    /// Until the copy is frozen and the thread stands behind its last system
    /// call, in this code. Without a copy nothing of it is left.
    fn run(&mut self, saved: crate::sys::Regs, deadline: Instant) -> Result<i32, Failed> {
        let mut regs = saved;
        regs.rip = self.code.start;
        regs.orig_rax = u64::MAX;
        let begun = ptrace::set_registers(self.thread, regs)
            .and_then(|()| ptrace::cont_to_syscall(self.thread, 0));
        if begun.is_err() {
            return Err(Failed::Gone);
        }
        die::here("snap:begun");
        let mut idle = 0u32;
        while !self.done() {
            let seen = self.look_at_thread() | self.look_at_intermediate() | self.look_at_copy();
            if seen {
                idle = 0;
                continue;
            }
            if Instant::now() > deadline {
                self.failed.get_or_insert(Failed::Stuck);
                break;
            }
            idle = idle.saturating_add(1);
            if idle < AWAKE {
                std::thread::yield_now();
            } else {
                std::thread::sleep(GLANCE);
            }
        }
        die::here("snap:made");
        match (self.failed.take(), self.copy) {
            (None, Some(copy)) => Ok(copy),
            (failed, copy) => {
                if let Some(copy) = copy {
                    end_copy(copy);
                }
                Err(failed.unwrap_or(Failed::Gone))
            }
        }
    }

    /// A failure is no reason to leave the intermediate alone: the thread waits for it.
    fn done(&self) -> bool {
        let failed = self.failed.is_some();
        let all_gone = self.intermediate.is_none() || self.gone;
        (failed || self.waited && self.closed) && all_gone
    }

    fn look_at_thread(&mut self) -> bool {
        if self.waited {
            return false;
        }
        let tid = self.thread;
        match wait::peek(Whom::Tid(tid), true) {
            Wait::Stopped { stop, .. } => {
                let signal = match stop {
                    // Handled in the middle of our code, to which it returns.
                    Stop::Signal(signal) => signal,
                    Stop::Vfork | Stop::Clone | Stop::Fork => {
                        wait::consume(tid);
                        self.intermediate = ptrace::event_message(tid).ok().map(|m| m as i32);
                        die::here("snap:cloned");
                        0
                    }
                    Stop::Syscall => {
                        wait::consume(tid);
                        if self.at_the_end() {
                            return true;
                        }
                        0
                    }
                    _ => {
                        wait::consume(tid);
                        0
                    }
                };
                let _ = ptrace::cont_to_syscall(tid, signal);
                true
            }
            // How it ended is for others to hear.
            Wait::Exited { .. } | Wait::Killed { .. } | Wait::NoTracees => {
                self.failed.get_or_insert(Failed::Gone);
                false
            }
            Wait::Nothing | Wait::Interrupted => false,
        }
    }

    /// The thread stands at the beginning or the end of a system call.
    fn at_the_end(&mut self) -> bool {
        let Ok(regs) = ptrace::registers(self.thread) else {
            return false;
        };
        // A signal comes first, and then the call again.
        let restart = RESTARTS.contains(&regs.rax.wrapping_neg());
        if regs.rip == self.code.cloned {
            self.unknown = match regs.rax {
                NOT_YET => self.unknown + 1,
                _ => 0,
            };
        }
        if regs.rip == self.code.cloned
            && !restart
            && regs.rax > ERRORS
            && (regs.rax != NOT_YET || self.unknown > 1)
        {
            let errno = Errno::from_raw(regs.rax.wrapping_neg() as i32);
            self.failed
                .get_or_insert(Failed::Call("clone a copy of it", errno));
            self.waited = true;
        }
        // The intermediate is awaited by us, too; whoever comes first.
        let eintr = (libc::EINTR as u64).wrapping_neg();
        if regs.rip == self.code.waited && regs.rax != NOT_YET && regs.rax != eintr && !restart {
            self.waited = true;
        }
        self.waited
    }

    fn look_at_intermediate(&mut self) -> bool {
        let (Some(tid), false) = (self.intermediate, self.gone) else {
            return false;
        };
        match wait::peek(Whom::Tid(tid), true) {
            Wait::Stopped { stop, .. } => {
                wait::consume(tid);
                if matches!(stop, Stop::Clone | Stop::Fork | Stop::Vfork) {
                    self.copy = ptrace::event_message(tid).ok().map(|m| m as i32);
                    die::here("snap:copied");
                }
                // Signals to it are meant for nobody.
                let _ = ptrace::cont(tid, 0);
                true
            }
            Wait::Exited { .. } | Wait::Killed { .. } => {
                wait::consume_end(tid);
                self.intermediate_gone();
                true
            }
            Wait::NoTracees => {
                self.intermediate_gone();
                true
            }
            Wait::Nothing | Wait::Interrupted => false,
        }
    }

    fn intermediate_gone(&mut self) {
        self.gone = true;
        if self.copy.is_none() {
            self.failed
                .get_or_insert(Failed::Call("clone a copy of it", Errno::EAGAIN));
        }
    }

    fn look_at_copy(&mut self) -> bool {
        let (Some(tid), false) = (self.copy, self.closed) else {
            return false;
        };
        match wait::peek(Whom::Tid(tid), true) {
            Wait::Stopped { stop, .. } => {
                wait::consume(tid);
                if stop != Stop::Syscall {
                    let _ = ptrace::kill_with_tracer(tid);
                } else if let Ok(regs) = ptrace::registers(tid)
                    && regs.rip == self.code.closed
                    && regs.rax != NOT_YET
                {
                    self.closed = true;
                    if regs.rax != 0 {
                        let errno = Errno::from_raw(regs.rax.wrapping_neg() as i32);
                        self.failed.get_or_insert(Failed::Call(
                            "let its copy close what it shares (close_range, Linux 5.9)",
                            errno,
                        ));
                    }
                    return true;
                }
                let _ = ptrace::cont_to_syscall(tid, 0);
                true
            }
            Wait::Exited { .. } | Wait::Killed { .. } => {
                wait::consume_end(tid);
                self.closed = true;
                self.copy = None;
                self.failed.get_or_insert(Failed::Gone);
                true
            }
            Wait::NoTracees | Wait::Nothing | Wait::Interrupted => false,
        }
    }
}
