//! Goroutines on threads that stand still.

use std::collections::HashMap;

use super::Source;
use super::stacks::MAX_STACK;
use crate::addr::LiveAddr;
use crate::golang::census::Resident;
use crate::golang::gs::Thread;
use crate::golang::onthread::{OnThread, Position};
use crate::golang::stack::Unwinder;
use crate::memory::MemoryError;

impl Source {
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
