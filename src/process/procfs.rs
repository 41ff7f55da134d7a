//! What /proc tells of a process (proc(5)): nothing here needs ptrace.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::ProcessError;
use super::tracer::Ending;

fn path(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

fn read(pid: i32, file: &str) -> Result<String, ProcessError> {
    let path = path(pid, file);
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ProcessError::NoSuchProcess(pid),
        _ if source.raw_os_error() == Some(libc::ESRCH) => ProcessError::NoSuchProcess(pid),
        _ => ProcessError::Proc {
            path: path.clone(),
            source,
        },
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines of /proc/PID/status that gotap asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Command name, as the kernel keeps it (15 bytes).
    pub name: String,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, `X`
    pub state: char,
    /// Thread group: the process id.
    pub tgid: i32,
    /// Parent.
    pub ppid: i32,
    /// Who traces it; 0 for nobody.
    pub tracer: i32,
    /// Real user id.
    pub uid: u32,
    /// Signals pending for this thread alone: bit n-1 is signal n.
    pub pending: u64,
    /// Signals caught by a handler.
    pub caught: u64,
    /// Seccomp mode: 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Has an address space of its own (kernel threads have none).
    pub has_memory: bool,
}

/// Reads /proc/PID/status; also works for thread ids.
pub fn status(pid: i32) -> Result<Status, ProcessError> {
    Ok(parse_status(&read(pid, "status")?))
}

fn parse_status(text: &str) -> Status {
    let field = |name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let first = |name: &str| field(name).and_then(|v| v.split_whitespace().next());
    let number = |name: &str| first(name).and_then(|v| v.parse().ok()).unwrap_or(0);
    let bits = |name: &str| {
        first(name)
            .and_then(|v| u64::from_str_radix(v, 16).ok())
            .unwrap_or(0)
    };
    Status {
        name: field("Name").unwrap_or_default().to_owned(),
        state: first("State").and_then(|s| s.chars().next()).unwrap_or('?'),
        tgid: number("Tgid"),
        ppid: number("PPid"),
        tracer: number("TracerPid"),
        uid: first("Uid").and_then(|v| v.parse().ok()).unwrap_or(0),
        pending: bits("SigPnd"),
        caught: bits("SigCgt"),
        seccomp: first("Seccomp").and_then(|v| v.parse().ok()).unwrap_or(0),
        has_memory: field("VmSize").is_some(),
    }
}

/// The threads of a process.
pub fn threads(pid: i32) -> Result<Vec<i32>, ProcessError> {
    let path = path(pid, "task");
    let entries = fs::read_dir(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ProcessError::NoSuchProcess(pid),
        _ => ProcessError::Proc {
            path: path.clone(),
            source,
        },
    })?;
    Ok(entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect())
}

/// The system call that a thread sleeps in, by number; none while it runs, and
/// where the kernel does not tell (`CONFIG_HAVE_ARCH_TRACEHOOK`).
pub fn syscall_number(pid: i32, tid: i32) -> Option<i64> {
    let text = read(pid, &format!("task/{tid}/syscall")).ok()?;
    text.split(' ').next()?.parse().ok()
}

/// The stack pointer and pc at which a thread sleeps in the kernel.
pub fn sleeping_at(pid: i32, tid: i32) -> Option<(u64, u64)> {
    let text = read(pid, &format!("task/{tid}/syscall")).ok()?;
    let mut last = text.split_whitespace().rev();
    let mut number = || u64::from_str_radix(last.next()?.strip_prefix("0x")?, 16).ok();
    let pc = number()?;
    Some((number()?, pc))
}

/// What of the processor's protections a thread has switched on
/// (`x86_Thread_features` of its status); empty where the kernel does not tell.
pub fn thread_features(pid: i32, tid: i32) -> String {
    let status = read(pid, &format!("task/{tid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("x86_Thread_features:"));
    line.map_or("", str::trim).to_owned()
}

/// When the process started, in clock ticks since boot (field 22 of stat):
/// with the pid it names a process uniquely.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = read(pid, "stat").ok()?;
    // The command name may hold anything, also ')' and spaces: count from the last.
    let rest = stat.get(stat.rfind(')')? + 1..)?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// How a process ended that nobody has waited for yet (field 52 of stat, told to
/// those who may trace it).
pub fn ending(pid: i32) -> Option<Ending> {
    let stat = read(pid, "stat").ok()?;
    let rest = stat.get(stat.rfind(')')? + 1..)?;
    let mut fields = rest.split_whitespace();
    if fields.next() != Some("Z") {
        return None;
    }
    let status: i32 = fields.nth(48)?.parse().ok()?;
    Some(match status & 0x7f {
        0 => Ending::Exited(status >> 8 & 0xff),
        signal => Ending::Killed(signal),
    })
}

/// The inode of a process's pid namespace.
pub fn pid_namespace(pid: i32) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path(pid, "ns/pid")).ok().map(|m| m.ino())
}

