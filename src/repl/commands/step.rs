//! ```text
//! step                                                              alias: s
//! ```
//!
//! As `next`, but into what the line calls: functions, bodies that the compiler
//! inlined, deferred functions, and the function of a `go` statement, in the
//! goroutine that it makes. What the runtime calls for itself and wrappers that
//! the compiler made are gone over.

use crate::golang::step::Kind;
use crate::repl::shell::{Call, Shell};
use crate::repl::stepping::lines;
use crate::script::ExprError;

/// Steps.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    lines(shell, &call, Kind::Into)
}
