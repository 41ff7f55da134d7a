//! ```text
//! funcs [REGEX]
//! ```
//!
//! Lists the program's functions, those that the compiler made left out.

use crate::image::pattern::is_generated;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let all = shell
        .source
        .target
        .image
        .functions()
        .iter()
        .filter(|f| !is_generated(f))
        .map(|f| f.name().into_owned())
        .collect();
    super::lines(shell, Verb::Funcs, &call, all)
}
