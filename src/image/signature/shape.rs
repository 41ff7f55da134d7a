//! From types to the shapes that calls are made of, and to places.

use crate::arch::abi::{self, Abi, Layout, Shape};
use crate::image::types::{Signature, TypeId, TypeKind, TypeTable};

/// Types looked at for one shape: what has more parts than registers lies on
/// the stack anyway, but a hostile description must not cost a day.
const MAX_PARTS: u32 = 1 << 14;
/// Levels of nesting.
const MAX_DEPTH: u32 = 48;

/// Where a function's parameters and results are. `None` when some type's
/// layout is not known: then nothing behind it can be placed either.
pub fn locate(table: &dyn TypeTable, signature: &Signature, abi: Abi) -> Option<Layout> {
    let shapes = |params: &[crate::image::types::Param]| -> Option<Vec<Shape>> {
        params.iter().map(|p| shape(table, p.ty)).collect()
    };
    let params = shapes(&signature.params)?;
    let results = shapes(signature.results.as_deref().unwrap_or_default())?;
    Some(abi::assign(abi, &params, &results))
}

/// The shape of a type; `None` for a type known by name only. An opaque type of
/// a word or less counts as an integer: see `args`.
pub fn shape(table: &dyn TypeTable, id: TypeId) -> Option<Shape> {
    let mut budget = MAX_PARTS;
    shape_of(table, id, 0, &mut budget)
}

fn shape_of(table: &dyn TypeTable, id: TypeId, depth: u32, budget: &mut u32) -> Option<Shape> {
    *budget = budget.checked_sub(1)?;
    (depth < MAX_DEPTH).then_some(())?;
    let depth = depth.saturating_add(1);
    let ty = table.get(id);
    let scalar = || {
        u8::try_from(ty.size)
            .ok()
            .filter(|s| matches!(s, 1 | 2 | 4 | 8))
    };
    Some(match &ty.kind {
        TypeKind::Bool | TypeKind::Opaque => Shape::Int {
            size: scalar()?,
            signed: false,
        },
        TypeKind::Int { signed } => Shape::Int {
            size: scalar()?,
            signed: *signed,
        },
        TypeKind::Float => Shape::Float {
            size: scalar().filter(|s| *s >= 4)?,
        },
        TypeKind::Complex if ty.size == 8 => Shape::complex(8),
        TypeKind::Complex if ty.size == 16 => Shape::complex(16),
        TypeKind::Complex => return None,
        TypeKind::String => Shape::string(),
        TypeKind::Slice(_) => Shape::slice(),
        TypeKind::Interface { .. } => Shape::interface(),
        TypeKind::UnsafePointer
        | TypeKind::Pointer(_)
        | TypeKind::Map { .. }
        | TypeKind::Chan(_)
        | TypeKind::Func => Shape::pointer(),
        TypeKind::Array { elem, len } => {
            let elem = shape_of(table, *elem, depth, budget)?;
            let align = elem.align();
            Shape::Array {
                elem: Box::new(elem),
                len: *len,
                size: ty.size,
                align,
            }
        }
        TypeKind::Struct(fields) => {
            let mut parts = Vec::with_capacity(fields.len());
            for field in fields {
                parts.push((field.offset, shape_of(table, field.ty, depth, budget)?));
            }
            let align = parts
                .iter()
                .map(|(_, part)| part.align())
                .max()
                .unwrap_or(1);
            Shape::Struct {
                fields: parts,
                size: ty.size,
                align,
            }
        }
    })
}
