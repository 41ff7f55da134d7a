//! The checker: names are known, types fit, regular expressions compile; what
//! comes out can be evaluated often and fast.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::ast::{BinaryOp, Expr, ExprKind, Field, Literal, UnaryOp};
use super::error::{ExprError, Span};
use super::eval::Fact;
use super::facts::{Key, Known, Names};
use super::program::{Length, Place, Shape};

/// Memory that one compiled regular expression may take, in bytes.
const REGEX_LIMIT: usize = 4 << 20;

/// The types of the language.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// The type of the literal `nil`.
    Nil,
    /// `true`, `false`
    Bool,
    /// Integers, up to 64 bits of either sign.
    Int,
    /// Floats.
    Float,
    /// Text.
    Str,
    /// A time span.
    Duration,
    /// A pointer, map, channel or func of the program.
    Pointer,
    /// A slice or array of the program.
    List,
    /// A struct of the program.
    Struct,
    /// A value of the target, whose type is known at the call only.
    Any,
}

impl Type {
    /// In words, with an article.
    pub fn describe(self) -> &'static str {
        match self {
            Type::Nil => "nil",
            Type::Bool => "true or false",
            Type::Int => "an integer",
            Type::Float => "a float",
            Type::Str => "text",
            Type::Duration => "a duration",
            Type::Pointer => "a pointer",
            Type::List => "a list",
            Type::Struct => "a structure",
            Type::Any => "a value of the program",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Type::Int | Type::Float)
    }
}

/// An expression that was checked.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(super) root: Node,
    ty: Type,
    keys: Vec<Key>,
}

impl Checked {
    pub(super) fn of(root: Node, ty: Type, keys: Vec<Key>) -> Checked {
        Checked { root, ty, keys }
    }

    /// Its type.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// Everything that it asks for, without repetition: what the engine must
    /// collect, and at which end of a call it can be evaluated.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// An expression in the form that is evaluated.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Const(Fact<'static>),
    Ask(Key),
    /// What was taken where the program was at hand.
    Taken(u32),
    Program(Box<Place>, Shape),
    Length(Box<Length>),
    Field(Box<Node>, Arc<str>, Span),
    Not(Box<Node>, Span),
    Neg(Box<Node>, Span),
    All(Vec<(Node, Span)>),
    Any(Vec<(Node, Span)>),
    Compare(BinaryOp, Box<Node>, Box<Node>, Span),
    Arith(BinaryOp, Box<Node>, Box<Node>, Span),
    Match {
        subject: Box<Node>,
        regex: Regex,
        negated: bool,
        span: Span,
    },
}

/// Checks an expression against the names that it may use.
pub fn check(expr: &Expr, names: &dyn Names) -> Result<Checked, ExprError> {
    let mut checker = Checker {
        names,
        keys: Vec::new(),
    };
    let typed = checker.expr(expr)?;
    Ok(Checked {
        root: typed.node,
        ty: typed.ty,
        keys: checker.keys,
    })
}

/// The same, for an expression that must be true or false.
pub fn check_condition(expr: &Expr, names: &dyn Names) -> Result<Checked, ExprError> {
    let checked = check(expr, names)?;
    let hint = match checked.ty {
        Type::Bool | Type::Any => return Ok(checked),
        Type::Nil | Type::List | Type::Struct => "",
        Type::Pointer => "; compare it, as in `p != nil`",
        Type::Str => "; compare it, as in `err != nil`",
        Type::Int | Type::Float => "; compare it, as in `n > 0`",
        Type::Duration => "; compare it, as in `dur > 5ms`",
    };
    Err(ExprError::new(
        expr.span,
        format!(
            "a condition is true or false, this is {}{hint}",
            checked.ty.describe()
        ),
    ))
}

pub(super) struct Typed {
    pub(super) node: Node,
    pub(super) ty: Type,
    words: &'static [&'static str],
    /// It can be compared with nil: facts may be absent.
    nilable: bool,
}

impl Typed {
    fn new(node: Node, ty: Type) -> Self {
        Self {
            node,
            ty,
            words: &[],
            nilable: true,
        }
    }

    pub(super) fn program(node: Node, ty: Type, nilable: bool) -> Self {
        Self {
            nilable,
            ..Self::new(node, ty)
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self.node, Node::Const(_))
    }
}

pub(super) struct Checker<'n> {
    pub(super) names: &'n dyn Names,
    keys: Vec<Key>,
}

