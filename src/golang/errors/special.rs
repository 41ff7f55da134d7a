//! Error methods of the standard library that decide something.

use super::known::Special;
use super::numbers;
use super::render::{Fault, Filled, Out, Place, Renderer, quote};
use crate::addr::LiveAddr;
use crate::golang::net::{AddrKind, addr_text};
use crate::image::types::{Type, TypeKind};

/// Errors of an errors.Join that are printed.
const MAX_JOINED: u64 = 32;

impl Renderer<'_> {
    pub(super) fn special(
        &self,
        special: Special,
        place: Place,
        held: &Type,
        depth: u32,
        out: &mut Out,
    ) -> Filled {
        match special {
            Special::OpError => self.op_error(place, held, depth, out),
            Special::DnsError => self.dns_error(place, held, out),
            Special::AddrError => {
                let err = self.string_field(place, held, "Err")?;
                let addr = self.string_field(place, held, "Addr")?;
                if !addr.is_empty() {
                    out.push(&format!("address {addr}: "));
                }
                out.push(&err);
                Ok(())
            }
            Special::Join => self.join(place, held, depth, out),
            Special::Errno => {
                out.push(&numbers::errno(self.value(place, held)?, self.minor));
                Ok(())
            }
            Special::Alert => {
                out.push(&numbers::alert(self.value(place, held)?));
                Ok(())
            }
            Special::Http2Connection => {
                let code = numbers::http2_code(self.value(place, held)?);
                out.push(&format!("connection error: {code}"));
                Ok(())
            }
            Special::Http2Stream => self.http2_stream(place, held, depth, out),
            Special::Http2GoAway => {
                let last = self.integer_field(place, held, "LastStreamID")?;
                let code = self.integer_field(place, held, "ErrCode")?;
                let code = numbers::http2_code(u64::try_from(code).unwrap_or_default());
                let (offset, _) = Self::field(held, "DebugData")?;
                let debug = quote(&self.string(place, offset)?);
                out.push(&format!(
                    "http2: server sent GOAWAY and closed the connection; LastStreamID={last}, ErrCode={code}, debug={debug}"
                ));
                Ok(())
            }
            Special::Exit => self.exit(place, held, out),
            Special::TypeAssertion => self.type_assertion(place, held, out),
            Special::UnknownAuthority => self.unknown_authority(place, held, depth, out),
            Special::CertificateInvalid => self.certificate_invalid(place, held, out),
            Special::SystemRoots => {
                out.push("x509: failed to load system roots and no roots provided");
                let (itab, data) = self.interface_field(place, held, "Err")?;
                if itab != 0 {
                    out.push("; ");
                    self.interface(itab, data, depth.saturating_add(1), out)?;
                }
                Ok(())
            }
            Special::EchConfig => {
                let field = self.string_field(place, held, "field")?;
                out.push("tls: malformed ECHConfig");
                if !field.is_empty() {
                    out.push(&format!(", invalid {field} field"));
                }
                Ok(())
            }
        }
    }

    /// The value of an integer type.
    fn value(&self, place: Place, held: &Type) -> Filled<u64> {
        if !matches!(held.kind, TypeKind::Int { .. }) {
            return Err(Fault::Unlike);
        }
        Ok(self.integer(place, 0, held)? as u64)
    }

    /// net/net.go: (*OpError).Error
    fn op_error(&self, place: Place, held: &Type, depth: u32, out: &mut Out) -> Filled {
        out.push(&self.string_field(place, held, "Op")?);
        let network = self.string_field(place, held, "Net")?;
        if !network.is_empty() {
            out.push(" ");
            out.push(&network);
        }
        let source = self.interface_field(place, held, "Source")?;
        let addr = self.interface_field(place, held, "Addr")?;
        if source.0 != 0 {
            out.push(" ");
            self.net_addr(source, out)?;
        }
        if addr.0 != 0 {
            out.push(if source.0 == 0 { " " } else { "->" });
            self.net_addr(addr, out)?;
        }
        out.push(": ");
        let (itab, data) = self.interface_field(place, held, "Err")?;
        Ok(self.interface(itab, data, depth.saturating_add(1), out)?)
    }

    /// A net.Addr's String method, for the types of package net.
    fn net_addr(&self, (itab, data): (u64, u64), out: &mut Out) -> Filled {
        let Some(dynamic) = self.dynamic(itab)? else {
            out.push("?");
            out.structural = true;
            return Ok(());
        };
        let ty = dynamic.ty;
        if let Some(kind) = AddrKind::of_type(&ty.name) {
            out.push(&addr_text(self.memory, self.layouts, kind, LiveAddr(data))?);
        } else if &*ty.name == "net.pipeAddr" {
            out.push("pipe");
        } else if ty.kind == TypeKind::String {
            // net.fileAddr, and strangers that most likely do the same.
            let text = self.string(Place::At(LiveAddr(data)), 0)?;
            out.push(&String::from_utf8_lossy(&text));
            out.structural |= &*ty.name != "net.fileAddr";
        } else {
            out.push(&ty.name);
            out.structural = true;
        }
        Ok(())
    }

    /// net/net.go: (*DNSError).Error
    fn dns_error(&self, place: Place, held: &Type, out: &mut Out) -> Filled {
        let name = self.string_field(place, held, "Name")?;
        let server = self.string_field(place, held, "Server")?;
        let err = self.string_field(place, held, "Err")?;
        out.push(&format!("lookup {name}"));
        if !server.is_empty() {
            out.push(&format!(" on {server}"));
        }
        out.push(&format!(": {err}"));
        Ok(())
    }

    /// errors/join.go
    fn join(&self, place: Place, held: &Type, depth: u32, out: &mut Out) -> Filled {
        let (offset, _) = Self::field(held, "errs")?;
        let (ptr, len) = self.pair(place, offset)?;
        for i in 0..len.min(MAX_JOINED) {
            if i > 0 {
                out.push("\n");
            }
            let at = LiveAddr(ptr).offset(i.wrapping_mul(16));
            let (itab, data) = self.pair(Place::At(at), 0)?;
            self.interface(itab, data, depth.saturating_add(1), out)?;
        }
        if len > MAX_JOINED {
            out.push("\n…");
        }
        Ok(())
    }

    /// net/http/h2_bundle.go: (http2StreamError).Error
    fn http2_stream(&self, place: Place, held: &Type, depth: u32, out: &mut Out) -> Filled {
        let stream = self.integer_field(place, held, "StreamID")?;
        let code = self.integer_field(place, held, "Code")?;
        let code = numbers::http2_code(u64::try_from(code).unwrap_or_default());
        out.push(&format!("stream error: stream ID {stream}; {code}"));
        let (itab, data) = self.interface_field(place, held, "Cause")?;
        if itab != 0 {
            out.push("; ");
            self.interface(itab, data, depth.saturating_add(1), out)?;
        }
        Ok(())
    }

    /// os/exec_posix.go: (*ProcessState).String; the bits are those of wait(2).
    fn exit(&self, place: Place, held: &Type, out: &mut Out) -> Filled {
        let (offset, ty) = Self::field(held, "ProcessState")?;
        let state = self.word(place, offset)?;
        let TypeKind::Pointer(elem) = self.types.get(ty).kind else {
            return Err(Fault::Unlike);
        };
        if state == 0 {
            out.push("<nil>");
            return Ok(());
        }
        let elem = self.types.get(elem);
        let status = self.integer_field(Place::At(LiveAddr(state)), &elem, "status")? as u64;
        let low = status & 0x7f;
        if low == 0 {
            out.push(&format!("exit status {}", status >> 8 & 0xff));
        } else if low == 0x7f {
            out.push(&format!(
                "stop signal: {}",
                numbers::signal(status >> 8 & 0xff)
            ));
        } else {
            out.push(&format!("signal: {}", numbers::signal(low)));
            if status & 0x80 != 0 {
                out.push(" (core dumped)");
            }
        }
        Ok(())
    }

    /// runtime/error.go: (*TypeAssertionError).Error
    fn type_assertion(&self, place: Place, held: &Type, out: &mut Out) -> Filled {
        let descriptor = |name| -> Filled<LiveAddr> {
            let (offset, _) = Self::field(held, name)?;
            Ok(LiveAddr(self.word(place, offset)?))
        };
        let named = |at: LiveAddr| {
            self.types
                .described(at)
                .map_or_else(|| "?".to_owned(), |t| t.name.to_string())
        };
        let (interface, concrete) = (descriptor("_interface")?, descriptor("concrete")?);
        let asserted = descriptor("asserted")?;
        let missing = self.string_field(place, held, "missingMethod")?;
        let inter = if interface.is_null() {
            "interface".to_owned()
        } else {
            named(interface)
        };
        let wanted = named(asserted);
        out.push("interface conversion: ");
        if concrete.is_null() {
            out.push(&format!("{inter} is nil, not {wanted}"));
            return Ok(());
        }
        let found = named(concrete);
        if missing.is_empty() {
            out.push(&format!("{inter} is {found}, not {wanted}"));
            if found == wanted {
                let same = self.types.package_of(concrete) == self.types.package_of(asserted);
                out.push(if same {
                    " (types from different scopes)"
                } else {
                    " (types from different packages)"
                });
            }
        } else {
            out.push(&format!(
                "{found} is not {wanted}: missing method {missing}"
            ));
        }
        Ok(())
    }

    /// crypto/x509/verify.go: (UnknownAuthorityError).Error
    fn unknown_authority(&self, place: Place, held: &Type, depth: u32, out: &mut Out) -> Filled {
        let (itab, data) = self.interface_field(place, held, "hintErr")?;
        if itab == 0 {
            out.push("x509: certificate signed by unknown authority");
            return Ok(());
        }
        let mut hint = Out::default();
        self.interface(itab, data, depth.saturating_add(1), &mut hint)?;
        let (offset, ty) = Self::field(held, "hintCert")?;
        let cert = Place::At(LiveAddr(self.word(place, offset)?));
        let TypeKind::Pointer(elem) = self.types.get(ty).kind else {
            return Err(Fault::Unlike);
        };
        let elem = self.types.get(elem);
        let (subject_at, subject) = Self::field(&elem, "Subject")?;
        let subject = self.types.get(subject);
        let (name_at, _) = Self::field(&subject, "CommonName")?;
        let (orgs_at, _) = Self::field(&subject, "Organization")?;
        let mut name = self.string(cert, subject_at.wrapping_add(name_at))?;
        if name.is_empty() {
            let (orgs, len) = self.pair(cert, subject_at.wrapping_add(orgs_at))?;
            if len == 0 {
                // "serial:" and a big.Int: shown by its structure.
                return Err(Fault::Unlike);
            }
            name = self.string(Place::At(LiveAddr(orgs)), 0)?;
        }
        out.push(&format!(
            "x509: certificate signed by unknown authority (possibly because of {} while trying to verify candidate authority certificate {})",
            quote(hint.text.as_bytes()),
            quote(&name)
        ));
        out.structural |= hint.structural;
        Ok(())
    }

    /// crypto/x509/verify.go: (CertificateInvalidError).Error
    fn certificate_invalid(&self, place: Place, held: &Type, out: &mut Out) -> Filled {
        let detail = self.string_field(place, held, "Detail")?;
        let text = match self.integer_field(place, held, "Reason")? {
            0 => "certificate is not authorized to sign other certificates",
            1 => "certificate has expired or is not yet valid: ",
            2 => "a root or intermediate certificate is not authorized to sign for this name: ",
            3 => "too many intermediates for path length constraint",
            4 => "certificate specifies an incompatible key usage",
            5 => "issuer name does not match subject from issuing certificate",
            6 => "issuer has name constraints but leaf doesn't have a SAN extension",
            7 => "issuer has name constraints but leaf contains unknown or unconstrained name: ",
            9 => "a root or intermediate certificate is not authorized for an extended key usage: ",
            10 if detail.is_empty() => "no valid chains built",
            10 => "no valid chains built: ",
            _ => "unknown error",
        };
        out.push("x509: ");
        out.push(text);
        if text.ends_with(": ") {
            out.push(&detail);
        }
        Ok(())
    }
}