/// A thread's id as its own pid namespace numbers it: the last of `NSpid`
/// (proc_pid_status(5)).
pub fn own_thread_id(tid: i32) -> Option<i32> {
    let text = read(tid, "status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The threads of a process in another pid namespace, by the ids that they have
/// there; empty for one in ours.
pub fn foreign_thread_ids(pid: i32) -> HashMap<i32, i32> {
    if pid_namespace(pid) == pid_namespace(std::process::id().cast_signed()) {
        return HashMap::new();
    }
    let tids = threads(pid).unwrap_or_default().into_iter();
    tids.filter_map(|tid| Some((own_thread_id(tid)?, tid)))
        .collect()
}

/// The command name of a process, for messages.
pub fn name(pid: i32) -> String {
    status(pid).map_or_else(|_| "?".to_owned(), |s| s.name)
}

/// The system call that a thread is in, and its first argument
/// (proc_pid_syscall(5)); `None` when it is in none or may not be asked.
pub fn syscall(pid: i32, tid: u64) -> Option<(i64, u64)> {
    let text = read(pid, &format!("task/{tid}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok().filter(|n| *n >= 0)?;
    let first = words.next()?.strip_prefix("0x")?;
    Some((number, u64::from_str_radix(first, 16).ok()?))
}

/// The children of a process, of all its threads (`children` in
/// proc_pid_task(5)); none where the kernel does not tell.
pub fn children(pid: i32) -> Vec<i32> {
    let mut all = Vec::new();
    for tid in threads(pid).unwrap_or_default() {
        let text = read(pid, &format!("task/{tid}/children")).unwrap_or_default();
        all.extend(
            text.split_whitespace()
                .filter_map(|p| p.parse::<i32>().ok()),
        );
    }
    all
}

/// What a descriptor of a process stands for: a path, `pipe:[4711]`,
/// `socket:[4712]` (proc_pid_fd(5)).
pub fn descriptor(pid: i32, fd: i64) -> Option<String> {
    let target = fs::read_link(path(pid, &format!("fd/{fd}"))).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// The descriptors that a process has open.
pub fn descriptors(pid: i32) -> Vec<i64> {
    let entries = fs::read_dir(path(pid, "fd"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

/// One line of /proc/PID/maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub exec: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Inode of the file; 0 for none.
    pub inode: u64,
    /// Device of the file, as printed.
    pub device: String,
    /// Path or `[name]`; empty for anonymous memory.
    pub name: String,
}

/// The mappings of a process, in order.
pub fn mappings(pid: i32) -> Result<Vec<Mapping>, ProcessError> {
    let parsed = |text: &str| -> Vec<Mapping> { text.lines().filter_map(parse_mapping).collect() };
    let all = parsed(&read(pid, "maps")?);
    if !all.is_empty() {
        return Ok(all);
    }
    // A first thread that has ended has none, but the others do. A process that has
    // ended and not been waited for has no others.
    let others = threads(pid)?.into_iter().filter(|tid| *tid != pid);
    others
        .filter_map(|tid| read(pid, &format!("task/{tid}/maps")).ok())
        .map(|text| parsed(&text))
        .find(|all| !all.is_empty())
        .ok_or(ProcessError::Gone(pid))
}

fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let mode = fields.next()?.as_bytes();
    let offset = fields.next()?;
    let device = fields.next()?;
    let inode = fields.next()?;
    let has = |i: usize, c: u8| mode.get(i) == Some(&c);
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        read: has(0, b'r'),
        write: has(1, b'w'),
        exec: has(2, b'x'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        device: device.to_owned(),
        inode: inode.parse().ok()?,
        name: fields.next().unwrap_or_default().trim_start().to_owned(),
    })
}

/// Checks that a pid can be traced at all, before anything else is done.
pub fn check_traceable(pid: i32) -> Result<Status, ProcessError> {
    if pid <= 0 {
        return Err(ProcessError::NoSuchProcess(pid));
    }
    let status = status(pid)?;
    if status.tgid != pid {
        return Err(ProcessError::IsThread {
            tid: pid,
            pid: status.tgid,
        });
    }
    if pid == std::process::id() as i32 {
        return Err(ProcessError::NotTraceable {
            pid,
            why: "is gotap itself",
        });
    }
    let others = || threads(pid).is_ok_and(|all| all.iter().any(|t| *t != pid));
    if status.state == 'Z' && others() {
        return Err(ProcessError::NotTraceable {
            pid,
            why: "has lost its first thread; nothing under /proc tells of its memory any more",
        });
    }
    if status.state == 'Z' || status.state == 'X' {
        return Err(ProcessError::NotTraceable {
            pid,
            why: "has ended already (a zombie)",
        });
    }
    // Kernel threads are kthreadd's (pid 2, init/main.c); another process without
    // memory has just ended.
    if !status.has_memory && pid != 2 && status.ppid != 2 {
        return Err(ProcessError::Gone(pid));
    }
    if !status.has_memory {
        return Err(ProcessError::NotTraceable {
            pid,
            why: "is a kernel thread",
        });
    }
    if status.tracer != 0 && status.tracer != crate::sys::thread_id() {
        return Err(ProcessError::AlreadyTraced {
            pid,
            tracer: name(status.tracer),
            tracer_pid: status.tracer,
        });
    }
    Ok(status)
}

/// Why the kernel refused to let us trace, and what to do about it
/// (ptrace(2), "Ptrace access mode checking").
pub fn denied(pid: i32) -> ProcessError {
    let ours = nix::unistd::geteuid();
    let theirs = status(pid).map_or(u32::MAX, |s| s.uid);
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
        .ok()
        .and_then(|s| s.trim().parse::<u32>().ok())
        .unwrap_or(0);
    let advice = if ours.is_root() {
        if scope >= 3 {
            "kernel.yama.ptrace_scope is 3: nothing can be traced until the next boot".to_owned()
        } else {
            "this container has no CAP_SYS_PTRACE: start it with --cap-add=SYS_PTRACE, or run gotap on the host".to_owned()
        }
    } else if theirs != ours.as_raw() {
        format!("it belongs to user {theirs}: run gotap as that user or as root (sudo gotap …)")
    } else if scope >= 1 {
        format!(
            "kernel.yama.ptrace_scope is {scope}: run as root (sudo gotap …), or give gotap CAP_SYS_PTRACE (setcap cap_sys_ptrace+ep), or start the program with `gotap trace … -- PROGRAM`"
        )
    } else {
        "it runs with more privileges than gotap (setuid, capabilities, or not dumpable): run gotap as root (sudo gotap …)".to_owned()
    };
    ProcessError::Denied { pid, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_name() {
        let s = parse_status(
            "Name:\tmy server\nState:\tt (tracing stop)\nTgid:\t12\nPid:\t13\nPPid:\t1\nTracerPid:\t99\nUid:\t1000\t1000\t1000\t1000\nVmSize:\t 1 kB\nSigPnd:\t0000000000000010\nSigCgt:\tfffffffd7fc1feff\nSeccomp:\t2\n",
        );
        assert_eq!(
            (s.name.as_str(), s.state, s.tgid, s.tracer),
            ("my server", 't', 12, 99)
        );
        assert_eq!(
            (s.uid, s.pending, s.seccomp, s.has_memory),
            (1000, 1 << 4, 2, true)
        );
    }

    #[test]
    fn a_mapping_with_spaces_in_its_name() {
        let m = parse_mapping(
            "00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/my prog (deleted)",
        )
        .expect("well formed");
        assert_eq!(
            (m.start, m.end, m.offset, m.inode),
            (0x400000, 0x452000, 0x1000, 173521)
        );
        assert!(m.read && m.exec && !m.write);
        assert_eq!(m.name, "/usr/bin/my prog (deleted)");
        assert_eq!(parse_mapping("nonsense"), None);
    }

    #[test]
    fn our_own_process_is_no_target() {
        let me = std::process::id() as i32;
        assert!(matches!(
            check_traceable(me),
            Err(ProcessError::NotTraceable { .. })
        ));
        assert!(matches!(
            check_traceable(-3),
            Err(ProcessError::NoSuchProcess(-3))
        ));
        assert!(start_time(me).is_some() && pid_namespace(me).is_some());
    }
}
