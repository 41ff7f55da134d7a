//! What `gotap trace` can be told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;

use super::firing::Fire;
use crate::image::pattern::Limits;

/// Arguments of `gotap trace`.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(
    group = clap::ArgGroup::new("target").args(["pid", "program"]),
    override_usage = "gotap trace [OPTIONS] PATTERN... -p PID\n       \
                      gotap trace [OPTIONS] PATTERN... -- PROGRAM [ARG]...",
    after_help = "Examples and more: gotap trace --help, gotap man trace",
    after_long_help = crate::cli::manual::TRACE
)]
pub struct TraceArgs {
    /// Function names, or regular expressions
    ///
    /// Each is first tried as a function's exact name as Go writes it, and else
    /// as an unanchored regular expression.
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,
    /// Attach to this process
    #[arg(short, long, value_name = "PID", help_heading = "Target")]
    pub pid: Option<i32>,
    /// Start this program and trace it from its first instruction
    ///
    /// Its standard output goes to standard error, unless --out takes the records.
    #[arg(last = true, value_name = "PROGRAM", help_heading = "Target")]
    pub program: Vec<OsString>,
    /// Take debug information from this file: the program before it was stripped
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub symbols: Option<PathBuf>,
    /// A ready set of functions instead of patterns, or beside them
    #[arg(long, value_enum, help_heading = "Which calls")]
    pub preset: Option<Preset>,
    /// Only calls for which this holds, e.g. 'err != nil && dur > 5ms'
    ///
    /// The names are those of the JSON fields, and dur. See below.
    #[arg(long = "where", value_name = "EXPR", help_heading = "Which calls")]
    pub filter: Option<String>,
    /// Also report calls that are still running after this time, once each
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Which calls")]
    pub slow: Option<Duration>,
    /// How many functions may match
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_matches, help_heading = "Which calls")]
    pub max_matches: usize,
    /// Print what matches and how it would be armed; touch nothing
    #[arg(long, help_heading = "Which calls")]
    pub list: bool,
    /// Print what can be fired by a jump and what has to trap; touch nothing
    ///
    /// Every site with the bytes that a jump would replace, or the reason why
    /// it needs a trap.
    #[arg(long, conflicts_with = "list", help_heading = "Which calls")]
    pub plan: bool,
    /// How calls are noticed
    ///
    /// A trap stops the thread for gotap to look at it. A jump leads into
    /// generated code in the program itself, which writes a record and goes on:
    /// some hundred times faster, and gotap lets go of the program meanwhile.
    /// See below.
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Fire::Auto, help_heading = "Which calls")]
    pub fire: Fire,
    /// Stop after so many calls
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "How long")]
    pub count: Option<u64>,
    /// Stop after this time (30s, 10m)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, help_heading = "How long")]
    pub time: Option<Duration>,
    /// Of every N calls of a function trace one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000), help_heading = "Which calls")]
    pub every_nth: Option<u32>,
    /// Disarm functions called more often than this a second, and say so
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "How long")]
    pub max_rate: Option<u64>,
    /// Show so many frames of each call's stack
    #[arg(
        short,
        long,
        value_name = "FRAMES",
        default_value_t = 0,
        hide_default_value = true,
        help_heading = "What is shown"
    )]
    pub stack: usize,
    /// Show the first bytes read or written (64 unless told)
    #[arg(long, value_name = "BYTES", num_args = 0..=1, require_equals = true, default_missing_value = "64", help_heading = "What is shown")]
    pub payload: Option<usize>,
    /// At the end, print counts, errors, bytes and latencies per function
    #[arg(long, help_heading = "What is shown")]
    pub summary: bool,
    /// Print no calls (with --summary)
    #[arg(short, long, requires = "summary", help_heading = "What is shown")]
    pub quiet: bool,
    /// How records are written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text, help_heading = "What is shown")]
    pub output: Output,
    /// How text looks
    #[arg(long, value_enum, default_value_t = Style::Gotap, help_heading = "What is shown")]
    pub style: Style,
    /// Write records to this file instead of stdout
    #[arg(long, value_name = "FILE", help_heading = "What is shown")]
    pub out: Option<PathBuf>,
    /// Record calls in this file, for gotap show; print none, but with --out
    #[arg(long, value_name = "FILE", help_heading = "What is shown")]
    pub record: Option<PathBuf>,
}

/// Ready sets of functions.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Read, Write, Close, ReadFrom, WriteTo, writev, CloseRead/CloseWrite,
    /// deadlines, Accept, Dial
    Conn,
}

/// How records are written.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How text looks.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// One line a call.
    #[default]
    Gotap,
    /// `> goroutine(34): …`, `>> goroutine(34): … => (…)`
    Dlv,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "use a number and a unit: 500ms, 30s, 10m, 2h".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "it cannot be negative".to_owned())
}

impl TraceArgs {
    /// What the parser cannot know to be wrong, or could only say badly.
    pub fn check(&self) -> Result<(), (ErrorKind, &'static str)> {
        if self.patterns.is_empty() && self.preset.is_none() {
            return Err((
                ErrorKind::MissingRequiredArgument,
                "say which functions: a PATTERN such as 'net.(*conn).Read', or --preset conn",
            ));
        }
        if self.pid.is_none() && self.program.is_empty() {
            return Err((
                ErrorKind::MissingRequiredArgument,
                "say which process: -p PID (gotap ps lists the Go processes), or a program to start, after --",
            ));
        }
        if self.output == Output::Json && self.style == Style::Dlv {
            return Err((
                ErrorKind::ArgumentConflict,
                "--style is for text: leave it out, or -o json",
            ));
        }
        Ok(())
    }
}
