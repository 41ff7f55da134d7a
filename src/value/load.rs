//! From a type and some bytes to a [`Value`].
//!
//! Every length and address comes from the target and is checked before it is
//! used: what cannot be is [`Value::Unreadable`], what the limits cut off is
//! counted or [`Value::Elided`]. A pointer followed, a slice's elements and a
//! map's entries cost one level of depth; strings and byte slices are loaded
//! wherever they are met; an interface costs nothing but a hop.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::Value;
use super::given::{ErrorWords, Limits, Place, RuntimeTypes};
use super::staged::Staged;
use crate::addr::LiveAddr;
use crate::image::types::{Type, TypeId, TypeKind, TypeTable};
use crate::memory::Memory;

/// Loads one value.
pub fn load(
    ty: TypeId,
    types: &dyn TypeTable,
    place: Place<'_>,
    memory: &dyn Memory,
    limits: &Limits,
    rt: &dyn RuntimeTypes,
) -> Value {
    let mut all = load_all(&[(ty, place)], types, memory, limits, rt);
    all.pop().unwrap_or(Value::Elided)
}

/// Loads several values (the arguments of a call) with the reads of one.
pub fn load_all(
    items: &[(TypeId, Place<'_>)],
    types: &dyn TypeTable,
    memory: &dyn Memory,
    limits: &Limits,
    rt: &dyn RuntimeTypes,
) -> Vec<Value> {
    /// Most values are complete after three.
    const ROUNDS: u32 = 6;
    let staged = Staged::new(memory);
    let loader = Loader {
        memory: &staged,
        errors: Cell::new(false),
        limits: limits.bounded(),
        rt,
        nodes: Cell::new(0),
        path: RefCell::default(),
    };
    let run = || -> Vec<Value> {
        items
            .iter()
            .map(|(ty, place)| {
                loader.nodes.set(loader.limits.nodes);
                let ctx = Context::new(types, &loader.limits);
                match place {
                    Place::At(at) => loader.load_at(*ty, *at, ctx),
                    Place::Bytes(bytes) => loader.value(*ty, bytes, ctx),
                }
            })
            .collect()
    };
    for _ in 0..ROUNDS {
        let values = run();
        if !staged.fetch() {
            if !loader.errors.get() {
                return values;
            }
            break;
        }
    }
    staged.stop_collecting();
    run()
}

/// Where the element of a key lies in a map, whose type's key and element are
/// given and whose header is at `at`; `Ok(None)`: there is no such key. Keys
/// are compared as they are loaded: integers, strings, bools, floats.
pub fn find_key(
    types_of: (TypeId, TypeId),
    at: LiveAddr,
    wanted: &Value,
    types: &dyn TypeTable,
    memory: &dyn Memory,
    rt: &dyn RuntimeTypes,
) -> Result<Option<LiveAddr>, &'static str> {
    let staged = Staged::new(memory);
    staged.stop_collecting();
    let limits = Limits {
        depth: 0,
        string: 1 << 16,
        ..Limits::default()
    };
    let loader = Loader {
        memory: &staged,
        errors: Cell::new(false),
        nodes: Cell::new(limits.nodes),
        limits: limits.bounded(),
        rt,
        path: RefCell::default(),
    };
    loader.find_key(types_of, at, wanted, types)
}

/// Reads the descriptions of the types that loading `ty` will need, so that
/// none is parsed while a thread of the target waits.
pub fn preload(ty: TypeId, types: &dyn TypeTable, limits: &Limits) {
    let limits = limits.bounded();
    let mut nodes = limits.nodes;
    let mut ctx = Context::new(types, &limits);
    // One more: the type of what is not followed is asked for as well.
    ctx.depth += 1;
    preload_under(ty, &limits, ctx, &mut nodes);
    types.map_kind();
}

fn preload_under(id: TypeId, limits: &Limits, ctx: Context<'_>, nodes: &mut u32) {
    let Some(left) = nodes.checked_sub(1) else {
        return;
    };
    *nodes = left;
    let mut next = |id, ctx: Option<Context<'_>>| {
        if let Some(ctx) = ctx {
            preload_under(id, limits, ctx, nodes);
        }
    };
    match &ctx.types.get(id).kind {
        TypeKind::Pointer(elem) | TypeKind::Slice(elem) => next(*elem, ctx.deeper()),
        TypeKind::Map { key, value } => {
            next(*key, ctx.deeper());
            next(*value, ctx.deeper());
        }
        TypeKind::Array { elem, .. } => next(*elem, ctx.nested()),
        TypeKind::Struct(fields) => {
            for field in fields.iter().take(limits.fields) {
                next(field.ty, ctx.nested());
            }
        }
        _ => {}
    }
}

