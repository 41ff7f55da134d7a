//! ```text
//! step-instruction                                                  alias: si
//! ```
//!
//! Runs one instruction of the chosen goroutine's thread, while all other
//! threads stand still. A goroutine that is on no thread is run until it is.

use crate::repl::shell::{Call, Shell};
use crate::repl::stepping::instruction;
use crate::script::ExprError;

/// Steps.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    instruction(shell, &call, false)
}
