//! The runtime's description of a program: `runtime.moduledata`
//! (runtime/symtab.go), read out of the file.
//!
//! Nothing names it in a stripped file, but its first two words are pointers
//! into the function table that occur so nowhere else.

use super::elf::Elf;
use super::goversion::GoVersion;
use super::pclntab::Pclntab;
use super::relocations::{ImageMemory, Relocations};
use crate::addr::{ImageAddr, LiveAddr};
use crate::memory::Memory;

/// A half-open range of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AddrRange {
    /// Its first byte.
    pub start: ImageAddr,
    /// The byte after its last.
    pub end: ImageAddr,
}

impl AddrRange {
    /// True when `at` lies in it.
    pub fn contains(&self, at: ImageAddr) -> bool {
        self.start <= at && at < self.end
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// True for a range of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A Go slice in the program's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SliceAt {
    /// Its first element.
    pub start: ImageAddr,
    /// Elements.
    pub len: u64,
}

/// `runtime.moduledata` of a program, in the file's addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleData {
    /// Where it lies.
    pub at: ImageAddr,
    /// The function table (`pcHeader`).
    pub pclntab: ImageAddr,
    /// `findfunctab`
    pub findfunctab: ImageAddr,
    /// `text`, `etext`: all code; offsets of functions count from its start.
    pub text: AddrRange,
    /// `minpc`, `maxpc`: first function, end of the last.
    pub pcs: AddrRange,
    /// `noptrdata`, `enoptrdata`
    pub noptrdata: AddrRange,
    /// `data`, `edata`
    pub data: AddrRange,
    /// `bss`, `ebss`
    pub bss: AddrRange,
    /// `noptrbss`, `enoptrbss`
    pub noptrbss: AddrRange,
    /// `types`, `etypes`: offsets of types and names count from its start.
    pub types: AddrRange,
    /// From Go 1.27 on: bytes of type descriptors at the start of `types`.
    pub typedesc_len: Option<u64>,
    /// From Go 1.27 on: where the itabs lie, in bytes from `types`, and how many bytes.
    pub itabs: Option<AddrRange>,
    /// `rodata`
    pub rodata: ImageAddr,
    /// `gofunc`: offsets of FUNCDATA count from here.
    pub gofunc: ImageAddr,
    /// `typelinks` (`[]int32`, offsets from `types`); until Go 1.26.
    pub typelinks: Option<SliceAt>,
    /// `itablinks` (`[]*itab`); until Go 1.26.
    pub itablinks: Option<SliceAt>,
    /// Where the pointer to the next module (plugins) lies.
    pub next_at: ImageAddr,
    /// The table of offsets that fitted: the first Go minor it is known from.
    pub layout_since: u32,
}

/// Offsets that differ between versions; the fields up to `enoptrbss` at 248
/// are constant from Go 1.18 to 1.27.
struct Offsets {
    /// First minor version with them.
    since: u32,
    types: u64,
    etypes: u64,
    typedesc_len: Option<u64>,
    itabs: Option<u64>,
    rodata: u64,
    gofunc: u64,
    typelinks: Option<u64>,
    itablinks: Option<u64>,
    next: u64,
}

/// Newest first. From runtime/symtab.go of each version.
const LAYOUTS: [Offsets; 6] = [
    Offsets {
        since: 27,
        types: 296,
        typedesc_len: Some(304),
        etypes: 312,
        itabs: Some(320),
        rodata: 336,
        gofunc: 344,
        typelinks: None,
        itablinks: None,
        next: 560,
    },
    offsets(26, 296, 360, 584),
    offsets(23, 296, 352, 576),
    offsets(21, 296, 352, 584),
    offsets(20, 296, 352, 560),
    offsets(18, 280, 336, 544),
];

const fn offsets(since: u32, types: u64, typelinks: u64, next: u64) -> Offsets {
    Offsets {
        since,
        types,
        etypes: types + 8,
        typedesc_len: None,
        itabs: None,
        rodata: types + 16,
        gofunc: types + 24,
        typelinks: Some(typelinks),
        itablinks: Some(typelinks + 24),
        next,
    }
}

