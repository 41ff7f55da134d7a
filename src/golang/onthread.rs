//! Where a goroutine is that was on a thread when that stood still.
//!
//! Its thread's registers tell, when they are its own. A thread may as well be
//! on its scheduling stack for it, in a signal handler, in the vDSO or in C;
//! then the runtime has noted where it left (runtime/traceback.go: gentraceback
//! and runtime/proc.go: sigprof look at the same places). Where nothing is
//! noted for certain, nothing is told.

use crate::addr::{Bias, LiveAddr};
use crate::golang::census::Resident;
use crate::golang::gs::{Goroutine, Thread};
use crate::golang::layout::Layouts;
use crate::golang::stack::Unwinder;
use crate::image::Image;
use crate::memory::{Memory, MemoryError};

/// Frames between a signal handler's innermost and runtime.sigtramp.
const MAX_HANDLER: usize = 64;
/// From a `ucontext` to its rsp and rip
/// (linux/arch/x86/include/uapi/asm/ucontext.h, sigcontext.h).
const CONTEXT_RSP: u64 = 40 + 15 * 8;
const CONTEXT_RIP: u64 = 40 + 16 * 8;

/// Where to unwind from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Program counter.
    pub pc: LiveAddr,
    /// Stack pointer, inside the goroutine's stack.
    pub sp: LiveAddr,
    /// `pc` is the next instruction, not a return address.
    pub exact: bool,
}

/// What tells where goroutines are that are on threads.
pub struct OnThread<'a> {
    /// The program.
    pub image: &'a Image,
    /// Where it was loaded.
    pub bias: Bias,
    /// Its structs.
    pub layouts: &'a Layouts,
    /// Its bytes; it stands still.
    pub memory: &'a dyn Memory,
    /// Calls of sanitizers' C code leave no note of where they came from
    /// (runtime/race_amd64.s: racecall).
    pub sanitized: bool,
}

impl OnThread<'_> {
    /// Where `r` is, whose thread is `thread` and stands at `pc`, `sp`; `None`
    /// when that cannot be told. Only a target that is gone is an error.
    pub fn find(
        &self,
        unwinder: &mut Unwinder,
        r: &Resident,
        thread: &Thread,
        (mut pc, mut sp): (LiveAddr, LiveAddr),
    ) -> Result<Option<Position>, MemoryError> {
        if thread.curg != r.g.addr {
            return Ok(None);
        }
        let own = |sp: LiveAddr| r.g.stack_lo <= sp && sp < r.g.stack_hi;
        let scheduling = self.stack_of(thread.g0)?;
        let on_g0 = |sp: LiveAddr| scheduling.is_some_and(|(lo, hi)| lo <= sp && sp < hi);
        if !own(sp) && !on_g0(sp) {
            match self.interrupted(unwinder, pc, sp)? {
                Some(was) => (pc, sp) = was,
                None if own(thread.vdso_sp) => {}
                None => return Ok(None),
            }
        }
        let function = self.image.functions().find(self.bias.image(pc));
        let name = function.map(|f| f.name().into_owned());
        let parked = |pc, sp| Position {
            pc,
            sp,
            exact: false,
        };
        Ok(match name.as_deref() {
            // It has the goroutine's stack already, and not yet its pc
            // (runtime/asm_amd64.s: runtime·gogo goes on in gogo<>).
            Some("runtime.gogo" | "gogo") if own(sp) => Some(parked(r.g.sched_pc, sp)),
            Some(_) if own(sp) => Some(Position {
                pc,
                sp,
                exact: true,
            }),
            // Noted before the call, taken back after it
            // (runtime/sys_linux_amd64.s: nanotime1, time/walltime).
            _ if own(thread.vdso_sp) => Some(parked(thread.vdso_pc, thread.vdso_sp)),
            // mcall, systemstack, morestack and asmcgocall note where they
            // leave the goroutine's stack; gogo clears it.
            name if on_g0(sp) && own(r.g.sched_sp) && (name.is_some() || !self.sanitized) => {
                Some(parked(r.g.sched_pc, r.g.sched_sp))
            }
            _ => None,
        })
    }

    /// The stack that a `g` has.
    fn stack_of(&self, g: LiveAddr) -> Result<Option<(LiveAddr, LiveAddr)>, MemoryError> {
        let len = usize::try_from(self.layouts.g.size.clamp(8, 4096)).unwrap_or(8);
        match self.memory.read_vec(g, len) {
            Ok(bytes) => {
                let g = Goroutine::parse(self.layouts, g, &bytes);
                Ok(Some((g.stack_lo, g.stack_hi)))
            }
            Err(MemoryError::Unmapped { .. }) => Ok(None),
            Err(gone @ MemoryError::Gone) => Err(gone),
        }
    }

    /// Where a thread was before its signal handler: above the frame of
    /// runtime.sigtramp lies what the kernel saved (rt_sigframe of
    /// linux/arch/x86/include/asm/sigframe.h).
    fn interrupted(
        &self,
        unwinder: &mut Unwinder,
        pc: LiveAddr,
        sp: LiveAddr,
    ) -> Result<Option<(LiveAddr, LiveAddr)>, MemoryError> {
        let name = |at| {
            let function = self.image.functions().find(at)?;
            Some(function.name().into_owned())
        };
        let leaves = name(self.bias.image(pc)).is_some_and(|n| n.starts_with("runtime.sigreturn"));
        let context = if leaves {
            // The handler has returned to it.
            sp
        } else {
            let stack =
                unwinder.unwind(self.image, self.bias, self.memory, (pc, sp), MAX_HANDLER)?;
            let Some(last) = stack.frames.last() else {
                return Ok(None);
            };
            if name(last.entry).is_none_or(|n| n != "runtime.sigtramp") {
                return Ok(None);
            }
            last.return_slot.offset(8)
        };
        let saved = (
            self.memory.read_addr(context.offset(CONTEXT_RIP)),
            self.memory.read_addr(context.offset(CONTEXT_RSP)),
        );
        match saved {
            (Ok(pc), Ok(sp)) => Ok(Some((pc, sp))),
            (Err(MemoryError::Gone), _) | (_, Err(MemoryError::Gone)) => Err(MemoryError::Gone),
            _ => Ok(None),
        }
    }
}
