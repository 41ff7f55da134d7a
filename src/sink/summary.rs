//! `--summary`: what the calls of each function come to, at the end.
//!
//! Bytes are summed once: those of a call inside another traced call that moves
//! bytes the same way (`ReadFrom` → `Write`) are in its own function's row, but
//! not in the total. A call ends before the one around it, so its bytes wait
//! until that one has come.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use comfy_table::{CellAlignment, ColumnConstraint, Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::escape::escape_json;
use super::format::{Bytes, Count, Nanos, bars};
use super::{Out, Sink};
use crate::record::{Call, Direction, End, ErrorValue, Record};
use crate::value::escaped;

/// Calls whose outer call has not come yet; beyond that the oldest are taken
/// for outermost.
const MOST_WAITING: usize = 65_536;
/// Bounds of the histogram's bars, ns: half decades from 1 µs to 10 s.
const BOUNDS: [u64; 15] = [
    1_000,
    3_000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
    10_000_000_000,
];

/// Columns of the table that are left out when nothing is in them.
const UNWOUND: usize = 3;
const ENDS_LOST: usize = 4;
const OPEN: usize = 5;
const BYTES: usize = 6;

/// How a summary is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SummaryStyle {
    /// A table.
    Text,
    /// One JSON object.
    Json,
}

/// Gathers, and prints when finished.
pub struct SummarySink {
    out: Out,
    style: SummaryStyle,
    functions: HashMap<Arc<str>, Stats>,
    /// By the id of the outer call: what its inner calls moved.
    waiting: BTreeMap<u64, Vec<Moved>>,
    total: [u64; 2],
    /// Reported by `--slow`, still running.
    open: HashSet<u64>,
    lost: u64,
}

struct Stats {
    calls: u64,
    errors: u64,
    /// Ended by a panic, Goexit, or in an unknown way.
    unwound: u64,
    /// How they ended was lost.
    ends_lost: u64,
    open: u64,
    bytes: u64,
    nested_bytes: u64,
    /// ns
    max: u64,
    latency: Histogram<u64>,
}

impl Stats {
    /// ns; the histogram knows values to 1 %, the largest is known exactly.
    fn quantile(&self, quantile: f64) -> u64 {
        self.latency.value_at_quantile(quantile).min(self.max)
    }
}

/// Two digits, and as many buckets as come to be needed: some 30 kB at most.
fn histogram() -> Histogram<u64> {
    Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are allowed"))
}

