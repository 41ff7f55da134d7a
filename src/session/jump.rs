//! The other engine: sites jump into generated code, whose records are taken
//! out of the ring on a timer. Nobody traces the target meanwhile, unless some
//! functions have to trap: then the ring is taken out by the engine of traps.
//!
//! Joining, decoding and output are the same as with traps: each record is
//! shown to them as if its thread still stood at the site ([`past`]).

mod captures;
mod copies;
mod drain;
mod gaps;
mod gates;
mod past;
mod ticks;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SessionError;
use super::calls::{Calls, Prepared};
use super::control::{Control, StopReason};
use super::engine::{Options, Outcome, Start, Stats};
use super::target::Target;
use crate::arch::jump::{GOffsets, JumpSite};
use crate::arch::unit::Interiors;
use crate::golang::copied::Copied;
use crate::golang::memstats::find_collections;
use crate::golang::resting::{Resting, Stopped};
use crate::probe::jump::{JumpPlan, Ways};
use crate::probe::plan::{Plan, Role};
use crate::process::jump::{Drawn, draw as draw_pages};
use crate::process::quiet::Whereabouts;
use crate::process::tracer::Ending;
use crate::process::{Jumped, Jumps, ProcessError, ProcessMemory, Tracer};
use crate::record::End;
use crate::sys::tsc;
use captures::{MAX_FRAMES, MAX_PAYLOAD, SiteRecord};
pub use drain::Drain;
use drain::{BATCH, ENOUGH};
use gates::Gates;

/// Bytes of the ring.
const RING: u64 = 128 << 20;

/// The same beside traps: a thread that hits one waits until what lies in the ring
/// was read.
const RING_BESIDE: u64 = 32 << 20;

/// How long the ring is left alone when nothing was in it.
/// Each look interrupts somebody on a busy machine; what comes meanwhile should
/// fit a second level cache.
const PAUSE: Duration = Duration::from_millis(10);

/// How often it is looked whether the target is still there.
const LOOK: Duration = Duration::from_millis(50);

/// Why a session cannot fire by jumps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoJumps {
    /// Asked for something that jumps do not do.
    #[error("{0} needs traps")]
    Needs(&'static str),
    /// The machine.
    #[error("{0}")]
    Machine(String),
    /// What tells how calls end cannot be seen by jumps.
    #[error("how calls end is told by the runtime: {0}")]
    Events(String),
    /// No function can: this one for instance.
    #[error("{0}: {1}")]
    Nothing(String, String),
    /// No function can with what is to be recorded of it: this one for instance.
    #[error("{0}: {1}")]
    Shown(String, String),
}

/// True reasons why the machine or the options forbid jumps.
pub fn unfit(options: &Options) -> Option<NoJumps> {
    let deepest = options.stacks.iter().copied().max().unwrap_or(0);
    if options.stack.max(deepest) > MAX_FRAMES {
        return Some(NoJumps::Needs("--stack of more than 31 frames"));
    }
    if options.max_rate.is_some() {
        return Some(NoJumps::Needs("--max-rate"));
    }
    if options.payload > MAX_PAYLOAD {
        return Some(NoJumps::Needs("--payload of more than 1024 bytes"));
    }
    tsc::unfit().map(NoJumps::Machine)
}

/// All that is worked out before a process is touched, for jumps: what each site
/// records, its code, and what else a stop needs to know.
pub struct JumpsPrepared {
    records: Arc<[SiteRecord]>,
    sites: Vec<JumpSite>,
    groups: Vec<usize>,
    /// Functions whose calls leave marks, and those of which not all RETs are seen.
    marked: Vec<bool>,
    gated: Vec<bool>,
    ring: u64,
    drawn: Drawn,
    resting: Resting,
    /// Some unit has a place where a goroutine could rest.
    anywhere: bool,
}

