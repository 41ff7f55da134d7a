//! Goroutines on threads that stand still.

use std::collections::HashMap;

use super::Source;
use super::stacks::MAX_STACK;
use crate::addr::LiveAddr;
use crate::golang::census::Resident;
use crate::golang::gs::{self, Thread};
use crate::golang::onthread::{OnThread, Position};
use crate::golang::stack::Unwinder;
use crate::golang::step::Standing;
use crate::memory::{Memory, MemoryError};
use crate::session::SessionError;
use crate::sys::Regs;

/// A goroutine of a program that stands still.
#[derive(Clone, Copy, Debug)]
pub struct Stands {
    /// Where.
    pub at: Standing,
    /// Its thread with its registers, where it runs on one and these are its own.
    pub thread: Option<(i32, Regs)>,
}

impl Source {
    /// Where a goroutine of a program stands that stands still itself; `None`
    /// where there is none of that number, or it cannot be told.
    pub fn stands(&self, goid: u64) -> Result<Option<Stands>, SessionError> {
        let target = &self.target;
        let all = gs::read_goroutines(&*self.memory, &target.layouts, &self.globals, target.bias)?;
        let Some(g) = all.into_iter().find(|g| g.goid == goid) else {
            return Ok(None);
        };
        let threads = self.runtime_threads()?;
        let thread = threads.get(&g.m).filter(|t| t.curg == g.addr);
        let regs = thread.and_then(|t| self.threads.iter().find(|r| r.tid == t.tid));
        let own = |sp: LiveAddr| g.stack_lo <= sp && sp < g.stack_hi;
        if let Some(regs) = regs.filter(|r| own(r.sp)) {
            let at = Standing {
                g,
                pc: regs.pc,
                sp: regs.sp,
            };
            let thread = i32::try_from(regs.tid).ok().zip(regs.regs);
            return Ok(Some(Stands { at, thread }));
        }
        let parked = g.parked_at().or_else(|| {
            let sched = (g.sched_pc, g.sched_sp);
            (regs.is_some() && own(sched.1)).then_some(sched)
        });
        Ok(parked.map(|(pc, sp)| Stands {
            at: Standing { g, pc, sp },
            thread: None,
        }))
    }

    /// The program's bytes.
    pub fn bytes(&self) -> &dyn Memory {
        &*self.memory
    }

    /// Where a thread keeps its goroutine, from its FS base.
    pub fn g_place(&self) -> Option<i64> {
        self.globals.g_tls
    }

    /// Where a goroutine is whose thread stands still, and its stack from
    /// there outwards; `None` when that cannot be told.
    pub(super) fn standing(
        &self,
        unwinder: &mut Unwinder,
        r: &Resident,
        threads: &HashMap<LiveAddr, Thread>,
    ) -> Result<Option<(Position, Vec<u8>)>, MemoryError> {
        let Some(thread) = threads.get(&r.g.m) else {
            return Ok(None);
        };
        let Some(regs) = self.threads.iter().find(|t| t.tid == thread.tid) else {
            return Ok(None);
        };
        let build = self.target.image.build_info();
        let on_thread = OnThread {
            image: &self.target.image,
            bias: self.target.bias,
            layouts: &self.target.layouts,
            memory: &*self.memory,
            sanitized: ["-race", "-msan", "-asan"]
                .iter()
                .any(|flag| build.setting(flag) == Some("true")),
        };
        let Some(at) = on_thread.find(unwinder, r, thread, (regs.pc, regs.sp))? else {
            return Ok(None);
        };
        let len = r.g.stack_hi.0.saturating_sub(at.sp.0).min(MAX_STACK);
        let bytes = self
            .memory
            .read_vec(at.sp, usize::try_from(len).unwrap_or(0))?;
        Ok(Some((at, bytes)))
    }
}
