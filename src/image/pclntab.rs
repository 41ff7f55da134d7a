//! Finding Go's function table and checking its header.
//!
//! The format is the linker's (cmd/link/internal/ld/pcln.go) and the
//! runtime's (runtime/symtab.go: pcHeader). A section's name is only a hint:
//! position independent and foreign linkers put the table elsewhere.

use std::ops::Range;

use super::bytes::{array_at, index_at, u8_at, u32_at};
use super::elf::Elf;
use crate::addr::ImageAddr;

/// `runtime.pcHeader.magic` of Go 1.18 and 1.19.
const MAGIC_118: u32 = 0xffff_fff0;
/// Go 1.20 and later (unchanged up to 1.27).
const MAGIC_120: u32 = 0xffff_fff1;
/// Go 1.16 and 1.17.
const MAGIC_116: u32 = 0xffff_fffa;
/// Go 1.2 to 1.15.
const MAGIC_12: u32 = 0xffff_fffb;

/// Headers are 8-aligned in every version (32 until 1.25, 16 in 1.26, 8 in 1.27).
const STEP: usize = 8;
/// The header's bytes before the offsets that follow are trusted: magic, pad,
/// quantum, pointer size, seven words.
const HEADER: usize = 72;
/// More functions than any program has (the largest seen has 546 thousand).
const MAX_FUNCTIONS: usize = 1 << 24;

/// Which form `_func` and the inline records have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// Go 1.18 and 1.19: no startLine, inline records of 20 bytes.
    Go118,
    /// Go 1.20 and later.
    Go120,
}

impl Layout {
    /// Offset of `_func.funcID`; flag, padding and nfuncdata follow it
    /// (runtime/runtime2.go: _func).
    pub(crate) fn func_id_at(self) -> usize {
        match self {
            Self::Go118 => 36,
            Self::Go120 => 40,
        }
    }
}

/// A function table whose header has been checked. Ranges are relative to
/// the table's start.
#[derive(Clone, Debug)]
pub(crate) struct Pclntab {
    pub(crate) at: ImageAddr,
    /// Where the table lies in the file; it ends with its segment.
    pub(crate) file: Range<usize>,
    pub(crate) layout: Layout,
    pub(crate) functions: usize,
    pub(crate) names: Range<usize>,
    pub(crate) cutab: Range<usize>,
    pub(crate) files: Range<usize>,
    pub(crate) pcvalues: Range<usize>,
    pub(crate) funcs: usize,
}

/// What the bytes at a place look like.
#[derive(Debug)]
pub(crate) enum Candidate {
    /// A table that can be read.
    Table(Pclntab),
    /// A table of a Go older than 1.18: the versions that write it.
    Old(&'static str),
}

/// Every table of the file, likeliest first: where a section says, then
/// wherever a segment holds a header that passes all checks.
pub(crate) fn find_tables(elf: &Elf) -> Vec<Candidate> {
    let named = [".gopclntab", ".data.rel.ro.gopclntab"];
    let hinted: Vec<Candidate> = named
        .iter()
        .filter_map(|name| elf.section_header(name))
        .filter_map(|section| {
            let start = usize::try_from(section.offset).ok()?;
            parse(elf, start, section.addr)
        })
        .collect();
    if hinted.is_empty() { scan(elf) } else { hinted }
}

/// Looks through all segments; needed where no section names the table.
pub(crate) fn scan(elf: &Elf) -> Vec<Candidate> {
    let mut found = Vec::new();
    // Old linkers put read-only data into the code's segment.
    let mut segments: Vec<_> = elf.segments.iter().collect();
    segments.sort_by_key(|s| s.executable);
    for segment in segments {
        let (Some(bytes), Ok(offset)) =
            (elf.segment_bytes(segment), usize::try_from(segment.offset))
        else {
            continue;
        };
        // Candidates are 8-aligned by address; segments begin so too.
        for (n, word) in bytes.chunks_exact(STEP).enumerate() {
            let [a, 0xff, 0xff, 0xff, 0, 0, 1, 8] = *word else {
                continue;
            };
            if !matches!(a, 0xf0 | 0xf1 | 0xfa | 0xfb) {
                continue;
            }
            let skip = n * STEP;
            let at = segment.vaddr.offset(skip as u64);
            found.extend(parse(elf, offset + skip, at));
        }
    }
    found
}

/// Reads and checks the header at `start` in the file, mapped at `at`.
fn parse(elf: &Elf, start: usize, at: ImageAddr) -> Option<Candidate> {
    let room = elf.tail(at)?.len();
    let file = start..start.checked_add(room)?;
    let data = elf.data().get(file.clone())?;
    // minLC is 1 on amd64; the pointer size is 8.
    if array_at(data, 4)? != [0, 0, 1, 8] {
        return None;
    }
    let functions = index_at(data, 8)?;
    let files = index_at(data, 16)?;
    if functions == 0 || functions > MAX_FUNCTIONS || files > MAX_FUNCTIONS {
        return None;
    }
    let layout = match u32_at(data, 0)? {
        MAGIC_118 => Layout::Go118,
        MAGIC_120 => Layout::Go120,
        MAGIC_116 => return Some(Candidate::Old("1.16 or 1.17")),
        MAGIC_12 => return Some(Candidate::Old("1.15 or older")),
        _ => return None,
    };
    // The word at 24, textStart, is 0 from Go 1.26 on: moduledata tells instead.
    let (names, cutab, files) = (
        index_at(data, 32)?,
        index_at(data, 40)?,
        index_at(data, 48)?,
    );
    let (pcvalues, funcs) = (index_at(data, 56)?, index_at(data, 64)?);
    let table = Pclntab {
        at,
        layout,
        functions,
        names: names..cutab,
        cutab: cutab..files,
        files: files..pcvalues,
        pcvalues: pcvalues..funcs,
        funcs,
        file,
    };
    table.check(data).then_some(Candidate::Table(table))
}

impl Pclntab {
    /// The parts follow one another, the table of functions fits, its first
    /// entries ascend and the first function has a name.
    fn check(&self, data: &[u8]) -> bool {
        let starts = [
            HEADER,
            self.names.start,
            self.cutab.start,
            self.files.start,
            self.pcvalues.start,
            self.funcs,
        ];
        let ascending = starts.windows(2).all(|w| w.first() <= w.last());
        let near = self.names.start <= 0x100;
        let ftab_end = self
            .functions
            .checked_mul(8)
            .and_then(|n| n.checked_add(self.funcs)?.checked_add(4));
        let fits = ftab_end.is_some_and(|end| end <= data.len());
        let entry = |n: usize| u32_at(data, self.funcs.checked_add(n.checked_mul(8)?)?);
        let sorted = match (entry(0), entry(1), entry(self.functions)) {
            (Some(first), Some(second), Some(end)) => first <= second && second <= end,
            _ => false,
        };
        ascending && near && fits && sorted && u8_at(data, self.names.start).is_some()
    }
}
