//! ```text
//! next-instruction                                                  alias: ni
//! ```
//!
//! As `step-instruction`, but over what a call instruction calls: all threads
//! run until that has returned.

use crate::repl::shell::{Call, Shell};
use crate::repl::stepping::instruction;
use crate::script::ExprError;

/// Steps.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    instruction(shell, &call, true)
}
