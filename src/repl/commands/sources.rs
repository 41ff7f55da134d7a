//! ```text
//! sources [REGEX]
//! ```
//!
//! Lists the source files that the program's functions begin in.

use std::collections::HashSet;

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let target = shell.source.target.clone();
    let files: HashSet<&str> = target
        .image
        .functions()
        .iter()
        .filter_map(|f| f.file())
        .collect();
    let all = files.into_iter().map(|f| shell.config.local(f)).collect();
    super::lines(shell, Verb::Sources, &call, all)
}
