//! ```text
//! condition ID EXPR                                               alias: cond
//! condition -hitcount ID OP N
//! condition -per-g-hitcount ID OP N
//! condition -clear ID
//! ```
//!
//! Sets what a call must meet to be recorded by a tracepoint, or a hit to stop at
//! a breakpoint, in the place of what was set before. The counts are of calls that
//! meet the expression; OP is one of == != < <= > >= and %, which takes every N-th.
//!
//! ```text
//!     condition 1 dur > 5ms && err != nil
//!     condition -hitcount 1 % 100
//! ```

use crate::repl::asked::{Asked, ask};
use crate::repl::breaks::condition_of;
use crate::repl::points::Tracepoint;
use crate::repl::shell::Shell;
use crate::script::command::{Statement, Test, Word};
use crate::script::{Expr, ExprError};

/// Sets it.
pub fn run(shell: &mut Shell, id: &Word, test: &Test) -> Result<(), ExprError> {
    known(shell, id)?;
    let found = shell.points().find(&id.text).cloned();
    if let Some(point) = found.filter(|p| !p.is_trace()) {
        return of_break(shell, id, &point, test);
    }
    let asked = match test {
        Test::Holds(expr) => Some(asked_with(shell, id, Some(expr), None)?),
        Test::Cleared => Some(asked_with(shell, id, None, None)?),
        Test::Hits(..) | Test::HitsPerGoroutine(..) => None,
    };
    shell.points().change(&id.text, |p| match test {
        Test::Holds(expr) => {
            let checked = asked.as_ref().and_then(|a| a.first()?.condition.clone());
            p.condition = checked.map(|c| (expr.to_string(), c));
            p.asked = asked.unwrap_or_default();
            p.point.condition = Some(expr.clone());
            p.error = None;
        }
        Test::Hits(op, n) => p.hits_test = Some((*op, *n)),
        Test::HitsPerGoroutine(op, n) => p.goroutine_test = Some((*op, *n)),
        Test::Cleared => {
            p.condition = None;
            p.asked = asked.unwrap_or_default();
            p.point.condition = None;
            p.hits_test = None;
            p.goroutine_test = None;
            p.error = None;
        }
    });
    if matches!(test, Test::Hits(..) | Test::HitsPerGoroutine(..)) {
        return Ok(());
    }
    // It is tested where calls begin.
    shell.apply_points().map_err(|e| ExprError::new(id.span, e))
}

/// The same of one that stops or copies the target.
fn of_break(
    shell: &mut Shell,
    id: &Word,
    point: &Tracepoint,
    test: &Test,
) -> Result<(), ExprError> {
    let condition = match test {
        Test::Holds(expr) => {
            let target = shell.source.target.clone();
            condition_of(Some(&target), &point.names, &point.places, expr)?
        }
        Test::Hits(..) | Test::HitsPerGoroutine(..) | Test::Cleared => None,
    };
    shell.points().change(&id.text, |p| match test {
        Test::Holds(expr) => {
            p.condition = condition;
            p.point.condition = Some(expr.clone());
            p.tally.forget_error();
        }
        Test::Hits(op, n) => p.hits_test = Some((*op, *n)),
        Test::HitsPerGoroutine(op, n) => p.goroutine_test = Some((*op, *n)),
        Test::Cleared => {
            p.condition = None;
            p.point.condition = None;
            p.hits_test = None;
            p.goroutine_test = None;
            p.tally.forget_error();
        }
    });
    shell.apply_points().map_err(|e| ExprError::new(id.span, e))
}

/// What a tracepoint asks with another condition, or other actions (`None`: as
/// before).
pub fn asked_with(
    shell: &Shell,
    id: &Word,
    condition: Option<&Expr>,
    actions: Option<&[Statement]>,
) -> Result<Vec<Asked>, ExprError> {
    let found = shell.points().find(&id.text).cloned();
    let Some(point) = found else {
        return Ok(Vec::new());
    };
    let own = point.point.actions.as_deref().unwrap_or_default();
    ask(
        Some(&shell.source.target),
        &point.functions,
        &point.names,
        condition,
        actions.unwrap_or(own),
    )
    .map_err(|errors| {
        let first = errors.into_iter().next();
        first.unwrap_or_else(|| ExprError::new(id.span, "it cannot be done"))
    })
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
