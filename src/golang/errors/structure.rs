//! An error whose Error method is not known: `pkg.Type{field:value, …}`.

use super::render::{MAX_DEPTH, Out, Place, Renderer, quote};
use crate::addr::LiveAddr;
use crate::image::types::{Type, TypeKind};
use crate::memory::MemoryError;

/// Fields shown of a struct.
const MAX_FIELDS: usize = 12;
/// Structs inside structs.
const MAX_NESTING: u32 = 2;
/// Longest string shown.
const MAX_STRING: usize = 128;

impl Renderer<'_> {
    pub(super) fn structure(
        &self,
        ty: &Type,
        place: Place,
        held: &Type,
        depth: u32,
        out: &mut Out,
    ) -> Result<(), MemoryError> {
        if matches!(place, Place::At(at) if at.is_null()) && held.size != 0 {
            out.push(&format!("({})(nil)", ty.name));
            return Ok(());
        }
        if matches!(held.kind, TypeKind::Struct(_)) {
            self.value_of(held, place, 0, depth, 0, out)
        } else {
            out.push(&held.name);
            out.push("(");
            self.value_of(held, place, 0, depth, 0, out)?;
            out.push(")");
            Ok(())
        }
    }

    fn value_of(
        &self,
        ty: &Type,
        place: Place,
        offset: u64,
        depth: u32,
        nesting: u32,
        out: &mut Out,
    ) -> Result<(), MemoryError> {
        match &ty.kind {
            TypeKind::Bool => {
                let [b] = self.bytes::<1>(place, offset)?;
                out.push(if b == 0 { "false" } else { "true" });
            }
            TypeKind::Int { .. } => out.push(&self.integer(place, offset, ty)?.to_string()),
            TypeKind::Float if ty.size == 4 => {
                out.push(&f32::from_le_bytes(self.bytes(place, offset)?).to_string());
            }
            TypeKind::Float => {
                out.push(&f64::from_le_bytes(self.bytes(place, offset)?).to_string());
            }
            TypeKind::String => {
                let mut bytes = self.string(place, offset)?;
                if bytes.len() > MAX_STRING {
                    bytes.truncate(MAX_STRING);
                    bytes.extend_from_slice("…".as_bytes());
                }
                out.push(&quote(&bytes));
            }
            TypeKind::Struct(fields) => {
                out.push(&ty.name);
                if nesting > MAX_NESTING {
                    out.push("{…}");
                    return Ok(());
                }
                out.push("{");
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(", ");
                    }
                    if i >= MAX_FIELDS {
                        out.push("…");
                        break;
                    }
                    out.push(&field.name);
                    out.push(":");
                    let ty = self.types.get(field.ty);
                    let at = offset.wrapping_add(field.offset);
                    self.value_of(&ty, place, at, depth, nesting.saturating_add(1), out)?;
                }
                out.push("}");
            }
            TypeKind::Interface { empty: false } => {
                let (itab, data) = self.pair(place, offset)?;
                if itab == 0 {
                    out.push("nil");
                } else if &*ty.name == "error" && depth < MAX_DEPTH {
                    let mut inner = Out::default();
                    self.interface(itab, data, depth.saturating_add(1), &mut inner)?;
                    out.push(&quote(inner.text.as_bytes()));
                } else {
                    let name = self.dynamic(itab)?.map(|d| d.ty.name.clone());
                    out.push(&format!("({})({data:#x})", name.as_deref().unwrap_or("?")));
                }
            }
            TypeKind::Interface { empty: true } => {
                let (descriptor, data) = self.pair(place, offset)?;
                if descriptor == 0 {
                    out.push("nil");
                } else {
                    let name = self
                        .types
                        .described(LiveAddr(descriptor))
                        .map(|t| t.name.clone());
                    out.push(&format!("({})({data:#x})", name.as_deref().unwrap_or("?")));
                }
            }
            TypeKind::Pointer(_)
            | TypeKind::UnsafePointer
            | TypeKind::Map { .. }
            | TypeKind::Chan(_)
            | TypeKind::Func => {
                let word = self.word(place, offset)?;
                if word == 0 {
                    out.push("nil");
                } else {
                    out.push(&format!("({})({word:#x})", ty.name));
                }
            }
            TypeKind::Slice(_) => {
                let (_, len) = self.pair(place, offset)?;
                out.push(&format!("{}{{{len} elements}}", ty.name));
            }
            TypeKind::Complex | TypeKind::Array { .. } | TypeKind::Opaque => {
                out.push(&format!("{}{{…}}", ty.name));
            }
        }
        Ok(())
    }
}
