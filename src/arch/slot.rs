//! One instruction moved elsewhere: the slot from which a thread that hit a
//! site goes on.
//!
//! An int3 takes the place of a site's first byte. The displaced instruction
//! lies in a slot on the injected page, fixed up for its new address, followed
//! by a jump to the instruction behind the site. A slot uses no register, no
//! flag and no stack besides what the instruction itself does; a call pushes
//! the return address that it would have pushed in its old place, because Go
//! unwinds by return addresses (`runtime/traceback.go`).
//!
//! The bytes are copied as they are; only displacements are changed, so that
//! no prefix and no choice of encoding is lost.

use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    OpKind, Register,
};

/// Longest slot, bytes: an instruction of 15 and a jump, or a call by parts.
pub const MAX_SLOT: usize = 32;

/// Most bytes of code that [`relocate`] looks at.
pub const MAX_INSN: usize = 15;

/// Why an instruction cannot run anywhere but where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotMove {
    /// Not an instruction, or cut off.
    #[error("the bytes at {0:#x} are no instruction")]
    Undecodable(u64),
    /// `int3` is there already: another debugger's, or the program's own.
    #[error("there is a breakpoint instruction at {0:#x} already")]
    Breakpoint(u64),
    /// `syscall`, `ud2`, `int n`, `hlt` …: the kernel, or Go, looks at where it
    /// happened.
    #[error("the instruction at {0:#x} enters the kernel or faults on purpose")]
    Traps(u64),
    /// A call through memory: done by parts, it would fault after its push.
    #[error("the instruction at {0:#x} calls through memory")]
    IndirectCall(u64),
    /// `ret n`, far jumps, transactions: nothing Go writes.
    #[error("the instruction at {0:#x} is of a kind that Go does not write")]
    Odd(u64),
    /// A displacement of 32 bits does not reach from the slot.
    #[error("the slot at {slot:#x} is too far from {target:#x}")]
    TooFar {
        /// Where the slot was to be.
        slot: u64,
        /// What it has to reach.
        target: u64,
    },
}

/// What a thread found inside a slot means in terms of the original code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Offset of an instruction boundary in the slot.
    pub offset: usize,
    /// The original address that a thread there may be moved to.
    pub rip: u64,
    /// To be added to its rsp when it is moved (a call half done is undone).
    pub rsp_adjust: i64,
}

/// A displaced instruction, ready to be written to its slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Machine code; at most [`MAX_SLOT`] bytes.
    pub bytes: Vec<u8>,
    /// Length of the instruction in its old place.
    pub insn_len: usize,
    /// Offset at which the displaced instruction is complete and only the jump
    /// back is left; the slot's length when it never comes to that (a RET, a
    /// jump).
    pub resume: usize,
    /// It may raise a memory or division fault. The signal then shows an
    /// address that Go does not know: who delivers it sets rip back to the
    /// site first.
    pub can_fault: bool,
    /// Every instruction boundary of the slot, in original terms.
    pub places: Vec<Place>,
}

impl Slot {
    /// What a thread at `offset` of the slot means in the original code.
    pub fn place(&self, offset: usize) -> Option<Place> {
        self.places.iter().copied().find(|p| p.offset == offset)
    }
}

/// Moves the instruction that `code` begins with from `site` to `slot`.
/// `code` should hold [`MAX_INSN`] bytes or all that the function still has.
pub fn relocate(code: &[u8], site: u64, slot: u64) -> Result<Slot, CannotMove> {
    let mut decoder = Decoder::with_ip(64, code, site, DecoderOptions::NONE);
    let insn = decoder.decode();
    if decoder.last_error() != DecoderError::None || insn.is_invalid() {
        return Err(CannotMove::Undecodable(site));
    }
    let original = code
        .get(..insn.len())
        .ok_or(CannotMove::Undecodable(site))?;
    if insn.code() == Code::Int3 {
        return Err(CannotMove::Breakpoint(site));
    }
    let next = site.wrapping_add(insn.len() as u64);
    let mut out = Writer::new(site, slot, insn.len());
    match insn.flow_control() {
        FlowControl::Next => {
            if traps(&insn) {
                return Err(CannotMove::Traps(site));
            }
            out.slot.can_fault = can_fault(&insn);
            out.copy(original, &insn, &decoder)?;
            out.done(next)?;
        }
        FlowControl::UnconditionalBranch => out.jump(near_target(&insn, site)?)?,
        FlowControl::IndirectBranch => {
            if matches!(insn.code(), Code::Jmp_rm64) {
                out.slot.can_fault = can_fault(&insn);
                out.copy(original, &insn, &decoder)?;
                out.slot.resume = out.slot.bytes.len();
            } else {
                return Err(CannotMove::Odd(site));
            }
        }
        FlowControl::ConditionalBranch => conditional(&mut out, original, &insn, next)?,
        FlowControl::Return => {
            if insn.code() != Code::Retnq {
                return Err(CannotMove::Odd(site));
            }
            out.slot.bytes.extend_from_slice(original);
            out.slot.resume = out.slot.bytes.len();
        }
        FlowControl::Call => {
            if insn.code() != Code::Call_rel32_64 {
                // syscall and sysenter count as calls to iced.
                return Err(CannotMove::Traps(site));
            }
            out.call(near_target(&insn, site)?, next)?;
        }
        FlowControl::IndirectCall => out.indirect_call(original, &insn, next)?,
        FlowControl::Interrupt | FlowControl::Exception => return Err(CannotMove::Traps(site)),
        FlowControl::XbeginXabortXend => return Err(CannotMove::Odd(site)),
    }
    Ok(out.slot)
}

