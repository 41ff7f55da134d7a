//! What the loader asks of the running program, answered from the runtime's
//! own type data and from what the golang room knows of errors.

use std::cell::RefCell;
use std::sync::Arc;

use super::{Dynamic, ErrorText, ErrorWords, RuntimeTypes};
use crate::addr::LiveAddr;
use crate::golang::dynamic::DynamicTypes;
use crate::golang::errors::ErrorReader;
use crate::image::types::MapKind;
use crate::memory::Memory;

/// A program's types, errors and functions as the loader wants them.
pub struct Program<'a> {
    /// Types by the address of their descriptor.
    pub types: &'a dyn DynamicTypes,
    /// Texts of errors; without it they are shown by their structure.
    pub errors: Option<&'a RefCell<ErrorReader>>,
    /// The name of the function that a pc lies in.
    pub function: &'a dyn Fn(LiveAddr) -> Option<Arc<str>>,
    /// How maps are laid out, where the type table does not tell.
    pub maps: MapKind,
}

impl RuntimeTypes for Program<'_> {
    fn dynamic(&self, rtype: LiveAddr) -> Option<Dynamic<'_>> {
        let ty = self.types.type_at(rtype)?;
        Some(Dynamic {
            name: Arc::clone(&self.types.get(ty).name),
            ty,
            types: self.types,
        })
    }

    fn function(&self, pc: LiveAddr) -> Option<Arc<str>> {
        (self.function)(pc)
    }

    fn error_text(&self, words: ErrorWords, memory: &dyn Memory) -> Option<ErrorText> {
        let mut reader = self.errors?.try_borrow_mut().ok()?;
        let text = reader
            .text(memory, self.types, words.itab.0, words.data, &mut [])
            .ok()??;
        Some(ErrorText {
            text: text.text,
            structural: text.structural,
        })
    }

    fn map_kind(&self) -> MapKind {
        self.maps
    }
}
