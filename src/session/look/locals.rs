//! The variables of every frame of one goroutine.

use std::cell::RefCell;
use std::sync::Arc;

use super::stacks::shows_wrappers;
use super::{Registers, Source};
use crate::addr::LiveAddr;
use crate::arch::numbers::dwarf_register;
use crate::golang::census::{self, Resident};
use crate::golang::errors::ErrorReader;
use crate::golang::parked::{Outcome, Parked, read_stacks};
use crate::golang::stack::{Ended, Frame, StackCopy, Unwinder};
use crate::image::dwarf::Dwarf;
use crate::image::types::TypeTable as _;
use crate::memory::{Memory, MemoryError};
use crate::session::SessionError;
use crate::survey::StackState;
use crate::value::frame::{FrameValues, FrameVariables, Variables};
use crate::value::{Limits, Program};

/// Frames whose variables are read.
const MAX_FRAMES: usize = 1000;

/// What is known of the innermost frame of one that stood still on a thread.
struct Exact<'a> {
    registers: Option<&'a Registers>,
    /// Its pc is the next instruction, no return address.
    exact: bool,
}

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
    pub fn dwarf(&self) -> Result<Option<Arc<Dwarf>>, SessionError> {
        self.target.debug_info()
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
        let mut frames = Vec::new();
        let state = self.visit_stack(dwarf, goid, limits, &mut |variables, found| {
            frames = found.iter().map(|f| variables.load_frame(f)).collect();
        })?;
        Ok(state.map(|state| FullStack { state, frames }))
    }

    /// Shows the frames of a parked goroutine, innermost first, while its stack
    /// is at hand; not called for one that runs or moves. `None`: there is no
    /// such goroutine.
    pub fn visit_stack(
        &self,
        dwarf: &Dwarf,
        goid: u64,
        limits: &Limits,
        see: &mut dyn FnMut(&Variables<'_>, &[FrameVariables]),
    ) -> Result<Option<StackState>, SessionError> {
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
        let mut state = Ok(StackState::Unread);
        read_stacks(
            &*self.memory,
            &self.target.layouts,
            &[resident],
            &mut |_, outcome| {
                state = match outcome {
                    Outcome::Parked(parked) => self.show_frames(dwarf, &parked, None, limits, see),
                    Outcome::Running => Ok(StackState::Running),
                    Outcome::Unstable => Ok(StackState::Unstable),
                    Outcome::Unreadable => Ok(StackState::Unreadable),
                    Outcome::Ended => Ok(StackState::Unread),
                }
            },
        )?;
        let state = state?;
        if state == StackState::Running && !self.threads.is_empty() {
            return Ok(Some(self.show_standing(dwarf, &resident, limits, see)?));
        }
        Ok(Some(state))
    }

    /// The frames of one on a thread that stood still.
    fn show_standing(
        &self,
        dwarf: &Dwarf,
        resident: &Resident,
        limits: &Limits,
        see: &mut dyn FnMut(&Variables<'_>, &[FrameVariables]),
    ) -> Result<StackState, SessionError> {
        let threads = self.runtime_threads()?;
        let found = self.standing(&mut Unwinder::new(), resident, &threads)?;
        let Some((at, bytes)) = found else {
            return Ok(StackState::Running);
        };
        let parked = Parked {
            now: *resident,
            pc: at.pc,
            sp: at.sp,
            bytes: &bytes,
            cut: false,
        };
        let tid = threads.get(&resident.g.m).map(|t| t.tid);
        // A position that is not the registers' own was noted elsewhere.
        let own = |r: &&Registers| Some(r.tid) == tid && (r.pc, r.sp) == (at.pc, at.sp);
        let exact = Exact {
            registers: self.threads.iter().find(own),
            exact: at.exact,
        };
        Ok(self.show_frames(dwarf, &parked, Some(exact), limits, see)?)
    }

    fn show_frames(
        &self,
        dwarf: &Dwarf,
        parked: &Parked<'_>,
        on_thread: Option<Exact<'_>>,
        limits: &Limits,
        see: &mut dyn FnMut(&Variables<'_>, &[FrameVariables]),
    ) -> Result<StackState, MemoryError> {
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
            let exact = on_thread.as_ref().is_some_and(|t| t.exact);
            frame.exact = exact || bias.image(frame.pc) == frame.entry;
        }
        let own = on_thread.as_ref().and_then(|t| t.registers);
        let known = |frame: usize, number| {
            let own = own.filter(|_| frame == 0)?;
            let vectors = own.vectors.as_ref().map_or(&[][..], |v| &v[..]);
            dwarf_register(&own.regs?, vectors, number)
        };
        self.with_variables(dwarf, &copy, limits, &mut |variables| {
            let physical = stack.frames.iter().enumerate();
            let function = |frame: &Frame| image.functions().find(frame.entry);
            let panics = |i: usize| {
                let callee = i.checked_sub(1).and_then(|i| stack.frames.get(i));
                let callee = callee.and_then(function);
                callee.is_some_and(|f| shows_wrappers(&f.name()))
            };
            let shown = physical.filter(|(i, frame)| *i == 0 || !frame.wrapper || panics(*i));
            let frames: Vec<FrameVariables> = shown
                .flat_map(|(i, frame)| variables.of_frame_with(frame, &|n| known(i, n)))
                .collect();
            see(variables, &frames);
        });
        Ok(if stack.ended == Ended::Top && !parked.cut {
            StackState::Whole
        } else {
            StackState::Partial
        })
    }

    /// Shows what reads the program's variables out of a memory.
    pub fn with_variables(
        &self,
        dwarf: &Dwarf,
        memory: &dyn Memory,
        limits: &Limits,
        work: &mut dyn FnMut(&Variables<'_>),
    ) {
        let (image, bias) = (&*self.target.image, self.target.bias);
        let types = self.target.live_types();
        let layouts = self.target.layouts.clone();
        let errors = RefCell::new(ErrorReader::new(layouts, image.go_version().minor()));
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
        work(&Variables {
            image,
            dwarf,
            bias,
            memory,
            limits,
            rt: &program,
        });
    }
}
