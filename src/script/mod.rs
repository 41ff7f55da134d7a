//! The language of filters, conditions and `print`, and that of commands.
//!
//! Who lives here: `lexer`, `parser` and the tree ([`ast`]), the table of
//! facts ([`facts`]), the checker ([`mod@check`]) and the evaluator ([`eval`]);
//! the commands around the expressions ([`command`]); the program's variables in
//! expressions: checked (`program`, `fields`), evaluated (`operand`, `elements`), in two steps
//! where the program is not at hand for long (`taken`), and where
//! DWARF has them ([`scope`]).
//! Nobody here knows processes: an environment is asked for facts ([`Facts`])
//! and for the program's variables and memory ([`Stopped`]).
//! Allowed in: probe, record, sink, session, repl, cli.
//!
//! # The language
//!
//! Go's operators with Go's precedence, loosest first: `||`, `&&`,
//! `== != < <= > >= =~ !~`, `+ -`, `* / %`, then unary `!` and `-`, then
//! selectors (`args.req.ID`) and parentheses. Literals: `12`, `1_000`, `0x1f`,
//! `0o17`, `0b101`, `1.5`, `1e9`, `"text\n"`, `` `raw` ``, durations `5ms`,
//! `1.5s`, `10µs`, `2h`, `1h30m`, sizes `4KiB`, `2MiB` (integers), `nil`,
//! `true`, `false`. `=~` and `!~` take a regular expression as a literal; it
//! matches anywhere in the text.
//!
//! Names are the facts of [`CALL_FACTS`], `args.NAME` and `results.NAME`, and
//! the bare names of arguments and results that are no facts; a structure's
//! fields follow after a dot. `hit.NAME` is always the fact.
//!
//! # Variables of the program
//!
//! Where the place in the program is known (a breakpoint, a stopped goroutine),
//! its variables are names, too, and win over facts of the same name; of package
//! variables `x`, `http.DefaultClient` and `"net/http".DefaultClient` are known.
//! Of them: `s.f` (through pointers and embedded structs), `s[i]` of slices,
//! arrays and strings, `m["key"]` of maps by scalars and strings, `s[1:3]`,
//! `len(s)`, `cap(s)`, `x.(*main.T)`, `*p`, `&x`. A comparison of pointers, maps,
//! channels and funcs is one of addresses. Beyond a nil pointer, in a map that has
//! no such key, and of another dynamic type than asserted there is nothing: an
//! absent fact. What was optimised away or cannot be read is an error.
//!
//! # Absent facts
//!
//! Not every call has every fact (`fd` of a function that has nothing to do
//! with sockets, `dur` of a call that was running before gotap attached). A
//! comparison or a match with an absent fact is false, `!=` and `!~` too, but
//! for `== nil`, which is true. Arithmetic with it is absent again, and where
//! true or false is asked for it counts as false.
//!
//! ```
//! use gotap::script::{CallNames, compile_condition};
//!
//! assert!(compile_condition("err != nil || dur > 10ms", &CallNames::default()).is_ok());
//! let error = compile_condition("feed == 7", &CallNames::default()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "bad expression: unknown name `feed`; did you mean `fd`?\n  feed == 7\n  ^^^^",
//! );
//! ```

pub mod ast;
pub mod check;
pub mod command;
mod elements;
pub mod error;
pub mod eval;
pub mod facts;
mod fields;
mod lexer;
mod operand;
mod parser;
mod program;
pub mod scope;
mod simple;
mod taken;
#[cfg(test)]
mod tests;

pub use ast::{BinaryOp, Builtin, Expr, ExprKind, Literal, UnaryOp};
pub use check::{Checked, Type, check, check_condition};
pub use error::{BadExpression, EvalError, ExprError, Span};
pub use eval::{Fact, Facts};
pub use facts::{CALL_FACTS, CallFact, CallNames, FactInfo, Key, Known, Names};
pub use operand::Stopped;
pub use parser::parse;
pub use program::Scope;
pub use simple::Simple;
pub use taken::{Mentions, Part, Taken};

/// Parses and checks a condition; the error shows the text with a caret under
/// the place that is wrong.
pub fn compile_condition(source: &str, names: &dyn Names) -> Result<Checked, BadExpression> {
    parse(source)
        .and_then(|expr| check_condition(&expr, names))
        .map_err(|error| BadExpression::new(source, error))
}

/// Looks at a condition's syntax alone, before its names can be known.
pub fn parse_condition(source: &str) -> Result<Expr, BadExpression> {
    parse(source).map_err(|error| BadExpression::new(source, error))
}

/// Parses and checks an expression of any type, otherwise as
/// [`compile_condition`].
pub fn compile(source: &str, names: &dyn Names) -> Result<Checked, BadExpression> {
    parse(source)
        .and_then(|expr| check(&expr, names))
        .map_err(|error| BadExpression::new(source, error))
}
