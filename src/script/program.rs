//! Variables of the program in expressions, checked: names, fields, elements,
//! keys, slices, assertions, pointers and addresses, by static types.

use std::sync::Arc;

use super::ast::{Builtin, Expr, ExprKind, Field, Literal, TypeText, UnaryOp};
use super::check::{Checker, Node, Type, Typed, nearest, unknown};
use super::error::{ExprError, Span};
use super::facts::{Key, Known};
use crate::image::types::{TypeId, TypeKind, TypeTable};

/// Embedded structs in embedded structs that are searched for a field.
const MAX_EMBEDDED: usize = 8;

/// The program's variables at a place in it, as far as they are known before
/// it is reached.
pub trait Scope {
    /// The type of a variable: `x` of the function or of its package,
    /// `http.DefaultClient` or `net/http.DefaultClient` of another.
    fn variable(&self, name: &str) -> Option<TypeId>;
    /// The types that these ids are of.
    fn types(&self) -> &dyn TypeTable;
    /// A type as it is written in the source (`*http.Request`).
    fn find_type(&self, text: &str) -> Option<TypeId>;
    /// All names of variables, for "did you mean".
    fn names(&self) -> Vec<String>;
    /// Those of the function alone.
    fn own_names(&self) -> Vec<String> {
        self.names()
    }
}

/// What elements are taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Elements {
    Array(u64),
    Slice,
    Text,
    /// What slicing an array gave.
    List,
}

/// An expression that names something in the program.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Variable(Arc<str>, Span),
    Field(Box<Place>, u64, TypeId),
    Deref(Box<Place>, TypeId, Span),
    Element {
        base: Box<Place>,
        of: Elements,
        elem: TypeId,
        index: Box<Node>,
        span: Span,
    },
    Key {
        base: Box<Place>,
        types: (TypeId, TypeId),
        key: Box<Node>,
        span: Span,
    },
    Slice {
        base: Box<Place>,
        of: Elements,
        elem: TypeId,
        from: Option<Box<Node>>,
        to: Option<Box<Node>>,
        span: Span,
    },
    Assert {
        base: Box<Place>,
        empty: bool,
        want: TypeId,
        span: Span,
    },
    Address(Box<Place>, Span),
}

/// What a place holds, by static types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// A value of a type.
    Value(TypeId),
    /// `[]T` of an array's elements.
    List(TypeId),
    /// An element of a string.
    Byte,
    /// `*T`
    Address(TypeId),
}

/// `len` or `cap` of a place.
#[derive(Clone, Debug)]
pub(super) struct Length {
    pub of: Place,
    pub builtin: Builtin,
    pub span: Span,
}

impl Shape {
    /// Its type as Go writes it.
    pub(super) fn name(self, types: &dyn TypeTable) -> String {
        let name = |ty| types.get(ty).name.to_string();
        match self {
            Shape::Value(ty) => name(ty),
            Shape::List(elem) => format!("[]{}", name(elem)),
            Shape::Byte => "uint8".to_owned(),
            Shape::Address(to) => format!("*{}", name(to)),
        }
    }

    /// Its type in the language, and whether it can be nil.
    fn language(self, types: &dyn TypeTable) -> (Type, bool) {
        let ty = match self {
            Shape::Value(ty) => types.get(ty),
            Shape::List(_) => return (Type::List, true),
            Shape::Byte => return (Type::Int, false),
            Shape::Address(_) => return (Type::Pointer, true),
        };
        match &ty.kind {
            TypeKind::Bool => (Type::Bool, false),
            TypeKind::Int { signed: true } if &*ty.name == "time.Duration" => {
                (Type::Duration, false)
            }
            TypeKind::Int { .. } => (Type::Int, false),
            TypeKind::Float => (Type::Float, false),
            TypeKind::String => (Type::Str, false),
            TypeKind::Slice(elem) if is_byte(*elem, types) => (Type::Str, true),
            TypeKind::Slice(_) => (Type::List, true),
            TypeKind::Array { .. } => (Type::List, false),
            TypeKind::Struct(_) if reads_as_text(&ty.name) => (Type::Str, false),
            TypeKind::Struct(_) | TypeKind::Complex => (Type::Struct, false),
            TypeKind::Interface { .. } | TypeKind::Opaque => (Type::Any, true),
            TypeKind::Pointer(_)
            | TypeKind::UnsafePointer
            | TypeKind::Map { .. }
            | TypeKind::Chan(_)
            | TypeKind::Func => (Type::Pointer, true),
        }
    }
}

