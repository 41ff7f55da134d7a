//! ```text
//! frame N [COMMAND]
//! up [N]
//! down [N]
//! ```
//!
//! Chooses a frame of the chosen goroutine, 0 being the innermost, for `args`,
//! `locals` and `print`. With a command behind the number, runs that there, and
//! chooses none.
//!
//! ```text
//!     goroutine 34 frame 2 locals
//! ```

use crate::repl::frames;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::value::escaped;

/// Chooses, or runs a command there.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let number = match call.words {
        [word] => word
            .text
            .parse()
            .map_err(|_| ExprError::new(word.span, "a frame is a number: frame 2"))?,
        _ => return Err(call.fail("which one? frame 2")),
    };
    let before = std::mem::replace(&mut shell.frame, number);
    if let Some(then) = call.then {
        let done = shell.execute(then, "");
        shell.frame = before;
        return done;
    }
    told(shell, &call, before)
}

/// `up`, `down`.
pub fn step(shell: &mut Shell, call: Call<'_>, verb: Verb) -> Result<(), ExprError> {
    let by: usize = match call.words {
        [] => 1,
        [word] => word
            .text
            .parse()
            .map_err(|_| ExprError::new(word.span, "a number is needed"))?,
        _ => return Err(call.fail("how far? up 2")),
    };
    let before = shell.frame;
    shell.frame = match verb {
        Verb::Up => before.saturating_add(by),
        _ => before
            .checked_sub(by)
            .ok_or_else(|| call.fail("0 is the innermost frame"))?,
    };
    told(shell, &call, before)
}

/// Says which it is now; goes back where there is none.
fn told(shell: &mut Shell, call: &Call<'_>, before: usize) -> Result<(), ExprError> {
    match frames::current(shell, call) {
        Ok(frame) => {
            let text = format!(
                "frame {}: {} {}:{}\n",
                shell.frame, frame.source.function, frame.source.file, frame.source.line
            );
            shell.answer(Verb::Frame, &escaped(text.trim_end()));
            frames::note_names(shell, call);
            Ok(())
        }
        Err(error) => {
            shell.frame = before;
            Err(error)
        }
    }
}
