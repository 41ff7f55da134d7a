//! The tree of an expression, and its printed form, which parses back to the
//! same tree.

use std::fmt::{self, Write as _};

use super::error::Span;

/// An expression and where it stands. Equality looks at the tree alone.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands in the source.
    pub span: Span,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// The forms of an expression.
#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind {
    /// A literal.
    Literal(Literal),
    /// A fact, or a variable of the target.
    Name(String),
    /// `base.field`
    Select(Box<Expr>, Field),
    /// `base[index]`: of a slice, an array, a map, a string.
    Index(Box<Expr>, Box<Expr>),
    /// `base[from:to]`; either may be left out.
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    /// `base.(type)`: what an interface holds.
    Assert(Box<Expr>, TypeText),
    /// `len(x)`, `cap(x)`
    Call(Builtin, Box<Expr>),
    /// `!x`, `-x`, `*x`, `&x`
    Unary(UnaryOp, Box<Expr>),
    /// `x && y` and the like.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
}

/// The name after a dot. Equality looks at the name alone.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The type of an assertion as it is written. Equality looks at the text alone.
#[derive(Clone, Debug)]
pub struct TypeText {
    /// `*main.T`, `[]int`.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl PartialEq for TypeText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Functions that are part of the language.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Builtin {
    /// `len`
    Len,
    /// `cap`
    Cap,
}

impl Builtin {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Builtin::Len => "len",
            Builtin::Cap => "cap",
        }
    }
}

/// A literal.
#[derive(Clone, PartialEq, Debug)]
pub enum Literal {
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// `12`, `0xc`, `4KiB`
    Int(u64),
    /// `1.5`; finite
    Float(f64),
    /// `"…"` or `` `…` ``
    Str(String),
    /// `5ms`; nanoseconds
    Duration(u64),
}

/// Operators before their operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnaryOp {
    /// `!`
    Not,
    /// `-`
    Neg,
    /// `*`: what a pointer points to.
    Deref,
    /// `&`: the address of a variable.
    Address,
}

impl UnaryOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            UnaryOp::Not => "!",
            UnaryOp::Neg => "-",
            UnaryOp::Deref => "*",
            UnaryOp::Address => "&",
        }
    }
}

/// Operators between two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BinaryOp {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `=~`
    Match,
    /// `!~`
    NotMatch,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Rem,
}

impl BinaryOp {
    /// All of them.
    pub const ALL: [BinaryOp; 15] = [
        BinaryOp::Or,
        BinaryOp::And,
        BinaryOp::Eq,
        BinaryOp::Ne,
        BinaryOp::Lt,
        BinaryOp::Le,
        BinaryOp::Gt,
        BinaryOp::Ge,
        BinaryOp::Match,
        BinaryOp::NotMatch,
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Rem,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Or => "||",
            BinaryOp::And => "&&",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::Match => "=~",
            BinaryOp::NotMatch => "!~",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
        }
    }

    /// 1 binds loosest, 5 tightest (The Go Programming Language Specification,
    /// "Operator precedence"; `=~` and `!~` stand with the comparisons).
    pub fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And => 2,
            BinaryOp::Eq
            | BinaryOp::Ne
            | BinaryOp::Lt
            | BinaryOp::Le
            | BinaryOp::Gt
            | BinaryOp::Ge
            | BinaryOp::Match
            | BinaryOp::NotMatch => 3,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => 5,
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Literal(literal) => write!(f, "{literal}"),
            ExprKind::Name(name) => f.write_str(name),
            ExprKind::Select(base, field) => {
                parenthesised(f, base, binds(base) < SELECT)?;
                write!(f, ".{}", field.name)
            }
            ExprKind::Index(base, index) => {
                parenthesised(f, base, binds(base) < SELECT)?;
                write!(f, "[{index}]")
            }
            ExprKind::Slice(base, from, to) => {
                parenthesised(f, base, binds(base) < SELECT)?;
                f.write_char('[')?;
                if let Some(from) = from {
                    write!(f, "{from}")?;
                }
                f.write_char(':')?;
                if let Some(to) = to {
                    write!(f, "{to}")?;
                }
                f.write_char(']')
            }
            ExprKind::Assert(base, ty) => {
                parenthesised(f, base, binds(base) < SELECT)?;
                write!(f, ".({})", ty.text)
            }
            ExprKind::Call(builtin, operand) => write!(f, "{}({operand})", builtin.as_str()),
            ExprKind::Unary(op, operand) => {
                f.write_str(op.as_str())?;
                // Two of them are another operator.
                let twice = *op == UnaryOp::Address
                    && matches!(operand.kind, ExprKind::Unary(UnaryOp::Address, _));
                parenthesised(f, operand, binds(operand) < UNARY || twice)
            }
            ExprKind::Binary(op, left, right) => {
                parenthesised(f, left, binds(left) < op.precedence())?;
                write!(f, " {} ", op.as_str())?;
                parenthesised(f, right, binds(right) <= op.precedence())
            }
        }
    }
}

const UNARY: u8 = 6;
const SELECT: u8 = 7;

fn binds(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Binary(op, ..) => op.precedence(),
        ExprKind::Unary(..) => UNARY,
        ExprKind::Literal(_)
        | ExprKind::Name(_)
        | ExprKind::Select(..)
        | ExprKind::Index(..)
        | ExprKind::Slice(..)
        | ExprKind::Assert(..)
        | ExprKind::Call(..) => SELECT,
    }
}

fn parenthesised(f: &mut fmt::Formatter<'_>, expr: &Expr, wrap: bool) -> fmt::Result {
    if wrap {
        write!(f, "({expr})")
    } else {
        write!(f, "{expr}")
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Nil => f.write_str("nil"),
            Literal::Bool(b) => write!(f, "{b}"),
            Literal::Int(n) => write!(f, "{n}"),
            Literal::Float(x) => write!(f, "{x:?}"),
            Literal::Str(s) => write_quoted(f, s),
            Literal::Duration(ns) => write_exact_duration(f, *ns),
        }
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, s: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in s.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// In the largest unit that divides it: nothing is rounded.
fn write_exact_duration(f: &mut fmt::Formatter<'_>, ns: u64) -> fmt::Result {
    const UNITS: [(u64, &str); 6] = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "µs"),
        (1, "ns"),
    ];
    let (size, unit) = UNITS
        .into_iter()
        .find(|(size, _)| ns != 0 && ns.is_multiple_of(*size))
        .unwrap_or((1, "ns"));
    write!(f, "{}{unit}", ns / size)
}
