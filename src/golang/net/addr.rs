//! `net.Addr` values: `*TCPAddr`, `*UDPAddr`, `*IPAddr`, `*UnixAddr`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::addr::LiveAddr;
use crate::golang::endpoint::Endpoint;
use crate::golang::layout::Layouts;
use crate::memory::{Memory, MemoryError};

/// Longest path or zone that is read.
const MAX_NAME: usize = 256;

/// Which `net.Addr` an interface holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddrKind {
    /// `*net.TCPAddr`
    Tcp,
    /// `*net.UDPAddr`
    Udp,
    /// `*net.IPAddr`
    Ip,
    /// `*net.UnixAddr`
    Unix,
}

impl AddrKind {
    /// By the name of the interface's dynamic type.
    pub fn of_type(name: &str) -> Option<AddrKind> {
        match name {
            "*net.TCPAddr" => Some(AddrKind::Tcp),
            "*net.UDPAddr" => Some(AddrKind::Udp),
            "*net.IPAddr" => Some(AddrKind::Ip),
            "*net.UnixAddr" => Some(AddrKind::Unix),
            _ => None,
        }
    }
}

/// A Go string: at most `max` bytes of it, and its whole length.
pub fn read_go_string(
    memory: &dyn Memory,
    ptr: u64,
    len: u64,
    max: usize,
) -> Result<(Vec<u8>, u64), MemoryError> {
    let take = usize::try_from(len).unwrap_or(usize::MAX).min(max);
    if take == 0 {
        return Ok((Vec::new(), len));
    }
    Ok((memory.read_vec(LiveAddr(ptr), take)?, len))
}

/// A little-endian word of `bytes`; 0 past its end.
pub(super) fn word(bytes: &[u8], at: u64) -> u64 {
    usize::try_from(at)
        .ok()
        .and_then(|at| bytes.get(at..at.checked_add(8)?))
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// The fields of an address, as they lie in memory.
struct Parts {
    ip: Vec<u8>,
    port: u64,
    zone: Vec<u8>,
}

/// IP slice, port and zone of a TCPAddr, UDPAddr or IPAddr.
fn parts(
    memory: &dyn Memory,
    layouts: &Layouts,
    kind: AddrKind,
    at: LiveAddr,
) -> Result<Parts, MemoryError> {
    let (size, ip, port, zone) = match kind {
        AddrKind::Tcp => {
            let l = &layouts.tcp_addr;
            (l.size, l.ip, Some(l.port), l.zone)
        }
        AddrKind::Udp => {
            let l = &layouts.udp_addr;
            (l.size, l.ip, Some(l.port), l.zone)
        }
        AddrKind::Ip | AddrKind::Unix => {
            let l = &layouts.ip_addr;
            (l.size, l.ip, None, l.zone)
        }
    };
    let bytes = memory.read_vec(at, usize::try_from(size).unwrap_or(0).min(MAX_NAME))?;
    let (ip_at, ip_len) = (word(&bytes, ip), word(&bytes, ip.wrapping_add(8)));
    let (zone_at, zone_len) = (word(&bytes, zone), word(&bytes, zone.wrapping_add(8)));
    Ok(Parts {
        ip: read_go_string(memory, ip_at, ip_len, 16)?.0,
        port: port.map_or(0, |p| word(&bytes, p)),
        zone: read_go_string(memory, zone_at, zone_len, 64)?.0,
    })
}

/// As `net.IP` understands its bytes: 4, or 16 of which `::ffff:a.b.c.d` is IPv4.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
    Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4))
}

fn unix_name(memory: &dyn Memory, layouts: &Layouts, at: LiveAddr) -> Result<String, MemoryError> {
    let name = at.offset(layouts.unix_addr.name);
    let bytes = memory.read_vec(name, 16)?;
    let (text, len) = read_go_string(memory, word(&bytes, 0), word(&bytes, 8), MAX_NAME)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if len > MAX_NAME as u64 {
        text.push('…');
    }
    Ok(text)
}

/// The end of a connection that a `net.Addr` of `kind` names; `None` when its
/// bytes make no address.
pub fn endpoint(
    memory: &dyn Memory,
    layouts: &Layouts,
    kind: AddrKind,
    at: LiveAddr,
) -> Result<Option<Endpoint>, MemoryError> {
    if at.is_null() {
        return Ok(None);
    }
    if kind == AddrKind::Unix {
        let name = unix_name(memory, layouts, at)?;
        return Ok(Some(Endpoint::Unix(name.into())));
    }
    let parts = parts(memory, layouts, kind, at)?;
    // A nil IP is the unspecified address (net/ip.go: IP.String and JoinHostPort).
    let ip = if parts.ip.is_empty() {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        match ip(&parts.ip) {
            Some(ip) => ip,
            None => return Ok(None),
        }
    };
    if kind == AddrKind::Ip {
        return Ok(Some(Endpoint::Ip(ip)));
    }
    let Ok(port) = u16::try_from(parts.port) else {
        return Ok(None);
    };
    let zone: Arc<str> = String::from_utf8_lossy(&parts.zone).into();
    Ok(Some(Endpoint::Inet(SocketAddr::new(ip, port), zone)))
}

/// What the address's String method returns (net/tcpsock.go, udpsock.go,
/// iprawsock.go, unixsock.go of Go 1.19 to 1.27).
pub fn addr_text(
    memory: &dyn Memory,
    layouts: &Layouts,
    kind: AddrKind,
    at: LiveAddr,
) -> Result<String, MemoryError> {
    if at.is_null() {
        return Ok("<nil>".to_owned());
    }
    if kind == AddrKind::Unix {
        return unix_name(memory, layouts, at);
    }
    let parts = parts(memory, layouts, kind, at)?;
    let mut host = if parts.ip.is_empty() {
        String::new()
    } else if let Some(ip) = ip(&parts.ip) {
        ip.to_string()
    } else {
        parts
            .ip
            .iter()
            .fold("?".to_owned(), |hex, b| format!("{hex}{b:02x}"))
    };
    if !parts.zone.is_empty() {
        host.push('%');
        host.push_str(&String::from_utf8_lossy(&parts.zone));
    }
    if kind == AddrKind::Ip {
        return Ok(host);
    }
    // net.JoinHostPort
    let port = parts.port as i64;
    Ok(if host.contains([':', '%']) {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}
