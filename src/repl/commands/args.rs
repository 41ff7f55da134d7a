//! ```text
//! args [REGEX]
//! ```
//!
//! In the block of a trace, prints the call's arguments, as they were when it
//! began, and its results. At the prompt, prints the parameters and results of
//! the chosen frame of the chosen goroutine, which must be parked.

use crate::repl::frames::{current, must_be_known, show};
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Prints them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let pattern = super::pattern(&call)?;
    must_be_known(shell, &call)?;
    let frame = current(shell, &call)?;
    let values: Vec<_> = frame
        .values
        .iter()
        .filter(|v| matches!(v.role, "param" | "result") && pattern.is_match(&v.name))
        .collect();
    show(shell, Verb::Args, &values);
    Ok(())
}
