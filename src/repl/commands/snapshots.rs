//! ```text
//! snapshots
//! ```
//!
//! Lists the frozen copies that are held: number, the memory that each costs
//! beyond what it shares with the target (pages written since by the target, and
//! its page tables), age, point, and who hit where. The one that is looked at is
//! marked with a star.

use serde_json::Map;

use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Lists them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    call.no_words()?;
    match shell.form() {
        Form::Json => {
            let mut object = Map::new();
            object.insert("command".into(), Verb::Snapshots.name().into());
            object.insert("snapshots".into(), shell.copy_objects().into());
            shell.out.object(&object);
        }
        Form::Text => {
            let text = shell.list_copies();
            let none = "no snapshots; `snap LOCATION` makes one\n";
            let text = if text.is_empty() { none } else { &text };
            shell.answer(Verb::Snapshots, text);
        }
    }
    Ok(())
}
