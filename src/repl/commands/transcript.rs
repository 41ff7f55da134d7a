//! ```text
//! transcript [-t] [-x] FILE
//! transcript -off
//! ```
//!
//! Copies what is typed and printed to a file, at its end; -t empties the file
//! first, -x prints to the file alone. -off ends it. Colours are left out.

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;

/// Begins or ends one.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let (mut truncate, mut alone, mut path) = (false, false, None);
    for word in call.words {
        match word.text.as_str() {
            "-t" => truncate = true,
            "-x" => alone = true,
            "-off" => {
                shell.out.transcribe(None);
                return Ok(());
            }
            _ if path.is_none() => path = Some(word),
            _ => return Err(ExprError::new(word.span, "one file is enough")),
        }
    }
    let Some(path) = path else {
        return Err(call.fail("which file? transcript FILE"));
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .append(!truncate)
        .truncate(truncate)
        .open(&path.text)
        .map_err(|error| {
            ExprError::new(path.span, format!("cannot write {}: {error}", path.text))
        })?;
    shell.out.transcribe(Some((file, alone)));
    Ok(())
}
