//! What the loader is given: where a value is, how much of it to load, and
//! whom to ask about the running program.

use std::sync::Arc;

use crate::addr::LiveAddr;
use crate::image::types::{MapKind, TypeId, TypeTable};
use crate::memory::Memory;

/// Where a value's bytes are.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In the target's memory.
    At(LiveAddr),
    /// Gathered already, from registers or a stack: the value's own bytes.
    Bytes(&'a [u8]),
}

/// How much of a value is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pointers followed, one in another.
    pub depth: u32,
    /// Bytes of a string.
    pub string: usize,
    /// Bytes of a byte slice.
    pub bytes: usize,
    /// Elements of a slice or array, entries of a map.
    pub elements: usize,
    /// Fields of a struct.
    pub fields: usize,
    /// Values in all.
    pub nodes: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            depth: 1,
            string: 64,
            bytes: 64,
            elements: 8,
            fields: 16,
            nodes: 256,
        }
    }
}

impl Limits {
    /// The same, none larger than what one value may cost.
    pub(super) fn bounded(self) -> Limits {
        Limits {
            depth: self.depth.min(16),
            string: self.string.min(1 << 20),
            bytes: self.bytes.min(1 << 20),
            elements: self.elements.min(4096),
            fields: self.fields.min(1024),
            nodes: self.nodes.min(1 << 16),
        }
    }
}

/// The type of what an interface holds.
pub struct Dynamic<'a> {
    /// As Go prints it.
    pub name: Arc<str>,
    /// The type, in `types`.
    pub ty: TypeId,
    /// Not always the table that the interface's own type is from.
    pub types: &'a dyn TypeTable,
}

/// The text of an error value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorText {
    /// What its Error method prints, or its structure.
    pub text: Arc<str>,
    /// The Error method is the program's own code: this is `pkg.Type{fields}`.
    pub structural: bool,
}

/// The words of an interface value that holds an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorWords {
    /// The itab.
    pub itab: LiveAddr,
    /// The descriptor of the dynamic type, as the itab has it.
    pub rtype: LiveAddr,
    /// The data word.
    pub data: u64,
}

/// What only the running program's own type data can tell.
pub trait RuntimeTypes {
    /// The type that the descriptor (`abi.Type`) at `rtype` describes.
    fn dynamic(&self, rtype: LiveAddr) -> Option<Dynamic<'_>> {
        let _ = rtype;
        None
    }

    /// The function that `pc` lies in.
    fn function(&self, pc: LiveAddr) -> Option<Arc<str>> {
        let _ = pc;
        None
    }

    /// The text of a value of type `error`; `None` when it cannot be told.
    /// Asked once a value, after everything else of it was read.
    fn error_text(&self, words: ErrorWords, memory: &dyn Memory) -> Option<ErrorText> {
        let _ = (words, memory);
        None
    }

    /// How maps are laid out, asked where the type table cannot tell.
    fn map_kind(&self) -> MapKind {
        MapKind::Unknown
    }
}

/// Knows nothing: interfaces show their words.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRuntime;

impl RuntimeTypes for NoRuntime {}
