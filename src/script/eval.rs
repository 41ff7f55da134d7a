//! The evaluator.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use regex::Regex;

use super::ast::BinaryOp;
use super::check::{Checked, Node};
use super::error::{EvalError, Span};
use super::facts::Key;
use super::operand::{self, Stopped};
use super::taken::Taken;
use crate::value::Value;

/// What a name or an expression comes to.
#[derive(Clone, PartialEq, Debug)]
pub enum Fact<'a> {
    /// The call has no such fact.
    Absent,
    /// `nil`
    Nil,
    /// True or false.
    Bool(bool),
    /// An integer of the target, signed or not.
    Int(i128),
    /// A float.
    Float(f64),
    /// Text.
    Str(Cow<'a, str>),
    /// Nanoseconds.
    Duration(i64),
    /// A structure: it has fields, and is not nil.
    Other(&'a Value),
    /// The same, read for this.
    Whole(Arc<Value>),
}

impl<'a> Fact<'a> {
    /// A value of the target as the language sees it.
    pub fn from_value(value: &'a Value) -> Self {
        match value {
            Value::Nil => Fact::Nil,
            Value::Bool(b) => Fact::Bool(*b),
            Value::Int(n) => Fact::Int(i128::from(*n)),
            Value::Uint(n) | Value::Raw(n) => Fact::Int(i128::from(*n)),
            Value::Float(x) => Fact::Float(*x),
            Value::Str { bytes, .. } | Value::Bytes { bytes, .. } => {
                Fact::Str(String::from_utf8_lossy(bytes))
            }
            Value::Error { text, .. } | Value::Text(text) | Value::Func(text) => {
                Fact::Str(Cow::Borrowed(text))
            }
            Value::Duration(ns) => Fact::Duration(*ns),
            Value::Pointer { addr, .. } => Fact::Int(i128::from(*addr)),
            Value::Interface { value, .. } => Self::from_value(value),
            Value::Unreadable(_) | Value::OptimisedAway | Value::Elided => Fact::Absent,
            Value::Ref(_)
            | Value::Complex(..)
            | Value::List { .. }
            | Value::Struct { .. }
            | Value::Map { .. }
            | Value::Chan { .. } => Fact::Other(value),
        }
    }

    /// `Some` of a number, `None` otherwise: absent facts stay absent.
    pub fn int(value: Option<impl Into<i128>>) -> Self {
        value.map_or(Fact::Absent, |n| Fact::Int(n.into()))
    }

    /// The same for text.
    pub fn text(value: Option<impl Into<Cow<'a, str>>>) -> Self {
        value.map_or(Fact::Absent, |text| Fact::Str(text.into()))
    }

    pub(super) fn describe(&self) -> &'static str {
        match self {
            Fact::Absent => "nothing",
            Fact::Nil => "nil",
            Fact::Bool(_) => "true or false",
            Fact::Int(_) => "an integer",
            Fact::Float(_) => "a float",
            Fact::Str(_) => "text",
            Fact::Duration(_) => "a duration",
            Fact::Other(_) | Fact::Whole(_) => "a structure",
        }
    }
}

/// Where the evaluator gets its facts.
pub trait Facts {
    /// The fact, or [`Fact::Absent`].
    fn fact(&self, key: &Key) -> Fact<'_>;

    /// What a part of the expression came to ([`Checked::apart`]).
    fn taken(&self, slot: u32) -> Option<&Taken> {
        let _ = slot;
        None
    }

    /// The program at the place where the expression was checked for.
    fn program(&self) -> Option<&dyn Stopped> {
        None
    }
}

impl Checked {
    /// What the expression comes to.
    pub fn eval<'a>(&'a self, facts: &'a dyn Facts) -> Result<Fact<'a>, EvalError> {
        eval(&self.root, facts)
    }

    /// Whether the condition holds; an absent fact counts as false.
    pub fn holds(&self, facts: &dyn Facts) -> Result<bool, EvalError> {
        truth(eval(&self.root, facts)?, Span::default())
    }
}

/// Recursive: kept small, so that a level costs little stack.
pub(super) fn eval<'a>(node: &'a Node, facts: &'a dyn Facts) -> Result<Fact<'a>, EvalError> {
    match node {
        Node::Const(fact) => Ok(borrowed(fact)),
        Node::Ask(key) => Ok(facts.fact(key)),
        Node::Taken(slot) => match facts.taken(*slot) {
            Some(taken) => taken.fact(),
            None => Err(EvalError::new(
                Span::default(),
                "the call began before this was asked for",
            )),
        },
        Node::Program(place, _) => operand::fact(place, facts),
        Node::Length(length) => operand::length(length, facts),
        Node::Field(base, name, span) => field(eval(base, facts)?, name, *span),
        Node::Not(operand, span) => not(eval(operand, facts)?, *span),
        Node::Neg(operand, span) => negated(eval(operand, facts)?, *span),
        Node::All(terms) => logic(terms, facts, true),
        Node::Any(terms) => logic(terms, facts, false),
        Node::Compare(op, left, right, span) => {
            let left = eval(left, facts)?;
            compared(*op, &left, &eval(right, facts)?, *span)
        }
        Node::Arith(op, left, right, span) => {
            let left = eval(left, facts)?;
            arithmetic(*op, left, eval(right, facts)?, *span)
        }
        Node::Match {
            subject,
            regex,
            negated,
            span,
        } => matched(&eval(subject, facts)?, regex, *negated, *span),
    }
}

