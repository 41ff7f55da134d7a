//! What the walkers of this room ask of the running program's type data.

use std::sync::Arc;

use crate::addr::LiveAddr;
use crate::image::types::{Type, TypeId, TypeTable};

/// Types found by the address of their descriptor (`internal/abi.Type`), as an
/// interface value's itab or type word names it.
pub trait DynamicTypes: TypeTable {
    /// The type whose descriptor lies there; `None` when there is none (a type
    /// made at run time by `reflect`, or garbage).
    fn type_at(&self, descriptor: LiveAddr) -> Option<TypeId>;

    /// Import path of the package that declares the type, where its
    /// descriptor tells (`internal/abi.UncommonType.PkgPath`).
    fn package_of(&self, descriptor: LiveAddr) -> Option<Arc<str>>;

    /// Shorthand: the type itself.
    fn described(&self, descriptor: LiveAddr) -> Option<Arc<Type>> {
        self.type_at(descriptor).map(|id| self.get(id))
    }
}

/// Offsets of fields by the names of struct and field, from whatever knows
/// this binary's types.
pub trait StructFields {
    /// Bytes from the start of `strukt` (`runtime.g`) to the field at `path`
    /// (`sched.sp`); `None` when the struct or the field is not known.
    fn offset_of(&self, strukt: &str, path: &str) -> Option<u64>;

    /// Bytes of a `strukt`.
    fn size_of(&self, strukt: &str) -> Option<u64>;
}
