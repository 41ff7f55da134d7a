//! What is to be done when a thread comes to an instruction that is trapped.

use super::calls::{behind_wrappers, target_now};
use super::frames::SeenFrame;
use super::loops::loop_frames;
use super::plan::is_runtime;
use super::{Kind, Planner, Program, Standing, Step, StepError, Then, Trap, When};
use crate::addr::{ImageAddr, LiveAddr};
use crate::golang::gs::Goroutine;
use crate::memory::MemoryError;
use crate::sys::Regs;

/// A thread at a trapped instruction.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The goroutine that runs on it; on the scheduling stack the one it
    /// schedules for (`m.curg`).
    pub g: Goroutine,
    /// The thread's registers; `rip` is the instruction's address.
    pub regs: &'a Regs,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// Nothing: the thread goes on.
    Passes,
    /// The thread goes on; [`Step::places`] has changed.
    Changed,
    /// The step ends here.
    Ended(Option<Returned>),
}

/// A function that has returned to where a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Returned {
    /// Its first instruction.
    pub function: ImageAddr,
    /// How far its return address lay below the stack's upper end.
    pub depth: u64,
}

impl Planner {
    /// Judges a thread that came to one of the places of `step`.
    pub fn reached(
        &mut self,
        program: &Program<'_>,
        step: &mut Step,
        arrival: &Arrival<'_>,
    ) -> Result<Reached, StepError> {
        let at = program.bias.image(LiveAddr(arrival.regs.rip));
        let here: Vec<Trap> = step.traps.iter().copied().filter(|t| t.at == at).collect();
        let (mut ends, mut onward, mut changed) = (false, false, false);
        let mut returned = None;
        for trap in here {
            if trap.goid != arrival.g.goid || !self.holds(program, &trap, arrival)? {
                continue;
            }
            match trap.then {
                Then::Stop => ends = true,
                Then::Return { of, depth } => {
                    ends = true;
                    returned = Some(Returned {
                        function: of,
                        depth,
                    });
                }
                Then::Onward => (ends, onward) = (true, true),
                Then::Enter => {
                    ends = false;
                    changed |= self.enter(program, step, arrival);
                }
                Then::Follow => {
                    ends = false;
                    changed |= self.follow(program, step, arrival)?;
                }
                Then::Forget { body } => {
                    ends = false;
                    self.forget(program, step, body);
                    changed = true;
                }
            }
        }
        if ends && onward {
            let standing = Standing {
                g: arrival.g,
                pc: LiveAddr(arrival.regs.rip),
                sp: LiveAddr(arrival.regs.rsp),
            };
            *step = self.plan(program, Kind::Next, &standing)?;
            return Ok(Reached::Changed);
        }
        Ok(match (ends, changed) {
            (true, _) => Reached::Ended(returned),
            (false, true) => Reached::Changed,
            (false, false) => Reached::Passes,
        })
    }

    fn holds(
        &mut self,
        program: &Program<'_>,
        trap: &Trap,
        arrival: &Arrival<'_>,
    ) -> Result<bool, MemoryError> {
        let (g, regs) = (arrival.g, arrival.regs);
        if trap.when == When::Anywhere {
            return Ok(true);
        }
        // On the scheduling stack this is the depth of no frame of the
        // goroutine's, and tells frames there apart.
        if let When::Frame(depth) = trap.when {
            let delta = program.image.sp_delta(trap.at).unwrap_or(0);
            let slot = regs.rsp.wrapping_add_signed(delta.into());
            return Ok(g.stack_hi.0.wrapping_sub(slot) == depth);
        }
        let standing = Standing {
            g,
            pc: LiveAddr(regs.rip),
            sp: LiveAddr(regs.rsp),
        };
        Ok(match trap.when {
            When::Deferred { returning } => {
                let frames = self.frames(program, &standing, 3)?;
                is_of(&frames, &[1, 2], "runtime.gopanic")
                    || returning && is_of(&frames, &[1], "runtime.deferreturn")
            }
            When::Loop(depth) => {
                let frames = self.frames(program, &standing, super::frames::ALL)?;
                let around = loop_frames(&frames).unwrap_or(None);
                matches!(around.as_deref(), Some([.., f, _]) if f.depth == depth)
            }
            When::Anywhere | When::Frame(_) => true,
        })
    }

    /// A call whose target the registers tell: that is where the step ends.
    fn enter(&mut self, program: &Program<'_>, step: &mut Step, arrival: &Arrival<'_>) -> bool {
        let at = program.bias.image(LiveAddr(arrival.regs.rip));
        let within = program.image.functions().find(at);
        let within = within.is_some_and(|f| is_runtime(&f));
        let target = target_now(program, arrival.regs);
        let entered = target.and_then(|to| self.entered(program, to, within));
        let Some(at) = entered else {
            return false;
        };
        let trap = Trap {
            at,
            goid: arrival.g.goid,
            when: When::Anywhere,
            then: Then::Stop,
        };
        let new = !step.traps.contains(&trap);
        if new {
            step.traps.push(trap);
        }
        new
    }

    /// The step goes on in the goroutine that was made.
    fn follow(
        &mut self,
        program: &Program<'_>,
        step: &mut Step,
        arrival: &Arrival<'_>,
    ) -> Result<bool, StepError> {
        let made = LiveAddr(arrival.regs.rbx);
        let size = usize::try_from(program.layouts.g.size.clamp(8, 4096)).unwrap_or(8);
        let bytes = program.memory.read_vec(made, size)?;
        let made = Goroutine::parse(program.layouts, made, &bytes);
        let start = program.bias.image(made.startpc);
        let at = match program.image.functions().find(start) {
            Some(function) => {
                let function = behind_wrappers(program, function, true);
                self.behind_prologue(program, &function)
            }
            None => start,
        };
        step.goid = made.goid;
        step.traps = vec![Trap {
            at,
            goid: made.goid,
            when: When::Anywhere,
            then: Then::Stop,
        }];
        Ok(true)
    }

    /// Takes the traps out of the body of a loop, but for the one at its start.
    fn forget(&mut self, program: &Program<'_>, step: &mut Step, body: ImageAddr) {
        let Some(function) = program.image.functions().find(body) else {
            return;
        };
        let start = self.behind_prologue(program, &function);
        let own = function.entry()..function.end();
        step.traps.retain(|t| {
            !own.contains(&t.at)
                || t.at == start
                || !matches!(t.then, Then::Stop | Then::Return { .. })
                || matches!(t.when, When::Deferred { .. })
        });
    }
}

fn is_of(frames: &[SeenFrame], indices: &[usize], name: &str) -> bool {
    // A frame's function that exists, whatever is inlined in it.
    let concrete = |index: usize| {
        let wanted = frames.get(index)?;
        let own = |f: &&SeenFrame| f.entry == wanted.entry && !f.inlined && f.depth == wanted.depth;
        frames.iter().find(own)
    };
    let mut found = indices.iter().filter_map(|i| concrete(*i));
    found.any(|f| f.name == name)
}
