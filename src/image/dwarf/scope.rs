//! The variables in scope at a pc: parameters, results and locals of a
//! function and of what was inlined there, with where each one is at that pc.
//!
//! A function's entries are a tree: lexical blocks and inlined bodies
//! (DW_TAG_lexical_block, DW_TAG_inlined_subroutine) with address ranges, and
//! variables in them. A variable that the compiler moved to the heap, or that
//! a closure captured by reference, is named `&x` and is a pointer
//! (cmd/compile internal/dwarfgen/dwarf.go, Go 1.18 to 1.27).

use std::sync::Arc;

use gimli::AttributeValue;

use super::lines::Inlined;
use super::units::Unit;
use super::{Dwarf, Slice};
use crate::addr::ImageAddr;
use crate::image::Function;
use crate::image::types::{TypeId, TypeKind, TypeTable as _};

/// More entries than any function has.
const MAX_ENTRIES: usize = 1 << 18;
/// Nested blocks and inlined bodies.
const MAX_NESTING: usize = 256;
/// Entries of one location list, or ranges of one block.
const MAX_LIST: usize = 1 << 16;
/// Variables of one frame.
const MAX_VARIABLES: usize = 4096;

/// `DW_AT_go_closure_offset` (cmd/internal/dwarf/dwarf.go, Go 1.23).
const GO_CLOSURE_OFFSET: gimli::DwAt = gimli::DwAt(0x2907);

/// What a variable is to its function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A parameter, the receiver among them.
    Param,
    /// A result.
    Result,
    /// Declared in the body.
    Local,
    /// Of the function around a closure, which holds a copy or a pointer.
    Captured,
}

impl Role {
    /// For output.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Param => "param",
            Role::Result => "result",
            Role::Local => "local",
            Role::Captured => "captured",
        }
    }
}

/// A variable in scope at one pc.
#[derive(Clone, PartialEq, Debug)]
pub struct Local {
    /// As the source has it; `~r0` for a result without a name.
    pub name: Arc<str>,
    /// The type of what is at its place: of a pointer to it when it escaped.
    /// Where it depends on type parameters it can be resolved
    /// ([`Dwarf::dictionary_index`]).
    pub ty: TypeId,
    /// What it is.
    pub role: Role,
    /// The line of its declaration; 0 when the file does not tell.
    pub line: u32,
    /// Blocks around it in its function.
    pub depth: u32,
    /// It lies on the heap: at its place is a pointer to it.
    pub escaped: bool,
    /// Of a captured one: where in the closure's object it, or its address, lies.
    pub in_closure: Option<u64>,
    /// Where it is at that pc, the best first; none: it was optimised away there.
    pub places: Vec<Expression>,
}

/// A DWARF expression, to be evaluated by [`Dwarf::locate`].
#[derive(Clone, PartialEq, Debug)]
pub struct Expression {
    /// Its bytes.
    pub(super) bytes: Box<[u8]>,
    /// Offset of its unit in `.debug_info`.
    pub(super) unit: usize,
}

/// A function at one pc, or a body that was inlined there.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ScopeFrame {
    /// The function's name as DWARF has it.
    pub function: Arc<str>,
    /// The body is part of the next frame's function.
    pub inlined: bool,
    /// Variables whose block holds the pc, outer blocks first.
    pub variables: Vec<Local>,
    /// Where the dictionary of an instance of a generic function is, where
    /// DWARF tells (unoptimised, and from Go 1.27).
    pub dictionary: Vec<Expression>,
}

/// The places in a function that tell what is in scope, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScopePc {
    /// Inside the instruction that runs: blocks and lines are looked up by it.
    pub at: ImageAddr,
    /// The next instruction. In a frame that has called another one, what is
    /// in a register at the call is lost, and what will be on the stack when
    /// it returns is there already.
    pub next: ImageAddr,
}

impl ScopePc {
    /// Of a frame that stands before the instruction at `pc`.
    pub fn exact(pc: ImageAddr) -> ScopePc {
        ScopePc { at: pc, next: pc }
    }

    /// Of a frame that will go on at `pc` when its call returns.
    pub fn calling(pc: ImageAddr) -> ScopePc {
        ScopePc {
            at: ImageAddr(pc.0.wrapping_sub(1)),
            next: pc,
        }
    }
}