/// `&&` goes on while terms are true, `||` while they are false.
fn logic<'a>(
    terms: &'a [(Node, Span)],
    facts: &'a dyn Facts,
    going: bool,
) -> Result<Fact<'a>, EvalError> {
    for (term, span) in terms {
        if truth(eval(term, facts)?, *span)? != going {
            return Ok(Fact::Bool(!going));
        }
    }
    Ok(Fact::Bool(going))
}

fn not(fact: Fact<'_>, span: Span) -> Result<Fact<'_>, EvalError> {
    truth(fact, span).map(|b| Fact::Bool(!b))
}

fn matched<'a>(
    subject: &Fact<'_>,
    regex: &Regex,
    negated: bool,
    span: Span,
) -> Result<Fact<'a>, EvalError> {
    match subject {
        Fact::Absent => Ok(Fact::Bool(false)),
        Fact::Nil => Ok(Fact::Bool(negated)),
        Fact::Str(text) => Ok(Fact::Bool(regex.is_match(text) != negated)),
        other => Err(EvalError::new(
            span,
            format!(
                "a regular expression needs text, this is {}",
                other.describe()
            ),
        )),
    }
}

/// Without copying the text of a literal.
fn borrowed<'a>(fact: &'a Fact<'static>) -> Fact<'a> {
    match fact {
        Fact::Str(text) => Fact::Str(Cow::Borrowed(text)),
        other => other.clone(),
    }
}

fn truth(fact: Fact<'_>, span: Span) -> Result<bool, EvalError> {
    match fact {
        Fact::Absent => Ok(false),
        Fact::Bool(b) => Ok(b),
        other => Err(EvalError::new(
            span,
            format!("true or false is needed, this is {}", other.describe()),
        )),
    }
}

fn field<'a>(base: Fact<'a>, name: &str, span: Span) -> Result<Fact<'a>, EvalError> {
    let value = match base {
        // The field of nothing is nothing, and of a nil pointer too.
        Fact::Absent | Fact::Nil => return Ok(Fact::Absent),
        Fact::Other(value) => value,
        other => {
            return Err(EvalError::new(
                span,
                format!("{} has no field `{name}`", other.describe()),
            ));
        }
    };
    let mut inner = value;
    while let Value::Ref(next) | Value::Interface { value: next, .. } = inner {
        inner = next;
    }
    if let Value::Struct {
        fields, omitted, ..
    } = inner
    {
        if let Some((_, found)) = fields.iter().find(|(field, _)| &**field == name) {
            return Ok(Fact::from_value(found));
        }
        if *omitted > 0 {
            return Ok(Fact::Absent);
        }
    }
    Err(EvalError::new(span, format!("no field `{name}`")))
}

fn negated(fact: Fact<'_>, span: Span) -> Result<Fact<'_>, EvalError> {
    Ok(match fact {
        Fact::Absent => Fact::Absent,
        Fact::Int(n) => Fact::Int(n.checked_neg().ok_or_else(|| overflow(span))?),
        Fact::Float(x) => Fact::Float(-x),
        Fact::Duration(ns) => Fact::Duration(ns.checked_neg().ok_or_else(|| overflow(span))?),
        other => {
            return Err(EvalError::new(
                span,
                format!("`-` needs a number, this is {}", other.describe()),
            ));
        }
    })
}

fn overflow(span: Span) -> EvalError {
    EvalError::new(span, "the result is too large")
}

fn compared<'a>(
    op: BinaryOp,
    a: &Fact<'_>,
    b: &Fact<'_>,
    span: Span,
) -> Result<Fact<'a>, EvalError> {
    holds(op, a, b, span).map(Fact::Bool)
}

