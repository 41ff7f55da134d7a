//! The loop from hit to record, on the tracer thread.
//!
//! While a thread waits at a site, only what must be read then is read; the
//! record is finished, filtered and written by others. Begin is taken just
//! before the thread is released, end when its stop is reported.

use std::sync::Arc;
use std::time::Duration;

use super::SessionError;
pub use super::calls::Stats;
use super::calls::{Calls, Prepared};
use super::control::{Control, StopReason};
use super::hook::{Answer, Hook, Taken};
use super::jump::Inside;
use super::live::Said;
use super::report::Seen;
use super::stopped::{Desk, Stops, Why};
use super::target::Target;
use super::watch::Watch;
use crate::addr::{Bias, LiveAddr};
use crate::probe::jump::Ways;
use crate::probe::plan::{Event as RuntimeEvent, Plan, Role};
use crate::process::ProcessError;
use crate::process::region::{Installation, SiteBytes};
use crate::process::tracer::{Ending, Event, Hit, Tracer};
use crate::record::End;
use crate::script::Simple;

/// Said when something was found.
pub const CLEANED: &str = "took out what a gotap that was killed had left in the target";

/// What the user wants of each call.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Frames of the caller's stack.
    pub stack: usize,
    /// The same for each function of the plan, where they differ.
    pub stacks: Vec<usize>,
    /// What is asked of the calls of each function of the plan.
    pub watches: Vec<Option<Arc<Watch>>>,
    /// Bytes of what is read or written.
    pub payload: usize,
    /// Report calls that are open longer than this.
    pub slow: Option<Duration>,
    /// End after this time.
    pub limit: Option<Duration>,
    /// Disarm functions that are entered more often than this a second.
    pub max_rate: Option<u64>,
    /// Of so many calls of a function one is told.
    pub every: Option<u32>,
    /// What must hold of each call that is told; more may have to.
    pub terms: Vec<Simple>,
    /// How many ids earlier sessions on this target have given to calls.
    pub ids_given: u64,
    /// By function of the plan: its calls are recorded; empty: all are.
    pub watched: Vec<bool>,
    /// What is asked at the plan's places.
    pub hooks: Vec<Hook>,
}

/// How the target came to be traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It ran already.
    Attached,
    /// gotap started it, and it has not run yet.
    Launched,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody asked; the target goes on without us.
    Stopped(StopReason),
    /// To be resumed: nothing of ours is in the target.
    Suspended,
    /// The target ended.
    Ended(Ending),
    /// The target runs another program now.
    Exec,
}

/// One session on one target.
pub struct Engine {
    pub(super) tracer: Tracer,
    pub(super) calls: Calls,
    pub(super) plan: Arc<Plan>,
    pub(super) options: Options,
    /// By the region's numbering: index into [`Plan::sites`].
    pub(super) sites: Vec<usize>,
    /// Armed while there are Goexits under way.
    pub(super) goexit_done: Option<usize>,
    pub(super) second_began: u64,
    /// When all was armed, by the session's clock.
    armed_ns: u64,
    pub(super) control: Control,
    pub(super) messages: Vec<String>,
    /// What another thread asks for.
    pub(super) desk: Option<Desk>,
    pub(super) stops: Stops,
    /// Copies that were made, to be told.
    pub(super) snapped: Vec<Said>,
    /// The program's code.
    pub(super) text: Option<(LiveAddr, LiveAddr)>,
    /// By index into [`Plan::sites`]: where a site lies in the process.
    pub(super) bias: Bias,
    /// Functions that jump, beside those that trap.
    inside: Option<Inside>,
    /// What was taken out of their ring.
    ring: Option<(u64, u64)>,
}

impl Engine {
    /// Puts the plan's sites into the target and arms them.
    pub fn arm(
        mut tracer: Tracer,
        target: &Target,
        prepared: Prepared,
        options: Options,
        start: Start,
        control: Control,
    ) -> Result<Engine, SessionError> {
        let mut messages = Vec::new();
        if tracer.clean_leftover(target.text())? {
            messages.push(CLEANED.to_owned());
        }
        let mut engine = Engine::new(tracer, target, prepared.calls, options, control);
        engine.messages = messages;
        engine.prepare_copies();
        let all: Vec<usize> = (0..engine.plan.sites.len()).collect();
        engine.install(target, &all, start)?;
        if start == Start::Attached && !prepared.looked {
            engine
                .calls
                .find_running(target, engine.tracer.memory(), false, &|_| true);
        }
        Ok(engine)
    }

