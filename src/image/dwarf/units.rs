//! The compilation units, one a Go package, and finding the right one.

use std::sync::OnceLock;

use gimli::{AttributeValue, DebugAddrBase, DebugAddrIndex, DebugInfoOffset, Encoding};

use super::{Dwarf, DwarfError, Slice};
use crate::addr::ImageAddr;

/// A function: entry and DIE. Sorted by entry.
type Functions = Box<[(u64, u32)]>;

/// What is kept of a unit.
#[derive(Debug)]
pub(super) struct Unit {
    /// Offset of its header in `.debug_info`.
    pub(super) start: usize,
    /// Just after it.
    pub(super) end: usize,
    /// The import path.
    pub(super) name: Box<str>,
    /// The package's name where it is not the path's last element.
    pub(super) package: Option<Box<str>>,
    /// Written by the Go compiler (cgo links in others).
    pub(super) go: bool,
    /// What range and location lists count from.
    pub(super) low_pc: u64,
    ranges: Option<usize>,
    /// Offset of its table in `.debug_line`.
    pub(super) lines: Option<usize>,
    pub(super) addr_base: DebugAddrBase,
    pub(super) encoding: Encoding,
    functions: OnceLock<Functions>,
}

/// All units, by offset; and their order by name.
#[derive(Debug, Default)]
pub(super) struct Units {
    pub(super) list: Vec<Unit>,
    /// The compiler's version: 26 of "go1.26.8".
    pub(super) go_minor: Option<u32>,
    by_name: Vec<u32>,
    /// Address ranges: begin, end, unit. Sorted; built when first needed.
    ranges: OnceLock<Box<[(u64, u64, u32)]>>,
}

impl Units {
    fn new(list: Vec<Unit>, go_minor: Option<u32>) -> Units {
        let mut by_name: Vec<u32> = (0..list.len())
            .filter_map(|at| u32::try_from(at).ok())
            .collect();
        by_name.sort_by(|a, b| name_at(&list, *a).cmp(name_at(&list, *b)));
        Units {
            list,
            go_minor,
            by_name,
            ranges: OnceLock::new(),
        }
    }

    /// The units of a package: Go's own first, then those of its assembly files.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Unit> {
        let from = self
            .by_name
            .partition_point(|at| name_at(&self.list, *at) < name);
        self.by_name
            .get(from..)
            .unwrap_or_default()
            .iter()
            .map_while(move |at| self.list.get(*at as usize).filter(|u| &*u.name == name))
            .filter(|unit| unit.go)
    }

    /// The unit that an offset of `.debug_info` lies in.
    pub(super) fn holding(&self, offset: usize) -> Option<&Unit> {
        let after = self.list.partition_point(|unit| unit.start <= offset);
        self.list
            .get(after.checked_sub(1)?)
            .filter(|unit| offset < unit.end)
    }
}

fn name_at(list: &[Unit], at: u32) -> &str {
    list.get(at as usize).map_or("", |unit| &unit.name)
}

impl Dwarf {
    /// Reads the first DIE of each unit.
    pub(super) fn list_units(&self) -> Result<Units, DwarfError> {
        let info = self.info();
        let mut list = Vec::new();
        let mut headers = info.units();
        let mut offset = 0;
        let mut go_minor = None;
        loop {
            let failed = |source| DwarfError::Unit {
                offset: offset as u64,
                source,
            };
            let Some(header) = headers.next().map_err(failed)? else {
                break;
            };
            let Some(start) = header.debug_info_offset() else {
                continue;
            };
            offset = start.0;
            let failed = |source| DwarfError::Unit {
                offset: start.0 as u64,
                source,
            };
            list.push(
                self.read_unit(&header, start.0, &mut go_minor)
                    .map_err(failed)?,
            );
        }
        Ok(Units::new(list, go_minor))
    }