impl Checker<'_> {
    pub(super) fn expr(&mut self, expr: &Expr) -> Result<Typed, ExprError> {
        if let Some(found) = self.program(expr)? {
            return Ok(found);
        }
        match &expr.kind {
            ExprKind::Literal(literal) => Ok(constant(literal)),
            ExprKind::Name(name) => self.name(name, expr.span),
            ExprKind::Select(base, field) => self.select(base, field),
            ExprKind::Index(..)
            | ExprKind::Slice(..)
            | ExprKind::Assert(..)
            | ExprKind::Call(..) => Err(ExprError::new(
                expr.span,
                "this is no variable of the program",
            )),
            ExprKind::Unary(op, operand) => self.unary(*op, operand, expr.span),
            ExprKind::Binary(op, left, right) => match op {
                BinaryOp::Or | BinaryOp::And => self.logic(*op, left, right),
                BinaryOp::Match | BinaryOp::NotMatch => self.matching(*op, left, right, expr.span),
                BinaryOp::Eq
                | BinaryOp::Ne
                | BinaryOp::Lt
                | BinaryOp::Le
                | BinaryOp::Gt
                | BinaryOp::Ge => self.comparison(*op, left, right, expr.span),
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => {
                    self.arithmetic(*op, left, right, expr.span)
                }
            },
        }
    }

    fn name(&mut self, name: &str, span: Span) -> Result<Typed, ExprError> {
        match self.names.name(name) {
            Some(Known::Fact { key, ty, words }) => Ok(self.ask(key, ty, words)),
            Some(Known::Space) => Err(ExprError::new(
                span,
                format!("`{name}` is not a value; write `{name}.` and a name"),
            )),
            None => Err(match self.names.refused(name) {
                Some(why) => ExprError::new(span, why),
                None => self.unknown_name(name, span),
            }),
        }
    }

    fn ask(&mut self, key: Key, ty: Type, words: &'static [&'static str]) -> Typed {
        if !self.keys.contains(&key) {
            self.keys.push(key.clone());
        }
        Typed {
            node: Node::Ask(key),
            ty,
            words,
            nilable: true,
        }
    }

    fn select(&mut self, base: &Expr, field: &Field) -> Result<Typed, ExprError> {
        if let ExprKind::Name(space) = &base.kind
            && self.is_space(space)
        {
            return match self.names.member(space, &field.name) {
                Some(Known::Fact { key, ty, words }) => Ok(self.ask(key, ty, words)),
                Some(Known::Space) | None => {
                    if let Some(why) = self.names.refused(&field.name) {
                        return Err(ExprError::new(field.span, why));
                    }
                    let known = self.names.names(Some(space));
                    Err(unknown(&field.name, field.span, &known, "name"))
                }
            };
        }
        let value = self.expr(base)?;
        if value.ty != Type::Any {
            return Err(ExprError::new(
                field.span,
                format!("this is {}, which has no fields", value.ty.describe()),
            ));
        }
        let name = Arc::from(field.name.as_str());
        Ok(Typed::new(
            Node::Field(Box::new(value.node), name, base.span.to(field.span)),
            Type::Any,
        ))
    }

    fn unary(&mut self, op: UnaryOp, operand: &Expr, span: Span) -> Result<Typed, ExprError> {
        let value = self.expr(operand)?;
        let node = Box::new(value.node);
        match (op, value.ty) {
            (UnaryOp::Not, Type::Bool | Type::Any) => {
                Ok(Typed::new(Node::Not(node, span), Type::Bool))
            }
            (UnaryOp::Neg, Type::Int | Type::Float | Type::Duration | Type::Any) => {
                Ok(Typed::new(Node::Neg(node, span), value.ty))
            }
            (UnaryOp::Not, ty) => Err(ExprError::new(
                operand.span,
                format!("`!` needs true or false, this is {}", ty.describe()),
            )),
            (UnaryOp::Deref | UnaryOp::Address, _) => Err(ExprError::new(
                operand.span,
                "this is no variable of the program",
            )),
            (UnaryOp::Neg, ty) => Err(ExprError::new(
                operand.span,
                format!(
                    "`-` needs a number or a duration, this is {}",
                    ty.describe()
                ),
            )),
        }
    }

    /// A whole chain of `&&` or of `||` at once: it costs no stack, however
    /// long it is.
    fn logic(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> Result<Typed, ExprError> {
        let mut terms = vec![right];
        let mut rest = left;
        while let ExprKind::Binary(inner, left, right) = &rest.kind
            && *inner == op
        {
            terms.push(right);
            rest = left;
        }
        terms.push(rest);
        let mut nodes = Vec::with_capacity(terms.len());
        for term in terms.into_iter().rev() {
            let value = self.expr(term)?;
            if !matches!(value.ty, Type::Bool | Type::Any) {
                return Err(ExprError::new(
                    term.span,
                    format!(
                        "`{}` needs true or false, this is {}",
                        op.as_str(),
                        value.ty.describe()
                    ),
                ));
            }
            nodes.push((value.node, term.span));
        }
        let node = if op == BinaryOp::And {
            Node::All(nodes)
        } else {
            Node::Any(nodes)
        };
        Ok(Typed::new(node, Type::Bool))
    }

    fn matching(
        &mut self,
        op: BinaryOp,
        left: &Expr,
        right: &Expr,
        span: Span,
    ) -> Result<Typed, ExprError> {
        let subject = self.expr(left)?;
        if !matches!(subject.ty, Type::Str | Type::Any) {
            return Err(ExprError::new(
                left.span,
                format!(
                    "`{}` needs text, this is {}",
                    op.as_str(),
                    subject.ty.describe()
                ),
            ));
        }
        let ExprKind::Literal(Literal::Str(pattern)) = &right.kind else {
            return Err(ExprError::new(
                right.span,
                format!("`{}` takes a regular expression in quotes", op.as_str()),
            ));
        };
        let regex = RegexBuilder::new(pattern)
            .size_limit(REGEX_LIMIT)
            .dfa_size_limit(REGEX_LIMIT)
            .build()
            .map_err(|error| ExprError::new(right.span, regex_message(&error)))?;
        let node = Node::Match {
            subject: Box::new(subject.node),
            regex,
            negated: op == BinaryOp::NotMatch,
            span,
        };
        Ok(Typed::new(node, Type::Bool))
    }

    fn comparison(
        &mut self,
        op: BinaryOp,
        left: &Expr,
        right: &Expr,
        span: Span,
    ) -> Result<Typed, ExprError> {
        let (mut a, mut b) = (self.expr(left)?, self.expr(right)?);
        // An untyped zero is a duration too, as in Go.
        zero_as_duration(&mut a, b.ty);
        zero_as_duration(&mut b, a.ty);
        let ordered = !matches!(op, BinaryOp::Eq | BinaryOp::Ne);
        let fits = match (a.ty, b.ty) {
            (Type::Nil, other) | (other, Type::Nil) => !ordered && other != Type::Nil,
            (Type::List, _) | (_, Type::List) => false,
            (Type::Any, _) | (_, Type::Any) => true,
            (x, y) if x.is_number() && y.is_number() => true,
            (x, y) => {
                let unordered = matches!(x, Type::Bool | Type::Pointer | Type::Struct);
                x == y && !(ordered && unordered)
            }
        };
        let never_nil = (a.ty == Type::Nil && !b.nilable) || (b.ty == Type::Nil && !a.nilable);
        if fits && never_nil {
            let other = if a.ty == Type::Nil { b.ty } else { a.ty };
            let message = format!("this is {}, which is never nil", other.describe());
            return Err(ExprError::new(span, message));
        }
        // The literal is the more likely mistake, else show the whole.
        let place = match (a.is_literal(), b.is_literal()) {
            (false, true) => right.span,
            (true, false) => left.span,
            _ => span,
        };
        if !fits {
            return Err(ExprError::new(place, mismatch(op, a.ty, b.ty)));
        }
        for (side, other) in [(&a, &b), (&b, &a)] {
            if let Node::Const(Fact::Str(text)) = &other.node
                && !side.words.is_empty()
                && !side.words.contains(&&**text)
            {
                let words: Vec<String> = side.words.iter().map(ToString::to_string).collect();
                return Err(unknown(text, place, &words, "word"));
            }
        }
        Ok(Typed::new(
            Node::Compare(op, Box::new(a.node), Box::new(b.node), span),
            Type::Bool,
        ))
    }

    fn arithmetic(
        &mut self,
        op: BinaryOp,
        left: &Expr,
        right: &Expr,
        span: Span,
    ) -> Result<Typed, ExprError> {
        use BinaryOp::{Add, Div, Mul, Rem, Sub};
        let (a, b) = (self.expr(left)?, self.expr(right)?);
        let ty = match (op, a.ty, b.ty) {
            (Add, Type::Str, Type::Str) => Type::Str,
            (Rem, Type::Float, _) | (Rem, _, Type::Float) => {
                return Err(ExprError::new(span, "`%` is for integers and durations"));
            }
            (_, Type::Int, Type::Int) => Type::Int,
            (_, x, y) if x.is_number() && y.is_number() => Type::Float,
            (Add | Sub | Rem, Type::Duration, Type::Duration)
            | (Mul | Div, Type::Duration, Type::Int)
            | (Mul, Type::Int, Type::Duration) => Type::Duration,
            (Div, Type::Duration, Type::Duration) => Type::Int,
            (_, Type::Any, Type::Bool | Type::Nil | Type::Pointer | Type::List | Type::Struct)
            | (_, Type::Bool | Type::Nil | Type::Pointer | Type::List | Type::Struct, Type::Any) => {
                return Err(ExprError::new(span, mismatch(op, a.ty, b.ty)));
            }
            (_, Type::Any, _) | (_, _, Type::Any) => Type::Any,
            (_, x, y) => return Err(ExprError::new(span, mismatch(op, x, y))),
        };
        if matches!(op, Div | Rem)
            && let Node::Const(Fact::Int(0) | Fact::Duration(0)) = b.node
        {
            return Err(ExprError::new(right.span, "division by zero"));
        }
        Ok(Typed::new(
            Node::Arith(op, Box::new(a.node), Box::new(b.node), span),
            ty,
        ))
    }
}

