//! One line a call, for people:
//!
//! ```text
//! 12:01:02.123456  g34  net.(*conn).Read  fd=7 tcp 127.0.0.1:8080 ← 127.0.0.1:53211  len=4096  → n=64 err=nil  1.204ms
//! ```
//!
//! Time of day at the entry; goroutine (`t1234`, the thread, where there is
//! none); function, after `· ` when it happened in another traced call, which
//! is printed later since it ends later; connection and bytes asked, or the
//! arguments; after `→` the results, or how it ended when not by a return
//! (`panic`, `exit`, `unwound`, `lost`, `open 1.5s`); duration, or `(since attach)`,
//! `(entry lost)`; and `(doubtful)`.
//! Below it, indented, the first bytes moved and the stack, when asked for.
//! Columns widen when something wider comes, and stay so.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::clock::LocalClock;
use super::format::{Bytes, Nanos};
use super::parts::{Outcome, arguments, outcomes, push_error};
use super::values::render_value;
use super::{Color, Out, Sink};
use crate::record::{Call, Conn, Direction, End, Endpoint, ErrorValue, Frame, Payload, Record};
use crate::value::{push_escaped, quoted};

const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// A column: as wide as the widest so far, up to a bound that one odd entry
/// cannot push everything beyond.
struct Column {
    width: usize,
    most: usize,
}

impl Column {
    fn new(width: usize, most: usize) -> Self {
        Self { width, most }
    }

    /// Fills up with spaces what was written from byte `start` on.
    fn fill(&mut self, line: &mut String, start: usize) {
        let used = line.get(start..).map_or(0, |text| text.chars().count());
        self.width = self.width.max(used.min(self.most));
        for _ in used..self.width {
            line.push(' ');
        }
    }
}

/// Writes lines for people.
pub struct TextSink {
    out: Out,
    color: bool,
    clock: LocalClock,
    line: String,
    who: Column,
    func: Column,
    conn: Column,
    len: Column,
}

impl TextSink {
    /// Onto `to`, with times of the given zone (`TimeZone::system()` for
    /// people).
    pub fn new(to: Box<dyn Write + Send>, color: Color, zone: TimeZone) -> Self {
        Self {
            out: Out::new(to),
            color: color == Color::Always,
            clock: LocalClock::new(zone),
            line: String::new(),
            who: Column::new(3, 12),
            func: Column::new(0, 48),
            conn: Column::new(0, 80),
            len: Column::new(0, 12),
        }
    }

    fn colored(&mut self, sgr: &str, write: impl FnOnce(&mut Self)) {
        if self.color {
            self.line.push_str(sgr);
        }
        write(self);
        if self.color {
            self.line.push_str(RESET);
        }
    }

    fn call(&mut self, call: &Call) {
        self.colored(DIM, |sink| sink.clock.push(&mut sink.line, call.time_ns));
        self.line.push_str("  ");
        let start = self.line.len();
        let _ = match call.goid {
            Some(goid) => write!(self.line, "g{goid}"),
            None => write!(self.line, "t{}", call.tid),
        };
        self.who.fill(&mut self.line, start);
        self.line.push_str("  ");
        self.colored(CYAN, |sink| {
            let start = sink.line.len();
            if call.parent.is_some() {
                sink.line.push_str("· ");
            }
            push_escaped(&mut sink.line, &call.func);
            sink.func.fill(&mut sink.line, start);
        });
        if let Some(conn) = &call.conn {
            self.conn(conn, call.direction);
        }
        if let Some(asked) = call.asked {
            self.line.push_str("  ");
            let start = self.line.len();
            let _ = write!(self.line, "len={asked}");
            self.len.fill(&mut self.line, start);
        }
        let mut before = "  ";
        for (name, value) in arguments(call) {
            self.line.push_str(before);
            before = " ";
            push_escaped(&mut self.line, name);
            self.line.push('=');
            render_value(&mut self.line, value);
        }
        self.end(call);
        self.line.push('\n');
        if let Some(payload) = &call.payload {
            self.payload(payload);
        }
        for frame in &call.stack {
            self.frame(frame);
        }
    }

