//! `.debug_info` of a Go program, read where it is needed and no further.
//!
//! Who lives here: the list of compilation units ([`units`]), signatures of
//! functions ([`signature`]), variables in scope at a pc ([`scope`]) and where
//! they are ([`locate`]), line tables ([`lines`]; `table` where there are none), what is
//! inlined ([`bodies`]), package variables and constants ([`package`]), types by
//! DIE offset ([`types`]), Go's spelling of names ([`names`]). Allowed in: image, golang, value, probe, session, and tests
//! that want an oracle. Nobody here knows processes; every address is the file's.
//!
//! Opening reads one DIE a unit (a unit is a package). A function is found
//! through the unit named by its import path, else through the units' address
//! ranges; only that unit is walked, once. A type is read when it is asked for:
//! its [`TypeId`] is its offset in `.debug_info`. What grows with the file is
//! the decompressed `.debug_info` alone; an uncompressed one stays in the file.
//!
//! Go writes DWARF 4 up to 1.24 and DWARF 5 from 1.25 (cmd/link
//! internal/ld/dwarf.go); both are read the same way here.

mod bodies;
mod lines;
mod locate;
mod names;
mod package;
mod scope;
mod signature;
mod table;
mod types;
mod units;

#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gimli::{Abbreviations, DebugAbbrev, DebugInfoOffset, EndianSlice, LittleEndian, UnitOffset};

use crate::addr::ImageAddr;
use crate::image::types::{MapKind, Type, TypeId};

pub use bodies::{Body, StepMap, range_parent};
pub use lines::{FunctionLines, LinePlaces, LineRow};
pub use locate::{LocateError, MachineFrame, Part, Source};
pub use names::{package_of, short_type_name};
pub use package::{Constant, PackageName};
pub use scope::{Expression, Local, Role, ScopeFrame, ScopePc};
pub use signature::fits;

/// gimli's view of a section.
pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Who gives the sections of an ELF file, by name (`.debug_info`).
pub trait Sections {
    /// The section's bytes, decompressed; `None` when the file has none.
    /// Borrowed bytes are asked for again instead of being kept.
    fn section(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}

impl Sections for crate::image::Image {
    fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        Self::section(self, name)
    }
}

impl<T: Sections + ?Sized> Sections for Arc<T> {
    fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        (**self).section(name)
    }
}

/// The sections of a file that has none.
struct Nothing;

impl Sections for Nothing {
    fn section(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
}

/// Why the debug information could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DwarfError {
    /// A unit's header or first entry cannot be parsed.
    #[error("cannot parse .debug_info at {offset:#x}: {source}")]
    Unit {
        /// Offset in `.debug_info`.
        offset: u64,
        /// What gimli says.
        source: gimli::Error,
    },
    /// `.debug_info` without `.debug_abbrev`.
    #[error("the file has .debug_info but no .debug_abbrev")]
    NoAbbrev,
    /// More than the 4 GB that an offset of 32 bits reaches.
    #[error(".debug_info has {0} bytes, more than 32-bit offsets reach")]
    TooLarge(usize),
}

/// A package-level variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Where it lies.
    pub at: ImageAddr,
    /// Its type.
    pub ty: TypeId,
}

/// A section's bytes: kept when they had to be decompressed, else asked for
/// again so that they stay in the page cache.
enum Bytes {
    Absent,
    Lent,
    Kept(Vec<u8>),
}

/// The sections that are only needed for ranges and variables.
struct Lists {
    ranges: Bytes,
    rnglists: Bytes,
    loc: Bytes,
    loclists: Bytes,
}

