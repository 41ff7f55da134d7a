//! What to trap for a step.

use super::calls::{Way, behind_wrappers, calls_of, is_generated, is_private_runtime, ways_out};
use super::frames::{ALL, SeenFrame};
use super::loops::{bodies_of, loop_frames};
use super::{
    Kind, Planner, Program, Standing, Step, StepError, Then, Trap, When, calls, defers, plain_name,
};
use crate::addr::ImageAddr;
use crate::image::Function;
use crate::image::dwarf::{StepMap, range_parent};

/// What the parts of a plan share.
struct Drawing<'p, 'a> {
    planner: &'p mut Planner,
    program: &'p Program<'a>,
    at: &'p Standing,
    frames: Vec<SeenFrame>,
    step: Step,
}

impl Planner {
    /// Plans a step of a goroutine that stands.
    pub fn plan(
        &mut self,
        program: &Program<'_>,
        kind: Kind,
        at: &Standing,
    ) -> Result<Step, StepError> {
        let frames = self.frames(program, at, ALL)?;
        let step = Step {
            traps: Vec::new(),
            goid: at.g.goid,
        };
        let mut drawing = Drawing {
            planner: self,
            program,
            at,
            frames,
            step,
        };
        match kind {
            Kind::Next => drawing.draw_lines(false, false)?,
            Kind::Into => drawing.draw_lines(true, false)?,
            Kind::Out => drawing.draw_out()?,
            Kind::Over(next) => drawing.draw_over(next)?,
        }
        Ok(drawing.step)
    }

    /// The function that a step into a call goes to, and where it stops there;
    /// `None` for what is stepped over. `within`: the calling function is of
    /// the runtime.
    pub(super) fn entered(
        &mut self,
        program: &Program<'_>,
        target: ImageAddr,
        within: bool,
    ) -> Option<ImageAddr> {
        let Some(function) = program.image.functions().find(target) else {
            // C, or nothing at all.
            return program.image.bytes(target, 1).map(|_| target);
        };
        if !within && is_private_runtime(&function) {
            return None;
        }
        let behind = behind_wrappers(program, function, false);
        // Into the middle of duffzero and the like.
        if behind.entry() == function.entry()
            && is_generated(&function)
            && target != function.entry()
        {
            return Some(target);
        }
        Some(self.behind_prologue(program, &behind))
    }
}

/// A function of the runtime, which may step into others that are not for
/// programs to call.
pub(super) fn is_runtime(function: &Function<'_>) -> bool {
    function.name_bytes().starts_with(b"runtime.")
}

