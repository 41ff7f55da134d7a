//! Unwinding goroutine stacks by the function table: for every pc it tells how
//! far the stack pointer stands from the return address (pcsp), which is all
//! that the runtime's own traceback uses (runtime/traceback.go).
//!
//! Pure: it takes a pc, a stack pointer and something that reads the stack.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::addr::{Bias, ImageAddr, LiveAddr};
use crate::image::{FLAG_SP_WRITE, Image, SourceFrame};
use crate::memory::{Memory, MemoryError};

/// Program counters remembered.
const MAX_RULES: usize = 65_536;
/// No Go frame is larger (the compiler refuses frames of 2 GB, but moves
/// variables over 128 KiB to the heap; generated code has a few larger ones).
const MAX_FRAME: i32 = 1 << 28;

/// A function that is being executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Where it is: of the innermost frame the next instruction, of others the
    /// address it will return to.
    pub pc: LiveAddr,
    /// `pc` is the next instruction: innermost, or interrupted by a signal.
    pub exact: bool,
    /// Stack pointer in it.
    pub sp: LiveAddr,
    /// Where its return address lies: the stack pointer at its first
    /// instruction, and at its RET.
    pub return_slot: LiveAddr,
    /// Its first instruction.
    pub entry: ImageAddr,
    /// Made by the compiler to forward a call; people are not shown it.
    pub wrapper: bool,
}

impl Frame {
    /// The pc to look lines and names up with: inside the call, not after it.
    pub fn lookup(&self, bias: Bias) -> ImageAddr {
        lookup(bias.image(self.pc), self.exact)
    }
}

fn lookup(pc: ImageAddr, exact: bool) -> ImageAddr {
    if exact {
        pc
    } else {
        ImageAddr(pc.0.wrapping_sub(1))
    }
}

/// Why unwinding stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// At the outermost function of the stack.
    Top,
    /// As many frames as were wanted.
    Limit,
    /// That pc is in no Go function.
    ForeignCode(LiveAddr),
    /// The stack could not be read there.
    Unreadable(LiveAddr),
    /// A function that moves the stack pointer by its own rules.
    OwnRules(ImageAddr),
}

/// Frames of a stack, innermost first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub ended: Ended,
}

/// What the function table says about one pc.
#[derive(Clone, Copy)]
struct Rule {
    entry: ImageAddr,
    delta: i32,
    top: bool,
    own_rules: bool,
    wrapper: bool,
    /// The frame outside it was interrupted: its pc is exact.
    interrupts: bool,
}

/// Unwinds stacks of one program, remembering what its table says.
#[derive(Default)]
pub struct Unwinder {
    rules: HashMap<u64, Option<Rule>>,
}

impl Unwinder {
    /// With nothing remembered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Unwinds from `pc` and `sp`, as registers hold them or as a goroutine
    /// saved them; at most `limit` frames. Only a target that is gone is an error.
    pub fn unwind(
        &mut self,
        image: &Image,
        bias: Bias,
        memory: &dyn Memory,
        (pc, sp): (LiveAddr, LiveAddr),
        limit: usize,
    ) -> Result<Stack, MemoryError> {
        let mut stack = Stack {
            frames: Vec::new(),
            ended: Ended::Limit,
        };
        let (mut pc, mut sp, mut exact) = (pc, sp, true);
        while stack.frames.len() < limit {
            let Some(rule) = self.rule(image, lookup(bias.image(pc), exact)) else {
                stack.ended = Ended::ForeignCode(pc);
                break;
            };
            let innermost = stack.frames.is_empty();
            if rule.own_rules && !innermost {
                stack.ended = Ended::OwnRules(rule.entry);
                break;
            }
            let return_slot = LiveAddr(sp.0.wrapping_add_signed(rule.delta.into()));
            stack.frames.push(Frame {
                pc,
                exact,
                sp,
                return_slot,
                entry: rule.entry,
                wrapper: rule.wrapper,
            });
            if rule.top {
                stack.ended = Ended::Top;
                break;
            }
            match memory.read_addr(return_slot) {
                Ok(to) => pc = to,
                Err(MemoryError::Unmapped { .. }) => {
                    stack.ended = Ended::Unreadable(return_slot);
                    break;
                }
                Err(gone @ MemoryError::Gone) => return Err(gone),
            }
            // Always outwards: the return address itself is 8 bytes.
            sp = return_slot.offset(8);
            exact = rule.interrupts;
        }
        Ok(stack)
    }

    fn rule(&mut self, image: &Image, at: ImageAddr) -> Option<Rule> {
        if let Some(rule) = self.rules.get(&at.0) {
            return *rule;
        }
        let rule = find_rule(image, at);
        if self.rules.len() >= MAX_RULES {
            self.rules.clear();
        }
        self.rules.insert(at.0, rule);
        rule
    }
}

fn find_rule(image: &Image, at: ImageAddr) -> Option<Rule> {
    let function = image.functions().find(at)?;
    let delta = function
        .sp_delta(at)
        .filter(|d| (0..MAX_FRAME).contains(d))?;
    // These run as if the interrupted instruction had called them
    // (runtime/signal_unix.go: sigpanic; runtime/preempt.go: asyncPreempt).
    let interrupts = matches!(
        &*function.name(),
        "runtime.sigpanic" | "runtime.sigpanic0" | "runtime.asyncPreempt" | "runtime.debugCallV2"
    );
    Some(Rule {
        entry: function.entry(),
        delta,
        top: function.is_top_frame(),
        own_rules: function.flags() & FLAG_SP_WRITE != 0,
        wrapper: function.is_wrapper(),
        interrupts,
    })
}

/// Frames as the source has them: inlined functions as frames of their own,
/// wrappers left out as the runtime's own traceback does.
pub fn source_frames(image: &Image, bias: Bias, frames: &[Frame]) -> Vec<SourceFrame> {
    frames
        .iter()
        .enumerate()
        .filter(|(i, f)| *i == 0 || !f.wrapper)
        .flat_map(|(_, f)| image.frames_at(f.lookup(bias)))
        .collect()
}

/// A copy of the lower part of a stack, with the target itself behind it.
pub struct StackCopy<'a> {
    /// Where the copy begins.
    pub at: LiveAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What lies beyond.
    pub beyond: &'a dyn Memory,
}

impl Memory for StackCopy<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let copied =
            at.0.checked_sub(self.at.0)
                .and_then(|skip| usize::try_from(skip).ok())
                .and_then(|skip| self.bytes.get(skip..skip.checked_add(into.len())?));
        match copied {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            None => self.beyond.read(at, into),
        }
    }
}
