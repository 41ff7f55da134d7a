//! Which way a trace's sites fire, and the engine for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::TraceArgs;
use crate::arch::scan::Disassembler;
use crate::probe::jump::{JumpPlan, plan_jumps};
use crate::probe::plan::{Plan, Role};
use crate::process::ProcessError;
use crate::process::tracer::{Ending, Tracer};
use crate::session::jump::{first_trap, unfit};
use crate::session::{
    Control, Engine, JumpEngine, NoJumps, Options, Outcome, Prepared, SessionError, Start, Stats,
    Target,
};
use crate::sink::queue::Sender;

/// How sites fire.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fire {
    /// By jumps when all functions can, else by traps
    Auto,
    /// By jumps into generated code; what cannot jump is left out
    Jump,
    /// By traps (int3)
    #[default]
    Trap,
}

/// How many functions that cannot jump are named.
const NAMED: usize = 5;

/// A plan and how it fires.
#[derive(Clone)]
pub struct Firing {
    /// The plan.
    pub plan: Arc<Plan>,
    jumps: Option<Arc<JumpPlan>>,
    /// Only jumps will do.
    only: bool,
    /// For the user.
    notes: Vec<String>,
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
            notes: Vec::new(),
        };
        if args.fire == Fire::Trap {
            return Ok(firing);
        }
        let minor = target.image.go_version().minor();
        let disassembler = Disassembler::new()?;
        if firing.only {
            firing.leave_out(target, &disassembler, replan)?;
        }
        let jumps = plan_jumps(&target.image, &disassembler, &firing.plan);
        let options = super::options(args);
        let why = unfit(&firing.plan, &options, minor).or_else(|| first_trap(&firing.plan, &jumps));
        match why {
            None => firing.jumps = Some(Arc::new(jumps)),
            Some(why) if firing.only => return Err(why.into()),
            Some(why) => firing.trap_instead(&why),
        }
        Ok(firing)
    }

    /// Makes the plan again without functions of which some site has to trap.
    fn leave_out(
        &mut self,
        target: &Target,
        disassembler: &Disassembler,
        replan: &dyn Fn(&BTreeSet<u32>) -> Result<Plan, SessionError>,
    ) -> Result<(), SessionError> {
        let jumps = plan_jumps(&target.image, disassembler, &self.plan);
        let mut out = BTreeSet::new();
        let mut names = BTreeSet::new();
        for (site, why) in jumps.traps() {
            for role in self.plan.sites.get(site).into_iter().flat_map(|s| &s.roles) {
                if let Role::Entry(f) | Role::Return(Some(f)) = role
                    && let Some(function) = self.plan.functions.get(*f)
                {
                    out.insert(function.index);
                    names.insert((function.name.clone(), why.to_string()));
                }
            }
        }
        if out.is_empty() {
            return Ok(());
        }
        let more = names.len().saturating_sub(NAMED);
        for (name, why) in names.into_iter().take(NAMED) {
            self.notes
                .push(format!("{name}: left out, it cannot jump: {why}"));
        }
        if more > 0 {
            self.notes
                .push(format!("{more} more are left out; --plan says why"));
        }
        let plan = replan(&out).map_err(|error| match error {
            SessionError::NothingArmed(_) => SessionError::NothingArmed(self.notes.join("\n")),
            other => other,
        })?;
        self.plan = Arc::new(plan);
        Ok(())
    }

    fn trap_instead(&mut self, why: &NoJumps) {
        self.jumps = None;
        self.notes.push(format!("firing by traps: {why}"));
    }

    /// Something more to tell.
    pub fn note(&mut self, notes: Vec<String>) {
        self.notes.extend(notes);
    }

    /// What the user should be told, once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// What traps need to know of the program, before it is touched. `running`:
    /// the process, when it runs.
    pub fn prepare(
        &self,
        target: &Target,
        options: &Options,
        sender: &Arc<Sender>,
        running: Option<i32>,
    ) -> Option<Prepared> {
        let plan = || self.plan.clone();
        self.jumps
            .is_none()
            .then(|| Prepared::new(target, plan(), options, sender.clone(), running))
    }

    /// Arms the target.
    #[expect(
        clippy::too_many_arguments,
        reason = "a session's parts, each known to the caller alone"
    )]
    pub fn arm(
        &mut self,
        tracer: Tracer,
        prepared: Option<Prepared>,
        target: &Target,
        options: &Options,
        start: Start,
        sender: &Arc<Sender>,
        control: &Control,
    ) -> Result<AnyEngine, SessionError> {
        let mut tracer = tracer;
        if let Some(jumps) = &self.jumps {
            let armed = JumpEngine::arm(
                tracer,
                target,
                self.plan.clone(),
                jumps,
                options.clone(),
                start,
                sender.clone(),
                control.clone(),
            );
            match armed {
                Ok(engine) => return Ok(AnyEngine::Jump(Box::new(engine))),
                Err(failed) => {
                    let (back, error) = *failed;
                    if self.only || !may_trap(&error) {
                        return Err(error);
                    }
                    self.jumps = None;
                    self.notes.push(format!("firing by traps: {error}"));
                    tracer = back;
                }
            }
        }
        let prepared = prepared.unwrap_or_else(|| {
            let plan = self.plan.clone();
            Prepared::new(target, plan, options, sender.clone(), None)
        });
        let (options, control) = (options.clone(), control.clone());
        let engine = Engine::arm(tracer, target, prepared, options, start, control)?;
        Ok(AnyEngine::Trap(Box::new(engine)))
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
            AnyEngine::Trap(e) => e.armed_sites(),
            AnyEngine::Jump(e) => e.armed_sites(),
        }
    }

    /// How, for the line that tells of it.
    pub fn how(&self) -> String {
        match self {
            AnyEngine::Trap(_) => String::new(),
            AnyEngine::Jump(e) => format!(
                " (by jumps; all threads were stopped for {:.2} ms)",
                e.pause().as_secs_f64() * 1e3
            ),
        }
    }

    /// What a user should be told, since the last time.
    pub fn take_messages(&mut self) -> Vec<String> {
        match self {
            AnyEngine::Trap(e) => e.take_messages(),
            AnyEngine::Jump(e) => e.take_messages(),
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
            AnyEngine::Jump(e) => e.run(tell),
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
            AnyEngine::Trap(_) => None,
            AnyEngine::Jump(e) => Some(e.ring()),
        }
    }
}
