//! ```text
//! continue                                                          alias: c
//! ```
//!
//! Lets a stopped target run. In the block of a breakpoint that is all. Typed at
//! a prompt, it waits for the next stop, as it does at the top level of a script:
//! until that, Ctrl-C, the end of the target, or the time that `for` has set.
//! Records are shown meanwhile. Where no point and no timer is set, nothing would
//! ever stop the target: it says so, and waits for nothing.

use crate::repl::shell::{Call, Mode, Shell};
use crate::script::ExprError;

/// Lets it go on, and waits.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    if shell.source.pid.is_none() {
        return Err(call.fail("a core file does not run"));
    }
    let was_stopped = shell.is_stopped();
    shell.resume();
    if shell.in_block() {
        return Ok(());
    }
    if shell.is_gone() {
        return Err(call.fail("the target is gone"));
    }
    if shell.mode == Mode::Prompt && !was_stopped && shell.may_wake() {
        shell.say("nothing is stopped; waiting, Ctrl-C goes back to the prompt");
    }
    shell.await_stop();
    Ok(())
}
