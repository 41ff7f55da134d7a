//! What is known of one ELF file: sections, pclntab, DWARF, build info, types.
//!
//! Who lives here: the file itself (`elf`), Go's function table and what hangs
//! on it (`pclntab`, `function`, `inline`, `arginfo`), `moduledata`, build
//! information, another file's debug information (`symbols`), patterns that name functions, types and signatures.
//! Nobody here knows processes; every room below in the list may come in.
//! The file is mapped and read in place: what is kept does not grow with it.

#[cfg(test)]
mod tests;

mod arginfo;
mod buildinfo;
mod bytes;
pub mod dwarf;
mod elf;
mod entry_abi;
mod error;
mod function;
mod goversion;
mod inline;
mod moduledata;
pub(crate) mod nearest;
mod open;
pub mod pattern;
mod pclntab;
mod pcvalue;
mod relocations;
pub mod rtti;
pub mod signature;
mod summary;
mod symbols;
#[cfg(test)]
mod type_oracle;
pub mod types;

pub use arginfo::{ArgInfo, ArgShape};
pub use buildinfo::{BuildInfo, Module};
pub use elf::{Section, Segment};
pub use entry_abi::abi_of;
pub use error::ImageError;
pub use function::{
    FLAG_ASM, FLAG_SP_WRITE, FLAG_TOP_FRAME, FUNCDATA_ARG_INFO, FUNCDATA_ARG_LIVE_INFO,
    FUNCDATA_INL_TREE, Function, Functions, PCDATA_INL_TREE_INDEX, PCDATA_STACK_MAP_INDEX,
    PCDATA_UNSAFE_POINT,
};
pub use goversion::GoVersion;
pub use inline::{InlinedAt, SourceFrame};
pub use moduledata::{AddrRange, ModuleData, SliceAt};
pub use open::Image;
pub use pattern::{Limits, Match, PatternError, resolve};
pub use pcvalue::{PcRange, PcValues};
pub use relocations::ImageMemory;
pub use summary::Summary;
