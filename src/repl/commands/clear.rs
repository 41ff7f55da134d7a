//! ```text
//! clear ID
//! ```
//!
//! Takes a point out, by number or name. Its calls that are still running
//! are told as open: nobody will see how they end.

use super::condition::known;
use crate::repl::points::Tracepoint;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Takes one out.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let [id] = call.words else {
        return Err(call.fail("which one? clear 1"));
    };
    let found = known(shell, id)?;
    let gone = shell.points().remove(|p| p.id == found);
    shell.apply_points().map_err(|e| call.fail(e))?;
    let title = gone.first().map_or("Tracepoint", Tracepoint::title);
    shell.tell(Verb::Clear, &format!("{} {} cleared\n", title, id.text));
    Ok(())
}
