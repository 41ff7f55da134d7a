//! Variables of the program in expressions, evaluated: found and read.

use std::borrow::Cow;
use std::sync::Arc;

use super::ast::Builtin;
use super::check::{Checked, Node};
use super::elements::{element, slice};
use super::error::{EvalError, Span};
use super::eval::{Fact, Facts, eval};
use super::program::{Length, Place, Shape, reads_as_text};
use crate::addr::LiveAddr;
use crate::image::types::{TypeId, TypeKind, TypeTable};
use crate::memory::Memory;
use crate::value::frame::Variables;
use crate::value::held::Held;
use crate::value::{Limits, RuntimeTypes, Value, find_key, load};

/// Text that is compared or matched, in bytes.
const MAX_TEXT: usize = 64 << 10;
/// Interfaces in interfaces that are looked through.
const MAX_HOPS: u32 = 8;

/// The program at a place that it has reached.
pub trait Stopped {
    /// A variable, by a name that the [`super::Scope`] of that place knows.
    fn held(&self, name: &str) -> Option<(TypeId, Held)>;
    /// What variables are read from there.
    fn variables(&self) -> &Variables<'_>;

    /// The types that these ids are of.
    fn types(&self) -> &dyn TypeTable {
        self.variables().dwarf
    }

    /// The type whose descriptor lies there, as an interface names it.
    fn described(&self, descriptor: LiveAddr) -> Option<TypeId> {
        self.variables().described(descriptor)
    }

    /// The program's memory.
    fn memory(&self) -> &dyn Memory {
        self.variables().memory
    }

    /// What else the running program tells.
    fn runtime(&self) -> &dyn RuntimeTypes {
        self.variables().rt
    }
}

/// What a place came to.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Value(TypeId, Held),
    List {
        elem: TypeId,
        at: LiveAddr,
        len: u64,
    },
    Byte(u8),
    Address(TypeId, LiveAddr),
    /// Behind a nil pointer, not in a map, another type; why.
    Missing(String),
}

impl Checked {
    /// What the expression comes to, as a value: structures are read as far as
    /// `limits` say. `None`: a fact that is absent.
    pub fn value(&self, facts: &dyn Facts, limits: &Limits) -> Result<Option<Value>, EvalError> {
        if let Node::Program(place, _) = &self.root {
            let stopped = stopped(facts, Span::default())?;
            let found = operand(place, facts)?;
            return match found {
                Operand::Missing(why) => Err(EvalError::new(place.span(), why)),
                found => Ok(Some(loaded(&found, stopped, limits))),
            };
        }
        Ok(match self.eval(facts)? {
            Fact::Absent => None,
            Fact::Nil => Some(Value::Nil),
            Fact::Bool(b) => Some(Value::Bool(b)),
            Fact::Int(n) => Some(match (i64::try_from(n), u64::try_from(n)) {
                (Ok(n), _) => Value::Int(n),
                (_, Ok(n)) => Value::Uint(n),
                _ => Value::Text(n.to_string().into()),
            }),
            Fact::Float(x) => Some(Value::Float(x)),
            Fact::Str(text) => Some(Value::Str {
                len: text.len() as u64,
                bytes: text.into_owned().into_bytes(),
            }),
            Fact::Duration(ns) => Some(Value::Duration(ns)),
            Fact::Other(value) => Some(value.clone()),
            Fact::Whole(value) => Some((*value).clone()),
        })
    }

    /// The variable, field or element that the expression names: what can be
    /// written to.
    pub fn place(&self, facts: &dyn Facts) -> Result<Option<(TypeId, Held)>, EvalError> {
        let Node::Program(place, _) = &self.root else {
            return Ok(None);
        };
        match operand(place, facts)? {
            Operand::Value(ty, held) => Ok(Some((ty, held))),
            Operand::Missing(why) => Err(EvalError::new(place.span(), why)),
            Operand::List { .. } | Operand::Byte(_) | Operand::Address(..) => Ok(None),
        }
    }

