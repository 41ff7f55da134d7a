//! Where a variable's bytes are, once its place is known: in memory, or
//! gathered from registers and the stack, with holes where the compiler kept
//! nothing.

use std::ops::Range;
use std::sync::Arc;

use super::{Limits, Place, RuntimeTypes, Value, load};
use crate::addr::LiveAddr;
use crate::image::dwarf::{Part, Source};
use crate::image::types::{TypeId, TypeKind, TypeTable};
use crate::memory::Memory;

/// No variable outside memory is larger.
const MAX_BYTES: u64 = 64 << 10;
/// Structs in structs that are taken apart around holes.
const MAX_NESTING: u32 = 16;

/// Where a variable's bytes are.
#[derive(Clone, PartialEq, Debug)]
pub enum Held {
    /// All in memory, one after the other.
    At(LiveAddr),
    /// Gathered.
    Bytes {
        /// As many as the type has.
        bytes: Vec<u8>,
        /// Those that the compiler kept nowhere, or in a register whose value
        /// at that frame is not known: sorted.
        holes: Vec<Range<usize>>,
    },
    /// Optimised away, or kept in registers that are overwritten.
    Nowhere,
    /// It could not be found out; why.
    Unknown(Arc<str>),
}

/// Puts the parts of a value of `size` bytes together.
pub(super) fn gather(parts: &[Part], size: u64, memory: &dyn Memory) -> Held {
    if let Some(at) = in_a_row(parts, size) {
        return Held::At(at);
    }
    let Some(len) = usize::try_from(size).ok().filter(|_| size <= MAX_BYTES) else {
        return Held::Unknown(format!("{size} bytes in pieces").into());
    };
    let mut bytes = vec![0; len];
    let mut holes = Vec::new();
    let mut at = 0_usize;
    for part in parts {
        let left = len.saturating_sub(at);
        let want = part.size.and_then(|s| usize::try_from(s).ok());
        let want = want.unwrap_or(left).min(left);
        let Some(into) = bytes.get_mut(at..at.saturating_add(want)) else {
            break;
        };
        let known = match part.source {
            Source::Memory(from) => match memory.read(from, into) {
                Ok(()) => want,
                Err(error) => return Held::Unknown(error.to_string().into()),
            },
            Source::Word(word) => {
                let given = word.to_le_bytes();
                let known = want.min(given.len());
                for (to, from) in into.iter_mut().zip(given) {
                    *to = from;
                }
                known
            }
            Source::LostRegister(_) | Source::Nowhere => 0,
        };
        if known < want {
            holes.push(at.saturating_add(known)..at.saturating_add(want));
        }
        at = at.saturating_add(want);
    }
    if at < len {
        holes.push(at..len);
    }
    let missing: usize = holes.iter().map(ExactSizeIterator::len).sum();
    if missing >= len && len > 0 {
        return Held::Nowhere;
    }
    Held::Bytes { bytes, holes }
}

/// The address of parts that lie in memory one after the other.
fn in_a_row(parts: &[Part], size: u64) -> Option<LiveAddr> {
    let mut next: Option<LiveAddr> = None;
    let mut first = None;
    let mut covered = 0_u64;
    for part in parts {
        let Source::Memory(at) = part.source else {
            return None;
        };
        if next.is_some_and(|next| next != at) {
            return None;
        }
        first = first.or(Some(at));
        let len = part.size.unwrap_or(size.saturating_sub(covered));
        covered = covered.saturating_add(len);
        next = Some(at.offset(len));
    }
    first.filter(|_| covered >= size)
}

impl Held {
    /// Bytes that are known already.
    pub fn bytes(bytes: &[u8]) -> Held {
        Held::Bytes {
            bytes: bytes.to_vec(),
            holes: Vec::new(),
        }
    }

    /// No byte of it is missing.
    pub fn is_whole(&self) -> bool {
        match self {
            Held::At(_) => true,
            Held::Bytes { holes, .. } => holes.is_empty(),
            Held::Nowhere | Held::Unknown(_) => false,
        }
    }

