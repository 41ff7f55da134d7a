//! What is true, from somebody else: the kernel's files, the executable's bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Toolchain;

/// One line of `/proc/PID/maps`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// `r-xp` …
    pub perms: String,
    /// Offset in the file.
    pub offset: u64,
    /// Path or `[name]`; empty when anonymous.
    pub name: String,
}

/// The mappings of a process.
pub fn mappings(pid: i32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps"))
        .unwrap_or_else(|e| panic!("read /proc/{pid}/maps: {e}"));
    text.lines()
        .map(|line| {
            let mut words = line.splitn(6, ' ').map(str::trim);
            let mut word = || words.next().unwrap_or_default();
            let (start, end) = word().split_once('-').expect("a range");
            let perms = word().to_string();
            let offset = hex(word());
            word();
            word();
            Mapping {
                start: hex(start),
                end: hex(end),
                perms,
                offset,
                name: word().to_string(),
            }
        })
        .collect()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_else(|_| panic!("not hexadecimal: {text:?}"))
}

/// The mappings that a tracer could have left: all but the anonymous data that
/// Go itself comes and goes with (heap, stacks, guard pages).
pub fn lasting_mappings(pid: i32) -> BTreeSet<Mapping> {
    mappings(pid)
        .into_iter()
        .filter(|m| m.perms.contains('x') || m.perms.contains('s') || is_file(m))
        .collect()
}

fn is_file(m: &Mapping) -> bool {
    m.name.starts_with('/')
}

/// Compares every executable file mapping with its file, byte for byte.
/// The differences, one line each; none when the code is clean. A mapping that
/// is executable without a file is a difference too.
pub fn code_differences(pid: i32) -> Vec<String> {
    let memory = File::open(format!("/proc/{pid}/mem"))
        .unwrap_or_else(|e| panic!("open /proc/{pid}/mem: {e}"));
    let mut differences = Vec::new();
    for m in mappings(pid).iter().filter(|m| m.perms.contains('x')) {
        if m.name == "[vdso]" || m.name == "[vsyscall]" {
            continue;
        }
        if !is_file(m) {
            differences.push(format!("executable without a file: {m:x?}"));
            continue;
        }
        let len = usize::try_from(m.end - m.start).expect("a mapping fits");
        let mut live = vec![0_u8; len];
        memory
            .read_exact_at(&mut live, m.start)
            .unwrap_or_else(|e| panic!("read {m:x?} of pid {pid}: {e}"));
        let file = open_mapped(pid, m);
        let mut stored = vec![0_u8; len];
        let mut done = 0;
        while done < len {
            match file.read_at(&mut stored[done..], m.offset + done as u64) {
                Ok(0) => break, // past the end of the file a page is zero
                Ok(n) => done += n,
                Err(e) => panic!("read the file of {m:x?}: {e}"),
            }
        }
        for (i, (is, was)) in live.iter().zip(&stored).enumerate() {
            if is != was && differences.len() < 20 {
                let at = m.start + i as u64;
                differences.push(format!("{at:#x} ({}): is {is:02x}, was {was:02x}", m.name));
            }
        }
    }
    differences
}

fn open_mapped(pid: i32, m: &Mapping) -> File {
    let exe = format!("/proc/{pid}/exe");
    let target = fs::read_link(&exe).expect("read /proc/PID/exe");
    if target.to_string_lossy() == m.name {
        return File::open(&exe).expect("open /proc/PID/exe");
    }
    let path = format!("/proc/{pid}/root{}", m.name);
    File::open(&path).unwrap_or_else(|e| panic!("open {path}: {e}"))
}

/// Everything a tracer must leave as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footprint {
    mappings: BTreeSet<Mapping>,
    signals: Vec<String>,
}

/// [`lasting_mappings`] and the signal masks of `/proc/PID/status`.
pub fn footprint(pid: i32) -> Footprint {
    Footprint {
        mappings: lasting_mappings(pid),
        signals: status_lines(pid, &["SigIgn", "SigCgt"]),
    }
}

/// Is the process as it was? See [`assert_clean`].
pub fn is_clean(pid: i32, before: &Footprint) -> bool {
    tracer(pid) == 0 && footprint(pid) == *before && code_differences(pid).is_empty()
}

/// Panics unless the process is as it was: code as in the file, nothing mapped,
/// handlers the same, nobody tracing it.
pub fn assert_clean(pid: i32, before: &Footprint, when: &str) {
    let differences = code_differences(pid);
    assert!(
        differences.is_empty(),
        "{when}: code differs from the file:\n{}",
        differences.join("\n")
    );
    let now = footprint(pid);
    let left: Vec<_> = now.mappings.difference(&before.mappings).collect();
    assert!(left.is_empty(), "{when}: stays mapped: {left:#x?}");
    let gone: Vec<_> = before.mappings.difference(&now.mappings).collect();
    assert!(gone.is_empty(), "{when}: no longer mapped: {gone:#x?}");
    assert_eq!(now.signals, before.signals, "{when}: signals");
    assert_eq!(tracer(pid), 0, "{when}: somebody still traces it");
}

/// Lines of `/proc/PID/status` by name.
pub fn status_lines(pid: i32, names: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_else(|e| panic!("read /proc/{pid}/status: {e}"));
    text.lines()
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default();
            names.contains(&name)
        })
        .map(str::to_string)
        .collect()
}

