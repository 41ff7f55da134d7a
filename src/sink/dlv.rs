//! The two-line form of `dlv trace`, for those who grep it:
//!
//! ```text
//! > goroutine(1): main.foo(99, 9801)
//! >> goroutine(1): main.foo => (9900)
//! ```
//!
//! Both lines are written when the call ends, so no other call comes between
//! them. A call that did not return says how it ended in place of the results
//! (`=> panic`), one that is still open has the first line only. A goroutine
//! that gotap does not know is 0, as there.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::parts::{Outcome, outcomes, push_error};
use super::text::push_gap;
use super::values::render_value;
use super::{Out, Sink};
use crate::record::{Call, Conn, End, Record};
use crate::value::push_escaped;

/// Writes the form of `dlv trace`.
pub struct DlvSink {
    out: Out,
    line: String,
}

impl DlvSink {
    /// Onto `to`.
    pub fn new(to: Box<dyn Write + Send>) -> Self {
        Self {
            out: Out::new(to),
            line: String::new(),
        }
    }

    fn call(&mut self, call: &Call) {
        let goid = call.goid.unwrap_or(0);
        let _ = write!(self.line, "> goroutine({goid}): ");
        push_escaped(&mut self.line, &call.func);
        self.line.push('(');
        self.arguments(call);
        self.line.push_str(")\n");
        if !call.stack.is_empty() {
            self.stack(call);
        }
        if matches!(call.end, End::Open | End::Passed) {
            return;
        }
        let _ = write!(self.line, ">> goroutine({goid}): ");
        push_escaped(&mut self.line, &call.func);
        self.line.push_str(" => ");
        match call.end {
            End::Return => self.results(call),
            End::Panic | End::Exit | End::Unwound | End::Lost | End::Open | End::Passed => {
                self.line.push_str(call.end.as_str());
            }
        }
        self.line.push('\n');
    }

    fn arguments(&mut self, call: &Call) {
        if call.args.is_empty() {
            if let Some(conn) = &call.conn {
                self.conn(conn, call.asked);
            }
            return;
        }
        let mut before = "";
        for (_, value) in &*call.args {
            self.line.push_str(before);
            before = ", ";
            render_value(&mut self.line, value);
        }
    }

    /// Where no argument could be read, what is known of the connection.
    fn conn(&mut self, conn: &Conn, asked: Option<u64>) {
        match conn.fd {
            Some(fd) => drop(write!(self.line, "fd={fd}")),
            None => self.line.push_str("fd=?"),
        }
        if let Some(asked) = asked {
            let _ = write!(self.line, ", len={asked}");
        }
    }

    fn results(&mut self, call: &Call) {
        self.line.push('(');
        let mut before = "";
        for outcome in outcomes(call) {
            self.line.push_str(before);
            before = ", ";
            match outcome {
                Outcome::N(n) => drop(write!(self.line, "{n}")),
                Outcome::Value(_, value) => render_value(&mut self.line, value),
                Outcome::Err(error) => push_error(&mut self.line, error),
            }
        }
        self.line.push(')');
    }

    fn stack(&mut self, call: &Call) {
        self.line.push_str("\tStack:\n");
        for (depth, frame) in call.stack.iter().enumerate() {
            let _ = write!(self.line, "\t\t{depth}  in ");
            push_escaped(&mut self.line, &frame.func);
            self.line.push_str("\n\t\t   at ");
            push_escaped(&mut self.line, &frame.file);
            let _ = writeln!(self.line, ":{}", frame.line);
        }
    }
}

impl Sink for DlvSink {
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