    /// Beside jumps that are in the target already, arms the sites that do not
    /// jump, by `ways`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a session's parts, each known to the caller alone"
    )]
    pub fn arm_beside(
        tracer: Tracer,
        target: &Target,
        prepared: Prepared,
        inside: Inside,
        ways: &Ways,
        options: Options,
        start: Start,
        control: Control,
    ) -> Result<Engine, SessionError> {
        let mut engine = Engine::new(tracer, target, prepared.calls, options, control);
        engine.inside = Some(inside);
        let sites = 0..engine.plan.sites.len();
        let traps: Vec<usize> = sites.filter(|site| !ways.jumps(*site)).collect();
        engine.install(target, &traps, start)?;
        if start == Start::Attached && !prepared.looked {
            // Those that jump have written records since, which are read later: what
            // is found may have begun after what these tell.
            let memory = engine.tracer.memory();
            engine.calls.find_running(target, memory, true, &|_| true);
        }
        Ok(engine)
    }

    fn new(
        tracer: Tracer,
        target: &Target,
        calls: Calls,
        options: Options,
        control: Control,
    ) -> Engine {
        Engine {
            plan: calls.plan.clone(),
            calls,
            sites: Vec::new(),
            goexit_done: None,
            second_began: 0,
            armed_ns: 0,
            tracer,
            options,
            control,
            messages: Vec::new(),
            desk: None,
            stops: Stops::default(),
            snapped: Vec::new(),
            text: Some(target.text()),
            bias: target.bias,
            inside: None,
            ring: None,
        }
    }

    /// Installs and arms these sites of the plan. Once the traps are there,
    /// threads that enter wait until they are attended to: whoever is found
    /// inside began before.
    fn install(
        &mut self,
        target: &Target,
        sites: &[usize],
        start: Start,
    ) -> Result<(), SessionError> {
        let bytes: Vec<SiteBytes> = sites
            .iter()
            .filter_map(|index| self.plan.sites.get(*index))
            .map(|s| SiteBytes {
                at: target.bias.live(s.at),
                code: s.code,
                insn_len: s.insn_len,
                doubtful: s.doubtful,
            })
            .collect();
        let outcomes = self
            .tracer
            .install(&bytes, target.text(), start == Start::Attached)?;
        self.arm_sites(target, sites, &outcomes)
    }

    fn arm_sites(
        &mut self,
        target: &Target,
        sites: &[usize],
        outcomes: &[Installation],
    ) -> Result<(), SessionError> {
        let plan = self.plan.clone();
        // Returns first: a call whose entry is seen will be seen to end.
        let mut order: Vec<usize> = Vec::new();
        for (index, outcome) in sites.iter().copied().zip(outcomes) {
            let Some(site) = plan.sites.get(index) else {
                continue;
            };
            match outcome {
                Installation::Ready => order.push(index),
                Installation::Refused(why) => {
                    let names = self.names_at(index);
                    self.messages
                        .push(format!("{names} at {}: not armed: {why}", site.at));
                }
            }
        }
        let entry = |i: &usize| {
            plan.sites
                .get(*i)
                .is_some_and(|s| s.roles.iter().any(|r| matches!(r, Role::Entry(_))))
        };
        order.sort_by_key(entry);
        let on = self.options.watched.clone();
        for (func, rate) in self.calls.rates.iter_mut().enumerate() {
            rate.disarmed = on.get(func).is_some_and(|on| !on);
        }
        for index in &order {
            let Some(site) = plan.sites.get(*index) else {
                continue;
            };
            let Some(slot) = self.tracer.site_index(target.bias.live(site.at)) else {
                continue;
            };
            self.number(slot, *index);
            if site.roles == [Role::Event(RuntimeEvent::GoexitDone)] {
                self.goexit_done = Some(slot);
                continue;
            }
            if self.wants(site, &on) {
                self.tracer.arm(slot)?;
            }
        }
        Ok(())
    }

    pub(super) fn names_at(&self, site: usize) -> String {
        let Some(site) = self.plan.sites.get(site) else {
            return String::new();
        };
        let names: Vec<&str> = site
            .roles
            .iter()
            .filter_map(|r| match r {
                Role::Entry(f) | Role::Return(Some(f)) => {
                    self.plan.functions.get(*f).map(|f| f.name.as_str())
                }
                Role::Return(None) | Role::Event(_) | Role::Place(_) => None,
            })
            .collect();
        names.join(", ")
    }

    /// How many sites are armed.
    pub fn armed_sites(&self) -> usize {
        self.tracer
            .installed()
            .map_or(0, crate::process::region::Installed::armed_count)
    }

    /// How many sites jump, and how long all threads were stopped for it, the
    /// longest time, and how often.
    pub fn jumps(&self) -> Option<(usize, Duration, usize)> {
        let jumped = &self.inside.as_ref()?.jumped;
        Some((jumped.sites(), jumped.pause, jumped.stops))
    }

    /// Records that were taken out of the ring of those that jump, and those that
    /// were lost.
    pub fn ring(&self) -> Option<(u64, u64)> {
        self.ring
    }

    /// What a user should be told, since the last time.
    pub fn take_messages(&mut self) -> Vec<String> {
        std::mem::take(&mut self.messages)
    }

    /// Numbers so far.
    pub fn stats(&self) -> Stats {
        self.calls.stats
    }

    /// How many ids calls have been given so far, by earlier sessions too.
    pub fn ids_given(&self) -> u64 {
        self.calls.join.begun()
    }

    /// How a launched program ended after we let it go, if it has by now.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Lets a launched program run.
    pub fn start(&mut self) {
        self.tracer.start();
    }

    /// Traces until something ends it, then leaves the target as it was.
    /// `tell` is given messages for the user as they come.
    /// The second answer is what went wrong in leaving.
    pub fn run(&mut self, tell: &mut dyn FnMut(String)) -> (Outcome, Result<(), ProcessError>) {
        self.armed_ns = self.calls.clock.now();
        let outcome = self.trace(tell);
        let (end, leave) = match outcome {
            Outcome::Stopped(_) | Outcome::Suspended => (End::Open, true),
            Outcome::Ended(_) | Outcome::Exec => (End::Exit, false),
        };
        let now = self.calls.clock.now();
        let mut left = Ok(());
        // The jumps first: whoever waits at a trap does so until they are out. The
        // other way round, one that was let past the end of its call unseen would
        // write records that prove it gone.
        if let Some(mut inside) = self.inside.take() {
            if leave {
                left = inside.jumped.leave_by(&mut self.tracer);
            }
            inside.end(&mut self.calls);
            self.ring = Some(inside.drain.numbers());
        }
        if leave {
            left = left.and(self.tracer.leave());
        }
        let open = self.calls.join.drain(end, now);
        self.calls.emit_last(open);
        self.calls
            .gap(self.calls.stats.unattributed, "no goroutine");
        (outcome, left)
    }

    fn trace(&mut self, tell: &mut dyn FnMut(String)) -> Outcome {
        loop {
            if let Some(reason) = self.control.stopped() {
                return Outcome::Stopped(reason);
            }
            if self.control.take_suspend() {
                return Outcome::Suspended;
            }
            if self.control.take_tick() {
                self.tick();
            }
            if self.control.take_ask()
                && let Some(outcome) = self.serve()
            {
                return outcome;
            }
            for message in self.messages.drain(..) {
                tell(message);
            }
            if let Some(desk) = &self.desk {
                for said in self.snapped.drain(..) {
                    (desk.tell)(said);
                }
            }
            let event = self.tracer.next_event();
            let arrived = self.calls.clock.now();
            // What a goroutine that hit has written comes before its hit.
            if let Some(Inside { jumped, drain }) = &mut self.inside {
                drain.catch_up(jumped, &mut self.calls);
            }
            match event {
                Event::Hit(hit) => {
                    let taken = self.on_hit(&hit, arrived);
                    let started = std::mem::take(&mut self.stops.reached_main);
                    let why = match self.stops_at(&hit, &taken) {
                        None if started => Some(Why::Started),
                        None => match self.steps_to(&hit) {
                            Ok(why) => why,
                            Err(()) => continue,
                        },
                        why => why,
                    };
                    if let Some(why) = why {
                        self.calls.stats.hits += 1;
                        self.calls.emit_ended();
                        if let Some(outcome) = self.stop_at(&hit, why) {
                            return outcome;
                        }
                        continue;
                    }
                    self.tracer.pass(&hit);
                    let held = self.calls.clock.now().saturating_sub(arrived);
                    self.calls.stats.hits += 1;
                    self.calls.stats.held_ns += held;
                    self.calls.emit_ended();
                }
                Event::Blocked(hit) => self.never_again(&hit),
                Event::ThreadGone(_) | Event::Nudged => {}
                Event::Ended(ending) => return Outcome::Ended(ending),
                Event::Exec => return Outcome::Exec,
            }
        }
    }

    /// Why the target is to stop here, if it is.
    fn stops_at(&self, hit: &Hit, taken: &[Taken]) -> Option<Why> {
        let stops = taken.iter().filter(|t| t.answer == Answer::Stop);
        let ids: Vec<usize> = stops.map(|t| t.id).collect();
        if !ids.is_empty() {
            Some(Why::Points(ids))
        } else if self.arrived(hit) {
            Some(Why::Arrived)
        } else {
            None
        }
    }

    /// What the site means; the hooks there that stop the target. Copies are made.
    pub(super) fn on_hit(&mut self, hit: &Hit, arrived: u64) -> Vec<Taken> {
        let plan = self.plan.clone();
        let mut taken = Vec::new();
        let Some(site) = self.sites.get(hit.site).and_then(|i| plan.sites.get(*i)) else {
            return taken;
        };
        for role in &site.roles {
            let seen = Seen::stopped(&hit.regs, hit.tid, self.tracer.memory());
            match *role {
                Role::Entry(func) => self.calls.on_entry(func, &seen, None),
                Role::Return(func) => self.calls.on_return(func, &seen, arrived),
                Role::Event(event) => self.on_event(event, hit, arrived),
                // The one place of a program that was started so.
                Role::Place(_) if self.stops.at_main => {
                    self.on_event(RuntimeEvent::Main, hit, arrived);
                }
                Role::Place(place) => {
                    let reporter = &mut self.calls.reporter;
                    if let Some(hooks) = reporter.hooks.take() {
                        let wrong = &mut self.messages;
                        let mut passed = Vec::new();
                        let at = (place, arrived);
                        taken.extend(hooks.ask(at, &seen, reporter, wrong, &mut passed));
                        reporter.hooks = Some(hooks);
                        self.calls.passed(passed, arrived);
                    }
                }
            }
        }
        for one in taken.extract_if(.., |t| t.answer == Answer::Snap) {
            self.snap(hit, one.id);
        }
        taken
    }

    fn on_event(&mut self, event: RuntimeEvent, hit: &Hit, arrived: u64) {
        let seen = Seen::stopped(&hit.regs, hit.tid, self.tracer.memory());
        self.calls.on_event(event, &seen, arrived);
        match event {
            RuntimeEvent::Panic | RuntimeEvent::Recovery => {}
            RuntimeEvent::Goexit | RuntimeEvent::GoexitDone => {
                self.arm_goexit(!self.calls.goexits.is_empty());
            }
            RuntimeEvent::Main => {
                if let Err(error) = self.tracer.install_handler(hit) {
                    self.messages.push(format!(
                        "the program would not survive a kill -9 of gotap: {error}"
                    ));
                }
                self.stops.reached_main = std::mem::take(&mut self.stops.at_main);
                if let Err(error) = self.tracer.disarm(hit.site) {
                    tracing::debug!(%error, "runtime.main stays armed");
                }
            }
        }
    }

    fn arm_goexit(&mut self, on: bool) {
        let Some(slot) = self.goexit_done else { return };
        let done = if on {
            self.tracer.arm(slot)
        } else {
            self.tracer.disarm(slot)
        };
        if let Err(error) = done {
            tracing::debug!(%error, "runtime.goexit1 could not be armed or disarmed");
        }
    }

    fn tick(&mut self) {
        let now = self.calls.clock.now();
        self.calls.clock.adjust();
        if self
            .options
            .limit
            .is_some_and(|limit| now.saturating_sub(self.armed_ns) >= limit.as_nanos() as u64)
        {
            self.control.stop(StopReason::Time);
        }
        if let Some(Inside { jumped, drain }) = &mut self.inside {
            drain.tick(jumped, &mut self.calls);
        }
        if let Some(slow) = self.options.slow {
            self.calls.report_slow(now, slow);
        }
        if now.saturating_sub(self.second_began) >= 1_000_000_000 {
            self.check_rates(now);
        }
    }
}
