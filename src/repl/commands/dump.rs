//! ```text
//! dump FILE
//! ```
//!
//! Writes a core file that gdb, Delve and `gotap attach --core` read. FILE must not
//! be there yet. A target that stands still (`halt`, a breakpoint) and a frozen copy
//! are written as they stand. A target that runs is stopped for as long as
//! reading and writing take, which is said; what is traced is let go before, and
//! traced again behind it, so that calls that are under way are told as open.
//! The program's code is written as its file has it, without what breakpoints put there.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::process::Still;
use crate::process::core::CoreThread;
use crate::process::core::write::{AsBuilt, Process, Written, write_core};
use crate::process::procfs;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::sink::format::{Bytes, Nanos};
use crate::value::escaped;

/// Writes one.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let [word] = call.words else {
        return Err(call.fail("which file? dump core.server"));
    };
    let Some(pid) = shell.source.memory_pid() else {
        return Err(call.fail("it is a core file already"));
    };
    let path = Path::new(&word.text);
    if path.exists() {
        let message = format!("{} is there already", word.text);
        return Err(ExprError::new(word.span, message));
    }
    let first = shell.thread;
    let mut threads: Vec<CoreThread> = shell
        .source
        .thread_ids()
        .into_iter()
        .filter_map(|tid| {
            let known = shell.source.registers(tid)?;
            Some(CoreThread {
                tid: i32::try_from(tid).ok()?,
                regs: known.regs?,
                vectors: known.vectors,
                signal: 0,
            })
        })
        .collect();
    threads.sort_by_key(|thread| u64::try_from(thread.tid).ok() != first);
    let fail = |error: &dyn std::fmt::Display| {
        ExprError::new(word.span, format!("cannot write {}: {error}", word.text))
    };
    let write = |shell: &Shell, threads: &[CoreThread]| -> Result<Written, ExprError> {
        let mappings = procfs::mappings(pid).map_err(|e| fail(&e))?;
        let auxv = std::fs::read(format!("/proc/{pid}/auxv")).map_err(|e| fail(&e))?;
        let target = &shell.source.target;
        let text = target.image.module().text;
        let len = usize::try_from(text.end.0.saturating_sub(text.start.0)).unwrap_or(0);
        let code = target.image.bytes(text.start, len).unwrap_or_default();
        let process = Process {
            pid,
            threads,
            mappings: &mappings,
            auxv: &auxv,
            memory: &AsBuilt {
                memory: &*shell.source.memory,
                at: target.bias.live(text.start),
                code,
            },
        };
        write_core(path, &process).map_err(|e| fail(&e))
    };
    let (written, stopped) = if threads.is_empty() {
        let traced = shell.tracing.is_running();
        shell.tracing.leave();
        let begun = Instant::now();
        let done = Still::stop(pid).map_err(|e| fail(&e)).and_then(|still| {
            let threads = still.threads().iter().map(|t| CoreThread {
                tid: t.own_tid,
                regs: t.regs,
                vectors: None,
                signal: 0,
            });
            let threads: Vec<CoreThread> = threads.collect();
            let written = write(shell, &threads);
            still.release();
            written
        });
        let stopped = begun.elapsed();
        if traced {
            shell.apply_points().map_err(|e| call.fail(e))?;
        }
        (done?, Some(stopped))
    } else {
        (write(shell, &threads)?, None)
    };
    let mut text = format!(
        "{}: {} of memory in {} mappings",
        escaped(&word.text),
        Bytes(written.bytes),
        written.mappings
    );
    if let Some(stopped) = stopped {
        let ns = u64::try_from(stopped.as_nanos()).unwrap_or(u64::MAX);
        let _ = write!(text, "; the target stood for {}", Nanos(ns));
    }
    if written.unreadable > 0 {
        let _ = write!(text, "; {} could not be read", Bytes(written.unreadable));
    }
    shell.tell(Verb::Dump, &text);
    Ok(())
}
