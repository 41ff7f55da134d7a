//! The loop of the thread that writes: queue → filter → sink.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Sink;
use super::queue::Receiver;
use crate::record::{Call, End, Record};
use crate::script::Checked;

/// What was done, for the last line; may be read while the loop runs.
#[derive(Default, Debug)]
pub struct Counters {
    seen: AtomicU64,
    printed: AtomicU64,
    filtered: AtomicU64,
    open: AtomicU64,
    lost: AtomicU64,
    filter_errors: AtomicU64,
    first_filter_error: Mutex<Option<String>>,
}

impl Counters {
    /// Calls that came out of the queue. One that was told of while it ran
    /// (`--slow`) and again when it ended is one.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Of those, given to the sink.
    pub fn printed(&self) -> u64 {
        self.printed.load(Ordering::Relaxed)
    }

    /// Of those, refused by the filter.
    pub fn filtered(&self) -> u64 {
        self.filtered.load(Ordering::Relaxed)
    }

    /// Of those seen, how many were not seen to end.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Records that gaps told of.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Calls that the filter could not be evaluated for; they are not printed.
    pub fn filter_errors(&self) -> u64 {
        self.filter_errors.load(Ordering::Relaxed)
    }

    /// What was wrong the first time.
    pub fn first_filter_error(&self) -> Option<String> {
        self.first_filter_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    fn take_back(counter: &AtomicU64) {
        counter.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a call as printed or filtered, unless it was so before.
    fn passed(&self, verdict: Verdict, before: Option<Verdict>) {
        let counter = |verdict| match verdict {
            Verdict::Printed => Some(&self.printed),
            Verdict::Filtered => Some(&self.filtered),
            Verdict::Undecided => None,
        };
        // What was printed once is not filtered.
        if before == Some(Verdict::Printed) || before == Some(verdict) {
            return;
        }
        if let Some(counter) = before.and_then(counter) {
            Self::take_back(counter);
        }
        if let Some(counter) = counter(verdict) {
            Self::add(counter, 1);
        }
    }
}

/// Why the loop ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The sender is gone and everything is written.
    Finished,
    /// As many calls as were asked for are written.
    Limit,
    /// Nobody reads what is written (EPIPE). Not an error.
    BrokenPipe,
    /// Writing failed.
    Failed,
}

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Printed,
    Filtered,
    /// The filter could not be evaluated.
    Undecided,
}

/// What the loop lets through.
#[derive(Default)]
pub struct Selection {
    /// Only calls that it holds for.
    pub filter: Option<Checked>,
    /// Stop after so many.
    pub limit: Option<u64>,
}

/// Writes what comes out of the queue until the sender is gone, the limit is
/// reached or writing fails. Flushes whenever the queue was emptied.
///
/// `on_stop` is called once, as soon as nothing more will be written although
/// the sender is still there, so that tracing can be stopped. The error is
/// what writing failed with.
pub fn run_sink(
    receiver: Receiver,
    selection: &Selection,
    sink: &mut dyn Sink,
    counters: &Counters,
    on_stop: &mut dyn FnMut(Stop),
) -> io::Result<Stop> {
    let mut receiver = receiver;
    let mut known = Known::default();
    let written = write_all(&mut receiver, selection, sink, counters, &mut known);
    match written {
        Ok(Stop::Limit) => {
            on_stop(Stop::Limit);
            let finished = ended(sink.finish(), Stop::Limit);
            count_rest(&mut receiver, counters, known);
            finished
        }
        Ok(stop) => ended(sink.finish(), stop),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            on_stop(Stop::BrokenPipe);
            count_rest(&mut receiver, counters, known);
            Ok(Stop::BrokenPipe)
        }
        Err(error) => {
            on_stop(Stop::Failed);
            count_rest(&mut receiver, counters, known);
            Err(error)
        }
    }
}

fn ended(result: io::Result<()>, stop: Stop) -> io::Result<Stop> {
    match result {
        Ok(()) => Ok(stop),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Stop::BrokenPipe),
        Err(error) => Err(error),
    }
}

