//! ```text
//! packages [REGEX]
//! ```
//!
//! Lists the packages that the program's functions belong to.

use crate::image::pattern::is_generated;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::survey::names::package;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let all = shell
        .source
        .target
        .image
        .functions()
        .iter()
        .filter(|f| !is_generated(f))
        .map(|f| package(&f.name()).to_owned())
        .collect();
    super::lines(shell, Verb::Packages, &call, all)
}
