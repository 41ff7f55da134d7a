//! Expressions that are evaluated at two places: what reads the program is taken
//! where the program is at hand, and the rest is worked out later, from that and
//! from facts.

use std::sync::Arc;

use super::check::{Checked, Node, Type};
use super::error::EvalError;
use super::eval::{Fact, Facts, eval};
use super::facts::Key;
use super::program::{Place, Shape};
use crate::image::types::TypeId;
use crate::value::{Limits, Value};

/// A part of an expression that reads the program.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its number, by which [`Facts::taken`] is asked.
    pub slot: u32,
    /// The part itself.
    pub expr: Checked,
    /// It is shown: how much of it is loaded. Else it is compared.
    pub shown: bool,
}

/// What a part came to.
#[derive(Clone, PartialEq, Debug)]
pub enum Taken {
    /// Something to compare.
    Fact(Fact<'static>),
    /// Something to show; `None` where there is nothing.
    Value(Option<Value>),
    /// It could not be read.
    Failed(EvalError),
}

impl Part {
    /// Takes it.
    pub fn take(&self, facts: &dyn Facts, limits: &Limits) -> Taken {
        if self.shown {
            return match self.expr.value(facts, limits) {
                Ok(value) => Taken::Value(value),
                Err(error) => Taken::Failed(error),
            };
        }
        match eval(&self.expr.root, facts) {
            Ok(fact) => Taken::Fact(owned(fact)),
            Err(error) => Taken::Failed(error),
        }
    }
}

impl Taken {
    /// As the evaluator sees it.
    pub(super) fn fact(&self) -> Result<Fact<'_>, EvalError> {
        match self {
            Taken::Fact(fact) => Ok(borrowed(fact)),
            Taken::Value(Some(value)) => Ok(Fact::Whole(Arc::new(value.clone()))),
            Taken::Value(None) => Ok(Fact::Absent),
            Taken::Failed(error) => Err(error.clone()),
        }
    }
}

fn borrowed<'a>(fact: &'a Fact<'static>) -> Fact<'a> {
    match fact {
        Fact::Str(text) => Fact::Str((&**text).into()),
        other => other.clone(),
    }
}

fn owned(fact: Fact<'_>) -> Fact<'static> {
    match fact {
        Fact::Absent => Fact::Absent,
        Fact::Nil => Fact::Nil,
        Fact::Bool(b) => Fact::Bool(b),
        Fact::Int(n) => Fact::Int(n),
        Fact::Float(x) => Fact::Float(x),
        Fact::Str(text) => Fact::Str(text.into_owned().into()),
        Fact::Duration(ns) => Fact::Duration(ns),
        Fact::Other(value) => Fact::Whole(Arc::new(value.clone())),
        Fact::Whole(value) => Fact::Whole(value),
    }
}

/// What an expression refers to.
#[derive(Clone, Default, Debug)]
pub struct Mentions {
    /// Variables of the program, by name.
    pub variables: Vec<Arc<str>>,
    /// Facts.
    pub keys: Vec<Key>,
    /// Types that are looked at when it is evaluated.
    pub types: Vec<TypeId>,
    /// It asks what an interface holds.
    pub dynamic: bool,
}

impl Checked {
    /// What it refers to.
    pub fn mentions(&self) -> Mentions {
        let mut found = Mentions::default();
        of_node(&self.root, &mut found);
        found
    }

    /// Takes out what reads the program: the expression with its parts left
    /// open, and the parts, numbered from `next` on. `shown`: the whole value is
    /// to be printed, not compared.
    pub fn apart(mut self, shown: bool, next: &mut u32) -> (Checked, Vec<Part>) {
        let mut parts = Vec::new();
        let ty = self.ty();
        if let Node::Program(..) = self.root
            && shown
        {
            take(&mut self.root, ty, true, next, &mut parts);
        } else {
            in_node(&mut self.root, next, &mut parts);
        }
        (self, parts)
    }
}

fn take(node: &mut Node, ty: Type, shown: bool, next: &mut u32, parts: &mut Vec<Part>) {
    let slot = *next;
    *next = next.wrapping_add(1);
    let root = std::mem::replace(node, Node::Taken(slot));
    let mut found = Mentions::default();
    of_node(&root, &mut found);
    let expr = Checked::of(root, ty, found.keys);
    parts.push(Part { slot, expr, shown });
}

fn in_node(node: &mut Node, next: &mut u32, parts: &mut Vec<Part>) {
    match node {
        Node::Program(..) | Node::Length(_) => take(node, Type::Any, false, next, parts),
        Node::Const(_) | Node::Ask(_) | Node::Taken(_) => {}
        Node::Field(inner, ..) | Node::Not(inner, _) | Node::Neg(inner, _) => {
            in_node(inner, next, parts);
        }
        Node::Match { subject, .. } => in_node(subject, next, parts),
        Node::All(terms) | Node::Any(terms) => {
            for (term, _) in terms {
                in_node(term, next, parts);
            }
        }
        Node::Compare(_, left, right, _) | Node::Arith(_, left, right, _) => {
            in_node(left, next, parts);
            in_node(right, next, parts);
        }
    }
}

fn of_node(node: &Node, found: &mut Mentions) {
    match node {
        Node::Const(_) | Node::Taken(_) => {}
        Node::Ask(key) => {
            if !found.keys.contains(key) {
                found.keys.push(key.clone());
            }
        }
        Node::Program(place, shape) => {
            match shape {
                Shape::Value(ty) | Shape::List(ty) | Shape::Address(ty) => found.types.push(*ty),
                Shape::Byte => {}
            }
            of_place(place, found);
        }
        Node::Length(length) => of_place(&length.of, found),
        Node::Field(inner, ..) | Node::Not(inner, _) | Node::Neg(inner, _) => of_node(inner, found),
        Node::Match { subject, .. } => of_node(subject, found),
        Node::All(terms) | Node::Any(terms) => {
            for (term, _) in terms {
                of_node(term, found);
            }
        }
        Node::Compare(_, left, right, _) | Node::Arith(_, left, right, _) => {
            of_node(left, found);
            of_node(right, found);
        }
    }
}

fn of_place(place: &Place, found: &mut Mentions) {
    let inner = match place {
        Place::Variable(name, _) => {
            if !found.variables.contains(name) {
                found.variables.push(Arc::clone(name));
            }
            return;
        }
        Place::Field(base, _, ty) | Place::Deref(base, ty, _) => {
            found.types.push(*ty);
            base
        }
        Place::Element {
            base, elem, index, ..
        } => {
            found.types.push(*elem);
            of_node(index, found);
            base
        }
        Place::Key {
            base, types, key, ..
        } => {
            found.types.extend([types.0, types.1]);
            of_node(key, found);
            base
        }
        Place::Slice {
            base,
            elem,
            from,
            to,
            ..
        } => {
            found.types.push(*elem);
            for bound in [from, to].into_iter().flatten() {
                of_node(bound, found);
            }
            base
        }
        Place::Assert { base, want, .. } => {
            found.types.push(*want);
            found.dynamic = true;
            base
        }
        Place::Address(base, _) => base,
    };
    of_place(inner, found);
}
