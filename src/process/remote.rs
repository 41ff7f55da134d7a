//! System calls made in the name of a thread of the target.
//!
//! A stopped thread's registers are set up for the call at a `syscall`
//! instruction that the process already has, it is run to the end of the call,
//! and gets its own registers back.
//!
//! **gotap may be killed in the middle of it**; the thread then goes on with
//! what its registers say. So the thread is one that sleeps in the futex or
//! nanosleep call of Go's runtime, and the instruction is that very call's: to
//! the runtime it looks as if its sleep had ended early with some result, which
//! it does not look at (futexsleep, usleep in runtime/os_linux.go and
//! sys_linux_amd64.s, Go 1.19 to 1.27). Every Go program has such a thread,
//! sysmon at least. Only where none shows, and in a program that has not run
//! yet, another thread is taken, at the vDSO's instruction.
//!
//! A signal that comes before the call has begun is delivered to the thread
//! with its own registers, and the call is made later.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ProcessError;
use super::die;
use super::leave::{PATIENCE, Settled};
use super::procfs::{self, Mapping};
use super::tracer::Tracer;
use super::watch::{GLANCE, await_change};
use crate::addr::LiveAddr;
use crate::memory::Memory;
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{Regs, ptrace, wait};

const SYSCALL: [u8; 2] = [0x0f, 0x05];
const PAGE: u64 = 4096;

/// How often a sleeping thread is looked for before any other is taken.
const ROUNDS: usize = 20;
/// How many sleeping threads are tried in one round.
const QUIET_ENOUGH: usize = 4;
/// How long a process may take to end, or to run another program, once its
/// threads have begun to die of it.
const FATE: Duration = Duration::from_secs(2);
/// How many threads are looked at to find them.
const LOOKED_AT: usize = 256;

/// Where a target's system calls can be made.
#[derive(Debug, Clone, Copy)]
pub struct Remote {
    /// A `syscall` instruction to use where no thread brings its own.
    pub(super) syscall: u64,
    /// The program's own code.
    text: (u64, u64),
}

impl Remote {
    /// Finds a `syscall` instruction in the target: in the vDSO, else in any code.
    pub fn find(
        mappings: &[Mapping],
        memory: &dyn Memory,
        (lo, hi): (LiveAddr, LiveAddr),
    ) -> Result<Remote, ProcessError> {
        let vdso = mappings.iter().filter(|m| m.name == "[vdso]");
        let code = mappings
            .iter()
            .filter(|m| m.exec && m.read && m.name != "[vsyscall]");
        for m in vdso.chain(code) {
            let len = usize::try_from(m.end - m.start).unwrap_or(0).min(4 << 20);
            let Ok(bytes) = memory.read_vec(LiveAddr(m.start), len) else {
                continue;
            };
            if let Some(at) = bytes.windows(2).position(|w| w == SYSCALL) {
                return Ok(Remote {
                    syscall: m.start + at as u64,
                    text: (lo.0, hi.0),
                });
            }
        }
        Err(ProcessError::Remote {
            what: "make a system call (no code has one)",
            errno: Errno::ENOSYS,
        })
    }
}

/// A stopped thread that makes calls for us, and what it is to get back.
#[derive(Debug)]
pub(super) struct Borrowed {
    tid: i32,
    saved: Regs,
    /// The `syscall` instruction that it uses.
    at: u64,
    /// It has made a call, and stands at the end of it.
    used: bool,
    /// Belongs in a group stop.
    group: bool,
    /// It has filters, and we switched them off.
    seccomp: Option<bool>,
    /// Its blocked signals, where we have blocked all.
    mask: Option<u64>,
}

/// What came of a call.
enum Called {
    Done(u64),
    /// A signal is to be delivered first; the thread has its own registers.
    Signal(i32),
    /// The thread is gone; another program may stand in its place.
    Gone,
}

impl Borrowed {
    pub(super) fn tid(&self) -> i32 {
        self.tid
    }