fn constant(literal: &Literal) -> Typed {
    let (fact, ty) = match literal {
        Literal::Nil => (Fact::Nil, Type::Nil),
        Literal::Bool(b) => (Fact::Bool(*b), Type::Bool),
        Literal::Int(n) => (Fact::Int(i128::from(*n)), Type::Int),
        Literal::Float(x) => (Fact::Float(*x), Type::Float),
        Literal::Str(s) => (Fact::Str(s.clone().into()), Type::Str),
        // The lexer lets none pass that does not fit.
        Literal::Duration(ns) => (
            Fact::Duration(i64::try_from(*ns).unwrap_or(i64::MAX)),
            Type::Duration,
        ),
    };
    Typed::new(Node::Const(fact), ty)
}

fn zero_as_duration(value: &mut Typed, other: Type) {
    if other == Type::Duration && matches!(value.node, Node::Const(Fact::Int(0))) {
        *value = Typed::new(Node::Const(Fact::Duration(0)), Type::Duration);
    }
}

fn mismatch(op: BinaryOp, left: Type, right: Type) -> String {
    let hint = match (left, right) {
        (Type::Duration, Type::Int | Type::Float) | (Type::Int | Type::Float, Type::Duration) => {
            "; durations have a unit, as in 5ms"
        }
        (Type::Str, Type::Int | Type::Float) | (Type::Int | Type::Float, Type::Str) => {
            "; text stands in quotes"
        }
        _ => "",
    };
    if left == right {
        return format!("`{}` is not for {}", op.as_str(), left.describe());
    }
    format!(
        "`{}` between {} and {} makes no sense{hint}",
        op.as_str(),
        left.describe(),
        right.describe()
    )
}

