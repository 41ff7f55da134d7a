//! The tracer of a session: attached while tracepoints are on, and not else.

use std::sync::mpsc::Sender as EventSender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::compile::plan_all;
use super::output::Output;
use super::points::{Points, Tracepoint};
use super::shell::Event;
use super::watcher::{Figures, Watcher};
use crate::probe::plan::{PlaceWanted, Plan, Wanted};
use crate::script::command::Strength;
use crate::session::look::Source;
use crate::session::watch::Questions;
use crate::session::{
    Answer, Ended, Hook, Keeper, Leaving, Live, Options, Outcome, Said, Stats, Target, Watch,
};
use crate::sink::Color;
use crate::sink::queue::{Receiver, Sender, queue};
use crate::sink::run::{Counters, Selection, Stop, run_sink};

/// Records between the tracer and the writer; more than fit are counted as lost.
const QUEUE: usize = 1 << 16;

/// Attaches, arms, leaves.
pub struct Tracing {
    pid: Option<i32>,
    target: Arc<Target>,
    events: EventSender<Event>,
    live: Option<Live>,
    /// Counts the times it attached.
    session: u64,
    /// Every function that was wanted since it attached, in the plan's order.
    wanted: Vec<(u32, bool)>,
    sender: Option<Arc<Sender>>,
    writer: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
    ids_given: u64,
    held: Stats,
    left_badly: Option<String>,
    /// Attached at least once.
    used: bool,
    /// It stays attached, although nothing may be armed.
    stays: bool,
    /// How long a stop may last.
    max_stop: Option<Duration>,
    /// Threads that stay for copies.
    keepers: Vec<Keeper>,
}

/// An engine that runs before its session does, and where its records go.
pub struct Begun {
    /// The engine, whose news have number 1.
    pub live: Live,
    /// Its records.
    pub records: (Arc<Sender>, Receiver),
}

/// Where records of an engine go.
pub fn records() -> (Arc<Sender>, Receiver) {
    let (sender, receiver) = queue(QUEUE);
    (Arc::new(sender), receiver)
}

/// How a session ended.
pub struct Left {
    /// For the user.
    pub lines: Vec<String>,
    /// The target is as it was.
    pub well: bool,
}

impl Tracing {
    /// Not attached, unless it has begun before. Records go to `out`.
    pub fn new(
        source: &Source,
        points: &Arc<Mutex<Points>>,
        figures: &Arc<Mutex<Figures>>,
        out: &Output,
        terminal: bool,
        events: EventSender<Event>,
        begun: Option<Begun>,
    ) -> Tracing {
        let (live, (sender, receiver)) = match begun {
            Some(begun) => (Some(begun.live), begun.records),
            None => (None, records()),
        };
        let counters = Arc::new(Counters::default());
        let color = if terminal && !no_color() {
            Color::Always
        } else {
            Color::Never
        };
        let said = out.clone();
        let mut watcher = Watcher::new(
            points.clone(),
            figures.clone(),
            out.clone(),
            color,
            Box::new(move |text| said.say(&text, terminal)),
        );
        let own = counters.clone();
        let gone = events.clone();
        let writer = std::thread::spawn(move || {
            let selection = Selection::default();
            let mut on_stop = |_: Stop| drop(gone.send(Event::OutputGone));
            if let Err(error) = run_sink(receiver, &selection, &mut watcher, &own, &mut on_stop) {
                tracing::debug!(%error, "the records cannot be written");
            }
        });
        Tracing {
            pid: source.pid,
            target: source.target.clone(),
            events,
            session: u64::from(live.is_some()),
            used: live.is_some(),
            stays: live.is_some(),
            live,
            wanted: Vec::new(),
            sender: Some(sender),
            writer: Some(writer),
            counters,
            ids_given: 0,
            held: Stats::default(),
            left_badly: None,
            max_stop: None,
            keepers: Vec::new(),
        }
    }

    /// It is attached.
    pub fn is_running(&self) -> bool {
        self.live.is_some()
    }

    /// The number belongs to the present attachment.
    pub fn is_session(&self, session: u64) -> bool {
        self.session == session && self.live.is_some()
    }

