//! Line tables: which instructions begin a statement of which line, and where a
//! function's prologue ends.
//!
//! The rules for breakpoints are Delve's, so that people land where they are
//! used to (pkg/proc/breakpoints.go: FindFileLocation, FirstPCAfterPrologue; 1.27).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use gimli::{AttributeValue, DebugLine, DebugLineOffset, LittleEndian};

use super::units::Unit;
use super::{Bytes, Dwarf, Slice, keep};
use crate::addr::ImageAddr;
use crate::image::{Function, Image};

/// Rows of one unit that are looked at.
const MAX_ROWS: usize = 1 << 24;

/// Instructions from one address on, up to the next row's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineRow {
    /// The first of them.
    pub at: ImageAddr,
    /// Index into [`FunctionLines::files`].
    pub file: usize,
    /// The line; 0 for none.
    pub line: u32,
    /// A statement of that line begins here: a place for a breakpoint.
    pub statement: bool,
    /// The function's frame is set up here.
    pub prologue_end: bool,
}

/// The rows of one function, by address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FunctionLines {
    /// Full paths.
    pub files: Vec<Arc<str>>,
    /// By address.
    pub rows: Vec<LineRow>,
    /// Of code before the first row: line 1 of the file that a table begins
    /// with. Go leaves out what says no more than that: wrappers' prologues
    /// (cmd/internal/obj/dwarf.go: generateDebugLinesSymbol).
    pub first_file: Option<Arc<str>>,
}

impl FunctionLines {
    /// File and line of an instruction. Of several rows at its address the
    /// first counts, of several before it the last.
    pub fn at(&self, pc: ImageAddr) -> Option<(&str, u32)> {
        let from = self.rows.partition_point(|row| row.at < pc);
        let row = match self.rows.get(from).filter(|row| row.at == pc) {
            Some(exact) => exact,
            None if from == 0 => return self.first_file.as_deref().map(|file| (file, 1)),
            None => self.rows.get(from.checked_sub(1)?)?,
        };
        Some((self.files.get(row.file)?, row.line))
    }

    /// The stretches of code of the line that `pc` is in; `end` is the
    /// function's. What they call is what a step goes into.
    pub fn line_around(&self, pc: ImageAddr, end: ImageAddr) -> Vec<(ImageAddr, ImageAddr)> {
        let here = self.at(pc);
        let nexts = self.rows.iter().skip(1).map(|row| row.at).chain([end]);
        let mut found: Vec<(ImageAddr, ImageAddr)> = Vec::new();
        for (row, next) in self.rows.iter().zip(nexts) {
            let this = self.files.get(row.file).map(|f| (&**f, row.line));
            if this != here || row.at == next {
                continue;
            }
            match found.last_mut() {
                Some((_, to)) if *to == row.at => *to = next,
                _ => found.push((row.at, next)),
            }
        }
        found
    }

    /// Where the function's frame is set up, and its arguments are where its
    /// variables say.
    pub fn prologue_end(&self) -> Option<ImageAddr> {
        self.rows.iter().find(|r| r.prologue_end).map(|r| r.at)
    }
}

/// Where a breakpoint at a line goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinePlaces {
    /// These instructions: one in each function that has the line, and one in
    /// each body that is inlined.
    At(Vec<ImageAddr>),
    /// No code stands at that line of the file.
    NoCode,
    /// No file has that path.
    NoFile,
}

/// An inlined body.
pub(super) struct Inlined {
    /// Its entry.
    pub at: usize,
    /// How deep that lies in the function's.
    pub depth: isize,
    /// The body around it, in the order of entries.
    pub within: Option<usize>,
    /// Of the function whose body it is.
    pub name: Arc<str>,
    pub ranges: Vec<(u64, u64)>,
}

impl Inlined {
    fn holds(&self, pc: ImageAddr) -> bool {
        self.ranges.iter().any(|(a, b)| (*a..*b).contains(&pc.0))
    }
}

/// One row as a unit's table has it.
struct Row {
    at: u64,
    file: u64,
    line: u32,
    statement: bool,
    prologue_end: bool,
    end: bool,
}

impl Dwarf {
    /// The line table of a function; `None` where the unit has none.
    pub fn lines_of(&self, function: &Function<'_>) -> Option<FunctionLines> {
        let name = function.name();
        let die = self.find_function(&name, function.entry())?;
        let unit = self.units.holding(die as usize)?;
        let (low, high) = (function.entry().0, function.end().0);
        let mut lines = FunctionLines::default();
        let mut indices: BTreeMap<u64, usize> = BTreeMap::new();
        let mut inside = false;
        self.walk_rows(unit, &mut |row, files| {
            inside = (low..high).contains(&row.at) && !row.end;
            if inside {
                let next = lines.files.len();
                let file = *indices.entry(row.file).or_insert_with(|| {
                    lines.files.push(files.path(row.file).into());
                    next
                });
                if lines.rows.is_empty() {
                    // File 1 (DWARF 5, 6.2.2: register file).
                    lines.first_file = Some(files.path(1).into());
                }
                lines.rows.push(LineRow {
                    at: ImageAddr(row.at),
                    file,
                    line: row.line,
                    statement: row.statement,
                    prologue_end: row.prologue_end,
                });
            }
            // A function is one sequence (cmd/internal/obj/dwarf.go,
            // generateDebugLinesSymbol).
            lines.rows.is_empty() || !row.end
        });
        lines.rows.sort_by_key(|row| row.at);
        (!lines.rows.is_empty()).then_some(lines)
    }

    /// Where a breakpoint on a function goes: behind its prologue.
    pub fn breakpoint_of(&self, function: &Function<'_>) -> Option<ImageAddr> {
        let lines = self.lines_of(function)?;
        lines.prologue_end().or_else(|| {
            let first = lines.rows.iter().find(|r| r.statement);
            first.map(|r| r.at)
        })
    }

