//! The Go processes of this machine, as /proc shows them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use super::{ProcessError, procfs};
use crate::image::{ImageError, Summary};

/// A process that runs a Go program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoProcess {
    /// Process id, in the pid namespace of /proc.
    pub pid: i32,
    /// Its parent's.
    pub ppid: i32,
    /// Command name (15 bytes).
    pub name: String,
    /// Its executable, as named in its own mount namespace.
    pub path: String,
    /// That file was removed or replaced since.
    pub deleted: bool,
    /// What its executable tells.
    pub summary: Summary,
}

/// A process that could not be looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Process id.
    pub pid: i32,
    /// Command name (15 bytes).
    pub name: String,
    /// What the kernel refused.
    pub reason: String,
    /// It was refused for want of permission.
    pub denied: bool,
}

/// All processes, sorted out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Go programs, by pid.
    pub go: Vec<GoProcess>,
    /// Those that could not be looked at, by pid.
    pub unreadable: Vec<Unreadable>,
    /// How many run something else (kernel threads too).
    pub others: usize,
}

/// What one executable is; many processes share one.
type Seen = HashMap<(u64, u64), Option<Summary>>;

/// Looks at every process.
pub fn list() -> Result<Listing, ProcessError> {
    let proc = || "/proc".into();
    let entries = fs::read_dir("/proc").map_err(|source| ProcessError::Proc {
        path: proc(),
        source,
    })?;
    let mut pids: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let (mut listing, mut seen) = (Listing::default(), Seen::new());
    for pid in pids {
        look_at(pid, &mut seen, &mut listing);
    }
    Ok(listing)
}

fn look_at(pid: i32, seen: &mut Seen, listing: &mut Listing) {
    // Processes end while they are listed.
    let Ok(status) = procfs::status(pid) else {
        return;
    };
    let summary = match executable(pid, seen) {
        Ok(Some(summary)) => summary,
        Ok(None) => {
            listing.others += 1;
            return;
        }
        // Kernel threads and zombies have no executable.
        Err(e) if !status.has_memory || e.raw_os_error() == Some(libc::ESRCH) => {
            listing.others += 1;
            return;
        }
        Err(e) => {
            if fs::metadata(format!("/proc/{pid}")).is_ok() {
                listing.unreadable.push(Unreadable {
                    pid,
                    name: status.name,
                    reason: e.to_string(),
                    denied: e.kind() == io::ErrorKind::PermissionDenied,
                });
            }
            return;
        }
    };
    let link = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let link = link.to_string_lossy();
    let path = link.strip_suffix(" (deleted)");
    listing.go.push(GoProcess {
        pid,
        ppid: status.ppid,
        name: status.name,
        deleted: path.is_some(),
        path: path.unwrap_or(&link).to_owned(),
        summary,
    });
}

/// What a process runs; `None` when that is no Go program. The link opens the
/// very file, also when its name is gone or means another one here.
fn executable(pid: i32, seen: &mut Seen) -> io::Result<Option<Summary>> {
    let name = format!("/proc/{pid}/exe");
    let file = File::open(&name)?;
    let meta = file.metadata()?;
    let key = (meta.dev(), meta.ino());
    if let Some(known) = seen.get(&key) {
        return Ok(known.clone());
    }
    let summary = match Summary::of(&file, &name) {
        Ok(summary) => Some(summary),
        Err(ImageError::Open { source, .. }) => return Err(source),
        Err(_) => None,
    };
    seen.insert(key, summary.clone());
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_is_accounted_for() {
        let listing = list().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(listing.others > 0, "this test is no Go program");
        assert!(!listing.go.iter().any(|p| p.pid == me));
        assert!(listing.go.iter().all(|p| p.pid > 0 && !p.name.is_empty()));
        assert!(listing.unreadable.iter().all(|p| !p.reason.is_empty()));
    }
}