    /// Arms what the tracepoints that are on want, and nothing else; attaches
    /// for the first, leaves after the last.
    pub fn apply(&mut self, points: &Points) -> Result<(), String> {
        let on: Vec<(u32, bool, usize)> = points
            .all()
            .iter()
            .filter(|p| p.enabled && p.is_trace())
            .flat_map(|p| {
                let frames = p.frames();
                p.functions.iter().map(move |(f, _)| (*f, p.exact, frames))
            })
            .collect();
        let breaks: Vec<&Tracepoint> = points
            .all()
            .iter()
            .filter(|p| p.enabled && !p.is_trace())
            .collect();
        if on.is_empty() && breaks.is_empty() && !self.stays {
            self.leave();
            return Ok(());
        }
        let Some(pid) = self.pid else {
            return Err("a core file runs no code: there is nothing to trace".to_owned());
        };
        if self.live.as_ref().is_some_and(Live::is_over) {
            // Its end is told when its event comes.
            return Err("the target is gone".to_owned());
        }
        if self.live.is_none() {
            self.wanted.clear();
        }
        // Arguments are read as the decoder of their function says.
        let entered = breaks.iter().flat_map(|p| &p.places).filter(|p| p.entry);
        let entered = entered.map(|p| (p.function, true));
        for (index, exact) in on.iter().map(|(f, exact, _)| (*f, *exact)).chain(entered) {
            match self.wanted.iter_mut().find(|(known, _)| *known == index) {
                Some((_, named)) => *named |= exact,
                None => self.wanted.push((index, exact)),
            }
        }
        let target = self.target.clone();
        let wanted: Vec<Wanted<'_>> = self
            .wanted
            .iter()
            .filter_map(|(index, exact)| {
                let function = target.image.functions().get(*index as usize)?;
                Some(Wanted {
                    function,
                    exact: *exact,
                })
            })
            .collect();
        let places: Vec<PlaceWanted> = breaks
            .iter()
            .flat_map(|p| p.places.iter().map(|place| place.wanted))
            .collect();
        let plan = plan_all(&target.image, &wanted, &places).map_err(|e| e.to_string())?;
        let plan = Arc::new(plan);
        let watched = |index: u32| on.iter().filter(move |(f, _, _)| *f == index);
        let options = Options {
            stacks: plan
                .functions
                .iter()
                .map(|f| watched(f.index).map(|(_, _, n)| *n).max().unwrap_or(0))
                .collect(),
            watches: plan
                .functions
                .iter()
                .enumerate()
                .map(|(at, f)| watch(points, f.index, &|| Leaving::of(&target, &plan, at)))
                .collect(),
            ids_given: self.ids_given,
            watched: plan
                .functions
                .iter()
                .map(|f| watched(f.index).next().is_some())
                .collect(),
            hooks: hooks(&breaks, &plan),
            ..Options::default()
        };
        if let Some(live) = &self.live {
            let armed = live.change(&plan, options).map_err(|e| e.to_string())?;
            return refused(&armed.refused);
        }
        let Some(sender) = self.sender.clone() else {
            return Err("the session is over".to_owned());
        };
        self.session += 1;
        let (session, events) = (self.session, self.events.clone());
        let say = move |said: Said| drop(events.send(Event::Tracer(session, said)));
        let (live, armed) = Live::start(pid, target, plan, options, sender, say)
            .map_err(|error| error.to_string())?;
        live.max_stop(self.max_stop);
        self.live = Some(live);
        self.used = true;
        refused(&armed.refused)
    }

