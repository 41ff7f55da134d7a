//! ```text
//! source FILE
//! ```
//!
//! Runs the commands of a file: a script, what `breakpoints -save` wrote, or a file
//! of Delve's. The returns that Delve saves beside a traced function, as plain
//! breaks named `bpN`, belong to that trace and stop nothing; a warning says so.
//! In a script a relative path is one beside the script.

use crate::repl::check::beside;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;

/// Files that run files.
const MAX_SOURCES: usize = 8;

/// Runs one; `file` is where the command stands.
pub fn run(shell: &mut Shell, call: Call<'_>, file: &str) -> Result<(), ExprError> {
    let [word] = call.words else {
        return Err(call.fail("which file? source FILE"));
    };
    if shell.sources >= MAX_SOURCES {
        return Err(call.fail(format!("more than {MAX_SOURCES} files, one in another")));
    }
    let path = beside(file, &word.text);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        ExprError::new(
            word.span,
            format!("cannot read {}: {error}", path.display()),
        )
    })?;
    shell.sources += 1;
    shell.run_text(&path.display().to_string(), &text);
    shell.sources -= 1;
    Ok(())
}