/// The instruction that `code` begins with, as Intel writes it.
pub fn instruction_text(code: &[u8], at: u64) -> String {
    use iced_x86::Formatter;
    let insn = Decoder::with_ip(64, code, at, DecoderOptions::NONE).decode();
    let mut text = String::new();
    iced_x86::NasmFormatter::new().format(&insn, &mut text);
    text
}

fn near_target(insn: &Instruction, site: u64) -> Result<u64, CannotMove> {
    match insn.op0_kind() {
        OpKind::NearBranch64 => Ok(insn.near_branch_target()),
        _ => Err(CannotMove::Odd(site)),
    }
}

/// Instructions that flow on but where the place of execution shows.
fn traps(insn: &Instruction) -> bool {
    matches!(
        insn.code(),
        Code::Syscall | Code::Sysenter | Code::Hlt | Code::Int_imm8 | Code::Int1
    ) || insn.is_privileged()
}

/// An explicit memory operand may point anywhere; the stack and the program's
/// own data (rip-relative) are there. A division may be by zero.
fn can_fault(insn: &Instruction) -> bool {
    use iced_x86::Mnemonic::{Div, Idiv};
    if matches!(insn.mnemonic(), Div | Idiv) {
        return true;
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(insn);
    info.used_memory().iter().any(|m| {
        use iced_x86::OpAccess::{NoMemAccess, None};
        let touched = !matches!(m.access(), NoMemAccess | None);
        let certain = matches!(m.base(), Register::RSP | Register::RIP)
            && m.index() == Register::None
            || m.segment() == Register::FS
            || m.base() == Register::None && insn.is_ip_rel_memory_operand();
        touched && !certain
    })
}

/// `jcc`, and the loop instructions, which exist with short distances only.
fn conditional(
    out: &mut Writer,
    original: &[u8],
    insn: &Instruction,
    next: u64,
) -> Result<(), CannotMove> {
    let target = near_target(insn, out.site)?;
    if insn.is_jcc_short_or_near() {
        let condition = condition_code(original, insn).ok_or(CannotMove::Odd(out.site))?;
        out.slot.bytes.extend_from_slice(&[0x0f, 0x80 | condition]);
        out.displacement(target)?;
        out.done(next)
    } else if insn.is_loop() || insn.is_loopcc() || insn.is_jcx_short() {
        // jrcxz over the jump back; both branches then lead on.
        let (_, head) = original.split_last().ok_or(CannotMove::Odd(out.site))?;
        out.slot.bytes.extend_from_slice(head);
        out.slot.bytes.push(5);
        out.done(next)?;
        out.place(target, 0);
        out.jump_only(target)
    } else {
        Err(CannotMove::Odd(out.site))
    }
}

/// The low four bits of the opcode, which stands before the displacement.
fn condition_code(original: &[u8], insn: &Instruction) -> Option<u8> {
    let displacement = if insn.is_jcc_short() { 1 } else { 4 };
    let opcode = original.len().checked_sub(displacement + 1)?;
    original.get(opcode).map(|op| op & 0x0f)
}

struct Writer {
    slot: Slot,
    site: u64,
    at: u64,
}

impl Writer {
    fn new(site: u64, at: u64, insn_len: usize) -> Self {
        let start = Place {
            offset: 0,
            rip: site,
            rsp_adjust: 0,
        };
        Self {
            slot: Slot {
                bytes: Vec::with_capacity(MAX_SLOT),
                insn_len,
                resume: 0,
                can_fault: false,
                places: vec![start],
            },
            site,
            at,
        }
    }

    fn place(&mut self, rip: u64, rsp_adjust: i64) {
        self.slot.places.push(Place {
            offset: self.slot.bytes.len(),
            rip,
            rsp_adjust,
        });
    }

    /// The instruction's own bytes, a rip-relative displacement corrected.
    fn copy(
        &mut self,
        original: &[u8],
        insn: &Instruction,
        decoder: &Decoder<'_>,
    ) -> Result<(), CannotMove> {
        self.slot.bytes.extend_from_slice(original);
        if !insn.is_ip_rel_memory_operand() {
            return Ok(());
        }
        if insn.memory_base() != Register::RIP {
            return Err(CannotMove::Odd(self.site));
        }
        let target = insn.ip_rel_memory_address();
        let offset = decoder.get_constant_offsets(insn).displacement_offset();
        let next = self.at.wrapping_add(original.len() as u64);
        let distance = self.distance(next, target)?;
        let field = offset..offset.saturating_add(4);
        let place = self.slot.bytes.get_mut(field);
        let place = place.ok_or(CannotMove::Odd(self.site))?;
        place.copy_from_slice(&distance.to_le_bytes());
        Ok(())
    }

    /// The displaced instruction is complete: the jump back.
    fn done(&mut self, next: u64) -> Result<(), CannotMove> {
        self.slot.resume = self.slot.bytes.len();
        self.place(next, 0);
        self.jump_only(next)
    }

    /// The displaced instruction is itself a jump.
    fn jump(&mut self, target: u64) -> Result<(), CannotMove> {
        self.jump_only(target)?;
        self.slot.resume = self.slot.bytes.len();
        Ok(())
    }

    /// A call: pushes the original return address, then jumps.
    fn call(&mut self, target: u64, next: u64) -> Result<(), CannotMove> {
        self.push_address(next);
        self.slot.resume = self.slot.bytes.len();
        self.place(target, 0);
        self.jump_only(target)
    }

    /// A call to where a register says, which is how Go calls closures and
    /// methods of interfaces: pushes the original return address, then jumps.
    fn indirect_call(
        &mut self,
        original: &[u8],
        insn: &Instruction,
        next: u64,
    ) -> Result<(), CannotMove> {
        let register = insn.op0_kind() == OpKind::Register;
        let plain = insn.code() == Code::Call_rm64 && insn.op0_register() != Register::RSP;
        let (modrm, head) = original
            .split_last()
            .filter(|_| register && plain)
            .ok_or(CannotMove::IndirectCall(self.site))?;
        self.push_address(next);
        self.place(self.site, 8);
        self.slot.bytes.extend_from_slice(head);
        // ff /2 calls, ff /4 jumps.
        self.slot.bytes.push(modrm & 0xc7 | 4 << 3);
        self.slot.resume = self.slot.bytes.len();
        Ok(())
    }

    /// One push where the address fits its sign-extended operand, else by
    /// halves. No flag changes.
    fn push_address(&mut self, address: u64) {
        if let Ok(low) = i32::try_from(address) {
            self.slot.bytes.push(0x68);
            self.slot.bytes.extend_from_slice(&low.to_le_bytes());
            return;
        }
        let (low, high) = (address as u32, (address >> 32) as u32);
        self.slot.bytes.extend([0x48, 0x8d, 0x64, 0x24, 0xf8]); // lea rsp, [rsp-8]
        self.place(self.site, 8);
        self.slot.bytes.extend([0xc7, 0x04, 0x24]); // mov dword [rsp], low
        self.slot.bytes.extend(low.to_le_bytes());
        self.place(self.site, 8);
        self.slot.bytes.extend([0xc7, 0x44, 0x24, 4]); // mov dword [rsp+4], high
        self.slot.bytes.extend(high.to_le_bytes());
    }

    fn jump_only(&mut self, target: u64) -> Result<(), CannotMove> {
        self.slot.bytes.push(0xe9);
        self.displacement(target)
    }

    /// Four bytes that reach `target` from behind themselves.
    fn displacement(&mut self, target: u64) -> Result<(), CannotMove> {
        let next = self
            .at
            .wrapping_add(self.slot.bytes.len() as u64)
            .wrapping_add(4);
        let distance = self.distance(next, target)?;
        self.slot.bytes.extend_from_slice(&distance.to_le_bytes());
        Ok(())
    }

    fn distance(&self, from: u64, target: u64) -> Result<i32, CannotMove> {
        i32::try_from(target.wrapping_sub(from).cast_signed()).map_err(|_| CannotMove::TooFar {
            slot: self.at,
            target,
        })
    }
}

#[cfg(test)]
mod tests;
