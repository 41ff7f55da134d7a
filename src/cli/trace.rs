//! `gotap trace`: every matching call of a live Go process, one record each.
//!
//! ```text
//! gotap trace 'net.(*conn).Read' -p 4242
//! gotap trace --preset conn --where 'err != nil || dur > 10ms' -s 8 -p 4242
//! gotap trace 'net.*conn.*' -o json --for 30s -p 4242 > calls.jsonl
//! gotap trace 'main.*' -- ./server -addr :8080
//! ```
//!
//! A pattern is first tried as an exact Go name, else as an unanchored regular
//! expression. The target is never stopped as a whole; Ctrl-C takes everything
//! out of it again and lets it run on.

mod args;
mod firing;
mod planning;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;

pub use args::{Output, Preset, Style, TraceArgs};
use firing::{AnyEngine, Firing, Ready};
use planning::{list, make_plan, refusals, unseen_calls};

use super::messages::{self, Messages};
use super::written::{self, Wanted};
use crate::probe::plan::Plan;
use crate::process::ProcessError;
use crate::process::tracer::{Ending, Tracer};
use crate::script::{
    BadExpression, CALL_FACTS, CallNames, Checked, Simple, compile_condition, parse_condition,
};
use crate::session::{
    Control, Options, Outcome, SessionError, Start, Stats, StopReason, Target, value_names,
};
use crate::sink::Tee;
use crate::sink::queue::{Sender, queue};
use crate::sink::recording::RecordSink;
use crate::sink::run::{Counters, Selection, Stop, run_sink};
use crate::sys::{is_terminal, signals};
use crate::tape::Head;

/// Records between the tracer and the writer; more than fit are counted as lost.
const QUEUE: usize = 1 << 16;

/// How long a stalled reader is waited for at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs `gotap trace`.
pub fn run(args: &TraceArgs) -> anyhow::Result<()> {
    let began = Instant::now();
    if let Some(text) = &args.filter {
        // Its names are checked once the functions are known; wrong syntax now.
        parse_condition(text)?;
    }
    if args.list || args.plan {
        return list(args);
    }
    match args.pid {
        Some(pid) => {
            let target = Target::of_process(pid)?.with_symbols(args.symbols.as_deref())?;
            let firing = make_firing(args, &target, Start::Attached)?;
            let filter = compile_filter(args, &target, &firing.plan)?;
            let to = open_output(args, || {
                let exe = PathBuf::from(format!("/proc/{pid}/exe"));
                let program = std::fs::read_link(&exe).unwrap_or(exe);
                head(&target, &firing.plan, &program, pid)
            })?;
            // Until here Ctrl-C just ends gotap: nothing has been touched.
            signals::prepare().context("cannot set up signal handling")?;
            let tracing = Tracing::begin(args, filter, to, began)?;
            tracing.attached(pid, &target, firing)
        }
        None => launched(args, began),
    }
}

/// The filter, its names checked against the functions' arguments and results.
fn compile_filter(
    args: &TraceArgs,
    target: &Target,
    plan: &Plan,
) -> Result<Option<Checked>, BadExpression> {
    let Some(text) = &args.filter else {
        return Ok(None);
    };
    let (arguments, results) = value_names(target, plan);
    for fact in CALL_FACTS.iter().filter(|f| !SAME.contains(&f.name)) {
        let is_argument = arguments.iter().any(|a| **a == *fact.name);
        if is_argument && names(text, fact.name) {
            let name = fact.name;
            messages::print(&format!(
                "--where: `{name}` is gotap's ({}); a function's argument of that name is args.{name}",
                fact.about
            ));
        }
    }
    compile_condition(text, &CallNames::with_signatures(arguments, results)).map(Some)
}

/// Facts that say what an argument or a result of the same name says.
const SAME: &[&str] = &["fd", "network", "len", "n", "err"];

/// The text has this name, not behind a dot.
fn names(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    text.split(|c| !part(c)).any(|word| word == name)
}

/// What records are written to.
struct Opened {
    calls: Box<dyn Write + Send>,
    record: Option<(std::fs::File, Head)>,
}

/// `head` is asked for a recording alone.
fn open_output(args: &TraceArgs, head: impl FnOnce() -> Head) -> anyhow::Result<Opened> {
    let record = args.record.as_ref();
    let record = record.map(|path| Ok::<_, anyhow::Error>((written::create(path)?, head())));
    Ok(Opened {
        record: record.transpose()?,
        calls: written::open(args.out.as_deref())?,
    })
}

