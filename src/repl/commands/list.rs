//! ```text
//! list LOCATION                                                aliases: ls, l
//! ```
//!
//! Shows the source around a function or a line, where the file is on this
//! machine; `config substitute-path FROM TO` says where.

use std::fmt::Write as _;

use crate::repl::resolve::{Resolved, resolve};
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::{Location, Verb};
use crate::value::escaped;

/// Shows it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let [word] = call.words else {
        return Err(call.fail("where? list main.main, list server.go:88"));
    };
    let target = shell.source.target.clone();
    let location = Location::parse(word)?;
    let (function, line) = match resolve(&target.image, &location)? {
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
    let (Some(file), Some(line)) = (function.file(), line) else {
        return Err(call.fail(format!("{} has no source file", function.name())));
    };
    let local = shell.config.local(file);
    let text = std::fs::read_to_string(&local).map_err(|error| {
        call.fail(format!(
            "cannot read {local}: {error}; config substitute-path says where sources are"
        ))
    })?;
    let around = shell.config.lines_around();
    let first = line.saturating_sub(around).max(1);
    let mut shown = format!("Showing {}:{line}\n", escaped(&local));
    for (number, code) in (1_u32..).zip(text.lines()) {
        if number < first {
            continue;
        }
        if number > line.saturating_add(around) {
            break;
        }
        let mark = if number == line { "=>" } else { "  " };
        let code = escaped(&code.replace('\t', "    "));
        let _ = writeln!(shown, "{mark}{number:5}:  {code}");
    }
    shell.answer(Verb::List, &shown);
    Ok(())
}
