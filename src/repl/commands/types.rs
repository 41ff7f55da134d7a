//! ```text
//! types [REGEX]
//! ```
//!
//! Lists the program's types, as the runtime's own descriptors have them:
//! stripped binaries too.

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let all = shell.source.target.types.listed_names();
    super::lines(shell, Verb::Types, &call, all)
}
