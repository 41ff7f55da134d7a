//! `gotap goroutines`: what every goroutine is doing, from outside.
//!
//! ```text
//! gotap goroutines -p 4242
//! gotap goroutines -p 4242 --by created
//! gotap goroutines -p 4242 --list --where 'reason == "IO wait" && wait > 5m'
//! gotap goroutines -p 4242 --diff 30s
//! gotap goroutines -p 4242 -o pprof > g.pb.gz
//! gotap goroutines --core core.4242 ./server
//! gotap stack 34 -p 4242 --full
//! ```
//!
//! Nothing is stopped and nothing is written: the program's memory is read
//! while it runs (`--consistent` stops it for the time of the read, and says how
//! long that was). A wait is a lower bound (`≥ 5m`): the runtime notes since when
//! a goroutine waits in a collection only.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::messages;
use super::subject::{self, Misuse, SubjectArgs};
use super::viewed::{Viewed, say_stopped};
use crate::image::dwarf::Dwarf;
use crate::script::{Checked, compile_condition};
use crate::session::look::{Source, Wanted};
use crate::sink::goroutines::{full, json, profile, table, traceback};
use crate::survey::compare::{Sightings, growth};
use crate::survey::facts::{Asked, GoroutineNames};
use crate::survey::group::{self, By};
use crate::survey::verdict::verdict;
use crate::survey::{Entry, Survey};
use crate::sys::sched::be_patient;
use crate::sys::signals::end_requests;
use crate::sys::{is_terminal, terminal_rows};
use crate::value::Limits;

/// Arguments of `gotap goroutines`.
#[derive(clap::Args, Debug, Clone)]
#[command(
    override_usage = "gotap goroutines [OPTIONS] -p PID\n       \
                      gotap goroutines [OPTIONS] --core FILE [PROGRAM]",
    after_help = "Examples and more: gotap goroutines --help",
    after_long_help = super::manual::GOROUTINES
)]
pub struct GoroutinesArgs {
    /// Look at this process (several: -p 1 -p 2)
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<i32>,
    /// Look at this core file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pid", "every", "diff"])]
    pub core: Option<PathBuf>,
    /// The core's executable, where it is not at the path that the core names
    #[arg(value_name = "PROGRAM")]
    pub program: Option<PathBuf>,
    /// Stop the process for the time of each look: all is of one moment, and
    /// running goroutines have stacks
    ///
    /// It is told for how long it was stopped. Should gotap be killed meanwhile,
    /// the process goes on.
    #[arg(long, conflicts_with = "core")]
    pub consistent: bool,
    /// Take debug information from this file: the program before it was stripped
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// What to put goroutines together by
    #[arg(long, value_enum, default_value_t = Grouping::All, hide_default_value = true)]
    pub by: Grouping,
    /// Tell of every goroutine
    #[arg(long)]
    pub list: bool,
    /// Only goroutines for which this holds, e.g. 'reason == "IO wait" && wait > 5m'
    ///
    /// The names are those of the JSON fields, and wait and deadline as durations.
    #[arg(long = "where", value_name = "EXPR")]
    pub filter: Option<String>,
    /// Look twice, so far apart, and tell which creation sites grew
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with_all = ["every", "list"])]
    pub diff: Option<Duration>,
    /// Look again and again, so far apart
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub every: Option<Duration>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Read every stack; of more than 10,000 goroutines only a sample is read else
    #[arg(long)]
    pub all_stacks: bool,
    /// Show so many groups
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub top: usize,
}

