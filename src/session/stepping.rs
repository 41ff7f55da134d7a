//! Steps of one goroutine on the tracer thread: what a step has planned is
//! trapped, and each thread that comes there is judged (`golang/step`). Others
//! pass. Where the plan changes on the way, all stand still for a moment.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SessionError;
use super::engine::Engine;
use super::report::Seen;
use super::stopped::Stood;
use super::target::Target;
use super::values::{At, Values};
use crate::addr::{ImageAddr, LiveAddr};
use crate::arch::scan::Disassembler;
use crate::golang::errors::ErrorReader;
use crate::golang::gs::Goroutine;
use crate::golang::step::{
    Arrival, Kind, Planner, Program, Reached, Returned, Standing, Step, StepError,
};
use crate::image::dwarf::Dwarf;
use crate::memory::Memory;
use crate::probe::never::Avoid;
use crate::probe::plan::{Wanted, plan, step_site};
use crate::process::ProcessError;
use crate::process::region::{Installation, SiteBytes};
use crate::process::tracer::Hit;
use crate::sys::Regs;
use crate::value::Value;

/// What is learnt of a program by stepping it. One for all steps.
pub struct Stepper {
    target: Arc<Target>,
    dwarf: Arc<Dwarf>,
    /// Where a thread keeps its goroutine, from its FS base.
    g_place: Option<i64>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    planner: Planner,
    avoid: Avoid,
}

impl Stepper {
    /// Knows nothing yet.
    pub fn new(target: Arc<Target>, dwarf: Arc<Dwarf>, g_place: Option<i64>) -> Stepper {
        Stepper {
            target,
            dwarf,
            g_place,
            known: Mutex::default(),
        }
    }

    /// Plans a step of a goroutine that stands.
    pub fn plan(&self, memory: &dyn Memory, kind: Kind, at: &Standing) -> Result<Step, StepError> {
        self.known().planner.plan(&self.program(memory), kind, at)
    }

    /// The program, with its bytes.
    pub fn program<'a>(&'a self, memory: &'a dyn Memory) -> Program<'a> {
        Program {
            image: &self.target.image,
            dwarf: &self.dwarf,
            layouts: &self.target.layouts,
            bias: self.target.bias,
            memory,
        }
    }

    /// An instruction to be trapped; else why it cannot be.
    pub fn site(&self, at: ImageAddr) -> Result<SiteBytes, String> {
        let disassembler = Disassembler::new().map_err(|e| e.to_string())?;
        let site = step_site(
            &self.target.image,
            &mut self.known().avoid,
            &disassembler,
            at,
        );
        let site = site.map_err(|e| e.to_string())?;
        Ok(SiteBytes {
            at: self.target.bias.live(at),
            code: site.code,
            insn_len: site.insn_len,
            doubtful: site.doubtful,
        })
    }

    /// What a function has returned, at a thread that stands where it returned
    /// to: names and values. Empty where there is none, or none is known.
    pub fn results(
        &self,
        memory: &dyn Memory,
        stood: &Stood,
        returned: &Returned,
    ) -> Vec<(Arc<str>, Value)> {
        let image = &self.target.image;
        let (Some(function), Ok(disassembler)) = (
            image.functions().find(returned.function),
            Disassembler::new(),
        ) else {
            return Vec::new();
        };
        let exact = true;
        let plan = plan(image, &disassembler, &[Wanted { function, exact }], &[]);
        // As they were at the RET, which found its address there.
        let mut regs = stood.regs;
        regs.rsp = regs.rsp.wrapping_sub(8);
        let mut floats = [[0; 16]; 16];
        for (register, low) in floats.iter_mut().zip(stood.vectors) {
            for (to, from) in register.iter_mut().zip(low.to_le_bytes()) {
                *to = from;
            }
        }
        let seen = Seen {
            floats: Some(floats),
            ..Seen::stopped(&regs, 0, memory)
        };
        let minor = image.go_version().minor();
        let errors = RefCell::new(ErrorReader::new(self.target.layouts.clone(), minor));
        let types = self.target.live_types();
        let at = At {
            seen: &seen,
            types: &types,
            errors: &errors,
        };
        Values::new(&self.target, &plan).results(0, &at).0.to_vec()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The goroutine of a thread: that which it schedules for, when it is on its
    /// scheduling stack.
    fn goroutine(&self, memory: &dyn Memory, regs: &Regs) -> Option<Goroutine> {
        let layouts = &self.target.layouts;
        let at = regs.fs_base.wrapping_add_signed(self.g_place?);
        let g = memory.read_addr(LiveAddr(at)).ok()?;
        let m = memory.read_addr(g.offset(layouts.g.m)).ok()?;
        let g = memory.read_addr(m.offset(layouts.m.curg)).ok()?;
        let size = usize::try_from(layouts.g.size.clamp(8, 4096)).ok()?;
        let bytes = memory.read_vec(g, size).ok()?;
        Some(Goroutine::parse(layouts, g, &bytes))
    }
}

/// A step to be carried out.
pub struct Walk {
    /// What plans it.
    pub stepper: Arc<Stepper>,
    /// What is planned.
    pub step: Step,
}

/// One that is under way.
pub(super) struct Walking {
    walk: Walk,
    places: HashSet<u64>,
}

/// What became of a thread at a trap.
pub(super) enum Walked {
    /// The trap is none of a step, or not for this thread: it is to be passed.
    Passes,
    /// It has gone on.
    WentOn,
    /// The step ends here.
    Ends(Option<Returned>),
}

impl Engine {
    /// Traps what a step has planned; all stand still.
    pub(super) fn begin_walk(&mut self, walk: Walk) -> Result<(), SessionError> {
        let places = self.trap_step(&walk)?;
        self.stops.walk = Some(Walking { walk, places });
        Ok(())
    }