/// The last line of what `regex` prints: the rest repeats the pattern.
pub(crate) fn regex_message(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or("").trim();
    format!(
        "bad regular expression: {}",
        line.strip_prefix("error: ").unwrap_or(line)
    )
}

pub(super) fn unknown(name: &str, span: Span, candidates: &[String], what: &str) -> ExprError {
    let hint = match nearest(name, candidates) {
        Some(found) => format!("; did you mean `{found}`?"),
        None if candidates.is_empty() => "; there are none here".to_owned(),
        None => format!("; there are {}", listed(candidates)),
    };
    ExprError::new(span, format!("unknown {what} `{name}`{hint}"))
}

/// The first of them.
fn listed(candidates: &[String]) -> String {
    const MOST: usize = 24;
    let mut text = candidates
        .iter()
        .take(MOST)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ");
    if candidates.len() > MOST {
        text.push_str(" …");
    }
    text
}

/// The candidate that needs the fewest changes, when that is at most half of
/// the name; among equals one with the same first letter.
pub(crate) fn nearest<'c>(name: &str, candidates: &'c [String]) -> Option<&'c str> {
    let most = name.chars().count().max(2) / 2;
    candidates
        .iter()
        .map(|candidate| {
            let changes = strsim::damerau_levenshtein(name, candidate);
            let other_start = name.chars().next() != candidate.chars().next();
            (changes, other_start, candidate.as_str())
        })
        .filter(|(changes, ..)| *changes <= most)
        .min_by_key(|(changes, other_start, _)| (*changes, *other_start))
        .map(|(.., candidate)| candidate)
}
