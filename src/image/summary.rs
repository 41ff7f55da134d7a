//! A glance at a file: is it a Go program, and which? Cheap enough for every
//! process of a machine, and content with programs that cannot be traced.

use std::fs::File;

use super::buildinfo::{self, BuildInfo};
use super::elf::Elf;
use super::error::ImageError;
use super::relocations::{ImageMemory, Relocations};

/// Sections that only Go programs have.
const GO_SECTIONS: [&str; 4] = [
    ".go.buildinfo",
    ".gopclntab",
    ".note.go.buildid",
    ".data.rel.ro.gopclntab",
];

/// What a glance at a Go program's file tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Version and modules; a version `unknown` where the program hides it.
    pub build: BuildInfo,
    /// It has no symbol table.
    pub stripped: bool,
}

impl Summary {
    /// Looks at an open file; [`ImageError::NotGo`] and the like for others.
    pub fn of(file: &File, name: &str) -> Result<Self, ImageError> {
        let elf = Elf::open(file, name)?;
        let not_go = || ImageError::NotGo {
            name: name.to_owned(),
        };
        let named = GO_SECTIONS.iter().any(|s| elf.section_header(s).is_some());
        // A file that names its sections would name Go's; one that does not
        // has to be searched.
        if !named && !elf.sections.is_empty() {
            return Err(not_go());
        }
        let relocations = Relocations::of(&elf);
        let memory = ImageMemory {
            elf: &elf,
            relocations: &relocations,
        };
        let build = buildinfo::find(&elf, &memory);
        if build.is_none() && !named {
            return Err(not_go());
        }
        Ok(Self {
            build: build.unwrap_or_else(BuildInfo::unknown),
            stripped: !elf.symtab,
        })
    }
}
