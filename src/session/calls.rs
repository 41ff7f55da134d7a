//! From what was seen at sites to records: whichever way a site fires.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::engine::Options;
use super::report::{GInfo, Reporter, Seen};
use crate::probe::join::{Ended, Entry, EntrySite, Join, Stack};
use crate::probe::plan::{Event as RuntimeEvent, Plan};
use crate::process::ProcessMemory;
use crate::record::{Call, End, Record};
use crate::session::target::Target;
use crate::sink::queue::Sender;

/// With more goroutines than this, those that are parked in traced functions
/// are looked for before anything is attached: threads that hit a site would
/// wait for it. One that returns in between is taken for running until its next
/// call shows that it is not.
const MANY: u64 = 256;
/// How long records wait for a slow reader once the target has been let go.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// All that is worked out of a program and a plan before a process is touched:
/// threads of the target that meet a signal wait from the moment it is attached.
pub struct Prepared {
    pub(super) calls: Calls,
    /// Who is inside has been looked for.
    pub(super) looked: bool,
}

impl Prepared {
    /// For a session on `target`, by `plan`. `running`: a process that runs, whose
    /// calls that are open already are looked for, if looking takes long.
    pub fn new(
        target: &Target,
        plan: Arc<Plan>,
        options: &Options,
        sender: Arc<Sender>,
        running: Option<i32>,
    ) -> Prepared {
        let mut calls = Calls::new(target, plan, options, sender);
        let mut looked = false;
        if let Some(pid) = running {
            let memory = ProcessMemory::read_only(pid);
            if calls.reporter.goroutines(target, &memory) > MANY {
                calls.find_running(target, &memory, true, &|_| true);
                looked = true;
            }
        }
        Prepared { calls, looked }
    }
}

/// Most open calls of functions whose RETs are not all recorded; a few hundred bytes
/// each.
const MAX_GATED: usize = 1 << 17;

/// What is kept with an open call; `None`: nobody wants to be told of it.
pub(super) type Begun = Option<Box<Call>>;

/// Numbers for the closing lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Stops at sites.
    pub hits: u64,
    /// Nanoseconds that threads were held at sites, from report to release.
    pub held_ns: u64,
    /// RETs of calls whose entry was not seen.
    pub unseen: u64,
    /// Calls that no condition wanted to be told of.
    pub dismissed: u64,
    /// Entries of which it could not be told whose they are: lost.
    pub unattributed: u64,
    /// Calls that did not return with what a condition asks of their results: they
    /// returned with something else, in another way, or are still open. Nobody is
    /// told of them.
    pub left_out: u64,
    /// Of those, how many were given up to save memory, before it was known.
    pub forgotten: u64,
    /// Calls that a condition leaves out at their entry are not counted at all.
    pub gated: bool,
}

/// One function's counter for `--max-rate`, and whether it is watched at all.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Rate {
    pub entries: u64,
    pub disarmed: bool,
}

/// The calls of one session: open ones, and where ended ones go.
pub(super) struct Calls {
    pub reporter: Reporter,
    pub plan: Arc<Plan>,
    pub clock: Clock,
    pub join: Join<Begun>,
    pub rates: Vec<Rate>,
    pub stats: Stats,
    /// Goroutines with open calls that end themselves.
    pub goexits: HashSet<Stack>,
    /// Below which depth the stacks of goroutines that recovered were cut last.
    recovered: HashMap<Stack, u64>,
    ended: Vec<Ended<Begun>>,
    sender: Arc<Sender>,
    /// Functions whose calls leave marks where they are let in
    /// ([`crate::arch::jump::handed`]); goroutine and depth of those that were found
    /// running, and of those whose marks are to be taken away.
    marked: Vec<bool>,
    found: Vec<(u64, u64)>,
    marks: Vec<(u64, u64)>,
    /// Functions whose RETs are only recorded where the results are wanted.
    gated: Vec<bool>,
    /// The RET that is looked at has taken its call's mark itself.
    pub mark_taken: bool,
    /// Calls of each function, for one of so many.
    every: Option<(u32, Vec<u64>)>,
    /// Records that go together, by [`Calls::send_gathered`].
    gathered: Option<Vec<Record>>,
}

