//! ```text
//! stepout                                                           alias: so
//! ```
//!
//! Runs the stopped target until the chosen goroutine's function has returned,
//! or a panic calls what is deferred. From a body that the compiler inlined it
//! goes to the next line of what is around it.

use crate::golang::step::Kind;
use crate::repl::shell::{Call, Shell};
use crate::repl::stepping::lines;
use crate::script::ExprError;

/// Steps.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    lines(shell, &call, Kind::Out)
}
