//! How the scheduler ranks a thread: sched_setattr(2), sched(7).

/// The longest slice that the kernel grants, nanoseconds (kernel/sched/syscalls.c:
/// `__setparam_fair`).
const LONGEST_NS: u64 = 100_000_000;

/// `struct sched_attr`, as of Linux 3.14 (include/uapi/linux/sched/types.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The calling thread asks for long turns: it gets its share of the processor as
/// before, but a thread that wakes up need not wait for its turn to end. Linux
/// knows such turns since 6.12; an older kernel, or one that says no, leaves all
/// as it was. Another policy than the usual one is left alone.
pub fn be_patient() {
    let size = size_of::<Attributes>() as u32;
    let mut now = Attributes::default();
    // SAFETY: `now` is as large as is said, and the kernel writes no more.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, size, 0) };
    if got != 0 || now.policy != libc::SCHED_OTHER as u32 {
        return;
    }
    let asked = Attributes {
        size,
        runtime: LONGEST_NS,
        ..now
    };
    // SAFETY: `asked` is only read, and as large as it says.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const asked, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_and_nice_stay() {
        let read = || {
            let mut a = Attributes::default();
            let size = size_of::<Attributes>() as u32;
            // SAFETY: as above.
            let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut a, size, 0) };
            assert_eq!(got, 0);
            (a.policy, a.nice, a.runtime)
        };
        let (policy, nice, _) = read();
        be_patient();
        assert_eq!(read().0, policy);
        assert_eq!(read().1, nice);
    }
}
