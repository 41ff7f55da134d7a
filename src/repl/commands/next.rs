//! ```text
//! next [COUNT]                                                      alias: n
//! ```
//!
//! Runs the stopped target until the chosen goroutine comes to another line of
//! its function, over what it calls, or to where the function returns. A
//! deferred function that a panic calls is gone into. Other goroutines run
//! meanwhile, and the goroutine may move to another thread. With a count, so
//! many lines.
//!
//! It ends where Delve's ends: bodies that the compiler inlined are gone over,
//! and those of loops over functions are part of the function they stand in.
//! A breakpoint that is hit meanwhile, by whatever goroutine, ends the step, and
//! so does Ctrl-C: the target stands still then.

use crate::golang::step::Kind;
use crate::repl::shell::{Call, Shell};
use crate::repl::stepping::{arrived, lines};
use crate::script::ExprError;

/// Steps so many lines.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let count = match call.words {
        [] => 1,
        [word] => word
            .text
            .parse::<u32>()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| ExprError::new(word.span, "how many lines? a number from 1 on"))?,
        [_, extra, ..] => return Err(ExprError::new(extra.span, "one number is enough")),
    };
    for _ in 0..count {
        let goid = shell.goroutine;
        lines(shell, &call, Kind::Next)?;
        if !arrived(shell) || shell.goroutine != goid {
            break;
        }
    }
    Ok(())
}
