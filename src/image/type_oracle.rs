//! For tests: Go programs built now, and what their DWARF says of types and
//! functions. An independent reader of the same facts, slow and simple.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use gimli::{AttributeValue, Reader as _, RunTimeEndian};
use object::{Object, ObjectSection, ObjectSegment};

use crate::addr::LiveAddr;
use crate::arch::abi::{Piece, Reg, Shape};
use crate::image::rtti::{TypeList, TypeSection};
use crate::memory::{Memory, Patchwork};

type R = gimli::EndianArcSlice<RunTimeEndian>;
type Entry<'a> = gimli::DebuggingInformationEntry<R>;

/// Builds `testdata/types` with the machine's Go (`GOTAP_TEST_GO` names another
/// toolchain) into the target folder, once a run, and gives the file.
pub(crate) fn build(name: &str, flags: &[&str]) -> PathBuf {
    static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let go = std::env::var("GOTAP_TEST_GO").unwrap_or_else(|_| "local".into());
    let tests = std::env::current_exe().expect("this test's file");
    let target = tests.ancestors().nth(2).expect("target/debug");
    let folder = target.join("types-fixtures").join(&go);
    let out = folder.join(name);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.insert(out.clone()) {
        std::fs::create_dir_all(&folder).expect("a folder for the fixture");
        // Another run may be reading the file of this name.
        let partial = folder.join(format!("{name}.{}", std::process::id()));
        let done = Command::new("go")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/types"))
            .env("GOTOOLCHAIN", &go)
            .arg("build")
            .args(flags)
            .arg("-o")
            .arg(&partial)
            .arg(".")
            .output()
            .expect("go must be installed: apt-get install golang-go");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        std::fs::rename(&partial, &out).expect("the fixture was built");
    }
    out
}

/// A file's bytes at the addresses of its segments, PIE relocations applied.
pub(crate) fn memory(path: &Path) -> Patchwork {
    let data = std::fs::read(path).expect("the fixture");
    let file = object::File::parse(&*data).expect("an ELF file");
    let mut pieces: Vec<(LiveAddr, Vec<u8>)> = file
        .segments()
        .map(|s| (LiveAddr(s.address()), s.data().expect("segment").to_vec()))
        .collect();
    for (at, relocation) in file.dynamic_relocations().into_iter().flatten() {
        let relative = object::RelocationFlags::Elf {
            r_type: object::elf::R_X86_64_RELATIVE,
        };
        if relocation.flags() != relative {
            continue;
        }
        for (start, bytes) in &mut pieces {
            let place = at
                .checked_sub(start.0)
                .and_then(|o| usize::try_from(o).ok());
            if let Some(word) = place.and_then(|o| bytes.get_mut(o..o + 8)) {
                word.copy_from_slice(&relocation.addend().to_le_bytes());
            }
        }
    }
    Patchwork { pieces }
}

/// Finds the moduledata by scanning for a pointer to the pclntab (a shortcut
/// that serves the toolchains of the tests).
pub(crate) fn section(memory: &Patchwork, minor: u32) -> TypeSection {
    let magic: &[u8] = if minor < 20 {
        b"\xf0\xff\xff\xff\0\0\x01\x08"
    } else {
        b"\xf1\xff\xff\xff\0\0\x01\x08"
    };
    let words = |(start, bytes): &(LiveAddr, Vec<u8>)| {
        let start = start.0;
        (start..).step_by(8).zip(bytes.as_chunks::<8>().0.to_vec())
    };
    let tables: Vec<u64> = memory
        .pieces
        .iter()
        .flat_map(words)
        .filter(|(_, word)| word == magic)
        .map(|(at, _)| at)
        .collect();
    let read = |at| memory.read_u64(LiveAddr(at)).unwrap_or(0);
    let module = memory
        .pieces
        .iter()
        .flat_map(words)
        .map(|(at, word)| (at, u64::from_le_bytes(word)))
        .filter(|(_, table)| tables.contains(table))
        .find(|(at, table)| {
            let names = read(table + 32);
            names != 0 && read(at + 8) == table + names
        })
        .expect("a moduledata")
        .0;
    let old = minor < 20;
    let links = match minor {
        ..20 => 336,
        20..26 => 352,
        _ => 360,
    };
    TypeSection {
        types: LiveAddr(read(module + if old { 280 } else { 296 })),
        etypes: LiveAddr(read(
            module
                + if old {
                    288
                } else if minor >= 27 {
                    312
                } else {
                    304
                },
        )),
        text: LiveAddr(read(module + 176)),
        etext: LiveAddr(read(module + 184)),
        list: if minor >= 27 {
            TypeList::Descriptors {
                len: read(module + 304),
            }
        } else {
            TypeList::Links {
                at: LiveAddr(read(module + links)),
                count: read(module + links + 8),
            }
        },
        doubled_offsets: minor < 19,
    }
}

