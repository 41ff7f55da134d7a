//! One JSON object a line.
//!
//! A call has the fields of [`crate::script::CALL_FACTS`] (without `dur`) and
//! `args` and `results`, in this order, each absent where it does not apply:
//!
//! | field | |
//! |---|---|
//! | `id`, `parent` | numbers; calls count from 1 in the order of entries |
//! | `time` | of the entry, RFC 3339 in UTC with nine decimals |
//! | `dur_ns` | from entry to end; how long it has been running, when `end` is `open` |
//! | `goid`, `tid`, `func` | goroutine, thread (unknown for a call that was running at attach and did not end), function |
//! | `fd`, `network`, `local`, `remote`, `note` | of the net family; `note` says that the connection is closed or nil |
//! | `len` | bytes asked: the length of the buffer handed in |
//! | `args`, `results` | objects: names to values |
//! | `n` | bytes that the call returned |
//! | `err` | null or a text; absent when the function returns no error |
//! | `err_structural` | true when the text is the error's fields, because its Error method is the program's own code |
//! | `end` | `return`, `panic`, `exit`, `unwound`, `lost`, `open` |
//! | `file`, `line` | of a line that was passed (`end` is `passed`), else absent |
//! | `since_attach` | true, or absent |
//! | `entry_lost` | true, or absent: records were lost, and its entry may be among them |
//! | `doubtful` | true, or absent: records were lost while it ran, and its end may be that of a later call |
//! | `late` | true, or absent: something was read after the call had gone on |
//! | `stack` | array of `{func, file, line, inlined}`, innermost first |
//! | `payload`, `payload_len` | the first bytes, escaped as Go's `%q` does, and how many there were |
//!
//! Where records were lost stands `{"lost":12,"why":"queue"}`. An open call that
//! ends later is written again with the same id.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use super::clock::UtcClock;
use super::escape::escape_json;
use super::values::json_value;
use super::{Out, Sink};
use crate::probe::hash::WordMap;
use crate::record::{Call, Conn, ErrorValue, Frame, Named, Payload, Record};
use crate::value::{Value, quoted};

/// Writes JSON lines.
pub struct JsonSink {
    out: Out,
    clock: UtcClock,
    scratch: String,
    known: Known,
}

/// Texts of parts that calls share, by where the parts lie, which are kept for
/// that.
#[derive(Default)]
struct Known {
    named: WordMap<usize, (Named, Vec<u8>)>,
    conns: WordMap<usize, (Arc<Conn>, Vec<u8>)>,
}

/// So many are kept of each.
const MOST: usize = 1 << 12;

/// Longer ones are not.
const LONGEST: usize = 1 << 10;

impl Known {
    fn make_room(&mut self) {
        if self.named.len() >= MOST {
            self.named.clear();
        }
        if self.conns.len() >= MOST {
            self.conns.clear();
        }
    }
}

impl JsonSink {
    /// Onto `to`.
    pub fn new(to: Box<dyn Write + Send>) -> Self {
        Self {
            out: Out::new(to),
            clock: UtcClock::default(),
            scratch: String::new(),
            known: Known::default(),
        }
    }
}

impl Sink for JsonSink {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        let start = self.out.buffer.len();
        let mut object = Object {
            out: &mut self.out.buffer,
            scratch: &mut self.scratch,
            known: &mut self.known,
        };
        match record {
            Record::Gap { lost, why } => {
                object.first("lost");
                object.plain(lost);
                object.field("why", why);
            }
            Record::Call(call) => object.call(call, &mut self.clock),
        }
        escape_json(&mut self.out.buffer, start);
        self.out.buffer.extend_from_slice(b"}\n");
        self.out.end_of_record()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// An object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    scratch: &'o mut String,
    known: &'o mut Known,
}