    /// Where it points to, when it is one of the program's pointers or the address
    /// of something.
    pub fn address(&self, facts: &dyn Facts) -> Result<Option<u64>, EvalError> {
        let Node::Program(place, _) = &self.root else {
            return Ok(None);
        };
        let stopped = stopped(facts, Span::default())?;
        match operand(place, facts)? {
            Operand::Address(_, at) => Ok(Some(at.0)),
            Operand::Value(ty, held) => Ok(match stopped.types().get(ty).kind {
                TypeKind::Pointer(_)
                | TypeKind::UnsafePointer
                | TypeKind::Map { .. }
                | TypeKind::Chan(_)
                | TypeKind::Func
                | TypeKind::Slice(_)
                | TypeKind::String => held.word(stopped.memory()),
                _ => None,
            }),
            Operand::Missing(why) => Err(EvalError::new(place.span(), why)),
            Operand::List { .. } | Operand::Byte(_) => Ok(None),
        }
    }

    /// The Go type of what it names in the program.
    pub fn type_name(&self, types: &dyn TypeTable) -> Option<String> {
        match &self.root {
            Node::Program(_, shape) => Some(shape.name(types)),
            Node::Length(_) => Some("int".to_owned()),
            _ => None,
        }
    }

    /// The static type of what it names, where that is one of the program's.
    pub fn type_id(&self) -> Option<TypeId> {
        match &self.root {
            Node::Program(_, Shape::Value(ty)) => Some(*ty),
            _ => None,
        }
    }
}

impl Place {
    fn span(&self) -> Span {
        match self {
            Place::Field(base, ..) => base.span(),
            Place::Variable(_, span)
            | Place::Deref(_, _, span)
            | Place::Element { span, .. }
            | Place::Key { span, .. }
            | Place::Slice { span, .. }
            | Place::Assert { span, .. }
            | Place::Address(_, span) => *span,
        }
    }
}

fn stopped(facts: &dyn Facts, span: Span) -> Result<&dyn Stopped, EvalError> {
    facts
        .program()
        .ok_or_else(|| EvalError::new(span, "the program's variables are not at hand"))
}

/// A place as a fact.
pub(super) fn fact<'a>(place: &Place, facts: &dyn Facts) -> Result<Fact<'a>, EvalError> {
    let stopped = stopped(facts, place.span())?;
    match operand(place, facts)? {
        Operand::Missing(_) => Ok(Fact::Absent),
        Operand::Byte(b) => Ok(Fact::Int(b.into())),
        Operand::Address(_, at) => Ok(Fact::Int(at.0.into())),
        Operand::Value(ty, held) => fact_of(ty, &held, stopped, place.span(), MAX_HOPS),
        list @ Operand::List { .. } => {
            let value = loaded(&list, stopped, &Limits::default());
            Ok(Fact::Whole(Arc::new(value)))
        }
    }
}

