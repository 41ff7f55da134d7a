//! The variables of every frame of one goroutine.

use std::cell::RefCell;
use std::sync::Arc;

use super::Source;
use crate::addr::LiveAddr;
use crate::golang::census;
use crate::golang::errors::ErrorReader;
use crate::golang::parked::{Outcome, Parked, read_stacks};
use crate::golang::stack::{StackCopy, Unwinder};
use crate::image::dwarf::Dwarf;
use crate::image::types::TypeTable as _;
use crate::memory::MemoryError;
use crate::session::SessionError;
use crate::survey::StackState;
use crate::value::frame::{FrameValues, Variables};
use crate::value::{Limits, Program};

/// Frames whose variables are read.
const MAX_FRAMES: usize = 1000;

/// A goroutine's frames with their variables.
#[derive(Clone, PartialEq, Debug)]
pub struct FullStack {
    /// Whether there are all.
    pub state: StackState,
    /// Innermost first.
    pub frames: Vec<FrameValues>,
}

impl Source {
    /// The debug information of the executable; `None` when it has none.
    pub fn dwarf(&self) -> Result<Option<Dwarf>, SessionError> {
        Ok(Dwarf::open(self.target.image.clone())?)
    }

    /// The frames of a parked goroutine with their variables. The stack is
    /// taken as one; what its variables point to is read after it, while a
    /// running program may change it.
    pub fn full_stack(
        &self,
        dwarf: &Dwarf,
        goid: u64,
        limits: &Limits,
    ) -> Result<Option<FullStack>, SessionError> {
        let mut wanted = None;
        census::walk::<SessionError>(
            &self.target.image,
            &*self.memory,
            &self.target.layouts,
            &self.globals,
            self.target.bias,
            &mut |one, _| {
                if one.g.goid == goid {
                    wanted = Some(*one);
                }
                Ok(())
            },
        )?;
        let Some(resident) = wanted else {
            return Ok(None);
        };
        let mut full = FullStack {
            state: StackState::Unread,
            frames: Vec::new(),
        };
        let mut failed = None;
        read_stacks(
            &*self.memory,
            &self.target.layouts,
            &[resident],
            &mut |_, outcome| {
                full.state = match outcome {
                    Outcome::Parked(parked) => match self.read_frames(dwarf, &parked, limits) {
                        Ok((frames, whole)) => {
                            full.frames = frames;
                            if whole {
                                StackState::Whole
                            } else {
                                StackState::Partial
                            }
                        }
                        Err(error) => {
                            failed = Some(error);
                            StackState::Unreadable
                        }
                    },
                    Outcome::Running => StackState::Running,
                    Outcome::Unstable => StackState::Unstable,
                    Outcome::Unreadable => StackState::Unreadable,
                    Outcome::Ended => StackState::Unread,
                }
            },
        )?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(Some(full)),
        }
    }

    fn read_frames(
        &self,
        dwarf: &Dwarf,
        parked: &Parked<'_>,
        limits: &Limits,
    ) -> Result<(Vec<FrameValues>, bool), MemoryError> {
        let (image, bias) = (&*self.target.image, self.target.bias);
        let copy = StackCopy {
            at: parked.sp,
            bytes: parked.bytes,
            beyond: &*self.memory,
        };
        let from = (parked.pc, parked.sp);
        let mut stack = Unwinder::new().unwind(image, bias, &copy, from, MAX_FRAMES)?;
        if let Some(frame) = stack.frames.first_mut() {
            // What a parked goroutine saved is a return address, unless it has
            // not run yet (runtime/traceback.go: symPC).
            frame.exact = bias.image(frame.pc) == frame.entry;
        }
        let types = self.target.live_types();
        let errors = RefCell::new(ErrorReader::new(
            self.target.layouts.clone(),
            image.go_version().minor(),
        ));
        let name = |pc: LiveAddr| {
            let function = image.functions().find(bias.image(pc))?;
            Some(Arc::from(&*function.name()))
        };
        let program = Program {
            types: &types,
            errors: Some(&errors),
            function: &name,
            maps: dwarf.map_kind(),
        };
        let variables = Variables {
            image,
            dwarf,
            bias,
            memory: &copy,
            limits,
            rt: &program,
        };
        let mut frames = Vec::new();
        for (i, frame) in stack.frames.iter().enumerate() {
            if i > 0 && frame.wrapper {
                continue;
            }
            let found = variables.of_frame(frame);
            frames.extend(found.into_iter().map(|f| variables.load_frame(f)));
        }
        let whole = stack.ended == crate::golang::stack::Ended::Top && !parked.cut;
        Ok((frames, whole))
    }
}
