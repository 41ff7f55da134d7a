//! Records on their way out: which tracepoints they belong to, what those want
//! done, and the figures for `summary`.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value as Json, json};

use super::compile::Action;
use super::output::{Form, Output};
use super::points::Points;
use crate::record::{Call, End, Record};
use crate::script::{Checked, Fact};
use crate::sink::format::Nanos;
use crate::sink::json::JsonSink;
use crate::sink::summary::{SummarySink, SummaryStyle};
use crate::sink::text::TextSink;
use crate::sink::{Color, Sink};
use crate::value::{escaped, quoted};

/// Bytes in memory that a sink writes to.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// Takes what is there.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The figures of the calls so far.
pub struct Figures {
    sink: SummarySink,
    kept: Kept,
    calls: u64,
}

impl Figures {
    /// None yet.
    pub fn new(form: Form) -> Figures {
        let kept = Kept::default();
        let style = match form {
            Form::Text => SummaryStyle::Text,
            Form::Json => SummaryStyle::Json,
        };
        Figures {
            sink: SummarySink::new(Box::new(kept.clone()), style),
            kept,
            calls: 0,
        }
    }

    fn add(&mut self, record: &Record) -> io::Result<()> {
        if let Record::Call(_) = record {
            self.calls += 1;
        }
        self.sink.record(record)
    }

    /// The table, or the object.
    pub fn print(&mut self) -> io::Result<Vec<u8>> {
        if self.calls == 0 {
            return Ok(Vec::new());
        }
        self.sink.finish()?;
        Ok(self.kept.take())
    }
}

/// The sink of a session.
pub struct Watcher {
    points: Arc<Mutex<Points>>,
    figures: Arc<Mutex<Figures>>,
    out: Output,
    calls: Box<dyn Sink>,
    kept: Kept,
    say: Box<dyn Fn(String) + Send>,
}

impl Watcher {
    /// Onto a session's output; `say` is given what is to be said beside.
    pub fn new(
        points: Arc<Mutex<Points>>,
        figures: Arc<Mutex<Figures>>,
        out: Output,
        color: Color,
        say: Box<dyn Fn(String) + Send>,
    ) -> Watcher {
        let kept = Kept::default();
        let to = Box::new(kept.clone());
        let calls: Box<dyn Sink> = match out.form() {
            Form::Text => Box::new(TextSink::new(to, color, jiff::tz::TimeZone::system())),
            Form::Json => Box::new(JsonSink::new(to)),
        };
        Watcher {
            points,
            figures,
            out,
            calls,
            kept,
            say,
        }
    }

    fn call(&mut self, record: &Record, call: &Call) -> io::Result<()> {
        let (takers, errors) = self
            .points
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .takers(call);
        for error in errors {
            (self.say)(error);
        }
        if takers.is_empty() {
            return Ok(());
        }
        self.figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(record)?;
        // Its stack is shown by those that ask for it.
        let whole = takers.iter().any(|(_, actions)| {
            actions.iter().any(|a| matches!(a, Action::Stack(_))) && self.out.form() == Form::Json
        });
        if call.stack.is_empty() || whole {
            self.calls.record(record)?;
        } else {
            let mut bare = call.clone();
            bare.stack = Vec::new();
            self.calls.record(&Record::Call(Box::new(bare)))?;
        }
        self.calls.flush()?;
        let mut bytes = self.kept.take();
        for (id, actions) in &takers {
            for action in actions {
                match self.out.form() {
                    Form::Text => text(&mut bytes, action, call),
                    Form::Json => object(&mut bytes, *id, action, call),
                }
            }
        }
        self.out.write_all(&bytes)
    }
}

