//! ```text
//! trace [NAME] LOCATION [if CONDITION] [{ ACTIONS }]
//! ```
//!
//! Records every call of a function, when it ends; nothing is stopped. The
//! location is a function (`net.(*conn).Read`, `(*conn).Read`), a file and the
//! line on which a function begins, an address (`*0x45f2a0`), or a regular
//! expression between slashes.
//!
//! A line inside of a function is recorded each time it is passed, without a
//! duration and results; the condition and the actions are about the variables
//! there.
//!
//! The condition is an expression on the call: its facts (`dur`, `fd`, `remote`,
//! `n`, `err`, `goid` …, as JSON names them), its arguments and results by name.
//! A variable of the program wins over a fact of its name; `hit.n` is always the
//! fact. With debug information arguments and package variables are read as the
//! call begins (`req.Header["Host"]`, `len(b)`, `s.sessions[3].name`), results as it
//! returns. A condition on what is known at the entry is tested there, and a call
//! that does not meet it costs least; others are tested at the end. The actions
//! are run once for each call that meets it, when it ends, with arguments as they
//! were at the entry: `print EXPR, …`, `args`, `locals`, `stack N`. What cannot be
//! read at a hit marks the tracepoint (`breakpoints` shows it); the target runs on.
//! `locals` shows the function's variables as it returns (what the compiler keeps
//! nowhere then says so); of calls that a panic or Goexit ended, and of those that
//! recovered from a panic, there are none, and why is said.
//!
//! ```text
//!     trace net.(*conn).Read if n == 0 || err != nil
//!     trace slow /net\.\(\*conn\)\./ if dur > 10ms { print fd, remote; stack 8 }
//! ```

use std::fmt::Write as _;

use super::breaks::{Told, ready, set};
use crate::repl::shell::Shell;
use crate::script::command::{Point, Verb};
use crate::script::{ExprError, Span};
use crate::value::escaped;

/// Sets a tracepoint.
pub fn run(shell: &mut Shell, point: &Point, span: Span) -> Result<(), ExprError> {
    let (mut made, told) = ready(shell, point, span, "there is nothing to trace")?;
    made.limits = shell.config.limits();
    let label = made.label();
    let names: Vec<&str> = made.functions.iter().take(3).map(|(_, n)| &**n).collect();
    let mut on = names.join(", ");
    if made.functions.len() > names.len() {
        let _ = write!(on, " and {} more", made.functions.len() - names.len());
    }
    let line = made.is_line().then(|| {
        let all = made.places.iter().map(|place| {
            let (function, file, line) = &place.source;
            format!("{function} {}:{line}", shell.near(file))
        });
        all.collect::<Vec<_>>().join(", ")
    });
    set(shell, made, span)?;
    let Told {
        entries,
        returns,
        refused,
    } = told;
    let plural = |n: usize, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let mut text = format!(
        "Tracepoint {label} on {on} ({}, {})\n",
        plural(entries, "entry", "entries"),
        plural(returns, "return", "returns")
    );
    if let Some(line) = line {
        text = format!("Tracepoint {label} at {}\n", escaped(&line));
    }
    for line in refused.iter().take(3) {
        let _ = writeln!(text, "  {line}");
    }
    if refused.len() > 3 {
        let _ = writeln!(text, "  {} more are not armed", refused.len() - 3);
    }
    shell.tell(Verb::Trace, &text);
    Ok(())
}
