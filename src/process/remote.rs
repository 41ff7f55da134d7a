//! System calls made in the name of a stopped thread.
//!
//! The thread's registers are set up for the call at a `syscall` instruction
//! that the process already has (the vDSO's), one instruction is stepped, and
//! the registers are put back. All its signals but SIGTRAP are blocked
//! meanwhile: a handler must not start on borrowed registers. SIGTRAP stays
//! open because the kernel resets a blocked one to its default, process wide
//! (force_sig_info_to_task in kernel/signal.c).

use nix::errno::Errno;

use super::ProcessError;
use super::procfs::{self, Mapping};
use crate::addr::LiveAddr;
use crate::memory::Memory;
use crate::sys::wait::{Stop, Wait};
use crate::sys::{ptrace, wait};

const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Makes system calls in one target.
#[derive(Debug, Clone, Copy)]
pub struct Remote {
    pid: i32,
    syscall: LiveAddr,
}

impl Remote {
    /// Finds a `syscall` instruction in the target: in the vDSO, else in any code.
    pub fn find(
        pid: i32,
        mappings: &[Mapping],
        memory: &dyn Memory,
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
                    pid,
                    syscall: LiveAddr(m.start + at as u64),
                });
            }
        }
        Err(ProcessError::Remote {
            what: "make a system call (no code has one)",
            errno: Errno::ENOSYS,
        })
    }

    /// Makes one call on `tid`, which must be in a ptrace stop and not in a
    /// group stop's listen. Leaves it stopped with its own registers and mask.
    pub fn call(
        &self,
        tid: i32,
        what: &'static str,
        number: i64,
        args: [u64; 6],
    ) -> Result<u64, ProcessError> {
        let failed = |request| {
            move |errno| match errno {
                Errno::ESRCH => ProcessError::Gone(self.pid),
                errno => ProcessError::Ptrace {
                    what: request,
                    tid,
                    errno,
                },
            }
        };
        let saved = ptrace::registers(tid).map_err(failed("reading registers"))?;
        let mask = ptrace::signal_mask(tid).map_err(failed("reading the signal mask"))?;
        let trap_only = !(1u64 << (libc::SIGTRAP - 1));
        ptrace::set_signal_mask(tid, trap_only).map_err(failed("blocking signals"))?;
        let mut regs = saved;
        regs.rip = self.syscall.0;
        regs.rax = number as u64;
        // -1: no system call to restart when these registers are used.
        regs.orig_rax = u64::MAX;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
        let result = self.step_over(tid, regs);
        // Whatever happened: the thread gets its own registers and mask back.
        let regs_back = ptrace::set_registers(tid, saved);
        let mask_back = ptrace::set_signal_mask(tid, mask);
        let value = result?;
        regs_back.map_err(failed("restoring registers"))?;
        mask_back.map_err(failed("restoring the signal mask"))?;
        // The kernel returns -4095..-1 for errors.
        if value > u64::MAX - 4095 {
            let errno = Errno::from_raw(value.wrapping_neg() as i32);
            return Err(ProcessError::Remote { what, errno });
        }
        Ok(value)
    }

    fn step_over(&self, tid: i32, regs: crate::sys::Regs) -> Result<u64, ProcessError> {
        let failed = |errno| match errno {
            Errno::ESRCH => ProcessError::Gone(self.pid),
            errno => ProcessError::Ptrace {
                what: "stepping",
                tid,
                errno,
            },
        };
        ptrace::set_registers(tid, regs).map_err(failed)?;
        // A pending interrupt or group stop may be reported before the step is done.
        for _ in 0..64 {
            ptrace::step(tid).map_err(failed)?;
            match wait::await_one(tid) {
                Wait::Stopped {
                    stop: Stop::Signal(libc::SIGTRAP),
                    ..
                } => {
                    let now = ptrace::registers(tid).map_err(failed)?;
                    if now.rip == self.syscall.0 + 2 {
                        return Ok(now.rax);
                    }
                    ptrace::set_registers(tid, regs).map_err(failed)?;
                }
                Wait::Stopped {
                    stop: Stop::Interrupt | Stop::Group(_),
                    ..
                } => {}
                Wait::Stopped { .. } => {
                    return Err(ProcessError::Ptrace {
                        what: "stepping over a system call",
                        tid,
                        errno: Errno::EBUSY,
                    });
                }
                Wait::Exited { .. }
                | Wait::Killed { .. }
                | Wait::NoTracees
                | Wait::Nothing
                | Wait::Interrupted => return Err(ProcessError::Gone(self.pid)),
            }
        }
        Err(ProcessError::Stuck(self.pid))
    }

    /// Maps anonymous memory at `at` exactly, never over something.
    pub fn map(&self, tid: i32, at: u64, len: u64, protection: i32) -> Result<(), ProcessError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let args = [at, len, protection as u64, flags as u64, u64::MAX, 0];
        let got = self.call(tid, "map memory", libc::SYS_mmap, args)?;
        if got != at {
            // Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint.
            self.unmap(tid, got, len)?;
            return Err(ProcessError::NoRoom { pid: self.pid, len });
        }
        Ok(())
    }

    /// Takes memory away that [`Remote::map`] mapped.
    pub fn unmap(&self, tid: i32, at: u64, len: u64) -> Result<(), ProcessError> {
        self.call(tid, "unmap memory", libc::SYS_munmap, [at, len, 0, 0, 0, 0])
            .map(drop)
    }

    /// rt_sigaction(2) on SIGTRAP: installs the action at `new` unless 0, and
    /// writes the one before to `old` unless 0 (addresses in the target).
    pub fn trap_action(&self, tid: i32, new: u64, old: u64) -> Result<(), ProcessError> {
        let args = [libc::SIGTRAP as u64, new, old, 8, 0, 0];
        self.call(tid, "set its SIGTRAP action", libc::SYS_rt_sigaction, args)
            .map(drop)
    }
}

