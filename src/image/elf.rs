//! One ELF file: headers only, the rest stays in the page cache.

use std::borrow::Cow;
use std::fs::File;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::note::NoteDataIterator;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{CompressionHeader, FileHeader, ProgramHeader, SectionHeader};
use object::read::{CompressedData, CompressionFormat};

use super::bytes::array_at;
use super::error::ImageError;
use crate::addr::ImageAddr;
use crate::sys::{Mapped, map_file};

/// zlib cannot expand more than this (deflate's limit is 1,032 to 1), so a
/// section that claims more lies.
const MAX_EXPANSION: u64 = 1040;
/// No section is decompressed to more bytes than this.
const MAX_SECTION: u64 = 4 << 30;
/// Bytes of all notes of a file that are looked at.
const MAX_NOTES: usize = 1 << 20;

/// A PT_LOAD: a piece of the file and where it is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is mapped, in the file's numbering (`p_vaddr`).
    pub vaddr: ImageAddr,
    /// Bytes in memory (`p_memsz`).
    pub memsz: u64,
    /// Bytes in the file (`p_filesz`); the rest of `memsz` is zero.
    pub filesz: u64,
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// PF_R
    pub readable: bool,
    /// PF_W
    pub writable: bool,
    /// PF_X
    pub executable: bool,
}

impl Segment {
    /// True when `at` lies in this segment's memory.
    pub fn contains(&self, at: ImageAddr) -> bool {
        at.0.checked_sub(self.vaddr.0)
            .is_some_and(|skip| skip < self.memsz)
    }
}

/// A section, as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Where it is mapped; 0 when it is not.
    pub addr: ImageAddr,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes (as stored, that is compressed).
    pub size: u64,
    /// SHF_COMPRESSED
    pub compressed: bool,
    /// SHT_NOBITS: it has no bytes in the file.
    pub nobits: bool,
    index: usize,
}

/// An ELF file of x86-64.
#[derive(Debug)]
pub(crate) struct Elf {
    name: String,
    mapped: Mapped,
    pub(crate) segments: Vec<Segment>,
    pub(crate) sections: Vec<Section>,
    pub(crate) entry: ImageAddr,
    pub(crate) pie: bool,
    pub(crate) symtab: bool,
    /// File range of PT_DYNAMIC.
    pub(crate) dynamic: Option<(usize, usize)>,
    /// Notes: offset, length and alignment.
    notes: Vec<(usize, usize, usize)>,
}

