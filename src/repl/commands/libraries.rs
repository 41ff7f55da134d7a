//! ```text
//! libraries
//! ```
//!
//! Lists the files whose code is mapped into the process.

use std::fmt::Write as _;

use crate::process::procfs;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::value::escaped;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    let Some(pid) = shell.source.memory_pid() else {
        return Err(call.fail("a core file does not tell of libraries here"));
    };
    let mut text = String::new();
    for m in procfs::mappings(pid).map_err(|e| call.fail(e))? {
        if m.exec && m.inode != 0 {
            let _ = writeln!(text, "{:#x} {}", m.start, escaped(&m.name));
        }
    }
    shell.answer(Verb::Libraries, &text);
    Ok(())
}
