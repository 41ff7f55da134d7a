//! The other engine: sites jump into generated code, whose records are taken
//! out of the ring on a timer. Nobody traces the target meanwhile.
//!
//! Joining, decoding and output are the same as with traps: each record is
//! shown to them as if its thread still stood at the site ([`past`]).

mod captures;
mod gates;
mod past;
mod ticks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SessionError;
use super::calls::Calls;
use super::control::{Control, StopReason};
use super::engine::{Options, Outcome, Start, Stats};
use super::report::Seen;
use super::target::Target;
use crate::arch::jump::{GOffsets, JumpSite, Next, Reader};
use crate::arch::unit::{CannotJump, Interiors};
use crate::golang::family::{Flow, family_of};
use crate::golang::resting::{Resting, Stopped};
use crate::probe::hash::WordMap;
use crate::probe::jump::JumpPlan;
use crate::probe::plan::{Event, Plan, Role, Site};
use crate::process::tracer::Ending;
use crate::process::{Jumped, Jumps, ProcessError, ProcessMemory, Tracer};
use crate::record::{Conn, End};
use crate::sink::queue::Sender;
use crate::sys::{Regs, tsc};
use captures::{MAX_PAYLOAD, SiteRecord};
use gates::Gates;
use past::Past;
use ticks::Ticks;

/// Bytes of the ring.
const RING: u64 = 64 << 20;

/// How long the ring is left alone when nothing was in it.
/// Each look interrupts somebody on a busy machine; what comes meanwhile should
/// fit a second level cache.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a record may stay unfinished until it is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether the target is still there.
const LOOK: Duration = Duration::from_millis(50);

/// With so many records behind its beginning, a ring that was read empty goes on
/// at its beginning.
const FOLD: u32 = 1024;

/// Records that are taken before anything else is looked at.
const BATCH: usize = 4096;

/// With so many calls waiting for the writer, records stay in the ring as long
/// as it has room: it is the larger buffer.
const ENOUGH: usize = BATCH;

/// How long a writer that takes nothing is waited for at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why a session cannot fire by jumps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoJumps {
    /// Asked for something that jumps do not do.
    #[error("{0} needs traps")]
    Needs(&'static str),
    /// The machine.
    #[error("{0}")]
    Machine(String),
    /// A site has to trap, and with it its function.
    #[error("{function}: {why}")]
    Site {
        /// Whose site.
        function: String,
        /// Why.
        why: CannotJump,
    },
    /// More is to be recorded of a function than fits.
    #[error("{0} has more arguments than a record holds")]
    TooMuch(String),
}

/// True reasons why the machine or the options forbid jumps.
pub fn unfit(plan: &Plan, options: &Options, minor: Option<u32>) -> Option<NoJumps> {
    let reads = |f: &crate::probe::plan::FunctionPlan| {
        let family = family_of(&f.name, minor);
        family.is_some_and(|f| f.buffer.is_some() && f.flow != Flow::Out)
    };
    if options.stack > 0 || options.stacks.iter().any(|s| *s > 0) {
        return Some(NoJumps::Needs("--stack"));
    }
    if options.max_rate.is_some() {
        return Some(NoJumps::Needs("--max-rate"));
    }
    if options.payload > MAX_PAYLOAD {
        return Some(NoJumps::Needs("--payload of more than 1024 bytes"));
    }
    if options.payload > 0 && plan.functions.iter().any(reads) {
        return Some(NoJumps::Needs("--payload of what is read"));
    }
    tsc::unfit().map(NoJumps::Machine)
}

/// The first site that has to trap, of those that a session needs: its
/// functions' own, and those that tell how calls end.
pub fn first_trap(plan: &Plan, jumps: &JumpPlan) -> Option<NoJumps> {
    let (index, why) = jumps
        .traps()
        .find(|(index, _)| plan.sites.get(*index).is_some_and(|s| is_wanted(&s.roles)))?;
    let site = plan.sites.get(index)?;
    let own = site.roles.iter().find_map(|role| match role {
        Role::Entry(f) | Role::Return(Some(f)) => plan.functions.get(*f).map(|f| f.name.clone()),
        Role::Event(event) => Event::ALL
            .iter()
            .find(|(e, _)| e == event)
            .map(|(_, name)| (*name).to_owned()),
        Role::Return(None) => None,
    });
    Some(NoJumps::Site {
        function: own.unwrap_or_else(|| format!("the function at {}", site.at)),
        why,
    })
}

