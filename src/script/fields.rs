//! The way from a struct to one of its fields.

use crate::image::types::{TypeId, TypeKind, TypeTable};

/// Embedded structs in embedded structs that are searched for a field.
const MAX_EMBEDDED: usize = 8;

/// A step to a field.
pub(super) enum Step {
    /// To what lies so far behind, of this type.
    Field(u64, TypeId),
    /// To what a pointer leads to.
    Deref(TypeId),
}

/// Embedded fields on the way to a struct: offset, type, whether that is a
/// pointer.
type Path = Vec<(u64, TypeId, bool)>;

/// The way to a field, through embedded structs; the shallowest one wins (The
/// Go Programming Language Specification, "Selectors").
pub(super) fn find_field(types: &dyn TypeTable, ty: TypeId, name: &str) -> Option<Vec<Step>> {
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