/// Structs that are shown, and compared, as text (`value/known.rs`).
pub(super) fn reads_as_text(name: &str) -> bool {
    matches!(name, "time.Time" | "netip.Addr" | "netip.AddrPort")
}

fn is_byte(ty: TypeId, types: &dyn TypeTable) -> bool {
    let ty = types.get(ty);
    ty.size == 1 && matches!(ty.kind, TypeKind::Int { signed: false })
}

impl Checker<'_> {
    /// An expression that names something in the program; `None` for all
    /// others, which may be facts.
    pub(super) fn program(&mut self, expr: &Expr) -> Result<Option<Typed>, ExprError> {
        let Some(scope) = self.names.program() else {
            let taken = || {
                let key = Key::Value(expr.to_string().into());
                Typed::program(Node::Ask(key), Type::Any, true)
            };
            return match &expr.kind {
                ExprKind::Index(..)
                | ExprKind::Slice(..)
                | ExprKind::Assert(..)
                | ExprKind::Call(..)
                | ExprKind::Unary(UnaryOp::Deref | UnaryOp::Address, _)
                    if self.names.unknown_program() =>
                {
                    Ok(Some(taken()))
                }
                ExprKind::Index(..)
                | ExprKind::Slice(..)
                | ExprKind::Assert(..)
                | ExprKind::Call(..)
                | ExprKind::Unary(UnaryOp::Deref | UnaryOp::Address, _) => Err(ExprError::new(
                    expr.span,
                    "this needs the program's variables, which are not known here",
                )),
                _ => Ok(None),
            };
        };
        if let ExprKind::Name(name) = &expr.kind
            && self.names.same_as_fact(name)
        {
            return Ok(None);
        }
        if let ExprKind::Call(builtin, operand) = &expr.kind {
            return self.length(scope, *builtin, operand, expr.span).map(Some);
        }
        let Some((place, shape)) = self.place(scope, expr)? else {
            return Ok(None);
        };
        let (ty, nilable) = shape.language(scope.types());
        let node = Node::Program(Box::new(place), shape);
        Ok(Some(Typed::program(node, ty, nilable)))
    }

    fn place(
        &mut self,
        scope: &dyn Scope,
        expr: &Expr,
    ) -> Result<Option<(Place, Shape)>, ExprError> {
        match &expr.kind {
            ExprKind::Name(name) => Ok(variable(scope, name, expr.span)),
            ExprKind::Select(base, field) => self.select_place(scope, base, field, expr.span),
            ExprKind::Index(base, index) => {
                let base = self.must_place(scope, base)?;
                self.index(scope, base, index, expr.span).map(Some)
            }
            ExprKind::Slice(base, from, to) => {
                let (inner, shape) = self.must_place(scope, base)?;
                let (of, elem) = match elements(shape, scope.types()) {
                    Some((Elements::Array(_), elem)) if matches!(inner, Place::Key { .. }) => {
                        (Elements::Array(0), elem)
                    }
                    Some(found) => found,
                    None => return Err(wrong(base.span, "cannot be sliced", shape, scope)),
                };
                let (inner, shape) = through_pointer(scope, (inner, shape), base.span);
                let mut bound = |bound: &Option<Box<Expr>>| match bound {
                    None => Ok(None),
                    Some(bound) => self.integer(bound).map(|node| Some(Box::new(node))),
                };
                let (from, to) = (bound(from)?, bound(to)?);
                let place = Place::Slice {
                    base: Box::new(inner),
                    of,
                    elem,
                    from,
                    to,
                    span: expr.span,
                };
                let shape = match of {
                    Elements::Array(_) => Shape::List(elem),
                    Elements::Slice | Elements::Text | Elements::List => shape,
                };
                Ok(Some((place, shape)))
            }
            ExprKind::Assert(base, ty) => self.assert(scope, base, ty, expr.span).map(Some),
            ExprKind::Unary(UnaryOp::Deref, operand) => {
                let (place, shape) = self.must_place(scope, operand)?;
                let to = match shape {
                    Shape::Address(to) => Some(to),
                    Shape::Value(ty) => match scope.types().get(ty).kind {
                        TypeKind::Pointer(to) => Some(to),
                        _ => None,
                    },
                    Shape::List(_) | Shape::Byte => None,
                };
                let Some(to) = to else {
                    return Err(wrong(operand.span, "is no pointer", shape, scope));
                };
                let place = Place::Deref(Box::new(place), to, expr.span);
                Ok(Some((place, Shape::Value(to))))
            }
            ExprKind::Unary(UnaryOp::Address, operand) => {
                let (place, shape) = self.must_place(scope, operand)?;
                let Shape::Value(ty) = shape else {
                    return Err(wrong(operand.span, "has no address", shape, scope));
                };
                let place = Place::Address(Box::new(place), operand.span);
                Ok(Some((place, Shape::Address(ty))))
            }
            ExprKind::Literal(_)
            | ExprKind::Call(..)
            | ExprKind::Unary(UnaryOp::Not | UnaryOp::Neg, _)
            | ExprKind::Binary(..) => Ok(None),
        }
    }

    fn must_place(&mut self, scope: &dyn Scope, expr: &Expr) -> Result<(Place, Shape), ExprError> {
        if let Some(found) = self.place(scope, expr)? {
            return Ok(found);
        }
        let mut root = expr;
        while let ExprKind::Select(base, _) = &root.kind {
            root = base;
        }
        if let ExprKind::Name(name) = &root.kind
            && self.names.name(name).is_none()
        {
            return Err(match self.names.refused(name) {
                Some(why) => ExprError::new(root.span, why),
                None => self.unknown_name(name, root.span),
            });
        }
        Err(ExprError::new(
            expr.span,
            "this is no variable of the program",
        ))
    }

    fn select_place(
        &mut self,
        scope: &dyn Scope,
        base: &Expr,
        field: &Field,
        span: Span,
    ) -> Result<Option<(Place, Shape)>, ExprError> {
        // A package's variable: `http.DefaultClient`, "net/http".DefaultClient.
        let package = match &base.kind {
            ExprKind::Name(name) if name == "hit" => return Ok(None),
            ExprKind::Name(name) if scope.variable(name).is_none() => Some(name),
            ExprKind::Literal(Literal::Str(path)) => Some(path),
            _ => None,
        };
        if let Some(package) = package {
            let full = format!("{package}.{}", field.name);
            return Ok(variable(scope, &full, span));
        }
        let Some((place, shape)) = self.place(scope, base)? else {
            return Ok(None);
        };
        let (place, shape) = through_pointer(scope, (place, shape), base.span);
        let Shape::Value(ty) = shape else {
            return Err(wrong(base.span, "has no fields", shape, scope));
        };
        let types = scope.types();
        let kind = &types.get(ty).kind;
        if let TypeKind::Interface { .. } = kind {
            let message = format!(
                "an interface has no fields; say what it holds, as in `{base}.(T).{}`",
                field.name
            );
            return Err(ExprError::new(field.span, message));
        }
        let TypeKind::Struct(fields) = kind else {
            return Err(wrong(base.span, "has no fields", shape, scope));
        };
        let Some(steps) = find_field(types, ty, &field.name) else {
            let known: Vec<String> = fields.iter().map(|f| f.name.to_string()).collect();
            return Err(unknown(&field.name, field.span, &known, "field"));
        };
        let mut found = (place, shape);
        for step in steps {
            let base = Box::new(found.0);
            found = match step {
                Step::Field(offset, ty) => (Place::Field(base, offset, ty), Shape::Value(ty)),
                Step::Deref(to) => (Place::Deref(base, to, span), Shape::Value(to)),
            };
        }
        Ok(Some(found))
    }

    fn index(
        &mut self,
        scope: &dyn Scope,
        (place, shape): (Place, Shape),
        index: &Expr,
        span: Span,
    ) -> Result<(Place, Shape), ExprError> {
        let types = scope.types();
        if let Shape::Value(ty) = shape
            && let TypeKind::Map { key, value } = types.get(ty).kind
        {
            let node = self.key(scope, key, index)?;
            let place = Place::Key {
                base: Box::new(place),
                types: (key, value),
                key: Box::new(node),
                span,
            };
            return Ok((place, Shape::Value(value)));
        }
        let Some((of, elem)) = elements(shape, types) else {
            return Err(wrong(span, "cannot be indexed", shape, scope));
        };
        let (place, _) = through_pointer(scope, (place, shape), span);
        let node = self.integer(index)?;
        if let (Elements::Array(len), Node::Const(super::Fact::Int(n))) = (of, &node)
            && *n >= i128::from(len)
        {
            let message = format!("there are {len} elements, counted from 0");
            return Err(ExprError::new(index.span, message));
        }
        let place = Place::Element {
            base: Box::new(place),
            of,
            elem,
            index: Box::new(node),
            span,
        };
        let shape = match of {
            Elements::Text => Shape::Byte,
            Elements::Array(_) | Elements::Slice | Elements::List => Shape::Value(elem),
        };
        Ok((place, shape))
    }

    fn key(&mut self, scope: &dyn Scope, ty: TypeId, key: &Expr) -> Result<Node, ExprError> {
        let given = self.expr(key)?;
        let (want, _) = Shape::Value(ty).language(scope.types());
        let scalar = matches!(
            scope.types().get(ty).kind,
            TypeKind::Bool | TypeKind::Int { .. } | TypeKind::Float | TypeKind::String
        );
        if !scalar {
            let message = format!(
                "keys of type {} cannot be looked up, only scalars and strings",
                scope.types().get(ty).name
            );
            return Err(ExprError::new(key.span, message));
        }
        let fits = given.ty == want
            || given.ty == Type::Any
            || (want == Type::Float && given.ty == Type::Int)
            || (want == Type::Duration && given.ty == Type::Int);
        if !fits {
            let message = format!(
                "the map's keys are of type {}, this is {}",
                scope.types().get(ty).name,
                given.ty.describe()
            );
            return Err(ExprError::new(key.span, message));
        }
        Ok(given.node)
    }

    fn integer(&mut self, expr: &Expr) -> Result<Node, ExprError> {
        let given = self.expr(expr)?;
        match given.ty {
            Type::Int | Type::Any => Ok(given.node),
            other => Err(ExprError::new(
                expr.span,
                format!("an index is an integer, this is {}", other.describe()),
            )),
        }
    }

    fn assert(
        &mut self,
        scope: &dyn Scope,
        base: &Expr,
        ty: &TypeText,
        span: Span,
    ) -> Result<(Place, Shape), ExprError> {
        let (place, shape) = self.must_place(scope, base)?;
        let empty = match shape {
            Shape::Value(ty) => match scope.types().get(ty).kind {
                TypeKind::Interface { empty } => Some(empty),
                _ => None,
            },
            _ => None,
        };
        let Some(empty) = empty else {
            return Err(wrong(base.span, "is no interface", shape, scope));
        };
        let Some(want) = scope.find_type(&ty.text) else {
            let message = format!("the program has no type `{}`", ty.text);
            return Err(ExprError::new(ty.span, message));
        };
        let place = Place::Assert {
            base: Box::new(place),
            empty,
            want,
            span,
        };
        Ok((place, Shape::Value(want)))
    }

    fn length(
        &mut self,
        scope: &dyn Scope,
        builtin: Builtin,
        operand: &Expr,
        span: Span,
    ) -> Result<Typed, ExprError> {
        let (of, shape) = self.must_place(scope, operand)?;
        let (of, shape) = through_pointer(scope, (of, shape), operand.span);
        let has = match shape {
            Shape::List(_) => true,
            Shape::Byte | Shape::Address(_) => false,
            Shape::Value(ty) => match scope.types().get(ty).kind {
                TypeKind::Slice(_) | TypeKind::Array { .. } | TypeKind::Chan(_) => true,
                TypeKind::String | TypeKind::Map { .. } => builtin == Builtin::Len,
                _ => false,
            },
        };
        if !has {
            let what = format!("has no {}", builtin.as_str());
            return Err(wrong(operand.span, &what, shape, scope));
        }
        let length = Length { of, builtin, span };
        let node = Node::Length(Box::new(length));
        Ok(Typed::program(node, Type::Int, false))
    }

    /// A bare word that is no name: the nearest one, else what there is; a package
    /// has too many names to be listed.
    pub(super) fn unknown_name(&self, name: &str, span: Span) -> ExprError {
        let program = self.names.program();
        let facts = self.names.names(None);
        let mut all = program.map(Scope::names).unwrap_or_default();
        all.extend(facts.iter().cloned());
        let of_main = format!("main.{name}");
        let in_main = program.is_some_and(|scope| scope.variable(&of_main).is_some());
        if in_main {
            let message = format!("unknown name `{name}`; did you mean `{of_main}`?");
            return ExprError::new(span, message);
        }
        if nearest(name, &all).is_none()
            && let Some(scope) = program
        {
            all = scope.own_names();
            all.extend(facts);
        }
        unknown(name, span, &all, "name")
    }

    /// True for what stands before a dot and is no value.
    pub(super) fn is_space(&self, name: &str) -> bool {
        self.names.name(name) == Some(Known::Space)
    }
}

