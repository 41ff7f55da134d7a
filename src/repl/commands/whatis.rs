//! ```text
//! whatis NAME
//! ```
//!
//! Prints the type of a variable of the chosen frame of the chosen goroutine,
//! as Go writes it.

use crate::repl::frames::current;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::value::escaped;

/// Prints it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let [word] = call.words else {
        return Err(call.fail("of which variable? whatis x"));
    };
    let frame = current(shell, &call)?;
    let found = frame
        .values
        .iter()
        .find(|v| !v.shadowed && *v.name == *word.text);
    match found {
        Some(variable) => {
            shell.answer(Verb::Whatis, &escaped(&variable.ty));
            Ok(())
        }
        None => Err(ExprError::new(
            word.span,
            format!("there is no variable `{}` in this frame", word.text),
        )),
    }
}
