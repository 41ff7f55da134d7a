//! Registers by the numbers that debug information gives them.

use crate::sys::Regs;

/// The same register, to be changed; none of those that a thread goes on by (the stack
/// pointer, the program counter, and R14, where Go keeps the goroutine).
pub fn changeable(regs: &mut Regs, number: u16) -> Option<&mut u64> {
    Some(match number {
        0 => &mut regs.rax,
        1 => &mut regs.rdx,
        2 => &mut regs.rcx,
        3 => &mut regs.rbx,
        4 => &mut regs.rsi,
        5 => &mut regs.rdi,
        8 => &mut regs.r8,
        9 => &mut regs.r9,
        10 => &mut regs.r10,
        11 => &mut regs.r11,
        12 => &mut regs.r12,
        13 => &mut regs.r13,
        15 => &mut regs.r15,
        _ => return None,
    })
}

/// A register by DWARF's number (System V ABI, AMD64 supplement, figure 3.36:
/// "DWARF Register Number Mapping"); `vectors` are the low 64 bits of xmm0 and
/// up, where they are known.
pub fn dwarf_register(regs: &Regs, vectors: &[u64], number: u16) -> Option<u64> {
    /// The first of xmm0 to xmm15.
    const XMM0: u16 = 17;
    Some(match number {
        0 => regs.rax,
        1 => regs.rdx,
        2 => regs.rcx,
        3 => regs.rbx,
        4 => regs.rsi,
        5 => regs.rdi,
        6 => regs.rbp,
        7 => regs.rsp,
        8 => regs.r8,
        9 => regs.r9,
        10 => regs.r10,
        11 => regs.r11,
        12 => regs.r12,
        13 => regs.r13,
        14 => regs.r14,
        15 => regs.r15,
        16 => regs.rip,
        other => return vectors.get(usize::from(other.checked_sub(XMM0)?)).copied(),
    })
}
