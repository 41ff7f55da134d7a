//! Steps of the chosen goroutine of a target that stands still: what the
//! commands next, step, stepout, step-instruction and next-instruction do.

use std::sync::Arc;
use std::time::Duration;

use super::shell::{Call, Shell, Woke};
use crate::addr::ImageAddr;
use crate::golang::step::{Kind, Step, call_returns_to, successors};
use crate::script::ExprError;
use crate::session::look::Stands;
use crate::session::{Errand, Stepper, Stop, Walk, Who, Why};
use crate::value::Value;

/// How long one instruction may take, which may be a page fault or wait for
/// another thread's lock.
const INSTRUCTION: Duration = Duration::from_secs(2);

/// Steps to a line, or out of a function.
pub fn lines(shell: &mut Shell, call: &Call<'_>, kind: Kind) -> Result<(), ExprError> {
    let stands = standing(shell, call)?;
    let stepper = stepper(shell, call)?;
    let planned = stepper.plan(shell.source.bytes(), kind, &stands.at);
    let step = planned.map_err(|e| call.fail(e))?;
    walk(shell, call, stepper, step)
}

/// Steps one instruction; `over` a call.
pub fn instruction(shell: &mut Shell, call: &Call<'_>, over: bool) -> Result<(), ExprError> {
    let stands = standing(shell, call)?;
    let stepper = stepper(shell, call)?;
    let Some((tid, regs)) = stands.thread else {
        // On no thread: until one goes on with it.
        let at = shell.source.target.bias.image(stands.at.pc);
        return walk(shell, call, stepper, Step::until(stands.at.g.goid, at));
    };
    let program = stepper.program(shell.source.bytes());
    if over && let Some(next) = call_returns_to(&program, &regs) {
        return lines(shell, call, Kind::Over(next));
    }
    let places = successors(&program, &regs).ok_or_else(|| {
        call.fail("where the instruction leads to cannot be told: it is none of Go code's")
    })?;
    let to = sites(&stepper, &places).map_err(|why| call.fail(why))?;
    let errand = Errand {
        who: Who::Thread(tid),
        to,
        alone: Some(INSTRUCTION),
    };
    let live = shell.tracing.live().ok_or_else(|| call.fail(GONE))?;
    live.run(errand).map_err(|e| call.fail(e))?;
    shell.steps_on();
    shell.await_step();
    Ok(())
}

const GONE: &str = "the target is gone";

type Sites = Vec<(crate::process::region::SiteBytes, Option<u64>)>;

fn sites(stepper: &Stepper, places: &[ImageAddr]) -> Result<Sites, String> {
    let site = |at: &ImageAddr| {
        let site = stepper.site(*at);
        site.map(|s| (s, None))
            .map_err(|why| format!("the step cannot end at {at}: {why}"))
    };
    places.iter().map(site).collect()
}

/// The last stop was the end of a step.
pub fn arrived(shell: &Shell) -> bool {
    let standing = shell.standing.as_ref();
    standing.is_some_and(|s| s.stop.why == Why::Arrived)
}

fn standing(shell: &Shell, call: &Call<'_>) -> Result<Stands, ExprError> {
    if shell.source.pid.is_none() {
        return Err(call.fail("a core file does not run"));
    }
    if let Some(number) = shell.copies.viewed() {
        let message = format!(
            "snapshot {number} is a frozen copy, which does not run: `snapshot live` goes back to \
             the target"
        );
        return Err(call.fail(message));
    }
    if !shell.is_stopped() {
        return Err(call.fail("the target runs: halt or a breakpoint stops it"));
    }
    if shell.in_block() {
        return Err(call.fail("a step waits for a stop, which the block of one cannot"));
    }
    let goid = shell.goroutine.ok_or_else(|| {
        call.fail("the thread that stopped runs no goroutine: goroutine ID chooses one")
    })?;
    match shell.source.stands(goid) {
        Ok(Some(stands)) => Ok(stands),
        Ok(None) => Err(call.fail(format!(
            "where goroutine {goid} stands cannot be told: its thread is in C, or in a signal \
             handler, or it has ended"
        ))),
        Err(error) => Err(call.fail(error)),
    }
}

pub(super) fn stepper(shell: &mut Shell, call: &Call<'_>) -> Result<Arc<Stepper>, ExprError> {
    if let Some(stepper) = &shell.stepper {
        return Ok(stepper.clone());
    }
    let dwarf = shell.source.target.debug_info_or_absent();
    let dwarf = dwarf.map_err(|e| call.fail(e))?;
    let target = shell.source.target.clone();
    let stepper = Arc::new(Stepper::new(target, dwarf, shell.source.g_place()));
    shell.stepper = Some(stepper.clone());
    Ok(stepper)
}

fn walk(
    shell: &mut Shell,
    call: &Call<'_>,
    stepper: Arc<Stepper>,
    step: Step,
) -> Result<(), ExprError> {
    let live = shell.tracing.live().ok_or_else(|| call.fail(GONE))?;
    live.walk(Walk { stepper, step })
        .map_err(|e| call.fail(e))?;
    shell.steps_on();
    shell.await_step();
    Ok(())
}

impl Shell {
    /// What the function has returned that a step came out of.
    pub(super) fn returned_values(&self, stop: &Stop) -> Vec<(Arc<str>, Value)> {
        let stood = stop.threads.iter().find(|t| t.tid == stop.tid);
        match (&self.stepper, &stop.returned, stood) {
            (Some(stepper), Some(returned), Some(stood)) => {
                stepper.results(self.source.bytes(), stood, returned)
            }
            _ => Vec::new(),
        }
    }

    /// Waits for the end of a step, or another stop: true when there is one.
    /// Ctrl-C stops the target where it is.
    fn await_step(&mut self) -> bool {
        self.awaits_stop = true;
        let stopped = loop {
            match self.wait() {
                Woke::Stopped => break true,
                Woke::TargetGone | Woke::Nothing | Woke::Over => break false,
                Woke::Cancelled => {
                    if let Some(live) = self.tracing.live() {
                        live.halt();
                    }
                }
                // A copy was made; the step goes on.
                Woke::Snapped | Woke::Resumed | Woke::Line(_) | Woke::Eof => {}
            }
        };
        self.awaits_stop = false;
        stopped && self.is_stopped()
    }
}
