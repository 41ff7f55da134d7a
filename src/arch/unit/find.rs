//! Finding the units of a function: what a jump may replace at its entry and at
//! its returns, or why not.
//!
//! A unit is displaced as a whole, so nothing may land strictly inside it: no
//! branch, no entry of a jump table, no address whose code is taken, no
//! `deferreturn` landing. (No return address can: calls are never displaced.)
//! Its instructions flow from one to the next, cannot fault, because Go would
//! find nobody to blame at their new place, and do not depend on where they
//! run. Memory is touched on the stack alone, which is always there.

use std::ops::Range;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

use super::{JUMP, MAX_UNIT, Unit, UnitKind};
use crate::arch::prologue::CheckForm;
use crate::arch::scan::Scan;
use crate::arch::slot::{CannotMove, MAX_INSN, relocate};

/// Why a site cannot jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotJump {
    /// Written in assembly, which may keep any register for its caller.
    #[error("it is written in assembly")]
    Assembly,
    /// Not Go at all.
    #[error("it is not written in Go")]
    NotGo,
    /// Called by assembly's convention: R14 need not be g.
    #[error("it is called by the convention of assembly")]
    Stackish,
    /// Its table of stack depths is not the whole truth.
    #[error("it moves the stack pointer in ways that its tables do not tell")]
    MovesStack,
    /// Its code was not understood.
    #[error("its code at {0:#x} is not understood")]
    Undecodable(u64),
    /// A jump whose targets are not known.
    #[error("where the jump at {0:#x} leads is not known")]
    UnknownJump(u64),
    /// Something leads strictly inside.
    #[error("something jumps to {0:#x}, into the bytes that would be replaced")]
    Target(u64),
    /// An instruction that would have to go along may fault.
    #[error("the instruction at {0:#x} may fault and has to stay")]
    MayFault(u64),
    /// One that leads elsewhere.
    #[error("the instruction at {0:#x} is a jump or a call and has to stay")]
    Flow(u64),
    /// One that cannot run anywhere else.
    #[error("{0}")]
    Move(#[from] CannotMove),
    /// One whose effect on the stack pointer is not plain.
    #[error("what the instruction at {0:#x} does to the stack pointer is not plain")]
    Stack(u64),
    /// A frame so large that its check has two ways out.
    #[error("its stack check has two jumps")]
    TwoJumps,
    /// Too few bytes up to the function's end.
    #[error("there are {0} bytes, a jump takes 5")]
    Short(usize),
    /// The unit's depth is not what the tables say.
    #[error("the stack is {computed} bytes deep by its code and {told} by its tables")]
    Depth {
        /// By the unit's own instructions.
        computed: u32,
        /// By the function's pcsp table.
        told: i32,
    },
    /// The bytes belong to another unit.
    #[error("its bytes are those of the jump at {0:#x}")]
    Overlaps(u64),
    /// A function that is nothing but a RET.
    #[error("its entry is its return")]
    OnlyRet,
}

/// What was found in one function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its entry, [`UnitKind::Entry`] or [`UnitKind::Check`].
    pub entry: Result<Unit, CannotJump>,
    /// Per RET: where it is, and the unit that ends with it.
    pub returns: Vec<(u64, Result<Unit, CannotJump>)>,
}

/// The units of the function whose bytes are `code`. `landings` are addresses
/// that are reached otherwise than by the function's own direct branches:
/// entries of its jump tables, its call of deferreturn.
pub fn find_units(code: &[u8], scan: &Scan, landings: &[u64]) -> Found {
    let finder = match Finder::new(code, scan, landings) {
        Ok(finder) => finder,
        Err(why) => {
            let returns = scan.rets.iter().map(|at| (*at, Err(why))).collect();
            return Found {
                entry: Err(why),
                returns,
            };
        }
    };
    let returns: Vec<_> = scan
        .rets
        .iter()
        .map(|at| (*at, finder.return_unit(*at)))
        .collect();
    let behind = finder.entry_unit(scan);
    let touches = |entry: &Unit| {
        let units = returns.iter().filter_map(|(_, unit)| unit.as_ref().ok());
        units.filter(|unit| overlap(entry, unit)).count()
    };
    // Behind the check, unless only the check itself leaves a return its bytes.
    let entry = match behind {
        Ok(unit) if touches(&unit) == 0 => Ok(unit),
        behind => match (behind, finder.check_unit(scan)) {
            (Ok(unit), Ok(check)) if touches(&unit) <= touches(&check) => Ok(unit),
            (_, Ok(check)) => Ok(check),
            (behind, Err(CannotJump::TwoJumps)) if scan.check.is_some() => {
                behind.map_err(|_| CannotJump::TwoJumps)
            }
            (behind, Err(_)) => behind,
        },
    };
    let mut found = Found { entry, returns };
    found.drop_overlaps(scan.site);
    found
}

