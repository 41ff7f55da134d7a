//! The loop from hit to record, on the tracer thread.
//!
//! While a thread waits at a site, only what must be read then is read; the
//! record is finished, filtered and written by others. Begin is taken just
//! before the thread is released, end when its stop is reported.

use std::sync::Arc;
use std::time::Duration;

use super::SessionError;
use super::clock::Clock;
use super::control::{Control, StopReason};
use super::report::{Reporter, unfinished};
use super::target::Target;
use crate::probe::join::{Ended, Entry, EntrySite, Join, Stack};
use crate::probe::plan::{Event as RuntimeEvent, Plan, Role};
use crate::process::ProcessError;
use crate::process::region::{Installation, SiteBytes};
use crate::process::tracer::{Ending, Event, Hit, Tracer};
use crate::record::{Call, End};
use crate::sink::queue::Sender;

/// With more goroutines than this, those that are parked in traced functions
/// are looked for before the traps are there; one that returns in between is
/// taken for running until its next call shows that it is not.
const MANY: u64 = 20_000;

/// What the user wants of each call.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Frames of the caller's stack.
    pub stack: usize,
    /// Bytes of what is read or written.
    pub payload: usize,
    /// Report calls that are open longer than this.
    pub slow: Option<Duration>,
    /// End after this time.
    pub limit: Option<Duration>,
    /// Disarm functions that are entered more often than this a second.
    pub max_rate: Option<u64>,
    /// How many ids earlier sessions on this target have given to calls.
    pub ids_given: u64,
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

/// What is kept with an open call.
pub(super) type Begun = Box<Call>;

/// Numbers for the closing lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Stops at sites.
    pub hits: u64,
    /// Nanoseconds that threads were held at sites, from report to release.
    pub held_ns: u64,
    /// RETs of calls whose entry was not seen.
    pub unseen: u64,
    /// Entries of which it could not be told whose they are: lost.
    pub unattributed: u64,
}

/// One function's counter for `--max-rate`.
#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    entries: u64,
    disarmed: bool,
}

/// One session on one target.
pub struct Engine {
    tracer: Tracer,
    pub(super) reporter: Reporter,
    plan: Arc<Plan>,
    options: Options,
    join: Join<Begun>,
    ended: Vec<Ended<Begun>>,
    /// By the region's numbering: index into [`Plan::sites`].
    sites: Vec<usize>,
    rates: Vec<Rate>,
    /// Goexits under way: while there are any, `runtime.goexit1` is armed.
    goexits: usize,
    goexit_done: Option<usize>,
    clock: Clock,
    second_began: u64,
    sender: Arc<Sender>,
    control: Control,
    stats: Stats,
    messages: Vec<String>,
}

impl Engine {
    /// Puts the plan's sites into the target and arms them.
    pub fn arm(
        mut tracer: Tracer,
        target: &Target,
        plan: Arc<Plan>,
        options: Options,
        start: Start,
        sender: Arc<Sender>,
        control: Control,
    ) -> Result<Engine, SessionError> {
        let mut messages = Vec::new();
        if tracer.clean_leftover(target.text())? {
            messages
                .push("took out what a gotap that was killed had left in the target".to_owned());
        }
        let bytes: Vec<SiteBytes> = plan
            .sites
            .iter()
            .map(|s| SiteBytes {
                at: target.bias.live(s.at),
                code: s.code,
                insn_len: s.insn_len,
                doubtful: s.doubtful,
            })
            .collect();
        let reporter = Reporter::new(target, &plan, &options);
        let outcomes = tracer.install(&bytes, target.text(), start == Start::Attached)?;
        let mut engine = Engine {
            sites: Vec::new(),
            rates: vec![Rate::default(); plan.functions.len()],
            join: Join::counting_from(options.ids_given),
            ended: Vec::new(),
            goexits: 0,
            goexit_done: None,
            clock: Clock::new(),
            second_began: 0,
            stats: Stats::default(),
            tracer,
            reporter,
            plan,
            options,
            sender,
            control,
            messages,
        };
        // Once the traps are there, threads that enter wait until they are
        // attended to: whoever is found inside began before. But looking at very
        // many goroutines takes longer than those threads may wait.
        let many = engine.reporter.goroutines(target, engine.tracer.memory()) > MANY;
        if start == Start::Attached && many {
            engine.find_running(target, true);
        }
        engine.arm_sites(target, &outcomes)?;
        if start == Start::Attached && !many {
            engine.find_running(target, false);
        }
        Ok(engine)
    }

