//! ```text
//! on ID ACTION
//! on ID { ACTIONS }
//! on exit { COMMANDS }
//! ```
//!
//! Sets what is done for each call that a tracepoint records, in the place of
//! what was set before: `print EXPR, …`, `args`, `stack N`; of a breakpoint any
//! commands, which are run at each stop. `on exit` says what
//! is done when the session has detached; several are done in order.
//!
//! ```text
//!     on 1 print fd, remote, n
//!     on exit { summary }
//! ```

use super::condition::{asked_with, known};
use crate::repl::breaks::line_actions;
use crate::repl::compile::compile_block;
use crate::repl::shell::Shell;
use crate::script::ExprError;
use crate::script::command::{Statement, Word};

/// Sets the actions of a tracepoint.
pub fn run(shell: &mut Shell, id: &Word, block: &[Statement]) -> Result<(), ExprError> {
    known(shell, id)?;
    let found = shell.points().find(&id.text).cloned();
    if let Some(point) = found.as_ref().filter(|p| p.is_line()) {
        let target = shell.source.target.clone();
        let names = (&point.names, &*point.places);
        let asked = line_actions(Some(&target), names, block).map_err(|errors| {
            let first = errors.into_iter().next();
            first.unwrap_or_else(|| ExprError::new(id.span, "it cannot be done"))
        })?;
        shell.points().change(&id.text, |p| {
            p.actions.clone_from(&asked.actions);
            p.asked = vec![asked];
            p.point.actions = Some(block.to_vec());
        });
        return shell.apply_points().map_err(|e| ExprError::new(id.span, e));
    }
    if found.is_some_and(|p| !p.is_trace()) {
        if let Some(error) = compile_block(block).into_iter().next() {
            return Err(error);
        }
        shell
            .points()
            .change(&id.text, |p| p.point.actions = Some(block.to_vec()));
        return Ok(());
    }
    let condition = shell
        .points()
        .find(&id.text)
        .and_then(|p| p.point.condition.clone());
    let asked = asked_with(shell, id, condition.as_ref(), Some(block))?;
    shell.points().change(&id.text, |p| {
        p.actions = asked.first().map(|a| a.actions.clone()).unwrap_or_default();
        p.asked = asked;
        p.point.actions = Some(block.to_vec());
    });
    // Stacks are read at the hit, and only where they are wanted.
    shell.apply_points().map_err(|e| ExprError::new(id.span, e))
}