/// How far one value may still go.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) types: &'a dyn TypeTable,
    /// Levels left.
    pub(super) depth: u32,
    /// Interfaces in interfaces.
    hops: u32,
    /// Structs in arrays in structs.
    nesting: u32,
}

impl<'a> Context<'a> {
    pub(super) fn new(types: &'a dyn TypeTable, limits: &Limits) -> Context<'a> {
        Context {
            types,
            depth: limits.depth,
            hops: 4,
            nesting: 24,
        }
    }

    /// One level of depth less, or `None`.
    pub(super) fn deeper(self) -> Option<Context<'a>> {
        Some(Context {
            depth: self.depth.checked_sub(1)?,
            nesting: self.nesting.checked_sub(1)?,
            ..self
        })
    }

    /// The same depth, inside a struct or array.
    fn nested(self) -> Option<Context<'a>> {
        Some(Context {
            nesting: self.nesting.checked_sub(1)?,
            ..self
        })
    }

    fn through(self, types: &'a dyn TypeTable) -> Option<Context<'a>> {
        Some(Context {
            types,
            hops: self.hops.checked_sub(1)?,
            nesting: self.nesting.checked_sub(1)?,
            ..self
        })
    }
}

/// No value needs more of its own bytes: larger structs and arrays are shown
/// by their first fields and elements.
const MAX_OWN_BYTES: u64 = 16 << 10;

/// Longer than any string or slice can be: user space ends here.
const MAX_LEN: u64 = 1 << 47;

pub(super) struct Loader<'a> {
    pub(super) memory: &'a Staged<'a>,
    /// An error was met whose text waits for the last round.
    errors: Cell<bool>,
    pub(super) limits: Limits,
    pub(super) rt: &'a dyn RuntimeTypes,
    pub(super) nodes: Cell<u32>,
    /// Pointers that are being followed.
    path: RefCell<Vec<(TypeId, u64)>>,
}