impl Calls {
    pub fn new(target: &Target, plan: Arc<Plan>, options: &Options, sender: Arc<Sender>) -> Calls {
        Calls {
            reporter: Reporter::new(target, &plan, options),
            rates: vec![Rate::default(); plan.functions.len()],
            clock: Clock::new(),
            join: Join::counting_from(options.ids_given),
            goexits: HashSet::new(),
            recovered: HashMap::new(),
            ended: Vec::new(),
            stats: Stats::default(),
            sender,
            marked: Vec::new(),
            found: Vec::new(),
            marks: Vec::new(),
            gated: Vec::new(),
            mark_taken: false,
            every: options.every.map(|k| (k, vec![0; plan.functions.len()])),
            plan,
            gathered: None,
        }
    }

    /// Calls that were running before the sites were armed.
    pub fn find_running(
        &mut self,
        target: &Target,
        memory: &ProcessMemory,
        doubtful: bool,
        of: &dyn Fn(usize) -> bool,
    ) {
        let now = self.clock.now();
        let wall = self.clock.wall(now);
        let plan = self.plan.clone();
        let running = self.reporter.running(target, &plan, memory);
        for found in running.into_iter().filter(|found| of(found.func)) {
            let mut call = self.reporter.blank(found.func, 0);
            call.goid = Some(found.goid);
            call.time_ns = wall;
            call.since_attach = true;
            call.conn = found.conn;
            let stack = Stack::Goroutine(found.goid);
            let new = self.join.found_running(
                stack,
                found.func,
                found.depth,
                (now, doubtful),
                Some(Box::new(call)),
            );
            if new && self.is_marked(found.func) {
                self.found.push((found.goid, found.depth));
            }
        }
    }

    /// A function was entered, at `begin` if that is known, else about now.
    pub fn on_entry(&mut self, func: usize, seen: &Seen<'_>, begin: Option<u64>) {
        let plan = self.plan.clone();
        let Some(trap) = plan.functions.get(func).and_then(|f| f.trap.as_ref().ok()) else {
            return;
        };
        if let Some(rate) = self.rates.get_mut(func) {
            if rate.disarmed {
                return;
            }
            rate.entries += 1;
        }
        // Trampolines have counted themselves.
        if !self.is_marked(func)
            && let Some((k, counts)) = &mut self.every
            && let Some(count) = counts.get_mut(func)
        {
            let left_out = *count % u64::from(*k) != 0;
            *count += 1;
            if left_out {
                return;
            }
        }
        let site = EntrySite {
            func,
            branch_target: trap.branch_target,
            tail_callers: &trap.tail_callers,
            // Threads wait at traps.
            sure: begin.is_none(),
        };
        let Some((g, call)) = self.begun(func, seen) else {
            self.stats.unattributed += 1;
            return;
        };
        let now = begin.unwrap_or_else(|| self.clock.now());
        let wall = self.clock.wall(now);
        let call = call.map(|mut call| {
            call.time_ns = wall;
            call.late = seen.was_late();
            call
        });
        let begun = self
            .join
            .enter(g.stack, site, g.depth, now, || call, &mut self.ended);
        if matches!(begun, Entry::Again) && self.is_marked(func) {
            self.marks.push((g.stack.number(), g.depth));
        }
    }

    /// Whose call begins, and what is known of it, if anybody wants to know.
    fn begun(&mut self, func: usize, seen: &Seen<'_>) -> Option<(GInfo, Begun)> {
        let Some(watch) = self.reporter.watch(func) else {
            let (g, call) = self.reporter.entered(func, seen)?;
            return Some((g, Some(call)));
        };
        let quick = watch.is_quick();
        if quick {
            let g = self.reporter.g(seen)?;
            let mut call = self.reporter.blank(func, seen.tid);
            call.goid = g.goid();
            if self.reporter.dismisses(&watch, &call, seen) {
                self.stats.dismissed += 1;
                return Some((g, None));
            }
        }
        let (g, mut call) = self.reporter.entered(func, seen)?;
        if !quick && self.reporter.dismisses(&watch, &call, seen) {
            self.stats.dismissed += 1;
            return Some((g, None));
        }
        self.reporter.take(&watch, &mut call, seen, false);
        Some((g, Some(call)))
    }

