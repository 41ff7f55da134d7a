//! The processor's time stamp counter.

use std::time::Instant;

/// Rounds of readings that are timed: the best of them is free of other
/// programs' turns on the processor.
const ROUNDS: u32 = 20;
/// Readings of a round.
const READINGS: u32 = 100;
/// One that takes longer is not the processor's own, nanoseconds.
const SLOW_NS: u128 = 300;

/// Its value now, ticks.
pub fn now() -> u64 {
    // SAFETY: every amd64 processor has RDTSC; where a process has forbidden it
    // to itself (PR_SET_TSC), that is not this one.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Why it cannot be used as a clock, if so: it must go on at one rate, in sleep
/// states too, and be the same on all processors. The kernel tests that last
/// point, and takes another clock source when it is not so
/// (arch/x86/kernel/tsc_sync.c).
pub fn unfit() -> Option<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpus.lines().find_map(|l| l.strip_prefix("flags"));
    let has = |flag| flags.is_some_and(|f| f.split_whitespace().any(|w| w == flag));
    for flag in ["constant_tsc", "nonstop_tsc"] {
        if !has(flag) {
            return Some(format!("the processor's time stamp counter is not {flag}"));
        }
    }
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(path).unwrap_or_default();
    // Those of hypervisors are made from it.
    let good = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"];
    if !good.contains(&source.trim()) {
        return Some(format!(
            "the kernel does not trust the time stamp counter (its clock source is {})",
            source.trim()
        ));
    }
    // A hypervisor may take each reading for itself.
    let each = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..READINGS {
                let _ = now();
            }
            begin.elapsed().as_nanos() / u128::from(READINGS)
        })
        .min()
        .unwrap_or_default();
    (each > SLOW_NS).then(|| format!("reading the time stamp counter takes {each} ns here"))
}