fn holds(op: BinaryOp, a: &Fact<'_>, b: &Fact<'_>, span: Span) -> Result<bool, EvalError> {
    let equality = matches!(op, BinaryOp::Eq | BinaryOp::Ne);
    match (a, b) {
        (Fact::Absent | Fact::Nil, Fact::Nil) | (Fact::Nil, Fact::Absent) => {
            return Ok(op == BinaryOp::Eq);
        }
        (Fact::Absent, _) | (_, Fact::Absent) => return Ok(false),
        (Fact::Nil, _) | (_, Fact::Nil) => return Ok(op == BinaryOp::Ne),
        _ => {}
    }
    // None where no order exists: NaN.
    let order = match (a, b) {
        (Fact::Bool(x), Fact::Bool(y)) if equality => Some(x.cmp(y)),
        (Fact::Int(x), Fact::Int(y)) => Some(x.cmp(y)),
        (Fact::Float(x), Fact::Float(y)) => x.partial_cmp(y),
        (Fact::Int(x), Fact::Float(y)) => (*x as f64).partial_cmp(y),
        (Fact::Float(x), Fact::Int(y)) => x.partial_cmp(&(*y as f64)),
        (Fact::Str(x), Fact::Str(y)) => Some(x.cmp(y)),
        (Fact::Duration(x), Fact::Duration(y)) => Some(x.cmp(y)),
        (Fact::Whole(x), Fact::Whole(y)) if equality => {
            return same(x, y, span).map(|same| same == (op == BinaryOp::Eq));
        }
        _ => {
            return Err(EvalError::new(
                span,
                format!(
                    "`{}` cannot compare {} with {}",
                    op.as_str(),
                    a.describe(),
                    b.describe()
                ),
            ));
        }
    };
    Ok(match op {
        BinaryOp::Eq => order == Some(Ordering::Equal),
        BinaryOp::Ne => order != Some(Ordering::Equal),
        BinaryOp::Lt => order == Some(Ordering::Less),
        BinaryOp::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Gt => order == Some(Ordering::Greater),
        BinaryOp::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        BinaryOp::Or
        | BinaryOp::And
        | BinaryOp::Match
        | BinaryOp::NotMatch
        | BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Rem => false,
    })
}

/// Structures that were read whole.
fn same(x: &Value, y: &Value, span: Span) -> Result<bool, EvalError> {
    if x == y && is_cut(x) {
        return Err(EvalError::new(span, "too large to be compared"));
    }
    Ok(x == y)
}

/// Limits left out a part of it.
fn is_cut(value: &Value) -> bool {
    match value {
        Value::Elided | Value::Unreadable(_) | Value::OptimisedAway => true,
        Value::Struct {
            fields, omitted, ..
        } => *omitted > 0 || fields.iter().any(|(_, v)| is_cut(v)),
        Value::List { items, len, .. } => (items.len() as u64) < *len || items.iter().any(is_cut),
        Value::Str { bytes, len } | Value::Bytes { bytes, len } => (bytes.len() as u64) < *len,
        Value::Ref(inner) | Value::Interface { value: inner, .. } => is_cut(inner),
        _ => false,
    }
}

fn arithmetic<'a>(
    op: BinaryOp,
    a: Fact<'a>,
    b: Fact<'a>,
    span: Span,
) -> Result<Fact<'a>, EvalError> {
    use BinaryOp::{Add, Div, Mul, Rem};
    let duration = |ns: Option<i128>| {
        ns.and_then(|ns| i64::try_from(ns).ok())
            .map(Fact::Duration)
            .ok_or_else(|| overflow(span))
    };
    match (a, b) {
        (Fact::Absent, _) | (_, Fact::Absent) => Ok(Fact::Absent),
        (Fact::Str(x), Fact::Str(y)) if op == Add => Ok(Fact::Str(x + y)),
        (Fact::Int(x), Fact::Int(y)) => integers(op, x, y, span)?
            .map(Fact::Int)
            .ok_or_else(|| overflow(span)),
        (Fact::Duration(x), Fact::Duration(y)) if op != Mul => {
            let value = integers(op, i128::from(x), i128::from(y), span)?;
            if op == Div {
                return value.map(Fact::Int).ok_or_else(|| overflow(span));
            }
            duration(value)
        }
        (Fact::Duration(x), Fact::Int(y)) if matches!(op, Mul | Div) => {
            duration(integers(op, i128::from(x), y, span)?)
        }
        (Fact::Int(x), Fact::Duration(y)) if op == Mul => {
            duration(integers(op, x, i128::from(y), span)?)
        }
        (Fact::Float(x), Fact::Float(y)) if op != Rem => Ok(Fact::Float(floats(op, x, y))),
        (Fact::Float(x), Fact::Int(y)) if op != Rem => Ok(Fact::Float(floats(op, x, y as f64))),
        (Fact::Int(x), Fact::Float(y)) if op != Rem => Ok(Fact::Float(floats(op, x as f64, y))),
        (a, b) => Err(EvalError::new(
            span,
            format!(
                "`{}` between {} and {} makes no sense",
                op.as_str(),
                a.describe(),
                b.describe()
            ),
        )),
    }
}

/// `None` where it overflows.
fn integers(op: BinaryOp, x: i128, y: i128, span: Span) -> Result<Option<i128>, EvalError> {
    if matches!(op, BinaryOp::Div | BinaryOp::Rem) && y == 0 {
        return Err(EvalError::new(span, "division by zero"));
    }
    Ok(match op {
        BinaryOp::Add => x.checked_add(y),
        BinaryOp::Sub => x.checked_sub(y),
        BinaryOp::Mul => x.checked_mul(y),
        BinaryOp::Div => x.checked_div(y),
        BinaryOp::Rem => x.checked_rem(y),
        _ => None,
    })
}

fn floats(op: BinaryOp, x: f64, y: f64) -> f64 {
    match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        _ => f64::NAN,
    }
}
