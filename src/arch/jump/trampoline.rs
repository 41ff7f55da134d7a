//! A trampoline: the machine code that a jump at a site leads to. It writes one
//! record into the ring, does what the displaced instructions did, and jumps
//! back (or returns).
//!
//! What it may touch: at a Go function's entry, behind its stack check and right
//! before its RET, R12, R13 and the flags are free, and X15 is zero
//! (cmd/compile/abi-internal.md). Nothing else changes: no stack is used,
//! nothing is called, no register is brought back from memory that others
//! write. X15 carries words from memory to memory and is made zero again.
//! RAX and RDX, which RDTSC writes, wait in R12 and R13 meanwhile.
//!
//! It cannot fault: the pointers that it follows are typed pointers of a live
//! program, compared with the first page before (nil, and small offsets from
//! it). It never waits: a full ring drops the record and counts.
//!
//! A signal may come at any instruction: Go's runtime finds a pc that it does not
//! know and leaves the goroutine alone (wantAsyncPreempt, isAsyncSafePoint in
//! runtime/preempt.go). The thread may be put aside between taking a ticket and
//! committing: [`super::ring`] deals with that.

use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, qword_ptr, r12, r12d, r13, r13d, r14, rax, rdx, rsp, xmm15,
};
use iced_x86::{
    BlockEncoderOptions, Code, Decoder, DecoderOptions, FlowControl, IcedError, Instruction,
    MemoryOperand, Register,
};

mod held;
mod written;

use written::int;

use super::capture::{Capture, Shape, site_word};
use super::gate::{Mark, Test};
use super::held::FIRST_PAGE;
use super::ring::RingLayout;
use crate::arch::unit::{JUMP, Unit, UnitKind};

/// Where the fields of `runtime.g` lie that a record's head has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GOffsets {
    /// `goid`
    pub goid: i32,
    /// `stack.hi`
    pub stack_hi: i32,
}

/// Why there is no code for a site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotGenerate {
    /// The unit's bytes are not what they should be.
    #[error("the instructions at {0:#x} are not what a jump may replace")]
    Unit(u64),
    /// A capture that cannot be written in code.
    #[error("what is to be recorded cannot be said in code")]
    Capture,
    /// Too far from the program's code, or an instruction that cannot be moved.
    #[error("the code for {at:#x} cannot be written: {why}")]
    Assembler {
        /// The site.
        at: u64,
        /// The assembler's words.
        why: String,
    },
}

/// The code for one site.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trampoline {
    /// Where it lies.
    pub at: u64,
    /// Its bytes.
    pub code: Vec<u8>,
    /// The address of the jump to it.
    pub site: u64,
    /// What is written to the site: the jump. The unit's further bytes stay.
    pub patch: Vec<u8>,
}

/// Writes the trampoline for `unit` at the address `at`. Its records carry
/// `site` and are laid out by `shape`.
pub fn generate(
    at: u64,
    unit: &Unit,
    site: u32,
    shape: &Shape,
    ring: &RingLayout,
    g: GOffsets,
) -> Result<Trampoline, CannotGenerate> {
    let instructions = displaced(unit)?;
    let mut writer = Writer {
        a: CodeAssembler::new(64).map_err(|e| failed(unit, &e))?,
        ring,
        later: Vec::new(),
        types: Vec::new(),
    };
    match writer.all(unit, &instructions, site, shape, g) {
        Ok(()) => {}
        Err(Wrong::Capture) => return Err(CannotGenerate::Capture),
        Err(Wrong::Iced(e)) => return Err(failed(unit, &e)),
    }
    let code = writer
        .a
        .assemble_options(at, BlockEncoderOptions::NONE)
        .map_err(|e| failed(unit, &e))?;
    let reach = at.wrapping_sub(unit.at.wrapping_add(JUMP as u64));
    let reach = i32::try_from(reach.cast_signed()).map_err(|e| CannotGenerate::Assembler {
        at: unit.at,
        why: e.to_string(),
    })?;
    let mut patch = vec![0xe9];
    patch.extend(reach.to_le_bytes());
    Ok(Trampoline {
        at,
        code: code.inner.code_buffer,
        site: unit.at,
        patch,
    })
}

