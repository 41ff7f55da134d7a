//! ```text
//! deferred [N]
//! ```
//!
//! Lists what the chosen goroutine has deferred, what is called first at the top,
//! or shows the N-th of it, counted from 1: the function, and where it begins. The
//! target must be stopped, or the goroutine parked. Calls that the compiler wrote
//! out at their function's end (most `defer` outside of loops) are in no list
//! of the runtime's and are not shown.

use std::fmt::Write as _;

use crate::golang::step::{deferred, function_of};
use crate::repl::shell::{Call, Shell};
use crate::repl::stepping::stepper;
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::value::escaped;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    if let Some(then) = call.then {
        return Err(ExprError::new(
            then.span,
            "a deferred call has no frame before it runs; frame N shows the function that \
             deferred it",
        ));
    }
    let only: Option<usize> = match call.words {
        [] => None,
        [word] => Some(word.text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
            ExprError::new(word.span, "deferred calls are counted from 1: deferred 1")
        })?),
        [_, extra, ..] => return Err(ExprError::new(extra.span, "one number is enough")),
    };
    let Some(goid) = shell.goroutine else {
        return Err(call.fail("no goroutine is chosen: goroutine ID chooses one"));
    };
    let stepper = stepper(shell, &call)?;
    let stands = shell.source.stands(goid).map_err(|e| call.fail(e))?;
    let Some(stands) = stands else {
        return Err(call.fail(format!("goroutine {goid} does not stand still")));
    };
    let program = stepper.program(shell.source.bytes());
    let all = deferred(&program, &stands.at.g);
    let mut text = String::new();
    for (number, one) in (1..).zip(&all) {
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
        text = match only {
            Some(n) => {
                return Err(call.fail(format!("there are {} deferred calls, no {n}", all.len())));
            }
            None => "(none)\n".to_owned(),
        };
    }
    shell.answer(Verb::Deferred, &text);
    Ok(())
}
