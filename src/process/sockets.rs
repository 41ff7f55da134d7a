//! The sockets of a process by file descriptor, as /proc tells (proc(5),
//! "/proc/pid/net"): no ptrace, no netlink.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ProcessError;

/// A socket of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Socket {
    /// File descriptor.
    pub fd: i32,
    /// `tcp`, `tcp6`, `udp`, `udp6` or `unix`.
    pub network: &'static str,
    /// This end: `127.0.0.1:80`, `[::1]:80`, a path; empty for an unnamed one.
    pub local: String,
    /// The other end; `0.0.0.0:0` for none, empty for Unix sockets.
    pub remote: String,
    /// `ESTABLISHED`, `LISTEN` and so on; `NONE` but for TCP.
    pub state: &'static str,
}

/// Names of TCP's states by number (include/net/tcp_states.h, spelled as
/// netstat(8) does).
const STATES: [&str; 12] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
];

/// The sockets that a process has open, in order of descriptor.
pub fn of_process(pid: i32) -> Result<Vec<Socket>, ProcessError> {
    let dir = std::path::PathBuf::from(format!("/proc/{pid}/fd"));
    let entries = fs::read_dir(&dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => ProcessError::NoSuchProcess(pid),
        std::io::ErrorKind::PermissionDenied => super::procfs::denied(pid),
        _ => ProcessError::Proc { path: dir, source },
    })?;
    let mut open: Vec<(i32, u64)> = entries
        .flatten()
        .filter_map(|entry| {
            let fd = entry.file_name().to_str()?.parse().ok()?;
            let link = fs::read_link(entry.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some((fd, inode.parse().ok()?))
        })
        .collect();
    if open.is_empty() {
        return Ok(Vec::new());
    }
    open.sort_unstable();
    let mut by_inode: HashMap<u64, Socket> = HashMap::new();
    for network in ["tcp", "tcp6", "udp", "udp6", "unix"] {
        // A kernel without IPv6 has no such file.
        let text = fs::read(format!("/proc/{pid}/net/{network}")).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines().skip(1) {
            let parsed = if network == "unix" {
                parse_unix(line)
            } else {
                parse_inet(line, network)
            };
            by_inode.extend(parsed);
        }
    }
    Ok(open
        .into_iter()
        .filter_map(|(fd, inode)| {
            let socket = by_inode.get(&inode)?.clone();
            Some(Socket { fd, ..socket })
        })
        .collect())
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`
fn parse_inet(line: &str, network: &'static str) -> Option<(u64, Socket)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, local, remote, state, _, _, _, _, _, inode, ..] = words.as_slice() else {
        return None;
    };
    let number = usize::from(u8::from_str_radix(state, 16).ok()?);
    let state = if network.starts_with("tcp") {
        STATES.get(number).copied().unwrap_or("NONE")
    } else {
        "NONE"
    };
    let socket = Socket {
        fd: -1,
        network,
        local: parse_address(local)?.to_string(),
        remote: parse_address(remote)?.to_string(),
        state,
    };
    Some((inode.parse().ok()?, socket))
}

/// `num refcount protocol flags type st inode path`
fn parse_unix(line: &str) -> Option<(u64, Socket)> {
    let mut words = line.split_whitespace();
    let inode = words.nth(6)?.parse().ok()?;
    let path = words.next().unwrap_or_default();
    let socket = Socket {
        fd: -1,
        network: "unix",
        local: path.to_owned(),
        remote: String::new(),
        state: "NONE",
    };
    Some((inode, socket))
}

/// `0100007F:1F90`: words of the address in the machine's byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |n: usize| {
        let at = n.checked_mul(8)?;
        let digits = ip.get(at..at.checked_add(8)?)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_net_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 100 0 0 10 0";
        let (inode, socket) = parse_inet(line, "tcp").expect("well formed");
        assert_eq!((inode, socket.state), (4712, "LISTEN"));
        assert_eq!(socket.local, "127.0.0.1:8080");
        assert_eq!(socket.remote, "0.0.0.0:0");
        let six = "00000000000000000000000001000000:0050";
        assert_eq!(parse_address(six).unwrap().to_string(), "[::1]:80");
        let (inode, socket) =
            parse_unix("0000: 00000002 0 00010000 0001 01 99 /run/x.sock").unwrap();
        assert_eq!((inode, socket.local.as_str()), (99, "/run/x.sock"));
        assert_eq!(parse_inet("garbage", "tcp"), None);
        assert_eq!(parse_address("0100:1"), None);
    }

    #[test]
    fn our_own_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let found = of_process(std::process::id() as i32).unwrap();
        let own = found.iter().find(|s| s.local == address).expect("it");
        assert_eq!((own.network, own.state), ("tcp", "LISTEN"));
    }
}
