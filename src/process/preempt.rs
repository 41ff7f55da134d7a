//! Signals whose handlers look at where the thread is.
//!
//! Go preempts a goroutine by SIGURG, and only where its handler finds the pc in
//! Go code that it knows (runtime/preempt.go, wantAsyncPreempt and
//! isAsyncSafePoint); SIGPROF books the function that the pc lies in. A signal
//! that came while a thread waited for us would find it at the start of a slot,
//! every time: a loop around a traced function could hardly be preempted, others
//! on its P and the garbage collector would wait for it. So the displaced
//! instruction is done for the thread first, where it is one of the two that
//! nearly all sites have. No trap is pending then: dying here does no harm.

use super::region::{Installed, move_to};
use super::tracer::Tracer;
use crate::addr::LiveAddr;
use crate::memory::Memory;
use crate::sys::{Regs, ptrace};

/// `push rbp`
const PUSH_RBP: u8 = 0x55;
/// `ret`
const RET: u8 = 0xc3;

/// Does a handler of this signal look at the pc?
pub(super) fn looks_at_pc(signal: i32) -> bool {
    matches!(signal, libc::SIGURG | libc::SIGPROF)
}

impl Tracer {
    /// Takes a thread that is about to be given a signal out of its slot, into
    /// the program's own code, if that can be done.
    pub(super) fn leave_slot_forwards(&self, tid: i32) {
        let Some(installed) = &self.installed else {
            return;
        };
        let Ok(regs) = ptrace::registers(tid) else {
            return;
        };
        if let Some(done) = self.done_for_it(installed, &regs) {
            let _ = ptrace::set_registers(tid, done);
        } else if let Some(slot) = installed.slot_at(regs.rip)
            && let Some(home) = installed.home_of(regs.rip)
            && home.rip != slot.site
        {
            move_to(tid, regs, home);
        }
    }

    /// The registers after the displaced instruction, whose start a thread is at.
    fn done_for_it(&self, installed: &Installed, regs: &Regs) -> Option<Regs> {
        let slot = installed.slot_at(regs.rip).filter(|s| s.at == regs.rip)?;
        let mut done = *regs;
        match slot.slot.bytes.first().copied()? {
            PUSH_RBP => {
                done.rsp = regs.rsp.wrapping_sub(8);
                done.rip = slot.site.wrapping_add(1);
                self.memory.write(done.rsp, &regs.rbp.to_le_bytes()).ok()?;
            }
            RET => {
                done.rip = self.memory.read_u64(LiveAddr(regs.rsp)).ok()?;
                done.rsp = regs.rsp.wrapping_add(8);
            }
            _ => return None,
        }
        Some(done)
    }
}