impl JumpsPrepared {
    /// For process `pid`. Functions of which more is to be recorded than fits
    /// trap, and with `exact` those whose values are shown with what they point to,
    /// which would be read some milliseconds later: `ways` is told.
    pub fn new(
        prepared: &Prepared,
        target: &Target,
        jumps: &JumpPlan,
        ways: &mut Ways,
        options: &Options,
        (pid, exact): (i32, bool),
    ) -> Result<JumpsPrepared, SessionError> {
        let calls = &prepared.calls;
        let plan = &*calls.plan;
        let mut records = vec![SiteRecord::default(); plan.sites.len()];
        let could = ways.trapped(plan).count() < plan.armed();
        for (own, function) in plan.functions.iter().enumerate() {
            if exact
                && calls.reporter.has_to_wait(own)
                && let Ok(trap) = &function.trap
            {
                let why = "what its values point to has to be read at once";
                ways.set_trap(ways.group(trap.entry_site), why.to_owned());
            }
        }
        let age = find_collections(&target.image).map(|at| target.bias.live(at));
        let copied = Copied::of(&target.live_types(), &target.layouts, age);
        for (index, _) in jumps.units() {
            let Some(site) = plan.sites.get(index).filter(|_| ways.jumps(index)) else {
                continue;
            };
            let frames = |func| calls.reporter.frames(func);
            let wanted = (options.payload, &frames as &dyn Fn(usize) -> usize);
            let record = captures::of_site(&calls.reporter, (plan, &copied), &site.roles, wanted);
            if let (Some(record), Some(place)) = (record, records.get_mut(index)) {
                *place = record;
            } else {
                let why = "it has more arguments than a record holds";
                ways.set_trap(ways.group(index), why.to_owned());
            }
        }
        let jumping = |own: usize| {
            let trap = plan.functions.get(own).and_then(|f| f.trap.as_ref().ok());
            trap.is_some_and(|trap| ways.jumps(trap.entry_site))
        };
        let gates = Gates::new(&calls.reporter, plan, options, &jumping);
        let ends = |own| captures::ends_here(plan, own);
        let (mut sites, mut groups, mut anywhere) = (Vec::new(), Vec::new(), false);
        let mut gated = vec![false; plan.functions.len()];
        for (index, unit) in jumps.units().filter(|(index, _)| ways.jumps(*index)) {
            let mut unit = unit.clone();
            unit.at = target.bias.live(crate::addr::ImageAddr(unit.at)).0;
            anywhere |= jumps.sites.get(index).is_some_and(|s| !s.rests.is_empty());
            let roles = plan.sites.get(index).map_or(&[][..], |site| &site.roles);
            let gate = gates.of_site(roles, &ends);
            if let [Role::Return(own)] = roles
                && !gate.tests.is_empty()
            {
                for func in ends(*own) {
                    gated.get_mut(func).into_iter().for_each(|one| *one = true);
                }
            }
            let shape = records.get(index).map(|r| r.shape.clone());
            sites.push(JumpSite {
                unit,
                shape: shape.unwrap_or_default().behind(gate),
                id: index as u32,
            });
            groups.push(ways.group(index));
        }
        let marked = (0..plan.functions.len()).map(|own| gates.marks(own));
        let marked = marked.collect();
        if ways.trapped(plan).count() >= plan.armed() {
            return Err(none_jumps(plan, ways, could).into());
        }
        let ring = if ways.counts().1 > 0 {
            RING_BESIDE
        } else {
            RING
        };
        let order = order(&sites, &groups, target, ring);
        Ok(JumpsPrepared {
            ring,
            drawn: draw_pages(pid, &order)?,
            resting: Resting::prepare(&target.image, target.bias),
            records: records.into(),
            sites,
            groups,
            marked,
            gated,
            anywhere,
        })
    }

    /// Puts the jumps into the target, which stays traced. Of what could not be
    /// put in `ways` is told.
    pub fn put_in(
        self,
        tracer: &mut Tracer,
        prepared: &mut Prepared,
        target: &Target,
        ways: &mut Ways,
        start: Start,
    ) -> Result<Inside, SessionError> {
        let calls = &prepared.calls;
        let order = order(&self.sites, &self.groups, target, self.ring);
        let looked_at = self.anywhere && start == Start::Attached;
        let mut parked = |memory: &ProcessMemory, inside: &Interiors, at: &[Whereabouts]| {
            // Most stack checks have no place where a goroutine could rest.
            if !looked_at {
                return Some(BTreeSet::new());
            }
            let threads: Vec<(u64, u64)> = at.iter().map(|at| (at.sp, at.pc)).collect();
            let stopped = Stopped {
                memory,
                layouts: &target.layouts,
                globals: calls.reporter.globals(),
                bias: target.bias,
                threads: &threads,
            };
            // Not to know is to try again.
            self.resting.busy(stopped, inside).ok()
        };
        let jumped = tracer.jump_in(&order, self.drawn, &mut parked)?;
        for (group, why) in &jumped.left_out {
            ways.set_trap(*group, why.to_string());
        }
        let drain = Drain::new(&jumped, calls, self.records, target);
        // Who traps after all has no generated code that marks.
        let (mut marked, mut gated) = (self.marked, self.gated);
        for (own, _) in ways.trapped(&prepared.calls.plan) {
            for all in [&mut marked, &mut gated] {
                all.get_mut(own).into_iter().for_each(|one| *one = false);
            }
        }
        prepared.calls.gate(marked, gated);
        Ok(Inside { jumped, drain })
    }
}

/// `could`: some would have, but for what is to be recorded of them.
fn none_jumps(plan: &Plan, ways: &Ways, could: bool) -> NoJumps {
    let first = ways.trapped(plan).next().and_then(|(own, why)| {
        let name = plan.functions.get(own)?.name.clone();
        Some((name, why.to_owned()))
    });
    let (name, why) = first.unwrap_or_default();
    if could {
        NoJumps::Shown(name, why)
    } else {
        NoJumps::Nothing(name, why)
    }
}

fn order<'a>(sites: &'a [JumpSite], groups: &'a [usize], target: &Target, ring: u64) -> Jumps<'a> {
    Jumps {
        sites,
        groups,
        text: target.text(),
        ring,
        g: GOffsets {
            goid: target.layouts.g.goid as i32,
            stack_hi: target.layouts.g.stack_hi as i32,
        },
    }
}