    /// A function returns.
    pub fn on_return(&mut self, func: Option<usize>, seen: &Seen<'_>, arrived: u64) {
        let Some(g) = self.reporter.g(seen) else {
            return;
        };
        let recovered = self.recovered.get(&g.stack).map(|below| (*below, g.depth));
        if recovered.is_some_and(|(below, depth)| depth <= below) {
            self.recovered.remove(&g.stack);
        }
        let before = self.ended.len();
        let known = self.join.leave(g.stack, g.depth, arrived, &mut self.ended);
        for ended in self.ended.get_mut(before..).unwrap_or_default() {
            if ended.end == End::Return {
                let (func, Some(call)) = (ended.call.func, &mut ended.call.data) else {
                    continue;
                };
                self.reporter.returned(func, call, seen);
                call.late |= seen.was_late();
                if call.since_attach {
                    self.reporter.add_stack(func, call, seen, &g);
                }
                if let Some(watch) = self.reporter.watch(func) {
                    self.reporter.take(&watch, call, seen, true);
                    self.reporter.take_locals(&watch, call, seen, recovered);
                }
            }
        }
        if !known && let Some(func) = func {
            let disarmed = self.rates.get(func).is_some_and(|r| r.disarmed);
            // Its entry was seen, and left out.
            if disarmed || self.every.is_some() || self.is_marked(func) {
                return;
            }
            self.stats.unseen += 1;
            let lost = self.join.has_lost() || self.is_gated(func) && self.stats.forgotten > 0;
            let mut call = self.reporter.blank(func, seen.tid);
            call.id = self.join.unseen();
            call.goid = g.goid();
            call.since_attach = !lost;
            call.entry_lost = lost;
            call.time_ns = self.clock.wall(arrived);
            call.conn = self.reporter.spilled_conn(func, seen);
            self.reporter.returned(func, &mut call, seen);
            if let Some(watch) = self.reporter.watch(func) {
                self.reporter
                    .take_locals(&watch, &mut call, seen, recovered);
            }
            call.late = seen.was_late();
            self.reporter.add_stack(func, &mut call, seen, &g);
            call.end = End::Return;
            self.send(Box::new(call));
        }
    }

    /// Lines inside of functions were passed.
    pub fn passed(&mut self, passed: Vec<Call>, arrived: u64) {
        for mut call in passed {
            call.id = self.join.unseen();
            call.time_ns = self.clock.wall(arrived);
            self.send(Box::new(call));
        }
    }

    /// The runtime tells how calls end.
    pub fn on_event(&mut self, event: RuntimeEvent, seen: &Seen<'_>, arrived: u64) {
        match event {
            RuntimeEvent::Panic | RuntimeEvent::Goexit => {
                let Some(g) = self.reporter.g(seen) else {
                    return;
                };
                let goexit = event == RuntimeEvent::Goexit;
                self.join
                    .unwinding(g.stack, if goexit { End::Exit } else { End::Panic });
                // One that ends itself may do so again in a deferred function.
                if goexit && !self.join.open_on(g.stack).is_empty() {
                    self.goexits.insert(g.stack);
                }
            }
            RuntimeEvent::GoexitDone => {
                let Some(g) = self.reporter.g(seen) else {
                    return;
                };
                self.goexits.remove(&g.stack);
                self.recovered.remove(&g.stack);
                self.join.stack_gone(g.stack, arrived, &mut self.ended);
            }
            RuntimeEvent::Recovery => {
                if let Some((stack, below)) = self.reporter.recovered(seen.regs, seen.memory) {
                    if let Some(below) = below.filter(|_| !self.join.open_on(stack).is_empty()) {
                        self.recovered.insert(stack, below);
                    }
                    self.join.recovered(stack, below, arrived, &mut self.ended);
                }
            }
            RuntimeEvent::Main => {}
        }
    }

    /// Sends what has ended since the last time.
    pub fn emit_ended(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let mut ended = std::mem::take(&mut self.ended);
        self.emit(ended.drain(..));
        self.ended = ended;
    }

    /// Calls of these functions leave marks, and of those only wanted RETs are seen.
    pub fn gate(&mut self, marked: Vec<bool>, gated: Vec<bool>) {
        self.stats.gated |= marked.contains(&true);
        self.marked = marked;
        self.gated = gated;
    }

    fn is_gated(&self, func: usize) -> bool {
        self.gated.get(func).copied().unwrap_or(false)
    }

    /// Calls of which it will not be seen that they returned stay open until their
    /// goroutine calls again: where they become too many, the oldest are given up. One
    /// that is wanted after all is told as one whose entry was not seen.
    pub fn bound(&mut self) {
        if !self.gated.contains(&true) || self.join.open_count() <= MAX_GATED {
            return;
        }
        let gated = |func: usize| self.gated.get(func).copied().unwrap_or(false);
        let many = self.join.forget(gated, MAX_GATED / 2) as u64;
        self.stats.left_out += many;
        self.stats.forgotten += many;
    }

