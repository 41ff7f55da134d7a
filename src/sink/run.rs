//! The loop of the thread that writes: queue → filter → sink.

use std::collections::HashSet;
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
    /// Calls whose records came out of the queue.
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

    /// Of those seen, how many are still running as far as is known.
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
    match write_all(receiver, selection, sink, counters) {
        Ok(Stop::Limit) => {
            on_stop(Stop::Limit);
            ended(sink.finish(), Stop::Limit)
        }
        Ok(stop) => ended(sink.finish(), stop),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            on_stop(Stop::BrokenPipe);
            Ok(Stop::BrokenPipe)
        }
        Err(error) => {
            on_stop(Stop::Failed);
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

fn write_all(
    mut receiver: Receiver,
    selection: &Selection,
    sink: &mut dyn Sink,
    counters: &Counters,
) -> io::Result<Stop> {
    let mut batch = Vec::new();
    let mut open = HashSet::new();
    while receiver.receive(&mut batch) {
        // Calls of this batch that the filter could not tell about.
        let mut undecided = 0;
        for record in &batch {
            match record {
                Record::Gap { lost, .. } => {
                    Counters::add(&counters.lost, *lost);
                    sink.record(record)?;
                }
                Record::Call(call) => match wanted(call, selection, counters, &mut open) {
                    Some(true) => {
                        sink.record(record)?;
                        counters.printed.fetch_add(1, Ordering::Relaxed);
                        if selection
                            .limit
                            .is_some_and(|most| counters.printed() >= most)
                        {
                            return Ok(Stop::Limit);
                        }
                    }
                    Some(false) => Counters::add(&counters.filtered, 1),
                    None => undecided += 1,
                },
            }
        }
        if undecided > 0 {
            sink.record(&Record::Gap {
                lost: undecided,
                why: "filter error",
            })?;
        }
        sink.flush()?;
    }
    Ok(Stop::Finished)
}

/// Whether the filter holds; `None` when it could not be evaluated.
/// `open` has the ids of calls that were reported before they ended: their end
/// does not make another call of them.
fn wanted(
    call: &Call,
    selection: &Selection,
    counters: &Counters,
    open: &mut HashSet<u64>,
) -> Option<bool> {
    let known = open.remove(&call.id);
    if !known {
        Counters::add(&counters.seen, 1);
    }
    if call.end == End::Open {
        open.insert(call.id);
    }
    counters.open.store(open.len() as u64, Ordering::Relaxed);
    let Some(filter) = &selection.filter else {
        return Some(true);
    };
    match filter.holds(call) {
        Ok(holds) => Some(holds),
        Err(error) => {
            if counters.filter_errors.fetch_add(1, Ordering::Relaxed) == 0 {
                *counters
                    .first_filter_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) =
                    Some(format!("{}: {error}", call.func));
            }
            None
        }
    }
}
