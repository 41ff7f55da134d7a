//! How records are written.
//!
//! Who lives here: the [`Sink`] trait and its kinds ([`text`], [`dlv`],
//! [`json`], [`summary`], [`recording`]), looks at goroutines ([`goroutines`]), the bounded [`queue`] between the tracer and the
//! thread that writes ([`run`]), and how times, sizes and target bytes are
//! spelt ([`mod@format`], [`escape`], [`clock`]). Nobody here knows a process.
//! Allowed in: session, repl, cli.

pub mod clock;
pub mod dlv;
pub mod escape;
pub mod format;
pub mod goroutines;
pub mod json;
mod parts;
pub mod queue;
pub mod recording;
pub mod run;
#[cfg(test)]
pub(crate) mod samples;
pub mod summary;
#[cfg(test)]
mod tests;
pub mod text;
mod values;

use std::io::{self, Write};

use crate::record::Record;

/// Whether to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Color {
    /// With SGR sequences.
    Always,
    /// Plain.
    Never,
}

/// Where records go.
pub trait Sink: Send {
    /// Takes one record. It may stay in a buffer until [`Sink::flush`].
    fn record(&mut self, record: &Record) -> io::Result<()>;
    /// Hands everything taken so far to the system.
    fn flush(&mut self) -> io::Result<()>;
    /// No record follows: writes what has to stand at the end, and flushes.
    fn finish(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// Several sinks, one after the other.
pub struct Tee(pub Vec<Box<dyn Sink>>);

impl Sink for Tee {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.record(record))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.flush())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.finish())
    }
}

/// Bytes gathered before a write.
const CHUNK: usize = 32 * 1024;

/// A writer with a buffer that always ends at the end of a record: a reader
/// never sees half a line for longer than a write takes.
struct Out {
    to: Box<dyn Write + Send>,
    buffer: Vec<u8>,
}

impl Out {
    fn new(to: Box<dyn Write + Send>) -> Self {
        Self {
            to,
            buffer: Vec::with_capacity(2 * CHUNK),
        }
    }

    /// The record in the buffer is complete.
    fn end_of_record(&mut self) -> io::Result<()> {
        if self.buffer.len() < CHUNK {
            return Ok(());
        }
        self.hand_over()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let result = self.to.write_all(&self.buffer);
        self.buffer.clear();
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.hand_over()?;
        }
        self.to.flush()
    }
}
