//! What an error value of the target says, found through its itab's type and
//! its fields; no code of the target runs.
//!
//! [`ErrorReader`] knows the Error methods of the standard library (`known.rs`)
//! as texts with fields in them; an error whose Error method is
//! the program's own is shown by its structure and marked so.

mod known;
mod numbers;
mod render;
mod special;
mod structure;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

pub use numbers::errno;

use super::dynamic::DynamicTypes;
use super::layout::Layouts;
use super::witness::Memo;
use crate::image::types::Type;
use crate::memory::{Memory, MemoryError, Piece};

/// How many error values are remembered.
const REMEMBERED: usize = 4096;

/// An error's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorText {
    /// What the Error method prints, or the structure.
    pub text: Arc<str>,
    /// Some Error method in it is the program's own: shown as `pkg.Type{fields}`.
    pub structural: bool,
}

/// What is known of the dynamic type behind an itab. Itabs and descriptors
/// live for ever, so this is never looked up twice.
#[derive(Clone)]
struct Dynamic {
    /// The type itself.
    ty: Arc<Type>,
    /// Its Error method, when it is one of the standard library.
    method: Option<known::Method>,
}

/// Reads error values.
pub struct ErrorReader {
    layouts: Arc<Layouts>,
    minor: Option<u32>,
    memo: Memo<(u64, u64), ErrorText>,
    types: RefCell<HashMap<u64, Option<Dynamic>>>,
}

impl ErrorReader {
    /// For a program of these layouts, built by Go 1.`minor`.
    pub fn new(layouts: Arc<Layouts>, minor: Option<u32>) -> Self {
        ErrorReader {
            layouts,
            minor,
            memo: Memo::new(REMEMBERED),
            types: RefCell::default(),
        }
    }

    /// The text of the `error` in these two words; `None` for nil. `extra` is
    /// read along in any case. Only a target that is gone is an error.
    pub fn text(
        &mut self,
        memory: &dyn Memory,
        types: &dyn DynamicTypes,
        itab: u64,
        data: u64,
        extra: &mut [Piece<'_>],
    ) -> Result<Option<ErrorText>, MemoryError> {
        if itab == 0 {
            if !extra.is_empty() {
                memory.read_many(extra)?;
            }
            return Ok(None);
        }
        let ErrorReader {
            layouts,
            minor,
            memo,
            types: dynamics,
        } = self;
        memo.get(&(itab, data), memory, extra, |recording| {
            let renderer = render::Renderer {
                raw: memory,
                memory: recording,
                types,
                layouts,
                minor: *minor,
                dynamics,
            };
            renderer.error(itab, data)
        })
        .map(Some)
    }

    /// The same of a memory that is asked for what it has and nothing more: what was
    /// learnt before of these words is not looked at.
    pub fn text_afresh(
        &self,
        memory: &dyn Memory,
        types: &dyn DynamicTypes,
        itab: u64,
        data: u64,
    ) -> Result<Option<ErrorText>, MemoryError> {
        let renderer = render::Renderer {
            raw: memory,
            memory,
            types,
            layouts: &self.layouts,
            minor: self.minor,
            dynamics: &self.types,
        };
        (itab != 0).then(|| renderer.error(itab, data)).transpose()
    }
}