    fn trap_step(&mut self, walk: &Walk) -> Result<HashSet<u64>, SessionError> {
        let Some(text) = self.text else {
            return Err(SessionError::Runs);
        };
        let mut refused = None;
        let mut sites = Vec::new();
        for at in walk.step.places() {
            match walk.stepper.site(at) {
                Ok(site) => sites.push(site),
                Err(why) => refused = Some(format!("{at}: {why}")),
            }
        }
        let outcomes = self.tracer.extend(&sites, text)?;
        self.renumber();
        let mut places = HashSet::new();
        for (site, outcome) in sites.iter().zip(outcomes) {
            match outcome {
                Installation::Ready => {
                    if let Some(slot) = self.tracer.site_index(site.at) {
                        self.tracer.arm(slot)?;
                        places.insert(site.at.0);
                    }
                }
                Installation::Refused(why) => refused = Some(format!("{:#x}: {why}", site.at.0)),
            }
        }
        match refused {
            Some(why) if places.is_empty() => Err(ProcessError::Region {
                pid: self.tracer.pid(),
                why,
            }
            .into()),
            _ => Ok(places),
        }
    }

    /// A thread is at a site: what that is to a step under way.
    pub(super) fn walk(&mut self, hit: &Hit) -> Walked {
        let Some(mut walking) = self.stops.walk.take() else {
            return Walked::Passes;
        };
        let walked = self.judge(&mut walking, hit);
        if !matches!(walked, Walked::Ends(_)) {
            self.stops.walk = Some(walking);
        }
        walked
    }

    fn judge(&mut self, walking: &mut Walking, hit: &Hit) -> Walked {
        let stepper = walking.walk.stepper.clone();
        let memory = self.tracer.memory();
        if !walking.places.contains(&hit.regs.rip) {
            return Walked::Passes;
        }
        let Some(g) = stepper.goroutine(memory, &hit.regs) else {
            return Walked::Passes;
        };
        if g.goid != walking.walk.step.goid() {
            return Walked::Passes;
        }
        let arrival = Arrival { g, regs: &hit.regs };
        let program = stepper.program(memory);
        let reached = stepper
            .known()
            .planner
            .reached(&program, &mut walking.walk.step, &arrival);
        match reached {
            Ok(Reached::Passes) => Walked::Passes,
            Ok(Reached::Ended(returned)) => Walked::Ends(returned),
            Ok(Reached::Changed) => self.change_walk(walking, hit),
            Err(error) => {
                self.messages.push(format!("the step ends here: {error}"));
                Walked::Ends(None)
            }
        }
    }

    fn change_walk(&mut self, walking: &mut Walking, hit: &Hit) -> Walked {
        if let Err(error) = self.tracer.halt(Some(hit)) {
            self.messages
                .push(format!("the target does not stop: {error}"));
            return Walked::Passes;
        }
        self.disarm_unwanted();
        let done = self.trap_step(&walking.walk);
        match done {
            Ok(places) => walking.places = places,
            Err(error) => self.messages.push(format!("the step is lost: {error}")),
        }
        self.tracer.go_on_all();
        Walked::WentOn
    }
}
