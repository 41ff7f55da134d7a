//! The local variables of a function as a call of it returns: they are read at its
//! RETs, where its frame has just been given back and nothing was put over it.
//!
//! Three things make them unknown, and are told: the call left by another
//! function's RET (it ended in a jump), it recovered from a panic (the runtime then
//! goes on at the call of deferreturn from anywhere, and the location lists say
//! nothing of that), or the goroutine was preempted between the instructions that
//! give the frame back: a signal handler then made it call `runtime.asyncPreempt`
//! (runtime/preempt.go, `asyncPreempt`; runtime/signal_amd64.go, `pushCall`), which
//! saves registers where the frame was.

use std::collections::HashMap;
use std::sync::Arc;

use super::frame::{Around, FrameScope};
use super::report::Seen;
use super::target::Target;
use super::values::At;
use crate::addr::{Bias, ImageAddr, LiveAddr};
use crate::image::Image;
use crate::probe::plan::{Plan, Role};
use crate::record::Call;
use crate::value::Limits;

/// Where a function returns, and what is in scope there.
#[derive(Clone, Debug)]
pub struct Leaving {
    image: Arc<Image>,
    bias: Bias,
    returns: HashMap<u64, FrameScope>,
    /// Bytes of its frame at its call of deferreturn, where it has one.
    recovers: Option<u64>,
}

impl Leaving {
    /// Of a plan's function, by its index in the plan; `None` without debug
    /// information.
    pub fn of(target: &Target, plan: &Plan, func: usize) -> Option<Leaving> {
        let dwarf = target.debug_info().ok()??;
        let image = &target.image;
        let own = image
            .functions()
            .get(plan.functions.get(func)?.index as usize)?;
        let is = |role: &Role| *role == Role::Return(Some(func));
        let sites = plan.sites.iter().filter(|site| site.roles.iter().any(is));
        let returns: HashMap<u64, FrameScope> = sites
            .filter_map(|site| Some((site.at.0, FrameScope::outermost(image, &dwarf, site.at)?)))
            .collect();
        let recovers = own.deferreturn().and_then(|offset| {
            let at = own.entry().offset(offset.into());
            u64::try_from(own.sp_delta(at)?).ok()
        });
        Some(Leaving {
            image: image.clone(),
            bias: target.bias,
            returns,
            recovers,
        })
    }

    /// Loads the descriptions of all that will be read.
    pub(super) fn prepare(&self, limits: &Limits) {
        for scope in self.returns.values() {
            scope.prepare(limits);
        }
    }

    /// Fills in a call's local variables, as it returns. `recovered`: below which
    /// depth its goroutine's stack was last cut by a recovery, and the depth here.
    pub(super) fn take(
        &self,
        call: &mut Call,
        at: &At<'_>,
        limits: &Limits,
        recovered: Option<(u64, u64)>,
    ) {
        let seen = at.seen;
        let here: ImageAddr = self.bias.image(LiveAddr(seen.regs.rip));
        let Some(scope) = self.returns.get(&here.0) else {
            call.no_locals = Some(if self.returns.is_empty() {
                "the debug information does not know the function"
            } else {
                "the call ended in a jump to another function, its frame gone"
            });
            return;
        };
        let cut_here =
            |(below, depth): (u64, u64)| self.recovers.is_some_and(|n| depth + n == below);
        if recovered.is_some_and(cut_here) {
            call.no_locals =
                Some("the call recovered from a panic: where its variables were then is not known");
            return;
        }
        if was_preempted(seen) {
            call.no_locals =
                Some("the goroutine was preempted as its frame was given back, and wrote over it");
            return;
        }
        let around = Around {
            image: &self.image,
            bias: self.bias,
            types: at.types,
            errors: at.errors,
            limits,
        };
        call.no_locals = None;
        call.locals = scope.visit(&around, seen, &mut |frame| {
            frame.load((false, true), limits).1
        });
    }
}

/// A call was put in at the RET, or at the `pop rbp` before it.
fn was_preempted(seen: &Seen<'_>) -> bool {
    let word = |below: u64| {
        let at = LiveAddr(seen.regs.rsp.wrapping_sub(below));
        seen.memory.read_u64(at).ok()
    };
    let ret = seen.regs.rip;
    word(8) == Some(ret) || word(16) == ret.checked_sub(1)
}
