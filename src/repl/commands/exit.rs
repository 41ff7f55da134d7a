//! ```text
//! exit                                                      aliases: quit, q
//! ```
//!
//! Takes everything out of the target, lets it run, and ends gotap. Ctrl-D does
//! the same. Of a program that gotap has started (`gotap attach -- PROGRAM`) it is
//! asked at a prompt whether to kill it; after a script, and where commands come from
//! a pipe, it runs on, and its number is said.

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;

/// Ends the session.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    // Delve's -c is what is done here always.
    if !matches!(call.words, [flag] if flag.text == "-c") {
        call.no_words()?;
    }
    shell.end();
    Ok(())
}
