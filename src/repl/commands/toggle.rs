//! ```text
//! toggle ID
//! ```
//!
//! Switches a point off, or on again, by number or name.

use super::condition::known;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Switches.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let [id] = call.words else {
        return Err(call.fail("which one? toggle 1"));
    };
    known(shell, id)?;
    let (mut on, mut title) = (false, "Tracepoint");
    shell.points().change(&id.text, |p| {
        p.enabled = !p.enabled;
        on = p.enabled;
        title = p.title();
        if let Some(rule) = p.rule.as_ref().filter(|_| on) {
            rule.renew();
        }
    });
    shell.apply_points().map_err(|e| call.fail(e))?;
    let state = if on { "on" } else { "off" };
    shell.tell(Verb::Toggle, &format!("{title} {} is {state}\n", id.text));
    Ok(())
}
