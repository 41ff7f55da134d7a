//! ```text
//! halt
//! ```
//!
//! Stops the whole target now, as a breakpoint does, until `continue`. Threads
//! that run no Go code, or sleep in the kernel, stand still as well.

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;

/// Stops it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    if shell.source.pid.is_none() {
        return Err(call.fail("a core file does not run"));
    }
    if shell.is_stopped() {
        return Err(call.fail("the target is stopped already: continue lets it go on"));
    }
    shell.tracing.keep(true);
    shell.apply_points().map_err(|e| call.fail(e))?;
    if let Some(live) = shell.tracing.live() {
        live.halt();
    }
    if !shell.await_stop() && !shell.is_over() {
        shell.tracing.keep(false);
        shell.apply_points().map_err(|e| call.fail(e))?;
    }
    Ok(())
}
