//! Which way a trace's sites fire, and the engine for it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::TraceArgs;
use crate::arch::scan::Disassembler;
use crate::probe::jump::{JumpPlan, Ways, plan_jumps};
use crate::probe::plan::Plan;
use crate::process::ProcessError;
use crate::process::obstacle::{Obstacle, find as find_obstacle};
use crate::process::tracer::{Ending, Tracer};
use crate::session::jump::{JumpsPrepared, unfit};
use crate::session::{
    CLEANED, Control, Engine, JumpEngine, NoJumps, Options, Outcome, Prepared, SessionError, Start,
    Stats, Target,
};
use crate::sink::queue::Sender;

/// What jumps lead to, and the memory that they write to, have more than enough
/// room in so many bytes.
const JUMP_ROOM: u64 = 192 << 20;

/// What `--plan` prints.
pub(super) fn explain(args: &TraceArgs, target: &Target, plan: &Plan) -> anyhow::Result<String> {
    let jumps = plan_jumps(&target.image, &Disassembler::new()?, plan);
    let mut text = jumps.explain(plan);
    if let Some(why) = obstacle(args, target)? {
        let _ = writeln!(text, "in this process all of them would trap: {why}");
    }
    Ok(text)
}

/// What keeps a process that runs already from being jumped in.
fn obstacle(args: &TraceArgs, target: &Target) -> Result<Option<Obstacle>, ProcessError> {
    let (lo, hi) = target.text();
    args.pid
        .map_or(Ok(None), |pid| find_obstacle(pid, (lo.0, hi.0), JUMP_ROOM))
}

/// How sites fire.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fire {
    /// By jumps where that is safe and tells as much, else by traps
    #[default]
    Auto,
    /// By jumps into generated code; what cannot jump is left out
    Jump,
    /// By traps (int3)
    Trap,
}

/// How many functions that cannot jump are named.
const NAMED: usize = 5;

/// A plan and how it fires.
#[derive(Clone)]
pub struct Firing {
    /// The plan.
    pub plan: Arc<Plan>,
    /// What can jump, unless all is to trap.
    jumps: Option<Arc<JumpPlan>>,
    /// Only jumps will do.
    only: bool,
    /// Values are shown or asked for.
    values: bool,
    /// For the user.
    notes: Vec<String>,
}

/// All that is known before the target is touched.
pub struct Ready {
    prepared: Prepared,
    jumps: Option<(JumpsPrepared, Ways)>,
}

impl Firing {
    /// Decides for a plan, which `replan` makes again without the functions of
    /// these indexes in the program's table.
    pub fn choose(
        args: &TraceArgs,
        target: &Target,
        plan: Plan,
        replan: &dyn Fn(&BTreeSet<u32>) -> Result<Plan, SessionError>,
    ) -> Result<Firing, SessionError> {
        let mut firing = Firing {
            plan: Arc::new(plan),
            jumps: None,
            only: args.fire == Fire::Jump,
            values: !(args.summary && args.quiet) || args.filter.is_some(),
            notes: Vec::new(),
        };
        if args.fire == Fire::Trap {
            return Ok(firing);
        }
        let options = super::options(args);
        let mut why = unfit(&options);
        if why.is_none() {
            why = obstacle(args, target)?.map(|o| NoJumps::Machine(o.to_string()));
        }
        match why {
            None => firing.plan_jumps(target, replan)?,
            Some(why) if firing.only => return Err(why.into()),
            Some(why) => firing.trap_instead(&why.into()),
        }
        Ok(firing)
    }

    /// Finds out what can jump. Where only jumps will do, the plan is made again
    /// without the rest.
    fn plan_jumps(
        &mut self,
        target: &Target,
        replan: &dyn Fn(&BTreeSet<u32>) -> Result<Plan, SessionError>,
    ) -> Result<(), SessionError> {
        let disassembler = Disassembler::new()?;
        let mut out = BTreeSet::new();
        let mut left_out = Vec::new();
        loop {
            let jumps = plan_jumps(&target.image, &disassembler, &self.plan);
            let ways = Ways::of(&self.plan, &jumps);
            let trapped: Vec<(usize, &str)> = ways.trapped(&self.plan).collect();
            let function = |own: &usize| self.plan.functions.get(*own);
            if self.only && !trapped.is_empty() {
                for (own, why) in &trapped {
                    if let Some(function) = function(own) {
                        out.insert(function.index);
                        left_out.push((function.name.clone(), (*why).to_owned()));
                    }
                }
                let plan = replan(&out).map_err(|error| match error {
                    SessionError::NothingArmed(_) => {
                        SessionError::NothingArmed(left_out_notes(&left_out).join("\n"))
                    }
                    other => other,
                })?;
                self.plan = Arc::new(plan);
                continue;
            }
            if self.only
                && let Some(why) = ways.events_trap(&self.plan)
            {
                return Err(NoJumps::Events(why.to_owned()).into());
            }
            self.notes.extend(left_out_notes(&left_out));
            if trapped.len() >= self.plan.armed() {
                let first = trapped.first().and_then(|(own, why)| {
                    let name = function(own)?.name.clone();
                    Some(NoJumps::Nothing(name, (*why).to_owned()))
                });
                let none = NoJumps::Nothing(String::new(), String::new());
                self.trap_instead(&first.unwrap_or(none).into());
            } else {
                self.jumps = Some(Arc::new(jumps));
            }
            return Ok(());
        }
    }

