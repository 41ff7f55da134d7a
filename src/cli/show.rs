//! `gotap show`: what `gotap trace --record` has written, as `trace` would have
//! printed it.
//!
//! ```text
//! gotap trace --preset conn --fire auto --record calls.gtr -p 4242
//! gotap show calls.gtr --where 'err != nil'
//! gotap show calls.gtr -q --summary
//! ```
//!
//! Neither the process nor its program is needed. A recording that ends in the
//! middle is read up to its last whole block; one that is still being written
//! can be read, too.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::messages;
use super::trace::{Output, Style};
use super::written::{self, Wanted};
use crate::record::Record;
use crate::script::{CallNames, compile_condition};
use crate::sink::Tee;
use crate::sink::queue::{Sender, queue};
use crate::sink::run::{Counters, Selection, run_sink};
use crate::tape::{Item, Tail, TapeError, TapeReader};

/// Records between the thread that reads and the one that writes.
const QUEUE: usize = 1 << 14;

/// Whoever reads the output may take as long as he likes.
const FOREVER: Duration = Duration::MAX;

/// Arguments of `gotap show`.
#[derive(clap::Args, Debug, Clone)]
pub struct ShowArgs {
    /// What `gotap trace --record` has written
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only calls for which this holds, as for `gotap trace`
    #[arg(long = "where", value_name = "EXPR")]
    pub filter: Option<String>,
    /// Stop after so many calls
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// At the end, print counts, errors, bytes and latencies per function
    #[arg(long)]
    pub summary: bool,
    /// Print no calls (with --summary)
    #[arg(short, long, requires = "summary")]
    pub quiet: bool,
    /// How records are written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// How text looks
    #[arg(long, value_enum, default_value_t = Style::Gotap)]
    pub style: Style,
    /// Write records to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

impl ShowArgs {
    /// What the parser cannot know to be wrong.
    pub fn check(&self) -> Result<(), super::subject::Misuse> {
        if self.output == Output::Json && self.style == Style::Dlv {
            return Err((
                clap::error::ErrorKind::ArgumentConflict,
                "--style is for text: leave it out, or -o json",
            ));
        }
        Ok(())
    }
}

/// Runs `gotap show`.
pub fn run(args: &ShowArgs) -> anyhow::Result<()> {
    let name = || args.file.display().to_string();
    let file = File::open(&args.file).with_context(|| format!("cannot open {}", name()))?;
    let tape = TapeReader::new(BufReader::with_capacity(1 << 16, file))
        .map_err(|error| anyhow::anyhow!("{} {error}", name()))?;
    let head = tape.head().clone();
    let filter = args.filter.as_ref().map(|text| {
        let arcs = |names: &[String]| -> Vec<Arc<str>> {
            names.iter().map(|n| Arc::from(n.as_str())).collect()
        };
        let names = CallNames::with_signatures(arcs(&head.arguments), arcs(&head.results));
        compile_condition(text, &names)
    });
    let to = written::open(args.out.as_deref())?;
    let wanted = Wanted {
        output: args.output,
        style: args.style,
        calls: !args.quiet,
        summary: args.summary,
        stdout: args.out.is_none(),
    };
    let selection = Selection {
        filter: filter.transpose()?,
        limit: args.count,
    };
    messages::print(&format!(
        "recorded of pid {} ({}, {}) by gotap {}: {}",
        head.pid,
        head.program,
        head.go,
        head.gotap,
        head.command.join(" "),
    ));
    let (sender, receiver) = queue(QUEUE);
    let enough = Arc::new(AtomicBool::new(false));
    let (stop, file) = (enough.clone(), args.file.clone());
    let reading = std::thread::spawn(move || read(tape, &file, &sender, &stop));
    let counters = Counters::default();
    let mut sink = Tee(written::sinks(wanted, to));
    let mut on_stop = |_| enough.store(true, Ordering::Relaxed);
    let written = run_sink(receiver, &selection, &mut sink, &counters, &mut on_stop);
    let read = reading
        .join()
        .map_err(|_| anyhow::anyhow!("reading ended in a panic"))?;
    written.context("cannot write the records")?;
    let tail = read?;
    if let Some(error) = counters.first_filter_error() {
        messages::print(&format!(
            "--where could not be evaluated for {} calls, first: {error}",
            counters.filter_errors()
        ));
    }
    messages::print(&format!(
        "{} calls seen, {} still open, {} filtered, {} lost",
        counters.seen().saturating_add(tail.filtered),
        counters.open(),
        counters.filtered().saturating_add(tail.filtered),
        counters.lost(),
    ));
    Ok(())
}

/// Gives all records to the writer; what was not written of the calls.
fn read(
    mut tape: TapeReader<impl Read>,
    file: &Path,
    sender: &Sender,
    enough: &AtomicBool,
) -> anyhow::Result<Tail> {
    let name = file.display();
    let say = |text: String| messages::print(&format!("{name}: {text}"));
    while !enough.load(Ordering::Relaxed) {
        let item = tape.next_item();
        let item = item.map_err(|error: TapeError| anyhow::anyhow!("{name} {error}"))?;
        match item {
            None => break,
            Some(Item::Record(record)) => {
                sender.send_within(record, FOREVER);
            }
            Some(Item::Damaged { at, lost }) => {
                say(format!(
                    "the block at byte {at} is damaged; {lost} records are lost with it"
                ));
                let why = "damaged recording";
                sender.send_within(Record::Gap { lost, why }, FOREVER);
            }
            Some(Item::End(tail)) => return Ok(tail),
            Some(Item::Torn { rest }) => say(format!(
                "the recording has no end: gotap was killed, or is still writing; \
                 {rest} bytes behind the last whole block are not shown"
            )),
            Some(Item::Garbage { at }) => say(format!(
                "from byte {at} on it is not what gotap writes; nothing of that is shown"
            )),
        }
    }
    Ok(Tail::default())
}