    fn arm_sites(
        &mut self,
        target: &Target,
        outcomes: &[Installation],
    ) -> Result<(), SessionError> {
        let plan = self.plan.clone();
        // Returns first: a call whose entry is seen will be seen to end.
        let mut order: Vec<usize> = Vec::new();
        for (index, outcome) in outcomes.iter().enumerate() {
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
        for index in &order {
            let Some(site) = plan.sites.get(*index) else {
                continue;
            };
            let Some(slot) = self.tracer.site_index(target.bias.live(site.at)) else {
                continue;
            };
            if self.sites.len() <= slot {
                self.sites.resize(slot + 1, usize::MAX);
            }
            if let Some(place) = self.sites.get_mut(slot) {
                *place = *index;
            }
            if site.roles == [Role::Event(RuntimeEvent::GoexitDone)] {
                self.goexit_done = Some(slot);
                continue;
            }
            self.tracer.arm(slot)?;
        }
        Ok(())
    }

    fn names_at(&self, site: usize) -> String {
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
                Role::Return(None) | Role::Event(_) => None,
            })
            .collect();
        names.join(", ")
    }

    /// Calls that were running before the traps were there.
    fn find_running(&mut self, target: &Target, doubtful: bool) {
        let wall = self.clock.wall(self.clock.now());
        let plan = self.plan.clone();
        for found in self.reporter.running(target, &plan, self.tracer.memory()) {
            let mut call = self.reporter.blank(found.func, 0);
            call.goid = Some(found.goid);
            call.time_ns = wall;
            call.since_attach = true;
            call.conn = found.conn;
            let stack = Stack::Goroutine(found.goid);
            self.join
                .found_running(stack, found.func, found.depth, doubtful, Box::new(call));
        }
    }

    /// How many sites are armed.
    pub fn armed_sites(&self) -> usize {
        self.tracer
            .installed()
            .map_or(0, crate::process::region::Installed::armed_count)
    }

    /// What a user should be told, since the last time.
    pub fn take_messages(&mut self) -> Vec<String> {
        std::mem::take(&mut self.messages)
    }

    /// Numbers so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How many ids calls have been given so far, by earlier sessions too.
    pub fn ids_given(&self) -> u64 {
        self.join.begun()
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
        let outcome = self.trace(tell);
        let (end, leave) = match outcome {
            Outcome::Stopped(_) | Outcome::Suspended => (End::Open, true),
            Outcome::Ended(_) | Outcome::Exec => (End::Exit, false),
        };
        let now = self.clock.now();
        let left = if leave { self.tracer.leave() } else { Ok(()) };
        let open = self.join.drain(end, now);
        self.emit(open);
        if self.stats.unattributed > 0 {
            let _ = self.sender.send(crate::record::Record::Gap {
                lost: self.stats.unattributed,
                why: "no goroutine",
            });
        }
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
            for message in self.messages.drain(..) {
                tell(message);
            }
            match self.tracer.next_event() {
                Event::Hit(hit) => {
                    let arrived = self.clock.now();
                    self.on_hit(&hit, arrived);
                    self.tracer.pass(&hit);
                    self.stats.hits += 1;
                    self.stats.held_ns += self.clock.now().saturating_sub(arrived);
                    self.emit_ended();
                }
                Event::Blocked(hit) => self.never_again(&hit),
                Event::ThreadGone(_) | Event::Nudged => {}
                Event::Ended(ending) => return Outcome::Ended(ending),
                Event::Exec => return Outcome::Exec,
            }
        }
    }

    fn on_hit(&mut self, hit: &Hit, arrived: u64) {
        let plan = self.plan.clone();
        let Some(site) = self.sites.get(hit.site).and_then(|i| plan.sites.get(*i)) else {
            return;
        };
        for role in &site.roles {
            match *role {
                Role::Entry(func) => self.on_entry(&plan, func, hit),
                Role::Return(func) => self.on_return(func, hit, arrived),
                Role::Event(event) => self.on_event(event, hit, arrived),
            }
        }
    }

    fn on_entry(&mut self, plan: &Plan, func: usize, hit: &Hit) {
        let Some(trap) = plan.functions.get(func).and_then(|f| f.trap.as_ref().ok()) else {
            return;
        };
        if let Some(rate) = self.rates.get_mut(func) {
            if rate.disarmed {
                return;
            }
            rate.entries += 1;
        }
        let entered = self
            .reporter
            .entered(func, &hit.regs, hit.tid, self.tracer.memory());
        let Some((g, mut call)) = entered else { return };
        let site = EntrySite {
            func,
            branch_target: trap.branch_target,
            tail_callers: &trap.tail_callers,
        };
        let now = self.clock.now();
        call.time_ns = self.clock.wall(now);
        let begun = self
            .join
            .enter(g.stack, site, g.depth, now, || call, &mut self.ended);
        match begun {
            Entry::Began { .. } | Entry::Again => {}
        }
    }

    fn on_return(&mut self, func: Option<usize>, hit: &Hit, arrived: u64) {
        let memory = self.tracer.memory();
        let Some(g) = self.reporter.g(&hit.regs, memory) else {
            return;
        };
        let before = self.ended.len();
        let known = self.join.leave(g.stack, g.depth, arrived, &mut self.ended);
        for ended in self.ended.get_mut(before..).unwrap_or_default() {
            if ended.end == End::Return {
                let (func, call) = (ended.call.func, &mut ended.call.data);
                self.reporter
                    .returned(func, call, &hit.regs, hit.tid, memory);
                if call.since_attach {
                    self.reporter.add_stack(call, &hit.regs, &g, memory);
                }
            }
        }
        if !known && let Some(func) = func {
            let disarmed = self.rates.get(func).is_some_and(|r| r.disarmed);
            if disarmed {
                return;
            }
            self.stats.unseen += 1;
            let mut call = self.reporter.blank(func, hit.tid);
            call.id = self.join.unseen();
            call.goid = g.goid();
            call.since_attach = true;
            call.time_ns = self.clock.wall(arrived);
            call.conn = self.reporter.spilled_conn(func, &hit.regs, memory);
            self.reporter
                .returned(func, &mut call, &hit.regs, hit.tid, memory);
            self.reporter.add_stack(&mut call, &hit.regs, &g, memory);
            call.end = End::Return;
            self.send(call);
        }
    }

    fn on_event(&mut self, event: RuntimeEvent, hit: &Hit, arrived: u64) {
        let memory = self.tracer.memory();
        match event {
            RuntimeEvent::Panic | RuntimeEvent::Goexit => {
                let Some(g) = self.reporter.g(&hit.regs, memory) else {
                    return;
                };
                let goexit = event == RuntimeEvent::Goexit;
                self.join
                    .unwinding(g.stack, if goexit { End::Exit } else { End::Panic });
                if goexit && !self.join.open_on(g.stack).is_empty() {
                    self.goexits += 1;
                    self.arm_goexit(true);
                }
            }
            RuntimeEvent::GoexitDone => {
                let Some(g) = self.reporter.g(&hit.regs, memory) else {
                    return;
                };
                if !self.join.open_on(g.stack).is_empty() {
                    self.join.stack_gone(g.stack, arrived, &mut self.ended);
                    self.goexits = self.goexits.saturating_sub(1);
                    if self.goexits == 0 {
                        self.arm_goexit(false);
                    }
                }
            }
            RuntimeEvent::Recovery => {
                if let Some((stack, below)) = self.reporter.recovered(&hit.regs, memory) {
                    self.join.recovered(stack, below, arrived, &mut self.ended);
                }
            }
            RuntimeEvent::Main => {
                if let Err(error) = self.tracer.install_handler(hit) {
                    self.messages.push(format!(
                        "the program would not survive a kill -9 of gotap: {error}"
                    ));
                }
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

    fn emit_ended(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let mut ended = std::mem::take(&mut self.ended);
        self.emit(ended.drain(..));
        self.ended = ended;
    }

    fn emit(&mut self, ended: impl IntoIterator<Item = Ended<Begun>>) {
        for one in ended {
            // What `--slow` has told of is still as it was told.
            if one.end == End::Open && one.call.reported {
                continue;
            }
            let mut call = *one.call.data;
            call.id = one.call.id;
            call.parent = one.call.parent;
            call.dur_ns = one.call.began_ns.map(|b| one.at_ns.saturating_sub(b));
            if call.since_attach {
                call.time_ns = self.clock.wall(one.at_ns);
            }
            call.end = one.end;
            self.send(unfinished(call));
        }
    }

    fn send(&self, call: Call) {
        // A full queue counts what it drops, and tells the reader.
        let _ = self
            .sender
            .send(crate::record::Record::Call(Box::new(call)));
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.clock.adjust();
        if self
            .options
            .limit
            .is_some_and(|limit| now >= limit.as_nanos() as u64)
        {
            self.control.stop(StopReason::Time);
        }
        if let Some(slow) = self.options.slow {
            self.report_slow(now, slow);
        }
        if now.saturating_sub(self.second_began) >= 1_000_000_000 {
            self.check_rates(now);
        }
    }

    fn report_slow(&mut self, now: u64, slow: Duration) {
        let before = now.saturating_sub(slow.as_nanos() as u64);
        let mut slow_calls = Vec::new();
        self.join.take_slow(before, |open, _| {
            let mut call = (*open.data).clone();
            call.id = open.id;
            call.parent = open.parent;
            call.dur_ns = open.began_ns.map(|b| now.saturating_sub(b));
            call.end = End::Open;
            slow_calls.push(unfinished(call));
        });
        for call in slow_calls {
            self.send(call);
        }
    }

    fn check_rates(&mut self, now: u64) {
        let seconds = now.saturating_sub(self.second_began) as f64 / 1e9;
        self.second_began = now;
        let max = self.options.max_rate;
        for func in 0..self.rates.len() {
            let Some(rate) = self.rates.get_mut(func) else {
                continue;
            };
            let per_second = std::mem::take(&mut rate.entries) as f64 / seconds;
            if let Some(max) = max
                && per_second > max as f64
                && !rate.disarmed
            {
                let why = format!(
                    "was called {per_second:.0} times a second, more than --max-rate {max}"
                );
                self.disarm_function(func, &why);
            }
        }
    }

    fn never_again(&mut self, hit: &Hit) {
        let plan = self.plan.clone();
        let site = self.sites.get(hit.site).and_then(|i| plan.sites.get(*i));
        for role in site.map_or(&[][..], |s| &s.roles) {
            if let Role::Entry(func) | Role::Return(Some(func)) = *role {
                self.disarm_function(func, "runs with signals blocked");
            }
        }
        self.tracer.pass(hit);
    }

    fn disarm_function(&mut self, func: usize, why: &str) {
        let plan = self.plan.clone();
        if let Some(rate) = self.rates.get_mut(func) {
            rate.disarmed = true;
        }
        for (slot, site) in self.sites.clone().into_iter().enumerate() {
            let Some(site) = plan.sites.get(site) else {
                continue;
            };
            let only_this = site
                .roles
                .iter()
                .all(|r| matches!(r, Role::Entry(f) | Role::Return(Some(f)) if *f == func));
            if only_this && let Err(error) = self.tracer.disarm(slot) {
                tracing::debug!(%error, "a site stays armed");
            }
        }
        // Nobody will see how they end, nor may they be mistaken for unwound.
        let open = self.join.take_function(func, self.clock.now());
        self.emit(open);
        if let Some(f) = plan.functions.get(func) {
            self.messages.push(format!("{} {why}: disarmed", f.name));
        }
    }
}
