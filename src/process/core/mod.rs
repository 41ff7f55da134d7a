//! A core file: a process as it was when it ended, behind the same trait as a
//! live one.
//!
//! Who lives here: the file and its memory (this file), what its notes say
//! ([`notes`]), which build it was ([`build`]), and how one is written ([`mod@write`]). Kernel cores (core(5), also
//! those of `GOTRACEBACK=crash`) and gcore's are read. Nobody here knows Go;
//! allowed in: session, repl, cli.
//!
//! A core leaves out what can be had from files: pages that were mapped from
//! the executable and never written are read from it.

mod build;
mod error;
mod notes;
#[cfg(test)]
mod tests;
pub mod write;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::Elf;
use goblin::elf::header::ET_CORE;
use goblin::elf::program_header::{PF_W, PT_LOAD, PT_NOTE, ProgramHeader};

pub use error::CoreError;
pub use notes::{CoreSignal, CoreThread, MappedFile};

use notes::Notes;

use crate::addr::{Bias, LiveAddr};
use crate::image::{Image, ImageError};
use crate::memory::{Memory, MemoryError};
use crate::sys::{Mapped, map_file};

/// How ELF of x86-64 is laid out.
const CTX: Ctx = Ctx {
    container: Container::Big,
    le: Endian::Little,
};
/// `sizeof(Elf64_Ehdr)`
const EHDR: usize = 64;
/// `sizeof(Elf64_Phdr)`
const PHDR: usize = 56;
/// elf.h: the number of program headers is in section header 0.
const PN_XNUM: u16 = 0xffff;
/// More mappings than this are garbage (vm.max_map_count is 65,530 by default).
const MAX_SEGMENTS: usize = 1 << 22;

/// A piece of the process's address space, as a PT_LOAD describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    start: u64,
    /// Bytes it had in the process.
    memory: u64,
    /// Where its bytes begin in the core.
    offset: u64,
    /// Bytes that were dumped of it.
    dumped: u64,
    flags: u32,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.memory)
    }
}

/// A core file and the executable that it is of.
#[derive(Debug)]
pub struct Core {
    name: String,
    file: Mapped,
    /// In order of address, without overlaps.
    pieces: Vec<Piece>,
    notes: Notes,
    image: Arc<Image>,
    bias: Bias,
    /// Private memory was dumped: a writable page that is absent was never touched.
    touched_is_dumped: bool,
    remarks: Vec<String>,
}

impl Core {
    /// Opens a core file and its executable: `binary`, or the file that the
    /// core names when that is still the same build.
    pub fn open(core: &Path, binary: Option<&Path>) -> Result<Core, CoreError> {
        let name = core.display().to_string();
        let file = open_core(core, &name)?;
        let headers = read_headers(&file, &name)?;
        let notes = read_notes(&file, &headers, &name)?;
        let path = executable(binary, &notes, &name)?;
        let image = Arc::new(Image::open(&path).map_err(|source| {
            match (binary, source) {
                // Nobody named it: say where the name comes from.
                (None, ImageError::Open { name: path, source }) => CoreError::BinaryGone {
                    core: name.clone(),
                    path,
                    why: source.to_string(),
                },
                (_, source) => CoreError::Image(source),
            }
        })?);
        let Some(entry) = notes.entry else {
            return Err(CoreError::NoNote {
                core: name,
                what: "NT_AUXV",
            });
        };
        let bias = Bias(entry.wrapping_sub(image.entry().0));
        if !bias.0.is_multiple_of(0x1000) || (!image.is_pie() && bias.0 != 0) {
            return Err(build::other(&name, None, &image));
        }
        let mut this = Core {
            pieces: pieces(&headers),
            touched_is_dumped: false,
            remarks: Vec::new(),
            name,
            file,
            notes,
            image,
            bias,
        };
        this.touched_is_dumped = this
            .pieces
            .iter()
            .any(|p| p.flags & PF_W != 0 && p.dumped > 0 && this.notes.file_at(p.start).is_none());
        build::check(&mut this)?;
        if !this.touched_is_dumped {
            this.remarks.push(format!(
                "{} has no private memory of the process, that is neither heap nor stacks: \
                 see coredump_filter in core(5)",
                this.name
            ));
        }
        this.note_truncation();
        Ok(this)
    }

    /// The threads; the one that crashed is first.
    pub fn threads(&self) -> &[CoreThread] {
        &self.notes.threads
    }

    /// The signal that ended the process (gcore's cores may have none).
    pub fn signal(&self) -> Option<CoreSignal> {
        self.notes.signal
    }

    /// Process id.
    pub fn pid(&self) -> Option<i32> {
        self.notes.pid
    }

    /// The executable.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// What the loader added to the executable's addresses.
    pub fn bias(&self) -> Bias {
        self.bias
    }