/// Arguments of `gotap stack`.
#[derive(clap::Args, Debug, Clone)]
#[command(
    override_usage = "gotap stack [OPTIONS] GOID -p PID\n       \
                      gotap stack [OPTIONS] GOID --core CORE [BINARY]",
    after_long_help = super::manual::stack()
)]
pub struct StackArgs {
    /// The goroutine's number
    #[arg(value_name = "GOID")]
    pub goid: u64,
    #[command(flatten)]
    pub(super) subject: SubjectArgs,
    /// Stop the process for the time of the look: a running goroutine has a stack
    #[arg(long, conflicts_with = "core")]
    pub consistent: bool,
    /// Take debug information from this file: the program before it was stripped
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// Print the variables of each frame, too (needs the debug information)
    #[arg(long)]
    pub full: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// What goroutines are put together by.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grouping {
    /// State, reason, top frame of the program and creation site.
    #[default]
    All,
    /// The `go` statement that made them.
    Created,
    /// Status.
    State,
    /// Status and reason.
    Reason,
    /// Innermost function outside of package runtime.
    Func,
    /// Innermost frame of the program's own code.
    User,
    /// The whole stack.
    Stack,
    /// pprof labels.
    Label,
    /// The other end of the connection.
    Peer,
}

impl Grouping {
    fn by(self) -> By {
        match self {
            Grouping::All => By::All,
            Grouping::Created => By::Created,
            Grouping::State => By::State,
            Grouping::Reason => By::Reason,
            Grouping::Func => By::Func,
            Grouping::User => By::User,
            Grouping::Stack => By::Stack,
            Grouping::Label => By::Label,
            Grouping::Peer => By::Peer,
        }
    }
}

/// How goroutines are printed.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// A table for people.
    #[default]
    Text,
    /// One JSON object per look.
    Json,
    /// As the runtime itself prints all goroutines (debug=2).
    Text2,
    /// A gzipped profile.proto for `go tool pprof`.
    Pprof,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "use a number and a unit: 500ms, 30s, 10m, 2h".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "it cannot be negative".to_owned())
}