fn fact_of<'a>(
    ty: TypeId,
    held: &Held,
    stopped: &dyn Stopped,
    span: Span,
    hops: u32,
) -> Result<Fact<'a>, EvalError> {
    let described = stopped.types().get(ty);
    let limits = Limits {
        depth: 0,
        string: MAX_TEXT,
        bytes: MAX_TEXT,
        ..Limits::default()
    };
    let pointer = |held: &Held| match held.word(stopped.memory()) {
        Some(0) => Ok(Fact::Nil),
        Some(at) => Ok(Fact::Int(at.into())),
        None => Err(lost(held, span)),
    };
    match &described.kind {
        TypeKind::Pointer(_)
        | TypeKind::UnsafePointer
        | TypeKind::Map { .. }
        | TypeKind::Chan(_)
        | TypeKind::Func => return pointer(held),
        TypeKind::Interface { empty } if &*described.name != "error" => {
            return match dynamic(held, *empty, stopped, span)? {
                None => Ok(Fact::Nil),
                Some(_) if hops == 0 => Err(EvalError::new(span, "interfaces nest too deep")),
                Some((Some(ty), inner)) => fact_of(ty, &inner, stopped, span, hops - 1),
                Some((None, _)) => Err(EvalError::new(span, "its dynamic type is not known")),
            };
        }
        _ => {}
    }
    let value = held.load(
        ty,
        stopped.types(),
        stopped.memory(),
        &limits,
        stopped.runtime(),
    );
    Ok(match value {
        Value::Nil => Fact::Nil,
        Value::Bool(b) => Fact::Bool(b),
        Value::Int(n) => Fact::Int(n.into()),
        Value::Uint(n) | Value::Raw(n) => Fact::Int(n.into()),
        Value::Float(x) => Fact::Float(x),
        Value::Duration(ns) => Fact::Duration(ns),
        Value::Str { bytes, len } | Value::Bytes { bytes, len } => {
            if len > bytes.len() as u64 {
                let message = format!("{len} bytes of text are too many to compare");
                return Err(EvalError::new(span, message));
            }
            Fact::Str(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Value::Error { text, .. } => Fact::Str(Cow::Owned(text.to_string())),
        Value::Text(text) if reads_as_text(&described.name) || is_slice(&described.kind) => {
            Fact::Str(Cow::Owned(text.to_string()))
        }
        Value::Unreadable(why) => return Err(EvalError::new(span, format!("unreadable: {why}"))),
        Value::OptimisedAway => return Err(lost(held, span)),
        whole => Fact::Whole(Arc::new(whole)),
    })
}

/// `net.IP`.
fn is_slice(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Slice(_))
}

pub(super) fn lost(held: &Held, span: Span) -> EvalError {
    let message = match held {
        Held::Unknown(why) => format!("unreadable: {why}"),
        Held::At(at) => format!("unreadable: {at} is not mapped"),
        Held::Bytes { .. } | Held::Nowhere => "optimised away here".to_owned(),
    };
    EvalError::new(span, message)
}

/// What an interface holds: its type, where it is known, and its bytes.
#[allow(clippy::type_complexity, reason = "one use")]
fn dynamic(
    held: &Held,
    empty: bool,
    stopped: &dyn Stopped,
    span: Span,
) -> Result<Option<(Option<TypeId>, Held)>, EvalError> {
    let memory = stopped.memory();
    let tab = held.word(memory).ok_or_else(|| lost(held, span))?;
    if tab == 0 {
        return Ok(None);
    }
    let data_word = held.part(8, 8);
    let data = data_word.word(memory).ok_or_else(|| lost(held, span))?;
    // runtime/runtime2.go, `itab`: inter, type.
    let descriptor = if empty {
        LiveAddr(tab)
    } else {
        let at = LiveAddr(tab).offset(8);
        let read = memory.read_addr(at);
        read.map_err(|e| EvalError::new(span, format!("its itab: {e}")))?
    };
    let ty = stopped.described(descriptor);
    let direct = ty.is_some_and(|ty| crate::value::pointer_shaped(ty, stopped.types()));
    let inner = if direct {
        Held::bytes(&data.to_le_bytes())
    } else {
        Held::At(LiveAddr(data))
    };
    Ok(Some((ty, inner)))
}

fn loaded(operand: &Operand, stopped: &dyn Stopped, limits: &Limits) -> Value {
    let (types, memory, rt) = (stopped.types(), stopped.memory(), stopped.runtime());
    match operand {
        Operand::Value(ty, held) => held.load(*ty, types, memory, limits, rt),
        Operand::Byte(b) => Value::Uint((*b).into()),
        Operand::Address(to, at) => Value::Pointer {
            ty: format!("*{}", types.get(*to).name).into(),
            addr: at.0,
        },
        Operand::List { elem, at, len } => {
            let element = types.get(*elem);
            let shown = (*len).min(limits.elements.min(4096) as u64);
            let item = |i: u64| {
                let at = at.offset(i.saturating_mul(element.size));
                load(
                    *elem,
                    types,
                    crate::value::Place::At(at),
                    memory,
                    limits,
                    rt,
                )
            };
            Value::List {
                ty: format!("[]{}", element.name).into(),
                items: (0..shown).map(item).collect(),
                len: *len,
            }
        }
        Operand::Missing(why) => Value::Unreadable(why.as_str().into()),
    }
}

