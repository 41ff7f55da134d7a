//! Registers by the numbers that debug information gives them.

use crate::sys::Regs;

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