/// Bytes that calls of one function moved inside one outer call.
struct Moved {
    func: Arc<str>,
    way: Way,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl SummarySink {
    /// Onto `to`.
    pub fn new(to: Box<dyn Write + Send>, style: SummaryStyle) -> Self {
        Self {
            out: Out::new(to),
            style,
            functions: HashMap::new(),
            waiting: BTreeMap::new(),
            total: [0; 2],
            open: HashSet::new(),
            lost: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn stats(&mut self, func: &Arc<str>) -> &mut Stats {
        self.functions
            .entry(Arc::clone(func))
            .or_insert_with(|| Stats {
                calls: 0,
                errors: 0,
                unwound: 0,
                ends_lost: 0,
                open: 0,
                bytes: 0,
                nested_bytes: 0,
                max: 0,
                latency: histogram(),
            })
    }

    fn call(&mut self, call: &Call) {
        let reported = self.open.remove(&call.id);
        let stats = self.stats(&call.func);
        if reported {
            stats.open = stats.open.saturating_sub(1);
        }
        if call.end == End::Open {
            stats.open += 1;
            self.open.insert(call.id);
            return;
        }
        stats.calls += 1;
        match call.end {
            End::Return | End::Open | End::Passed => {}
            End::Panic | End::Exit | End::Unwound => stats.unwound += 1,
            End::Lost => stats.ends_lost += 1,
        }
        if let Some(ErrorValue::Text { .. }) = call.err {
            stats.errors += 1;
        }
        if let Some(ns) = call.dur_ns {
            stats.max = stats.max.max(ns);
            // Cannot fail: it grows up to u64::MAX.
            let _ = stats.latency.record(ns);
        }
        let moved = moved(call);
        if let Some((_, bytes)) = moved {
            stats.bytes = stats.bytes.saturating_add(bytes);
        }
        self.settle(call, moved);
    }

    /// Bytes of this call and of those inside it: counted, kept for an outer
    /// call to come, or known to be nested.
    fn settle(&mut self, call: &Call, moved: Option<(Way, u64)>) {
        let mut pending = Vec::new();
        for inner in self.waiting.remove(&call.id).unwrap_or_default() {
            if moved.is_some_and(|(way, _)| way == inner.way) {
                self.stats(&inner.func).nested_bytes += inner.bytes;
            } else {
                pending.push(inner);
            }
        }
        if let Some((way, bytes)) = moved
            && bytes > 0
        {
            pending.push(Moved {
                func: Arc::clone(&call.func),
                way,
                bytes,
            });
        }
        let Some(parent) = call.parent else {
            self.count(pending);
            return;
        };
        let waiting = self.waiting.entry(parent).or_default();
        for new in pending {
            let same = waiting
                .iter_mut()
                .find(|old| old.way == new.way && old.func == new.func);
            match same {
                Some(old) => old.bytes = old.bytes.saturating_add(new.bytes),
                None => waiting.push(new),
            }
        }
        if waiting.is_empty() {
            self.waiting.remove(&parent);
        }
        if self.waiting.len() > MOST_WAITING
            && let Some((_, oldest)) = self.waiting.pop_first()
        {
            self.count(oldest);
        }
    }

    /// They are outermost.
    fn count(&mut self, moved: Vec<Moved>) {
        for Moved { way, bytes, .. } in moved {
            let total = match way {
                Way::In => &mut self.total[0],
                Way::Out => &mut self.total[1],
            };
            *total = total.saturating_add(bytes);
        }
    }

    /// Most calls first.
    fn sorted(&self) -> Vec<(&Arc<str>, &Stats)> {
        let mut rows: Vec<_> = self.functions.iter().collect();
        rows.sort_by(|a, b| b.1.calls.cmp(&a.1.calls).then_with(|| a.0.cmp(b.0)));
        rows
    }

    fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "function",
            "calls",
            "errors",
            "unwound",
            "end lost",
            "open",
            "bytes",
            "p50",
            "p90",
            "p99",
            "max",
            "1µs … 10s",
        ]);
        let mut nested = false;
        for (func, stats) in self.sorted() {
            let latency = |quantile: f64| match stats.latency.len() {
                0 => "-".to_owned(),
                _ => Nanos(stats.quantile(quantile)).to_string(),
            };
            let mut bytes = match stats.bytes {
                0 => "-".to_owned(),
                bytes => Bytes(bytes).to_string(),
            };
            if stats.nested_bytes > 0 {
                nested = true;
                let _ = write!(bytes, " ({} *)", Bytes(stats.nested_bytes));
            }
            table.add_row([
                escaped(func),
                Count(stats.calls).to_string(),
                Count(stats.errors).to_string(),
                Count(stats.unwound).to_string(),
                Count(stats.ends_lost).to_string(),
                Count(stats.open).to_string(),
                bytes,
                latency(0.5),
                latency(0.9),
                latency(0.99),
                match stats.latency.len() {
                    0 => "-".to_owned(),
                    _ => Nanos(stats.max).to_string(),
                },
                bars(&buckets(&stats.latency)),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for column in table.column_iter_mut().skip(1).take(10) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        // What never happened needs no column: lines are long enough.
        let any = |number: fn(&Stats) -> u64| self.functions.values().any(|s| number(s) > 0);
        for (at, used) in [
            (UNWOUND, any(|s| s.unwound)),
            (ENDS_LOST, any(|s| s.ends_lost)),
            (OPEN, any(|s| s.open)),
            (BYTES, any(|s| s.bytes)),
        ] {
            if let Some(column) = table.column_mut(at).filter(|_| !used) {
                column.set_constraint(ColumnConstraint::Hidden);
            }
        }
        let mut text: String = table
            .lines()
            .flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()])
            .collect();
        let [received, sent] = self.total;
        if any(|s| s.bytes) {
            let _ = writeln!(text, "total: {} in, {} out", Bytes(received), Bytes(sent));
        }
        if nested {
            text.push_str(
                "* inside another traced call that moves the same bytes: not in the total\n",
            );
        }
        if self.lost > 0 {
            let _ = writeln!(
                text,
                "{} records were lost and are in no number here",
                Count(self.lost)
            );
        }
        text
    }

    fn json(&self) -> Vec<u8> {
        let functions = self
            .sorted()
            .into_iter()
            .map(|(func, stats)| Row {
                func,
                calls: stats.calls,
                errors: stats.errors,
                unwound: stats.unwound,
                ends_lost: stats.ends_lost,
                open: stats.open,
                bytes: stats.bytes,
                nested_bytes: stats.nested_bytes,
                latency_ns: (!stats.latency.is_empty()).then(|| Latency {
                    p50: stats.quantile(0.5),
                    p90: stats.quantile(0.9),
                    p99: stats.quantile(0.99),
                    max: stats.max,
                    buckets: BOUNDS
                        .into_iter()
                        .map(Some)
                        .chain([None])
                        .zip(buckets(&stats.latency))
                        .filter(|(_, count)| *count > 0)
                        .collect(),
                }),
            })
            .collect();
        let summary = Summary {
            functions,
            bytes_in: self.total[0],
            bytes_out: self.total[1],
            lost: self.lost,
        };
        // Numbers and text into memory: nothing can fail.
        let mut line = serde_json::to_vec(&WithSummary { summary }).unwrap_or_default();
        escape_json(&mut line, 0);
        line.push(b'\n');
        line
    }
}

/// The line of JSON: an object with one field, told from a call by it.
#[derive(Serialize)]
struct WithSummary<'s> {
    summary: Summary<'s>,
}

