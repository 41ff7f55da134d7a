//! What was inlined where: the frames of a pc, and the callers of functions
//! that exist only inside others.

use std::collections::{HashMap, HashSet};

use super::Image;
use super::function::{Function, PCDATA_INL_TREE_INDEX, decode_name};
use crate::addr::ImageAddr;

/// Inlining nests some ten deep; more is a cycle of a broken table.
const MAX_DEPTH: usize = 64;

/// A frame as people read it: one pc has several when calls were inlined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceFrame {
    /// The function's name.
    pub function: String,
    /// Its source file; empty when the table does not tell.
    pub file: String,
    /// The line; 0 when the table does not tell.
    pub line: u32,
    /// The body is part of the next frame's function.
    pub inlined: bool,
}

/// A place where a function's body was inlined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InlinedAt {
    /// The inlined function.
    pub function: String,
    /// The function that really exists and holds the body.
    pub caller: String,
    /// Where in the source the call stands.
    pub file: String,
    /// Its line; 0 when the table does not tell.
    pub line: u32,
    /// The caller's entry.
    pub entry: ImageAddr,
}

/// The frames of `pc`, innermost first (runtime/symtabinl.go: inlineUnwinder).
/// Empty when no Go function is there. A return address must be given minus 1.
pub(crate) fn frames_at(image: &Image, pc: ImageAddr) -> Vec<SourceFrame> {
    let Some(function) = image.functions().find(pc) else {
        return Vec::new();
    };
    let mut frames = Vec::new();
    let mut at = pc;
    while frames.len() < MAX_DEPTH {
        let body = function.inlined_body(function.pcdata_at(PCDATA_INL_TREE_INDEX, at));
        let name = match &body {
            Some(body) => decode_name(function.functions().name_at(body.name)),
            None => function.name(),
        };
        frames.push(SourceFrame {
            function: name.into_owned(),
            file: function.file_at(at).unwrap_or_default().to_owned(),
            line: function.line_at(at).unwrap_or(0),
            inlined: body.is_some(),
        });
        let Some(body) = body else { break };
        let Ok(offset) = u64::try_from(body.parent_pc) else {
            break;
        };
        at = function.entry().offset(offset);
    }
    frames
}

/// The place in the function itself that stands for `pc`, which may lie in
/// what was inlined there.
pub(crate) fn outermost(function: &Function<'_>, pc: ImageAddr) -> ImageAddr {
    let mut at = pc;
    for _ in 0..MAX_DEPTH {
        let index = function.pcdata_at(PCDATA_INL_TREE_INDEX, at);
        let parent = function
            .inlined_body(index)
            .and_then(|body| u64::try_from(body.parent_pc).ok());
        let Some(parent) = parent else { break };
        at = function.entry().offset(parent);
    }
    at
}

/// Where the functions were inlined whose name `matches`, in order of address,
/// at most `limit` places, and how many there are in all.
pub(crate) fn find_inlined(
    image: &Image,
    matches: &dyn Fn(&[u8]) -> bool,
    limit: usize,
) -> (Vec<InlinedAt>, usize) {
    let names = matching_names(image, matches);
    let (mut places, mut total) = (Vec::new(), 0);
    if names.is_empty() {
        return (places, total);
    }
    for function in image.functions().iter() {
        for body in function.inlined().filter(|b| names.contains(&b.name)) {
            total += 1;
            if places.len() < limit {
                places.push(place(&function, body.name, body.parent_pc));
            }
        }
    }
    (places, total)
}

/// The functions whose name `matches` and that were inlined: how often, and the
/// first place, in order of address.
pub(crate) fn count_inlined(
    image: &Image,
    matches: &dyn Fn(&[u8]) -> bool,
) -> Vec<(InlinedAt, usize)> {
    let names = matching_names(image, matches);
    let mut found: Vec<(InlinedAt, usize)> = Vec::new();
    if names.is_empty() {
        return found;
    }
    let mut index: HashMap<i32, usize> = HashMap::new();
    for function in image.functions().iter() {
        for body in function.inlined().filter(|b| names.contains(&b.name)) {
            let next = found.len();
            let at = *index.entry(body.name).or_insert(next);
            match found.get_mut(at) {
                Some((_, count)) => *count += 1,
                None => found.push((place(&function, body.name, body.parent_pc), 1)),
            }
        }
    }
    found
}

fn place(function: &Function<'_>, name: i32, parent_pc: i32) -> InlinedAt {
    let at = function
        .entry()
        .offset(u64::try_from(parent_pc).unwrap_or(0));
    InlinedAt {
        function: decode_name(function.functions().name_at(name)).into_owned(),
        caller: function.name().into_owned(),
        file: function.file_at(at).unwrap_or_default().to_owned(),
        line: function.line_at(at).unwrap_or(0),
        entry: function.entry(),
    }
}

/// Offsets of all names in the table of names that `matches`; it holds the
/// names of inlined functions too (cmd/link/internal/ld/pcln.go:
/// generateFuncnametab).
fn matching_names(image: &Image, matches: &dyn Fn(&[u8]) -> bool) -> HashSet<i32> {
    let table = image
        .functions()
        .data
        .get(image.tab.names.clone())
        .unwrap_or_default();
    let mut offset = 0usize;
    let mut found = HashSet::new();
    for name in table.split(|&b| b == 0) {
        if !name.is_empty() && matches(name) {
            found.extend(i32::try_from(offset));
        }
        offset += name.len() + 1;
    }
    found
}
