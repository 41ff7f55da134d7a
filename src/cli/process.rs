//! `gotap ps PID`: how one process is doing, as gops tells it.
//!
//! ```text
//! parent PID:  4100
//! threads:  9
//! memory usage:  0.199%
//! cpu usage:  0.139%
//! username:  shop
//! cmd+args:  /srv/server -addr :8080
//! elapsed time:  14-08:57:36
//! local/remote:  127.0.0.1:8080 <-> 0.0.0.0:0 (LISTEN)
//! ```

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::process::details::{self, Details};
use crate::value::escaped;

/// Prints them; `period` is the time to watch the use of CPUs for.
pub(super) fn run(
    pid: i32,
    period: Option<Duration>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let details = Details::of(pid)?;
    let recent = period.map(|period| (period, watch(pid, period)));
    if let Err(why) = &details.sockets {
        super::messages::print(&format!("its connections cannot be listed: {why}"));
    }
    if json {
        writeln!(out, "{}", object(pid, &details, recent)?)?;
    } else {
        write_lines(&details, recent, out)?;
    }
    Ok(())
}

/// Percent of one CPU that is used within a time.
fn watch(pid: i32, period: Duration) -> f64 {
    let before = details::cpu_time(pid).unwrap_or_default();
    std::thread::sleep(period);
    let after = details::cpu_time(pid).unwrap_or_default();
    details::percent(after.saturating_sub(before), period)
}

fn write_lines(
    details: &Details,
    recent: Option<(Duration, f64)>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    writeln!(out, "parent PID:\t{}", details.ppid)?;
    writeln!(out, "threads:\t{}", details.threads)?;
    writeln!(out, "memory usage:\t{:.3}%", details.memory_percent)?;
    writeln!(out, "cpu usage:\t{:.3}%", details.cpu_percent)?;
    if let Some((period, percent)) = recent {
        writeln!(out, "cpu usage ({period:?}):\t{percent:.3}%")?;
    }
    writeln!(out, "username:\t{}", escaped(&details.username))?;
    writeln!(out, "cmd+args:\t{}", escaped(&details.command.join(" ")))?;
    writeln!(out, "elapsed time:\t{}", elapsed(details.elapsed))?;
    for socket in details.sockets.iter().flatten() {
        writeln!(
            out,
            "local/remote:\t{} <-> {} ({})",
            end(&socket.local),
            end(&socket.remote),
            socket.state
        )?;
    }
    Ok(())
}

/// An end that has no address reads `:0`, as in gops.
fn end(address: &str) -> String {
    if address.is_empty() {
        ":0".to_owned()
    } else {
        escaped(address)
    }
}

/// `[[DD-]hh:]mm:ss`, as ps(1) prints etime.
fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => rest,
        (0, h) => format!("{h:02}:{rest}"),
        (d, h) => format!("{d:02}-{h:02}:{rest}"),
    }
}

#[derive(Serialize)]
struct Object<'a> {
    pid: i32,
    ppid: i32,
    threads: usize,
    memory_percent: f64,
    cpu_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent_recent: Option<f64>,
    username: &'a str,
    command: &'a [String],
    elapsed_ns: u64,
    connections: Option<Vec<Connection<'a>>>,
}

#[derive(Serialize)]
struct Connection<'a> {
    fd: i32,
    network: &'a str,
    local: &'a str,
    remote: &'a str,
    state: &'a str,
}

fn object(
    pid: i32,
    details: &Details,
    recent: Option<(Duration, f64)>,
) -> serde_json::Result<String> {
    let connections = details.sockets.as_ref().ok().map(|sockets| {
        sockets
            .iter()
            .map(|socket| Connection {
                fd: socket.fd,
                network: socket.network,
                local: &socket.local,
                remote: &socket.remote,
                state: socket.state,
            })
            .collect()
    });
    serde_json::to_string(&Object {
        pid,
        ppid: details.ppid,
        threads: details.threads,
        memory_percent: details.memory_percent,
        cpu_percent: details.cpu_percent,
        cpu_percent_recent: recent.map(|(_, percent)| percent),
        username: &details.username,
        command: &details.command,
        elapsed_ns: u64::try_from(details.elapsed.as_nanos()).unwrap_or(u64::MAX),
        connections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_ps_prints_it() {
        let of = |s| elapsed(Duration::from_secs(s));
        assert_eq!(of(59), "00:59");
        assert_eq!(of(3661), "01:01:01");
        assert_eq!(of(14 * 86_400 + 8 * 3600 + 57 * 60 + 36), "14-08:57:36");
        assert_eq!(of(86_400), "01-00:00:00");
    }
}
