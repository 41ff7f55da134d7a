//! ```text
//! deferred [N [COMMAND]]
//! ```
//!
//! Lists what the chosen frame of the chosen goroutine has deferred, what is called
//! first at the top, or shows the N-th of it, counted from 1: the function, and where
//! it begins. The target must be stopped, or the goroutine parked. Calls that the
//! compiler wrote out at their function's end (most `defer` outside of loops) are in
//! no list of the runtime's and are not shown.
//!
//! With a command, print, args or locals, that is run as if the N-th call had begun:
//! what its closure captured has values then (Go 1.23 and later; before, the debug
//! information does not tell where), and nothing else. Arguments it has none: they
//! are captured by a function that the compiler makes for the call.
//!
//! ```text
//!     deferred 1 locals
//!     frame 2 deferred 1 print conn.fd
//! ```

use std::fmt::Write as _;

use crate::addr::LiveAddr;
use crate::golang::step::{Deferred, deferred, function_of};
use crate::repl::frames::visit;
use crate::repl::shell::{Call, Shell};
use crate::repl::stepping::stepper;
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::value::escaped;

/// Lists them, or runs a command at one.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let only: Option<usize> = match call.words {
        [] => None,
        [word] => Some(word.text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
            ExprError::new(word.span, "deferred calls are counted from 1: deferred 1")
        })?),
        [_, extra, ..] => return Err(ExprError::new(extra.span, "one number is enough")),
    };
    if let Some(then) = call.then
        && !matches!(then.command.verb(), Verb::Print | Verb::Args | Verb::Locals)
    {
        return Err(ExprError::new(
            then.span,
            "print, args and locals are what can be asked of a deferred call",
        ));
    }
    let Some(goid) = shell.goroutine else {
        return Err(call.fail("no goroutine is chosen: goroutine ID chooses one"));
    };
    let stepper = stepper(shell, &call)?;
    let stands = shell.source.stands(goid).map_err(|e| call.fail(e))?;
    let Some(stands) = stands else {
        return Err(call.fail(format!("goroutine {goid} does not stand still")));
    };
    let program = stepper.program(shell.source.bytes());
    let frames = frames(shell, &call)?;
    let all = deferred(&program, &stands.at.g);
    let own: Vec<Deferred> = all
        .iter()
        .filter(|d| {
            let end = frame_of(&frames, d).and_then(|at| frames.get(at));
            end.is_some() && end == frames.get(shell.frame)
        })
        .copied()
        .collect();
    if let (Some(n), Some(then)) = (only, call.then) {
        let Some(one) = own.get(n - 1) else {
            return Err(none(&call, own.len(), n));
        };
        shell.deferred = Some(*one);
        let done = shell.execute(then, "");
        shell.deferred = None;
        return done;
    }
    let mut text = String::new();
    for (number, one) in (1..).zip(&own) {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let line = match function_of(&program, one) {
            Some(f) => format!(
                "{number}  {}  {}:{}",
                f.name(),
                shell.near(f.file().unwrap_or("?")),
                f.start_line().unwrap_or(0)
            ),
            None => format!("{number}  (unknown code at {})", one.code),
        };
        let _ = writeln!(text, "{}", escaped(&line));
    }
    if text.is_empty() {
        if let Some(n) = only {
            return Err(none(&call, own.len(), n));
        }
        text = match all.iter().find_map(|d| frame_of(&frames, d)) {
            Some(other) => format!("(none in this frame; frame {other} has some)\n"),
            None => "(none)\n".to_owned(),
        };
    }
    shell.answer(Verb::Deferred, &text);
    Ok(())
}

fn none(call: &Call<'_>, known: usize, n: usize) -> ExprError {
    call.fail(format!("there are {known} deferred calls, no {n}"))
}

/// Of each frame, where it ends: bodies that are inlined end with their function.
fn frames(shell: &Shell, call: &Call<'_>) -> Result<Vec<LiveAddr>, ExprError> {
    let mut ends = Vec::new();
    visit(shell, call, &mut |_, found| {
        ends = found.iter().map(|frame| frame.cfa).collect();
    })?;
    Ok(ends)
}

/// The frame that deferred it; of a function's bodies the innermost one.
fn frame_of(ends: &[LiveAddr], one: &Deferred) -> Option<usize> {
    ends.iter().position(|end| one.sp < *end)
}