fn overlap(a: &Unit, b: &Unit) -> bool {
    a.at < b.end() && b.at < a.end()
}

impl Found {
    fn drop_overlaps(&mut self, site: u64) {
        let mut kept: Vec<Range<u64>> = Vec::new();
        if self.returns.iter().any(|(at, _)| *at == site) {
            self.entry = Err(CannotJump::OnlyRet);
        }
        kept.extend(self.entry.as_ref().ok().map(Unit::range));
        for (at, unit) in &mut self.returns {
            if *at == site {
                *unit = Err(CannotJump::OnlyRet);
            }
            let Ok(found) = unit else { continue };
            let other = kept
                .iter()
                .find(|k| k.start < found.end() && found.at < k.end);
            match other {
                Some(other) => *unit = Err(CannotJump::Overlaps(other.start)),
                None => kept.push(found.range()),
            }
        }
    }
}

/// A function decoded whole.
struct Finder<'a> {
    code: &'a [u8],
    entry: u64,
    insns: Vec<Instruction>,
    /// Where anything leads, ascending.
    targets: Vec<u64>,
}

impl<'a> Finder<'a> {
    fn new(code: &'a [u8], scan: &Scan, landings: &[u64]) -> Result<Self, CannotJump> {
        if let Some(jump) = scan.tail_jumps.iter().find(|jump| jump.target.is_none()) {
            return Err(CannotJump::UnknownJump(jump.at));
        }
        let decoder = Decoder::with_ip(64, code, scan.entry, DecoderOptions::NONE);
        let insns: Vec<Instruction> = decoder.into_iter().collect();
        let bad = |insn: &&Instruction| insn.is_invalid();
        if let Some(insn) = insns.iter().find(bad) {
            return Err(CannotJump::Undecodable(insn.ip()));
        }
        let mut targets = Vec::new();
        targets.extend(&scan.branch_targets);
        targets.extend(&scan.taken);
        targets.extend(landings);
        // Both disassemblers agree on where instructions begin.
        let starts = |at: &u64| insns.binary_search_by_key(at, Instruction::ip).is_ok();
        let inside = |at: &u64| at.wrapping_sub(scan.entry) < code.len() as u64;
        let odd = targets.iter().chain(&scan.rets).chain([&scan.site]);
        if let Some(at) = odd.copied().find(|at| inside(at) && !starts(at)) {
            return Err(CannotJump::Undecodable(at));
        }
        targets.sort_unstable();
        targets.dedup();
        Ok(Self {
            code,
            entry: scan.entry,
            insns,
            targets,
        })
    }

    fn index_of(&self, at: u64) -> Result<usize, CannotJump> {
        let found = self.insns.binary_search_by_key(&at, Instruction::ip);
        found.map_err(|_| CannotJump::Undecodable(at))
    }

    /// Something leads to an address strictly inside.
    fn target_inside(&self, range: &Range<u64>) -> Option<u64> {
        let first = self.targets.partition_point(|at| *at <= range.start);
        self.targets
            .get(first)
            .copied()
            .filter(|at| *at < range.end)
    }

    /// The instructions from the site on, as many as a jump needs.
    fn entry_unit(&self, scan: &Scan) -> Result<Unit, CannotJump> {
        let first = self.index_of(scan.site)?;
        let mut len = 0;
        let mut count = 0;
        for insn in self.insns.get(first..).unwrap_or_default() {
            if insn.code() == Code::Int3 {
                return Err(CannotJump::Short(len));
            }
            self.may_move(insn)?;
            len += insn.len();
            count += 1;
            if len >= JUMP {
                break;
            }
        }
        self.unit(first, count, 0, UnitKind::Entry, 0)
    }

    /// The stack check, its conditional jump included.
    fn check_unit(&self, scan: &Scan) -> Result<Unit, CannotJump> {
        let check = scan.check.ok_or(CannotJump::Short(0))?;
        if check.form == CheckForm::Huge {
            return Err(CannotJump::TwoJumps);
        }
        if check.loads_g {
            return Err(CannotJump::Stackish);
        }
        let first = self.index_of(scan.entry)?;
        let behind = self.index_of(scan.site)?;
        self.unit(first, behind.saturating_sub(first), 0, UnitKind::Check, 0)
    }

    /// The RET and as many instructions before it as a jump needs.
    fn return_unit(&self, ret: u64) -> Result<Unit, CannotJump> {
        let last = self.index_of(ret)?;
        let padding = self.padding_after(last);
        let mut first = last;
        let mut len = self.insns.get(last).map_or(0, Instruction::len);
        // The RET takes the return address off: eight bytes.
        let mut depth: i64 = 0;
        while len + padding < JUMP {
            let insn = self.insns.get(first).ok_or(CannotJump::Short(len))?;
            if self.targets.binary_search(&insn.ip()).is_ok() {
                return Err(CannotJump::Target(insn.ip()));
            }
            first = first.checked_sub(1).ok_or(CannotJump::Short(len))?;
            let insn = self.insns.get(first).ok_or(CannotJump::Short(len))?;
            self.may_move(insn)?;
            depth += stack_effect(insn).ok_or(CannotJump::Stack(insn.ip()))?;
            len += insn.len();
        }
        let depth = u32::try_from(depth).map_err(|_| CannotJump::Stack(ret))?;
        let padding = JUMP.saturating_sub(len);
        let count = last.saturating_sub(first) + 1;
        self.unit(first, count, padding, UnitKind::Return, depth)
    }