/// A free range of `len` bytes within ±2 GB of `[lo, hi)`, far from what grows.
pub fn find_room(
    pid: i32,
    mappings: &[Mapping],
    lo: u64,
    hi: u64,
    len: u64,
) -> Result<u64, ProcessError> {
    // A jump reaches 2 GB; keep a margin for the length of the range itself.
    const REACH: u64 = 0x7000_0000;
    const LOWEST: u64 = 0x10_0000;
    let from = hi.saturating_sub(REACH).max(LOWEST);
    let to = lo.saturating_add(REACH).min(0x7fff_ffff_f000);
    let mut gaps = Vec::new();
    let mut end_of_last = from;
    for m in mappings {
        if m.start > end_of_last {
            gaps.push((end_of_last, m.start.min(to)));
        }
        end_of_last = end_of_last.max(m.end);
    }
    gaps.push((end_of_last, to));
    let widest = gaps
        .into_iter()
        .filter(|(a, b)| b.saturating_sub(*a) >= len + 0x2000)
        .max_by_key(|(a, b)| b - a);
    let Some((a, b)) = widest else {
        return Err(ProcessError::NoRoom { pid, len });
    };
    Ok((a + (b - a) / 2 - len / 2) & !0xfff)
}

/// Refreshes the mappings and finds room, see [`find_room`].
pub fn room_near(pid: i32, lo: u64, hi: u64, len: u64) -> Result<u64, ProcessError> {
    find_room(pid, &procfs::mappings(pid)?, lo, hi, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64) -> Mapping {
        Mapping {
            start,
            end,
            read: true,
            write: false,
            exec: false,
            offset: 0,
            inode: 0,
            device: String::new(),
            name: String::new(),
        }
    }

    #[test]
    fn room_is_found_in_the_middle_of_the_widest_gap_in_reach() {
        let maps = [
            mapping(0x400000, 0x800000),
            mapping(0xc000000000, 0xc000400000),
        ];
        let at = find_room(1, &maps, 0x401000, 0x600000, 0x3000).expect("there is room");
        assert!(at > 0x800000 && at + 0x3000 < 0x401000 + 0x8000_0000);
        assert_eq!(at % 0x1000, 0);
    }

    #[test]
    fn no_room_is_said() {
        let maps = [mapping(0, 0x2_0000_0000)];
        assert!(matches!(
            find_room(1, &maps, 0x401000, 0x600000, 0x1000),
            Err(ProcessError::NoRoom { .. })
        ));
    }
}
