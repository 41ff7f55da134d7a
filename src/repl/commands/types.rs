//! ```text
//! types [REGEX]
//! ```
//!
//! Lists the program's types, from the debug information; those of a stripped
//! binary from the runtime's own descriptors, which name packages by the last
//! element of their path.

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let target = &shell.source.target;
    let dwarf = target.debug_info().map_err(|e| call.fail(e))?;
    let all = match dwarf {
        Some(dwarf) => dwarf.type_names(),
        None => target.types.known_names(),
    };
    super::lines(shell, Verb::Types, &call, all)
}
