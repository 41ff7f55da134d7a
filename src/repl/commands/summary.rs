//! ```text
//! summary
//! ```
//!
//! Counts, errors, bytes and latencies of the recorded calls so far, a line a
//! function.

use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Prints it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    let printed = shell
        .figures
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .print()
        .map_err(|error| call.fail(error))?;
    if printed.is_empty() {
        shell.answer(Verb::Summary, "no calls yet\n");
    } else if shell.form() == Form::Json {
        shell.out.push(&printed);
    } else {
        shell.answer(Verb::Summary, &String::from_utf8_lossy(&printed));
    }
    Ok(())
}
