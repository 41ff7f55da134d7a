//! ```text
//! config [-list]
//! config NAME VALUE
//! ```
//!
//! Shows or changes settings:
//!
//! ```text
//!     substitute-path FROM TO    where sources are on this machine; -clear
//!     max-string-len N           bytes of a string that are printed
//!     max-array-values N         elements of arrays, slices and maps
//!     max-variable-recurse N     pointers that are followed, one in another
//!     max-goroutines N           goroutines that are listed at most
//!     max-lines N                lines of funcs, types, sources, vars at most
//!     source-list-line-count N   lines of `list` above and below
//!     max-stop TIME              a stop that lasts longer ends by itself (5s; none)
//!     snap-max-pause TIME        the longest that a copy may hold the target (50ms; none)
//!     snap-max-copies N          copies that are held at a time
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
            if let Some(told) = shell.config.set(words)? {
                shell.say(&told);
            }
            shell.tracing.max_stop(shell.config.max_stop);
            let config = &shell.config;
            let limits = shell.copies.limits();
            let longest = config.snap_max_pause.unwrap_or(std::time::Duration::MAX);
            limits.change(longest, config.snap_max_copies);
            return Ok(());
        }
    }
    let text = shell.config.list();
    shell.answer(Verb::Config, &text);
    Ok(())
}
