//! What is known of one ELF file: sections, pclntab, DWARF, build info, types.
pub mod rtti;
#[cfg(test)]
mod type_oracle;
pub mod types;
