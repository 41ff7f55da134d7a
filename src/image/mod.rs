//! What is known of one ELF file: sections, pclntab, DWARF, build info, types.
pub mod types;
