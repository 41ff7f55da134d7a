//! ```text
//! locals [REGEX]
//! ```
//!
//! Prints the local variables of the chosen frame of the chosen goroutine
//! (`goroutine ID`, `frame N`), from the debug information. The goroutine is not
//! stopped: it must be parked, and what its variables point to may change while
//! it is read. In the block of a trace: those of the function, as its call
//! returns.
//!
//! ```text
//!     goroutine 34 frame 2 locals
//! ```

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
        .filter(|v| matches!(v.role, "local" | "captured") && pattern.is_match(&v.name))
        .collect();
    show(shell, Verb::Locals, &values);
    Ok(())
}