fn variable(scope: &dyn Scope, name: &str, span: Span) -> Option<(Place, Shape)> {
    let ty = scope.variable(name)?;
    let place = Place::Variable(Arc::from(name), span);
    Some((place, Shape::Value(ty)))
}

/// A pointer's target, where Go follows a pointer by itself.
fn through_pointer(
    scope: &dyn Scope,
    (place, shape): (Place, Shape),
    span: Span,
) -> (Place, Shape) {
    let to = match shape {
        Shape::Address(to) => Some(to),
        Shape::Value(ty) => match scope.types().get(ty).kind {
            TypeKind::Pointer(to) => Some(to),
            _ => None,
        },
        Shape::List(_) | Shape::Byte => None,
    };
    match to {
        Some(to) => (Place::Deref(Box::new(place), to, span), Shape::Value(to)),
        None => (place, shape),
    }
}

/// What can be indexed and sliced; a pointer to an array, too.
fn elements(shape: Shape, types: &dyn TypeTable) -> Option<(Elements, TypeId)> {
    let ty = match shape {
        Shape::List(elem) => return Some((Elements::List, elem)),
        Shape::Byte => return None,
        Shape::Address(ty) | Shape::Value(ty) => ty,
    };
    match &types.get(ty).kind {
        TypeKind::Slice(elem) if shape == Shape::Value(ty) => Some((Elements::Slice, *elem)),
        TypeKind::String if shape == Shape::Value(ty) => Some((Elements::Text, ty)),
        TypeKind::Array { elem, len } => Some((Elements::Array(*len), *elem)),
        TypeKind::Pointer(to) => match types.get(*to).kind {
            TypeKind::Array { elem, len } => Some((Elements::Array(len), elem)),
            _ => None,
        },
        _ => None,
    }
}