/// `runtime.main` is for installing the trap handler alone.
fn is_wanted(roles: &[Role]) -> bool {
    roles.iter().any(|r| *r != Role::Event(Event::Main))
}

/// One session on one target, by jumps.
pub struct JumpEngine {
    jumped: Option<Jumped>,
    pid: i32,
    calls: Calls,
    plan: Arc<Plan>,
    records: Arc<[SiteRecord]>,
    live: Vec<u64>,
    reader: Reader,
    words: Vec<u64>,
    ticks: Ticks,
    no_regs: Regs,
    options: Options,
    control: Control,
    /// Connections by the words written down of them, since the batch began.
    conns: WordMap<Vec<u64>, Option<Arc<Conn>>>,
    unfinished: Option<Instant>,
    told_lost: u64,
    messages: Vec<String>,
    pause: Duration,
    sites: usize,
}

/// What could not be begun, and the tracer for another way.
pub type Failed = Box<(Tracer, SessionError)>;

impl JumpEngine {
    /// Puts the plan's sites into the target as jumps, and lets go of it.
    #[allow(
        clippy::too_many_arguments,
        reason = "as for the engine of traps, and the jumps"
    )]
    pub fn arm(
        mut tracer: Tracer,
        target: &Target,
        plan: Arc<Plan>,
        jumps: &JumpPlan,
        options: Options,
        start: Start,
        sender: Arc<Sender>,
        control: Control,
    ) -> Result<JumpEngine, Failed> {
        let mut messages = Vec::new();
        match tracer.clean_leftover(target.text()) {
            Ok(true) => messages
                .push("took out what a gotap that was killed had left in the target".to_owned()),
            Ok(false) => {}
            Err(error) => return Err(Box::new((tracer, error.into()))),
        }
        let mut calls = Calls::new(target, plan.clone(), &options, sender);
        calls.gather();
        let (records, sites, marked) = match draw(&calls, target, &plan, jumps, &options) {
            Ok(drawn) => drawn,
            Err(why) => return Err(Box::new((tracer, SessionError::NoJumps(why)))),
        };
        calls.mark(marked);
        let g = GOffsets {
            goid: target.layouts.g.goid as i32,
            stack_hi: target.layouts.g.stack_hi as i32,
        };
        let pid = tracer.pid();
        let no_regs = crate::sys::no_registers();
        let ticks = Ticks::new(&calls.clock);
        let order = Jumps {
            sites: &sites,
            text: target.text(),
            ring: RING,
            g,
        };
        let resting = Resting::prepare(&target.image, target.bias);
        // Most stack checks have no place where a goroutine could rest.
        let anywhere = jumps.sites.iter().any(|s| !s.rests.is_empty());
        let mut parked = |memory: &ProcessMemory, inside: &Interiors, pointers: &[u64]| {
            let stopped = Stopped {
                memory,
                layouts: &target.layouts,
                globals: calls.reporter.globals(),
                bias: target.bias,
                stack_pointers: pointers,
            };
            // Not to know is to try again.
            anywhere
                && start == Start::Attached
                && resting
                    .busy(stopped, inside)
                    .map_or(true, |b| !b.is_empty())
        };
        let jumped = tracer
            .jump_in(&order, &mut parked)
            .map_err(|failed| Box::new((failed.0, failed.1.into())))?;
        let layout = jumped.ring().1;
        let mut engine = JumpEngine {
            pid,
            pause: jumped.pause,
            sites: jumped.sites(),
            live: plan
                .sites
                .iter()
                .map(|s| target.bias.live(s.at).0)
                .collect(),
            words: vec![0; layout.record as usize / 8],
            reader: Reader::new(layout),
            jumped: Some(jumped),
            calls,
            plan,
            records: records.into(),
            ticks,
            no_regs,
            options,
            control,
            conns: WordMap::default(),
            unfinished: None,
            told_lost: 0,
            messages,
        };
        if start == Start::Attached
            && let Some(jumped) = &engine.jumped
        {
            engine
                .calls
                .find_running(target, jumped.memory(), true, &|_| true);
            let (ring, layout) = jumped.ring();
            for (goid, depth) in engine.calls.take_marks() {
                layout.leave_mark(ring, goid, depth);
            }
        }
        Ok(engine)
    }

    /// How many sites jump.
    pub fn armed_sites(&self) -> usize {
        self.sites
    }

    /// How long all threads of the target were stopped.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// What a user should be told, since the last time.
    pub fn take_messages(&mut self) -> Vec<String> {
        std::mem::take(&mut self.messages)
    }

    /// Numbers so far.
    pub fn stats(&self) -> Stats {
        self.calls.stats
    }

    /// Records that were taken out of the ring, and those that were lost.
    pub fn ring(&self) -> (u64, u64) {
        (self.reader.received(), self.told_lost)
    }

    /// How many ids calls have been given so far, by earlier sessions too.
    pub fn ids_given(&self) -> u64 {
        self.calls.join.begun()
    }

    /// How a launched program ended, if it has by now.
    pub fn try_reap(&self) -> Option<Ending> {
        crate::process::jump::try_reap(self.pid)
    }

    /// Traces until something ends it, then leaves the target as it was.
    /// `tell` is given messages for the user as they come. The second answer is
    /// what went wrong in leaving.
    pub fn run(&mut self, tell: &mut dyn FnMut(String)) -> (Outcome, Result<(), ProcessError>) {
        let Some(jumped) = self.jumped.take() else {
            return (Outcome::Stopped(StopReason::Asked), Ok(()));
        };
        let outcome = self.follow(&jumped, tell);
        let (end, left) = match outcome {
            Outcome::Stopped(_) | Outcome::Suspended => (End::Open, jumped.leave()),
            Outcome::Ended(_) | Outcome::Exec => (End::Exit, Ok(())),
        };
        self.drain_all(&jumped);
        self.tell_lost(&jumped);
        let now = self.calls.clock.now();
        let open = self.calls.join.drain(end, now);
        self.calls.emit(open);
        self.calls.send_gathered();
        (outcome, left)
    }

    /// Takes what was written until the last jump was out; nobody writes any more.
    fn drain_all(&mut self, jumped: &Jumped) {
        loop {
            self.wait_for_writer();
            if self.drain(jumped) > 0 {
                continue;
            }
            if self.unread(jumped) == 0 {
                return;
            }
            self.reader.skip();
        }
    }

    fn wait_for_writer(&self) {
        let since = Instant::now();
        while self.calls.waiting() >= ENOUGH && since.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many records lie in the ring.
    fn unread(&self, jumped: &Jumped) -> u64 {
        let written = self.reader.written(jumped.ring().0);
        written.wrapping_sub(self.reader.received().wrapping_add(self.reader.lost()))
    }

    fn follow(&mut self, jumped: &Jumped, tell: &mut dyn FnMut(String)) -> Outcome {
        let mut looked = Instant::now();
        loop {
            if let Some(reason) = self.control.stopped() {
                return Outcome::Stopped(reason);
            }
            if self.control.take_suspend() {
                return Outcome::Suspended;
            }
            if self.control.take_tick() {
                self.tick(jumped);
            }
            for message in self.messages.drain(..) {
                tell(message);
            }
            let half = u64::from(jumped.ring().1.count) / 2;
            let waits = self.calls.waiting() >= ENOUGH && self.unread(jumped) < half;
            let taken = if waits { 0 } else { self.drain(jumped) };
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

    /// Takes what is in the ring; how many records that were.
    fn drain(&mut self, jumped: &Jumped) -> usize {
        let (ring, _) = jumped.ring();
        let mut words = std::mem::take(&mut self.words);
        let mut taken = 0;
        while taken < BATCH {
            match self.reader.next(ring, &mut words) {
                Next::Record => {
                    self.unfinished = None;
                    self.on_record(&words, jumped.memory());
                }
                Next::Lost => {}
                Next::Nothing => break,
                Next::Unfinished => {
                    let since = *self.unfinished.get_or_insert_with(Instant::now);
                    if since.elapsed() < PATIENCE {
                        break;
                    }
                    self.unfinished = None;
                    self.reader.skip();
                }
            }
            taken += 1;
            // Others may write again soon, not only after the whole batch.
            if taken % 256 == 0 {
                self.reader.release(ring);
            }
        }
        self.reader.release(ring);
        if taken < BATCH {
            self.reader.fold(ring, FOLD);
        }
        let layout = jumped.ring().1;
        for (goid, depth) in self.calls.take_marks() {
            layout.take_mark(ring, goid, depth);
        }
        self.calls.send_gathered();
        self.words = words;
        taken
    }

    fn on_record(&mut self, words: &[u64], memory: &ProcessMemory) {
        let (plan, records) = (self.plan.clone(), self.records.clone());
        let word = |i: usize| words.get(i).copied().unwrap_or(0);
        let Ok(index) = usize::try_from(word(3)) else {
            return;
        };
        let (Some(site), Some(record), Some(at)) = (
            plan.sites.get(index),
            records.get(index),
            self.live.get(index),
        ) else {
            return;
        };
        self.calls.stats.hits += 1;
        let at_ns = self.ticks.ns(word(2));
        let mut past = Past::new(words, record, *at, self.no_regs, memory);
        let conn = self.connection(site, record, words, &mut past);
        let seen = Seen {
            conn: conn.as_ref(),
            ..past.seen()
        };
        for role in &site.roles {
            match *role {
                Role::Entry(func) => self.calls.on_entry(func, &seen, Some(at_ns)),
                Role::Return(func) => self.calls.on_return(func, &seen, at_ns),
                Role::Event(event) => self.calls.on_event(event, &seen, at_ns),
            }
        }
        self.calls.emit_ended();
    }

    /// The connection of a call that begins. Records of one batch that have the
    /// same words share it.
    fn connection(
        &mut self,
        site: &Site,
        record: &SiteRecord,
        words: &[u64],
        past: &mut Past<'_>,
    ) -> Option<Arc<Conn>> {
        let (at, fields) = record.conn.as_ref()?;
        let key = words.get(*at..*at + 1 + fields.fields.len())?;
        if let Some(known) = self.conns.get(key) {
            // What a RET gives is read there.
            return known.clone();
        }
        past.check_connection(words, record);
        let func = site.roles.iter().find_map(|role| match role {
            Role::Entry(func) => Some(*func),
            Role::Return(_) | Role::Event(_) => None,
        })?;
        let mut conn = self.calls.reporter.receiver(func, &past.seen());
        if past.conn_changed
            && let Some(conn) = &mut conn
        {
            Arc::make_mut(conn).note = Some("closed since");
        }
        self.conns.insert(key.to_vec(), conn.clone());
        conn
    }

    fn tick(&mut self, jumped: &Jumped) {
        let now = self.calls.clock.now();
        self.calls.clock.adjust();
        self.ticks.adjust(&self.calls.clock);
        self.conns.clear();
        self.tell_lost(jumped);
        if self
            .options
            .limit
            .is_some_and(|limit| now >= limit.as_nanos() as u64)
        {
            self.control.stop(StopReason::Time);
        }
        if let Some(slow) = self.options.slow {
            self.calls.report_slow(now, slow);
        }
        self.calls.send_gathered();
    }

    fn tell_lost(&mut self, jumped: &Jumped) {
        let lost = self.reader.dropped(jumped.ring().0) + self.reader.lost();
        self.calls
            .gap(lost.saturating_sub(self.told_lost), "ring full");
        self.told_lost = lost;
    }
}

/// What each site records, by its place in the plan, and the sites themselves.
fn draw(
    calls: &Calls,
    target: &Target,
    plan: &Plan,
    jumps: &JumpPlan,
    options: &Options,
) -> Result<(Vec<SiteRecord>, Vec<JumpSite>, Vec<bool>), NoJumps> {
    let gates = Gates::new(&calls.reporter, plan, options);
    let ends = |own| captures::ends_here(plan, own);
    let mut records = vec![SiteRecord::default(); plan.sites.len()];
    let mut sites = Vec::new();
    for (index, unit) in jumps.units() {
        let Some(site) = plan.sites.get(index).filter(|s| is_wanted(&s.roles)) else {
            continue;
        };
        let record = captures::of_site(&calls.reporter, plan, &site.roles, options.payload)
            .ok_or_else(|| NoJumps::TooMuch(site.at.to_string()))?;
        let mut unit = unit.clone();
        unit.at = target.bias.live(crate::addr::ImageAddr(unit.at)).0;
        sites.push(JumpSite {
            unit,
            shape: record
                .shape
                .clone()
                .behind(gates.of_site(&site.roles, &ends)),
            id: index as u32,
        });
        if let Some(place) = records.get_mut(index) {
            *place = record;
        }
    }
    let marked = (0..plan.functions.len()).map(|f| gates.marks(f)).collect();
    Ok((records, sites, marked))
}