/// Runs `gotap goroutines`.
pub fn run(args: &GoroutinesArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = match &args.filter {
        Some(text) => Some(compile_condition(text, &GoroutineNames)?),
        None => None,
    };
    if args.output == Output::Pprof {
        if args.every.is_some() || args.pid.len() > 1 {
            bail!("-o pprof is one profile of one process: use it without --every, with one -p");
        }
        if is_terminal(&std::io::stdout()) {
            bail!("-o pprof writes a compressed file: send it to one, `-o pprof > g.pb.gz`");
        }
    }
    // A program that is stopped for the look waits for every turn that gotap gives away.
    if !args.consistent {
        be_patient();
    }
    let ends = match args.every {
        Some(_) => Some(end_requests().context("cannot set up signal handling")?),
        None => None,
    };
    let mut watched = args.open()?;
    if let Some(apart) = args.diff {
        return differences(args, &mut watched, apart, out);
    }
    let several = watched.len() > 1;
    let in_place =
        args.every.is_some() && args.output == Output::Text && is_terminal(&std::io::stdout());
    let began = Instant::now();
    let (mut next, mut failed) = (began, 0);
    loop {
        // Only a terminal's page is kept: there may be millions of goroutines.
        let mut page = Vec::new();
        let mut left = Vec::new();
        for mut one in std::mem::take(&mut watched) {
            let looked = one.view.look(&args.wanted());
            let source = one.view.source();
            let mut survey = match looked {
                Ok(survey) => survey,
                // The others are looked at all the same.
                Err(error) if several => {
                    messages::print(&format!("process {}: {error}", pid_of(source)));
                    failed += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            one.seen.note(&mut survey, now);
            let to: &mut dyn Write = if in_place { &mut page } else { &mut *out };
            if several && args.output == Output::Text {
                writeln!(to, "process {}:", pid_of(source))?;
            }
            print(args, source, &survey, filter.as_ref(), to)?;
            left.push(one);
        }
        if in_place {
            redraw(&page, out)?;
        }
        out.flush()?;
        watched = left;
        match args.every {
            Some(apart) if !watched.is_empty() => next += apart,
            _ if failed > 0 => bail!("{failed} of {} could not be looked at", args.pid.len()),
            _ => return Ok(()),
        }
        let left = next.saturating_duration_since(Instant::now());
        if ends.as_ref().is_some_and(|e| e.recv_timeout(left).is_ok()) {
            return Ok(());
        }
    }
}

fn pid_of(source: &Source) -> String {
    source
        .pid
        .map_or_else(|| "of the core".to_owned(), |pid| pid.to_string())
}

/// A page over the one before it: as many lines as the terminal has, each
/// cleared behind its end, and all below (console_codes(4)).
fn redraw(page: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
    let rows = terminal_rows(&std::io::stdout()).unwrap_or(usize::MAX);
    out.write_all(b"\x1b[H")?;
    let lines = page.split_inclusive(|b| *b == b'\n');
    for line in lines.take(rows.saturating_sub(1).max(1)) {
        out.write_all(line.strip_suffix(b"\n").unwrap_or(line))?;
        out.write_all(b"\x1b[K\r\n")?;
    }
    out.write_all(b"\x1b[J")
}

/// A program, and what earlier looks saw of it.
struct Watched {
    view: Viewed,
    seen: Sightings,
}

impl GoroutinesArgs {
    /// What clap cannot tell.
    pub fn check(&self) -> Result<(), Misuse> {
        let bare = subject::bare_pid(self.program.as_deref());
        // A word alone is a process, and so is -p's; not both.
        if self.core.is_none() && bare.is_some() != self.pid.is_empty()
            || self.core.is_none() && bare.is_none() && self.program.is_some()
        {
            return Err(subject::NO_SUBJECT);
        }
        Ok(())
    }

    fn open(&self) -> anyhow::Result<Vec<Watched>> {
        let bare = subject::bare_pid(self.program.as_deref());
        let symbols = self.symbols.as_deref();
        let views: Vec<Viewed> = match &self.core {
            Some(core) => vec![Viewed::core(core, self.program.as_deref(), symbols)?],
            None => self
                .pid
                .iter()
                .chain(&bare)
                .map(|pid| Viewed::process(*pid, self.consistent, symbols))
                .collect::<Result<_, _>>()?,
        };
        let watched = views.into_iter().map(|view| Watched {
            view,
            seen: Sightings::default(),
        });
        Ok(watched.collect())
    }

    fn wanted(&self) -> Wanted {
        // A filter on stacks is about all of them.
        let asked = self.filter.as_deref().is_some_and(|f| f.contains("stack"));
        let whole = asked || matches!(self.output, Output::Text2 | Output::Pprof);
        Wanted {
            all_stacks: self.all_stacks || whole || self.by == Grouping::Stack,
            args: self.output == Output::Text2,
            each: self.list
                || self.filter.is_some()
                || self.every.is_some()
                || self.diff.is_some()
                || self.output == Output::Text2,
            details: self.list || self.filter.is_some(),
            only: None,
        }
    }
}

fn print(
    args: &GoroutinesArgs,
    source: &Source,
    survey: &Survey,
    filter: Option<&Checked>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let chosen = choose(survey, filter)?;
    let minor = source.target.image.go_version().minor();
    match args.output {
        Output::Text2 => {
            say_stopped(survey);
            return Ok(traceback::write(out, survey, minor, &chosen)?);
        }
        Output::Pprof => {
            say_stopped(survey);
            return Ok(profile::write(out, survey, &chosen)?);
        }
        Output::Text | Output::Json => {}
    }
    let groups = group::groups(survey, args.by.by(), chosen.iter().copied());
    let verdict = verdict(survey);
    if args.output == Output::Json {
        let beside = json::Beside {
            pid: source.pid,
            groups: &groups,
            verdict: verdict.as_deref(),
        };
        let list = args.list.then_some(chosen.as_slice());
        return Ok(json::write(out, survey, &beside, list)?);
    }
    table::head(out, survey, verdict.as_deref())?;
    if filter.is_some() {
        writeln!(out, "{} of them match", chosen.len())?;
    }
    writeln!(out)?;
    if args.list {
        table::list(out, survey, &chosen)?;
    } else {
        table::groups(out, survey, &groups, args.top)?;
    }
    Ok(())
}

fn choose<'a>(survey: &'a Survey, filter: Option<&Checked>) -> anyhow::Result<Vec<&'a Entry>> {
    let mut chosen = Vec::with_capacity(survey.goroutines.len());
    for entry in &survey.goroutines {
        let names = &survey.names;
        let holds = match filter {
            Some(filter) => filter
                .holds(&Asked { entry, names })
                .with_context(|| format!("goroutine {}", entry.goid))?,
            None => true,
        };
        if holds {
            chosen.push(entry);
        }
    }
    // The one that crashed on top, as the runtime has it.
    if let Some(at) = chosen.iter().position(|e| Some(e.goid) == survey.crashed) {
        let crashed = chosen.remove(at);
        chosen.insert(0, crashed);
    }
    Ok(chosen)
}