/// The debug information of one ELF file.
pub struct Dwarf {
    sections: Box<dyn Sections + Send + Sync>,
    info: Bytes,
    abbrev: Bytes,
    addr: Bytes,
    str: OnceLock<Bytes>,
    lists: OnceLock<Lists>,
    line: OnceLock<Bytes>,
    abbreviations: Mutex<HashMap<usize, Arc<Abbreviations>>>,
    units: units::Units,
    index: OnceLock<types::Index>,
    by_rtype: OnceLock<Box<[(u64, u32)]>>,
    maps: OnceLock<MapKind>,
    loaded: Mutex<HashMap<TypeId, Arc<Type>>>,
}

impl std::fmt::Debug for Dwarf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dwarf")
            .field("units", &self.units.list.len())
            .finish_non_exhaustive()
    }
}

impl Dwarf {
    /// Opens the debug information; `Ok(None)` when the file has none.
    pub fn open(
        sections: impl Sections + Send + Sync + 'static,
    ) -> Result<Option<Dwarf>, DwarfError> {
        let sections: Box<dyn Sections + Send + Sync> = Box::new(sections);
        let info = keep(&*sections, ".debug_info");
        if matches!(info, Bytes::Absent) {
            return Ok(None);
        }
        let abbrev = keep(&*sections, ".debug_abbrev");
        if matches!(abbrev, Bytes::Absent) {
            return Err(DwarfError::NoAbbrev);
        }
        let addr = keep(&*sections, ".debug_addr");
        let mut dwarf = Dwarf::of(sections, info, abbrev, addr);
        let len = dwarf.bytes(&dwarf.info, ".debug_info").len();
        if u32::try_from(len).is_err() {
            return Err(DwarfError::TooLarge(len));
        }
        dwarf.units = dwarf.list_units()?;
        Ok(Some(dwarf))
    }

    /// Of a file that has none: it knows no function, variable or type.
    pub fn absent() -> Dwarf {
        Dwarf::of(
            Box::new(Nothing),
            Bytes::Absent,
            Bytes::Absent,
            Bytes::Absent,
        )
    }

    /// Nothing is parsed yet, and units are not listed.
    fn of(
        sections: Box<dyn Sections + Send + Sync>,
        info: Bytes,
        abbrev: Bytes,
        addr: Bytes,
    ) -> Dwarf {
        Dwarf {
            sections,
            info,
            abbrev,
            addr,
            str: OnceLock::new(),
            lists: OnceLock::new(),
            line: OnceLock::new(),
            abbreviations: Mutex::default(),
            units: units::Units::default(),
            index: OnceLock::new(),
            by_rtype: OnceLock::new(),
            maps: OnceLock::new(),
            loaded: Mutex::default(),
        }
    }

    /// The file has none.
    pub fn is_absent(&self) -> bool {
        matches!(self.info, Bytes::Absent)
    }

    /// Up to Go 1.21 the compiler leaves parameters named `_`, and unnamed ones,
    /// out of DWARF (seen in 1.18.10, 1.20.14, 1.21.13; not in 1.22.10): a
    /// signature may then be too short: [`fits`] tells.
    pub fn omits_blank_params(&self) -> bool {
        self.units.go_minor.is_some_and(|minor| minor < 22)
    }

    fn bytes<'a>(&'a self, held: &'a Bytes, name: &str) -> &'a [u8] {
        match held {
            Bytes::Kept(v) => v,
            Bytes::Absent => &[],
            Bytes::Lent => match self.sections.section(name) {
                Some(Cow::Borrowed(b)) => b,
                _ => &[],
            },
        }
    }

