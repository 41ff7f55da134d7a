//! ```text
//! print EXPR, EXPR …                                                alias: p
//! ```
//!
//! In the block of a trace, prints facts and values of the call: `goid`, `fd`,
//! `n`, `err`, `args.NAME` … At the prompt, prints expressions over the variables
//! of the chosen frame of the chosen goroutine, which must be parked.
//!
//! ```text
//!     on 1 print fd, remote, n, err
//!     goroutine 34 frame 2 print s.addr
//! ```

use std::fmt::Write as _;

use serde_json::Map;

use crate::repl::frames::{InFrame, current};
use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::repl::watcher::{fact_json, fact_text};
use crate::script::command::Verb;
use crate::script::{Expr, ExprError, Span, check};
use crate::value::escaped;

/// Prints them.
pub fn run(shell: &mut Shell, exprs: &[Expr], span: Span) -> Result<(), ExprError> {
    let call = Call {
        words: &[],
        span,
        then: None,
    };
    let frame = current(shell, &call)?;
    let env = InFrame {
        frame: &frame,
        goid: shell.goroutine.unwrap_or_default(),
    };
    let mut text = String::new();
    let mut values = Map::new();
    for expr in exprs {
        let checked = check(expr, &env)?;
        let fact = checked
            .eval(&env)
            .map_err(|error| ExprError::new(expr.span, error.message))?;
        let _ = writeln!(
            text,
            "{} = {}",
            escaped(&expr.to_string()),
            fact_text(&fact)
        );
        values.insert(expr.to_string(), fact_json(&fact));
    }
    match shell.form() {
        Form::Text => shell.answer(Verb::Print, &text),
        Form::Json => {
            let mut object = Map::new();
            object.insert("command".into(), Verb::Print.name().into());
            object.insert("values".into(), values.into());
            shell.out.object(&object);
        }
    }
    Ok(())
}
