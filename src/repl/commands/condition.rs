//! ```text
//! condition ID EXPR                                               alias: cond
//! condition -hitcount ID OP N
//! condition -per-g-hitcount ID OP N
//! condition -clear ID
//! ```
//!
//! Sets what a call must meet to be recorded by a tracepoint, or a hit to stop at
//! a breakpoint, in the place of what was set before. The counts are of calls that meet the expression; OP is
//! one of == != < <= > >= and %, which takes every N-th.
//!
//! ```text
//!     condition 1 dur > 5ms && err != nil
//!     condition -hitcount 1 % 100
//! ```

use crate::repl::breaks::condition_of;
use crate::repl::compile::compile_condition;
use crate::repl::points::Tracepoint;
use crate::repl::shell::Shell;
use crate::script::ExprError;
use crate::script::command::{Test, Word};

/// Sets it.
pub fn run(shell: &mut Shell, id: &Word, test: &Test) -> Result<(), ExprError> {
    known(shell, id)?;
    let frames_before = frames(shell, id);
    let condition = match test {
        Test::Holds(expr) => {
            let point = shell.points().find(&id.text).cloned();
            match point {
                Some(p) if !p.is_trace() => {
                    let target = shell.source.target.clone();
                    condition_of(Some(&target), &p.names, &p.places, expr)?
                }
                Some(p) => Some(compile_condition(expr, &p.names)?),
                None => None,
            }
        }
        Test::Hits(..) | Test::HitsPerGoroutine(..) | Test::Cleared => None,
    };
    shell.points().change(&id.text, |p| match test {
        Test::Holds(expr) => {
            p.condition = condition;
            p.point.condition = Some(expr.clone());
            p.error = None;
            p.tally.forget_error();
        }
        Test::Hits(op, n) => p.hits_test = Some((*op, *n)),
        Test::HitsPerGoroutine(op, n) => p.goroutine_test = Some((*op, *n)),
        Test::Cleared => {
            p.condition = None;
            p.point.condition = None;
            p.hits_test = None;
            p.goroutine_test = None;
            p.error = None;
            p.tally.forget_error();
        }
    });
    let is_trace = shell
        .points()
        .find(&id.text)
        .is_none_or(Tracepoint::is_trace);
    if is_trace && frames(shell, id) == frames_before {
        return Ok(());
    }
    shell.apply_points().map_err(|e| ExprError::new(id.span, e))
}

fn frames(shell: &Shell, id: &Word) -> usize {
    shell.points().find(&id.text).map_or(0, Tracepoint::frames)
}

/// The number of a tracepoint that is named by number or name.
pub fn known(shell: &Shell, id: &Word) -> Result<usize, ExprError> {
    let points = shell.points();
    if let Some(found) = points.find(&id.text) {
        return Ok(found.id);
    }
    let all: Vec<String> = points.all().iter().map(Tracepoint::label).collect();
    let hint = match crate::script::check::nearest(&id.text, &all) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if all.is_empty() => "; there are none yet".to_owned(),
        None => format!("; there are {}", all.join(" ")),
    };
    Err(ExprError::new(
        id.span,
        format!("there is no tracepoint `{}`{hint}", id.text),
    ))
}