    /// Bytes of int3 right behind an instruction, as many as are of use.
    fn padding_after(&self, index: usize) -> usize {
        let after = self.insns.get(index + 1..).unwrap_or_default();
        let int3 = |insn: &&Instruction| insn.code() == Code::Int3;
        after.iter().take(JUMP).take_while(int3).count()
    }

    fn unit(
        &self,
        first: usize,
        count: usize,
        padding: usize,
        kind: UnitKind,
        to_return: u32,
    ) -> Result<Unit, CannotJump> {
        let insns = self.insns.get(first..first.saturating_add(count));
        let insns = insns.filter(|all| !all.is_empty());
        let insns = insns.ok_or(CannotJump::Short(0))?;
        let at = insns.first().map_or(self.entry, Instruction::ip);
        let len = insns.iter().map(Instruction::len).sum::<usize>() + padding;
        let from = usize::try_from(at.wrapping_sub(self.entry)).unwrap_or(usize::MAX);
        let code = self.code.get(from..from.saturating_add(len));
        let code = code.filter(|code| (JUMP..=MAX_UNIT).contains(&code.len()));
        let code = code.ok_or(CannotJump::Short(len))?.to_vec();
        let start = |insn: &Instruction| u8::try_from(insn.ip().wrapping_sub(at)).unwrap_or(0);
        let unit = Unit {
            at,
            code,
            starts: insns.iter().map(start).collect(),
            kind,
            to_return,
        };
        match self.target_inside(&unit.range()) {
            Some(to) => Err(CannotJump::Target(to)),
            None => Ok(unit),
        }
    }

    /// The instruction runs anywhere as it does here, and never faults.
    fn may_move(&self, insn: &Instruction) -> Result<(), CannotJump> {
        let at = insn.ip();
        if insn.flow_control() != FlowControl::Next {
            return Err(CannotJump::Flow(at));
        }
        let from = usize::try_from(at.wrapping_sub(self.entry)).unwrap_or(usize::MAX);
        let bytes = self.code.get(from..).unwrap_or_default();
        let bytes = bytes.get(..MAX_INSN).unwrap_or(bytes);
        // Any place within reach does for asking.
        relocate(bytes, at, at.wrapping_add(1 << 20))?;
        if may_fault(insn) {
            return Err(CannotJump::MayFault(at));
        }
        Ok(())
    }
}

/// Anything but arithmetic on registers and the stack's own memory. A `lea` of
/// any kind touches none. Vector moves that want alignment do not come into
/// question: what is aligned where it stands is so elsewhere.
fn may_fault(insn: &Instruction) -> bool {
    if matches!(insn.mnemonic(), Mnemonic::Div | Mnemonic::Idiv) {
        return true;
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(insn);
    info.used_memory().iter().any(|memory| {
        let touched = !matches!(memory.access(), OpAccess::NoMemAccess | OpAccess::None);
        let stack = memory.base() == Register::RSP
            && memory.index() == Register::None
            && !matches!(memory.segment(), Register::FS | Register::GS);
        touched && !stack
    })
}

/// What an instruction adds to RSP; `None` when that is not plain.
fn stack_effect(insn: &Instruction) -> Option<i64> {
    let by_itself = i64::from(insn.stack_pointer_increment());
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(insn);
    let writes = info.used_registers().iter().any(|used| {
        let whole = used.register().full_register() == Register::RSP;
        let kept = matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
        whole && !kept
    });
    if !writes {
        return Some(0);
    }
    let to_rsp = insn.op_count() > 0
        && insn.op0_kind() == OpKind::Register
        && insn.op0_register() == Register::RSP;
    if !to_rsp {
        return (by_itself != 0).then_some(by_itself);
    }
    let immediate = matches!(
        insn.op1_kind(),
        OpKind::Immediate8to64 | OpKind::Immediate32to64
    );
    match insn.mnemonic() {
        Mnemonic::Add if immediate => Some(insn.immediate(1).cast_signed()),
        Mnemonic::Sub if immediate => insn.immediate(1).cast_signed().checked_neg(),
        Mnemonic::Lea
            if insn.memory_base() == Register::RSP && insn.memory_index() == Register::None =>
        {
            Some(insn.memory_displacement64().cast_signed())
        }
        _ => None,
    }
}