    fn new(tid: i32, saved: Regs, at: u64, group: bool) -> Borrowed {
        let filtered = procfs::status(tid).is_ok_and(|s| s.seccomp != 0);
        Borrowed {
            tid,
            saved,
            at,
            used: false,
            group,
            // Not allowed to: then the filter decides what we may do.
            seccomp: filtered.then(|| ptrace::suspend_seccomp(tid, true).is_ok()),
            mask: None,
        }
    }

    /// For a thread that must not run its own code before its time: signals wait
    /// until it has its registers back. SIGTRAP stays open: the kernel resets a
    /// blocked one (force_sig_info_to_task in kernel/signal.c).
    fn block_signals(&mut self) -> Result<(), Errno> {
        let mask = ptrace::signal_mask(self.tid)?;
        ptrace::set_signal_mask(self.tid, !(1u64 << (libc::SIGTRAP - 1)))?;
        self.mask = Some(mask);
        Ok(())
    }

    fn call(&mut self, number: i64, args: [u64; 6]) -> Result<Called, Errno> {
        let mut regs = self.saved;
        regs.rip = self.at;
        regs.rax = number as u64;
        // -1: no system call to restart when these registers are used.
        regs.orig_rax = u64::MAX;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
        ptrace::set_registers(self.tid, regs)?;
        self.used = true;
        die::here("call:before");
        let mut begun = false;
        loop {
            ptrace::cont_to_syscall(self.tid, 0)?;
            die::here("call:continued");
            match await_change(self.tid) {
                Wait::Stopped {
                    stop: Stop::Syscall,
                    ..
                } => {
                    wait::consume(self.tid);
                    if begun {
                        die::here("call:ended");
                        return ptrace::registers(self.tid).map(|r| Called::Done(r.rax));
                    }
                    begun = true;
                    die::here("call:begun");
                }
                // An interrupt from before, or a group stop: the call comes behind it.
                Wait::Stopped {
                    stop: Stop::Interrupt | Stop::Group(_),
                    ..
                } => wait::consume(self.tid),
                Wait::Stopped {
                    stop: Stop::Signal(signal),
                    ..
                } if !begun => {
                    self.restore()?;
                    return Ok(Called::Signal(signal));
                }
                // After an exec these registers are another program's: hands off.
                Wait::Stopped {
                    stop: Stop::Exec, ..
                }
                | Wait::Exited { .. }
                | Wait::Killed { .. }
                | Wait::NoTracees
                | Wait::Nothing
                | Wait::Interrupted => return Ok(Called::Gone),
                Wait::Stopped { .. } => return Err(Errno::EBUSY),
            }
        }
    }

    /// Gives the registers back, and the filters.
    fn restore(&self) -> Result<(), Errno> {
        if self.seccomp == Some(true) {
            let _ = ptrace::suspend_seccomp(self.tid, false);
        }
        if let Some(mask) = self.mask {
            ptrace::set_signal_mask(self.tid, mask)?;
        }
        ptrace::set_registers(self.tid, self.saved)
    }

    /// Gives everything back, and brings the thread to a stop behind which the
    /// kernel begins the call again that it slept in: only the way past signals
    /// does that (arch_do_signal_or_restart in arch/x86/kernel/signal.c).
    fn give_back(self) -> Settled {
        if self.restore().is_err() {
            return Settled::Gone;
        }
        let _ = ptrace::interrupt(self.tid);
        if !self.used {
            return if self.group {
                Settled::Group
            } else {
                Settled::Stopped
            };
        }
        let _ = ptrace::cont(self.tid, 0);
        match await_change(self.tid) {
            Wait::Stopped {
                stop: Stop::Interrupt,
                ..
            } => {
                wait::consume(self.tid);
                Settled::Stopped
            }
            Wait::Stopped {
                stop: Stop::Group(_),
                ..
            } => {
                wait::consume(self.tid);
                Settled::Group
            }
            Wait::Stopped {
                stop: Stop::Signal(signal),
                ..
            } => Settled::Signal(signal),
            Wait::Stopped { .. }
            | Wait::Exited { .. }
            | Wait::Killed { .. }
            | Wait::NoTracees
            | Wait::Nothing
            | Wait::Interrupted => Settled::Gone,
        }
    }
}

