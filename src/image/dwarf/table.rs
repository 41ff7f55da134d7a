//! The lines of a function as the function table has them, which no strip takes
//! away: what steps go by where there is no debug information.
//!
//! It does not mark statements, so each stretch of a line counts as one, and a
//! step may land on a line a second time where the compiler mixed two.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bodies::{Body, StepMap};
use super::lines::{FunctionLines, LineRow};
use crate::addr::ImageAddr;
use crate::arch::scan::Disassembler;
use crate::image::Function;
use crate::image::function::{PCDATA_INL_TREE_INDEX, decode_name};

/// Rows of one function.
const MAX_ROWS: usize = 1 << 16;
/// Bodies in one another.
const MAX_DEPTH: usize = 64;

impl StepMap {
    /// A function's lines and inlined bodies by the function table; `None` where
    /// that has no lines.
    pub fn of_table(function: &Function<'_>) -> Option<StepMap> {
        let lines = lines(function)?;
        Some(StepMap {
            entry: function.entry(),
            lines,
            bodies: bodies(function),
        })
    }
}

fn lines(function: &Function<'_>) -> Option<FunctionLines> {
    let prologue_end = prologue_end(function);
    let mut starts: Vec<(u32, bool)> = Vec::new();
    let tables = [function.line_values(), function.file_values()];
    for range in tables.into_iter().flatten().flatten().take(MAX_ROWS) {
        starts.push((range.start, true));
    }
    // A jump may go past where a line begins.
    let scan = function.code().zip(Disassembler::new().ok());
    let scan = scan.map(|(code, d)| d.scan_function(code, function.entry().0));
    for to in scan.iter().flat_map(|s| &s.branch_targets).take(MAX_ROWS) {
        let offset = to.checked_sub(function.entry().0);
        starts.extend(
            offset
                .and_then(|o| u32::try_from(o).ok())
                .map(|o| (o, true)),
        );
    }
    starts.push((prologue_end, false));
    // Of the same place the one that begins a stretch.
    starts.sort_unstable_by_key(|(at, begins)| (*at, !*begins));
    starts.dedup_by_key(|(at, _)| *at);
    let mut lines = FunctionLines::default();
    for (offset, statement) in starts {
        let at = function.entry().offset(offset.into());
        let (Some(line), Some(path)) = (function.line_at(at), function.file_at(at)) else {
            continue;
        };
        let known = lines.files.iter().position(|f| &**f == path);
        let file = known.unwrap_or_else(|| {
            lines.files.push(path.into());
            lines.files.len().saturating_sub(1)
        });
        lines.rows.push(LineRow {
            at,
            file,
            line,
            statement,
            prologue_end: offset == prologue_end,
        });
    }
    (!lines.rows.is_empty()).then_some(lines)
}

/// Bytes from the entry to where the frame is set up: the stack pointer moves
/// away from the return address in two steps, or one (cmd/internal/obj/x86/obj6.go:
/// preprocess).
fn prologue_end(function: &Function<'_>) -> u32 {
    const STEPS: usize = 3;
    let mut found = (0, 0);
    for range in function.sp_values().into_iter().flatten().take(STEPS) {
        if range.value > found.1 {
            found = (range.start, range.value);
        }
    }
    found.0
}

/// What was inlined, deepest first: a body holds the code of those in it.
fn bodies(function: &Function<'_>) -> Vec<Body> {
    let mut found: BTreeMap<i32, Body> = BTreeMap::new();
    let ranges = function.pcdata(PCDATA_INL_TREE_INDEX).into_iter().flatten();
    for range in ranges.filter(|r| r.value >= 0).take(MAX_ROWS) {
        let entry = function.entry();
        let code = (
            entry.offset(range.start.into()).0,
            entry.offset(range.end.into()).0,
        );
        for (index, name, depth) in around(function, range.value) {
            let body = found.entry(index).or_insert_with(|| Body {
                function: name,
                depth,
                ranges: Vec::new(),
            });
            body.ranges.push(code);
        }
    }
    let mut bodies: Vec<Body> = found.into_values().collect();
    bodies.sort_by_key(|body| std::cmp::Reverse(body.depth));
    bodies
}

/// A body and those around it: their records, names and depths.
fn around(function: &Function<'_>, innermost: i32) -> Vec<(i32, Arc<str>, isize)> {
    let mut chain = Vec::new();
    let mut index = innermost;
    while chain.len() < MAX_DEPTH {
        let Some(body) = function.inlined_body(index) else {
            break;
        };
        let name = decode_name(function.functions().name_at(body.name));
        chain.push((index, Arc::from(&*name)));
        let Ok(offset) = u64::try_from(body.parent_pc) else {
            break;
        };
        let at: ImageAddr = function.entry().offset(offset);
        index = function.pcdata_at(PCDATA_INL_TREE_INDEX, at);
    }
    let depths = (1..=isize::try_from(chain.len()).unwrap_or(0)).rev();
    let with_depths = chain.into_iter().zip(depths);
    with_depths
        .map(|((i, name), depth)| (i, name, depth))
        .collect()
}
