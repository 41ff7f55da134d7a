//! Go's stack check at the start of a function, recognised from its bytes.
//!
//! The forms are those that `cmd/internal/obj/x86/obj6.go` (`stacksplit`)
//! writes, the same from Go 1.17 to 1.27: `cmp rsp, [r14+16]; jbe` for small
//! frames, `lea r12, [rsp-n]; cmp r12, [r14+16]; jbe` for larger ones, and a
//! subtraction with an underflow check for huge ones. Offset 24 instead of 16
//! (`stackguard1`) is used by `//go:systemstack` functions.

/// Which form of stack check a function begins with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CheckForm {
    /// `cmp rsp, [r14+16]`: frames up to 128 bytes.
    Small,
    /// `lea r12, [rsp-disp8]; cmp r12, [r14+16]`: up to 256 bytes.
    Large,
    /// The same with a 32-bit displacement: up to 4096 bytes.
    Larger,
    /// `mov r12, rsp; sub r12, n; jb …; cmp r12, [r14+16]`: beyond.
    Huge,
}

/// A stack check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StackCheck {
    /// Its form.
    pub form: CheckForm,
    /// Bytes from the function's entry to the first instruction behind it.
    pub len: usize,
    /// Offset from the entry of the block that calls `runtime.morestack`.
    pub grow: i64,
    /// It loads g from thread-local storage first (ABI0 assembly, cgo stubs).
    pub loads_g: bool,
    /// It compares with `stackguard1`: a function that runs on the system stack.
    pub system_stack: bool,
}

/// The stack check that `code` (a function from its entry on) begins with.
pub fn parse_stack_check(code: &[u8]) -> Option<StackCheck> {
    let g_load = g_load_len(code);
    let rest = code.get(g_load..)?;
    let (form, head) = if rest.starts_with(&[0x49, 0x3b, 0x66]) {
        (CheckForm::Small, 0)
    } else if rest.starts_with(&[0x4c, 0x8d, 0x64, 0x24]) {
        (CheckForm::Large, 5)
    } else if rest.starts_with(&[0x4c, 0x8d, 0xa4, 0x24]) {
        (CheckForm::Larger, 8)
    } else if rest.starts_with(&[0x49, 0x89, 0xe4, 0x49, 0x81, 0xec]) {
        let jump = conditional(rest.get(10..)?, 2)?;
        (CheckForm::Huge, jump.len.checked_add(10)?)
    } else {
        return None;
    };
    let compare = rest.get(head..)?;
    let guard = match (form, compare.get(..4)?) {
        (CheckForm::Small, [0x49, 0x3b, 0x66, guard]) | (_, [0x4d, 0x3b, 0x66, guard]) => *guard,
        _ => return None,
    };
    let system_stack = match guard {
        0x10 => false,
        0x18 => true,
        _ => return None,
    };
    let jump = conditional(compare.get(4..)?, 6)?;
    let len = g_load
        .checked_add(head)?
        .checked_add(4)?
        .checked_add(jump.len)?;
    let grow = i64::try_from(len).ok()?.checked_add(jump.distance)?;
    Some(StackCheck {
        form,
        len,
        grow,
        loads_g: g_load != 0,
        system_stack,
    })
}

/// Bytes of the load of g into r14 that precedes a check in ABI0 code:
/// from fs:[-8], from fs:[imm] through r14 (PIE), or through the GOT.
fn g_load_len(code: &[u8]) -> usize {
    let through_r14 = [0x64, 0x4d, 0x8b, 0x36]; // mov r14, fs:[r14]
    if code.starts_with(&[0x64, 0x4c, 0x8b, 0x34, 0x25]) {
        9
    } else if (code.starts_with(&[0x49, 0xc7, 0xc6]) || code.starts_with(&[0x4c, 0x8b, 0x35]))
        && code.get(7..).is_some_and(|c| c.starts_with(&through_r14))
    {
        11
    } else {
        0
    }
}

struct Conditional {
    len: usize,
    distance: i64,
}

/// A conditional jump with the given condition code, short or near.
fn conditional(code: &[u8], condition: u8) -> Option<Conditional> {
    match *code {
        [op, d, ..] if op == 0x70 | condition => Some(Conditional {
            len: 2,
            distance: i64::from(d.cast_signed()),
        }),
        [0x0f, op, a, b, c, d, ..] if op == 0x80 | condition => Some(Conditional {
            len: 6,
            distance: i64::from(i32::from_le_bytes([a, b, c, d])),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_known() {
        let cases: &[(&[u8], CheckForm, usize, bool, bool)] = &[
            (
                &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x20],
                CheckForm::Small,
                6,
                false,
                false,
            ),
            (
                &[0x49, 0x3b, 0x66, 0x18, 0x0f, 0x86, 0x20, 1, 0, 0],
                CheckForm::Small,
                10,
                false,
                true,
            ),
            (
                &[
                    0x4c, 0x8d, 0x64, 0x24, 0xd8, 0x4d, 0x3b, 0x66, 0x10, 0x76, 0x20,
                ],
                CheckForm::Large,
                11,
                false,
                false,
            ),
            (
                &[
                    0x4c, 0x8d, 0xa4, 0x24, 0, 0xff, 0xff, 0xff, 0x4d, 0x3b, 0x66, 0x10, 0x0f,
                    0x86, 1, 2, 0, 0,
                ],
                CheckForm::Larger,
                18,
                false,
                false,
            ),
            (
                &[
                    0x49, 0x89, 0xe4, 0x49, 0x81, 0xec, 0, 0, 1, 0, 0x0f, 0x82, 9, 0, 0, 0, 0x4d,
                    0x3b, 0x66, 0x10, 0x0f, 0x86, 1, 2, 0, 0,
                ],
                CheckForm::Huge,
                26,
                false,
                false,
            ),
            (
                &[
                    0x64, 0x4c, 0x8b, 0x34, 0x25, 0xf8, 0xff, 0xff, 0xff, 0x49, 0x3b, 0x66, 0x10,
                    0x76, 0x20,
                ],
                CheckForm::Small,
                15,
                true,
                false,
            ),
            (
                &[
                    0x49, 0xc7, 0xc6, 0xf8, 0xff, 0xff, 0xff, 0x64, 0x4d, 0x8b, 0x36, 0x49, 0x3b,
                    0x66, 0x10, 0x76, 0x20,
                ],
                CheckForm::Small,
                17,
                true,
                false,
            ),
        ];
        for (code, form, len, loads_g, system_stack) in cases {
            let check = parse_stack_check(code).expect("a stack check");
            assert_eq!(
                (check.form, check.len, check.loads_g, check.system_stack),
                (*form, *len, *loads_g, *system_stack)
            );
        }
    }

    #[test]
    fn other_code_and_short_code_is_none() {
        let whole = [
            0x49, 0x89, 0xe4, 0x49, 0x81, 0xec, 0, 0, 1, 0, 0x0f, 0x82, 9, 0, 0, 0, 0x4d, 0x3b,
            0x66, 0x10, 0x0f, 0x86, 1, 2, 0, 0,
        ];
        for len in 0..whole.len() {
            assert_eq!(parse_stack_check(&whole[..len]), None);
        }
        assert_eq!(parse_stack_check(&[0x55, 0x48, 0x89, 0xe5]), None);
        // r14 compared with another field is no stack check.
        assert_eq!(parse_stack_check(&[0x49, 0x3b, 0x66, 0x20, 0x76, 0]), None);
    }
}