    fn conn(&mut self, conn: &Conn, direction: Option<Direction>) {
        self.line.push_str("  ");
        let start = self.line.len();
        match (conn.note, conn.fd) {
            (Some(note), None) => drop(write!(self.line, "({note})")),
            (Some(note), Some(fd)) => drop(write!(self.line, "fd={fd} ({note})")),
            (None, Some(fd)) => drop(write!(self.line, "fd={fd}")),
            (None, None) => self.line.push_str("fd=?"),
        }
        if let Some(network) = &conn.network {
            self.line.push(' ');
            push_escaped(&mut self.line, network);
        }
        let arrow = match direction {
            Some(Direction::In) => " ←",
            Some(Direction::Out) => " →",
            Some(Direction::Both) | None => " ↔",
        };
        if let Some(local) = named(conn.local.as_ref()) {
            self.line.push(' ');
            push_escaped(&mut self.line, &local.to_string());
        }
        if let Some(remote) = named(conn.remote.as_ref()) {
            self.line.push_str(arrow);
            self.line.push(' ');
            push_escaped(&mut self.line, &remote.to_string());
        }
        self.conn.fill(&mut self.line, start);
    }

    fn end(&mut self, call: &Call) {
        match call.end {
            End::Return => self.results(call),
            End::Panic | End::Exit | End::Unwound | End::Lost | End::Open => {
                self.line.push_str("  → ");
                self.colored(RED, |sink| sink.line.push_str(call.end.as_str()));
            }
            End::Passed => {
                if let Some(passed) = &call.passed {
                    self.line.push_str("  at ");
                    push_escaped(&mut self.line, &passed.file);
                    let _ = write!(self.line, ":{}", passed.line);
                }
            }
        }
        match (call.since_attach, call.dur_ns) {
            (true, _) => self.line.push_str("  (since attach)"),
            (false, Some(ns)) if call.end == End::Open => {
                let _ = write!(self.line, " {}", Nanos(ns));
            }
            (false, Some(ns)) => drop(write!(self.line, "  {}", Nanos(ns))),
            (false, None) if call.entry_lost => self.line.push_str("  (entry lost)"),
            (false, None) => {}
        }
        if call.doubtful {
            self.line.push_str("  (doubtful)");
        }
    }

    fn results(&mut self, call: &Call) {
        let mut before = "  → ";
        for outcome in outcomes(call) {
            self.line.push_str(before);
            before = " ";
            match outcome {
                Outcome::N(n) => drop(write!(self.line, "n={n}")),
                Outcome::Value(name, value) => {
                    push_escaped(&mut self.line, name);
                    self.line.push('=');
                    render_value(&mut self.line, value);
                }
                Outcome::Err(error @ ErrorValue::Nil) => {
                    self.line.push_str("err=");
                    push_error(&mut self.line, error);
                }
                Outcome::Err(error) => self.colored(RED, |sink| {
                    sink.line.push_str("err=");
                    push_error(&mut sink.line, error);
                }),
            }
        }
    }

    fn payload(&mut self, payload: &Payload) {
        self.line.push_str("    ");
        self.line.push_str(&quoted(&payload.bytes));
        if payload.len > payload.bytes.len() as u64 {
            let _ = write!(self.line, "… of {}", Bytes(payload.len));
        }
        self.line.push('\n');
    }

    fn frame(&mut self, frame: &Frame) {
        self.line.push_str("    ");
        push_escaped(&mut self.line, &frame.func);
        self.line.push_str("  ");
        self.colored(DIM, |sink| {
            push_escaped(&mut sink.line, &frame.file);
            if frame.line > 0 {
                let _ = write!(sink.line, ":{}", frame.line);
            }
        });
        if frame.inlined {
            self.line.push_str(" (inlined)");
        }
        self.line.push('\n');
    }
}

fn named(endpoint: Option<&Endpoint>) -> Option<&Endpoint> {
    endpoint.filter(|endpoint| !endpoint.is_unnamed())
}

impl Sink for TextSink {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.line.clear();
        match record {
            Record::Call(call) => self.call(call),
            Record::Gap { lost, why } => push_gap(&mut self.line, *lost, why),
        }
        self.out.buffer.extend_from_slice(self.line.as_bytes());
        self.out.end_of_record()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line of its own where records are missing.
pub(super) fn push_gap(line: &mut String, lost: u64, why: &str) {
    let records = if lost == 1 { "record" } else { "records" };
    let _ = writeln!(line, "-- {lost} {records} lost ({why}) --");
}
