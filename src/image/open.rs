//! An opened Go program, and the questions that others ask of it.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;

use super::buildinfo::{self, BuildInfo};
use super::elf::{Elf, Section, Segment};
use super::error::ImageError;
use super::function::Functions;
use super::goversion::GoVersion;
use super::inline::{self, InlinedAt, SourceFrame};
use super::moduledata::{self, ModuleData};
use super::pclntab::{self, Candidate, Pclntab};
use super::relocations::{ImageMemory, Relocations};
use crate::addr::ImageAddr;

/// ELF note type of a GNU build id (elf.h: NT_GNU_BUILD_ID).
pub(super) const NT_GNU_BUILD_ID: u32 = goblin::elf::note::NT_GNU_BUILD_ID;
/// cmd/internal/buildid/note.go: ELF note "Go", type 4.
pub(super) const NT_GO_BUILD_ID: u32 = 4;

/// A Go program's file, mapped, with its function table and module data found.
#[derive(Debug)]
pub struct Image {
    pub(crate) elf: Elf,
    pub(crate) relocations: Relocations,
    pub(crate) tab: Pclntab,
    module: ModuleData,
    build: BuildInfo,
    wrapper_id: OnceLock<u8>,
    cgo: OnceLock<bool>,
    /// Another file of the same build, that has debug information.
    pub(super) symbols: OnceLock<Elf>,
}

impl Image {
    /// Opens a Go program; `/proc/PID/exe` works for deleted files and across
    /// mount namespaces.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let name = path.display().to_string();
        let failed = |source| ImageError::Open {
            name: name.clone(),
            source,
        };
        // Opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(ImageError::NotAFile { name });
        }
        Self::from_file(File::open(path).map_err(failed)?, &name)
    }

    /// The same for a file that is open already; `name` is for messages.
    pub fn from_file(file: File, name: &str) -> Result<Self, ImageError> {
        let elf = Elf::open(&file, name)?;
        let relocations = Relocations::of(&elf);
        let memory = ImageMemory {
            elf: &elf,
            relocations: &relocations,
        };
        let build = buildinfo::find(&elf, &memory);
        let (tab, module) = find_tables(&elf, &relocations, build.as_ref())?;
        Ok(Self {
            build: build.unwrap_or_else(BuildInfo::unknown),
            elf,
            relocations,
            tab,
            module,
            wrapper_id: OnceLock::new(),
            cgo: OnceLock::new(),
            symbols: OnceLock::new(),
        })
    }

    /// The file as it was named when opened.
    pub fn name(&self) -> &str {
        self.elf.name()
    }

    /// The version of Go that built it.
    pub fn go_version(&self) -> &GoVersion {
        &self.build.go_version
    }

    /// What `go version -m` tells.
    pub fn build_info(&self) -> &BuildInfo {
        &self.build
    }

    /// Go's build id (`go tool buildid`).
    pub fn go_build_id(&self) -> Option<&str> {
        std::str::from_utf8(self.elf.note("Go", NT_GO_BUILD_ID)?).ok()
    }

    /// The GNU build id, where an external linker (or Go 1.24+) wrote one.
    pub fn gnu_build_id(&self) -> Option<&[u8]> {
        self.elf.note("GNU", NT_GNU_BUILD_ID)
    }

    /// Position independent: the loader chooses where it goes.
    pub fn is_pie(&self) -> bool {
        self.elf.pie
    }

    /// No symbol table.
    pub fn is_stripped(&self) -> bool {
        !self.elf.symtab
    }

    /// It has `.debug_info`, compressed or not.
    pub fn has_dwarf(&self) -> bool {
        [".debug_info", ".zdebug_info"].iter().any(|name| {
            self.source_of(name)
                .section_header(name)
                .is_some_and(|s| s.size > 0)
        })
    }

    /// Whose section of that name counts.
    fn source_of(&self, name: &str) -> &Elf {
        let debug = name.starts_with(".debug_") || name.starts_with(".zdebug_");
        match self.symbols.get() {
            Some(twin) if debug => twin,
            _ => &self.elf,
        }
    }

    /// It holds runtime/cgo, so threads run C code too.
    pub fn is_cgo(&self) -> bool {
        *self.cgo.get_or_init(|| {
            self.functions().iter().any(|f| {
                f.name_bytes() == b"crosscall2" || f.name_bytes().starts_with(b"runtime/cgo.")
            })
        })
    }

    /// The ELF entry point.
    pub fn entry(&self) -> ImageAddr {
        self.elf.entry
    }

    /// `len` bytes of the file as mapped at `at`; `None` outside PT_LOADs and
    /// in their zeroed ends. Relocations are not applied: see [`Image::memory`].
    pub fn bytes(&self, at: ImageAddr, len: usize) -> Option<&[u8]> {
        self.elf.bytes(at, len)
    }

    /// The file's bytes from an offset to its end, as a mapping of it has them.
    pub fn file_from(&self, offset: u64) -> Option<&[u8]> {
        self.elf.data().get(usize::try_from(offset).ok()?..)
    }

    /// The PT_LOADs.
    pub fn segments(&self) -> &[Segment] {
        &self.elf.segments
    }

    /// All sections, none for a file whose section table was removed.
    pub fn sections(&self) -> &[Section] {
        &self.elf.sections
    }

    /// A section's header.
    pub fn section_header(&self, name: &str) -> Option<&Section> {
        self.elf.section_header(name)
    }

    /// A section's bytes, decompressed when they are compressed; asking for
    /// `.debug_info` finds `.zdebug_info` too. Those of debug information come
    /// from the file that [`Image::add_symbols`] was given, if any.
    pub fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.source_of(name).section(name)
    }

    /// `runtime.moduledata`.
    pub fn module(&self) -> &ModuleData {
        &self.module
    }

    /// Where the Go code begins: offsets of functions count from here.
    pub fn text_base(&self) -> ImageAddr {
        self.module.text.start
    }

    /// The function table.
    pub fn functions(&self) -> Functions<'_> {
        let data = self.elf.data().get(self.tab.file.clone());
        Functions {
            image: self,
            data: data.unwrap_or_default(),
        }
    }

    /// The frames of `pc`, innermost first; give a return address minus 1.
    /// Empty when no Go function is there.
    pub fn frames_at(&self, pc: ImageAddr) -> Vec<SourceFrame> {
        inline::frames_at(self, pc)
    }

    /// Bytes between SP and the return address at `pc`.
    pub fn sp_delta(&self, pc: ImageAddr) -> Option<i32> {
        self.functions().find(pc)?.sp_delta(pc)
    }

    /// Where functions whose raw name `matches` were inlined: at most `limit`
    /// places, and how many there are. Walks all inline trees: tens of ms.
    pub fn find_inlined(
        &self,
        matches: &dyn Fn(&[u8]) -> bool,
        limit: usize,
    ) -> (Vec<InlinedAt>, usize) {
        inline::find_inlined(self, matches, limit)
    }

    /// The file as the memory of a program that has not run yet.
    pub fn memory(&self) -> ImageMemory<'_> {
        ImageMemory {
            elf: &self.elf,
            relocations: &self.relocations,
        }
    }

    /// `abi.FuncIDWrapper` of this program: the id after that of
    /// systemstack_switch (21 until Go 1.21, 22 until 1.24, 23 until 1.27).
    pub(crate) fn wrapper_id(&self) -> u8 {
        *self.wrapper_id.get_or_init(|| {
            let known = self
                .functions()
                .iter()
                .find(|f| f.is_asm() && f.name_bytes() == b"runtime.systemstack_switch")
                .map(|f| f.func_id().saturating_add(1));
            known.unwrap_or(match self.go_version().minor() {
                Some(..=21) => 21,
                Some(22..=24) => 22,
                Some(25..) | None => 23,
            })
        })
    }
}

