//! Where a session's output goes: a thread of its own writes it, so that a
//! terminal that is stopped, or a pipe that nobody reads, holds up neither the
//! prompt nor the tracer. Records wait for it in a bounded queue of their own,
//! which drops and counts; commands' answers are few, and kept.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::value::escaped;

/// Bytes that wait to be written before the writer of records waits too.
const ENOUGH: usize = 256 << 10;
/// How long a stalled reader is waited for in the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long an answer is waited for before the next prompt.
const ORDERLY: Duration = Duration::from_millis(200);
/// The same before something is said beside it.
const BESIDE: Duration = Duration::from_millis(100);

/// What writes, in the end.
pub type Writer = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// How a session prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

struct State {
    pending: Vec<u8>,
    writing: bool,
    /// What reads was too slow once, and has not caught up.
    late: bool,
    closed: bool,
    broken: Option<io::ErrorKind>,
    transcript: Option<Transcript>,
}

struct Transcript {
    file: File,
    /// Print to the file alone.
    alone: bool,
}

/// Text without the sequences that colour it on a terminal (ECMA-48, CSI: up to a
/// byte from 0x40 to 0x7e). What the target wrote has none: it is escaped.
fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, more @ ..] = rest {
        rest = more;
        if let (0x1b, [b'[', sequence @ ..]) = (first, more) {
            let end = sequence.iter().position(|b| (0x40..=0x7e).contains(b));
            let len = end.map_or(sequence.len(), |end| end + 1);
            rest = sequence.get(len..).unwrap_or_default();
        } else {
            out.push(*first);
        }
    }
    out
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    form: Form,
}

/// A handle on a session's output; clones reach the same one.
#[derive(Clone)]
pub struct Output(Arc<Shared>);

impl Output {
    /// Starts the thread that writes.
    pub fn start(form: Form, mut to: Writer, linger: Duration) -> Output {
        let output = Output(Arc::new(Shared {
            state: Mutex::new(State {
                pending: Vec::new(),
                writing: false,
                late: false,
                closed: false,
                broken: None,
                transcript: None,
            }),
            changed: Condvar::new(),
            form,
        }));
        let own = output.clone();
        std::thread::spawn(move || own.write_all(&mut to, linger));
        output
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(
        &'s self,
        state: MutexGuard<'s, State>,
        longest: Duration,
    ) -> MutexGuard<'s, State> {
        self.0
            .changed
            .wait_timeout(state, longest)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn write_all(&self, to: &mut Writer, linger: Duration) {
        loop {
            let mut state = self.lock();
            while state.pending.is_empty() {
                if state.closed {
                    return;
                }
                state = self.wait(state, Duration::from_secs(3600));
            }
            state.writing = true;
            let bytes = std::mem::take(&mut state.pending);
            let mut alone = false;
            if let Some(transcript) = &mut state.transcript {
                alone = transcript.alone;
                // A full disk ends the transcript, not the session.
                if transcript.file.write_all(&plain(&bytes)).is_err() {
                    state.transcript = None;
                }
            }
            drop(state);
            self.0.changed.notify_all();
            let done = if alone { Ok(()) } else { to(&bytes) };
            let mut state = self.lock();
            state.writing = false;
            state.late &= !state.pending.is_empty();
            if let Err(error) = done {
                state.broken = Some(error.kind());
                state.pending.clear();
                state.closed = true;
            }
            drop(state);
            self.0.changed.notify_all();
            // Gathers what comes next: a prompt is drawn anew for each portion.
            if !linger.is_zero() {
                std::thread::sleep(linger);
            }
        }
    }

    /// How it prints.
    pub fn form(&self) -> Form {
        self.0.form
    }

    /// Hands text over; returns at once.
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.broken.is_none() {
            state.pending.extend_from_slice(bytes);
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// The answer of a command: its lines as they are, or as one object.
    pub fn answer(&self, command: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.form() {
            Form::Text => {
                self.push(text.as_bytes());
                if !text.ends_with('\n') {
                    self.push(b"\n");
                }
            }
            Form::Json => {
                let mut object = Map::new();
                object.insert("command".into(), command.into());
                let lines: Vec<Value> = text.lines().map(Value::from).collect();
                object.insert("output".into(), lines.into());
                self.object(&object);
            }
        }
    }

    /// One object a line.
    pub fn object(&self, object: &Map<String, Value>) {
        // Text into memory: it cannot fail.
        let mut line = serde_json::to_vec(object).unwrap_or_default();
        line.push(b'\n');
        self.push(&line);
    }

    /// Something beside the data: on the terminal with it, else on stderr.
    pub fn say(&self, text: &str, terminal: bool) {
        let lines: Vec<String> = text.lines().map(escaped).collect();
        let text = lines.join("\n");
        if terminal {
            self.push(format!("{text}\n").as_bytes());
        } else {
            self.in_order();
            if let Some(transcript) = &mut self.lock().transcript {
                let _ = writeln!(transcript.file, "gotap: {text}");
            }
            let _ = writeln!(io::stderr(), "gotap: {text}");
        }
    }

    /// What was handed over before stands before what comes now, also where both
    /// go to one file; but a reader that does not read is waited for once.
    fn in_order(&self) {
        if !self.lock().late && !self.flushed(BESIDE) {
            self.lock().late = true;
        }
    }

    /// What was typed, for the transcript.
    pub fn typed(&self, line: &str) {
        self.in_order();
        if let Some(transcript) = &mut self.lock().transcript {
            let _ = writeln!(transcript.file, "(gotap) {line}");
        }
    }

    /// Copies all that comes to a file, or to it alone; `None` ends that.
    pub fn transcribe(&self, to: Option<(File, bool)>) {
        self.settle();
        self.lock().transcript = to.map(|(file, alone)| Transcript { file, alone });
    }

    /// Waits a moment until all is written.
    pub fn settle(&self) {
        self.flushed(ORDERLY);
    }

    fn flushed(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        let mut state = self.lock();
        while !state.pending.is_empty() || state.writing {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.wait(state, left);
        }
        true
    }

    /// Nobody reads any more.
    pub fn broken(&self) -> Option<io::ErrorKind> {
        self.lock().broken
    }

    /// No more comes. False when what was still to be written is lost.
    pub fn finish(&self) -> bool {
        let done = self.flushed(LAST_WORDS);
        self.lock().closed = true;
        self.0.changed.notify_all();
        done
    }
}

/// For records: waits while a lot is still to be written.
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        loop {
            if let Some(kind) = state.broken {
                return Err(kind.into());
            }
            if state.closed || state.pending.len() < ENOUGH {
                break;
            }
            state = self.wait(state, Duration::from_secs(3600));
        }
        state.pending.extend_from_slice(bytes);
        drop(state);
        self.0.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_transcript_has_no_colours() {
        let text = |bytes: &[u8]| String::from_utf8(plain(bytes)).expect("UTF-8");
        assert_eq!(
            text(b"\x1b[2m12:00\x1b[0m  g1 \x1b[1;31merr\x1b[0m\n"),
            "12:00  g1 err\n"
        );
        assert_eq!(text("caf\u{e9} → [1]".as_bytes()), "caf\u{e9} → [1]");
        assert_eq!(text(b"\x1b[2"), "");
        assert_eq!(text(b"\x1b"), "\x1b");
    }
}
