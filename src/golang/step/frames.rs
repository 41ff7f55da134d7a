//! The frames of a stack as steps are planned from them: the functions that
//! exist and what was inlined in them, with how far below the stack's upper end
//! each lies.

use super::{Planner, Program, Standing};
use crate::addr::{ImageAddr, LiveAddr};
use crate::image::Function;
use crate::memory::MemoryError;

/// Frames that are looked at. A loop over a function has few between its body
/// and itself.
const MAX_FRAMES: usize = 512;

/// A frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SeenFrame {
    /// Of the function itself, or of what was inlined there.
    pub name: String,
    /// The first instruction of the function that exists.
    pub entry: ImageAddr,
    /// Its next instruction.
    pub pc: ImageAddr,
    /// Inside what was executed last.
    pub lookup: ImageAddr,
    /// How far its return address lies below the stack's upper end.
    pub depth: u64,
    /// One past its return address.
    pub cfa: LiveAddr,
    /// It is a body that was inlined.
    pub inlined: bool,
    /// There is an inlined body on top of it, in the same function.
    pub has_inlines: bool,
}

impl SeenFrame {
    pub(super) fn function<'a>(&self, program: &Program<'a>) -> Option<Function<'a>> {
        program.image.functions().find(self.entry)
    }
}

impl Planner {
    /// The frames of a goroutine, innermost first, at most `limit` of those
    /// that exist.
    pub(super) fn frames(
        &mut self,
        program: &Program<'_>,
        at: &Standing,
        limit: usize,
    ) -> Result<Vec<SeenFrame>, MemoryError> {
        let stack = self.unwinder.unwind(
            program.image,
            program.bias,
            program.memory,
            (at.pc, at.sp),
            limit.min(MAX_FRAMES),
        )?;
        let mut seen = Vec::new();
        for frame in &stack.frames {
            let lookup = frame.lookup(program.bias);
            let bodies = program.image.frames_at(lookup);
            for (index, body) in bodies.into_iter().enumerate() {
                seen.push(SeenFrame {
                    name: body.function,
                    entry: frame.entry,
                    pc: program.bias.image(frame.pc),
                    lookup,
                    depth: at.g.stack_hi.0.wrapping_sub(frame.return_slot.0),
                    cfa: frame.return_slot.offset(8),
                    inlined: body.inlined,
                    has_inlines: index > 0,
                });
            }
        }
        Ok(seen)
    }
}

/// Where the loop over all frames ends.
pub(super) const ALL: usize = MAX_FRAMES;
