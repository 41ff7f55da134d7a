//! Single instructions that somebody is to be told of: breakpoints.

use super::super::never::{Avoid, Never, may_be_reached};
use super::{Planner, Refusal, Role, Site};
use crate::addr::ImageAddr;
use crate::arch::scan::Disassembler;
use crate::arch::slot::{MAX_INSN, relocate};
use crate::image::{Function, Image};

/// An instruction that somebody wants to be told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlaceWanted {
    /// Where calls of a function are counted (index in the function table).
    Entry(u32),
    /// This one.
    At(ImageAddr),
}

/// Where a thread will be told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedPlace {
    /// The instruction.
    pub at: ImageAddr,
    /// Index of its function in the function table.
    pub function: u32,
    /// Arguments are still where the caller put them, and it is passed once a
    /// call.
    pub entry: bool,
}

/// One instruction that a step may end at, which is known to begin one. Unlike
/// a function that is traced, what it belongs to may switch stacks.
pub fn step_site(
    image: &Image,
    avoid: &mut Avoid,
    disassembler: &Disassembler,
    at: ImageAddr,
) -> Result<Site, Refusal> {
    let function = image.functions().find(at).ok_or(Refusal::Nowhere(at))?;
    match avoid.why(image, disassembler, &function) {
        None | Some(Never::SwitchesStacks | Never::EnteredMidway) => {}
        Some(never) => return Err(never.into()),
    }
    let offset = usize::try_from(at.0.wrapping_sub(function.entry().0)).unwrap_or(usize::MAX);
    let rest = function.code().and_then(|code| code.get(offset..));
    let mut code = [0xcc; MAX_INSN];
    for (to, from) in code.iter_mut().zip(rest.unwrap_or_default()) {
        *to = *from;
    }
    let slot = relocate(&code, at.0, at.0.wrapping_add(1 << 20))?;
    Ok(Site {
        at,
        code,
        insn_len: slot.insn_len,
        can_fault: slot.can_fault,
        doubtful: may_be_reached(&function.name()),
        roles: Vec::new(),
    })
}

impl Planner<'_> {
    /// Plans them; each keeps its index.
    pub(super) fn add_places(&mut self, wanted: &[PlaceWanted]) {
        for one in wanted {
            let index = self.places.len();
            let planned = self.place(*one, index);
            self.places.push(planned);
        }
    }

    fn place(&mut self, wanted: PlaceWanted, index: usize) -> Result<PlannedPlace, Refusal> {
        let functions = self.image.functions();
        let found = match wanted {
            PlaceWanted::Entry(function) => functions.get(function as usize),
            PlaceWanted::At(at) => functions.find(at),
        };
        let function = found.ok_or(match wanted {
            PlaceWanted::At(at) => Refusal::Nowhere(at),
            PlaceWanted::Entry(_) => Refusal::NoCode,
        })?;
        let never = self.avoid.why(self.image, self.disassembler, &function);
        never.map_or(Ok(()), Err)?;
        let site = ImageAddr(self.scan(&function)?.site);
        let at = match wanted {
            PlaceWanted::Entry(_) => site,
            PlaceWanted::At(at) => at,
        };
        if !self.begins_instruction(&function, at) {
            return Err(Refusal::Inside(at));
        }
        self.site(&function, at.0, Role::Place(index))?;
        Ok(PlannedPlace {
            at,
            function: function.index(),
            entry: at == site,
        })
    }

    fn begins_instruction(&self, function: &Function<'_>, at: ImageAddr) -> bool {
        let code = function.code().unwrap_or_default();
        let mut offset = 0_usize;
        loop {
            let here = function.entry().offset(offset as u64);
            if here >= at {
                return here == at;
            }
            let rest = code.get(offset..).unwrap_or_default();
            match self.disassembler.insn_len(rest, here.0) {
                Some(len) if len > 0 => offset = offset.saturating_add(len),
                _ => return false,
            }
        }
    }
}