impl Loader<'_> {
    /// The value of type `id` at an address.
    pub(super) fn load_at(&self, id: TypeId, at: LiveAddr, ctx: Context<'_>) -> Value {
        let ty = ctx.types.get(id);
        let len = self.extent(&ty, ctx.types).min(MAX_OWN_BYTES);
        match self.memory.read_vec(at, usize::try_from(len).unwrap_or(0)) {
            Ok(bytes) => self.value(id, &bytes, ctx),
            Err(_) => unreadable(format!("{} at {at}: not mapped", ty.name)),
        }
    }

    /// How many of a value's bytes the limits let us look at.
    fn extent(&self, ty: &Type, types: &dyn TypeTable) -> u64 {
        match &ty.kind {
            TypeKind::Struct(fields) => fields
                .iter()
                .take(self.limits.fields)
                .map(|f| f.offset.saturating_add(types.get(f.ty).size))
                .max()
                .unwrap_or(0)
                .min(ty.size),
            TypeKind::Array { elem, len } => {
                let shown = (*len).min(self.limits.elements as u64);
                types.get(*elem).size.saturating_mul(shown).min(ty.size)
            }
            _ => ty.size,
        }
    }

    /// The value of type `id` whose own bytes are given; there may be fewer
    /// than its size when it is large.
    pub(super) fn value(&self, id: TypeId, bytes: &[u8], ctx: Context<'_>) -> Value {
        let Some(nodes) = self.nodes.get().checked_sub(1) else {
            return Value::Elided;
        };
        self.nodes.set(nodes);
        let ty = ctx.types.get(id);
        if let Some(known) = self.known(&ty, bytes, ctx) {
            return known;
        }
        self.plain(&ty, bytes, ctx)
            .unwrap_or_else(|| unreadable(format!("{}: {} bytes given", ty.name, bytes.len())))
    }

    /// `None` when the bytes are too few.
    fn plain(&self, ty: &Type, bytes: &[u8], ctx: Context<'_>) -> Option<Value> {
        Some(match &ty.kind {
            TypeKind::Bool => Value::Bool(*bytes.first()? != 0),
            TypeKind::Int { signed } => integer(bytes, ty.size, *signed)?,
            TypeKind::Float => Value::Float(float(bytes, ty.size)?),
            TypeKind::Complex => {
                let half = ty.size / 2;
                let second = bytes.get(usize::try_from(half).ok()?..)?;
                Value::Complex(float(bytes, half)?, float(second, half)?)
            }
            TypeKind::String => self.string(word(bytes, 0)?, word(bytes, 1)?),
            TypeKind::UnsafePointer => match word(bytes, 0)? {
                0 => Value::Nil,
                addr => Value::Pointer {
                    ty: Arc::clone(&ty.name),
                    addr,
                },
            },
            TypeKind::Pointer(elem) => self.pointer(ty, *elem, word(bytes, 0)?, ctx),
            TypeKind::Slice(elem) => self.slice(ty, *elem, bytes, ctx)?,
            TypeKind::Array { elem, len } => self.array(ty, *elem, *len, bytes, ctx),
            TypeKind::Struct(fields) => {
                let shown = fields.iter().take(self.limits.fields);
                let Some(inner) = ctx.nested() else {
                    return Some(Value::Elided);
                };
                Value::Struct {
                    ty: Arc::clone(&ty.name),
                    fields: shown
                        .map(|f| (Arc::clone(&f.name), self.part(f.ty, bytes, f.offset, inner)))
                        .collect(),
                    omitted: fields.len().saturating_sub(self.limits.fields) as u64,
                }
            }
            TypeKind::Interface { empty } => {
                self.interface(ty, *empty, word(bytes, 0)?, word(bytes, 1)?, ctx)
            }
            TypeKind::Map { key, value } => match word(bytes, 0)? {
                0 => Value::Nil,
                at => self.map(ty, *key, *value, LiveAddr(at), ctx),
            },
            TypeKind::Chan(_) => match word(bytes, 0)? {
                0 => Value::Nil,
                at => self.chan(ty, at),
            },
            TypeKind::Func => self.func(word(bytes, 0)?),
            TypeKind::Opaque => match ty.size {
                1..=8 => Value::Raw(unsigned(bytes, ty.size)?),
                _ => unreadable(format!("the type {} is not known", ty.name)),
            },
        })
    }

    /// A field or element inside the bytes of its struct or array.
    fn part(&self, id: TypeId, bytes: &[u8], offset: u64, ctx: Context<'_>) -> Value {
        let size = ctx.types.get(id).size;
        let rest = usize::try_from(offset).ok().and_then(|o| bytes.get(o..));
        match rest {
            Some(rest) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                self.value(id, rest.get(..size).unwrap_or(rest), ctx)
            }
            None => Value::Elided,
        }
    }

    pub(super) fn string(&self, at: u64, len: u64) -> Value {
        match self.text_bytes(at, len, self.limits.string) {
            Ok(bytes) => Value::Str { bytes, len },
            Err(why) => unreadable(format!("string at {at:#x}: {why}")),
        }
    }

    /// The first bytes of a string or byte slice.
    fn text_bytes(&self, at: u64, len: u64, limit: usize) -> Result<Vec<u8>, String> {
        if len > MAX_LEN {
            return Err(format!("{len:#x} is no length"));
        }
        let shown = usize::try_from(len).unwrap_or(usize::MAX).min(limit);
        self.memory
            .read_vec(LiveAddr(at), shown)
            .map_err(|_| format!("not mapped (length {len})"))
    }

    fn pointer(&self, ty: &Type, elem: TypeId, addr: u64, ctx: Context<'_>) -> Value {
        if addr == 0 {
            return Value::Nil;
        }
        let target = ctx.types.get(elem);
        let unfollowed = || Value::Pointer {
            ty: Arc::clone(&ty.name),
            addr,
        };
        if matches!(target.kind, TypeKind::Opaque) {
            return unfollowed();
        }
        let text = super::known::reads_as_text(&target);
        let inner = match ctx.deeper() {
            Some(inner) => inner,
            None if text => ctx,
            None => return unfollowed(),
        };
        // A ring is shown once around.
        let step = (elem, addr);
        if self.path.borrow().contains(&step) {
            return unfollowed();
        }
        self.path.borrow_mut().push(step);
        let loaded = self.load_at(elem, LiveAddr(addr), inner);
        self.path.borrow_mut().pop();
        match loaded {
            Value::Elided => unfollowed(),
            value @ (Value::Unreadable(_) | Value::Text(_)) => value,
            value => Value::Ref(Box::new(value)),
        }
    }

    fn slice(&self, ty: &Type, elem: TypeId, bytes: &[u8], ctx: Context<'_>) -> Option<Value> {
        let (at, len, cap) = (word(bytes, 0)?, word(bytes, 1)?, word(bytes, 2)?);
        let wrong = |why: String| Some(unreadable(format!("{}: {why}", ty.name)));
        if at == 0 && len == 0 {
            return Some(Value::Nil);
        }
        let element = ctx.types.get(elem);
        if len > cap || len.saturating_mul(element.size.max(1)) > MAX_LEN {
            return wrong(format!("length {len:#x}, capacity {cap:#x}"));
        }
        if element.size == 1 && matches!(element.kind, TypeKind::Int { signed: false }) {
            return match self.text_bytes(at, len, self.limits.bytes) {
                Ok(bytes) => Some(Value::Bytes { bytes, len }),
                Err(why) => wrong(format!("{at:#x}: {why}")),
            };
        }
        let items = match ctx.deeper() {
            None => Vec::new(),
            Some(inner) => match self.elements(elem, &element, at, len, inner) {
                Ok(items) => items,
                Err(why) => return wrong(why),
            },
        };
        Some(Value::List {
            ty: Arc::clone(&ty.name),
            items,
            len,
        })
    }

    fn elements(
        &self,
        elem: TypeId,
        element: &Type,
        at: u64,
        len: u64,
        ctx: Context<'_>,
    ) -> Result<Vec<Value>, String> {
        let shown = len.min(self.limits.elements as u64);
        if element.size.saturating_mul(shown) > MAX_OWN_BYTES {
            let item = |i: u64| {
                let offset = i.saturating_mul(element.size);
                self.load_at(elem, LiveAddr(at).offset(offset), ctx)
            };
            return Ok((0..shown).map(item).collect());
        }
        let size = usize::try_from(element.size.saturating_mul(shown)).unwrap_or(0);
        let bytes = self
            .memory
            .read_vec(LiveAddr(at), size)
            .map_err(|_| format!("{at:#x}: not mapped (length {len})"))?;
        Ok((0..shown)
            .map(|i| self.part(elem, &bytes, i.saturating_mul(element.size), ctx))
            .collect())
    }

    fn array(&self, ty: &Type, elem: TypeId, len: u64, bytes: &[u8], ctx: Context<'_>) -> Value {
        let Some(inner) = ctx.nested() else {
            return Value::Elided;
        };
        let size = ctx.types.get(elem).size;
        let shown = len.min(self.limits.elements as u64);
        Value::List {
            ty: Arc::clone(&ty.name),
            items: (0..shown)
                .map(|i| self.part(elem, bytes, i.saturating_mul(size), inner))
                .collect(),
            len,
        }
    }

    fn interface(&self, ty: &Type, empty: bool, tab: u64, data: u64, ctx: Context<'_>) -> Value {
        if tab == 0 {
            return Value::Nil;
        }
        // runtime/runtime2.go, `itab`: inter, type.
        let rtype = if empty {
            LiveAddr(tab)
        } else if let Ok(rtype) = self.memory.read_addr(LiveAddr(tab).offset(8)) {
            rtype
        } else {
            return unreadable(format!("{}: itab at {tab:#x}: not mapped", ty.name));
        };
        if !empty && &*ty.name == "error" {
            if self.memory.is_collecting() {
                self.errors.set(true);
                return Value::Elided;
            }
            let words = ErrorWords {
                itab: LiveAddr(tab),
                rtype,
                data,
            };
            if let Some(error) = self.rt.error_text(words, self.memory) {
                return Value::Error {
                    text: error.text,
                    structural: error.structural,
                };
            }
        }
        let Some(dynamic) = self.rt.dynamic(rtype) else {
            return Value::Interface {
                ty: Arc::clone(&ty.name),
                value: Box::new(Value::Raw(data)),
            };
        };
        let value = match ctx.through(dynamic.types) {
            None => Value::Elided,
            Some(inner) if is_pointer_shaped(dynamic.ty, dynamic.types, 8) => {
                self.value(dynamic.ty, &data.to_le_bytes(), inner)
            }
            Some(inner) => self.load_at(dynamic.ty, LiveAddr(data), inner),
        };
        Value::Interface {
            ty: dynamic.name,
            value: Box::new(value),
        }
    }

    /// runtime/chan.go, `hchan`: qcount, dataqsiz, then the rest.
    fn chan(&self, ty: &Type, addr: u64) -> Value {
        let head = self.memory.read_vec(LiveAddr(addr), 16).ok();
        let (len, cap) = match head.as_deref() {
            Some(head) => (word(head, 0), word(head, 1)),
            None => (None, None),
        };
        Value::Chan {
            ty: Arc::clone(&ty.name),
            len,
            cap,
            addr,
        }
    }

    /// A function value points to a word that holds the entry.
    fn func(&self, at: u64) -> Value {
        if at == 0 {
            return Value::Nil;
        }
        match self.memory.read_addr(LiveAddr(at)) {
            Err(_) => unreadable(format!("func at {at:#x}: not mapped")),
            Ok(pc) => Value::Func(
                self.rt
                    .function(pc)
                    .unwrap_or_else(|| format!("func({pc})").into()),
            ),
        }
    }
}