/// What a recording tells of the program.
fn head(target: &Target, plan: &Plan, program: &Path, pid: i32) -> Head {
    let (arguments, results) = value_names(target, plan);
    let names = |all: Vec<Arc<str>>| -> Vec<String> {
        let set: BTreeSet<Arc<str>> = all.into_iter().collect();
        set.iter().map(ToString::to_string).collect()
    };
    Head {
        gotap: env!("CARGO_PKG_VERSION").to_owned(),
        program: program.display().to_string(),
        go: target.image.go_version().text().to_owned(),
        pid,
        command: std::env::args().collect(),
        arguments: names(arguments),
        results: names(results),
    }
}

fn launched(args: &TraceArgs, began: Instant) -> anyhow::Result<()> {
    // What can be known before the program is started is checked before.
    let mut filter = None;
    let mut told = Head::default();
    if let Some(path) = find_program(args) {
        let target = Target::of_file(&path)?.with_symbols(args.symbols.as_deref())?;
        let firing = make_firing(args, &target, Start::Launched)?;
        filter = compile_filter(args, &target, &firing.plan)?;
        told = head(&target, &firing.plan, &path, 0);
    }
    let mut to = open_output(args, || told)?;
    signals::prepare().context("cannot set up signal handling")?;
    let free = args.out.is_some() || args.record.is_some() && !args.summary;
    let mut tracer = Tracer::launch(&args.program, !free)?;
    if let Some((_, head)) = &mut to.record {
        head.pid = tracer.pid();
    }
    let prepared = Target::of_process(tracer.pid()).and_then(|target| {
        let target = target.with_symbols(args.symbols.as_deref())?;
        let firing = make_firing(args, &target, Start::Launched)?;
        Ok((target, firing))
    });
    let (target, firing) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            tracer.abandon_launch();
            return Err(error.into());
        }
    };
    let tracing = match Tracing::begin(args, filter, to, began) {
        Ok(tracing) => tracing,
        Err(error) => {
            tracer.abandon_launch();
            return Err(error);
        }
    };
    tracing.started(tracer, &target, firing)
}

/// The executable that a program's name stands for, as execvp(3) looks for it.
fn find_program(args: &TraceArgs) -> Option<PathBuf> {
    let name = PathBuf::from(args.program.first()?);
    if name.components().count() > 1 {
        return Some(name);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(&name))
        .find(|p| p.is_file())
}

fn make_firing(args: &TraceArgs, target: &Target, start: Start) -> Result<Firing, SessionError> {
    let plan = make_plan(args, target, start, &BTreeSet::new())?;
    let without = |out: &BTreeSet<u32>| make_plan(args, target, start, out);
    let mut firing = Firing::choose(args, target, plan, &without)?;
    firing.note(unseen_calls(args, target));
    Ok(firing)
}

/// What is wanted of each call.
fn options(args: &TraceArgs) -> Options {
    Options {
        stack: args.stack,
        stacks: Vec::new(),
        watches: Vec::new(),
        payload: args.payload.unwrap_or(0),
        slow: args.slow,
        limit: args.time,
        max_rate: args.max_rate,
        every: args.every_nth,
        terms: Vec::new(),
        ids_given: 0,
        ..Options::default()
    }
}

/// One `gotap trace`, from the armed line to the last.
struct Tracing<'a> {
    args: &'a TraceArgs,
    began: Instant,
    messages: Messages,
    control: Control,
    sender: Arc<Sender>,
    counters: Arc<Counters>,
    /// Stops at sites, and for how long in all, of the sessions that are over.
    held: Cell<(u64, u64)>,
    /// Calls that were left out before there was a record.
    left_out: Cell<u64>,
    /// Tells when the sink thread has written everything.
    written: std::sync::mpsc::Receiver<std::io::Result<Stop>>,
    left_badly: Cell<Option<ProcessError>>,
    /// What the filter asks that can be asked before there is a record.
    terms: Vec<Simple>,
}

