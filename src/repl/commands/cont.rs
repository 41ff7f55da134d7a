//! ```text
//! continue                                                          alias: c
//! ```
//!
//! Lets a stopped target run. This gotap stops none, so in a script, and at the
//! prompt, it waits: until Ctrl-C, the end of the target, or the time that `for`
//! has set. Records are shown meanwhile.

use crate::repl::shell::{Call, Mode, Shell, Woke};
use crate::script::ExprError;

/// Waits.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    if shell.mode == Mode::Prompt {
        shell.say("nothing is stopped; waiting, Ctrl-C goes back to the prompt");
    }
    if shell.source.pid.is_none() {
        return Err(call.fail("a core file does not run"));
    }
    loop {
        match shell.wait() {
            Woke::Cancelled | Woke::TargetGone | Woke::Over => return Ok(()),
            // Nobody was asked for a line: what comes now was typed before.
            Woke::Resumed | Woke::Line(_) | Woke::Eof => {}
        }
    }
}
