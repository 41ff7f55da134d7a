//! One end of a connection, as Go's `net` package names it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One end of a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// TCP, UDP; the zone of an IPv6 link-local address, or empty.
    Inet(SocketAddr, Arc<str>),
    /// A raw IP socket.
    Ip(IpAddr),
    /// A Unix socket's name (`@` for abstract ones); empty when unnamed.
    Unix(Arc<str>),
}

impl Endpoint {
    /// A Unix socket without a name: there is nothing to show.
    pub fn is_unnamed(&self) -> bool {
        matches!(self, Endpoint::Unix(path) if path.is_empty())
    }
}

impl std::fmt::Display for Endpoint {
    /// As Go's `Addr.String` prints it (net/tcpsock.go, Go 1.26).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Inet(SocketAddr::V6(a), zone) if !zone.is_empty() => {
                write!(f, "[{}%{}]:{}", a.ip(), zone, a.port())
            }
            Endpoint::Inet(a, _) => write!(f, "{a}"),
            Endpoint::Ip(ip) => write!(f, "{ip}"),
            Endpoint::Unix(path) => f.write_str(path),
        }
    }
}