impl Elf {
    pub(crate) fn open(file: &File, name: &str) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Open {
            name: name.to_owned(),
            source,
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(ImageError::NotAFile {
                name: name.to_owned(),
            });
        }
        Self::parse(map_file(file).map_err(failed)?, name)
    }

    fn parse(mapped: Mapped, name: &str) -> Result<Self, ImageError> {
        let malformed = |what: &str| ImageError::Malformed {
            name: name.to_owned(),
            what: what.to_owned(),
        };
        let data: &[u8] = &mapped;
        check_ident(data, name)?;
        let header = elf::FileHeader64::<LE>::parse(data)
            .map_err(|e| malformed(&format!("bad ELF header: {e}")))?;
        let (kind, machine) = (header.e_type(LE), header.e_machine(LE));
        if machine != elf::EM_X86_64 {
            return Err(ImageError::Architecture {
                name: name.to_owned(),
                machine: machine_name(machine.0),
            });
        }
        let kind_name = match kind {
            elf::ET_EXEC | elf::ET_DYN => None,
            elf::ET_REL => Some("an object file"),
            elf::ET_CORE => Some("a core file"),
            _ => Some("an ELF file of an unknown kind"),
        };
        if let Some(kind) = kind_name {
            return Err(ImageError::NotExecutable {
                name: name.to_owned(),
                kind,
            });
        }
        let headers = header.program_headers(LE, data).map_err(|_| {
            let entries = u64::from(header.e_phnum(LE)) * u64::from(header.e_phentsize(LE));
            let needs = header.e_phoff(LE).saturating_add(entries);
            if needs > data.len() as u64 {
                truncated(name, "table of segments", needs, data)
            } else {
                malformed("bad table of segments")
            }
        })?;
        let mut this = Self {
            name: name.to_owned(),
            segments: Vec::new(),
            sections: Vec::new(),
            entry: ImageAddr(header.e_entry(LE)),
            pie: kind == elf::ET_DYN,
            symtab: false,
            dynamic: None,
            notes: Vec::new(),
            mapped: Mapped::default(),
        };
        for header in headers {
            this.add_segment(header, data)?;
        }
        // The section table is a convenience: programs run without one.
        if let Ok(sections) = header.sections(LE, data) {
            for (index, section) in sections.enumerate() {
                let Ok(section_name) = sections.section_name(LE, section) else {
                    continue;
                };
                this.symtab |= section.sh_type(LE) == elf::SHT_SYMTAB;
                if section.sh_type(LE) == elf::SHT_NOTE {
                    // Go's linker leaves the GNU build id out of its PT_NOTE.
                    let place = (section.sh_offset(LE), section.sh_size(LE));
                    this.add_note(place, section.sh_addralign(LE));
                }
                this.sections.push(Section {
                    name: String::from_utf8_lossy(section_name).into_owned(),
                    addr: ImageAddr(section.sh_addr(LE)),
                    offset: section.sh_offset(LE),
                    size: section.sh_size(LE),
                    compressed: section.sh_flags(LE).contains(elf::SHF_COMPRESSED),
                    nobits: section.sh_type(LE) == elf::SHT_NOBITS,
                    index: index.0,
                });
            }
        }
        this.mapped = mapped;
        Ok(this)
    }

    fn add_segment(
        &mut self,
        header: &elf::ProgramHeader64<LE>,
        data: &[u8],
    ) -> Result<(), ImageError> {
        let (offset, filesz) = header.file_range(LE);
        let end = offset.saturating_add(filesz);
        let range = (end <= data.len() as u64)
            .then(|| Some((usize::try_from(offset).ok()?, usize::try_from(filesz).ok()?)))
            .flatten();
        match header.p_type(LE) {
            elf::PT_LOAD => {
                if range.is_none() {
                    return Err(truncated(&self.name, "last segment", end, data));
                }
                let flags = header.p_flags(LE);
                self.segments.push(Segment {
                    vaddr: ImageAddr(header.p_vaddr(LE)),
                    memsz: header.p_memsz(LE).max(filesz),
                    filesz,
                    offset,
                    readable: flags.contains(elf::PF_R),
                    writable: flags.contains(elf::PF_W),
                    executable: flags.contains(elf::PF_X),
                });
            }
            elf::PT_DYNAMIC => self.dynamic = range,
            elf::PT_NOTE => self.add_note((offset, filesz), header.p_align(LE)),
            _ => {}
        }
        Ok(())
    }

    fn add_note(&mut self, (offset, size): (u64, u64), align: u64) {
        let fit = |n: u64| usize::try_from(n).ok();
        if let (Some(at), Some(len), Some(align)) = (fit(offset), fit(size), fit(align)) {
            self.notes.push((at, len.min(MAX_NOTES), align));
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The whole file.
    pub(crate) fn data(&self) -> &[u8] {
        &self.mapped
    }

    /// File-backed bytes from `at` to the end of its segment.
    pub(crate) fn tail(&self, at: ImageAddr) -> Option<&[u8]> {
        self.segments.iter().find_map(|segment| {
            let skip = at.0.checked_sub(segment.vaddr.0)?;
            let bytes = self.segment_bytes(segment)?;
            bytes
                .get(usize::try_from(skip).ok()?..)
                .filter(|rest| !rest.is_empty())
        })
    }

    /// File-backed bytes of a segment.
    pub(crate) fn segment_bytes(&self, segment: &Segment) -> Option<&[u8]> {
        let start = usize::try_from(segment.offset).ok()?;
        let end = start.checked_add(usize::try_from(segment.filesz).ok()?)?;
        self.data().get(start..end)
    }

    /// Where a byte of the file is mapped.
    pub(crate) fn address_of(&self, offset: usize) -> Option<ImageAddr> {
        let offset = u64::try_from(offset).ok()?;
        self.segments.iter().find_map(|s| {
            let skip = offset
                .checked_sub(s.offset)
                .filter(|skip| *skip < s.filesz)?;
            Some(s.vaddr.offset(skip))
        })
    }

    /// `len` file-backed bytes at `at`.
    pub(crate) fn bytes(&self, at: ImageAddr, len: usize) -> Option<&[u8]> {
        self.tail(at)?.get(..len)
    }

    pub(crate) fn section_header(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// A section's bytes as stored.
    pub(crate) fn section_stored(&self, section: &Section) -> Option<&[u8]> {
        if section.nobits {
            return None;
        }
        let start = usize::try_from(section.offset).ok()?;
        let end = start.checked_add(usize::try_from(section.size).ok()?)?;
        self.data().get(start..end)
    }

    /// A section's bytes, decompressed; `.debug_x` also finds the `.zdebug_x`
    /// of older linkers.
    pub(crate) fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        if let Some(section) = self.section_header(name) {
            let stored = self.section_stored(section)?;
            if !section.compressed {
                return Some(Cow::Borrowed(stored));
            }
            return self.decompress(section);
        }
        let old = self.section_header(&format!(".z{}", name.strip_prefix('.')?))?;
        let stored = self.section_stored(old)?;
        let size = u64::from_be_bytes(array_at(stored.strip_prefix(b"ZLIB")?, 0)?);
        expand(CompressionFormat::Zlib, stored.get(12..)?, size)
    }

    fn decompress(&self, section: &Section) -> Option<Cow<'_, [u8]>> {
        let data = self.data();
        let file = elf::FileHeader64::<LE>::parse(data).ok()?;
        let headers = file.section_headers(LE, data).ok()?;
        let (header, offset, size) = headers
            .get(section.index)?
            .compression(LE, data)
            .ok()
            .flatten()?;
        let format = match header.ch_type(LE) {
            elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => return None,
        };
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        expand(format, data.get(start..end)?, header.ch_size(LE))
    }

    /// The first note of this name and type.
    pub(crate) fn note(&self, name: &str, kind: u32) -> Option<&[u8]> {
        for &(at, len, align) in &self.notes {
            let Some(data) = self.data().get(at..at.saturating_add(len)) else {
                continue;
            };
            let notes = NoteDataIterator {
                data,
                size: data.len(),
                offset: 0,
                ctx: (align, Ctx::new(Container::Big, Endian::Little)),
            };
            for note in notes.map_while(Result::ok) {
                if note.n_type == kind && note.name.trim_end_matches('\0') == name {
                    return Some(note.desc);
                }
            }
        }
        None
    }
}