/// Who traces it; 0 when nobody does.
pub fn tracer(pid: i32) -> i32 {
    let line = status_lines(pid, &["TracerPid"]).concat();
    let number = line.split(':').nth(1).unwrap_or_default().trim();
    number.parse().expect("TracerPid is a number")
}

/// The state letter of a process (`R`, `S`, `T`, `t`, `Z`); None when gone.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Does nothing run in it? All threads sleep, and none has been on a CPU since
/// the last look, 2 ms before: its goroutines are parked.
pub fn is_idle(pid: i32) -> bool {
    let first = asleep(pid);
    std::thread::sleep(std::time::Duration::from_millis(2));
    first.is_some() && first == asleep(pid)
}

/// How often each thread has left a CPU; None when one is on it.
fn asleep(pid: i32) -> Option<Vec<Vec<String>>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("read its threads");
    let mut all = Vec::new();
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        let words = |name: &str| {
            text.lines()
                .filter(|l| l.contains(name))
                .map(str::to_string)
                .collect::<Vec<String>>()
        };
        if !words("State:").concat().contains("S (sleeping)") {
            return None;
        }
        all.push(words("ctxt_switches"));
    }
    Some(all)
}

/// The state letters of its threads.
pub fn thread_states(pid: i32) -> Vec<char> {
    let named = named_thread_states(pid);
    named.into_iter().map(|(_, state)| state).collect()
}

/// The names and state letters of its threads.
pub fn named_thread_states(pid: i32) -> Vec<(String, char)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("read /proc/PID/task");
    tasks
        .flatten()
        .filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (head, rest) = stat.rsplit_once(") ")?;
            let (_, name) = head.split_once('(')?;
            Some((name.to_owned(), rest.chars().next()?))
        })
        .collect()
}

/// Processor time that a process has used: fields 14 and 15 of /proc/PID/stat.
pub fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read /proc/PID/stat");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    let field = |i: usize| rest.split(' ').nth(i).and_then(|w| w.parse::<u64>().ok());
    field(11).expect("utime") + field(12).expect("stime")
}

/// A TCP socket of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Socket {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The kernel's state number: 1 established, 10 listening
    /// (include/net/tcp_states.h).
    pub state: u8,
}

/// The TCP sockets of a process by file descriptor, as `ss -tnp` finds them.
pub fn tcp_sockets(pid: i32) -> BTreeMap<i64, Socket> {
    let mut by_inode = BTreeMap::new();
    for family in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{family}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, _, _, _, _, _, inode, ..] = words[..] else {
                continue;
            };
            let socket = Socket {
                local: parse_addr(local),
                remote: parse_addr(remote),
                state: u8::from_str_radix(state, 16).expect("a state"),
            };
            by_inode.insert(inode.to_string(), socket);
        }
    }
    let mut sockets = BTreeMap::new();
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("read /proc/PID/fd");
    for entry in fds.flatten() {
        let Ok(link) = fs::read_link(entry.path()) else {
            continue;
        };
        let link = link.to_string_lossy().into_owned();
        let inode = link
            .strip_prefix("socket:[")
            .and_then(|l| l.strip_suffix(']'));
        if let Some(socket) = inode.and_then(|i| by_inode.get(i)) {
            let fd = entry.file_name().to_string_lossy().parse().expect("a fd");
            sockets.insert(fd, socket.clone());
        }
    }
    sockets
}

/// The threads of a process, in order.
pub fn threads(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("read /proc/PID/task");
    let mut tids: Vec<i32> = tasks
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    tids.sort_unstable();
    tids
}

/// `0100007F:1F90`: words in the byte order of the machine, proc(5).
fn parse_addr(text: &str) -> SocketAddr {
    let (ip, port) = text.split_once(':').expect("an address");
    let port = u16::from_str_radix(port, 16).expect("a port");
    let words: Vec<u32> = (0..ip.len() / 8)
        .map(|i| u32::from_str_radix(&ip[i * 8..i * 8 + 8], 16).expect("an address"))
        .collect();
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let ip = match <[u8; 16]>::try_from(bytes.as_slice()) {
        Ok(six) => IpAddr::V6(Ipv6Addr::from(six)),
        Err(_) => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
    };
    let ip = match ip {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    };
    SocketAddr::new(ip, port)
}

fn go_tool(go: &Toolchain, args: &[&str], path: &Path) -> String {
    let out = go.go().arg("tool").args(args).arg(path).output();
    let out = out.expect("go is needed: https://go.dev/dl/");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The functions of package main, by the symbol table of the one that has one.
pub fn functions(go: &Toolchain, path: &Path) -> BTreeSet<String> {
    let symbols = go_tool(go, &["nm"], path);
    let own = symbols.lines().filter_map(|l| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let name = words.last().filter(|n| n.starts_with("main."))?;
        matches!(words.get(1), Some(&("T" | "t"))).then(|| (*name).to_owned())
    });
    own.collect()
}

/// Address and bytes of each instruction of a function, as `go tool objdump`
/// has them, up to its last RET.
pub fn instructions(go: &Toolchain, path: &Path, function: &str) -> Vec<(String, String)> {
    let text = go_tool(go, &["objdump", "-s", &format!("^{function}$")], path);
    let lines = text.lines().filter_map(|l| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let [_, at, bytes, ..] = words.as_slice() else {
            return None;
        };
        at.starts_with("0x")
            .then(|| ((*at).to_owned(), (*bytes).to_owned()))
    });
    lines.collect()
}
