//! ```text
//! breakpoints [-save FILE]                                        alias: bp
//! ```
//!
//! Lists the points: number or name, functions, hits, condition, actions.
//! With -save, writes them to a file, conditions and actions included, which
//! `source FILE` reads back.

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Lists or saves.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    match call.words {
        [] => {
            let text = shell.points().describe();
            let none = "no tracepoints; `trace LOCATION` sets one\n";
            shell.answer(
                Verb::Breakpoints,
                if text.is_empty() { none } else { &text },
            );
            Ok(())
        }
        [flag] if flag.text == "-a" => {
            let text = shell.points().describe();
            shell.answer(Verb::Breakpoints, &text);
            Ok(())
        }
        [flag, file] if flag.text == "-save" => {
            let text = shell.points().save();
            std::fs::write(&file.text, text).map_err(|error| {
                ExprError::new(file.span, format!("cannot write {}: {error}", file.text))
            })
        }
        _ => Err(call.fail("breakpoints, or breakpoints -save FILE")),
    }
}
