//! ```text
//! print EXPR, EXPR …                                                alias: p
//! ```
//!
//! In the block of a trace, prints facts and values of the call: `goid`, `fd`,
//! `n`, `err`, `args.NAME` … At the prompt, prints expressions over the variables
//! of the chosen frame of the chosen goroutine, which must be parked or stand
//! still; where none is chosen, over package variables, those of main under
//! their bare names.
//!
//! Go's operators and selectors, indexing, slicing, `len`, `cap`, type
//! assertions, `*p`, `&x`, `=~` for regular expressions. A variable wins over a
//! fact of the goroutine (`goid`, `wait`, `reason`, `fd`, `remote` …) of its name;
//! `hit.NAME` is always the fact. How much is printed: `config max-string-len`,
//! `max-array-values`, `max-variable-recurse`.
//!
//! ```text
//!     on 1 print fd, remote, n, err
//!     goroutine 34 frame 2 print s.addr, len(s.sessions)
//!     p req.Header["Host"], s.sessions[3].name[:5], err.(*net.OpError).Op
//!     p http.DefaultClient, "net/http".DefaultTransport
//! ```

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use crate::repl::frames::{InFrame, with_environment};
use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::script::command::Verb;
use crate::script::{Checked, Expr, ExprError, Span, check};
use crate::value::{Limits, Value, escaped};

/// Prints them.
pub fn run(shell: &mut Shell, exprs: &[Expr], span: Span) -> Result<(), ExprError> {
    let call = Call {
        words: &[],
        span,
        then: None,
    };
    let mut text = String::new();
    let mut values = Map::new();
    let limits = shell.config.limits();
    with_environment(shell, &call, &mut |env| {
        // Nothing is read before all of it is known to make sense.
        let checked: Result<Vec<Checked>, ExprError> =
            exprs.iter().map(|expr| check(expr, env)).collect();
        for (expr, checked) in exprs.iter().zip(checked?) {
            let value = evaluated(expr, &checked, env, &limits)?;
            let shown = match &value {
                Some(value) => escaped(&value.to_string()),
                None => "(absent)".to_owned(),
            };
            let _ = writeln!(text, "{} = {shown}", escaped(&expr.to_string()));
            let json = value.map_or(Json::Null, |v| {
                serde_json::to_value(&v).unwrap_or(Json::Null)
            });
            values.insert(expr.to_string(), json);
        }
        Ok(())
    })?;
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

fn evaluated(
    expr: &Expr,
    checked: &Checked,
    env: &InFrame<'_>,
    limits: &Limits,
) -> Result<Option<Value>, ExprError> {
    checked.value(env, limits).map_err(|error| {
        let whole = error.span == Span::default();
        let span = if whole { expr.span } else { error.span };
        ExprError::new(span, error.message)
    })
}