fn differences(
    args: &GoroutinesArgs,
    watched: &mut [Watched],
    apart: Duration,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let wanted = args.wanted();
    let several = watched.len() > 1;
    let first: Vec<Survey> = watched
        .iter_mut()
        .map(|w| w.view.look(&wanted))
        .collect::<Result<_, _>>()?;
    std::thread::sleep(apart);
    for (one, before) in watched.iter_mut().zip(&first) {
        let after = one.view.look(&wanted)?;
        say_stopped(&after);
        if several && args.output == Output::Text {
            writeln!(out, "process {}:", pid_of(one.view.source()))?;
        }
        let sites = growth(before, &after);
        match args.output {
            Output::Json => json::growth(out, one.view.source().pid, before, &after, &sites)?,
            Output::Text => {
                writeln!(
                    out,
                    "{} goroutines, then {}: {:+}",
                    before.total(),
                    after.total(),
                    after.total() as i64 - before.total() as i64
                )?;
                writeln!(out)?;
                table::growth(out, &sites, args.top)?;
            }
            Output::Text2 | Output::Pprof => bail!("--diff prints text or json"),
        }
    }
    out.flush()?;
    Ok(())
}

/// Runs `gotap stack`.
pub fn stack(args: &StackArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    if !args.consistent {
        be_patient();
    }
    let symbols = args.symbols.as_deref();
    let mut view = match (&args.subject.core, args.subject.pid()) {
        (Some(core), _) => Viewed::core(core, args.subject.binary.as_deref(), symbols)?,
        (None, Some(pid)) => Viewed::process(pid, args.consistent, symbols)?,
        (None, None) => bail!("which process? use -p PID, or --core FILE"),
    };
    let wanted = Wanted {
        all_stacks: true,
        each: true,
        args: true,
        details: true,
        only: Some(args.goid),
    };
    let survey = view.look(&wanted)?;
    let Some(one) = survey.goroutines.first() else {
        bail!(
            "there is no goroutine {}; `gotap goroutines --list` shows all",
            args.goid
        );
    };
    say_stopped(&survey);
    if args.full {
        match (view.source().dwarf()?, args.output) {
            (_, Output::Text2 | Output::Pprof) => bail!("--full prints text or json"),
            (Some(dwarf), output) => return full(view.source(), &dwarf, &survey, one, output, out),
            (None, _) => super::messages::print(
                "the program has no debug information (go build -ldflags=-w, strip): its variables are not known; --symbols FILE takes it from the program before it was stripped",
            ),
        }
    }
    let minor = view.source().target.image.go_version().minor();
    match args.output {
        Output::Text => table::stack(out, &survey, one, usize::MAX)?,
        Output::Text2 => traceback::write(out, &survey, minor, &[one])?,
        Output::Pprof => profile::write(out, &survey, &[one])?,
        Output::Json => json::one_line(out, &survey, one)?,
    }
    out.flush()?;
    Ok(())
}

/// One goroutine with the variables of its frames.
fn full(
    source: &Source,
    dwarf: &Dwarf,
    survey: &Survey,
    one: &Entry,
    output: Output,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let stack = source.full_stack(dwarf, one.goid, &Limits::default())?;
    let Some(stack) = stack else {
        bail!("goroutine {} ended while it was looked at", one.goid);
    };
    if output == Output::Json {
        json::full_line(out, survey, one, &stack.frames)?;
    } else {
        table::list(out, survey, &[one])?;
        writeln!(out)?;
        full::frames(out, &stack.frames)?;
        table::stack_end(out, stack.state)?;
    }
    out.flush()?;
    Ok(())
}
