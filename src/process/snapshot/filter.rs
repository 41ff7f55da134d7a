//! What a thread's seccomp filters would say to the system calls that a copy
//! takes: the filters are read, and run here on those calls.
//!
//! Classic BPF as seccomp allows it (seccomp_check_filter in kernel/seccomp.c;
//! Documentation/networking/filter.rst). Jumps lead forwards alone, so every
//! program ends.

use crate::sys::ptrace::FilterInstruction;

/// AUDIT_ARCH_X86_64 (include/uapi/linux/audit.h).
const ARCH: u32 = 0xc000_003e;
/// Filters one behind the other: the kernel allows as many as have 32768
/// instructions together.
const MAX_FILTERS: usize = 4096;

/// A system call as filters see it (`struct seccomp_data`, linux/seccomp.h).
#[derive(Debug, Clone, Copy)]
pub struct SystemCall {
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What filters do about a call, mildest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It ends the thread or its process, or signals it.
    Deadly,
    /// Somebody else is asked.
    Asks,
    /// The call fails.
    Fails,
    /// It is done.
    Allowed,
}

/// The filters of a thread, as `read` gives them by their index.
pub fn read_filters<E>(
    mut read: impl FnMut(usize) -> Result<Option<Vec<FilterInstruction>>, E>,
) -> Result<Vec<Vec<FilterInstruction>>, E> {
    let mut all = Vec::new();
    while all.len() < MAX_FILTERS {
        match read(all.len())? {
            Some(filter) => all.push(filter),
            None => break,
        }
    }
    Ok(all)
}

/// What filters say to a call made at `rip`: the strictest counts. What cannot
/// be understood is deadly.
pub fn judge(filters: &[Vec<FilterInstruction>], call: &SystemCall, rip: u64) -> Verdict {
    let data = words(call, rip);
    let each = filters.iter().map(|filter| match run(filter, &data) {
        Some(value) => verdict(value),
        None => Verdict::Deadly,
    });
    each.min().unwrap_or(Verdict::Allowed)
}

fn verdict(value: u32) -> Verdict {
    match value & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG => Verdict::Allowed,
        libc::SECCOMP_RET_ERRNO => Verdict::Fails,
        libc::SECCOMP_RET_USER_NOTIF | libc::SECCOMP_RET_TRACE => Verdict::Asks,
        _ => Verdict::Deadly,
    }
}

fn words(call: &SystemCall, rip: u64) -> [u32; 16] {
    let mut data = [0; 16];
    let (number, wide) = (call.number as u32, std::iter::once(&rip).chain(&call.args));
    let halves = wide.flat_map(|w| [*w as u32, (w >> 32) as u32]);
    for (to, from) in data
        .iter_mut()
        .zip([number, ARCH].into_iter().chain(halves))
    {
        *to = from;
    }
    data
}