    /// Paths of all source files, sorted. Reads the head of every unit's table.
    pub fn source_files(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for unit in self.units.list.iter().filter(|unit| unit.go) {
            let Some(files) = self.files(unit) else {
                continue;
            };
            all.extend((0..files.count()).map(|i| files.path(i)));
        }
        all.retain(|path| path.contains('/'));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Where a breakpoint at a line of the file with this full path goes.
    pub fn places_of_line(&self, image: &Image, path: &str, line: u32) -> LinePlaces {
        let mut found: Vec<(ImageAddr, bool)> = Vec::new();
        let mut known = false;
        for unit in self.units.list.iter().filter(|unit| unit.go) {
            let Some(files) = self.files(unit) else {
                continue;
            };
            let wanted: Vec<u64> = (0..files.count())
                .filter(|i| files.path(*i) == path)
                .collect();
            if wanted.is_empty() {
                continue;
            }
            known = true;
            self.walk_rows(unit, &mut |row, _| {
                if row.line == line && !row.end && wanted.contains(&row.file) {
                    found.push((ImageAddr(row.at), row.statement));
                }
                true
            });
        }
        if found.is_empty() {
            return if known {
                LinePlaces::NoCode
            } else {
                LinePlaces::NoFile
            };
        }
        found.sort_unstable_by_key(|(at, _)| *at);
        LinePlaces::At(self.one_per_body(image, &found))
    }

    /// The first statement in each function and in each inlined body, else its
    /// first instruction; a function's very first one moves behind its prologue.
    fn one_per_body(&self, image: &Image, found: &[(ImageAddr, bool)]) -> Vec<ImageAddr> {
        let mut chosen: Vec<ImageAddr> = Vec::new();
        let mut rest = found;
        while let Some((first, _)) = rest.first() {
            let Some(function) = image.functions().find(*first) else {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            };
            let count = rest.partition_point(|(at, _)| *at < function.end());
            let (own, after) = rest.split_at(count.max(1));
            rest = after;
            // What a `defer` or a `go` calls, put in by the compiler.
            if function.is_wrapper() {
                continue;
            }
            let inlined = self.inlined_in(&function);
            let mut bodies: BTreeMap<usize, (ImageAddr, bool)> = BTreeMap::new();
            for (at, statement) in own {
                let body = inlined.iter().find(|body| body.holds(*at));
                let best = bodies
                    .entry(body.map_or(0, |b| b.at))
                    .or_insert((*at, *statement));
                if *statement && !best.1 {
                    *best = (*at, true);
                }
            }
            for (body, (at, _)) in bodies {
                let entry = body == 0 && at == function.entry();
                let moved = entry.then(|| self.behind_prologue(&function)).flatten();
                chosen.push(moved.unwrap_or(at));
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// The end of the prologue, when that is still on the function's first line.
    fn behind_prologue(&self, function: &Function<'_>) -> Option<ImageAddr> {
        let lines = self.lines_of(function)?;
        let end = lines.prologue_end()?;
        (lines.at(end)?.1 == lines.at(function.entry())?.1).then_some(end)
    }

    /// Shows every row of a unit until `see` says false.
    fn walk_rows(&self, unit: &Unit, see: &mut dyn FnMut(&Row, &Files<'_>) -> bool) -> Option<()> {
        let program = self.line_program(unit)?;
        let files = Files {
            dwarf: self,
            header: program.header().clone(),
        };
        let mut rows = program.rows();
        for _ in 0..MAX_ROWS {
            let (_, row) = rows.next_row().ok()??;
            let seen = Row {
                at: row.address(),
                file: row.file_index(),
                line: row
                    .line()
                    .and_then(|l| u32::try_from(l.get()).ok())
                    .unwrap_or(0),
                statement: row.is_stmt(),
                prologue_end: row.prologue_end(),
                end: row.end_sequence(),
            };
            if !see(&seen, &files) {
                break;
            }
        }
        Some(())
    }

    fn files(&self, unit: &Unit) -> Option<Files<'_>> {
        Some(Files {
            dwarf: self,
            header: self.line_program(unit)?.header().clone(),
        })
    }

    fn line_program(&self, unit: &Unit) -> Option<gimli::IncompleteLineProgram<Slice<'_>, usize>> {
        let held = self
            .line
            .get_or_init(|| keep(&*self.sections, ".debug_line"));
        if matches!(held, Bytes::Absent) {
            return None;
        }
        let section = DebugLine::new(self.bytes(held, ".debug_line"), LittleEndian);
        let at = DebugLineOffset(unit.lines?);
        section
            .program(at, unit.encoding.address_size, None, None)
            .ok()
    }
}

/// The file table of a unit.
struct Files<'a> {
    dwarf: &'a Dwarf,
    header: gimli::LineProgramHeader<Slice<'a>, usize>,
}

impl Files<'_> {
    /// Indices go up to this; some may be of no file.
    fn count(&self) -> u64 {
        self.header.file_names().len() as u64 + 1
    }

    /// The full path: its directory's, where it is not one itself.
    fn path(&self, index: u64) -> String {
        let Some(file) = self.header.file(index) else {
            return String::new();
        };
        let text = |value: AttributeValue<Slice<'_>>| -> Option<String> {
            self.dwarf.text(&value).map(Cow::into_owned)
        };
        let name = text(file.path_name()).unwrap_or_default();
        let dir = match file.directory_index() {
            0 => None,
            index => self.header.directory(index).and_then(text),
        };
        match dir {
            Some(dir) if !name.starts_with('/') => format!("{dir}/{name}"),
            _ => name,
        }
    }
}