    /// The files that were mapped (NT_FILE).
    pub fn mapped_files(&self) -> &[MappedFile] {
        &self.notes.files
    }

    /// What a user should know about it: that it was cut short, that its build
    /// could not be checked.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The core file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The piece that `at` lies in.
    fn piece_at(&self, at: u64) -> Option<&Piece> {
        let behind = self.pieces.partition_point(|p| p.start <= at);
        let piece = self.pieces.get(behind.checked_sub(1)?)?;
        (at < piece.end()).then_some(piece)
    }

    /// Bytes of the core from `at` on, at most `len`; `None` where it has none.
    fn dumped(&self, at: u64, len: usize) -> Option<&[u8]> {
        let piece = self.piece_at(at)?;
        let skip = at.checked_sub(piece.start)?;
        let left = piece.dumped.checked_sub(skip).filter(|l| *l > 0)?;
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(len);
        let from = usize::try_from(piece.offset.checked_add(skip)?).ok()?;
        // A file that was cut short has none of what is behind its end, or
        // only the first part.
        let rest = self.file.get(from..).filter(|r| !r.is_empty())?;
        rest.get(..take.min(rest.len()))
    }

    /// Reads what the core has no bytes of: from the executable, or zeroes
    /// where the process never touched its memory. How many were read.
    fn left_out(&self, at: u64, into: &mut [u8]) -> Option<usize> {
        let piece = self.piece_at(at);
        let next = match piece {
            // Dumped, but behind the end of the file.
            Some(p) if at.wrapping_sub(p.start) < p.dumped => return None,
            Some(p) => p.end(),
            None => {
                let behind = self.pieces.partition_point(|p| p.start <= at);
                self.pieces.get(behind).map_or(u64::MAX, |p| p.start)
            }
        };
        if !self.touched_is_dumped {
            return None;
        }
        if let Some(file) = self.notes.file_at(at) {
            if Some(&file.path) != self.notes.executable.as_ref() {
                return None;
            }
            // A page that was written is the process's own, and dumped: what
            // was left out is as the file has it, and zero behind its end.
            let take = clip(into, at, next.min(file.end))?;
            let skip = at.checked_sub(file.start)?;
            let bytes = self.image.file_from(file.offset.checked_add(skip)?)?;
            let (head, tail) = take.split_at_mut(take.len().min(bytes.len()));
            head.copy_from_slice(bytes.get(..head.len())?);
            tail.fill(0);
            return Some(take.len());
        }
        let piece = piece?;
        if piece.flags & PF_W != 0 && piece.dumped == 0 {
            let take = clip(into, at, next)?;
            take.fill(0);
            return Some(take.len());
        }
        None
    }

    /// Says which part of a core that was cut short is missing.
    fn note_truncation(&mut self) {
        let has = self.file.len() as u64;
        let needs = self
            .pieces
            .iter()
            .map(|p| p.offset.saturating_add(p.dumped));
        let needs = needs.max().unwrap_or(0);
        if needs <= has {
            return;
        }
        let lost: u64 = self
            .pieces
            .iter()
            .map(|p| {
                let end = p.offset.saturating_add(p.dumped);
                end.saturating_sub(has.max(p.offset))
            })
            .sum();
        let first = self
            .pieces
            .iter()
            .find(|p| p.offset.saturating_add(p.dumped) > has)
            .map_or(0, |p| p.start.saturating_add(has.saturating_sub(p.offset)));
        self.remarks.push(format!(
            "{} is cut short: it has {has} of {needs} bytes, {lost} bytes of memory from {first:#x} on are missing \
             (ulimit -c, a full disk, or a copy that was interrupted); what lies there is counted as unreadable",
            self.name
        ));
    }
}

/// The first part of `into`, up to the address `end`, when it begins at `at`.
fn clip(into: &mut [u8], at: u64, end: u64) -> Option<&mut [u8]> {
    let room = end.checked_sub(at).filter(|r| *r > 0)?;
    let take = usize::try_from(room).unwrap_or(usize::MAX).min(into.len());
    into.get_mut(..take)
}

impl Memory for Core {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let unmapped = MemoryError::Unmapped {
            at,
            len: into.len(),
        };
        let mut done = 0;
        while done < into.len() {
            let from = at.offset(done as u64).0;
            if from < at.0 {
                return Err(unmapped);
            }
            let rest = into.get_mut(done..).unwrap_or_default();
            let read = match self.dumped(from, rest.len()) {
                Some(bytes) => {
                    let (head, _) = rest.split_at_mut(bytes.len());
                    head.copy_from_slice(bytes);
                    Some(bytes.len())
                }
                None => self.left_out(from, rest),
            };
            match read {
                Some(n) if n > 0 => done = done.saturating_add(n),
                _ => return Err(unmapped),
            }
        }
        Ok(())
    }
}

