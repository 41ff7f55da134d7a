//! What an entry hands to the RET of the same call, in tables beside the ring:
//! that the call was let in, and where the buffer is that it will fill.
//!
//! A call is known by a *key*, one number made of its goroutine (of its g, where
//! goid is 0) and its depth; the key's upper bits choose the place in a table.
//!
//! **Marks** (`gate`). A place counts the calls that were let in and have not been
//! accounted for since, and names the last one's key. An entry that is let in
//! counts up and puts its key there; a RET that finds its own key takes it away,
//! counts down, and says so in its record ([`TOOK`]). What ended otherwise, or
//! found another's key, is counted down by who reads the ring. A RET that finds 0
//! is of a call that was not let in. So where two calls share a place, RETs too
//! many may be recorded, and never one too few. An entry that is not let in
//! removes its own key, which a call has left there that ended without a RET: its
//! RET would take the mark of somebody else.
//!
//! **Buffers**. A place holds where a call's buffer lies and how much fits into
//! it, and the same once more xored with the key: whoever finds two words that do
//! not belong together, written by two threads at once, or those of another call,
//! has found nothing. A buffer on the goroutine's own stack is known by its
//! distance from the stack's end, as copystack would move it (runtime/stack.go,
//! adjustpointers). Others do not move.
//!
//! **Copied**. Not from an entry to its RET, but to the entries of later calls: that
//! an object was copied ([`Once`](super::capture::Once)), so that they need not.
//! A place holds the object's address, which is written last and compared last, two
//! pointers in it, and the age of the memory then: the garbage collector's count of
//! its cycles, which changes while no goroutine runs, and without which nothing is
//! freed. Written once the record is whole, and compared before the next one's
//! ticket: whoever reads records in the order of tickets has the copy.

use iced_x86::code_asm::CodeLabel;
use iced_x86::code_asm::{
    AsmRegister64, al, ax, byte_ptr, eax, qword_ptr, r12, r12d, r13, r13w, r14, rax, rsp, word_ptr,
    xmm15, xmmword_ptr,
};
use iced_x86::{Code, Register};

use super::trampoline::{GOffsets, Writer, Wrong};

/// Places for marks; a power of two.
pub const MARKS: u64 = 1 << 14;

/// Places for buffers; a power of two.
pub const BUFFERS: u64 = 1 << 16;

/// Bytes of a place in either table.
pub const PLACE: u64 = 16;

/// Places for objects that were copied; a power of two.
pub const COPIED: u64 = 1 << 14;

/// Bytes of one of them.
pub const COPIED_PLACE: u64 = 32;

/// In a record's site word: this RET has taken its own call's mark.
pub const TOOK: u64 = 1 << 32;

/// Most bytes of a buffer that a place can tell of.
pub const MAX_FILLED: u32 = 1 << 15;

/// More than any depth: stacks are at most 1 GB (runtime/proc.go, maxstacksize).
const BY_ID: i32 = 0x4000_0003;
/// An odd number that spreads keys over their places.
pub(super) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Behind the length: the buffer is on the stack, and its distance from the end is
/// told. User addresses end below this bit (arch/x86/include/asm/page_64_types.h,
/// TASK_SIZE_MAX).
const ON_STACK: u32 = 47;

/// What a call is known by. `id` is the goroutine's, or the address of its g.
pub fn key(id: u64, depth: u64) -> u64 {
    let by = i64::from(BY_ID).cast_unsigned();
    id.wrapping_mul(by).wrapping_add(depth).wrapping_mul(SPREAD)
}

/// The place of a call's mark.
pub fn mark_place(key: u64) -> u64 {
    key >> (64 - MARKS.trailing_zeros())
}

/// The place of a call's buffer.
pub fn buffer_place(key: u64) -> u64 {
    key >> (64 - BUFFERS.trailing_zeros())
}