/// Jumps that are in a target, and what reads their records.
pub struct Inside {
    /// The jumps.
    pub jumped: Jumped,
    /// The reader.
    pub drain: Drain,
}

impl Inside {
    /// Takes the last records: the jumps are out, or the process is gone.
    pub(super) fn end(&mut self, calls: &mut Calls) {
        self.jumped.forget();
        self.drain.take_all(&self.jumped, calls);
        self.drain.tell_lost(&self.jumped, calls);
    }
}

/// One session on one target, by jumps alone.
pub struct JumpEngine {
    inside: Option<Inside>,
    pid: i32,
    calls: Calls,
    options: Options,
    control: Control,
    numbers: (u64, u64),
    pause: (Duration, usize),
    sites: usize,
    began_ns: u64,
}

impl JumpEngine {
    /// Lets go of a target that the jumps are in. Calls of functions that do not
    /// jump, by `ways`, are not looked for.
    #[expect(
        clippy::too_many_arguments,
        reason = "a session's parts, each known to the caller alone"
    )]
    pub fn new(
        tracer: Tracer,
        target: &Target,
        prepared: Prepared,
        inside: Inside,
        ways: &Ways,
        options: Options,
        start: Start,
        control: Control,
    ) -> JumpEngine {
        let Prepared { mut calls, looked } = prepared;
        calls.gather();
        tracer.let_go_of();
        if start == Start::Attached && !looked {
            let plan = calls.plan.clone();
            let out: BTreeSet<usize> = ways.trapped(&plan).map(|(own, _)| own).collect();
            let jumps = |own: usize| !out.contains(&own);
            calls.find_running(target, inside.jumped.memory(), true, &jumps);
        }
        JumpEngine {
            pid: inside.jumped.pid(),
            pause: (inside.jumped.pause, inside.jumped.stops),
            sites: inside.jumped.sites(),
            inside: Some(inside),
            calls,
            options,
            control,
            numbers: (0, 0),
            began_ns: 0,
        }
    }

    /// How many sites jump.
    pub fn armed_sites(&self) -> usize {
        self.sites
    }

    /// How long all threads of the target were stopped, the longest time, and how
    /// often.
    pub fn pause(&self) -> (Duration, usize) {
        self.pause
    }

    /// Numbers so far.
    pub fn stats(&self) -> Stats {
        self.calls.stats
    }

    /// Records that were taken out of the ring, and those that were lost.
    pub fn ring(&self) -> (u64, u64) {
        self.numbers
    }

    /// How many ids calls have been given so far, by earlier sessions too.
    pub fn ids_given(&self) -> u64 {
        self.calls.join.begun()
    }

    /// How a launched program ended, if it has by now.
    pub fn try_reap(&self) -> Option<Ending> {
        crate::process::jump::try_reap(self.pid)
    }

    /// Traces until something ends it, then leaves the target as it was. The
    /// second answer is what went wrong in leaving.
    pub fn run(&mut self) -> (Outcome, Result<(), ProcessError>) {
        let Some(mut inside) = self.inside.take() else {
            return (Outcome::Stopped(StopReason::Asked), Ok(()));
        };
        self.began_ns = self.calls.clock.now();
        let outcome = self.follow(&mut inside);
        let (end, leave) = match outcome {
            Outcome::Stopped(_) | Outcome::Suspended => (End::Open, true),
            Outcome::Ended(_) | Outcome::Exec => (End::Exit, false),
        };
        let left = if leave { inside.jumped.leave() } else { Ok(()) };
        inside.end(&mut self.calls);
        self.numbers = inside.drain.numbers();
        let now = self.calls.clock.now();
        let open = self.calls.join.drain(end, now);
        self.calls.send_gathered();
        self.calls.emit_last(open);
        (outcome, left)
    }

    fn follow(&mut self, inside: &mut Inside) -> Outcome {
        let Inside { jumped, drain } = inside;
        let mut looked = Instant::now();
        loop {
            if let Some(reason) = self.control.stopped() {
                return Outcome::Stopped(reason);
            }
            if self.control.take_suspend() {
                return Outcome::Suspended;
            }
            if self.control.take_tick() {
                self.tick(jumped, drain);
            }
            let half = u64::from(jumped.ring().1.count) / 2;
            let waits = self.calls.waiting() >= ENOUGH && drain.unread(jumped) < half;
            let taken = if waits {
                0
            } else {
                drain.take(jumped, &mut self.calls)
            };
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                if let Some(outcome) = jumped.outcome() {
                    return match outcome {
                        Some(ending) => Outcome::Ended(ending),
                        None => Outcome::Exec,
                    };
                }
            }
            if taken < BATCH {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn tick(&mut self, jumped: &Jumped, drain: &mut Drain) {
        let now = self.calls.clock.now();
        self.calls.clock.adjust();
        drain.tick(jumped, &mut self.calls);
        if self
            .options
            .limit
            .is_some_and(|limit| now.saturating_sub(self.began_ns) >= limit.as_nanos() as u64)
        {
            self.control.stop(StopReason::Time);
        }
        if let Some(slow) = self.options.slow {
            self.calls.report_slow(now, slow);
        }
        self.calls.send_gathered();
    }
}