    /// A part of it: a field, an element.
    #[must_use]
    pub fn part(&self, offset: u64, size: u64) -> Held {
        match self {
            Held::At(at) => Held::At(at.offset(offset)),
            Held::Bytes { bytes, holes } => {
                let range = || {
                    let from = usize::try_from(offset).ok()?;
                    Some(from..from.checked_add(usize::try_from(size).ok()?)?)
                };
                let Some((range, part)) = range().and_then(|r| Some((r.clone(), bytes.get(r)?)))
                else {
                    return Held::Unknown("outside its value".into());
                };
                let cut = |hole: &Range<usize>| {
                    let from = hole.start.max(range.start);
                    let to = hole.end.min(range.end);
                    (from < to).then(|| from - range.start..to - range.start)
                };
                let holes: Vec<Range<usize>> = holes.iter().filter_map(cut).collect();
                let missing: usize = holes.iter().map(ExactSizeIterator::len).sum();
                if missing >= part.len() && !part.is_empty() {
                    return Held::Nowhere;
                }
                Held::Bytes {
                    bytes: part.to_vec(),
                    holes,
                }
            }
            Held::Nowhere => Held::Nowhere,
            Held::Unknown(why) => Held::Unknown(Arc::clone(why)),
        }
    }

    /// Its first word, when that is whole.
    pub fn word(&self, memory: &dyn Memory) -> Option<u64> {
        match self.part(0, 8) {
            Held::At(at) => memory.read_u64(at).ok(),
            Held::Bytes { bytes, holes } if holes.is_empty() => super::load::word(&bytes, 0),
            _ => None,
        }
    }

    /// What it points to, for the bytes of a pointer.
    #[must_use]
    pub fn pointee(&self, memory: &dyn Memory) -> Held {
        match (self, self.word(memory)) {
            (_, Some(0)) => Held::Unknown("its pointer is nil: not made yet".into()),
            (_, Some(at)) => Held::At(LiveAddr(at)),
            (Held::At(at), None) => Held::Unknown(format!("{at}: not mapped").into()),
            (Held::Bytes { .. }, None) => Held::Nowhere,
            (held, None) => held.clone(),
        }
    }

    /// The value of type `ty` that these bytes are.
    pub fn load(
        &self,
        ty: TypeId,
        types: &dyn TypeTable,
        memory: &dyn Memory,
        limits: &Limits,
        rt: &dyn RuntimeTypes,
    ) -> Value {
        self.load_nested(ty, types, memory, limits, rt, 0)
    }

    fn load_nested(
        &self,
        ty: TypeId,
        types: &dyn TypeTable,
        memory: &dyn Memory,
        limits: &Limits,
        rt: &dyn RuntimeTypes,
        nesting: u32,
    ) -> Value {
        match self {
            Held::At(at) => load(ty, types, Place::At(*at), memory, limits, rt),
            Held::Bytes { bytes, holes } if holes.is_empty() => {
                load(ty, types, Place::Bytes(bytes), memory, limits, rt)
            }
            // What is left of a struct is shown.
            Held::Bytes { .. } if nesting < MAX_NESTING => match &types.get(ty).kind {
                TypeKind::Struct(fields) => {
                    let shown = fields.iter().take(limits.fields);
                    let load = |field: &crate::image::types::Field| {
                        let part = self.part(field.offset, types.get(field.ty).size);
                        part.load_nested(field.ty, types, memory, limits, rt, nesting + 1)
                    };
                    Value::Struct {
                        ty: Arc::clone(&types.get(ty).name),
                        fields: shown.map(|f| (Arc::clone(&f.name), load(f))).collect(),
                        omitted: fields.len().saturating_sub(limits.fields) as u64,
                    }
                }
                _ => Value::OptimisedAway,
            },
            Held::Bytes { .. } | Held::Nowhere => Value::OptimisedAway,
            Held::Unknown(why) => Value::Unreadable(Arc::clone(why)),
        }
    }
}