impl ScopeFrame {
    /// The variables that a statement of `line` can name: a local is in scope
    /// from the line after its declaration. What is shadowed by a later one
    /// of the same name is told by the flag.
    pub fn visible(&self, line: u32) -> Vec<(&Local, bool)> {
        let seen: Vec<&Local> = self
            .variables
            .iter()
            // A name with a dot is a part that the compiler took apart (`~r0.ptr`).
            .filter(|v| v.role != Role::Local || !v.name.contains('.'))
            .filter(|v| v.role != Role::Local || line == 0 || v.line < line)
            .collect();
        let shadowed = |at: usize, v: &Local| {
            let later = seen.get(at + 1..).unwrap_or_default();
            later.iter().any(|o| o.name == v.name && o.depth >= v.depth)
        };
        seen.iter()
            .enumerate()
            .map(|(at, v)| (*v, shadowed(at, v)))
            .collect()
    }
}

/// What the walk keeps of an entry that has children.
struct Open {
    depth: isize,
    /// The pc is in it.
    holds: bool,
    /// Index of its frame.
    frame: usize,
    /// Blocks in that frame.
    blocks: u32,
}

/// The attributes of a variable, or of a function that has a name.
#[derive(Default)]
struct Entry<'a> {
    name: Option<Arc<str>>,
    ty: Option<TypeId>,
    origin: Option<usize>,
    line: u32,
    result: bool,
    captured: Option<u64>,
    location: Option<AttributeValue<Slice<'a>>>,
}

impl Dwarf {
    /// The variables in scope at a place of the function that begins at `entry`,
    /// innermost inlined body first, the function itself last. `name` is the
    /// function's as the pclntab has it. Empty when DWARF does not know it.
    pub fn scope_at(&self, name: &str, entry: ImageAddr, pc: ScopePc) -> Vec<ScopeFrame> {
        self.find_function(name, entry)
            .and_then(|at| self.read_scope(at as usize, pc))
            .unwrap_or_default()
    }

    fn read_scope(&self, at: usize, pc: ScopePc) -> Option<Vec<ScopeFrame>> {
        let die = self.find_die(at)?;
        let unit = die.unit;
        let mut entries = die.entries()?;
        let mut attributes = Vec::with_capacity(16);
        let mut frames: Vec<ScopeFrame> = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        for _ in 0..MAX_ENTRIES {
            if entries.is_empty() {
                break;
            }
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation().ok()? else {
                if entries.next_depth() <= 0 {
                    break;
                }
                continue;
            };
            while open.last().is_some_and(|o| o.depth >= depth) {
                open.pop();
            }
            let tag = abbreviation.tag();
            let wanted = match open.last() {
                None => tag == gimli::DW_TAG_subprogram && depth == 0,
                Some(around) => around.holds && around.depth == depth - 1 && is_scope_part(tag),
            };
            if !wanted {
                // What is inside is skipped by its depth.
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                if depth == 0 && (tag != gimli::DW_TAG_subprogram || !open.is_empty()) {
                    break;
                }
                continue;
            }
            attributes.clear();
            entries
                .read_attributes(abbreviation.attributes(), &mut attributes)
                .ok()?;
            match tag {
                gimli::DW_TAG_formal_parameter | gimli::DW_TAG_variable => {
                    let Some(around) = open.last() else { continue };
                    let frame = frames.get_mut(around.frame)?;
                    self.add_variable(unit, tag, &attributes, around.blocks, pc, frame);
                }
                _ => {
                    let own = tag != gimli::DW_TAG_lexical_block;
                    let holds = depth == 0 || self.holds(unit, &attributes, pc.at);
                    let outer = open.last();
                    let (frame, blocks) = match outer {
                        Some(around) if !own => (around.frame, around.blocks.saturating_add(1)),
                        _ => (frames.len(), 0),
                    };
                    if own && holds {
                        let function = self.entry_name(&attributes).unwrap_or_default();
                        frames.push(ScopeFrame {
                            function,
                            inlined: depth > 0,
                            ..ScopeFrame::default()
                        });
                    }
                    if depth == 0 && !abbreviation.has_children() {
                        break;
                    }
                    if abbreviation.has_children() && open.len() < MAX_NESTING {
                        open.push(Open {
                            depth,
                            holds,
                            frame,
                            blocks,
                        });
                    }
                }
            }
        }
        frames.reverse();
        Some(frames)
    }