fn wrong(span: Span, what: &str, shape: Shape, scope: &dyn Scope) -> ExprError {
    let name = shape.name(scope.types());
    ExprError::new(span, format!("this is of type {name}, which {what}"))
}

/// A step to a field.
enum Step {
    Field(u64, TypeId),
    Deref(TypeId),
}

/// Embedded fields on the way to a struct: offset, type, whether that is a
/// pointer.
type Path = Vec<(u64, TypeId, bool)>;

/// The way to a field, through embedded structs; the shallowest one wins (The
/// Go Programming Language Specification, "Selectors").
fn find_field(types: &dyn TypeTable, ty: TypeId, name: &str) -> Option<Vec<Step>> {
    /// Structs looked at.
    const MAX_STRUCTS: usize = 256;
    let mut level: Vec<(TypeId, Path)> = vec![(ty, Vec::new())];
    let mut budget = MAX_STRUCTS;
    for _ in 0..MAX_EMBEDDED {
        let mut next = Vec::new();
        for (ty, path) in level {
            budget = budget.checked_sub(1)?;
            let described = types.get(ty);
            let TypeKind::Struct(fields) = &described.kind else {
                continue;
            };
            if let Some(field) = fields.iter().find(|f| &*f.name == name) {
                let mut steps = Vec::new();
                for (offset, ty, pointer) in path {
                    steps.push(Step::Field(offset, ty));
                    if pointer && let TypeKind::Pointer(to) = types.get(ty).kind {
                        steps.push(Step::Deref(to));
                    }
                }
                steps.push(Step::Field(field.offset, field.ty));
                return Some(steps);
            }
            for field in fields.iter().filter(|f| f.embedded) {
                let (inner, pointer) = match types.get(field.ty).kind {
                    TypeKind::Pointer(to) => (to, true),
                    _ => (field.ty, false),
                };
                let mut path = path.clone();
                path.push((field.offset, field.ty, pointer));
                next.push((inner, path));
            }
        }
        level = next;
    }
    None
}
