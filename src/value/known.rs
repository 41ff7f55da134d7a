//! Types of the standard library that read better as text: times, durations,
//! addresses. Each is known by name and, since a name proves nothing, by its
//! fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Value;
use super::load::{Context, Loader, unsigned, word};
use crate::addr::LiveAddr;
use crate::image::types::{Field, Type, TypeKind};
use crate::memory::Memory as _;

/// A pointer to such a type is followed even where the depth is used up.
pub(super) fn reads_as_text(ty: &Type) -> bool {
    matches!(
        &*ty.name,
        "net.TCPAddr" | "net.UDPAddr" | "net.IPAddr" | "net.UnixAddr"
    )
}

impl Loader<'_> {
    /// The value as text, for a type that is known; `None` for all others, and
    /// when the bytes do not fit.
    pub(super) fn known(&self, ty: &Type, bytes: &[u8], ctx: Context<'_>) -> Option<Value> {
        match (&ty.kind, &*ty.name) {
            (TypeKind::Int { signed: true }, "time.Duration") => {
                Some(Value::Duration(unsigned(bytes, ty.size)?.cast_signed()))
            }
            (TypeKind::Slice(_), "net.IP" | "net.HardwareAddr") => self.raw_address(ty, bytes),
            (TypeKind::Struct(fields), name) => {
                let text = match name {
                    "time.Time" => time(fields, bytes)?,
                    "netip.Addr" => netip(fields, bytes)?.to_string(),
                    "netip.AddrPort" => addr_port(fields, bytes, ctx)?,
                    "net.TCPAddr" | "net.UDPAddr" => self.host_port(fields, bytes)?,
                    "net.IPAddr" => self.host(fields, bytes)?.0,
                    "net.UnixAddr" => self.text_field(fields, bytes, "Name")?,
                    _ => return None,
                };
                Some(Value::Text(text.into()))
            }
            _ => None,
        }
    }

    fn raw_address(&self, ty: &Type, bytes: &[u8]) -> Option<Value> {
        let octets = self.octets(bytes)?;
        let text = if &*ty.name == "net.IP" {
            ip(&octets)?.to_string()
        } else if matches!(octets.len(), 6 | 8) {
            let pairs: Vec<String> = octets.iter().map(|b| format!("{b:02x}")).collect();
            pairs.join(":")
        } else {
            return None;
        };
        Some(Value::Text(text.into()))
    }

    /// The bytes of a short byte slice whose header is given.
    fn octets(&self, header: &[u8]) -> Option<Vec<u8>> {
        let len = usize::try_from(word(header, 1)?).ok()?;
        if len > 16 {
            return None;
        }
        self.memory.read_vec(LiveAddr(word(header, 0)?), len).ok()
    }

    /// net/tcpsock.go and udpsock.go, `String`: IP, Port, Zone.
    fn host_port(&self, fields: &[Field], bytes: &[u8]) -> Option<String> {
        let port = unsigned(part(fields, bytes, "Port")?, 8)?.cast_signed();
        Some(match self.host(fields, bytes)? {
            (host, true) => format!("[{host}]:{port}"),
            (host, false) => format!("{host}:{port}"),
        })
    }

    /// The address with its zone, and whether it wants brackets.
    fn host(&self, fields: &[Field], bytes: &[u8]) -> Option<(String, bool)> {
        let octets = self.octets(part(fields, bytes, "IP")?)?;
        if octets.is_empty() {
            return Some((String::new(), false));
        }
        let ip = ip(&octets)?;
        let zone = self.text_field(fields, bytes, "Zone")?;
        let text = if zone.is_empty() {
            ip.to_string()
        } else {
            format!("{ip}%{zone}")
        };
        Some((text, ip.is_ipv6()))
    }

    fn text_field(&self, fields: &[Field], bytes: &[u8], name: &str) -> Option<String> {
        let header = part(fields, bytes, name)?;
        match self.string(word(header, 0)?, word(header, 1)?) {
            Value::Str { bytes, len } => {
                let mut text = String::from_utf8_lossy(&bytes).into_owned();
                if len > bytes.len() as u64 {
                    text.push_str("...");
                }
                Some(text)
            }
            _ => None,
        }
    }
}

/// net/netip/netip.go, `Addr`: the address as 128 bits, high half first,
/// then what tells IPv4 (::ffff:a.b.c.d inside) from IPv6 and its zone.
/// That third word is nil for the zero Addr. IPv4 in IPv6, which is rare,
/// is shown as IPv4, a zone is not shown.
fn netip(fields: &[Field], bytes: &[u8]) -> Option<NetipAddr> {
    let address = part(fields, bytes, "addr")?;
    let (hi, lo) = (word(address, 0)?, word(address, 1)?);
    if word(part(fields, bytes, "z")?, 0)? == 0 {
        return Some(NetipAddr(None));
    }
    let six = Ipv6Addr::from_bits(u128::from(hi) << 64 | u128::from(lo));
    Some(NetipAddr(Some(six.to_canonical())))
}

fn addr_port(fields: &[Field], bytes: &[u8], ctx: Context<'_>) -> Option<String> {
    let inner = fields.iter().find(|f| &*f.name == "ip")?;
    let TypeKind::Struct(inner) = &ctx.types.get(inner.ty).kind else {
        return None;
    };
    let NetipAddr(ip) = netip(inner, part(fields, bytes, "ip")?)?;
    let port = unsigned(part(fields, bytes, "port")?, 2)?;
    Some(match ip {
        None => "invalid AddrPort".to_owned(),
        Some(IpAddr::V4(ip)) => format!("{ip}:{port}"),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
    })
}

/// `None`: the zero value, which Go prints as `invalid IP`.
struct NetipAddr(Option<IpAddr>);

impl std::fmt::Display for NetipAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(ip) => write!(f, "{ip}"),
            None => f.write_str("invalid IP"),
        }
    }
}

/// The bytes of a struct from one of its fields on.
fn part<'a>(fields: &[Field], bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let field = fields.iter().find(|f| &*f.name == name)?;
    bytes.get(usize::try_from(field.offset).ok()?..)
}

/// As net/ip.go prints it: an IPv4 address in 16 bytes is an IPv4 address.
fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(four).into());
    }
    let six = <[u8; 16]>::try_from(octets).ok()?;
    Some(Ipv6Addr::from(six).to_canonical())
}

/// time/time.go, `Time`: with the top bit of `wall`, 33 bits of seconds since
/// 1885 and 30 of nanoseconds are in it, and `ext` is monotonic; else `ext` is
/// seconds since year 1. Printed in UTC, whatever its location.
fn time(fields: &[Field], bytes: &[u8]) -> Option<String> {
    const DAY: i64 = 86400;
    const YEAR_1_TO_1970: i64 = (1969 * 365 + 1969 / 4 - 1969 / 100 + 1969 / 400) * DAY;
    const YEAR_1_TO_1885: i64 = (1884 * 365 + 1884 / 4 - 1884 / 100 + 1884 / 400) * DAY;
    let wall = unsigned(part(fields, bytes, "wall")?, 8)?;
    let ext = unsigned(part(fields, bytes, "ext")?, 8)?.cast_signed();
    let since_year_1 = match wall >> 63 {
        1 => YEAR_1_TO_1885 + ((wall << 1) >> 31).cast_signed(),
        _ => ext,
    };
    let nanoseconds = i32::try_from(wall & ((1 << 30) - 1)).ok()?;
    let seconds = since_year_1.checked_sub(YEAR_1_TO_1970)?;
    let stamp = jiff::Timestamp::new(seconds, nanoseconds).ok()?;
    Some(stamp.to_string())
}
