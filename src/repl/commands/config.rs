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
//!     snap-max-pause TIME       the longest that a copy may hold the target (50ms; none)
//!     snap-max-copies N         copies that are held at a time
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
            let config = &shell.config;
            let limits = shell.copies.limits();
            limits.change(config.snap_max_pause, config.snap_max_copies);
            return Ok(());
        }
    }
    let text = shell.config.list();
    shell.answer(Verb::Config, &text);
    Ok(())
}
