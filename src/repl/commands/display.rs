//! ```text
//! display -a EXPR
//! display -d N
//! display
//! ```
//!
//! Adds an expression that is printed at each stop, or takes one out by its
//! number; alone, prints them all.

use crate::repl::frames;
use crate::repl::shell::{Call, Shell};
use crate::script::command::Verb;
use crate::script::{Expr, ExprError, parse};
use crate::value::escaped;

/// What is printed at each stop.
#[derive(Default)]
pub struct Displays {
    list: Vec<(usize, Expr)>,
    last: usize,
}

/// Adds, takes out, or prints all.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    match call.words {
        [] => {
            if shell.displays.list.is_empty() {
                shell.answer(Verb::Display, "(none)\n");
            }
            show_all(shell);
            Ok(())
        }
        [flag, rest @ ..] if flag.text == "-a" && !rest.is_empty() => {
            let text: Vec<&str> = rest.iter().map(|w| w.text.as_str()).collect();
            let text = text.join(" ");
            let expr = parse(&text).map_err(|e| call.fail(e.message))?;
            shell.displays.last += 1;
            let number = shell.displays.last;
            shell.displays.list.push((number, expr));
            if shell.is_stopped() {
                show(shell, number);
            } else {
                shell.tell(
                    Verb::Display,
                    &format!("display {number} comes at each stop"),
                );
            }
            Ok(())
        }
        [flag, number] if flag.text == "-d" => {
            let wanted = number.text.parse().unwrap_or(0);
            let before = shell.displays.list.len();
            shell.displays.list.retain(|(n, _)| *n != wanted);
            if shell.displays.list.len() == before {
                return Err(ExprError::new(number.span, "there is no such display"));
            }
            Ok(())
        }
        _ => Err(call.fail("display -a EXPR, display -d N")),
    }
}

/// Prints all of them.
pub fn show_all(shell: &Shell) {
    for (number, _) in &shell.displays.list {
        show(shell, *number);
    }
}

fn show(shell: &Shell, number: usize) {
    let Some((_, expr)) = shell.displays.list.iter().find(|(n, _)| *n == number) else {
        return;
    };
    let call = Call {
        words: &[],
        span: expr.span,
        then: None,
    };
    let shown = match frames::evaluate(shell, &call, std::slice::from_ref(expr)) {
        Ok((values, None)) => values.into_iter().map(|v| v.text).collect(),
        Ok((_, Some(error))) | Err(error) => format!("({})", error.message),
    };
    let line = format!("{number}: {} = {shown}\n", escaped(&expr.to_string()));
    shell.answer(Verb::Display, &line);
}
