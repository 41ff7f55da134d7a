//! Into a recording: what `--record` writes.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sink;
use super::run::Counters;
use crate::record::Record;
use crate::tape::{Head, Tail, TapeWriter};

/// So long a record may wait for its block to fill: what a crash of gotap may
/// cost.
const PATIENCE: Duration = Duration::from_millis(100);

/// Writes a recording.
pub struct RecordSink {
    tape: TapeWriter,
    written: Instant,
    counters: Arc<Counters>,
}

impl RecordSink {
    /// Onto `to`; `counters` tell in the end what was not written.
    pub fn new(
        to: Box<dyn Write + Send>,
        head: &Head,
        counters: Arc<Counters>,
    ) -> io::Result<RecordSink> {
        Ok(RecordSink {
            tape: TapeWriter::new(to, head)?,
            written: Instant::now(),
            counters,
        })
    }
}

impl Sink for RecordSink {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.tape.record(record)
    }

    /// Blocks of a few records would be hardly smaller than the records: one is
    /// written when it is full, or when its time has come.
    fn flush(&mut self) -> io::Result<()> {
        if self.written.elapsed() < PATIENCE {
            return Ok(());
        }
        self.written = Instant::now();
        self.tape.write_block()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.tape.finish(&Tail {
            filtered: self.counters.filtered(),
        })
    }
}