impl Object<'_> {
    fn first(&mut self, name: &str) {
        self.raw("{\"");
        self.raw(name);
        self.raw("\":");
    }

    /// Field names are our own words: nothing in them needs escaping.
    fn name(&mut self, name: &str) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn plain(&mut self, value: &(impl Serialize + ?Sized)) {
        // Numbers and text into memory: neither can fail.
        let _ = serde_json::to_writer(&mut *self.out, value);
    }

    fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        self.plain(value);
    }

    fn maybe(&mut self, name: &str, value: Option<&(impl Serialize + ?Sized)>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    fn displayed(&mut self, name: &str, value: &impl Display) {
        self.scratch.clear();
        let _ = write!(self.scratch, "{value}");
        self.name(name);
        let _ = serde_json::to_writer(&mut *self.out, self.scratch.as_str());
    }

    fn call(&mut self, call: &Call, clock: &mut UtcClock) {
        self.first("id");
        self.plain(&call.id);
        self.maybe("parent", call.parent.as_ref());
        self.scratch.clear();
        clock.push(self.scratch, call.time_ns);
        self.name("time");
        self.out.push(b'"');
        self.out.extend_from_slice(self.scratch.as_bytes());
        self.out.push(b'"');
        self.maybe("dur_ns", call.dur_ns.as_ref());
        self.maybe("goid", call.goid.as_ref());
        self.maybe("tid", (call.tid != 0).then_some(&call.tid));
        self.field("func", &*call.func);
        if let Some(conn) = &call.conn {
            self.conn(conn);
        }
        self.maybe("len", call.asked.as_ref());
        self.values("args", &call.args);
        self.values("results", &call.results);
        self.maybe("n", call.n.as_ref());
        match &call.err {
            None => {}
            Some(ErrorValue::Nil) => self.field("err", &()),
            Some(ErrorValue::Text { text, structural }) => {
                self.field("err", &**text);
                self.maybe("err_structural", structural.then_some(&true));
            }
        }
        self.field("end", call.end.as_str());
        if let Some(passed) = &call.passed {
            self.field("file", &*passed.file);
            self.field("line", &passed.line);
        }
        self.maybe("since_attach", call.since_attach.then_some(&true));
        self.maybe("entry_lost", call.entry_lost.then_some(&true));
        self.maybe("doubtful", call.doubtful.then_some(&true));
        self.maybe("late", call.late.then_some(&true));
        self.stack(&call.stack);
        if let Some(payload) = &call.payload {
            self.payload(payload);
        }
    }

    fn conn(&mut self, conn: &Arc<Conn>) {
        let place = Arc::as_ptr(conn).addr();
        if let Some((_, text)) = self.known.conns.get(&place) {
            self.out.extend_from_slice(text);
            return;
        }
        let start = self.out.len();
        self.conn_fields(conn);
        let text = self.out.get(start..).unwrap_or_default();
        if text.len() <= LONGEST {
            self.known.make_room();
            self.known
                .conns
                .insert(place, (conn.clone(), text.to_vec()));
        }
    }

    fn conn_fields(&mut self, conn: &Conn) {
        self.maybe("fd", conn.fd.as_ref());
        self.maybe("network", conn.network.as_deref());
        for (name, endpoint) in [("local", &conn.local), ("remote", &conn.remote)] {
            if let Some(endpoint) = endpoint
                && !endpoint.is_unnamed()
            {
                self.displayed(name, endpoint);
            }
        }
        self.maybe("note", conn.note);
    }

    fn values(&mut self, name: &str, values: &Named) {
        if values.is_empty() {
            return;
        }
        self.name(name);
        let place = values.as_ptr().addr();
        if let Some((_, text)) = self.known.named.get(&place) {
            self.out.extend_from_slice(text);
            return;
        }
        let start = self.out.len();
        self.list(values);
        let text = self.out.get(start..).unwrap_or_default();
        // What nobody shares will not come again.
        if text.len() <= LONGEST && Arc::strong_count(values) > 1 {
            self.known.make_room();
            self.known
                .named
                .insert(place, (values.clone(), text.to_vec()));
        }
    }

    fn list(&mut self, values: &[(Arc<str>, Value)]) {
        let mut before = b'{';
        for (name, value) in values {
            self.out.push(before);
            before = b',';
            self.plain(&**name);
            self.out.push(b':');
            json_value(self.out, value);
        }
        self.out.push(b'}');
    }

    fn stack(&mut self, stack: &[Frame]) {
        if stack.is_empty() {
            return;
        }
        self.name("stack");
        let mut before = b'[';
        for frame in stack {
            self.out.push(before);
            before = b',';
            self.first("func");
            self.plain(&*frame.func);
            self.field("file", &*frame.file);
            self.field("line", &frame.line);
            self.maybe("inlined", frame.inlined.then_some(&true));
            self.out.push(b'}');
        }
        self.out.push(b']');
    }

    fn payload(&mut self, payload: &Payload) {
        let quoted = quoted(&payload.bytes);
        // Without the quotes: JSON has its own.
        let text = quoted.get(1..quoted.len() - 1).unwrap_or("");
        self.field("payload", text);
        self.field("payload_len", &payload.len);
    }
}
