//! The command language: what is typed at the prompt and what scripts hold.
//!
//! Who lives here: the tree (here), the table of commands ([`verbs`]), text to
//! statements (`reader`), statements to commands (`parser`), places in the
//! program ([`location`]), the tree's printed form (`print`). Pure, as all of
//! [`crate::script`]: whether a function exists is asked elsewhere.
//!
//! # The language
//!
//! One command a line, or several with `;` between them; `#` at the beginning
//! of a word begins a comment. The first `{` outside of brackets, quotes and
//! `/…/` opens a block of commands, which ends at its `}`. Words are separated
//! by white space outside of brackets; one that holds white space or other
//! marks stands in `"quotes"`.
//!
//! ```
//! use gotap::script::command::parse_script;
//!
//! let text = "t net.(*conn).Read if n == 0 { print fd, err; bt 8 }";
//! let parsed = parse_script(text);
//! assert!(parsed.errors.is_empty());
//! assert_eq!(
//!     parsed.script.to_string(),
//!     "trace net.(*conn).Read if n == 0 {\n    print fd, err\n    stack 8\n}\n",
//! );
//! let error = &parse_script("trcae main.main").errors[0];
//! assert_eq!(
//!     error.render_at("a.gotap", "trcae main.main"),
//!     "a.gotap:1:1: unknown command `trcae`; did you mean `trace`?\n  trcae main.main\n  ^^^^^",
//! );
//! ```

pub mod location;
mod parser;
mod print;
mod reader;
#[cfg(test)]
mod tests;
pub mod verbs;

pub use location::{Location, Place};
pub use reader::{Parsed, is_incomplete, parse_script};
pub use verbs::{Standing, VERBS, Verb, VerbInfo};

use super::ast::{BinaryOp, Expr};
use super::error::Span;

/// A file of commands, or a line of the prompt.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Script {
    /// Its commands, in order.
    pub statements: Vec<Statement>,
}

/// One command, and where it stands. Equality looks at the command alone.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The command.
    pub command: Command,
    /// Where, without its block.
    pub span: Span,
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.command == other.command
    }
}

/// A word of a command. Equality looks at the text alone.
#[derive(Clone, Debug)]
pub struct Word {
    /// Without quotes.
    pub text: String,
    /// Where, with quotes.
    pub span: Span,
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// How hard a point holds the target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Strength {
    /// `trace`: records calls, stops nothing.
    Trace,
    /// `break`: stops the target until `continue`.
    Break,
    /// `snap`: copies the target.
    Snap,
}

impl Strength {
    /// Its command.
    pub fn verb(self) -> Verb {
        match self {
            Strength::Trace => Verb::Trace,
            Strength::Break => Verb::Break,
            Strength::Snap => Verb::Snap,
        }
    }
}

/// The options of a `snap`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Copies {
    /// `-count N`: after so many it rests; one, unless told.
    pub count: Option<u64>,
    /// `-consistent`: every thread is stopped before.
    pub consistent: bool,
}

/// `trace`, `break`, `snap`.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Which of them.
    pub strength: Strength,
    /// How a `snap` copies.
    pub copies: Copies,
    /// The name that it is given.
    pub name: Option<Word>,
    /// Where.
    pub location: Location,
    /// After `if`.
    pub condition: Option<Expr>,
    /// What is done at each hit.
    pub actions: Option<Vec<Statement>>,
}

/// What `condition` sets.
#[derive(Clone, PartialEq, Debug)]
pub enum Test {
    /// An expression.
    Holds(Expr),
    /// `-hitcount ID OP N`
    Hits(BinaryOp, u64),
    /// `-per-g-hitcount ID OP N`
    HitsPerGoroutine(BinaryOp, u64),
    /// Nothing any more (`-clear`).
    Cleared,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// `trace`, `break`, `snap`
    Point(Box<Point>),
    /// `every 5s { … }`, nanoseconds
    Every(u64, Vec<Statement>),
    /// `for 10m`, nanoseconds
    For(u64),
    /// `on exit { … }`
    OnExit(Vec<Statement>),
    /// `on ID ACTION`, `on ID { … }`
    On(Word, Vec<Statement>),
    /// `condition …`
    Condition(Word, Test),
    /// `print A, B`
    Print(Vec<Expr>),
    /// `whatis EXPR`
    Whatis(Box<Expr>),
    /// `set -e`
    StopOnError,
    /// Any other: its words, and the command that it is a prefix of.
    Plain(Verb, Vec<Word>, Option<Box<Statement>>),
}

impl Command {
    /// The table's row.
    pub fn verb(&self) -> Verb {
        match self {
            Command::Point(point) => point.strength.verb(),
            Command::Every(..) => Verb::Every,
            Command::For(_) => Verb::For,
            Command::OnExit(_) | Command::On(..) => Verb::On,
            Command::Condition(..) => Verb::Condition,
            Command::Print(_) => Verb::Print,
            Command::Whatis(_) => Verb::Whatis,
            Command::StopOnError => Verb::Set,
            Command::Plain(verb, ..) => *verb,
        }
    }

    /// The commands in its block.
    pub fn block(&self) -> &[Statement] {
        match self {
            Command::Point(point) => point.actions.as_deref().unwrap_or_default(),
            Command::Every(_, block) | Command::OnExit(block) | Command::On(_, block) => block,
            Command::For(_)
            | Command::Condition(..)
            | Command::Print(_)
            | Command::Whatis(_)
            | Command::StopOnError
            | Command::Plain(..) => &[],
        }
    }
}
