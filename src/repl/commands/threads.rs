//! ```text
//! threads
//! ```
//!
//! Lists the process's threads, and which goroutine each has; `*` marks the chosen
//! one of a target that is stopped.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::process::procfs;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::session::look::{Wanted, look};
use crate::value::escaped;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    let survey = look(
        &shell.source,
        &Wanted {
            each: true,
            ..Wanted::default()
        },
    )
    .map_err(|e| call.fail(e))?;
    let on: HashMap<u64, &crate::survey::Entry> = survey
        .goroutines
        .iter()
        .filter_map(|e| Some((e.tid?, e)))
        .collect();
    let live = shell.source.live_pid();
    let mut tids: Vec<u64> = match live {
        Some(pid) => procfs::threads(pid)
            .map_err(|e| call.fail(e))?
            .into_iter()
            .filter_map(|tid| u64::try_from(tid).ok())
            .collect(),
        // Of a copy, those that had goroutines, too.
        None => shell
            .source
            .thread_ids()
            .into_iter()
            .chain(on.keys().copied())
            .collect(),
    };
    tids.sort_unstable();
    tids.dedup();
    let mut text = String::new();
    for tid in tids {
        let mark = match shell.thread {
            Some(chosen) if chosen == tid => "* ",
            Some(_) => "  ",
            None => "",
        };
        let _ = write!(text, "{mark}Thread {tid}");
        let state = i32::try_from(tid)
            .ok()
            .filter(|_| live.is_some())
            .and_then(|tid| procfs::status(tid).ok());
        if let Some(status) = state {
            let _ = write!(text, " {}", status.state);
        }
        if let Some(one) = on.get(&tid) {
            let _ = write!(text, " goroutine {}", one.goid);
            if let Some(place) = survey.names.find(one.user.or(one.func)) {
                let _ = write!(text, " {} {}:{}", place.func, place.file, place.line);
            }
        }
        text.push('\n');
    }
    shell.answer(
        Verb::Threads,
        &text.lines().map(|l| escaped(l) + "\n").collect::<String>(),
    );
    Ok(())
}
