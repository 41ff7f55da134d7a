//! What gotap says beside its data: lines on stderr that never hold up the
//! tracer. A thread of their own writes them; a stalled terminal stalls it alone.

use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::value::escaped;

/// How long the last words may take to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints `gotap: text` on stderr now, lines after the first indented as given.
pub(super) fn print(text: &str) {
    let safe: Vec<String> = text.lines().map(escaped).collect();
    // In one piece: a program that gotap has started may write there, too.
    let line = format!("gotap: {}\n", safe.join("\n"));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Writes lines to stderr from a thread of its own.
pub(super) struct Messages {
    lines: Sender<String>,
    done: Receiver<()>,
}

impl Messages {
    /// Starts the thread.
    pub fn start() -> Messages {
        let (lines, queue) = channel::<String>();
        let (finished, done) = channel();
        std::thread::spawn(move || {
            for line in queue {
                print(&line);
            }
            drop(finished);
        });
        Messages { lines, done }
    }

    /// Hands a message over; returns at once.
    pub fn say(&self, text: String) {
        let _ = self.lines.send(text);
    }

    /// Waits until all is written, but not for ever.
    pub fn finish(self) {
        drop(self.lines);
        match self.done.recv_timeout(PATIENCE) {
            Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
        }
    }
}
