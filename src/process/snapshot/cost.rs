//! What a copy would cost, before it is made, and what it costs then.

use std::time::Duration;

use super::cgroup::{self, Left};
use crate::process::{ProcessError, procfs};

/// Copying page tables: 10 to 13 ms at 0.5 GB resident, 42 at 2 GB, 113 at 6 GB
/// were measured; a reader who doubts it has `benches/snap.rs`.
const PER_GIB: Duration = Duration::from_millis(25);
/// The calls themselves, and two processes made and one ended.
const AT_LEAST: Duration = Duration::from_micros(500);
/// What the two new processes take beside page tables, bytes.
const KERNEL_SHARE: u64 = 2 << 20;
/// A page table entry for each page, and some.
const TABLE_SHARE: u64 = 400;
/// Of what is in memory, so much is written to while a copy is held: a tenth
/// must be to be had.
const DOUBLED_SHARE: u64 = 10;
/// Two processes for a moment, of which one stays.
const TASKS: u64 = 2;

/// What a copy would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// How long the target would be held.
    pub pause: Duration,
    /// What it has in memory, bytes: the most that a copy can come to cost, when
    /// the target writes to every page while the copy is held.
    pub resident: u64,
    /// What is needed at once, and soon, bytes.
    pub needed: u64,
    /// What its control groups and the machine have left, bytes.
    pub memory_left: Option<u64>,
    /// How many more tasks its control groups may have; None without a limit.
    pub tasks_left: Option<u64>,
}

/// What a snapshot of `pid` would cost. Reads a few files, and none that makes
/// the kernel walk the target's page tables.
pub fn estimate(pid: i32) -> Result<Estimate, ProcessError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|_| ProcessError::NoSuchProcess(pid))?;
    // Pages of files are not copied, their tables hardly; shared memory is not.
    let resident = kilobytes(&status, "RssAnon").unwrap_or(0);
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Left { memory, tasks } = cgroup::left(pid);
    let available = kilobytes(&machine, "MemAvailable");
    Ok(Estimate {
        pause: pause_of(resident),
        resident,
        needed: KERNEL_SHARE + resident / TABLE_SHARE + resident / DOUBLED_SHARE,
        memory_left: memory.into_iter().chain(available).min(),
        tasks_left: tasks,
    })
}

/// How long copying the tables of so many bytes takes.
fn pause_of(bytes: u64) -> Duration {
    let micros = (u128::from(bytes) * PER_GIB.as_micros()) >> 30;
    AT_LEAST + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// A line `Name:   12 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    let number: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number.saturating_mul(1024))
}

impl Estimate {
    /// The same, once the target's huge pages are known: each has one entry. For
    /// an estimate that is too long: the kernel walks all of the target's tables
    /// to tell (/proc/PID/smaps_rollup), while the target runs.
    #[must_use]
    pub fn refined(self, pid: i32) -> Estimate {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let huge = kilobytes(&text, "AnonHugePages").unwrap_or(0);
        let small = self.resident.saturating_sub(huge);
        Estimate {
            pause: pause_of(small.saturating_add(huge / 512)),
            ..self
        }
    }

    /// Why no copy should be made, if the target may be held so long: one line,
    /// which says what can be done.
    pub fn refusal(&self, longest: Duration) -> Option<String> {
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        if self.pause > longest {
            return Some(format!(
                "a copy would hold the target for some {} ms ({} MB in memory), longer than \
                 snap-max-pause allows ({} ms): config snap-max-pause {}ms allows it",
                self.pause.as_millis(),
                mb(self.resident),
                longest.as_millis(),
                self.pause.as_millis() + 1,
            ));
        }
        if let Some(left) = self.memory_left.filter(|left| *left < self.needed) {
            return Some(format!(
                "a copy may need {} MB at once, and {} MB are left (the control group's \
                 memory, or the machine's): give it more, or drop copies that are held",
                mb(self.needed),
                left >> 20,
            ));
        }
        if let Some(left) = self.tasks_left.filter(|left| *left < TASKS) {
            return Some(format!(
                "a copy needs {TASKS} tasks for a moment, and the control group may have {left} \
                 more (pids.max): raise it, or drop copies that are held"
            ));
        }
        None
    }
}

/// Why gotap would refuse to copy `pid` now, as far as can be told without
/// touching it; `longest` is how long it may be held.
pub fn refusal(pid: i32, longest: Duration) -> Result<Option<String>, ProcessError> {
    let mut estimate = estimate(pid)?;
    if estimate.pause > longest {
        estimate = estimate.refined(pid);
    }
    if let Some(why) = estimate.refusal(longest) {
        return Ok(Some(why));
    }
    let filtered = procfs::threads(pid)?
        .into_iter()
        .any(|tid| procfs::status(tid).is_ok_and(|s| s.seccomp != 0));
    Ok((filtered && !may_read_filters()).then(|| super::UNREADABLE_FILTER.to_owned()))
}

/// CAP_SYS_ADMIN, which reading another's seccomp filters takes, and no filter
/// of our own (seccomp_get_filter in kernel/seccomp.c).
fn may_read_filters() -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name));
    let able = field("CapEff:").and_then(|v| u64::from_str_radix(v.trim(), 16).ok());
    let filtered = field("Seccomp:").is_some_and(|v| v.trim() != "0");
    able.is_some_and(|able| able & SYS_ADMIN != 0) && !filtered
}

/// What a copy costs now beyond what it shares with the target, bytes: pages
/// that were written since, by the target, and its page tables.
pub fn memory_of(copy: i32) -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{copy}/{file}")).ok();
    let text = read("smaps_rollup")?;
    let own = ["Private_Clean", "Private_Dirty"]
        .iter()
        .filter_map(|name| kilobytes(&text, name))
        .sum::<u64>();
    let tables = kilobytes(&read("status")?, "VmPTE").unwrap_or(0);
    Some(own.saturating_add(tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Estimate = Estimate {
        pause: Duration::from_millis(12),
        resident: 500 << 20,
        needed: 53 << 20,
        memory_left: Some(53 << 20),
        tasks_left: Some(2),
    };

    #[test]
    fn each_refusal_is_a_line_that_says_what_to_do() {
        let longest = Duration::from_millis(50);
        assert_eq!(ENOUGH.refusal(longest), None);
        let free = Estimate {
            memory_left: None,
            tasks_left: None,
            ..ENOUGH
        };
        assert_eq!(free.refusal(longest), None);
        let refused = |estimate: Estimate, word: &str| {
            let text = estimate.refusal(longest).expect("refused");
            assert!(text.contains(word) && !text.contains('\n'), "{text}");
        };
        let pause = Duration::from_millis(51);
        refused(Estimate { pause, ..ENOUGH }, "config snap-max-pause 52ms");
        let memory_left = Some((53 << 20) - 1);
        refused(
            Estimate {
                memory_left,
                ..ENOUGH
            },
            "52 MB are left",
        );
        let tasks_left = Some(1);
        refused(
            Estimate {
                tasks_left,
                ..ENOUGH
            },
            "pids.max",
        );
    }

    #[test]
    fn the_pause_grows_with_what_is_in_memory() {
        assert_eq!(pause_of(0), AT_LEAST);
        assert_eq!(pause_of(1 << 30), AT_LEAST + PER_GIB);
        assert_eq!(
            kilobytes("Rss: 1 kB\nRssAnon:\t 12 kB\n", "RssAnon"),
            Some(12 << 10)
        );
        assert_eq!(kilobytes("RssAnon: x", "RssAnon"), None);
    }
}
