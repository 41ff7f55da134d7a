//! What may be wrong with an expression, and how it is shown.

use std::fmt;

/// A place in the source: bytes, end exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

impl Span {
    /// From `start` to before `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self::new(self.start.min(other.start), self.end.max(other.end))
    }
}

/// An expression that cannot be used: what is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// What is wrong, and what to do.
    pub message: String,
    /// Where, in bytes of the source.
    pub span: Span,
}

impl ExprError {
    /// What is wrong, and where.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
        }
    }

    /// The message, the line of the source, and a caret under the place:
    ///
    /// ```text
    /// bad expression: unknown name `feed`; did you mean `fd`?
    ///   feed == 7
    ///   ^^^^
    /// ```
    pub fn render(&self, source: &str) -> String {
        format!("bad expression: {}\n{}", self.message, self.caret(source))
    }

    /// The same of a script: `FILE:LINE:COLUMN: message`, the line, and a caret.
    /// Columns are characters and count from 1, as lines do.
    pub fn render_at(&self, name: &str, source: &str) -> String {
        let (line, column) = self.line_and_column(source);
        let caret = self.caret(source);
        format!("{name}:{line}:{column}: {}\n{caret}", self.message)
    }

    /// The same of what was typed: a caret, and the message below.
    pub fn render_typed(&self, source: &str) -> String {
        format!("{}\n{}", self.caret(source), self.message)
    }

    /// Line and column of the place, both from 1.
    pub fn line_and_column(&self, source: &str) -> (usize, usize) {
        let start = self.span.start.min(source.len());
        let before = source.get(..start).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count();
        (before.matches('\n').count() + 1, column + 1)
    }

    fn caret(&self, source: &str) -> String {
        let (line, start, end) = line_of(source, self.span);
        let shown: String = line.chars().map(printable).collect();
        let before = line.get(..start).unwrap_or("").chars().count();
        let under = line.get(start..end).unwrap_or("").chars().count().max(1);
        format!("  {shown}\n  {}{}", " ".repeat(before), "^".repeat(under))
    }
}

/// The line that the span begins in, and the span within that line.
fn line_of(source: &str, span: Span) -> (&str, usize, usize) {
    let mut at = 0;
    for line in source.split('\n') {
        let end = at + line.len();
        if span.start <= end {
            return (line, span.start - at, span.end.clamp(span.start, end) - at);
        }
        at = end + 1;
    }
    (source, 0, 0)
}

/// One column for one character, and nothing that a terminal acts on.
fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

/// An [`ExprError`] with its source; displays both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadExpression {
    /// The text that was given.
    pub source: String,
    /// What is wrong with it.
    pub error: ExprError,
}

impl BadExpression {
    pub(super) fn new(source: &str, error: ExprError) -> Self {
        Self {
            source: source.to_owned(),
            error,
        }
    }
}

impl fmt::Display for BadExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error.render(&self.source))
    }
}

impl std::error::Error for BadExpression {}

/// An expression that was well formed but could not be evaluated for one call:
/// an argument of another type than it is compared with, an overflow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// What went wrong.
    pub message: String,
    /// In which part of the source.
    pub span: Span,
}

impl EvalError {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
        }
    }
}