    fn is_marked(&self, func: usize) -> bool {
        self.marked.get(func).copied().unwrap_or(false)
    }

    /// Calls that were found running, whose marks are to be left: goroutine and
    /// depth.
    pub fn take_found(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.found)
    }

    /// Calls that have ended, whose marks are to be taken away.
    pub fn take_marks(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.marks)
    }

    /// Sends calls that ended.
    pub fn emit(&mut self, ended: impl IntoIterator<Item = Ended<Begun>>) {
        for one in ended {
            if self.is_marked(one.call.func) {
                let returned = one.end == End::Return;
                if !(returned && std::mem::take(&mut self.mark_taken)) {
                    self.marks.push((one.call.stack.number(), one.call.depth));
                }
            }
            if let Some(call) = self.told(one) {
                self.send(call);
            }
        }
    }

    /// [`Calls::emit`] at the end of a session: nobody of the target waits any
    /// more, so a slow reader is waited for, a stalled one not for long.
    pub fn emit_last(&mut self, ended: impl IntoIterator<Item = Ended<Begun>>) {
        for one in ended {
            let Some(call) = self.told(one) else { continue };
            let record = Record::Call(call);
            let _ = self.sender.send_within(record, LAST_PATIENCE);
        }
    }

    /// The record of a call that ended. What `--slow` has told of and is still
    /// open goes again, to readers that have not wanted it then.
    fn told(&mut self, one: Ended<Begun>) -> Begun {
        // The condition asks for results: it holds for none that has not returned.
        if one.end != End::Return && self.is_gated(one.call.func) {
            self.stats.left_out += 1;
            return None;
        }
        let mut call = one.call.data.filter(|_| !one.silent)?;
        call.id = one.call.id;
        call.parent = one.call.parent;
        call.dur_ns = one.call.began_ns.map(|b| one.at_ns.saturating_sub(b));
        call.doubtful = one.doubtful;
        if one.end == End::Lost {
            // When it ended is not known either.
            call.dur_ns = None;
            call.doubtful = false;
        }
        if call.since_attach {
            call.time_ns = self.clock.wall(one.at_ns);
        }
        call.end = one.end;
        Some(unfinished(call))
    }

    fn send(&mut self, call: Box<Call>) {
        match &mut self.gathered {
            Some(records) => records.push(Record::Call(call)),
            // A full queue counts what it drops, and tells the reader.
            None => drop(self.sender.send(Record::Call(call))),
        }
    }

    /// From now on records are sent by [`Calls::send_gathered`]: nobody waits
    /// for a single one.
    pub fn gather(&mut self) {
        self.gathered.get_or_insert_default();
    }

    /// Sends what was gathered.
    pub fn send_gathered(&mut self) {
        if let Some(records) = &mut self.gathered {
            self.sender.send_all(records);
        }
    }

    /// How many records wait for the writer.
    pub fn waiting(&self) -> usize {
        self.sender.waiting()
    }

    /// Tells of records that were lost.
    pub fn gap(&mut self, lost: u64, why: &'static str) {
        self.send_gathered();
        if lost > 0 {
            let _ = self.sender.send(Record::Gap { lost, why });
        }
    }

    /// Tells of calls that are open for longer than `slow`, once each.
    pub fn report_slow(&mut self, now: u64, slow: Duration) {
        let before = now.saturating_sub(slow.as_nanos() as u64);
        let mut slow_calls = Vec::new();
        self.join.take_slow(before, |open, _| {
            let Some(mut call) = open.data.as_deref().cloned() else {
                return;
            };
            call.id = open.id;
            call.parent = open.parent;
            call.dur_ns = open.began_ns.map(|b| now.saturating_sub(b));
            call.end = End::Open;
            slow_calls.push(unfinished(Box::new(call)));
        });
        for call in slow_calls {
            self.send(call);
        }
    }
}

/// What was to be read has not been read, unless the call returned.
fn unfinished(mut call: Box<Call>) -> Box<Call> {
    if call.end != End::Return && call.payload.as_ref().is_some_and(|p| p.bytes.is_empty()) {
        call.payload = None;
    }
    call
}