impl<'a> Tracing<'a> {
    fn begin(
        args: &'a TraceArgs,
        filter: Option<Checked>,
        to: Opened,
        began: Instant,
    ) -> anyhow::Result<Tracing<'a>> {
        let terms = filter.as_ref().map(Checked::simple_terms);
        let control = Control::default();
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = queue(QUEUE);
        let (tell, written) = channel();
        let mut sink = make_sink(args, to, &counters).context("cannot write to the recording")?;
        let selection = Selection {
            filter,
            limit: args.count,
        };
        let sink_control = control.clone();
        let sink_counters = counters.clone();
        std::thread::spawn(move || {
            let mut on_stop = |stop| {
                sink_control.stop(match stop {
                    Stop::Limit => StopReason::Limit,
                    Stop::BrokenPipe | Stop::Failed | Stop::Finished => StopReason::OutputClosed,
                });
            };
            let result = run_sink(
                receiver,
                &selection,
                &mut sink,
                &sink_counters,
                &mut on_stop,
            );
            let _ = tell.send(result);
        });
        listen_for_signals(&control);
        control.adopt();
        control.start_ticker();
        Ok(Tracing {
            args,
            began,
            messages: Messages::start(),
            control,
            sender: Arc::new(sender),
            counters,
            held: Cell::default(),
            left_out: Cell::default(),
            written,
            left_badly: Cell::new(None),
            terms: terms.unwrap_or_default(),
        })
    }

    fn options(&self) -> Options {
        Options {
            terms: self.terms.clone(),
            ..options(self.args)
        }
    }

    fn attached(self, pid: i32, target: &Target, mut firing: Firing) -> anyhow::Result<()> {
        let options = self.options();
        let prepared = firing.prepare(target, &options, &self.sender, pid, true)?;
        let tracer = Tracer::attach(pid)?;
        let (outcome, _) = self.sessions(tracer, prepared, target, firing, Start::Attached)?;
        self.finish(outcome, None)
    }

    fn started(self, tracer: Tracer, target: &Target, mut firing: Firing) -> anyhow::Result<()> {
        let options = self.options();
        let prepared = firing.prepare(target, &options, &self.sender, tracer.pid(), false)?;
        let (outcome, ending) = self.sessions(tracer, prepared, target, firing, Start::Launched)?;
        self.finish(outcome, ending)
    }

    /// One session, and a further one after each Ctrl-Z. When this returns the
    /// engine's end of the queue is closed: the writer knows that all is there.
    fn sessions(
        &self,
        tracer: Tracer,
        mut prepared: Ready,
        target: &Target,
        mut firing: Firing,
        start: Start,
    ) -> anyhow::Result<(Outcome, Option<Ending>)> {
        let pid = tracer.pid();
        let mut options = self.options();
        let first = Instant::now();
        let (mut tracer, mut start, mut began) = (tracer, start, self.began);
        loop {
            let (outcome, engine) = self.session(
                (tracer, prepared),
                target,
                &mut firing,
                &options,
                start,
                began,
            )?;
            if outcome != Outcome::Suspended {
                return Ok((outcome, engine.try_reap()));
            }
            options.ids_given = engine.ids_given();
            let left = |time: Duration| time.saturating_sub(first.elapsed());
            signals::suspend_self().context("cannot suspend")?;
            began = Instant::now();
            options.limit = self.args.time.map(left);
            start = Start::Attached;
            let again = firing
                .prepare(target, &options, &self.sender, pid, true)
                .and_then(|prepared| Ok((prepared, Tracer::attach(pid)?)));
            (prepared, tracer) = match again {
                Ok(again) => again,
                Err(SessionError::Process(
                    ProcessError::NoSuchProcess(_)
                    | ProcessError::Gone(_)
                    | ProcessError::NotTraceable { .. },
                )) => {
                    let ending = engine.try_reap().unwrap_or(Ending::Unknown);
                    return Ok((Outcome::Ended(ending), None));
                }
                Err(error) => return Err(error.into()),
            };
        }
    }

    fn session(
        &self,
        (tracer, prepared): (Tracer, Ready),
        target: &Target,
        firing: &mut Firing,
        options: &Options,
        start: Start,
        began: Instant,
    ) -> anyhow::Result<(Outcome, AnyEngine)> {
        let pid = tracer.pid();
        let mut engine = firing.arm(tracer, prepared, target, options, start, &self.control)?;
        for note in target.notes() {
            let version = target.image.go_version().text();
            self.messages.say(format!("{version}: {note}"));
        }
        for message in engine.take_messages() {
            self.messages.say(message);
        }
        for line in refusals(&firing.plan)
            .into_iter()
            .chain(firing.take_notes())
        {
            self.messages.say(line);
        }
        self.messages.say(format!(
            "armed {} sites in {} functions of pid {pid} in {:.0} ms{}{}",
            engine.armed_sites(),
            firing.plan.armed(),
            began.elapsed().as_secs_f64() * 1e3,
            engine.how(),
            self.how_to_end(),
        ));
        engine.start();
        let (outcome, left) = engine.run(&mut |message| self.messages.say(message));
        if let Err(error) = left {
            // Told at the end: what was seen comes first.
            self.left_badly.set(Some(error));
        }
        let stats = engine.stats();
        let Stats { hits, held_ns, .. } = stats;
        self.counted(&stats);
        let (hits_before, held_before) = self.held.get();
        // What came out of the ring held nobody.
        let (read, lost) = engine.ring().unwrap_or_default();
        let stops = hits.saturating_sub(read);
        self.held.set((hits_before + stops, held_before + held_ns));
        if engine.ring().is_some() {
            self.messages
                .say(format!("{read} records of the ring were read, {lost} lost"));
        }
        Ok((outcome, engine))
    }

    /// Calls of which nobody is told count as seen, and as filtered.
    fn counted(&self, stats: &Stats) {
        self.left_out.set(self.left_out.get() + stats.left_out);
        if stats.forgotten > 0 {
            self.messages.say(format!(
                "{} calls, the oldest, were given up to save memory before they returned",
                stats.forgotten
            ));
        }
        if stats.gated {
            self.messages
                .say("calls that are left out at their entry are not counted".to_owned());
        }
    }

    /// For people at a terminal who have not said when to end.
    fn how_to_end(&self) -> &'static str {
        let bounded = self.args.time.is_some() || self.args.count.is_some();
        if bounded || !self.args.program.is_empty() || !is_terminal(&std::io::stderr()) {
            return "";
        }
        "; Ctrl-C ends"
    }

    fn finish(self, outcome: Outcome, ending: Option<Ending>) -> anyhow::Result<()> {
        self.control.end();
        drop(self.sender);
        let written = self.written.recv_timeout(LAST_WORDS);
        match (outcome, ending) {
            (Outcome::Ended(ending), _) | (_, Some(ending)) => {
                self.messages.say(format!("the target {ending}"));
            }
            (Outcome::Exec, None) => {
                self.messages
                    .say("the target runs another program now (exec)".to_owned());
            }
            (Outcome::Stopped(_) | Outcome::Suspended, None) => {}
        }
        let (hits, held_ns) = self.held.get();
        if hits > 0 {
            self.messages.say(format!(
                "{hits} stops at sites; gotap held a thread {:.1} µs at each; durations are too \
                 long by one wake-up of gotap",
                held_ns as f64 / hits as f64 / 1e3,
            ));
        }
        if let Some(error) = self.counters.first_filter_error() {
            self.messages.say(format!(
                "--where could not be evaluated for {} calls, first: {error}",
                self.counters.filter_errors()
            ));
        }
        let stalled = written.is_err();
        if stalled {
            self.messages
                .say("nobody reads the output: what was still to be written is lost".into());
        }
        let (open, left_out) = (self.counters.open(), self.left_out.get());
        self.messages.say(format!(
            "{} calls seen, {open} still open, {} filtered, {} lost",
            self.counters.seen() + left_out,
            self.counters.filtered() + left_out,
            self.counters.lost(),
        ));
        self.messages.finish();
        if let Some(error) = self.left_badly.take() {
            return Err(error).context("the target could not be left in good order");
        }
        match written {
            Ok(Err(error)) => Err(error).context("cannot write the records"),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

/// The sinks that the options ask for. What is recorded is printed only where
/// `--out` says so.
fn make_sink(args: &TraceArgs, to: Opened, counters: &Arc<Counters>) -> std::io::Result<Tee> {
    let wanted = Wanted {
        output: args.output,
        style: args.style,
        calls: !(args.quiet && args.summary) && (args.record.is_none() || args.out.is_some()),
        summary: args.summary,
        stdout: args.out.is_none(),
    };
    let mut sinks = written::sinks(wanted, to.calls);
    if let Some((file, head)) = to.record {
        sinks.push(Box::new(RecordSink::new(
            Box::new(file),
            &head,
            counters.clone(),
        )?));
    }
    Ok(Tee(sinks))
}

/// Takes the signals that every thread has blocked.
fn listen_for_signals(control: &Control) {
    let control = control.clone();
    std::thread::spawn(move || {
        while let Ok(signal) = signals::wait_orderly() {
            match signal {
                Signal::SIGTSTP => control.suspend(),
                Signal::SIGCONT => {}
                _ => control.stop(StopReason::Asked),
            }
        }
    });
}
