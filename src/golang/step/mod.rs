//! Where a step of one goroutine may end, and what to do when it comes there.
//!
//! Who lives here: a step under way ([`Step`], `judge`), how one is planned
//! (`plan`), the frames it is planned from (`frames`, `loops` for the bodies of
//! loops over functions), what is deferred (`defers`) and what is called
//! (`calls`). It is pure: it says which instructions to trap, and asks memory.
//! Who traps them is the session's business. Allowed in: session, repl.
//!
//! The rules are Delve's (pkg/proc/target_exec.go, 1.27), so that people land
//! where they are used to; tests/steps.rs walks beside it.

mod calls;
mod defers;
mod frames;
mod judge;
mod loops;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use super::gs::Goroutine;
use super::layout::Layouts;
use super::stack::Unwinder;
use crate::addr::{Bias, ImageAddr, LiveAddr};
use crate::image::dwarf::{Dwarf, StepMap};
use crate::image::{Function, Image};
use crate::memory::{Memory, MemoryError};

pub use calls::{call_returns_to, successors};
pub use defers::{Deferred, deferred, function_of};
pub use judge::{Arrival, Reached, Returned};

/// Functions whose lines are remembered.
const MAX_MAPS: usize = 1024;

/// What kind of step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// To the next line, over calls.
    Next,
    /// To the next line, into calls.
    Into,
    /// To where the function returns to.
    Out,
    /// Behind the call that is the next instruction, and returns there.
    Over(ImageAddr),
}

/// Why a step cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The goroutine is not in Go code.
    #[error("no Go function is at {0}: step-instruction still works")]
    NoFunction(LiveAddr),
    /// No line table.
    #[error("{0} has no lines: step-instruction works without")]
    NoLines(String),
    /// Nobody called it.
    #[error("nothing to step out to: {0} is the outermost function")]
    Outermost(String),
    /// The body of a loop, without the function that it stands in.
    #[error("{0} is the body of a loop, and the loop's function is not on the stack")]
    NoParent(String),
    /// The target.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The program that is stepped.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// Its functions and code.
    pub image: &'a Image,
    /// Its lines; where it has no debug information, those of the function table.
    pub dwarf: &'a Dwarf,
    /// Its structs.
    pub layouts: &'a Layouts,
    /// Where it was loaded.
    pub bias: Bias,
    /// Its bytes.
    pub memory: &'a dyn Memory,
}

/// Where a goroutine stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its `g`.
    pub g: Goroutine,
    /// Its next instruction.
    pub pc: LiveAddr,
    /// Its stack pointer.
    pub sp: LiveAddr,
}

/// Under what condition a trap counts. It is always of one goroutine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// Always.
    Anywhere,
    /// The frame lies so far below the stack's upper end, which stays so when
    /// the stack moves.
    Frame(u64),
    /// Called by a panic or, where `returning`, at a function's end.
    Deferred { returning: bool },
    /// In the body of a loop whose function's frame lies so far below.
    Loop(u64),
}

/// What to do at a trap that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// The step ends.
    Stop,
    /// The same; a function has returned.
    Return { of: ImageAddr, depth: u64 },
    /// A call whose target only the registers tell: trap that.
    Enter,
    /// The runtime has made a goroutine: the step goes on in that one.
    Follow,
    /// Go on to the next line from here.
    Onward,
    /// The body of a loop returned: it may be entered again, from its start.
    Forget { body: ImageAddr },
}

/// One instruction to trap, for one goroutine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Trap {
    at: ImageAddr,
    goid: u64,
    when: When,
    then: Then,
}

/// A step under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    traps: Vec<Trap>,
    goid: u64,
}

impl Step {
    /// Until a goroutine is at one instruction.
    pub fn until(goid: u64, at: ImageAddr) -> Step {
        let trap = Trap {
            at,
            goid,
            when: When::Anywhere,
            then: Then::Stop,
        };
        Step {
            traps: vec![trap],
            goid,
        }
    }

    /// The goroutine that is stepped.
    pub fn goid(&self) -> u64 {
        self.goid
    }

    /// Which instructions to trap, ascending, each once.
    pub fn places(&self) -> Vec<ImageAddr> {
        let mut all: Vec<ImageAddr> = self.traps.iter().map(|t| t.at).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Plans steps of one program, and remembers what it learnt of it.
#[derive(Default)]
pub struct Planner {
    unwinder: Unwinder,
    maps: HashMap<u64, Option<Arc<StepMap>>>,
}

impl Planner {
    /// With nothing remembered.
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&mut self, program: &Program<'_>, function: &Function<'_>) -> Option<Arc<StepMap>> {
        if self.maps.len() >= MAX_MAPS {
            self.maps.clear();
        }
        let found = self.maps.entry(function.entry().0);
        found
            .or_insert_with(|| {
                let map = if program.dwarf.is_absent() {
                    StepMap::of_table(function)
                } else {
                    program.dwarf.step_map(function)
                };
                map.map(Arc::new)
            })
            .clone()
    }

    /// The first instruction behind a function's prologue.
    fn behind_prologue(&mut self, program: &Program<'_>, function: &Function<'_>) -> ImageAddr {
        let map = self.map(program, function);
        // Where the first row comes later, none tells of the prologue.
        let known = |map: &Arc<StepMap>| {
            let first = map.lines.rows.first();
            first.is_some_and(|row| row.at == function.entry())
        };
        let Some(map) = map.filter(known) else {
            return function.entry();
        };
        let statement = || map.lines.rows.iter().find(|r| r.statement).map(|r| r.at);
        let found = map.lines.prologue_end().or_else(statement);
        found.unwrap_or(function.entry())
    }
}

/// The linker's name of a function without its type arguments, which the
/// function table leaves out: `main.f[...]`.
fn plain_name(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut depth = 0usize;
    for c in name.chars() {
        match c {
            '[' => {
                if depth == 0 {
                    plain.push_str("[...]");
                }
                depth = depth.saturating_add(1);
            }
            ']' if depth > 0 => depth -= 1,
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
}
