//! How one process is doing, as ps(1) and gops tell it: all from /proc.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, Uid, User, sysconf};

use super::sockets::{self, Socket};
use super::{ProcessError, procfs};

/// What is known of a process.
#[derive(Clone, PartialEq, Debug)]
pub struct Details {
    /// Parent.
    pub ppid: i32,
    /// Threads that the kernel counts.
    pub threads: usize,
    /// Resident memory as a part of the machine's, in percent.
    pub memory_percent: f64,
    /// CPU time since it started as a part of that time, in percent of one CPU.
    pub cpu_percent: f64,
    /// Who it belongs to: a name, or the number that has none.
    pub username: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Time since it was started.
    pub elapsed: Duration,
    /// Its sockets; an error when they may not be seen.
    pub sockets: Result<Vec<Socket>, String>,
}

impl Details {
    /// Looks at a process.
    pub fn of(pid: i32) -> Result<Details, ProcessError> {
        let status = procfs::status(pid)?;
        if status.tgid != pid {
            return Err(ProcessError::IsThread {
                tid: pid,
                pid: status.tgid,
            });
        }
        let elapsed = elapsed(pid).unwrap_or_default();
        let cpu = cpu_time(pid).unwrap_or_default();
        let user = User::from_uid(Uid::from_raw(status.uid)).ok().flatten();
        Ok(Details {
            ppid: status.ppid,
            threads: procfs::threads(pid)?.len(),
            memory_percent: memory_percent(pid).unwrap_or_default(),
            cpu_percent: percent(cpu, elapsed),
            username: user.map_or_else(|| status.uid.to_string(), |u| u.name),
            command: command(pid),
            elapsed,
            sockets: sockets::of_process(pid).map_err(|e| e.to_string()),
        })
    }
}

/// CPU time of `spent` in `time`, in percent of one CPU.
pub fn percent(spent: Duration, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    100.0 * spent.as_secs_f64() / time.as_secs_f64()
}

/// CPU time that the process used, its own and the kernel's.
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let fields = stat_fields(pid)?;
    // Fields 14 and 15, utime and stime; the list begins with field 3.
    let ticks: u64 = fields.get(11)?.checked_add(*fields.get(12)?)?;
    Some(of_ticks(ticks))
}

fn elapsed(pid: i32) -> Option<Duration> {
    let started = of_ticks(procfs::start_time(pid)?);
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let uptime = Duration::try_from_secs_f64(uptime).ok()?;
    Some(uptime.saturating_sub(started))
}

/// Clock ticks of /proc (`_SC_CLK_TCK`).
fn of_ticks(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    let per_second = per_second
        .and_then(|t| u32::try_from(t).ok())
        .unwrap_or(100);
    Duration::from_secs(ticks) / per_second.max(1)
}

/// Numbers of /proc/PID/stat behind the command name; what is no number is 0.
fn stat_fields(pid: i32) -> Option<Vec<u64>> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let (_, rest) = stat.rsplit_once(')')?;
    Some(
        rest.split_whitespace()
            .map(|w| w.parse().unwrap_or(0))
            .collect(),
    )
}

fn memory_percent(pid: i32) -> Option<f64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let total: u64 = total.split_whitespace().next()?.parse().ok()?;
    let total = total.checked_mul(1024).filter(|t| *t > 0)?;
    Some(100.0 * pages.saturating_mul(page) as f64 / total as f64)
}

fn command(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if words.is_empty() {
        return Vec::new();
    }
    words
        .split(|b| *b == 0)
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_know_ourselves() {
        let me = std::process::id() as i32;
        let details = Details::of(me).unwrap();
        assert_eq!(details.ppid, nix::unistd::getppid().as_raw());
        assert!(details.threads >= 1 && details.memory_percent > 0.0);
        assert_eq!(details.command, std::env::args().collect::<Vec<_>>());
        assert!(details.elapsed < Duration::from_secs(86_400));
        assert!(details.sockets.is_ok());
        assert!(matches!(
            Details::of(i32::MAX),
            Err(ProcessError::NoSuchProcess(_))
        ));
        assert!((percent(Duration::from_secs(1), Duration::from_secs(4)) - 25.0).abs() < 1e-9);
    }
}