impl<'a> Drawing<'_, 'a> {
    fn trap(&mut self, at: ImageAddr, when: When, then: Then) {
        let goid = self.step.goid;
        self.step.traps.push(Trap {
            at,
            goid,
            when,
            then,
        });
    }

    fn top(&self) -> Result<(SeenFrame, Function<'a>), StepError> {
        let nowhere = StepError::NoFunction(self.at.pc);
        let Some(top) = self.frames.first() else {
            return Err(nowhere);
        };
        let function = top.function(self.program).ok_or(nowhere)?;
        Ok((top.clone(), function))
    }

    fn loop_frames(&self) -> Result<Option<Vec<SeenFrame>>, StepError> {
        loop_frames(&self.frames).map_err(|()| {
            let name = self.frames.first().map(|f| f.name.clone());
            StepError::NoParent(name.unwrap_or_default())
        })
    }

    /// To another line: over what is called there, or `into` it. With `leave`
    /// out of the inlined body that it stands in.
    fn draw_lines(&mut self, into: bool, leave: bool) -> Result<(), StepError> {
        let (top, function) = self.top()?;
        let Some(map) = self.planner.map(self.program, &function) else {
            return Err(StepError::NoLines(function.name().into_owned()));
        };
        let around = map.bodies_at(top.pc);
        let own = around.first().copied();
        let body = |index: Option<usize>| index.and_then(|i| map.bodies.get(i));
        let name = body(own).map_or_else(|| function.name(), |b| (&*b.function).into());
        let name = plain_name(&name);
        let here = map.line_at(top.pc);
        let loops = self.loop_frames()?;
        let ways = ways_out(&function);

        if into {
            self.draw_calls(&function, &map, &ways, here);
        }
        let deferring = match &loops {
            Some(l) if !into => (l.as_slice(), l.len().saturating_sub(2)),
            _ => (self.frames.as_slice(), 0),
        };
        let first = defers::first_at(self.program, &self.at.g, deferring.0, deferring.1);
        let returning = into && !calls_of(self.program, &ways, "runtime.deferreturn").is_empty();
        self.draw_deferred(first, top.pc, returning);

        let mut places = map.statements_but(here);
        if !into {
            // The body that is kept: the one left for has another around it.
            let kept = if leave { around.get(1).copied() } else { own };
            let kept_name = body(kept).map_or_else(|| function.name(), |b| (&*b.function).into());
            let kept_name = plain_name(&kept_name);
            let family = range_parent(&kept_name).unwrap_or(&kept_name).to_owned();
            places.retain(|at| map.is_entered(*at, kept, &family));
        }
        if places.is_empty() && self.ends_goroutine() {
            return Ok(());
        }
        let prologue_end = self.planner.behind_prologue(self.program, &function);
        let in_loop = range_parent(&name).is_some();
        for at in places {
            // A body that is entered again is not entered in its prologue.
            if into || !in_loop || at >= prologue_end {
                self.trap(at, When::Frame(top.depth), Then::Stop);
            }
        }
        if !into && !leave {
            self.draw_loop_bodies(&name, &top, here, loops.as_deref());
        }
        let loops =
            loops.filter(|_| !into && range_parent(&plain_name(&function.name())).is_some());
        if let Some(loops) = &loops {
            self.draw_out_of_bodies(loops);
        }
        let outer = match &loops {
            Some(l) => l
                .last_chunk::<2>()
                .map(|[f, caller]| (f.clone(), caller.clone())),
            None => self
                .frames
                .get(1)
                .map(|caller| (top.clone(), caller.clone())),
        };
        let inlined = match &loops {
            Some(_) => outer.as_ref().is_some_and(|(f, _)| f.inlined),
            None => own.is_some(),
        };
        if let Some((f, caller)) = outer.filter(|_| !inlined) {
            self.draw_return(&f, &caller);
        }
        Ok(())
    }

    /// To where the function returns to, or to what is deferred.
    fn draw_out(&mut self) -> Result<(), StepError> {
        let (top, function) = self.top()?;
        let loops = self.loop_frames()?;
        let (frames, index) = match &loops {
            Some(l) => (l.as_slice(), l.len().saturating_sub(2)),
            None => (self.frames.as_slice(), 0),
        };
        let Some(top) = frames.get(index).cloned().or(Some(top)) else {
            return Ok(());
        };
        let caller = frames.get(index.saturating_add(1)).cloned();
        if top.inlined {
            return self.draw_lines(false, true);
        }
        let first = defers::first_at(self.program, &self.at.g, frames, index);
        let any = self.draw_deferred(first, top.pc, false);
        match caller {
            Some(caller) => self.draw_return(&top, &caller),
            None if !any => return Err(StepError::Outermost(function.name().into_owned())),
            None => {}
        }
        Ok(())
    }

    /// Over a call: Delve steps into it, and out.
    fn draw_over(&mut self, next: ImageAddr) -> Result<(), StepError> {
        let (top, _) = self.top()?;
        let first = defers::first_at(self.program, &self.at.g, &self.frames, 0);
        self.draw_deferred(first, top.pc, false);
        self.trap(next, When::Frame(top.depth), Then::Stop);
        Ok(())
    }

    /// Its caller is the end of all goroutines.
    fn ends_goroutine(&self) -> bool {
        let caller = self
            .frames
            .iter()
            .find(|f| !f.inlined && f.pc != self.program.bias.image(self.at.pc));
        caller.is_some_and(|f| f.name == "runtime.goexit")
    }

    /// What the line calls.
    fn draw_calls(
        &mut self,
        function: &Function<'_>,
        map: &StepMap,
        ways: &[Way],
        here: Option<(&str, u32)>,
    ) {
        let functions = self.program.image.functions();
        let mut starts_goroutine = false;
        for way in ways.iter().filter(|w| !w.jump && map.line_at(w.at) == here) {
            let Some(to) = way.to else {
                self.trap(way.at, When::Anywhere, Then::Enter);
                continue;
            };
            starts_goroutine |= functions
                .find(to)
                .is_some_and(|f| f.name() == "runtime.newproc");
            let within = is_runtime(function);
            if let Some(at) = self.planner.entered(self.program, to, within) {
                self.trap(at, When::Anywhere, Then::Stop);
            }
        }
        if starts_goroutine && let Some(at) = made_goroutine(self.program) {
            self.trap(at, When::Anywhere, Then::Follow);
        }
    }

    /// What was deferred last, if it is reached by a panic or by a return.
    /// False when nothing is deferred.
    fn draw_deferred(
        &mut self,
        first: Option<defers::Deferred>,
        pc: ImageAddr,
        returning: bool,
    ) -> bool {
        let function = first.and_then(|d| defers::function_of(self.program, &d));
        let Some(function) = function else {
            return false;
        };
        let at = self.planner.behind_prologue(self.program, &function);
        if at != pc {
            self.trap(at, When::Deferred { returning }, Then::Stop);
        }
        true
    }

    /// The bodies of the function's loops over functions.
    fn draw_loop_bodies(
        &mut self,
        name: &str,
        top: &SeenFrame,
        here: Option<(&str, u32)>,
        loops: Option<&[SeenFrame]>,
    ) {
        let depth = match loops {
            Some([.., f, _]) => f.depth,
            _ => top.depth,
        };
        let parent = range_parent(name).unwrap_or(name);
        for body in bodies_of(self.program, parent) {
            let at = self.planner.behind_prologue(self.program, &body);
            let map = self.planner.map(self.program, &body);
            let same = map.is_some_and(|m| m.line_at(at) == here);
            let then = if same { Then::Onward } else { Then::Stop };
            self.trap(at, When::Loop(depth), then);
        }
    }

    /// From the body of a loop to the bodies around it.
    fn draw_out_of_bodies(&mut self, loops: &[SeenFrame]) {
        for around in loops.iter().skip(2).step_by(2) {
            if !around.has_inlines {
                self.trap(around.pc, When::Frame(around.depth), Then::Stop);
                continue;
            }
            let Some(function) = around.function(self.program) else {
                continue;
            };
            let Some(map) = self.planner.map(self.program, &function) else {
                continue;
            };
            let own = map.bodies_at(around.lookup);
            let own = own.into_iter().find(|i| {
                let body = map.bodies.get(*i);
                around.inlined
                    && body.is_some_and(|b| plain_name(&b.function) == plain_name(&around.name))
            });
            let name = plain_name(&around.name);
            let family = range_parent(&name).unwrap_or(&name);
            for at in map.statements_but(None) {
                if map.is_entered(at, own, family) {
                    self.trap(at, When::Frame(around.depth), Then::Stop);
                }
            }
        }
        // Where the body returns to, all traps in it are taken out: when the
        // iterator calls it again it is at its start.
        if let [body, caller, ..] = loops
            && !body.inlined
        {
            let then = Then::Forget { body: body.entry };
            self.trap(caller.pc, When::Frame(caller.depth), then);
        }
    }

    /// Where the function returns to, behind generated wrappers.
    fn draw_return(&mut self, top: &SeenFrame, caller: &SeenFrame) {
        let passed = |f: &SeenFrame| {
            f.function(self.program)
                .is_some_and(|f| is_generated(&f) || f.name() == "runtime.deferreturn")
        };
        let (mut top, mut caller) = (top.clone(), caller.clone());
        if passed(&caller) {
            let near = self.frames.windows(2).take(calls::MAX_WRAPPERS);
            for pair in near {
                if let [inner, outer] = pair
                    && !passed(outer)
                {
                    (top, caller) = (inner.clone(), outer.clone());
                    break;
                }
            }
        }
        let then = Then::Return {
            of: top.entry,
            depth: top.depth,
        };
        self.trap(caller.pc, When::Frame(caller.depth), then);
    }
}

/// Where the runtime has made a goroutine and is about to queue it: its `g` is
/// the second argument of `runqput` (runtime/proc.go: newproc).
fn made_goroutine(program: &Program<'_>) -> Option<ImageAddr> {
    let found = program.image.functions().by_name("runtime.newproc.func1");
    let ways = ways_out(found.first()?);
    calls_of(program, &ways, "runtime.runqput").first().copied()
}
