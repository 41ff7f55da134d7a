//! The code that writes one capture down: registers, the stack, what pointers lead
//! to, bytes.

use iced_x86::code_asm::{
    AsmRegister64, AsmRegisterXmm, byte_ptr, dword_ptr, qword_ptr, r8, r9, r10, r11, r12, r12b,
    r12d, r13, r14, rax, rbp, rbx, rcx, rdi, rsi, rsp, xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6,
    xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15, xmmword_ptr,
};

use super::{GOffsets, Writer, Wrong, held};
use crate::arch::jump::capture::{Capture, G};
use crate::arch::jump::held::FIRST_PAGE;

impl Writer<'_> {
    pub(super) fn capture(
        &mut self,
        capture: &Capture,
        at: i32,
        to_return: i32,
        g: GOffsets,
    ) -> Result<(), Wrong> {
        match capture {
            Capture::Int(register) => self.a.mov(qword_ptr(r13 + at), int(*register)?)?,
            Capture::Float(register) => self.a.movups(xmmword_ptr(r13 + at), float(*register)?)?,
            Capture::Stack { offset, words } => {
                let first = i32::try_from(*offset).map_err(|_| Wrong::Capture)?;
                let first = first
                    .checked_add(to_return)
                    .and_then(|o| o.checked_add(8))
                    .ok_or(Wrong::Capture)?;
                for word in 0..i32::try_from(*words).map_err(|_| Wrong::Capture)? {
                    self.a.mov(r12, qword_ptr(rsp + first + word * 8))?;
                    self.a.mov(qword_ptr(r13 + at + word * 8), r12)?;
                }
            }
            Capture::Chain { from, hops, fields } => self.chain(*from, hops, fields, at)?,
            Capture::Copied {
                from, hops, parts, ..
            } => {
                let way = held::Way::over(int(*from)?, hops);
                self.copied(&way, parts, at)?;
            }
            Capture::Interface { itab, data, of } => {
                self.interface((int(*itab)?, int(*data)?), of, at)?;
            }
            Capture::Frames { max } => self.frames(*max, at, to_return, g)?,
            Capture::Bytes { ptr, len, max } => self.bytes(int(*ptr)?, int(*len)?, *max, at)?,
            Capture::Buffer { .. } => {} // before the ticket
            Capture::Filled { max } => self.filled(*max, at, g, to_return)?,
        }
        Ok(())
    }

    fn chain(&mut self, from: u8, hops: &[i32], fields: &[i32], at: i32) -> Result<(), Wrong> {
        let a = &mut self.a;
        let mut nil = a.create_label();
        let mut done = a.create_label();
        let from = if from == G { r14 } else { int(from)? };
        a.mov(r12, from)?;
        for hop in hops {
            a.cmp(r12, FIRST_PAGE)?;
            a.jb(nil)?;
            a.mov(r12, qword_ptr(r12 + *hop))?;
        }
        a.cmp(r12, FIRST_PAGE)?;
        a.jb(nil)?;
        a.mov(qword_ptr(r13 + at), r12)?;
        let mut to = at;
        for field in fields {
            to += 8;
            a.movq(xmm15, qword_ptr(r12 + *field))?;
            a.movq(qword_ptr(r13 + to), xmm15)?;
        }
        a.jmp(done)?;
        a.set_label(&mut nil)?;
        a.mov(qword_ptr(r13 + at), 0)?;
        a.set_label(&mut done)?;
        a.zero_bytes()?;
        Ok(())
    }

    /// Whatever RBP and what it leads to are: nothing is read but of the stack.
    fn frames(&mut self, max: u32, at: i32, to_return: i32, g: GOffsets) -> Result<(), Wrong> {
        let max = i32::try_from(max).map_err(|_| Wrong::Capture)?;
        let a = &mut self.a;
        let mut done = a.create_label();
        for frame in 0..max {
            a.mov(qword_ptr(r13 + (at + frame * 16)), 0)?;
        }
        a.lea(r12, qword_ptr(rsp + to_return))?;
        for frame in 0..max {
            let place = at + frame * 16;
            if frame == 1 {
                a.mov(r12, rbp)?;
            }
            if frame > 0 {
                // A frame's pair, the older frame pointer and the return address,
                // lies wholly between here and the stack's end.
                a.cmp(r12, rsp)?;
                a.jb(done)?;
                a.add(r12, 16)?;
                a.jc(done)?;
                a.cmp(r12, qword_ptr(r14 + g.stack_hi))?;
                a.ja(done)?;
                a.sub(r12, 8)?;
            }
            a.mov(qword_ptr(r13 + place), r12)?;
            a.movq(xmm15, qword_ptr(r12))?;
            a.movq(qword_ptr(r13 + (place + 8)), xmm15)?;
            if frame > 0 && frame + 1 < max {
                a.mov(r12, qword_ptr(r12 - 8))?;
            }
        }
        a.set_label(&mut done)?;
        a.zero_bytes()?;
        Ok(())
    }

    /// Sixteen bytes at a time; the rest by words that overlap what was copied.
    fn bytes(
        &mut self,
        ptr: AsmRegister64,
        len: AsmRegister64,
        max: u32,
        at: i32,
    ) -> Result<(), Wrong> {
        let max = i32::try_from(max).map_err(|_| Wrong::Capture)?;
        if max % 16 != 0 || max == 0 {
            return Err(Wrong::Capture);
        }
        let a = &mut self.a;
        let mut tail = a.create_label();
        let mut below16 = a.create_label();
        let mut below8 = a.create_label();
        let mut below4 = a.create_label();
        let mut done = a.create_label();
        for block in (0..max).step_by(16) {
            a.cmp(len, block + 16)?;
            a.jb(tail)?;
            a.movups(xmm15, xmmword_ptr(ptr + block))?;
            a.movups(xmmword_ptr(r13 + at + block), xmm15)?;
        }
        a.jmp(done)?;
        a.set_label(&mut tail)?;
        a.cmp(len, 16)?;
        a.jb(below16)?;
        a.movups(xmm15, xmmword_ptr(ptr + len - 16))?;
        a.movups(xmmword_ptr(r13 + len + (at - 16)), xmm15)?;
        a.jmp(done)?;
        a.set_label(&mut below16)?;
        a.cmp(len, 8)?;
        a.jb(below8)?;
        a.mov(r12, qword_ptr(ptr))?;
        a.mov(qword_ptr(r13 + at), r12)?;
        a.mov(r12, qword_ptr(ptr + len - 8))?;
        a.mov(qword_ptr(r13 + len + (at - 8)), r12)?;
        a.jmp(done)?;
        a.set_label(&mut below8)?;
        a.cmp(len, 4)?;
        a.jb(below4)?;
        a.mov(r12d, dword_ptr(ptr))?;
        a.mov(dword_ptr(r13 + at), r12d)?;
        a.mov(r12d, dword_ptr(ptr + len - 4))?;
        a.mov(dword_ptr(r13 + len + (at - 4)), r12d)?;
        a.jmp(done)?;
        a.set_label(&mut below4)?;
        for byte in 0..3 {
            a.cmp(len, byte + 1)?;
            a.jb(done)?;
            a.mov(r12b, byte_ptr(ptr + byte))?;
            a.mov(byte_ptr(r13 + (at + byte)), r12b)?;
        }
        a.set_label(&mut done)?;
        a.zero_bytes()?;
        Ok(())
    }
}

pub(super) fn int(register: u8) -> Result<AsmRegister64, Wrong> {
    [rax, rbx, rcx, rdi, rsi, r8, r9, r10, r11]
        .get(usize::from(register))
        .copied()
        .ok_or(Wrong::Capture)
}

fn float(register: u8) -> Result<AsmRegisterXmm, Wrong> {
    [
        xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13,
        xmm14,
    ]
    .get(usize::from(register))
    .copied()
    .ok_or(Wrong::Capture)
}