/// What a filter returns; None for one that the kernel would not have taken.
fn run(filter: &[FilterInstruction], data: &[u32; 16]) -> Option<u32> {
    const CLASS: u16 = 0x07;
    const X: u16 = 0x08;
    let (mut a, mut x) = (0u32, 0u32);
    let mut memory = [0u32; 16];
    let mut pc = 0usize;
    loop {
        let FilterInstruction { code, jt, jf, k } = *filter.get(pc)?;
        pc = pc.checked_add(1)?;
        let slot = usize::try_from(k).ok()?;
        let source = if code & X != 0 { x } else { k };
        match code & CLASS {
            // LD, LDX: of the call, its length, a constant, the scratch memory.
            class @ (0 | 1) => {
                let value = match code & 0xf8 {
                    0x20 if class == 0 && k.is_multiple_of(4) => *data.get(slot / 4)?,
                    0x80 => u32::try_from(std::mem::size_of_val(data)).ok()?,
                    0x00 => k,
                    0x60 => *memory.get(slot)?,
                    _ => return None,
                };
                *(if class == 0 { &mut a } else { &mut x }) = value;
            }
            2 => *memory.get_mut(slot)? = a,
            3 => *memory.get_mut(slot)? = x,
            4 => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(source),
                    0x10 => a.wrapping_sub(source),
                    0x20 => a.wrapping_mul(source),
                    0x30 => a.checked_div(source)?,
                    0x40 => a | source,
                    0x50 => a & source,
                    0x60 => a.checked_shl(source)?,
                    0x70 => a.checked_shr(source)?,
                    0x80 => a.wrapping_neg(),
                    0xa0 => a ^ source,
                    _ => return None,
                };
            }
            5 => {
                let holds = match code & 0xf0 {
                    0x00 => {
                        pc = pc.checked_add(slot)?;
                        continue;
                    }
                    0x10 => a == source,
                    0x20 => a > source,
                    0x30 => a >= source,
                    0x40 => a & source != 0,
                    _ => return None,
                };
                pc = pc.checked_add(usize::from(if holds { jt } else { jf }))?;
            }
            6 => return Some(if code & 0x18 == 0x10 { a } else { k }),
            // TAX, TXA.
            _ if code & 0xf8 == 0 => x = a,
            _ if code & 0xf8 == 0x80 => a = x,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn op(code: u16, jt: u8, jf: u8, k: u32) -> FilterInstruction {
        FilterInstruction { code, jt, jf, k }
    }

    const NUMBER: FilterInstruction = op(0x20, 0, 0, 0);
    const ALLOW: FilterInstruction = op(0x06, 0, 0, libc::SECCOMP_RET_ALLOW);

    fn call(number: i64, first: u64) -> SystemCall {
        SystemCall {
            number,
            args: [first, 0, 0, 0, 0, 0],
        }
    }

    #[test]
    fn a_list_of_what_is_allowed() {
        let filter = vec![
            op(0x20, 0, 0, 4),
            op(0x15, 1, 0, ARCH),
            op(0x06, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
            NUMBER,
            op(0x15, 2, 0, libc::SYS_clone as u32),
            op(0x15, 2, 0, libc::SYS_wait4 as u32),
            op(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | 1),
            op(0x05, 0, 0, 1),
            op(0x06, 0, 0, libc::SECCOMP_RET_TRAP),
            ALLOW,
        ];
        let of = |number| judge(std::slice::from_ref(&filter), &call(number, 0), 0);
        assert_eq!(of(libc::SYS_clone), Verdict::Allowed);
        assert_eq!(of(libc::SYS_wait4), Verdict::Deadly);
        assert_eq!(of(libc::SYS_prctl), Verdict::Fails);
        // The strictest of all that are there.
        let ask = vec![op(0x06, 0, 0, libc::SECCOMP_RET_USER_NOTIF)];
        let both = [filter.clone(), ask];
        assert_eq!(judge(&both, &call(libc::SYS_clone, 0), 0), Verdict::Asks);
        assert_eq!(judge(&[], &call(1, 0), 0), Verdict::Allowed);
    }

    /// As Docker's profile asks of clone: no flag of a namespace.
    #[test]
    fn flags_of_an_argument() {
        let filter = vec![
            op(0x20, 0, 0, 16),
            op(0x54, 0, 0, 0x7e02_0000),
            op(0x15, 0, 1, 0),
            ALLOW,
            op(0x06, 0, 0, 0),
        ];
        let of = |flags| judge(std::slice::from_ref(&filter), &call(56, flags), 0);
        assert_eq!(of(0x4700), Verdict::Allowed);
        assert_eq!(of(0x2000_0000), Verdict::Deadly);
    }

    #[test]
    fn registers_and_scratch_memory() {
        // (7 + 5) * 2 - 4, by way of X and memory; then >> 2 == 5.
        let filter = vec![
            op(0x00, 0, 0, 7),
            op(0x04, 0, 0, 5),
            op(0x24, 0, 0, 2),
            op(0x02, 0, 0, 3),
            op(0x61, 0, 0, 3),
            op(0x87, 0, 0, 0),
            op(0x14, 0, 0, 4),
            op(0x74, 0, 0, 2),
            op(0x15, 0, 1, 5),
            ALLOW,
            op(0x16, 0, 0, 0),
        ];
        let of = |filter| judge(&[filter], &call(1, 0), 0);
        assert_eq!(of(filter), Verdict::Allowed);
    }

    #[test]
    fn what_cannot_be_understood_is_deadly() {
        let strange = [
            vec![],
            vec![op(0x20, 0, 0, 3)],
            vec![op(0x20, 0, 0, 64)],
            vec![op(0x05, 0, 0, u32::MAX)],
            vec![op(0x34, 0, 0, 0), ALLOW],
            vec![op(0x60, 0, 0, 16), ALLOW],
            vec![op(0xffff, 0, 0, 0), ALLOW],
        ];
        for filter in strange {
            assert_eq!(judge(&[filter], &call(1, 0), 0), Verdict::Deadly);
        }
    }

    #[test]
    fn filters_are_read_until_there_are_no_more() {
        let read = |at: usize| Ok::<_, ()>((at < 3).then(|| vec![ALLOW]));
        assert_eq!(read_filters(read).map(|all| all.len()), Ok(3));
        let many = |_| Ok::<_, ()>(Some(vec![ALLOW]));
        assert_eq!(read_filters(many).map(|all| all.len()), Ok(MAX_FILTERS));
        assert!(read_filters(|_| Err::<Option<_>, ()>(())).is_err());
    }
}