impl Tracer {
    /// Makes one system call in the target, on a thread that stays borrowed
    /// until [`Tracer::give_back`].
    pub(super) fn call(
        &mut self,
        what: &'static str,
        number: i64,
        args: [u64; 6],
    ) -> Result<u64, ProcessError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.borrowed.is_none() {
                self.borrow_thread(deadline)?;
            }
            let Some(borrowed) = &mut self.borrowed else {
                return Err(ProcessError::Stuck(self.pid));
            };
            let (tid, filtered) = (borrowed.tid, borrowed.seccomp == Some(false));
            match borrowed.call(number, args) {
                // The kernel returns -4095..-1 for errors.
                Ok(Called::Done(value)) if value > u64::MAX - 4095 => {
                    let errno = Errno::from_raw(value.wrapping_neg() as i32);
                    return Err(if filtered {
                        ProcessError::Filtered { what, errno }
                    } else {
                        ProcessError::Remote { what, errno }
                    });
                }
                Ok(Called::Done(value)) => return Ok(value),
                Ok(Called::Signal(signal)) => {
                    self.borrowed = None;
                    if let Some(halt) = &mut self.halted {
                        halt.threads.insert(tid, Settled::Signal(signal));
                        continue;
                    }
                    self.held = false;
                    let _ = ptrace::cont(tid, signal);
                }
                Ok(Called::Gone) | Err(Errno::ESRCH) => {
                    self.borrowed = None;
                    return Err(self.fate());
                }
                Err(errno) => {
                    return Err(ProcessError::Ptrace {
                        what: "making a system call",
                        tid,
                        errno,
                    });
                }
            }
        }
    }

    /// A thread that we held is gone: its process ends, or runs another program.
    fn fate(&mut self) -> ProcessError {
        let deadline = Instant::now() + FATE;
        loop {
            self.serve_others(0);
            if self.replaced {
                return ProcessError::Replaced(self.pid);
            }
            let ended = matches!(
                wait::peek(Whom::Tid(self.pid), true),
                Wait::Exited { .. } | Wait::Killed { .. } | Wait::NoTracees
            );
            if ended || Instant::now() > deadline {
                return ProcessError::Gone(self.pid);
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Stops a thread that sleeps in Go's runtime, else any.
    fn borrow_thread(&mut self, deadline: Instant) -> Result<(), ProcessError> {
        let Some(remote) = self.remote else {
            return Err(ProcessError::Replaced(self.pid));
        };
        if self.held {
            self.borrow_at(self.pid, remote.syscall, false)?;
            if let Some(borrowed) = &mut self.borrowed {
                let _ = borrowed.block_signals();
            }
            return Ok(());
        }
        if self.halted.is_some() {
            return self.borrow_halted(&remote);
        }
        for _ in 0..ROUNDS {
            for tid in self.sleeping_threads() {
                if self.try_borrow(tid, deadline, true)? {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        tracing::debug!(pid = self.pid, "no thread of Go's runtime sleeps");
        let mut any: Vec<i32> = self.threads.iter().copied().collect();
        any.retain(|tid| self.attended != Some(*tid));
        any.sort_unstable();
        for tid in any {
            if self.try_borrow(tid, deadline, false)? {
                return Ok(());
            }
            if Instant::now() > deadline {
                break;
            }
        }
        Err(if self.threads.is_empty() {
            ProcessError::Gone(self.pid)
        } else {
            ProcessError::Stuck(self.pid)
        })
    }

    fn try_borrow(
        &mut self,
        tid: i32,
        deadline: Instant,
        asleep: bool,
    ) -> Result<bool, ProcessError> {
        let short = Instant::now() + Duration::from_millis(200);
        let settled = self.settle(tid, deadline.min(short));
        let Some(remote) = self.remote else {
            // The new program stands where it begins, until somebody lets it go.
            self.held |= settled == Settled::Stopped;
            return Err(ProcessError::Replaced(self.pid));
        };
        let group = match settled {
            Settled::Stopped => false,
            Settled::Group => true,
            Settled::Signal(_) => {
                self.go_on(tid, settled);
                return Ok(false);
            }
            Settled::Gone => {
                self.threads.remove(&tid);
                return Ok(false);
            }
            Settled::Stuck => return Ok(false),
        };
        let own = ptrace::registers(tid)
            .ok()
            .and_then(|regs| self.own_syscall(&regs, &remote));
        match (own, asleep) {
            (Some(at), _) => self.borrow_at(tid, at, group)?,
            (None, false) => self.borrow_at(tid, remote.syscall, group)?,
            (None, true) => {
                self.go_on(tid, settled);
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn borrow_at(&mut self, tid: i32, at: u64, group: bool) -> Result<(), ProcessError> {
        let saved = ptrace::registers(tid).map_err(|errno| match errno {
            Errno::ESRCH => ProcessError::Gone(self.pid),
            errno => ProcessError::Ptrace {
                what: "reading registers",
                tid,
                errno,
            },
        })?;
        self.borrowed = Some(Borrowed::new(tid, saved, at, group));
        Ok(())
    }

    /// Borrows a thread, if none is borrowed.
    pub(super) fn borrow(&mut self, deadline: Instant) -> Result<(), ProcessError> {
        if self.borrowed.is_none() {
            self.borrow_thread(deadline)?;
        }
        Ok(())
    }

    /// The borrowed thread, which is about to run code of ours: its own
    /// registers, and where a filter watches its calls, whether that is switched
    /// off.
    pub(super) fn borrowed_thread(&mut self) -> Option<(i32, Regs, Option<bool>)> {
        let borrowed = self.borrowed.as_mut()?;
        borrowed.used = true;
        Some((borrowed.tid, borrowed.saved, borrowed.seccomp))
    }

    /// Signals for the borrowed thread, which has hit, wait until it is given back:
    /// for one of them it would be let go, and another borrowed.
    pub(super) fn hold_signals(&mut self) {
        if let Some(borrowed) = &mut self.borrowed {
            let _ = borrowed.block_signals();
        }
    }

    /// Borrows the thread of a hit: it is to go on from `rip`, its slot.
    pub(super) fn borrow_hit(&mut self, tid: i32, rip: u64) -> Result<(), ProcessError> {
        let Some(remote) = self.remote else {
            return Err(ProcessError::Replaced(self.pid));
        };
        let _ = ptrace::set_rip(tid, rip);
        self.borrow_at(tid, remote.syscall, false)
    }

    /// The `syscall` instruction that a thread sleeps in, if it is one whose
    /// result Go's runtime does not look at.
    pub(super) fn own_syscall(&self, regs: &Regs, remote: &Remote) -> Option<u64> {
        let sleeps = match i64::try_from(regs.orig_rax).ok()? {
            libc::SYS_nanosleep => true,
            libc::SYS_futex => matches!(
                regs.rsi as i32 & libc::FUTEX_CMD_MASK,
                libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET
            ),
            _ => false,
        };
        let at = regs.rip.wrapping_sub(SYSCALL.len() as u64);
        let (lo, hi) = remote.text;
        let mut bytes = [0; 2];
        (sleeps
            && (lo..hi).contains(&at)
            && self.memory.read(LiveAddr(at), &mut bytes).is_ok()
            && bytes == SYSCALL)
            .then_some(at)
    }

    /// A few threads that seem to sleep so: /proc/PID/task/TID/syscall begins
    /// with the number of the call (proc(5)).
    fn sleeping_threads(&self) -> Vec<i32> {
        let mut tids: Vec<i32> = self.threads.iter().copied().collect();
        // sysmon is among the first.
        tids.sort_unstable();
        tids.into_iter()
            .take(LOOKED_AT)
            .filter(|tid| {
                matches!(
                    procfs::syscall_number(self.pid, *tid),
                    Some(libc::SYS_futex | libc::SYS_nanosleep)
                )
            })
            .take(QUIET_ENOUGH)
            .collect()
    }

    /// Gives a borrowed thread its own registers, and lets it go on.
    pub(super) fn give_back(&mut self) {
        let Some(borrowed) = self.borrowed.take() else {
            return;
        };
        let tid = borrowed.tid;
        if self.held {
            let _ = borrowed.restore();
            return;
        }
        let settled = borrowed.give_back();
        if let Some(halt) = &mut self.halted {
            halt.threads.insert(tid, settled);
            return;
        }
        self.go_on(tid, settled);
    }

    /// Gives a borrowed thread its own registers; it stays stopped.
    pub(super) fn give_back_stopped(&mut self) {
        if let Some(borrowed) = self.borrowed.take() {
            let _ = borrowed.restore();
        }
    }

    /// Gives a borrowed thread its own registers, and lets go of it for good.
    pub(super) fn give_back_for_good(&mut self) {
        let Some(borrowed) = self.borrowed.take() else {
            return;
        };
        let tid = borrowed.tid;
        let settled = borrowed.give_back();
        self.let_go(tid, settled);
        self.threads.remove(&tid);
        self.held = false;
    }

    /// Maps anonymous memory at `at` exactly, never over something.
    pub(super) fn map(&mut self, at: u64, len: u64, protection: i32) -> Result<(), ProcessError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let args = [at, len, protection as u64, flags as u64, u64::MAX, 0];
        let got = self.call("map memory", libc::SYS_mmap, args)?;
        if got != at {
            // Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint.
            self.unmap(got, len)?;
            return Err(ProcessError::NoRoom { pid: self.pid, len });
        }
        Ok(())
    }

    /// Takes memory away that [`Tracer::map`] mapped.
    pub(super) fn unmap(&mut self, at: u64, len: u64) -> Result<(), ProcessError> {
        self.call("unmap memory", libc::SYS_munmap, [at, len, 0, 0, 0, 0])
            .map(drop)
    }

    /// rt_sigaction(2) on SIGTRAP: installs the action at `new` unless 0, and
    /// writes the one before to `old` unless 0 (addresses in the target).
    pub(super) fn trap_action(&mut self, new: u64, old: u64) -> Result<(), ProcessError> {
        let args = [libc::SIGTRAP as u64, new, old, 8, 0, 0];
        self.call("set its SIGTRAP action", libc::SYS_rt_sigaction, args)
            .map(drop)
    }

    /// Gives `work` a writable page of the target, at `at`, and takes it away
    /// again.
    pub(super) fn with_scratch<T>(
        &mut self,
        at: u64,
        work: impl FnOnce(&mut Tracer) -> Result<T, ProcessError>,
    ) -> Result<T, ProcessError> {
        self.map(at, PAGE, libc::PROT_READ | libc::PROT_WRITE)?;
        let result = work(self);
        let unmapped = self.unmap(at, PAGE);
        let value = result?;
        unmapped.map(|()| value)
    }
}

/// Takes what was injected out of a forked child's copy: it is stopped, it is
/// no thread of ours, and is let go afterwards. If gotap is killed right then,
/// the child is not safe; its parent is.
pub(super) fn call_in_child(
    child: i32,
    remote: &Remote,
    calls: &[(i64, [u64; 6])],
) -> Result<(), Errno> {
    let saved = ptrace::registers(child)?;
    let mut borrowed = Borrowed::new(child, saved, remote.syscall, false);
    borrowed.block_signals()?;
    let mut result = Ok(());
    for (number, args) in calls {
        if let Err(errno) = borrowed.call(*number, *args) {
            result = Err(errno);
            break;
        }
    }
    borrowed.restore()?;
    result
}
