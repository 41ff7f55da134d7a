//! ```text
//! args [REGEX]
//! ```
//!
//! In the block of a trace, prints the call's arguments, as they were when it
//! began, and its results. At the prompt, prints the parameters and results of
//! the chosen frame of the chosen goroutine, which must be parked or stand still.
//! Of a program without debug information it tells the arguments of a function
//! that is just entered, by their place: `a0`, `a1` …

use std::sync::Arc;

use crate::repl::frames::{current, entered, must_be_known, show, show_values};
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Prints them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let pattern = super::pattern(&call)?;
    if let Some(found) = entered(shell, &call)? {
        let chosen: Vec<_> = found
            .iter()
            .filter(|(name, _)| pattern.is_match(name))
            .map(|(name, value)| (Arc::clone(name), value.clone()))
            .collect();
        show_values(shell, Verb::Args, &chosen);
        return Ok(());
    }
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