/// The minor version of the Go that builds the fixtures.
pub(crate) fn minor() -> u32 {
    let go = std::env::var("GOTAP_TEST_GO").unwrap_or_else(|_| "local".into());
    let out = Command::new("go")
        .env("GOTOOLCHAIN", go)
        .args(["env", "GOVERSION"])
        .output();
    let text = String::from_utf8(out.expect("go").stdout).expect("a version");
    let minor = text.trim().split('.').nth(1).expect("go1.N");
    minor.parse().expect("a number")
}

/// What DWARF says.
pub(crate) struct Oracle {
    dwarf: gimli::Dwarf<R>,
    units: Vec<gimli::Unit<R>>,
    shapes: RefCell<HashMap<gimli::DebugInfoOffset, Option<(Shape, String)>>>,
}

/// A parameter or result.
#[derive(Debug, Clone)]
pub(crate) struct Formal {
    pub(crate) name: String,
    pub(crate) result: bool,
    pub(crate) shape: Shape,
    /// Where it is at the function's entry, if DWARF says and in registers.
    pub(crate) entry: Option<Vec<Piece>>,
    /// Or on the stack there: bytes from the frame base (CFA).
    pub(crate) stack: Option<i64>,
}

/// A function.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) entry: u64,
    pub(crate) formals: Vec<Formal>,
}

/// A struct type: size, and fields with offsets and type names.
pub(crate) type Struct = (u64, Vec<(String, u64)>);

impl Oracle {
    pub(crate) fn open(path: &Path) -> Self {
        let data = std::fs::read(path).expect("the fixture");
        let file = object::File::parse(&*data).expect("an ELF file");
        let load = |id: gimli::SectionId| -> Result<R, gimli::Error> {
            let data = file
                .section_by_name(id.name())
                .and_then(|s| s.uncompressed_data().ok());
            let bytes: Arc<[u8]> = Arc::from(data.unwrap_or_default().as_ref());
            Ok(R::new(bytes, RunTimeEndian::Little))
        };
        let dwarf = gimli::Dwarf::load(load).expect("DWARF");
        let mut units = Vec::new();
        let mut headers = dwarf.units();
        while let Some(header) = headers.next().expect("unit") {
            units.push(dwarf.unit(header).expect("unit"));
        }
        Self {
            dwarf,
            units,
            shapes: RefCell::default(),
        }
    }

    fn each(&self, mut then: impl FnMut(&gimli::Unit<R>)) {
        self.units.iter().for_each(&mut then);
    }

    fn name(&self, unit: &gimli::Unit<R>, entry: &Entry<'_>) -> Option<String> {
        let value = entry.attr_value(gimli::DW_AT_name)?;
        let text = self.dwarf.attr_string(unit, value).ok()?;
        Some(text.to_string_lossy().ok()?.into_owned())
    }

    /// All struct types by name.
    pub(crate) fn structs(&self) -> HashMap<String, Struct> {
        let mut found = HashMap::new();
        self.each(|unit| {
            let mut tree = unit.entries_tree(None).expect("tree");
            let mut children = tree.root().expect("root").children();
            while let Some(node) = children.next().expect("child") {
                let entry = node.entry();
                let kind = entry
                    .attr_value(gimli::DwAt(0x2900))
                    .and_then(|v| v.udata_value());
                if entry.tag() != gimli::DW_TAG_structure_type || kind != Some(25) {
                    continue;
                }
                let name = self.name(unit, entry).unwrap_or_default();
                let size = entry
                    .attr_value(gimli::DW_AT_byte_size)
                    .and_then(|v| v.udata_value());
                let mut fields = Vec::new();
                let mut members = node.children();
                while let Some(member) = members.next().expect("member") {
                    let member = member.entry();
                    let offset = member
                        .attr_value(gimli::DW_AT_data_member_location)
                        .and_then(|v| v.udata_value());
                    fields.push((
                        self.name(unit, member).unwrap_or_default(),
                        offset.unwrap_or(0),
                    ));
                }
                found.insert(name, (size.unwrap_or(0), fields));
            }
        });
        found
    }

