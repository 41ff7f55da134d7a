//! ```text
//! on ID ACTION
//! on ID { ACTIONS }
//! on exit { COMMANDS }
//! ```
//!
//! Adds to what is done for each call that a tracepoint records: `print EXPR, …`,
//! `args`, `locals`, `stack N`; of a breakpoint any commands, which are run at each
//! stop, before a `continue` at the end of those. As in Delve, of `stack`, `args`,
//! `locals` and `goroutine` there is one, and the last counts; what is printed
//! already is not printed twice. `on ID { }` takes all of them away. `on ID cond …`
//! is `cond ID …`, as in Delve. (Files that Delve saves have no such lines, those of
//! gotap have the actions in the block of each point: both mean the same either way.)
//!
//! `on exit` says what is done when the session has detached; several are done in
//! order.
//!
//! ```text
//!     on 1 print fd, remote, n
//!     on exit { summary }
//! ```

use super::condition::{asked_with, known};
use crate::repl::blocks::wrong_in;
use crate::repl::breaks::line_actions;
use crate::repl::shell::Shell;
use crate::script::ExprError;
use crate::script::command::{Statement, Verb, Word};

/// What is done when more is: nothing of what is not to be there twice.
fn added(old: &[Statement], new: &[Statement]) -> Vec<Statement> {
    if new.is_empty() {
        return Vec::new();
    }
    let once = |verb| {
        matches!(
            verb,
            Verb::Stack | Verb::Args | Verb::Locals | Verb::Goroutine | Verb::Continue
        )
    };
    let mut all = old.to_vec();
    for one in new {
        let verb = one.command.verb();
        all.retain(|o| o != one && !(once(verb) && o.command.verb() == verb));
        let last = all.last().map(|o| o.command.verb());
        let at = all.len() - usize::from(last == Some(Verb::Continue));
        all.insert(at, one.clone());
    }
    all
}

/// Adds to the actions of a tracepoint.
pub fn run(shell: &mut Shell, id: &Word, block: &[Statement]) -> Result<(), ExprError> {
    known(shell, id)?;
    let found = shell.points().find(&id.text).cloned();
    let old = found.as_ref().and_then(|p| p.point.actions.as_deref());
    let block = &*added(old.unwrap_or_default(), block);
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
    if let Some(point) = found.as_ref().filter(|p| !p.is_trace()) {
        let target = shell.source.target.clone();
        let wrong = wrong_in(Some(&target), &point.places, block);
        if let Some(error) = wrong.into_iter().next() {
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
