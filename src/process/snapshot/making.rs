//! One copy in the making: three tasks are followed from one system call to the
//! next, each step of which gotap may be killed at (see [`crate::arch::snapshot`]).

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::end_copy;
use crate::arch::snapshot::SnapshotCode;
use crate::process::die;
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{Regs, ptrace, wait};

/// Between two looks while nothing is to be seen.
const GLANCE: Duration = Duration::from_micros(20);
/// Looks before the first pause. (To yield would be to wait for everybody else
/// who wants the processor, for a whole turn of each.)
const AWAKE: u32 = 50;
/// What a system call returns at its beginning.
const NOT_YET: u64 = (libc::ENOSYS as u64).wrapping_neg();
/// Errors are -4095..-1.
const ERRORS: u64 = u64::MAX - 4095;
/// ERESTARTSYS and its like (include/linux/errno.h): only a tracer sees them.
const RESTARTS: std::ops::RangeInclusive<u64> = 512..=516;

/// Why no copy came of it.
pub(super) enum Failed {
    Gone,
    Stuck,
    Call(&'static str, Errno),
}

/// One copy in the making: the thread that makes it, the intermediate, the copy.
pub(super) struct Making<'a> {
    code: &'a SnapshotCode,
    thread: i32,
    /// Seccomp filters are switched off for it, and for what it clones.
    unfiltered: bool,
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
    /// When the intermediate was let run, and when it had made the copy.
    forking: (Option<Instant>, Option<Instant>),
}

impl Making<'_> {
    pub(super) fn new(thread: i32, code: &SnapshotCode, unfiltered: bool) -> Making<'_> {
        Making {
            unfiltered,
            code,
            thread,
            waited: false,
            unknown: 0,
            intermediate: None,
            gone: false,
            copy: None,
            closed: false,
            failed: None,
            forking: (None, None),
        }
    }

    /// Until the copy is frozen and the thread stands behind its last system
    /// call, in this code. Without a copy nothing of it is left.
    pub(super) fn run(&mut self, saved: Regs, deadline: Instant) -> Result<i32, Failed> {
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
                std::hint::spin_loop();
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

    /// How long page tables were copied, at most: nobody could write to memory.
    pub(super) fn forking(&self) -> Option<Duration> {
        let (begin, end) = self.forking;
        Some(end?.saturating_duration_since(begin?))
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
                    self.forking.1 = Some(Instant::now());
                    self.copy = ptrace::event_message(tid).ok().map(|m| m as i32);
                    die::here("snap:copied");
                }
                self.forking.0.get_or_insert_with(Instant::now);
                // Signals to it are meant for nobody.
                let _ = ptrace::cont(tid, 0);
                true
            }
            Wait::Exited { .. } | Wait::Killed { .. } => {
                wait::consume_end(tid);
                die::here("snap:alone");
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
                    let _ = ptrace::kill_with_tracer(tid, self.unfiltered);
                    die::here("snap:named");
                } else if let Ok(regs) = ptrace::registers(tid)
                    && regs.rip == self.code.closed
                    && regs.rax != NOT_YET
                {
                    self.closed = true;
                    die::here("snap:closed");
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
