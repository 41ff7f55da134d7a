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

use serde_json::Map;

use crate::repl::frames::evaluate;
use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::script::command::Verb;
use crate::script::{Expr, ExprError, Span};
use crate::value::escaped;

/// Prints them.
pub fn run(shell: &mut Shell, exprs: &[Expr], span: Span) -> Result<(), ExprError> {
    let call = Call {
        words: &[],
        span,
        then: None,
    };
    let (shown, wrong) = evaluate(shell, &call, exprs)?;
    match shell.form() {
        Form::Text => {
            let mut text = String::new();
            for one in shown {
                let _ = writeln!(text, "{} = {}", escaped(&one.name), one.text);
            }
            shell.answer(Verb::Print, &text);
        }
        Form::Json if shown.is_empty() => {}
        Form::Json => {
            let values: Map<_, _> = shown.into_iter().map(|v| (v.name, v.json)).collect();
            let mut object = Map::new();
            object.insert("command".into(), Verb::Print.name().into());
            object.insert("values".into(), values.into());
            shell.out.object(&object);
        }
    }
    wrong.map_or(Ok(()), Err)
}
