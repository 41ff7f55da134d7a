//! Displaced instructions that gotap can do for a thread itself.
//!
//! A signal that comes while a thread waits at a site is delivered when it goes
//! on: at the first instruction of a slot. Go does not preempt there, because
//! it is no Go code (isAsyncSafePoint in runtime/preempt.go), and a thread that
//! hits all the time is hardly ever anywhere else: nobody else would get its
//! processor, and no collection would begin. The instructions that sites mostly
//! have are easy to do by hand; then the signal is delivered behind them.

use crate::sys::Regs;

/// What the instruction at the beginning of `code` (`len` bytes, at `site`)
/// makes of `regs`. None for one that is not done by hand. `read` and `write`
/// reach the thread's stack; nothing is written where it still holds something.
pub(super) fn done_by_hand(
    code: &[u8],
    site: u64,
    regs: &Regs,
    read: impl FnOnce(u64) -> Option<u64>,
    write: impl FnOnce(u64, u64) -> Option<()>,
) -> Option<Regs> {
    let mut after = *regs;
    after.rip = site.wrapping_add(code.len() as u64);
    match *code {
        // ret
        [0xc3] => {
            after.rip = read(regs.rsp)?;
            after.rsp = regs.rsp.wrapping_add(8);
        }
        // push rbp
        [0x55] => {
            after.rsp = regs.rsp.wrapping_sub(8);
            write(after.rsp, regs.rbp)?;
        }
        // sub rsp, imm8 and imm32
        [0x48, 0x83, 0xec, low] => subtract(&mut after, i64::from(low as i8)),
        [0x48, 0x81, 0xec, a, b, c, d] => {
            subtract(&mut after, i64::from(i32::from_le_bytes([a, b, c, d])));
        }
        _ => return None,
    }
    Some(after)
}

/// `sub rsp, by`, with the flags that it leaves (Intel SDM, volume 1, 3.4.3.1).
fn subtract(regs: &mut Regs, by: i64) {
    const CARRY: u64 = 1;
    const PARITY: u64 = 1 << 2;
    const ADJUST: u64 = 1 << 4;
    const ZERO: u64 = 1 << 6;
    const SIGN: u64 = 1 << 7;
    const OVERFLOW: u64 = 1 << 11;
    let (from, by) = (regs.rsp, by.cast_unsigned());
    let result = from.wrapping_sub(by);
    let flags = [
        (CARRY, from < by),
        (PARITY, (result as u8).count_ones().is_multiple_of(2)),
        (ADJUST, (from ^ by ^ result) & 0x10 != 0),
        (ZERO, result == 0),
        (SIGN, result >> 63 != 0),
        (OVERFLOW, (from ^ by) & (from ^ result) & (1 << 63) != 0),
    ];
    for (flag, set) in flags {
        regs.eflags = if set {
            regs.eflags | flag
        } else {
            regs.eflags & !flag
        };
    }
    regs.rsp = result;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Regs {
        Regs {
            r15: 15,
            r14: 14,
            r13: 13,
            r12: 12,
            rbp: 0xb0,
            rbx: 1,
            r11: 11,
            r10: 10,
            r9: 9,
            r8: 8,
            rax: 2,
            rcx: 3,
            rdx: 4,
            rsi: 5,
            rdi: 6,
            orig_rax: u64::MAX,
            rip: 0x9000,
            cs: 0x33,
            eflags: 0x202,
            rsp: 0xc000_1000,
            ss: 0x2b,
            fs_base: 0,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        }
    }

    fn act(code: &[u8], regs: &Regs) -> (Option<Regs>, Option<(u64, u64)>) {
        let mut written = None;
        let after = done_by_hand(
            code,
            0x40_0000,
            regs,
            |at| Some(at ^ 0xff),
            |at, value| {
                written = Some((at, value));
                Some(())
            },
        );
        (after, written)
    }

    #[test]
    fn what_sites_mostly_have() {
        let regs = registers();
        let (after, written) = act(&[0x55], &regs);
        let after = after.expect("push rbp");
        assert_eq!((after.rip, after.rsp), (0x40_0001, 0xc000_0ff8));
        assert_eq!(written, Some((0xc000_0ff8, 0xb0)));

        let (after, written) = act(&[0xc3], &regs);
        let after = after.expect("ret");
        assert_eq!((after.rip, after.rsp), (0xc000_1000 ^ 0xff, 0xc000_1008));
        assert_eq!(written, None);

        let (after, _) = act(&[0x48, 0x83, 0xec, 0x58], &regs);
        let after = after.expect("sub rsp, 0x58");
        assert_eq!((after.rip, after.rsp), (0x40_0004, 0xc000_0fa8));

        // mov [rsp+8], rax
        assert!(act(&[0x48, 0x89, 0x44, 0x24, 8], &regs).0.is_none());
        assert!(act(&[], &regs).0.is_none());
    }

    /// Flags as `sub` leaves them, worked out by hand for each kind.
    #[test]
    fn the_flags_of_a_subtraction() {
        let flags = |rsp: u64, imm: i32| {
            let mut regs = registers();
            regs.rsp = rsp;
            regs.eflags = 0;
            subtract(&mut regs, i64::from(imm));
            regs.eflags
        };
        assert_eq!(flags(0x10, 0x10), 0x44, "zero, even parity");
        assert_eq!(flags(0x10, 0x20), 0x1 | 0x4 | 0x80, "borrow");
        assert_eq!(flags(0x10, 1), 0x4 | 0x10, "half borrow");
        assert_eq!(flags(1 << 63, 1), 0x4 | 0x10 | 0x800, "signed overflow");
        assert_eq!(flags(0x1000, -128), 0x1, "a negative constant");
    }
}