/// Calls told of while they ran: their end is no further call.
#[derive(Default)]
struct Known {
    open: HashMap<u64, Verdict>,
    /// What was received and is not counted yet.
    rest: Vec<Record>,
}

/// What comes after the last that is written is counted all the same, to the end
/// of tracing: the last line tells of all calls that were seen.
fn count_rest(receiver: &mut Receiver, counters: &Counters, known: Known) {
    let Known { mut open, rest } = known;
    let mut batch = rest;
    loop {
        for record in &batch {
            match record {
                Record::Gap { lost, .. } => Counters::add(&counters.lost, *lost),
                Record::Call(call) => {
                    match open.remove(&call.id) {
                        None => Counters::add(&counters.seen, 1),
                        Some(_) => Counters::take_back(&counters.open),
                    }
                    if call.end == End::Open {
                        Counters::add(&counters.open, 1);
                        open.insert(call.id, Verdict::Filtered);
                    }
                }
            }
        }
        if !receiver.receive(&mut batch) {
            return;
        }
    }
}

fn write_all(
    receiver: &mut Receiver,
    selection: &Selection,
    sink: &mut dyn Sink,
    counters: &Counters,
    known: &mut Known,
) -> io::Result<Stop> {
    let mut batch = Vec::new();
    while receiver.receive(&mut batch) {
        let mut done = 0;
        let written = write_batch(
            &batch,
            &mut done,
            selection,
            sink,
            counters,
            &mut known.open,
        );
        match written {
            Ok(None) => {}
            Ok(Some(stop)) => {
                known.rest = batch.split_off(done.min(batch.len()));
                return Ok(stop);
            }
            Err(error) => {
                known.rest = batch.split_off(done.min(batch.len()));
                return Err(error);
            }
        }
    }
    Ok(Stop::Finished)
}

/// `done` counts the records that were counted.
fn write_batch(
    batch: &[Record],
    done: &mut usize,
    selection: &Selection,
    sink: &mut dyn Sink,
    counters: &Counters,
    open: &mut HashMap<u64, Verdict>,
) -> io::Result<Option<Stop>> {
    // Calls of this batch that the filter could not tell about.
    let mut undecided = 0;
    for record in batch {
        *done += 1;
        let call = match record {
            Record::Gap { lost, .. } => {
                Counters::add(&counters.lost, *lost);
                sink.record(record)?;
                continue;
            }
            Record::Call(call) => call,
        };
        let before = open.remove(&call.id);
        if call.end == End::Open && before == Some(Verdict::Printed) {
            // It is still as it was told.
            open.insert(call.id, Verdict::Printed);
            continue;
        }
        let verdict = judge(call, selection, counters);
        if before.is_none() {
            Counters::add(&counters.seen, 1);
        } else {
            Counters::take_back(&counters.open);
        }
        if call.end == End::Open {
            Counters::add(&counters.open, 1);
            open.insert(call.id, verdict);
        }
        counters.passed(verdict, before);
        match verdict {
            Verdict::Printed => sink.record(record)?,
            Verdict::Filtered => {}
            Verdict::Undecided => undecided += 1,
        }
        let enough = |most| counters.printed() >= most;
        if verdict == Verdict::Printed && selection.limit.is_some_and(enough) {
            return Ok(Some(Stop::Limit));
        }
    }
    if undecided > 0 {
        sink.record(&Record::Gap {
            lost: undecided,
            why: "filter error",
        })?;
    }
    sink.flush()?;
    Ok(None)
}

fn judge(call: &Call, selection: &Selection, counters: &Counters) -> Verdict {
    let Some(filter) = &selection.filter else {
        return Verdict::Printed;
    };
    match filter.holds(call) {
        Ok(true) => Verdict::Printed,
        Ok(false) => Verdict::Filtered,
        Err(error) => {
            if counters.filter_errors.fetch_add(1, Ordering::Relaxed) == 0 {
                *counters
                    .first_filter_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) =
                    Some(format!("{}: {error}", call.func));
            }
            Verdict::Undecided
        }
    }
}