    fn info(&self) -> gimli::DebugInfo<Slice<'_>> {
        gimli::DebugInfo::new(self.bytes(&self.info, ".debug_info"), LittleEndian)
    }

    fn addr(&self) -> gimli::DebugAddr<Slice<'_>> {
        gimli::DebugAddr::from(EndianSlice::new(
            self.bytes(&self.addr, ".debug_addr"),
            LittleEndian,
        ))
    }

    fn lists(&self) -> &Lists {
        self.lists.get_or_init(|| Lists {
            ranges: keep(&*self.sections, ".debug_ranges"),
            rnglists: keep(&*self.sections, ".debug_rnglists"),
            loc: keep(&*self.sections, ".debug_loc"),
            loclists: keep(&*self.sections, ".debug_loclists"),
        })
    }

    fn range_lists(&self) -> gimli::RangeLists<Slice<'_>> {
        let lists = self.lists();
        let old = self.bytes(&lists.ranges, ".debug_ranges");
        let new = self.bytes(&lists.rnglists, ".debug_rnglists");
        gimli::RangeLists::new(
            gimli::DebugRanges::new(old, LittleEndian),
            gimli::DebugRngLists::new(new, LittleEndian),
        )
    }

    fn location_lists(&self) -> gimli::LocationLists<Slice<'_>> {
        let lists = self.lists();
        let old = self.bytes(&lists.loc, ".debug_loc");
        let new = self.bytes(&lists.loclists, ".debug_loclists");
        gimli::LocationLists::new(
            gimli::DebugLoc::new(old, LittleEndian),
            gimli::DebugLocLists::new(new, LittleEndian),
        )
    }

    /// Only C units keep their names there.
    fn str(&self) -> gimli::DebugStr<Slice<'_>> {
        let held = self.str.get_or_init(|| keep(&*self.sections, ".debug_str"));
        gimli::DebugStr::new(self.bytes(held, ".debug_str"), LittleEndian)
    }

    fn abbreviations(
        &self,
        header: &gimli::UnitHeader<Slice<'_>>,
    ) -> gimli::Result<Arc<Abbreviations>> {
        let at = header.debug_abbrev_offset();
        let mut cache = self
            .abbreviations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cache.get(&at.0) {
            return Ok(Arc::clone(known));
        }
        let section = DebugAbbrev::new(self.bytes(&self.abbrev, ".debug_abbrev"), LittleEndian);
        let parsed = Arc::new(section.abbreviations(at)?);
        cache.insert(at.0, Arc::clone(&parsed));
        Ok(parsed)
    }

    /// Where the DIE at an offset in `.debug_info` stands, to read from there on.
    fn find_die(&self, at: usize) -> Option<Die<'_>> {
        let unit = self.units.holding(at)?;
        let header = self
            .info()
            .header_from_offset(DebugInfoOffset(unit.start))
            .ok()?;
        let abbreviations = self.abbreviations(&header).ok()?;
        let offset = UnitOffset(at.checked_sub(unit.start)?);
        Some(Die {
            unit,
            header,
            abbreviations,
            offset,
        })
    }

    /// The text of an attribute that is a string; `None` for forms that Go and
    /// C compilers do not use for names.
    fn text<'a>(&'a self, value: &gimli::AttributeValue<Slice<'a>>) -> Option<Cow<'a, str>> {
        let raw = match value {
            gimli::AttributeValue::String(s) => *s,
            gimli::AttributeValue::DebugStrRef(at) => self.str().get_str(*at).ok()?,
            _ => return None,
        };
        Some(raw.to_string_lossy())
    }
}

/// A DIE and the unit that it is of.
struct Die<'a> {
    unit: &'a units::Unit,
    header: gimli::UnitHeader<Slice<'a>>,
    abbreviations: Arc<Abbreviations>,
    offset: UnitOffset,
}

impl<'a> Die<'a> {
    /// It and what follows it in its unit.
    fn entries(&self) -> Option<gimli::EntriesRaw<'_, Slice<'a>>> {
        self.header
            .entries_raw(&self.abbreviations, Some(self.offset))
            .ok()
    }
}

fn keep(sections: &(dyn Sections + Send + Sync), name: &str) -> Bytes {
    match sections.section(name) {
        None | Some(Cow::Borrowed([])) => Bytes::Absent,
        Some(Cow::Borrowed(_)) => Bytes::Lent,
        Some(Cow::Owned(v)) => Bytes::Kept(v),
    }
}