fn operand(place: &Place, facts: &dyn Facts) -> Result<Operand, EvalError> {
    let stopped = stopped(facts, place.span())?;
    let memory = stopped.memory();
    let base = |base: &Place| -> Result<Result<(TypeId, Held), Operand>, EvalError> {
        Ok(match operand(base, facts)? {
            Operand::Value(ty, held) => Ok((ty, held)),
            other => Err(other),
        })
    };
    match place {
        Place::Variable(name, span) => match stopped.held(name) {
            Some((ty, held)) => Ok(Operand::Value(ty, held)),
            None => Err(EvalError::new(*span, format!("`{name}` is not in scope"))),
        },
        Place::Field(inner, offset, ty) => Ok(match base(inner)? {
            Ok((_, held)) => {
                let size = stopped.types().get(*ty).size;
                Operand::Value(*ty, held.part(*offset, size))
            }
            Err(other) => other,
        }),
        Place::Deref(inner, to, span) => match base(inner)? {
            Ok((_, held)) => match held.word(memory) {
                Some(0) => Ok(Operand::Missing("a nil pointer".to_owned())),
                Some(at) => Ok(Operand::Value(*to, Held::At(LiveAddr(at)))),
                None => Err(lost(&held, *span)),
            },
            Err(Operand::Address(ty, at)) => Ok(Operand::Value(ty, Held::At(at))),
            Err(other) => Ok(other),
        },
        Place::Element {
            base: inner,
            of,
            elem,
            index,
            span,
        } => {
            let index = integer(index, facts, *span)?;
            let inner = operand(inner, facts)?;
            element(&inner, *of, *elem, index, stopped, *span)
        }
        Place::Key {
            base: inner,
            types,
            key,
            span,
        } => match base(inner)? {
            Ok((_, held)) => {
                let at = held.word(memory).ok_or_else(|| lost(&held, *span))?;
                let key = key_value(types.0, eval(key, facts)?, stopped, *span)?;
                look_up(*types, at, &key, stopped, *span)
            }
            Err(other) => Ok(other),
        },
        Place::Slice {
            base: inner,
            of,
            elem,
            from,
            to,
            span,
        } => {
            let bound = |node: &Option<Box<Node>>| match node {
                None => Ok(None),
                Some(node) => integer(node, facts, *span).map(Some),
            };
            let bounds = (bound(from)?, bound(to)?);
            let inner = operand(inner, facts)?;
            slice(&inner, *of, *elem, bounds, stopped, *span)
        }
        Place::Assert {
            base: inner,
            empty,
            want,
            span,
        } => match base(inner)? {
            Ok((_, held)) => {
                let types = stopped.types();
                let name = Arc::clone(&types.get(*want).name);
                Ok(match dynamic(&held, *empty, stopped, *span)? {
                    None => Operand::Missing(format!("a nil interface, not {name}")),
                    Some((None, _)) => {
                        Operand::Missing(format!("of a type that is not known, not {name}"))
                    }
                    Some((Some(ty), held)) if ty == *want || types.get(ty).name == name => {
                        Operand::Value(*want, held)
                    }
                    Some((Some(ty), _)) => {
                        Operand::Missing(format!("a {}, not {name}", types.get(ty).name))
                    }
                })
            }
            Err(other) => Ok(other),
        },
        Place::Address(inner, span) => match base(inner)? {
            Ok((ty, Held::At(at))) => Ok(Operand::Address(ty, at)),
            Ok(_) => Err(EvalError::new(
                *span,
                "it is in registers, and has no address",
            )),
            Err(other) => Ok(other),
        },
    }
}