    /// What the process, the machine or the functions' code is in the way of is
    /// said; what follows from what was asked for only to those who want to know.
    fn trap_instead(&mut self, why: &SessionError) {
        self.jumps = None;
        let text = format!("firing by traps: {}", reason(why));
        match why {
            SessionError::NoJumps(NoJumps::Needs(_) | NoJumps::Shown(..)) => {
                tracing::debug!("{text}");
            }
            _ => self.notes.push(text),
        }
    }

    /// Something more to tell.
    pub fn note(&mut self, notes: Vec<String>) {
        self.notes.extend(notes);
    }

    /// What the user should be told, once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// What is to be known of the program before process `pid` is touched.
    /// `running`: it runs already.
    pub fn prepare(
        &mut self,
        target: &Target,
        options: &Options,
        sender: &Arc<Sender>,
        pid: i32,
        running: bool,
    ) -> Result<Ready, SessionError> {
        let plan = self.plan.clone();
        let looked_at = running.then_some(pid);
        let prepared = Prepared::new(target, plan, options, sender.clone(), looked_at);
        let mut jumps = None;
        if let Some(plan) = self.jumps.clone() {
            let mut ways = Ways::of(&self.plan, &plan);
            let exact = self.values && !self.only;
            let how = (pid, exact);
            match JumpsPrepared::new(&prepared, target, &plan, &mut ways, options, how) {
                Ok(made) => jumps = Some((made, ways)),
                Err(error) if self.only || !may_trap(&error) => return Err(error),
                Err(error) => self.trap_instead(&error),
            }
        }
        Ok(Ready { prepared, jumps })
    }

    /// Arms the target.
    pub fn arm(
        &mut self,
        mut tracer: Tracer,
        ready: Ready,
        target: &Target,
        options: &Options,
        start: Start,
        control: &Control,
    ) -> Result<AnyEngine, SessionError> {
        let Ready {
            mut prepared,
            jumps,
        } = ready;
        let (options, control) = (options.clone(), control.clone());
        if let Some((jumps, mut ways)) = jumps {
            if tracer.clean_leftover(target.text())? {
                self.notes.push(CLEANED.to_owned());
            }
            match jumps.put_in(&mut tracer, &mut prepared, target, &mut ways, start) {
                Ok(inside) => {
                    self.tell_left_out(&ways);
                    let alone = self.only || ways.counts().1 == 0;
                    return Ok(if alone {
                        AnyEngine::Jump(Box::new(JumpEngine::new(
                            tracer, target, prepared, inside, &ways, options, start, control,
                        )))
                    } else {
                        AnyEngine::Trap(Box::new(Engine::arm_beside(
                            tracer, target, prepared, inside, &ways, options, start, control,
                        )?))
                    });
                }
                Err(error) if self.only || !may_trap(&error) => return Err(error),
                Err(error) => self.trap_instead(&error),
            }
        }
        let engine = Engine::arm(tracer, target, prepared, options, start, control)?;
        Ok(AnyEngine::Trap(Box::new(engine)))
    }

    /// Names what does not jump. What was never to jump was named before.
    fn tell_left_out(&mut self, ways: &Ways) {
        let plan = self.plan.clone();
        let trapped = ways.trapped(&plan).filter_map(|(own, why)| {
            let name = plan.functions.get(own)?.name.clone();
            Some((name, why.to_owned()))
        });
        let trapped: Vec<(String, String)> = trapped.collect();
        if self.only {
            self.notes.extend(left_out_notes(&trapped));
            return;
        }
        for (name, why) in trapped {
            tracing::debug!("{name}: fired by traps: {why}");
        }
        if let Some(why) = ways.events_trap(&plan) {
            tracing::debug!("how calls end is seen by traps: {why}");
        }
    }
}