fn failed(unit: &Unit, error: &IcedError) -> CannotGenerate {
    CannotGenerate::Assembler {
        at: unit.at,
        why: error.to_string(),
    }
}

/// The unit's instructions.
fn displaced(unit: &Unit) -> Result<Vec<Instruction>, CannotGenerate> {
    let wrong = CannotGenerate::Unit(unit.at);
    let mut decoder = Decoder::with_ip(64, &unit.code, unit.at, DecoderOptions::NONE);
    let mut instructions = Vec::with_capacity(unit.starts.len());
    for start in &unit.starts {
        if decoder.position() != usize::from(*start) || !decoder.can_decode() {
            return Err(wrong);
        }
        let insn = decoder.decode();
        if insn.is_invalid() {
            return Err(wrong);
        }
        instructions.push(insn);
    }
    let rest = unit.code.get(decoder.position()..).unwrap_or_default();
    let last = instructions.last().ok_or(wrong.clone())?;
    let (before, _) = instructions.split_at(instructions.len() - 1);
    let flows = before.iter().all(|i| i.flow_control() == FlowControl::Next);
    let ends_well = match unit.kind {
        UnitKind::Entry => last.flow_control() == FlowControl::Next,
        UnitKind::Check => last.flow_control() == FlowControl::ConditionalBranch,
        UnitKind::Return => last.code() == Code::Retnq,
    };
    let padded =
        rest.is_empty() || unit.kind == UnitKind::Return && rest.iter().all(|b| *b == 0xcc);
    if !flows || !ends_well || !padded || unit.code.len() < JUMP {
        return Err(wrong);
    }
    Ok(instructions)
}

pub(super) struct Writer<'a> {
    pub(super) a: CodeAssembler,
    pub(super) ring: &'a RingLayout,
    /// Rarely run.
    later: Vec<held::Later>,
    /// Types that do not fit an instruction, and where they lie.
    types: Vec<(u64, CodeLabel)>,
}

/// Which records a site writes.
#[derive(Clone, Copy)]
struct Call {
    site: u32,
    to_return: i32,
    g: GOffsets,
}

/// What can go wrong while writing.
pub(super) enum Wrong {
    Iced(IcedError),
    Capture,
}

impl From<IcedError> for Wrong {
    fn from(error: IcedError) -> Wrong {
        Wrong::Iced(error)
    }
}