#[derive(Serialize)]
struct Summary<'s> {
    functions: Vec<Row<'s>>,
    bytes_in: u64,
    bytes_out: u64,
    lost: u64,
}

#[derive(Serialize)]
struct Row<'s> {
    func: &'s str,
    calls: u64,
    errors: u64,
    unwound: u64,
    ends_lost: u64,
    open: u64,
    bytes: u64,
    nested_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ns: Option<Latency>,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
    /// Upper bound in ns (null: none) and count, where there are any.
    buckets: Vec<(Option<u64>, u64)>,
}

/// The way and the number of bytes, when the call says that it moved any.
fn moved(call: &Call) -> Option<(Way, u64)> {
    let bytes = u64::try_from(call.n?).ok()?;
    match call.direction? {
        Direction::In => Some((Way::In, bytes)),
        Direction::Out => Some((Way::Out, bytes)),
        Direction::Both => None,
    }
}

/// Counts below each of [`BOUNDS`], and above the last.
fn buckets(latency: &Histogram<u64>) -> Vec<u64> {
    let mut counts = vec![0; BOUNDS.len() + 1];
    for step in latency.iter_recorded() {
        let at = BOUNDS.partition_point(|&bound| bound <= step.value_iterated_to());
        if let Some(count) = counts.get_mut(at) {
            *count += step.count_at_value();
        }
    }
    counts
}

impl Sink for SummarySink {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Call(call) => self.call(call),
            Record::Gap { lost, .. } => self.lost += lost,
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        for (_, moved) in std::mem::take(&mut self.waiting) {
            self.count(moved);
        }
        let text = match self.style {
            SummaryStyle::Text => self.text().into_bytes(),
            SummaryStyle::Json => self.json(),
        };
        self.out.buffer.extend_from_slice(&text);
        self.out.flush()
    }
}
