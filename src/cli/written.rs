//! How calls are written by `trace` and `show`: the sinks for the options that
//! both have, and the file or stdout that they write to.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::trace::{Output, Style};
use crate::sink::dlv::DlvSink;
use crate::sink::json::JsonSink;
use crate::sink::summary::{SummarySink, SummaryStyle};
use crate::sink::text::TextSink;
use crate::sink::{Color, Sink};
use crate::sys::is_terminal;

/// Which of them are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Lines or JSON.
    pub output: Output,
    /// How lines look.
    pub style: Style,
    /// Each call.
    pub calls: bool,
    /// The table in the end.
    pub summary: bool,
    /// stdout, which may be a terminal.
    pub stdout: bool,
}

/// The file that is named, or stdout.
pub fn open(path: Option<&Path>) -> anyhow::Result<Box<dyn Write + Send>> {
    Ok(match path {
        Some(path) => Box::new(create(path)?),
        None => Box::new(std::io::stdout()),
    })
}

/// A file to write to.
pub fn create(path: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::File::create(path).with_context(|| format!("cannot write to {}", path.display()))
}

/// The sinks, all onto `to`.
pub fn sinks(wanted: Wanted, to: Box<dyn Write + Send>) -> Vec<Box<dyn Sink>> {
    let terminal = wanted.stdout && is_terminal(&std::io::stdout());
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let color = if terminal && !plain {
        Color::Always
    } else {
        Color::Never
    };
    let shared = Shared::new(to);
    let calls: Box<dyn Sink> = match (wanted.output, wanted.style) {
        (Output::Json, _) => Box::new(JsonSink::new(Box::new(shared.clone()))),
        (Output::Text, Style::Gotap) => Box::new(TextSink::new(
            Box::new(shared.clone()),
            color,
            jiff::tz::TimeZone::system(),
        )),
        (Output::Text, Style::Dlv) => Box::new(DlvSink::new(Box::new(shared.clone()))),
    };
    let mut sinks = Vec::new();
    if wanted.calls {
        sinks.push(calls);
    }
    if wanted.summary {
        let style = match wanted.output {
            Output::Text => SummaryStyle::Text,
            Output::Json => SummaryStyle::Json,
        };
        sinks.push(Box::new(SummarySink::new(Box::new(shared), style)));
    }
    sinks
}

/// One output for several sinks of one thread.
#[derive(Clone)]
struct Shared(Arc<std::sync::Mutex<Box<dyn Write + Send>>>);

impl Shared {
    fn new(to: Box<dyn Write + Send>) -> Shared {
        Shared(Arc::new(std::sync::Mutex::new(to)))
    }

    fn with<T>(&self, f: impl FnOnce(&mut dyn Write) -> T) -> T {
        f(&mut **self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.with(|to| to.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.with(|to| to.flush())
    }
}
