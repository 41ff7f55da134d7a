//! ```text
//! fds [REGEX]
//! ```
//!
//! Lists the process's open descriptors: what each is, and which goroutines
//! wait to read or write it.

use crate::process::{procfs, sockets};
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::session::look::{Wanted, look};
use crate::survey::Survey;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    super::not_of_copies(shell, &call)?;
    let Some(pid) = shell.source.pid else {
        return Err(call.fail("a core file has no open descriptors"));
    };
    let survey = look(
        &shell.source,
        &Wanted {
            each: true,
            ..Wanted::default()
        },
    )
    .map_err(|e| call.fail(e))?;
    let sockets = sockets::of_process(pid).map_err(|e| call.fail(e))?;
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .map_err(|error| call.fail(format!("cannot list descriptors: {error}")))?;
    let mut fds: Vec<i64> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    fds.sort_unstable();
    let pattern = super::pattern(&call)?;
    let mut text = String::new();
    for fd in fds {
        let socket = sockets.iter().find(|s| i64::from(s.fd) == fd);
        let what = match socket {
            Some(s) => super::conns::describe(s),
            None => procfs::descriptor(pid, fd).unwrap_or_else(|| "?".to_owned()),
        };
        let line = format!("fd {fd:<4} {what}{}", waiters(&survey, fd));
        if pattern.is_match(&line) {
            text.push_str(&crate::value::escaped(&line));
            text.push('\n');
        }
    }
    if text.is_empty() {
        text.push_str("(none)\n");
    }
    shell.answer(Verb::Fds, &text);
    Ok(())
}

/// `  reads: 34 35  writes: 36`
pub fn waiters(survey: &Survey, fd: i64) -> String {
    let found = survey.descriptors().into_iter().find(|d| d.fd == fd);
    let Some(found) = found else {
        return String::new();
    };
    let list = |word: &str, goids: &[u64]| {
        let most = 8;
        let mut shown: Vec<String> = goids.iter().take(most).map(ToString::to_string).collect();
        if goids.len() > most {
            shown.push(format!("and {} more", goids.len() - most));
        }
        if shown.is_empty() {
            String::new()
        } else {
            format!("  {word}: {}", shown.join(" "))
        }
    };
    list("reads", &found.readers) + &list("writes", &found.writers)
}