/// The function table and the module data that refers to it. A program may
/// embed another one's file: only its own table has module data.
fn find_tables(
    elf: &Elf,
    relocations: &Relocations,
    build: Option<&BuildInfo>,
) -> Result<(Pclntab, ModuleData), ImageError> {
    let name = || elf.name().to_owned();
    let unknown = GoVersion::parse("");
    let version = build.map_or(&unknown, |b| &b.go_version);
    let mut old = None;
    let mut tables = false;
    for find in [pclntab::find_tables, pclntab::scan] {
        for candidate in find(elf) {
            match candidate {
                Candidate::Old(version) => old = Some(version),
                Candidate::Table(tab) => {
                    tables = true;
                    if let Some(module) = moduledata::find(elf, relocations, &tab, version) {
                        return Ok((tab, module));
                    }
                }
            }
        }
    }
    Err(match (old, tables, build) {
        (_, true, _) => ImageError::Malformed {
            name: name(),
            what: format!(
                "its function table was found, but no module data of the Go runtime that fits it (Go {version})"
            ),
        },
        (Some(version), false, _) => ImageError::TooOld {
            name: name(),
            version,
        },
        (None, false, Some(_)) => ImageError::Garbled { name: name() },
        (None, false, None) if is_packed(elf) => ImageError::Packed { name: name() },
        (None, false, None) => ImageError::NotGo { name: name() },
    })
}

/// UPX writes its mark after the program headers.
fn is_packed(elf: &Elf) -> bool {
    let head = elf.data().get(..4096).unwrap_or(elf.data());
    head.windows(4).any(|w| w == b"UPX!")
}