/// A line for each of the first functions that are left out, and how many more.
fn left_out_notes(left_out: &[(String, String)]) -> Vec<String> {
    let named = left_out.iter().take(NAMED);
    let mut lines: Vec<String> = named
        .map(|(name, why)| format!("{name}: left out, it cannot jump: {why}"))
        .collect();
    let more = left_out.len().saturating_sub(NAMED);
    if more > 0 {
        lines.push(format!("{more} more are left out; --plan says why"));
    }
    lines
}

fn reason(error: &SessionError) -> String {
    match error {
        SessionError::NoJumps(why) => why.to_string(),
        other => other.to_string(),
    }
}

/// What keeps jumps out need not keep traps out.
fn may_trap(error: &SessionError) -> bool {
    match error {
        SessionError::Process(error) => matches!(
            error,
            ProcessError::Remote { .. }
                | ProcessError::Filtered { .. }
                | ProcessError::NoRoom { .. }
                | ProcessError::Region { .. }
                | ProcessError::Proc { .. }
                | ProcessError::Write { .. }
                | ProcessError::ForeignBytes { .. }
        ),
        SessionError::NoJumps(_) => true,
        _ => false,
    }
}

/// Either engine.
pub enum AnyEngine {
    /// By traps.
    Trap(Box<Engine>),
    /// By jumps.
    Jump(Box<JumpEngine>),
}

impl AnyEngine {
    /// How many sites are armed.
    pub fn armed_sites(&self) -> usize {
        match self {
            AnyEngine::Trap(e) => e.armed_sites() + e.jumps().map_or(0, |(sites, ..)| sites),
            AnyEngine::Jump(e) => e.armed_sites(),
        }
    }

    /// How, for the line that tells of it.
    pub fn how(&self) -> String {
        let stopped = |pause: Duration, stops: usize| {
            let ms = pause.as_secs_f64() * 1e3;
            match stops {
                1 => format!("all threads were stopped for {ms:.2} ms"),
                _ => format!("all threads were stopped {stops} times, at most for {ms:.2} ms"),
            }
        };
        match self {
            AnyEngine::Trap(e) => match e.jumps() {
                None => " (by traps)".to_owned(),
                Some((sites, pause, stops)) => format!(
                    " ({sites} by jumps, {} by traps; {})",
                    e.armed_sites(),
                    stopped(pause, stops)
                ),
            },
            AnyEngine::Jump(e) => {
                let (pause, stops) = e.pause();
                format!(" (by jumps; {})", stopped(pause, stops))
            }
        }
    }

    /// What a user should be told, since the last time.
    pub fn take_messages(&mut self) -> Vec<String> {
        match self {
            AnyEngine::Trap(e) => e.take_messages(),
            AnyEngine::Jump(_) => Vec::new(),
        }
    }

    /// Lets a launched program run, if it does not yet.
    pub fn start(&mut self) {
        match self {
            AnyEngine::Trap(e) => e.start(),
            AnyEngine::Jump(_) => {}
        }
    }

    /// Traces until something ends it.
    pub fn run(&mut self, tell: &mut dyn FnMut(String)) -> (Outcome, Result<(), ProcessError>) {
        match self {
            AnyEngine::Trap(e) => e.run(tell),
            AnyEngine::Jump(e) => e.run(),
        }
    }

    /// Numbers so far.
    pub fn stats(&self) -> Stats {
        match self {
            AnyEngine::Trap(e) => e.stats(),
            AnyEngine::Jump(e) => e.stats(),
        }
    }

    /// How many ids calls have been given.
    pub fn ids_given(&self) -> u64 {
        match self {
            AnyEngine::Trap(e) => e.ids_given(),
            AnyEngine::Jump(e) => e.ids_given(),
        }
    }

    /// How a launched program ended, if it has.
    pub fn try_reap(&self) -> Option<Ending> {
        match self {
            AnyEngine::Trap(e) => e.tracer().try_reap(),
            AnyEngine::Jump(e) => e.try_reap(),
        }
    }

    /// What came out of the ring, where there is one.
    pub fn ring(&self) -> Option<(u64, u64)> {
        match self {
            AnyEngine::Trap(e) => e.ring(),
            AnyEngine::Jump(e) => Some(e.ring()),
        }
    }
}