    /// All functions that have code and parameters or results.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        self.each(|unit| {
            let mut tree = unit.entries_tree(None).expect("tree");
            let mut children = tree.root().expect("root").children();
            while let Some(node) = children.next().expect("child") {
                if node.entry().tag() != gimli::DW_TAG_subprogram {
                    continue;
                }
                found.extend(self.function(unit, node));
            }
        });
        found
    }

    fn function(
        &self,
        unit: &gimli::Unit<R>,
        node: gimli::EntriesTreeNode<'_, '_, R>,
    ) -> Option<Function> {
        let entry = node.entry();
        let low = entry.attr_value(gimli::DW_AT_low_pc)?;
        let low = self.dwarf.attr_address(unit, low).ok()??;
        let name = self.through(unit, entry, |u, e| self.name(u, e))?;
        let mut formals = Vec::new();
        let mut children = node.children();
        while let Some(child) = children.next().expect("child") {
            let child = child.entry();
            if child.tag() != gimli::DW_TAG_formal_parameter {
                continue;
            }
            let formal = self.formal(unit, child, low)?;
            // A result of a function that defers is there twice.
            let again = |f: &Formal| formal.result && f.result && f.name == formal.name;
            if formal.name == "_" || !formals.iter().any(again) {
                formals.push(formal);
            }
        }
        // The dictionary of a generic instance is left out.
        if let Some(place) = crate::image::signature::dictionary_place(&name)
            && !formals.iter().any(|f| f.name == ".dict")
        {
            let dictionary = Formal {
                name: ".dict".into(),
                result: false,
                shape: Shape::pointer(),
                entry: None,
                stack: None,
            };
            formals.insert(place.min(formals.len()), dictionary);
        }
        Some(Function {
            name,
            entry: low,
            formals,
        })
    }

    fn formal(&self, unit: &gimli::Unit<R>, entry: &Entry<'_>, low: u64) -> Option<Formal> {
        let name = self
            .through(unit, entry, |u, e| self.name(u, e))
            .unwrap_or_default();
        let result = self.through(unit, entry, |_, e| {
            match e.attr_value(gimli::DW_AT_variable_parameter)? {
                AttributeValue::Flag(flag) => Some(flag),
                _ => None,
            }
        });
        let at = self.through(unit, entry, |u, e| Self::reference(u, e, gimli::DW_AT_type))?;
        let shape = self.shape(at, 0)?.0;
        let (mut pieces, mut stack) = (None, None);
        if let Some(value) = entry.attr_value(gimli::DW_AT_location) {
            let expression = match value {
                AttributeValue::Exprloc(e) => Some(e),
                other => {
                    let mut list = self.dwarf.attr_locations(unit, other).ok()??;
                    let mut first = None;
                    while let Some(range) = list.next().ok()? {
                        if (range.range.begin..range.range.end).contains(&low) {
                            first = Some(range.data);
                            break;
                        }
                    }
                    first
                }
            };
            if let Some(expression) = expression {
                (pieces, stack) = place(expression, unit.encoding(), shape.size());
            }
        }
        let result = result.unwrap_or(false);
        Some(Formal {
            name,
            result,
            shape,
            entry: pieces,
            stack,
        })
    }

    /// An attribute of the entry or of its abstract origin.
    fn through<T>(
        &self,
        unit: &gimli::Unit<R>,
        entry: &Entry<'_>,
        get: impl Fn(&gimli::Unit<R>, &Entry<'_>) -> Option<T>,
    ) -> Option<T> {
        get(unit, entry).or_else(|| {
            let at = Self::reference(unit, entry, gimli::DW_AT_abstract_origin)?;
            self.with(at, |u, e| get(u, e))?
        })
    }

    fn reference(
        unit: &gimli::Unit<R>,
        entry: &Entry<'_>,
        attribute: gimli::DwAt,
    ) -> Option<gimli::DebugInfoOffset> {
        match entry.attr_value(attribute)? {
            AttributeValue::DebugInfoRef(at) => Some(at),
            AttributeValue::UnitRef(at) => at.to_debug_info_offset(&unit.header),
            _ => None,
        }
    }

    /// Looks at the entry at `at`, whatever unit it is in.
    fn with<T>(
        &self,
        at: gimli::DebugInfoOffset,
        then: impl FnOnce(&gimli::Unit<R>, &Entry<'_>) -> T,
    ) -> Option<T> {
        let start = |u: &gimli::Unit<R>| u.header.debug_info_offset();
        let behind = self
            .units
            .partition_point(|u| start(u).is_some_and(|s| s <= at));
        let unit = self.units.get(behind.checked_sub(1)?)?;
        let offset = at.to_unit_offset(&unit.header)?;
        Some(then(unit, &unit.entry(offset).ok()?))
    }

    /// A type's shape and name.
    fn shape(&self, at: gimli::DebugInfoOffset, depth: u32) -> Option<(Shape, String)> {
        assert!(depth < 50, "types nest");
        if let Some(known) = self.shapes.borrow().get(&at) {
            return known.clone();
        }
        let found = self.read_shape(at, depth);
        self.shapes.borrow_mut().insert(at, found.clone());
        found
    }

    fn read_shape(&self, at: gimli::DebugInfoOffset, depth: u32) -> Option<(Shape, String)> {
        self.with(at, |unit, entry| {
            let name = self.name(unit, entry).unwrap_or_default();
            let number = |a| entry.attr_value(a).and_then(|v| v.udata_value());
            let size = number(gimli::DW_AT_byte_size);
            let inner = |of: &Entry<'_>| {
                self.shape(Self::reference(unit, of, gimli::DW_AT_type)?, depth + 1)
            };
            let shape = match entry.tag() {
                gimli::DW_TAG_typedef => inner(entry)?.0,
                gimli::DW_TAG_pointer_type | gimli::DW_TAG_subroutine_type => Shape::pointer(),
                gimli::DW_TAG_base_type => {
                    let bytes = u8::try_from(size?).ok()?;
                    match entry.attr_value(gimli::DW_AT_encoding)? {
                        AttributeValue::Encoding(gimli::DW_ATE_float) => {
                            Shape::Float { size: bytes }
                        }
                        AttributeValue::Encoding(gimli::DW_ATE_complex_float) => {
                            Shape::complex(bytes)
                        }
                        AttributeValue::Encoding(encoding) => Shape::Int {
                            size: bytes,
                            signed: encoding == gimli::DW_ATE_signed,
                        },
                        _ => return None,
                    }
                }
                gimli::DW_TAG_structure_type => {
                    let mut fields = Vec::new();
                    let mut tree = unit.entries_tree(Some(entry.offset())).ok()?;
                    let mut members = tree.root().ok()?.children();
                    while let Some(member) = members.next().ok()? {
                        let member = member.entry();
                        let offset = member
                            .attr_value(gimli::DW_AT_data_member_location)
                            .and_then(|v| v.udata_value());
                        fields.push((offset.unwrap_or(0), inner(member)?.0));
                    }
                    let align = fields.iter().map(|(_, f)| f.align()).max().unwrap_or(1);
                    Shape::Struct {
                        fields,
                        size: size?,
                        align,
                    }
                }
                gimli::DW_TAG_array_type => {
                    let elem = inner(entry)?.0;
                    let mut tree = unit.entries_tree(Some(entry.offset())).ok()?;
                    let mut ranges = tree.root().ok()?.children();
                    let mut len = 0;
                    while let Some(range) = ranges.next().ok()? {
                        let count = range.entry().attr_value(gimli::DW_AT_count);
                        len = count.and_then(|v| v.udata_value()).unwrap_or(0);
                    }
                    let align = elem.align();
                    Shape::Array {
                        elem: Box::new(elem),
                        len,
                        size: size?,
                        align,
                    }
                }
                _ => return None,
            };
            Some((shape, name))
        })?
    }
}