/// True for a type whose values an interface keeps in its data word itself
/// (cmd/compile types.IsDirectIface).
pub fn pointer_shaped(id: TypeId, types: &dyn TypeTable) -> bool {
    is_pointer_shaped(id, types, 8)
}

fn is_pointer_shaped(id: TypeId, types: &dyn TypeTable, levels: u32) -> bool {
    let Some(levels) = levels.checked_sub(1) else {
        return false;
    };
    let ty = types.get(id);
    match &ty.kind {
        TypeKind::Pointer(_)
        | TypeKind::UnsafePointer
        | TypeKind::Map { .. }
        | TypeKind::Chan(_)
        | TypeKind::Func => true,
        TypeKind::Array { elem, len: 1 } => is_pointer_shaped(*elem, types, levels),
        TypeKind::Struct(fields) => match fields.as_slice() {
            [only] => is_pointer_shaped(only.ty, types, levels),
            _ => false,
        },
        _ => false,
    }
}

pub(super) fn unreadable(why: String) -> Value {
    Value::Unreadable(why.into())
}

/// The `index`th word of some bytes.
pub(super) fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let from = index.checked_mul(8)?;
    let word = bytes.get(from..from.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

pub(super) fn unsigned(bytes: &[u8], size: u64) -> Option<u64> {
    let size = usize::try_from(size).ok().filter(|size| *size <= 8)?;
    let given = bytes.get(..size)?;
    let mut word = [0; 8];
    word.get_mut(..size)?.copy_from_slice(given);
    Some(u64::from_le_bytes(word))
}

fn integer(bytes: &[u8], size: u64, signed: bool) -> Option<Value> {
    let raw = unsigned(bytes, size)?;
    if !signed {
        return Some(Value::Uint(raw));
    }
    let unused = u32::try_from(64_u64.checked_sub(size.checked_mul(8)?)?).ok()?;
    let shifted = raw.checked_shl(unused)?.cast_signed();
    Some(Value::Int(shifted.checked_shr(unused)?))
}

/// A float32 is turned into the float64 with the same shortest digits, so that
/// 0.1 is printed, and compares, as 0.1.
fn float(bytes: &[u8], size: u64) -> Option<f64> {
    match size {
        4 => {
            let narrow = f32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
            Some(narrow.to_string().parse().unwrap_or(f64::from(narrow)))
        }
        8 => Some(f64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)),
        _ => None,
    }
}