fn expand(format: CompressionFormat, data: &[u8], size: u64) -> Option<Cow<'_, [u8]>> {
    let lies = format == CompressionFormat::Zlib && size / MAX_EXPANSION > data.len() as u64;
    if lies || size > MAX_SECTION {
        return None;
    }
    let compressed = CompressedData {
        format,
        data,
        uncompressed_size: size,
    };
    compressed.decompress().ok()
}

fn truncated(name: &str, what: &'static str, needs: u64, data: &[u8]) -> ImageError {
    ImageError::Truncated {
        name: name.to_owned(),
        what,
        needs,
        has: data.len() as u64,
    }
}

/// The first sixteen bytes: magic, class, byte order.
fn check_ident(data: &[u8], name: &str) -> Result<(), ImageError> {
    let name = || name.to_owned();
    if !data.starts_with(b"\x7fELF") {
        return Err(ImageError::NotElf { name: name() });
    }
    let Some(header) = data.get(..64) else {
        return Err(truncated(&name(), "ELF header", 64, data));
    };
    if header.get(4) == Some(&1) {
        return Err(ImageError::Bits32 { name: name() });
    }
    if header.get(5) == Some(&2) {
        return Err(ImageError::Architecture {
            name: name(),
            machine: "a big-endian CPU".to_owned(),
        });
    }
    Ok(())
}

/// The names people use for the CPUs that Go builds for on Linux.
fn machine_name(machine: u16) -> String {
    match elf::Machine(machine) {
        elf::EM_AARCH64 => "arm64".to_owned(),
        elf::EM_ARM => "arm".to_owned(),
        elf::EM_386 => "386".to_owned(),
        elf::EM_RISCV => "riscv64".to_owned(),
        elf::EM_PPC64 => "ppc64".to_owned(),
        elf::EM_S390 => "s390x".to_owned(),
        elf::EM_MIPS => "mips".to_owned(),
        elf::EM_LOONGARCH => "loong64".to_owned(),
        elf::Machine(other) => format!("another CPU (ELF machine {other})"),
    }
}