fn integer(node: &Node, facts: &dyn Facts, span: Span) -> Result<i128, EvalError> {
    match eval(node, facts)? {
        Fact::Int(n) => Ok(n),
        other => Err(EvalError::new(
            span,
            format!("an index is an integer, this is {}", other.describe()),
        )),
    }
}

/// A key as the loader gives keys of that type.
fn key_value(
    ty: TypeId,
    key: Fact<'_>,
    stopped: &dyn Stopped,
    span: Span,
) -> Result<Value, EvalError> {
    let described = stopped.types().get(ty);
    let duration = &*described.name == "time.Duration";
    let signed = matches!(described.kind, TypeKind::Int { signed: true });
    let out = || EvalError::new(span, format!("no {} is that large", described.name));
    Ok(match key {
        Fact::Int(n) if duration => Value::Duration(i64::try_from(n).map_err(|_| out())?),
        Fact::Int(n) if matches!(described.kind, TypeKind::Float) => Value::Float(n as f64),
        Fact::Int(n) if signed => Value::Int(i64::try_from(n).map_err(|_| out())?),
        Fact::Int(n) => Value::Uint(u64::try_from(n).map_err(|_| out())?),
        Fact::Duration(ns) => Value::Duration(ns),
        Fact::Bool(b) => Value::Bool(b),
        Fact::Float(x) => Value::Float(x),
        Fact::Str(text) => Value::Str {
            len: text.len() as u64,
            bytes: text.into_owned().into_bytes(),
        },
        other => {
            let message = format!("no key of type {}: {}", described.name, other.describe());
            return Err(EvalError::new(span, message));
        }
    })
}

fn look_up(
    types: (TypeId, TypeId),
    at: u64,
    key: &Value,
    stopped: &dyn Stopped,
    span: Span,
) -> Result<Operand, EvalError> {
    let missing = || Operand::Missing(format!("the map has no key {key}"));
    if at == 0 {
        return Ok(missing());
    }
    let found = find_key(
        types,
        LiveAddr(at),
        key,
        stopped.types(),
        stopped.memory(),
        stopped.runtime(),
    );
    match found {
        Ok(Some(at)) => Ok(Operand::Value(types.1, Held::At(at))),
        Ok(None) => Ok(missing()),
        Err(why) => Err(EvalError::new(span, format!("the map: {why}"))),
    }
}

/// `len` and `cap`.
pub(super) fn length<'a>(length: &Length, facts: &dyn Facts) -> Result<Fact<'a>, EvalError> {
    let Length { of, builtin, span } = length;
    let stopped = stopped(facts, *span)?;
    let (ty, held) = match operand(of, facts)? {
        Operand::List { len, .. } => return Ok(Fact::Int(len.into())),
        Operand::Value(ty, held) => (ty, held),
        _ => return Ok(Fact::Absent),
    };
    let word = |held: &Held, at: u64| {
        let part = held.part(at, 8);
        part.word(stopped.memory())
            .ok_or_else(|| lost(&part, *span))
    };
    let at = match (&stopped.types().get(ty).kind, builtin) {
        (TypeKind::Array { len, .. }, _) => return Ok(Fact::Int((*len).into())),
        (TypeKind::Slice(_), Builtin::Cap) => word(&held, 16)?,
        (TypeKind::Slice(_) | TypeKind::String, _) => word(&held, 8)?,
        // runtime/chan.go, `hchan`: qcount, dataqsiz; both layouts of a map
        // begin with the number of entries.
        (TypeKind::Chan(_) | TypeKind::Map { .. }, _) => match word(&held, 0)? {
            0 => 0,
            at => {
                let skip = if *builtin == Builtin::Cap { 8 } else { 0 };
                word(&Held::At(LiveAddr(at)), skip)?
            }
        },
        _ => return Ok(Fact::Absent),
    };
    Ok(Fact::Int(at.into()))
}