impl Writer<'_> {
    /// The key, to R12; R13 is used. Which call it is follows from RSP.
    fn key(&mut self, g: GOffsets, to_return: i32) -> Result<(), Wrong> {
        let a = &mut self.a;
        a.mov(r12, qword_ptr(r14 + g.goid))?;
        a.test(r12, r12)?;
        a.cmove(r12, r14)?;
        a.imul_3(r12, r12, BY_ID)?;
        a.mov(r13, qword_ptr(r14 + g.stack_hi))?;
        a.sub(r13, rsp)?;
        a.sub(r13, to_return)?;
        a.add(r12, r13)?;
        a.mov(r13, SPREAD.cast_signed())?;
        a.imul_2(r12, r13)?;
        Ok(())
    }

    /// The address of the key's place in a table of so many, to R13.
    fn place(&mut self, places: u64, table: u64) -> Result<(), Wrong> {
        self.a.mov(r13, r12)?;
        self.a.shr(r13, 64 - places.trailing_zeros())?;
        self.a.shl(r13, PLACE.trailing_zeros())?;
        self.rip(Code::Add_r64_rm64, Some(Register::R13), table)
    }

    fn mark_place(&mut self, g: GOffsets, to_return: i32) -> Result<(), Wrong> {
        self.key(g, to_return)?;
        self.place(MARKS, self.ring.marks_pointer())
    }

    /// An entry that is let in.
    pub(super) fn leave_mark(&mut self, g: GOffsets, to_return: i32) -> Result<(), Wrong> {
        self.mark_place(g, to_return)?;
        self.a.lock().inc(qword_ptr(r13))?;
        self.a.mov(qword_ptr(r13 + 8), r12)?;
        Ok(())
    }

    /// An entry that is not.
    pub(super) fn forget_mark(
        &mut self,
        g: GOffsets,
        to_return: i32,
        out: CodeLabel,
    ) -> Result<(), Wrong> {
        self.mark_place(g, to_return)?;
        self.a.cmp(qword_ptr(r13 + 8), r12)?;
        self.a.jne(out)?;
        self.a.mov(qword_ptr(r13 + 8), 0)?;
        self.a.jmp(out)?;
        Ok(())
    }

    /// A RET: goes to `no` when nobody was let in who could be its call.
    pub(super) fn ask_mark(
        &mut self,
        g: GOffsets,
        to_return: i32,
        no: CodeLabel,
    ) -> Result<(), Wrong> {
        self.mark_place(g, to_return)?;
        self.a.cmp(qword_ptr(r13), 0)?;
        self.a.je(no)?;
        Ok(())
    }

    /// A RET that is recorded, in the record at R13: takes the mark if it is its own
    /// call's.
    pub(super) fn take_mark(&mut self, g: GOffsets, to_return: i32) -> Result<(), Wrong> {
        let mut others = self.a.create_label();
        let mut done = self.a.create_label();
        self.a.movq(xmm15, r13)?;
        self.mark_place(g, to_return)?;
        let a = &mut self.a;
        a.cmp(qword_ptr(r13 + 8), r12)?;
        a.jne(others)?;
        a.mov(qword_ptr(r13 + 8), 0)?;
        a.lock().dec(qword_ptr(r13))?;
        a.movq(r13, xmm15)?;
        a.mov(byte_ptr(r13 + 28), 1)?;
        a.jmp(done)?;
        a.set_label(&mut others)?;
        a.movq(r13, xmm15)?;
        a.set_label(&mut done)?;
        a.zero_bytes()?;
        Ok(())
    }

    /// An entry that is recorded tells where its buffer is. RAX waits in X15.
    pub(super) fn leave_buffer(
        &mut self,
        (ptr, len): (AsmRegister64, AsmRegister64),
        max: u32,
        g: GOffsets,
        to_return: i32,
    ) -> Result<(), Wrong> {
        let max = i32::try_from(max.min(MAX_FILLED)).map_err(|_| Wrong::Capture)?;
        if ptr == rax || len == rax {
            return Err(Wrong::Capture);
        }
        self.key(g, to_return)?;
        self.place(BUFFERS, self.ring.buffers_pointer())?;
        let a = &mut self.a;
        let mut heap = a.create_label();
        let mut long = a.create_label();
        let mut written = a.create_label();
        let mut odd = a.create_label();
        let mut done = a.create_label();
        a.movq(xmm15, rax)?;
        a.mov(rax, r12)?;
        // The address, or the distance from the stack's end.
        a.mov(r12, ptr)?;
        a.shr(r12, ON_STACK)?;
        a.jne(odd)?;
        a.mov(r12, ptr)?;
        a.cmp(ptr, rsp)?;
        a.jb(heap)?;
        a.cmp(ptr, qword_ptr(r14 + g.stack_hi))?;
        a.jae(heap)?;
        a.mov(r12, qword_ptr(r14 + g.stack_hi))?;
        a.sub(r12, ptr)?;
        a.bts(r12, ON_STACK)?;
        a.set_label(&mut heap)?;
        a.shl(r12, 16)?;
        a.cmp(len, max)?;
        a.jae(long)?;
        a.add(r12, len)?;
        a.jmp(written)?;
        a.set_label(&mut long)?;
        a.add(r12, max)?;
        a.set_label(&mut written)?;
        a.mov(qword_ptr(r13), r12)?;
        a.xor(rax, r12)?;
        a.mov(qword_ptr(r13 + 8), rax)?;
        a.jmp(done)?;
        // What an earlier call has left there is not this one's.
        a.set_label(&mut odd)?;
        a.mov(qword_ptr(r13 + 8), 0)?;
        a.set_label(&mut done)?;
        a.movq(rax, xmm15)?;
        Ok(())
    }

    /// A RET with the count of bytes in RAX: copies what was filled behind the word
    /// at `at`, which tells where it lies; 0: it was not found, or there is none.
    pub(super) fn filled(
        &mut self,
        max: u32,
        at: i32,
        g: GOffsets,
        to_return: i32,
    ) -> Result<(), Wrong> {
        let max = i32::try_from(max).map_err(|_| Wrong::Capture)?;
        if max % 16 != 0 || max == 0 || max.unsigned_abs() > MAX_FILLED {
            return Err(Wrong::Capture);
        }
        let mut none = self.a.create_label();
        let mut heap = self.a.create_label();
        let mut fits = self.a.create_label();
        let mut done = self.a.create_label();
        let a = &mut self.a;
        a.mov(qword_ptr(r13 + at), 0)?;
        a.movq(xmm15, r13)?;
        a.test(rax, rax)?;
        a.jle(none)?;
        self.key(g, to_return)?;
        self.place(BUFFERS, self.ring.buffers_pointer())?;
        let a = &mut self.a;
        a.xor(r12, qword_ptr(r13 + 8))?;
        a.mov(r13, qword_ptr(r13))?;
        a.cmp(r12, r13)?;
        a.jne(none)?;
        // More than the buffer holds (MSG_TRUNC of recv(2)): its end is where?
        a.movzx(r12d, r13w)?;
        a.cmp(rax, r12)?;
        a.jbe(fits)?;
        a.cmp(r12d, max)?;
        a.jb(none)?;
        a.set_label(&mut fits)?;
        a.mov(r12, r13)?;
        a.shr(r12, 16)?;
        a.btr(r12, ON_STACK)?;
        a.jae(heap)?;
        a.neg(r12)?;
        a.add(r12, qword_ptr(r14 + g.stack_hi))?;
        a.set_label(&mut heap)?;
        a.movq(r13, xmm15)?;
        a.mov(qword_ptr(r13 + at), r12)?;
        self.copy_counted(max, at + 8, &mut done)?;
        let a = &mut self.a;
        a.set_label(&mut none)?;
        a.movq(r13, xmm15)?;
        a.set_label(&mut done)?;
        a.zero_bytes()?;
        Ok(())
    }

    /// RAX bytes, which is more than none, `max` at most, from R12 to `at` behind
    /// R13. Below four RAX itself carries them: what it was is known there.
    fn copy_counted(&mut self, max: i32, at: i32, done: &mut CodeLabel) -> Result<(), Wrong> {
        let a = &mut self.a;
        let mut tail = a.create_label();
        let mut below16 = a.create_label();
        let mut below8 = a.create_label();
        let mut below4 = a.create_label();
        let mut two = a.create_label();
        let mut three = a.create_label();
        for block in (0..max).step_by(16) {
            a.cmp(rax, block + 16)?;
            a.jb(tail)?;
            a.movups(xmm15, xmmword_ptr(r12 + block))?;
            a.movups(xmmword_ptr(r13 + (at + block)), xmm15)?;
        }
        a.jmp(*done)?;
        a.set_label(&mut tail)?;
        a.cmp(rax, 16)?;
        a.jb(below16)?;
        a.movups(xmm15, xmmword_ptr(r12 + rax - 16))?;
        a.movups(xmmword_ptr(r13 + rax + (at - 16)), xmm15)?;
        a.jmp(*done)?;
        a.set_label(&mut below16)?;
        a.cmp(rax, 8)?;
        a.jb(below8)?;
        a.movq(xmm15, qword_ptr(r12))?;
        a.movq(qword_ptr(r13 + at), xmm15)?;
        a.movq(xmm15, qword_ptr(r12 + rax - 8))?;
        a.movq(qword_ptr(r13 + rax + (at - 8)), xmm15)?;
        a.jmp(*done)?;
        a.set_label(&mut below8)?;
        a.cmp(rax, 4)?;
        a.jb(below4)?;
        a.movd(xmm15, iced_x86::code_asm::dword_ptr(r12))?;
        a.movd(iced_x86::code_asm::dword_ptr(r13 + at), xmm15)?;
        a.movd(xmm15, iced_x86::code_asm::dword_ptr(r12 + rax - 4))?;
        a.movd(iced_x86::code_asm::dword_ptr(r13 + rax + (at - 4)), xmm15)?;
        a.jmp(*done)?;
        a.set_label(&mut below4)?;
        a.cmp(rax, 2)?;
        a.je(two)?;
        a.ja(three)?;
        a.mov(al, byte_ptr(r12))?;
        a.mov(byte_ptr(r13 + at), al)?;
        a.mov(eax, 1)?;
        a.jmp(*done)?;
        a.set_label(&mut two)?;
        a.mov(ax, word_ptr(r12))?;
        a.mov(word_ptr(r13 + at), ax)?;
        a.mov(eax, 2)?;
        a.jmp(*done)?;
        a.set_label(&mut three)?;
        a.mov(ax, word_ptr(r12))?;
        a.mov(word_ptr(r13 + at), ax)?;
        a.mov(al, byte_ptr(r12 + 2))?;
        a.mov(byte_ptr(r13 + (at + 2)), al)?;
        a.mov(eax, 3)?;
        a.jmp(*done)?;
        Ok(())
    }
}
