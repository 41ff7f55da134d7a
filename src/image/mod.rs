//! What is known of one ELF file: sections, pclntab, DWARF, build info, types.
pub mod dwarf;
pub mod types;