/// Finds and reads the module data that belongs to this function table.
pub(crate) fn find(
    elf: &Elf,
    relocations: &Relocations,
    tab: &Pclntab,
    version: &GoVersion,
) -> Option<ModuleData> {
    let memory = ImageMemory { elf, relocations };
    let module = |at: ImageAddr| {
        let names = tab.at.offset(tab.names.start as u64).0;
        let word = |skip| memory.read_u64(LiveAddr(at.offset(skip).0)).ok();
        if word(0)? != tab.at.0 || word(8)? != names {
            return None;
        }
        read(&memory, tab, at, version)
    };
    // Go 1.26 and later name its section.
    if let Some(found) = elf
        .section_header(".go.module")
        .and_then(|s| module(s.addr))
    {
        return Some(found);
    }
    let pointer = tab.at.0.to_le_bytes();
    for segment in elf.segments.iter().filter(|s| s.writable) {
        let bytes = elf.segment_bytes(segment).unwrap_or_default();
        let found = bytes
            .chunks_exact(8)
            .zip(0u64..)
            .filter(|(word, _)| *word == pointer)
            .find_map(|(_, n)| module(segment.vaddr.offset(n * 8)));
        if found.is_some() {
            return found;
        }
    }
    if relocations.needed() {
        return relocations.places_of(elf, tab.at.0).find_map(module);
    }
    None
}

/// Reads it with the offsets of the program's Go version, or with the first
/// others whose values hold together: vendors' version names can mislead.
fn read(
    memory: &ImageMemory<'_>,
    tab: &Pclntab,
    at: ImageAddr,
    version: &GoVersion,
) -> Option<ModuleData> {
    let known = version.minor();
    let own = LAYOUTS
        .iter()
        .find(|l| known.is_some_and(|minor| minor >= l.since));
    own.into_iter()
        .chain(LAYOUTS.iter())
        .filter_map(|layout| read_as(memory, tab, at, layout))
        .find(|module| module.holds_together(memory))
}

fn read_as(
    memory: &ImageMemory<'_>,
    tab: &Pclntab,
    at: ImageAddr,
    layout: &Offsets,
) -> Option<ModuleData> {
    let word = |skip| memory.read_u64(LiveAddr(at.offset(skip).0)).ok();
    let place = |skip| word(skip).map(ImageAddr);
    let range = |skip| {
        Some(AddrRange {
            start: place(skip)?,
            end: place(skip + 8)?,
        })
    };
    let slice = |skip: Option<u64>| {
        let skip = skip?;
        Some(SliceAt {
            start: place(skip)?,
            len: word(skip + 8)?,
        })
    };
    let types = AddrRange {
        start: place(layout.types)?,
        end: place(layout.etypes)?,
    };
    let itabs = layout.itabs.and_then(|skip| {
        let start = types.start.offset(word(skip)?);
        Some(AddrRange {
            start,
            end: start.offset(word(skip + 8)?),
        })
    });
    Some(ModuleData {
        at,
        pclntab: tab.at,
        findfunctab: place(152)?,
        pcs: range(160)?,
        text: range(176)?,
        noptrdata: range(192)?,
        data: range(208)?,
        bss: range(224)?,
        noptrbss: range(240)?,
        types,
        typedesc_len: layout.typedesc_len.and_then(word),
        itabs,
        rodata: place(layout.rodata)?,
        gofunc: place(layout.gofunc)?,
        typelinks: slice(layout.typelinks),
        itablinks: slice(layout.itablinks),
        next_at: at.offset(layout.next),
        layout_since: layout.since,
    })
}

impl ModuleData {
    fn holds_together(&self, memory: &ImageMemory<'_>) -> bool {
        let mapped = |at: ImageAddr| memory.elf.tail(at).is_some();
        let ordered = [
            self.text,
            self.pcs,
            self.noptrdata,
            self.data,
            self.bss,
            self.noptrbss,
            self.types,
        ]
        .iter()
        .all(|r| r.start <= r.end);
        let code = self.text.start <= self.pcs.start && !self.text.is_empty();
        let tables = mapped(self.types.start)
            && self.types.len() > 64
            && mapped(self.rodata)
            && mapped(self.gofunc)
            && mapped(self.text.start);
        let links = self.links_fit(memory);
        ordered && code && tables && links
    }

    /// What tells the layouts apart after `gofunc`: links that are offsets
    /// into `types`, or itabs and descriptors inside it.
    fn links_fit(&self, memory: &ImageMemory<'_>) -> bool {
        if let Some(itabs) = self.itabs {
            return self.typedesc_len.is_some_and(|n| n <= self.types.len())
                && itabs.start >= self.types.start
                && itabs.start <= itabs.end
                && itabs.end <= self.types.end;
        }
        let Some(links) = self.typelinks else {
            return false;
        };
        if links.len == 0 || links.len > self.types.len() {
            return false;
        }
        (0..links.len.min(8)).all(|n| {
            let at = LiveAddr(links.start.offset(n * 4).0);
            memory
                .read_u32(at)
                .is_ok_and(|offset| u64::from(offset) < self.types.len())
        })
    }
}
