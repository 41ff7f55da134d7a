//! ```text
//! snapshot [N | live]
//! snapshot drop N | all
//! ```
//!
//! Looks at a frozen copy that `snap` made, from now on: `stack`, `args`, `locals`,
//! `print`, `goroutines` with all its options, `threads`, `regs`, `examinemem` and
//! all others that read are about the program as it was at that moment. The goroutine that
//! hit is chosen. `snapshot live` goes back to the target itself, which ran on all
//! the while; points can be set and cleared in either. Without a word it says
//! which is looked at.
//!
//! A copy holds no descriptor, so `fds` and `conns` have nothing to list there: the
//! ends of a connection come from the memory of the goroutine that waits for it.
//!
//! `snapshot drop 1` ends a copy, and its memory is free.
//!
//! ```text
//!     snapshot 1; locals; goroutines -group state
//!     snapshot drop all
//! ```

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::{Verb, Word};

/// Looks at one, or drops.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let words: Vec<&str> = call.words.iter().map(|w| w.text.as_str()).collect();
    match (words.as_slice(), call.words) {
        ([], _) => {
            let text = match shell.copies.viewed() {
                Some(number) => format!("snapshot {number}"),
                None => "live: the target itself".to_owned(),
            };
            shell.answer(Verb::Snapshot, &text);
            Ok(())
        }
        (["live"], _) => {
            shell.view_live();
            Ok(())
        }
        (["drop", "all"], _) => {
            let many = shell.drop_copies();
            shell.tell(Verb::Snapshot, &format!("{many} dropped\n"));
            Ok(())
        }
        (["drop", _], [_, word]) => {
            let number = number(shell, word)?;
            shell.drop_copy(number);
            shell.tell(Verb::Snapshot, &format!("snapshot {number} dropped\n"));
            Ok(())
        }
        ([_], [word]) => {
            let number = number(shell, word)?;
            if shell.view_copy(number) {
                Ok(())
            } else {
                Err(call.fail("it cannot be looked at"))
            }
        }
        _ => Err(call.fail("which? snapshot 1, snapshot live, snapshot drop 1, snapshot drop all")),
    }
}

/// The number of a copy that is held.
fn number(shell: &Shell, word: &Word) -> Result<usize, ExprError> {
    let all = shell.copies.all();
    let found = word.text.parse().ok();
    if let Some(copy) = all.iter().find(|c| Some(c.number) == found) {
        return Ok(copy.number);
    }
    let known: Vec<String> = all.iter().map(|c| c.number.to_string()).collect();
    let hint = match known.as_slice() {
        [] => "there are none; `snap LOCATION` makes one".to_owned(),
        known => format!("there are {}", known.join(" ")),
    };
    Err(ExprError::new(
        word.span,
        format!("there is no snapshot `{}`: {hint}", word.text),
    ))
}
