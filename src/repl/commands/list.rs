//! ```text
//! list [LOCATION]                                              aliases: ls, l
//! ```
//!
//! Shows the source around a function or a line, or around the chosen frame, where the file is on this
//! machine; `config substitute-path FROM TO` says where.

use crate::repl::resolve::{Resolved, resolve};
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::{Location, Verb, Word};
use crate::value::escaped;

/// Shows it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let (file, line) = match call.words {
        [] => here(shell, &call)?,
        [word] => named(shell, word)?,
        [_, extra, ..] => return Err(ExprError::new(extra.span, "one location is enough")),
    };
    let local = shell.config.local(&file);
    let Some(lines) = shell.lines_around(&file, line) else {
        return Err(call.fail(format!(
            "cannot read {local}; config substitute-path says where sources are"
        )));
    };
    let shown = format!("Showing {}:{line}\n{lines}", escaped(&local));
    shell.answer(Verb::List, &shown);
    Ok(())
}

/// Where the chosen frame is.
fn here(shell: &Shell, call: &Call<'_>) -> Result<(String, u32), ExprError> {
    let place = shell.standing.as_ref().and_then(|s| s.place.clone());
    match place {
        Some(place) if shell.frame == 0 && shell.at_stop() => Ok((place.file, place.line)),
        _ if shell.goroutine.is_some() => {
            let frame = crate::repl::frames::current(shell, call)?;
            Ok((frame.source.file, frame.source.line))
        }
        _ => Err(call.fail("where? list main.main, list server.go:88")),
    }
}

fn named(shell: &Shell, word: &Word) -> Result<(String, u32), ExprError> {
    let target = shell.source.target.clone();
    let mut location = Location::parse(word)?;
    super::breaks::from_here(shell, &mut location)?;
    let (function, line) = match resolve(&target, &location)? {
        Resolved::Functions(functions, _) => match functions.as_slice() {
            [one] => (*one, one.start_line()),
            many => {
                return Err(ExprError::new(
                    word.span,
                    format!("{} functions match; name one", many.len()),
                ));
            }
        },
        Resolved::Line { function, at } => (function, function.line_at(at)),
    };
    match (function.file(), line) {
        (Some(file), Some(line)) => Ok((file.to_owned(), line)),
        _ => Err(ExprError::new(
            word.span,
            format!("{} has no source file", function.name()),
        )),
    }
}