    /// What reaches the tracer thread, while it is attached.
    pub fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }

    /// It is to stay attached, whatever is armed.
    pub fn keep(&mut self, stays: bool) {
        self.stays = stays;
    }

    /// How long a stop may last, from the next one on.
    pub fn max_stop(&mut self, longest: Option<Duration>) {
        self.max_stop = longest;
        if let Some(live) = &self.live {
            live.max_stop(longest);
        }
    }

    /// Takes everything out of the target.
    pub fn leave(&mut self) {
        if let Some(ended) = self.end() {
            self.note(&ended);
        }
        self.wanted.clear();
    }

    fn end(&mut self) -> Option<Ended> {
        let (ended, keeper) = self.live.take()?.leave();
        self.keepers.retain(|keeper| !keeper.is_done());
        self.keepers.extend(keeper);
        ended
    }

    /// The process.
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    fn note(&mut self, ended: &Ended) {
        self.ids_given = ended.ids_given;
        self.held.hits += ended.stats.hits;
        self.held.held_ns += ended.stats.held_ns;
        self.held.dismissed += ended.stats.dismissed;
        if let Err(error) = &ended.left {
            self.left_badly = Some(error.to_string());
        }
    }

    /// The tracer came to its end by itself: what to say. `None` for one that
    /// was left before.
    pub fn ended(&mut self, session: u64) -> Option<String> {
        if !self.is_session(session) {
            return None;
        }
        let ended = self.end()?;
        self.note(&ended);
        match ended.outcome {
            Outcome::Ended(ending) => Some(format!("the target {ending}")),
            Outcome::Exec => Some("the target runs another program now (exec)".to_owned()),
            Outcome::Stopped(_) | Outcome::Suspended => None,
        }
    }

    /// Leaves, and waits until all records are written, but not for ever.
    pub fn finish(&mut self) -> Left {
        self.leave();
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
            while !writer.is_finished() && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        // The kernel kills what is left of them when we end.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while self.keepers.iter().any(|k| !k.is_done()) && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let mut lines = Vec::new();
        let Stats { hits, held_ns, .. } = self.held;
        if hits > 0 {
            lines.push(format!(
                "{hits} stops at sites; gotap held a thread {:.1} µs at each; durations are too \
                 long by one wake-up of gotap",
                held_ns as f64 / hits as f64 / 1e3,
            ));
        }
        if let Some(error) = &self.left_badly {
            lines.push(format!(
                "the target could not be left in good order: {error}"
            ));
        }
        if self.used {
            lines.push(format!(
                "{} calls seen, {} still open, {} lost",
                self.counters.seen() + self.held.dismissed,
                self.counters.open(),
                self.counters.lost(),
            ));
        }
        Left {
            lines,
            well: self.left_badly.is_none(),
        }
    }
}

/// What all tracepoints that are on ask of the calls of a function.
fn watch(
    points: &Points,
    function: u32,
    leaving: &dyn Fn() -> Option<Leaving>,
) -> Option<Arc<Watch>> {
    let mut all = Questions::default();
    let mut any = false;
    let mut always = false;
    for point in points.all().iter().filter(|p| p.enabled && p.is_trace()) {
        let Some(asked) = point.asked_of(function) else {
            // Without a question, every call is wanted.
            always |= point.functions.iter().any(|(f, _)| *f == function);
            continue;
        };
        any = true;
        let Questions {
            scope,
            early,
            at_entry,
            at_return,
            locals,
            ..
        } = asked.questions.clone();
        // A call that one of them wants is told of.
        always |= early.is_empty();
        all.scope = all.scope.or(scope);
        all.early.extend(early);
        all.at_entry.extend(at_entry);
        all.at_return.extend(at_return);
        all.locals |= locals;
        all.limits = point.limits;
    }
    if always {
        all.early.clear();
    }
    if all.locals {
        all.leaving = leaving().map(Arc::new);
    }
    let watch = any.then(|| Watch::new(all))?;
    (!watch.is_empty()).then(|| Arc::new(watch))
}

/// What is asked where breakpoints stand.
fn hooks(breaks: &[&Tracepoint], plan: &Plan) -> Vec<Hook> {
    let all = breaks
        .iter()
        .flat_map(|p| p.places.iter().map(move |at| (p, at)));
    all.enumerate()
        .map(|(place, (point, at))| Hook {
            id: point.id,
            answer: match point.point.strength {
                Strength::Snap => Answer::Snap,
                Strength::Break => Answer::Stop,
                Strength::Trace => Answer::Record,
            },
            place,
            func: at
                .entry
                .then(|| plan.functions.iter().position(|f| f.index == at.function))
                .flatten(),
            scope: at.scope.clone(),
            test: point.test(),
            takes: point.takes(at.source.clone()),
            copies: point.rule.clone(),
        })
        .collect()
}

fn refused(lines: &[String]) -> Result<(), String> {
    if lines.is_empty() {
        Ok(())
    } else {
        Err(lines.join("\n"))
    }
}

/// <https://no-color.org>
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}
