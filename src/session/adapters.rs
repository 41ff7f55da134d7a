//! The image's type data, as the rooms above it want it.
//!
//! Type descriptors are read from the file alone, in the file's own addresses:
//! they never change, and reading them costs the target nothing. Addresses that
//! come from the target are converted here.

use std::sync::Arc;

use crate::addr::{Bias, LiveAddr};
use crate::golang::dynamic::{DynamicTypes, StructFields};
use crate::image::Image;
use crate::image::ModuleData;
use crate::image::rtti::{RttiTypes, TypeList, TypeSection};
use crate::image::types::{Type, TypeId, TypeKind, TypeTable};
use crate::memory::{Memory, MemoryError};

/// An image's own bytes, at the addresses the file gives them.
#[derive(Debug, Clone)]
pub struct FileMemory(pub Arc<Image>);

impl Memory for FileMemory {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.memory().read(at, into)
    }
}

/// Where the type descriptors of a module lie, in the file's addresses.
pub fn type_section(image: &Image) -> TypeSection {
    let module: &ModuleData = image.module();
    let at = |a: crate::addr::ImageAddr| LiveAddr(a.0);
    let list = match (module.typedesc_len, module.typelinks) {
        (Some(len), _) => TypeList::Descriptors { len },
        (None, Some(links)) => TypeList::Links {
            at: at(links.start),
            count: links.len,
        },
        (None, None) => TypeList::Links {
            at: LiveAddr(0),
            count: 0,
        },
    };
    TypeSection {
        types: at(module.types.start),
        etypes: at(module.types.end),
        text: at(module.text.start),
        etext: at(module.text.end),
        list,
        doubled_offsets: image.go_version().minor().is_some_and(|m| m <= 18),
    }
}

/// The program's types, found by the addresses that its values hold.
pub struct LiveTypes {
    types: Arc<RttiTypes<FileMemory>>,
    bias: Bias,
}

impl LiveTypes {
    /// Types of an image that lies in a process with this bias.
    pub fn new(types: Arc<RttiTypes<FileMemory>>, bias: Bias) -> LiveTypes {
        LiveTypes { types, bias }
    }

    /// The table behind it, which counts in the file's addresses.
    pub fn table(&self) -> &RttiTypes<FileMemory> {
        &self.types
    }

    /// The type whose descriptor lies at a live address.
    pub fn at_live(&self, descriptor: LiveAddr) -> Option<TypeId> {
        self.types.at(LiveAddr(self.bias.image(descriptor).0))
    }
}

impl TypeTable for LiveTypes {
    fn get(&self, id: TypeId) -> Arc<Type> {
        self.types.get(id)
    }
}

impl DynamicTypes for LiveTypes {
    fn type_at(&self, descriptor: LiveAddr) -> Option<TypeId> {
        self.at_live(descriptor)
    }

    fn package_of(&self, descriptor: LiveAddr) -> Option<Arc<str>> {
        let id = self.at_live(descriptor)?;
        self.types.package_path(id).map(Arc::from)
    }
}

/// Field offsets by name, from the type descriptors.
pub struct Fields<'a>(pub &'a RttiTypes<FileMemory>);

impl Fields<'_> {
    fn strukt(&self, name: &str) -> Option<TypeId> {
        let id = self.0.find_struct(name)?;
        matches!(self.0.get(id).kind, TypeKind::Struct(_)).then_some(id)
    }
}

impl StructFields for Fields<'_> {
    fn offset_of(&self, strukt: &str, path: &str) -> Option<u64> {
        let path: Vec<&str> = path.split('.').collect();
        self.0.field_offset(self.strukt(strukt)?, &path)
    }

    fn size_of(&self, strukt: &str) -> Option<u64> {
        Some(self.0.get(self.strukt(strukt)?).size)
    }
}