    fn read_unit(
        &self,
        header: &gimli::UnitHeader<Slice<'_>>,
        start: usize,
        go_minor: &mut Option<u32>,
    ) -> gimli::Result<Unit> {
        let abbreviations = self.abbreviations(header)?;
        let mut unit = Unit {
            start,
            end: start.saturating_add(header.length_including_self()),
            name: Box::default(),
            package: None,
            go: false,
            low_pc: 0,
            ranges: None,
            lines: None,
            addr_base: DebugAddrBase(0),
            encoding: header.encoding(),
            functions: OnceLock::new(),
        };
        let mut low_pc = None;
        let mut entries = header.entries_raw(&abbreviations, None)?;
        let Some(abbreviation) = entries.read_abbreviation()? else {
            return Ok(unit);
        };
        for spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(*spec)?;
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_name, value) => {
                    unit.name = self.text(&value).unwrap_or_default().into();
                }
                (gimli::DW_AT_language, AttributeValue::Language(language)) => {
                    unit.go = language == gimli::DW_LANG_Go;
                }
                (gimli::DW_AT_low_pc, value) => low_pc = Some(value),
                (gimli::DW_AT_ranges, AttributeValue::RangeListsRef(at)) => {
                    unit.ranges = Some(at.0);
                }
                (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(at)) => {
                    unit.lines = Some(at.0);
                }
                (gimli::DW_AT_addr_base, AttributeValue::DebugAddrBase(base)) => {
                    unit.addr_base = base;
                }
                (gimli::DW_AT_producer, value) if go_minor.is_none() => {
                    *go_minor = self.text(&value).and_then(|text| minor_of(&text));
                }
                (GO_PACKAGE_NAME, value) => {
                    unit.package = self.text(&value).map(Into::into);
                }
                _ => {}
            }
        }
        let last = unit.name.rsplit('/').next().unwrap_or("");
        if unit.package.as_deref() == Some(last) || unit.package.as_deref() == Some("") {
            unit.package = None;
        }
        unit.low_pc = low_pc.and_then(|v| self.address(&unit, &v)).unwrap_or(0);
        Ok(unit)
    }

    /// An attribute that is an address, direct (DWARF 4) or by index (5).
    pub(super) fn address(&self, unit: &Unit, value: &AttributeValue<Slice<'_>>) -> Option<u64> {
        match value {
            AttributeValue::Addr(at) => Some(*at),
            AttributeValue::DebugAddrIndex(index) => self
                .addr()
                .get_address(
                    unit.encoding.address_size,
                    unit.addr_base,
                    DebugAddrIndex(index.0),
                )
                .ok(),
            _ => None,
        }
    }

    /// The DIE of the function that begins at `entry`.
    pub(super) fn find_function(&self, name: &str, entry: ImageAddr) -> Option<u32> {
        let find = |unit: &Unit| {
            let functions = self.functions(unit);
            let at = functions.binary_search_by_key(&entry.0, |f| f.0).ok()?;
            functions.get(at).map(|f| f.1)
        };
        self.units
            .named(super::names::package_of(name))
            .find_map(find)
            .or_else(|| find(self.unit_at(entry)?))
    }

    /// Instances of generic functions may lie in the unit that uses them.
    fn unit_at(&self, entry: ImageAddr) -> Option<&Unit> {
        let ranges = self.units.ranges.get_or_init(|| self.list_ranges());
        let after = ranges.partition_point(|range| range.0 <= entry.0);
        let (_, end, unit) = ranges.get(after.checked_sub(1)?)?;
        (entry.0 < *end).then(|| self.units.list.get(*unit as usize))?
    }

    fn list_ranges(&self) -> Box<[(u64, u64, u32)]> {
        let lists = self.range_lists();
        let mut out = Vec::new();
        for (at, unit) in (0_u32..).zip(&self.units.list) {
            let (Some(offset), true) = (unit.ranges, unit.go) else {
                continue;
            };
            let Ok(mut ranges) = lists.ranges(
                gimli::RangeListsOffset(offset),
                unit.encoding,
                unit.low_pc,
                &self.addr(),
                unit.addr_base,
            ) else {
                continue;
            };
            while let Ok(Some(range)) = ranges.next() {
                out.push((range.begin, range.end, at));
            }
        }
        out.sort_unstable();
        out.into_boxed_slice()
    }

    fn functions<'a>(&self, unit: &'a Unit) -> &'a [(u64, u32)] {
        unit.functions.get_or_init(|| {
            let mut out = Vec::new();
            // What was read before a broken entry is still good.
            let _ = self.walk_top(unit, |offset, tag, attributes| {
                if tag == gimli::DW_TAG_subprogram {
                    let low = attributes.iter().find(|a| a.name() == gimli::DW_AT_low_pc);
                    if let Some(entry) = low.and_then(|a| self.address(unit, &a.value())) {
                        out.push((entry, offset));
                    }
                }
                true
            });
            out.sort_unstable();
            out.into_boxed_slice()
        })
    }

    /// Shows the children of a unit's first DIE to `see` until it says false:
    /// offset in `.debug_info`, tag, attributes.
    pub(super) fn walk_top<'a>(
        &'a self,
        unit: &Unit,
        mut see: impl FnMut(u32, gimli::DwTag, &[gimli::Attribute<Slice<'a>>]) -> bool,
    ) -> gimli::Result<()> {
        let header = self
            .info()
            .header_from_offset(DebugInfoOffset(unit.start))?;
        let abbreviations = self.abbreviations(&header)?;
        let mut entries = header.entries_raw(&abbreviations, None)?;
        let mut attributes = Vec::with_capacity(16);
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let offset = unit.start.saturating_add(entries.next_offset().0);
            let Some(abbreviation) = entries.read_abbreviation()? else {
                if entries.next_depth() <= 0 {
                    break;
                }
                continue;
            };
            if depth != 1 {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            attributes.clear();
            entries.read_attributes(abbreviation.attributes(), &mut attributes)?;
            let Ok(offset) = u32::try_from(offset) else {
                break;
            };
            if !see(offset, abbreviation.tag(), &attributes) {
                break;
            }
        }
        Ok(())
    }
}

/// `Go cmd/compile go1.26.8; regabi` → 26.
fn minor_of(producer: &str) -> Option<u32> {
    let (_, version) = producer.split_once("go1.")?;
    let end = version.find(|c: char| !c.is_ascii_digit());
    version.get(..end.unwrap_or(version.len()))?.parse().ok()
}

/// `DW_AT_go_package_name` (cmd/internal/dwarf/dwarf.go, Go 1.15 and later).
const GO_PACKAGE_NAME: gimli::DwAt = gimli::DwAt(0x2905);
