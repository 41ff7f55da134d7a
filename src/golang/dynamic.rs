//! What the walkers of this room ask of the running program's type data.

use std::ops::Deref;
use std::sync::Arc;

use crate::addr::{Bias, ImageAddr, LiveAddr};
use crate::image::Image;
use crate::image::rtti::{RttiTypes, TypeSection};
use crate::image::types::{Type, TypeId, TypeKind, TypeTable};
use crate::memory::Memory;

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

/// Fields, and where types are described in the running program.
pub trait TypePlaces: StructFields {
    /// The descriptor of the type that Go prints as `name`; `None` when the program
    /// has no such type.
    fn descriptor(&self, name: &str) -> Option<LiveAddr>;
}

/// Where a program's type descriptors are, in the file's addresses.
pub fn type_section(image: &Image) -> TypeSection {
    TypeSection::of(image.module(), image.go_version(), Bias::default())
}

/// A program's types, found by where their descriptors lie in the running
/// program; the descriptors themselves are read from the file.
pub struct LiveTypes<T> {
    /// The types of the file: a reference to an [`RttiTypes`], or an owner of one.
    pub table: T,
    /// Where the file was loaded.
    pub bias: Bias,
}

impl<M: Memory, T: Deref<Target = RttiTypes<M>>> TypeTable for LiveTypes<T> {
    fn get(&self, id: TypeId) -> Arc<Type> {
        self.table.get(id)
    }
}

impl<M: Memory, T: Deref<Target = RttiTypes<M>>> DynamicTypes for LiveTypes<T> {
    fn type_at(&self, descriptor: LiveAddr) -> Option<TypeId> {
        self.table.at(LiveAddr(self.bias.image(descriptor).0))
    }

    fn package_of(&self, descriptor: LiveAddr) -> Option<Arc<str>> {
        let id = self.type_at(descriptor)?;
        // A pointer to a named type says nothing itself.
        let named = match self.table.get(id).kind {
            TypeKind::Pointer(elem) => elem,
            _ => id,
        };
        self.table.package_path(named).map(Arc::from)
    }
}

impl<M: Memory, T: Deref<Target = RttiTypes<M>>> StructFields for LiveTypes<T> {
    fn offset_of(&self, strukt: &str, path: &str) -> Option<u64> {
        self.table.offset_of(strukt, path)
    }

    fn size_of(&self, strukt: &str) -> Option<u64> {
        self.table.size_of(strukt)
    }
}

impl<M: Memory, T: Deref<Target = RttiTypes<M>>> TypePlaces for LiveTypes<T> {
    fn descriptor(&self, name: &str) -> Option<LiveAddr> {
        let at = self.table.address(self.table.find_type(name)?)?;
        Some(self.bias.live(ImageAddr(at.0)))
    }
}

impl<M: Memory> StructFields for RttiTypes<M> {
    fn offset_of(&self, strukt: &str, path: &str) -> Option<u64> {
        let id = self.find_struct(strukt)?;
        let path: Vec<&str> = path.split('.').collect();
        self.field_offset(id, &path)
    }

    fn size_of(&self, strukt: &str) -> Option<u64> {
        self.find_struct(strukt).map(|id| self.get(id).size)
    }
}