/// Registers or stack offset of a location expression.
fn place(
    expression: gimli::Expression<R>,
    encoding: gimli::Encoding,
    size: u64,
) -> (Option<Vec<Piece>>, Option<i64>) {
    let register = |number: u16| -> Option<Reg> {
        let int = crate::arch::abi::INT_DWARF
            .iter()
            .position(|n| *n == number);
        int.map(|i| Reg::Int(i as u8))
            .or_else(|| number.checked_sub(17).map(|i| Reg::Float(i as u8)))
    };
    let mut operations = expression.operations(encoding);
    let (mut pieces, mut current, mut at) = (Vec::new(), None, 0);
    while let Ok(Some(operation)) = operations.next() {
        match operation {
            gimli::Operation::Register { register: r } => current = register(r.0),
            gimli::Operation::Piece { size_in_bits, .. } => {
                let bytes = size_in_bits / 8;
                if let Some(reg) = current.take() {
                    pieces.push(Piece {
                        offset: at,
                        size: bytes as u8,
                        reg,
                    });
                }
                at += bytes;
            }
            gimli::Operation::CallFrameCFA => return (None, Some(0)),
            gimli::Operation::FrameOffset { offset } => return (None, Some(offset)),
            _ => return (None, None),
        }
    }
    if let Some(reg) = current {
        pieces.push(Piece {
            offset: 0,
            size: size as u8,
            reg,
        });
    }
    ((!pieces.is_empty()).then_some(pieces), None)
}