impl Sink for Watcher {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Call(call) => self.call(record, call),
            Record::Gap { .. } => {
                self.figures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(record)?;
                self.calls.record(record)?;
                self.calls.flush()?;
                let bytes = self.kept.take();
                self.out.write_all(&bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// An action's result, indented below its call.
fn text(out: &mut Vec<u8>, action: &Action, call: &Call) {
    // Writing to a Vec cannot fail.
    let _ = match action {
        Action::Print(parts) => {
            let shown: Vec<String> = parts
                .iter()
                .map(|(name, checked)| format!("{} = {}", escaped(name), shown(checked, call)))
                .collect();
            writeln!(out, "    {}", shown.join(", "))
        }
        Action::Args => {
            let mut done = Ok(());
            for (name, value) in call.args.iter().chain(&*call.results) {
                let line = escaped(&format!("{name} = {value}"));
                done = done.and_then(|()| writeln!(out, "    {line}"));
            }
            done
        }
        Action::Locals => {
            let mut done = match no_locals(call) {
                Some(why) => writeln!(out, "    (no local variables: {why})"),
                None if call.locals.is_empty() => writeln!(out, "    (no local variables)"),
                None => Ok(()),
            };
            for (name, value) in &call.locals {
                let line = escaped(&format!("{name} = {value}"));
                done = done.and_then(|()| writeln!(out, "    {line}"));
            }
            done
        }
        Action::Stack(most) => {
            let mut done = Ok(());
            for (i, frame) in call.stack.iter().take(*most).enumerate() {
                let mut place = format!("{}:{}", frame.file, frame.line);
                if frame.inlined {
                    place.push_str(" (inlined)");
                }
                let line = escaped(&format!("{i:2}  {}  {place}", frame.func));
                done = done.and_then(|()| writeln!(out, "    {line}"));
            }
            done
        }
    };
}

/// Why a call has no local variables to show: its frame is read at its return.
fn no_locals(call: &Call) -> Option<&'static str> {
    match call.end {
        End::Return | End::Passed => call.no_locals,
        End::Panic => Some("a panic ended the call, and its frame was gone before that was seen"),
        End::Exit => Some("runtime.Goexit or the program's end ended the call, and its frame"),
        End::Unwound => Some("the call ended without a return, and its frame was gone"),
        End::Lost => Some("the end of the call was lost, as far as is known"),
        End::Open => Some("the call has not ended"),
    }
}

fn shown(checked: &Checked, call: &Call) -> String {
    match checked.eval(call) {
        Ok(fact) => fact_text(&fact),
        Err(error) => format!("({error})"),
    }
}

/// A fact as `print` shows it.
pub fn fact_text(fact: &Fact<'_>) -> String {
    match fact {
        Fact::Absent => "(absent)".to_owned(),
        Fact::Nil => "nil".to_owned(),
        Fact::Bool(b) => b.to_string(),
        Fact::Int(n) => n.to_string(),
        Fact::Float(x) => format!("{x:?}"),
        Fact::Str(text) => quoted(text.as_bytes()),
        Fact::Duration(ns) if *ns < 0 => format!("-{}", Nanos(ns.unsigned_abs())),
        Fact::Duration(ns) => Nanos(ns.unsigned_abs()).to_string(),
        Fact::Other(value) => escaped(&value.to_string()),
        Fact::Whole(value) => escaped(&value.to_string()),
    }
}

/// A fact in JSON.
pub fn fact_json(fact: &Fact<'_>) -> Json {
    match fact {
        Fact::Absent | Fact::Nil => Json::Null,
        Fact::Bool(b) => (*b).into(),
        Fact::Int(n) => i64::try_from(*n)
            .map(Json::from)
            .or_else(|_| u64::try_from(*n).map(Json::from))
            .unwrap_or_else(|_| n.to_string().into()),
        Fact::Float(x) => (*x).into(),
        Fact::Str(text) => (&**text).into(),
        Fact::Duration(ns) => (*ns).into(),
        Fact::Other(value) => serde_json::to_value(value).unwrap_or(Json::Null),
        Fact::Whole(value) => serde_json::to_value(&**value).unwrap_or(Json::Null),
    }
}

/// An action's result as an object of its own line.
fn object(out: &mut Vec<u8>, id: usize, action: &Action, call: &Call) {
    let mut object = Map::new();
    let mut put = |name: &str, value: Json| drop(object.insert(name.into(), value));
    put("tracepoint", id.into());
    put("call", call.id.into());
    put("goid", call.goid.map_or(Json::Null, Json::from));
    let values = |list: &[(Arc<str>, crate::value::Value)]| {
        let all = list
            .iter()
            .map(|(n, v)| (n.to_string(), serde_json::to_value(v).unwrap_or(Json::Null)));
        Json::Object(all.collect())
    };
    match action {
        Action::Print(parts) => {
            put("action", "print".into());
            let mut shown = Map::new();
            for (name, checked) in parts {
                let value = match checked.eval(call) {
                    Ok(fact) => fact_json(&fact),
                    Err(error) => json!({ "error": error.to_string() }),
                };
                shown.insert(name.clone(), value);
            }
            put("values", Json::Object(shown));
        }
        Action::Args => {
            put("action", "args".into());
            put("args", values(&call.args));
            put("results", values(&call.results));
        }
        Action::Locals => {
            put("action", "locals".into());
            put("locals", values(&call.locals));
            if let Some(why) = no_locals(call) {
                put("why", why.into());
            }
        }
        Action::Stack(most) => {
            put("action", "stack".into());
            let frames = call.stack.iter().take(*most).map(|f| {
                json!({ "func": &*f.func, "file": &*f.file, "line": f.line, "inlined": f.inlined })
            });
            put("stack", frames.collect::<Vec<Json>>().into());
        }
    }
    // Text into memory: it cannot fail.
    let _ = serde_json::to_writer(&mut *out, &object);
    out.push(b'\n');
}
