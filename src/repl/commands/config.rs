//! ```text
//! config [-list]
//! config NAME VALUE
//! ```
//!
//! Shows or changes settings:
//!
//! ```text
//!     substitute-path FROM TO   where sources are on this machine
//!     max-goroutines N          goroutines that are listed at most
//!     max-lines N               lines of funcs, types, sources at most
//!     source-lines N            lines of `list` above and below
//!     max-stop TIME             a stop that lasts longer ends by itself (5s; none)
//! ```

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Shows or changes.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    match call.words {
        [] => {}
        [flag] if flag.text == "-list" => {}
        words => {
            shell.config.set(words)?;
            shell.tracing.max_stop(shell.config.max_stop);
            return Ok(());
        }
    }
    let text = shell.config.list();
    shell.answer(Verb::Config, &text);
    Ok(())
}