    fn add_variable<'a>(
        &'a self,
        unit: &Unit,
        tag: gimli::DwTag,
        attributes: &[gimli::Attribute<Slice<'a>>],
        depth: u32,
        pc: ScopePc,
        frame: &mut ScopeFrame,
    ) {
        let entry = self.scope_entry(attributes);
        let origin = entry.origin.and_then(|at| self.read_die(at));
        let origin = origin.map(|(_, attributes)| self.scope_entry(&attributes));
        let origin = origin.unwrap_or_default();
        let (Some(name), Some(ty)) = (entry.name.or(origin.name), entry.ty.or(origin.ty)) else {
            return;
        };
        let mut places = Vec::new();
        if let Some(location) = &entry.location {
            places.extend(self.place(unit, location, pc.next));
            if pc.next != pc.at {
                places.extend(self.place(unit, location, pc.at));
            }
            places.dedup();
        }
        if &*name == ".dict" {
            frame.dictionary = places;
            return;
        }
        if name.starts_with('.') || &*name == "_" || frame.variables.len() >= MAX_VARIABLES {
            return;
        }
        let role = match tag {
            _ if entry.captured.is_some() => Role::Captured,
            gimli::DW_TAG_variable => Role::Local,
            _ if entry.result || origin.result => Role::Result,
            _ => Role::Param,
        };
        let (name, escaped) = match name.strip_prefix('&') {
            Some(plain) if matches!(self.get(ty).kind, TypeKind::Pointer(_)) => {
                (Arc::from(plain), true)
            }
            _ => (name, false),
        };
        let local = Local {
            name,
            ty,
            role,
            line: entry.line.max(origin.line),
            depth,
            escaped,
            in_closure: entry.captured,
            places,
        };
        // Where defers are compiled in, results are listed twice, and one of
        // them has a place; a parameter that was moved to the heap is listed
        // where it came in, and as a variable (Go 1.18 to 1.27).
        let twin = frame.variables.iter_mut().find(|v| {
            matches!(v.role, Role::Param | Role::Result)
                && v.name == local.name
                && v.depth == depth
                && (local.role != Role::Local || local.escaped && local.line == v.line)
        });
        match twin {
            Some(twin) => {
                if twin.places.is_empty() || local.escaped && !local.places.is_empty() {
                    let role = twin.role;
                    *twin = Local { role, ..local };
                }
            }
            None => frame.variables.push(local),
        }
    }