impl Writer<'_> {
    fn all(
        &mut self,
        unit: &Unit,
        displaced: &[Instruction],
        site: u32,
        shape: &Shape,
        g: GOffsets,
    ) -> Result<(), Wrong> {
        let (before, after) = match unit.kind {
            UnitKind::Entry => (&[][..], displaced),
            UnitKind::Check => (displaced, &[][..]),
            UnitKind::Return => displaced.split_at(displaced.len() - 1),
        };
        // Behind the instructions of a return RSP is at the return address.
        let to_return = match unit.kind {
            UnitKind::Return => 0,
            UnitKind::Entry | UnitKind::Check => unit.to_return as i32,
        };
        for insn in before {
            self.a.add_instruction(*insn)?;
        }
        let mut full = self.a.create_label();
        let mut out = self.a.create_label();
        let mut refused = self.a.create_label();
        let (tests, mark) = (&shape.gate().tests, shape.gate().mark);
        let leaves = mark == Mark::Leave;
        // A child that was forked?
        let own = MemoryOperand::with_base_displ(Register::RIP, self.ring.own().cast_signed());
        let own = Instruction::with2(Code::Cmp_rm32_imm8, own, 0)?;
        self.a.add_instruction(own)?;
        self.a.je(out)?;
        for test in tests {
            self.test(test, g, if leaves { refused } else { out })?;
        }
        if mark == Mark::Ask {
            self.ask_mark(g, to_return, out)?;
        }
        // Room? Each thread is here at most once, and there is room to spare for
        // all threads that are between this look and their ticket.
        self.rip(Code::Mov_r64_rm64, Some(Register::R12), self.ring.head())?;
        self.rip(Code::Sub_r64_rm64, Some(Register::R12), self.ring.tail())?;
        self.a.cmp(r12, self.ring.limit())?;
        // Signed: between the two looks others may have written and the reader read.
        self.a.jge(full)?;
        if leaves {
            self.leave_mark(g, to_return)?;
        }
        for (capture, _) in shape.parts() {
            if let Capture::Buffer { ptr, len, max } = capture {
                self.leave_buffer((int(*ptr)?, int(*len)?), *max, g, to_return)?;
            }
        }
        let call = Call { site, to_return, g };
        let whole = shape.words();
        let least = shape.least().map_or(whole, |(_, least)| least);
        let mut copied = None;
        if let Some((
            Capture::Copied {
                from,
                hops,
                once: Some(once),
                ..
            },
            _,
        )) = shape.least()
        {
            let way = held::Way::over(int(*from)?, hops);
            let anew = self.a.create_label();
            self.unless_copied(&way, once, anew)?;
            self.record(shape, call, (least, false))?;
            copied = Some((way, once, anew));
        } else {
            self.record(shape, call, (least, true))?;
        }
        let a = &mut self.a;
        a.set_label(&mut out)?;
        for insn in after {
            a.add_instruction(*insn)?;
        }
        if unit.kind != UnitKind::Return {
            a.jmp(unit.at.wrapping_add(unit.code.len() as u64))?;
        }
        a.set_label(&mut full)?;
        self.rip(Code::Inc_rm64, None, self.ring.dropped())?;
        self.a.jmp(out)?;
        if leaves {
            self.a.set_label(&mut refused)?;
            self.forget_mark(g, to_return, out)?;
        }
        if let Some((way, once, mut anew)) = copied {
            self.a.set_label(&mut anew)?;
            self.record(shape, call, (whole, true))?;
            self.was_copied(&way, once, out)?;
        }
        self.put_off(whole)?;
        self.constants()
    }

    /// Takes a ticket and writes the record; `words` of it, without what may be left
    /// out unless `all`.
    fn record(
        &mut self,
        shape: &Shape,
        call: Call,
        (words, all): (usize, bool),
    ) -> Result<(), Wrong> {
        let Call { site, to_return, g } = call;
        self.time()?;
        // The ticket, and the record's place.
        self.a.mov(r12d, 1)?;
        self.rip_register(Code::Xadd_rm64_r64, self.ring.head(), Register::R12)?;
        let a = &mut self.a;
        a.mov(r13d, r12d)?;
        a.and(r13d, self.ring.mask())?;
        a.imul_3(r13, r13, self.ring.record as i32)?;
        self.rip(
            Code::Add_r64_rm64,
            Some(Register::R13),
            self.ring.data_pointer(),
        )?;
        let a = &mut self.a;
        // The head, beginning with: not whole.
        a.mov(qword_ptr(r13), 0)?;
        a.mov(qword_ptr(r13 + 8), r12)?;
        a.movq(qword_ptr(r13 + 16), xmm15)?;
        a.mov(r12, site_word(site, words))?;
        a.mov(qword_ptr(r13 + 24), r12)?;
        a.mov(r12, qword_ptr(r14 + g.goid))?;
        a.mov(qword_ptr(r13 + 32), r12)?;
        a.mov(r12, qword_ptr(r14 + g.stack_hi))?;
        a.mov(qword_ptr(r13 + 40), r12)?;
        a.lea(r12, qword_ptr(rsp + to_return))?;
        a.mov(qword_ptr(r13 + 48), r12)?;
        a.mov(qword_ptr(r13 + 56), r14)?;
        for (capture, at) in shape.parts() {
            let left_out = matches!(capture, Capture::Copied { once: Some(_), .. }) && !all;
            if !left_out {
                let at = i32::try_from(at * 8).unwrap_or(i32::MAX);
                self.capture(capture, at, to_return, g)?;
            }
        }
        if shape.gate().mark == Mark::Ask {
            self.take_mark(g, to_return)?;
        }
        // Whole.
        let a = &mut self.a;
        a.mov(r12, qword_ptr(r13 + 8))?;
        a.inc(r12)?;
        a.mov(qword_ptr(r13), r12)?;
        a.xorps(xmm15, xmm15)?;
        Ok(())
    }

    /// Jumps to `no` when a test does not hold.
    fn test(&mut self, test: &Test, g: GOffsets, no: CodeLabel) -> Result<(), Wrong> {
        match test {
            Test::Every { k, counter } => {
                let k = i32::try_from(*k).map_err(|_| Wrong::Capture)?;
                let at = self.ring.counter(*counter).cast_signed();
                self.rip(Code::Dec_rm64, None, at.cast_unsigned())?;
                self.a.jns(no)?;
                let memory = MemoryOperand::with_base_displ(Register::RIP, at);
                let mut add = Instruction::with2(Code::Add_rm64_imm32, memory, k)?;
                add.set_has_lock_prefix(true);
                self.a.add_instruction(add)?;
            }
            Test::Int {
                register,
                equal,
                value,
            } => {
                let register = int(*register)?;
                if let Ok(short) = i32::try_from(*value) {
                    self.a.cmp(register, short)?;
                } else {
                    self.a.mov(r12, *value)?;
                    self.a.cmp(register, r12)?;
                }
                self.unless(*equal, no)?;
            }
            Test::Reached {
                from,
                hops,
                field,
                equal,
                value,
            } => {
                let a = &mut self.a;
                a.mov(r12, int(*from)?)?;
                for hop in hops {
                    a.cmp(r12, FIRST_PAGE)?;
                    a.jb(no)?;
                    a.mov(r12, qword_ptr(r12 + *hop))?;
                }
                a.cmp(r12, FIRST_PAGE)?;
                a.jb(no)?;
                a.mov(r13, *value)?;
                a.cmp(qword_ptr(r12 + *field), r13)?;
                self.unless(*equal, no)?;
            }
            Test::Goid { equal, value } => {
                self.a.mov(r12, *value)?;
                self.a.cmp(qword_ptr(r14 + g.goid), r12)?;
                self.unless(*equal, no)?;
            }
        }
        Ok(())
    }

    fn unless(&mut self, equal: bool, no: CodeLabel) -> Result<(), Wrong> {
        if equal {
            self.a.jne(no)?;
        } else {
            self.a.je(no)?;
        }
        Ok(())
    }

    /// The time stamp counter, to X15.
    fn time(&mut self) -> Result<(), Wrong> {
        let a = &mut self.a;
        a.mov(r12, rax)?;
        a.mov(r13, rdx)?;
        a.rdtsc()?;
        a.shl(rdx, 32)?;
        a.or(rdx, rax)?;
        a.movq(xmm15, rdx)?;
        a.mov(rax, r12)?;
        a.mov(rdx, r13)?;
        Ok(())
    }

    /// An instruction whose memory operand, the second one, is at a fixed address;
    /// or it is the only one, and the bus is locked.
    pub(super) fn rip(
        &mut self,
        code: Code,
        register: Option<Register>,
        address: u64,
    ) -> Result<(), Wrong> {
        let memory = MemoryOperand::with_base_displ(Register::RIP, address.cast_signed());
        let insn = if let Some(register) = register {
            Instruction::with2(code, register, memory)?
        } else {
            let mut insn = Instruction::with1(code, memory)?;
            insn.set_has_lock_prefix(true);
            insn
        };
        self.a.add_instruction(insn)?;
        Ok(())
    }

    /// The same with the memory operand first, and the bus locked.
    fn rip_register(&mut self, code: Code, address: u64, register: Register) -> Result<(), Wrong> {
        let memory = MemoryOperand::with_base_displ(Register::RIP, address.cast_signed());
        let mut insn = Instruction::with2(code, memory, register)?;
        insn.set_has_lock_prefix(true);
        self.a.add_instruction(insn)?;
        Ok(())
    }
}