fn open_core(path: &Path, name: &str) -> Result<Mapped, CoreError> {
    let failed = |source| CoreError::Open {
        core: name.to_owned(),
        source,
    };
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(CoreError::NotACore {
            core: name.to_owned(),
            what: "not a regular file".to_owned(),
        });
    }
    File::open(path).and_then(|f| map_file(&f)).map_err(failed)
}

/// The program headers.
fn read_headers(file: &[u8], name: &str) -> Result<Vec<ProgramHeader>, CoreError> {
    let not = |what: String| CoreError::NotACore {
        core: name.to_owned(),
        what,
    };
    let truncated = |what, needs: usize| CoreError::Truncated {
        core: name.to_owned(),
        what,
        needs: needs as u64,
        has: file.len() as u64,
    };
    if !file.starts_with(b"\x7fELF") {
        return Err(not("not an ELF file".to_owned()));
    }
    if file.len() < EHDR {
        return Err(truncated("ELF header", EHDR));
    }
    if (file.get(4), file.get(5)) != (Some(&2), Some(&1)) {
        return Err(not("not of a 64-bit x86 process".to_owned()));
    }
    let header = Elf::parse_header(file).map_err(|e| not(format!("no ELF header: {e}")))?;
    if header.e_type != ET_CORE {
        return Err(not(
            "a program or library; give the core file first, then its executable".to_owned(),
        ));
    }
    if header.e_machine != goblin::elf::header::EM_X86_64 {
        return Err(not("not of an x86-64 process".to_owned()));
    }
    let offset = usize::try_from(header.e_phoff).unwrap_or(usize::MAX);
    let count = if header.e_phnum == PN_XNUM {
        // fs/binfmt_elf.c: fill_extnum_info
        let at = usize::try_from(header.e_shoff).unwrap_or(usize::MAX);
        let info = at
            .checked_add(44)
            .filter(|_| at >= EHDR)
            .and_then(|at| file.get(at..)?.first_chunk());
        let info = info.ok_or_else(|| truncated("first section header", at.saturating_add(64)))?;
        u32::from_le_bytes(*info) as usize
    } else {
        usize::from(header.e_phnum)
    };
    let needs = count.saturating_mul(PHDR).saturating_add(offset);
    if count > MAX_SEGMENTS {
        return Err(not(format!("an ELF file with {count} segments")));
    }
    if needs > file.len() {
        return Err(truncated("table of segments", needs));
    }
    ProgramHeader::parse(file, offset, count, CTX)
        .map_err(|e| not(format!("an ELF file whose segments cannot be read: {e}")))
}

fn read_notes(file: &[u8], headers: &[ProgramHeader], name: &str) -> Result<Notes, CoreError> {
    let mut notes = Notes::default();
    for header in headers.iter().filter(|h| h.p_type == PT_NOTE) {
        let end = header.p_offset.saturating_add(header.p_filesz);
        if end > file.len() as u64 {
            return Err(CoreError::Truncated {
                core: name.to_owned(),
                what: "segment of notes",
                needs: end,
                has: file.len() as u64,
            });
        }
        let range = usize::try_from(header.p_offset)
            .ok()
            .zip(usize::try_from(end).ok());
        let bytes = range.and_then(|(from, to)| file.get(from..to));
        notes.add(bytes.unwrap_or_default());
    }
    notes.find_executable();
    if notes.threads.is_empty() {
        return Err(CoreError::NoNote {
            core: name.to_owned(),
            what: "NT_PRSTATUS",
        });
    }
    Ok(notes)
}

/// Where the executable is looked for.
fn executable(binary: Option<&Path>, notes: &Notes, core: &str) -> Result<PathBuf, CoreError> {
    match (binary, &notes.executable) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, Some(path)) => Ok(PathBuf::from(path)),
        (None, None) => Err(CoreError::NoBinary {
            core: core.to_owned(),
        }),
    }
}

fn pieces(headers: &[ProgramHeader]) -> Vec<Piece> {
    let loads = headers.iter().filter(|h| h.p_type == PT_LOAD);
    let mut pieces: Vec<Piece> = loads
        .map(|h| Piece {
            start: h.p_vaddr,
            memory: h.p_memsz.max(h.p_filesz),
            offset: h.p_offset,
            dumped: h.p_filesz,
            flags: h.p_flags,
        })
        .filter(|p| p.memory > 0)
        .collect();
    pieces.sort_by_key(|p| p.start);
    // Hostile overlaps: whoever begins first keeps its bytes.
    let mut free = 0;
    pieces.retain(|p| {
        let fits = p.start >= free;
        if fits {
            free = p.end();
        }
        fits
    });
    pieces
}