    fn scope_entry<'a>(&'a self, attributes: &[gimli::Attribute<Slice<'a>>]) -> Entry<'a> {
        let mut entry = Entry::default();
        for attribute in attributes {
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_name, value) => {
                    entry.name = self.text(&value).map(|name| Arc::from(&*name));
                }
                (gimli::DW_AT_type, AttributeValue::DebugInfoRef(to)) => {
                    entry.ty = u32::try_from(to.0).ok().map(TypeId);
                }
                (gimli::DW_AT_abstract_origin, AttributeValue::DebugInfoRef(to)) => {
                    entry.origin = Some(to.0);
                }
                (gimli::DW_AT_decl_line, value) => {
                    let line = value.udata_value().and_then(|l| u32::try_from(l).ok());
                    entry.line = line.unwrap_or(0);
                }
                (gimli::DW_AT_variable_parameter, AttributeValue::Flag(is)) => entry.result = is,
                (gimli::DW_AT_location, value) => entry.location = Some(value),
                (GO_CLOSURE_OFFSET, value) => {
                    entry.captured = value.udata_value().or(Some(0));
                }
                _ => {}
            }
        }
        entry
    }

    fn entry_name<'a>(&'a self, attributes: &[gimli::Attribute<Slice<'a>>]) -> Option<Arc<str>> {
        let entry = self.scope_entry(attributes);
        if entry.name.is_some() {
            return entry.name;
        }
        let (_, attributes) = self.read_die(entry.origin?)?;
        self.scope_entry(&attributes).name
    }

    /// Whether a block or an inlined body has code at `pc`.
    fn holds(
        &self,
        unit: &Unit,
        attributes: &[gimli::Attribute<Slice<'_>>],
        pc: ImageAddr,
    ) -> bool {
        let ranges = self.ranges_of(unit, attributes);
        ranges.iter().any(|(from, to)| (*from..*to).contains(&pc.0))
    }

    /// Where a block or an inlined body has its code.
    fn ranges_of(
        &self,
        unit: &Unit,
        attributes: &[gimli::Attribute<Slice<'_>>],
    ) -> Vec<(u64, u64)> {
        let mut low = None;
        let mut high = None;
        for attribute in attributes {
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_low_pc, value) => low = self.address(unit, &value),
                (gimli::DW_AT_high_pc, value) => high = Some(value),
                (gimli::DW_AT_ranges, AttributeValue::RangeListsRef(at)) => {
                    return self.listed_ranges(unit, at.0);
                }
                _ => {}
            }
        }
        let (Some(low), Some(high)) = (low, high) else {
            return Vec::new();
        };
        let high = self
            .address(unit, &high)
            .or_else(|| low.checked_add(high.udata_value()?));
        high.map(|high| (low, high)).into_iter().collect()
    }

    fn listed_ranges(&self, unit: &Unit, at: usize) -> Vec<(u64, u64)> {
        let ranges = self.range_lists().ranges(
            gimli::RangeListsOffset(at),
            unit.encoding,
            unit.low_pc,
            &self.addr(),
            unit.addr_base,
        );
        let mut found = Vec::new();
        let Ok(mut ranges) = ranges else {
            return found;
        };
        while let Ok(Some(range)) = ranges.next()
            && found.len() < MAX_LIST
        {
            found.push((range.begin, range.end));
        }
        found
    }

    /// The bodies that are inlined in a function, the deepest first.
    pub(super) fn inlined_in(&self, function: &Function<'_>) -> Vec<Inlined> {
        let mut found = self.inlined_by_entry(function);
        found.sort_by_key(|body: &Inlined| std::cmp::Reverse(body.depth));
        found
    }

    /// The same, in the order of their entries: each before those in it.
    pub(super) fn inlined_by_entry(&self, function: &Function<'_>) -> Vec<Inlined> {
        let mut found = Vec::new();
        let name = function.name();
        if let Some(at) = self.find_function(&name, function.entry()) {
            // What was read before a broken entry is still good.
            let _ = self.walk_inlined(at as usize, &mut found);
        }
        found
    }

    fn walk_inlined(&self, at: usize, found: &mut Vec<Inlined>) -> Option<()> {
        let die = self.find_die(at)?;
        let unit = die.unit;
        let mut entries = die.entries()?;
        let mut attributes = Vec::new();
        // The bodies around an entry, outermost first.
        let mut open: Vec<usize> = Vec::new();
        for _ in 0..MAX_ENTRIES {
            if entries.is_empty() {
                break;
            }
            let depth = entries.next_depth();
            let here = unit.start.saturating_add(entries.next_offset().0);
            let Some(abbreviation) = entries.read_abbreviation().ok()? else {
                if entries.next_depth() <= 0 {
                    break;
                }
                continue;
            };
            if depth == 0 && here != at {
                break;
            }
            let beside = |i: &usize| found.get(*i).is_some_and(|b: &Inlined| b.depth >= depth);
            while open.pop_if(|i| beside(i)).is_some() {}
            if abbreviation.tag() != gimli::DW_TAG_inlined_subroutine {
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                if depth == 0 && !abbreviation.has_children() {
                    break;
                }
                continue;
            }
            attributes.clear();
            entries
                .read_attributes(abbreviation.attributes(), &mut attributes)
                .ok()?;
            open.push(found.len());
            found.push(Inlined {
                at: here,
                within: open.iter().rev().nth(1).copied(),
                depth,
                name: self.entry_name(&attributes).unwrap_or_default(),
                ranges: self.ranges_of(unit, &attributes),
            });
        }
        Some(())
    }

    /// The expression that holds at `pc`.
    fn place(
        &self,
        unit: &Unit,
        value: &AttributeValue<Slice<'_>>,
        pc: ImageAddr,
    ) -> Option<Expression> {
        let found = match value {
            AttributeValue::Exprloc(expression) => expression.0,
            AttributeValue::Block(block) => *block,
            AttributeValue::LocationListsRef(at) => self.listed_place(unit, at.0, pc)?,
            _ => return None,
        };
        (!found.slice().is_empty()).then(|| Expression {
            bytes: found.slice().into(),
            unit: unit.start,
        })
    }

    fn listed_place(&self, unit: &Unit, at: usize, pc: ImageAddr) -> Option<Slice<'_>> {
        let mut list = self
            .location_lists()
            .locations(
                gimli::LocationListsOffset(at),
                unit.encoding,
                unit.low_pc,
                &self.addr(),
                unit.addr_base,
            )
            .ok()?;
        for _ in 0..MAX_LIST {
            let entry = list.next().ok()??;
            if (entry.range.begin..entry.range.end).contains(&pc.0) {
                return Some(entry.data.0);
            }
        }
        None
    }
}

fn is_scope_part(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_formal_parameter
            | gimli::DW_TAG_variable
            | gimli::DW_TAG_lexical_block
            | gimli::DW_TAG_inlined_subroutine
    )
}
