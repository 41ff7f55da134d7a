//! Loops over functions: their bodies are functions of their own, which the
//! iterator calls (cmd/compile/internal/rangefunc, Go 1.23). To a step they
//! are part of the function that they stand in.

use super::frames::SeenFrame;
use super::{Program, plain_name};
use crate::image::Function;
use crate::image::dwarf::range_parent;

/// The frames of a loop that the innermost frame is the body of: each body
/// followed by what called it, then the function that the loop stands in, and
/// that one's caller. `None` where it is no body of a loop; an error where the
/// function is not on the stack.
pub(super) fn loop_frames(frames: &[SeenFrame]) -> Result<Option<Vec<SeenFrame>>, ()> {
    let Some(first) = frames.first() else {
        return Ok(None);
    };
    let name = plain_name(&first.name);
    let Some(parent) = range_parent(&name) else {
        return Ok(None);
    };
    let mut found = vec![first.clone()];
    let mut with_caller = true;
    for (index, frame) in frames.iter().enumerate().skip(1) {
        if std::mem::take(&mut with_caller) {
            found.push(frame.clone());
        }
        let name = plain_name(&frame.name);
        if name == parent {
            found.push(frame.clone());
            found.extend(frames.get(index.saturating_add(1)).cloned());
            return if found.len() % 2 == 0 {
                Ok(Some(found))
            } else {
                Err(())
            };
        }
        if range_parent(&name) == Some(parent) {
            found.push(frame.clone());
            with_caller = true;
        }
    }
    Err(())
}

/// The bodies of the loops of the function named.
pub(super) fn bodies_of<'a>(program: &Program<'a>, parent: &str) -> Vec<Function<'a>> {
    let all = program.image.functions();
    let near = |f: &Function<'a>| f.name_bytes().windows(6).any(|w| w == b"-range");
    all.iter()
        .filter(near)
        .filter(|f| range_parent(&f.name()) == Some(parent))
        .collect()
}
