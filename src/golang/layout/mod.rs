//! Where the fields of Go's own structs lie in the program at hand.
//!
//! Filled by field name from the type descriptors that every Go binary
//! carries (exact even for vendors' toolchains and patch releases that moved a
//! field), else from a table by Go minor version measured on release
//! toolchains. Walking code uses names only, never a number.

mod tables;
#[cfg(test)]
mod tests;

pub use tables::*;

use super::dynamic::StructFields;

/// First and last Go minor version of the built-in table.
pub const KNOWN_MINORS: (u32, u32) = (19, 27);

/// One column per minor of [`KNOWN_MINORS`].
pub(super) type Row = [i32; 9];

/// Where offsets were learnt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LayoutSource {
    /// The binary's own type descriptors.
    TypeData,
    /// The built-in table; the version is one it was measured for.
    Table,
    /// The nearest column of the table: the version is not one of it.
    Nearest,
}

/// What is needed to fill one struct's layout.
pub(super) struct Filling<'a> {
    fields: Option<&'a dyn StructFields>,
    column: usize,
    exact: bool,
    notes: Vec<String>,
    tabled: Vec<&'static str>,
}

impl Filling<'_> {
    /// A field that every known version has.
    fn required(&mut self, strukt: &'static str, path: &str, row: &Row) -> u64 {
        if let Some(found) = self.found(strukt, path) {
            return found;
        }
        if self.fields.is_some_and(|f| f.size_of(strukt).is_some()) {
            self.notes.push(format!(
                "{strukt} has no field {path}: its place was taken from the built-in table"
            ));
        } else if !self.tabled.contains(&strukt) {
            self.tabled.push(strukt);
        }
        row.get(self.column)
            .and_then(|&v| u64::try_from(v).ok())
            .unwrap_or_default()
    }

    /// A field that some versions lack (-1 in the table).
    fn optional(&mut self, strukt: &'static str, path: &str, row: &Row) -> Option<u64> {
        if self.fields.is_some_and(|f| f.size_of(strukt).is_some()) {
            return self.found(strukt, path);
        }
        row.get(self.column).and_then(|&v| u64::try_from(v).ok())
    }

    fn found(&self, strukt: &str, path: &str) -> Option<u64> {
        let fields = self.fields?;
        if path.is_empty() {
            fields.size_of(strukt)
        } else {
            fields.offset_of(strukt, path)
        }
    }
}

/// All layouts of one binary, and how they were learnt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layouts {
    /// `runtime.g`
    pub g: G,
    /// `runtime._defer`
    pub deferred: Defer,
    /// `runtime.m`
    pub m: M,
    /// `runtime.p`
    pub p: P,
    /// `runtime.sudog`
    pub sudog: Sudog,
    /// `runtime.hchan`
    pub hchan: Hchan,
    /// `runtime.timer`
    pub timer: Timer,
    /// `runtime.pollDesc`
    pub poll_desc: PollDesc,
    /// `internal/poll.FD`
    pub poll_fd: PollFd,
    /// `net.netFD`
    pub net_fd: NetFd,
    /// `net.conn`; TCPConn, UDPConn, UnixConn and IPConn embed it first.
    pub conn: Conn,
    /// `net.TCPListener`
    pub tcp_listener: TcpListener,
    /// `net.UnixListener`
    pub unix_listener: UnixListener,
    /// `net.TCPAddr`
    pub tcp_addr: TcpAddr,
    /// `net.UDPAddr`
    pub udp_addr: UdpAddr,
    /// `net.IPAddr`
    pub ip_addr: IpAddr,
    /// `net.UnixAddr`
    pub unix_addr: UnixAddr,
    /// `crypto/tls.Conn`
    pub tls_conn: TlsConn,
    /// `net/http.conn`
    pub http_conn: HttpConn,
    /// `os.File`
    pub os_file: OsFile,
    /// `os.file`
    pub os_file_inner: OsFileInner,
    /// `runtime.itab`, `internal/abi.ITab`
    pub itab: Itab,
    /// The worst source of any struct of the runtime, poll and net.
    pub source: LayoutSource,
    /// What a user should know about it: a Go newer than known, fields that
    /// had to be guessed.
    pub notes: Vec<String>,
}

impl Layouts {
    /// Layouts of a binary built by Go 1.`minor` (`None`: its version is not
    /// understood), by `fields` where it knows them.
    pub fn resolve(minor: Option<u32>, fields: Option<&dyn StructFields>) -> Layouts {
        let (first, last) = KNOWN_MINORS;
        let nearest = minor.unwrap_or(last).clamp(first, last);
        let mut fill = Filling {
            fields,
            column: nearest.saturating_sub(first) as usize,
            exact: minor == Some(nearest),
            notes: Vec::new(),
            tabled: Vec::new(),
        };
        let mut layouts = Layouts {
            g: G::fill(&mut fill),
            deferred: Defer::fill(&mut fill),
            m: M::fill(&mut fill),
            p: P::fill(&mut fill),
            sudog: Sudog::fill(&mut fill),
            hchan: Hchan::fill(&mut fill),
            timer: Timer::fill(&mut fill),
            poll_desc: PollDesc::fill(&mut fill),
            poll_fd: PollFd::fill(&mut fill),
            net_fd: NetFd::fill(&mut fill),
            conn: Conn::fill(&mut fill),
            tcp_listener: TcpListener::fill(&mut fill),
            unix_listener: UnixListener::fill(&mut fill),
            tcp_addr: TcpAddr::fill(&mut fill),
            udp_addr: UdpAddr::fill(&mut fill),
            ip_addr: IpAddr::fill(&mut fill),
            unix_addr: UnixAddr::fill(&mut fill),
            tls_conn: TlsConn::fill(&mut fill),
            http_conn: HttpConn::fill(&mut fill),
            os_file: OsFile::fill(&mut fill),
            os_file_inner: OsFileInner::fill(&mut fill),
            itab: Itab::fill(&mut fill),
            source: LayoutSource::TypeData,
            notes: Vec::new(),
        };
        // A program that has no sockets has no types of net: only structs of
        // the runtime tell how far the answer can be trusted.
        let guessed = fill.tabled.iter().any(|s| s.starts_with("runtime.g"));
        if guessed || fields.is_none() {
            layouts.source = if fill.exact {
                LayoutSource::Table
            } else {
                LayoutSource::Nearest
            };
        }
        layouts.notes = fill.notes;
        if !fill.exact {
            layouts.notes.push(newer_note(minor, layouts.source));
        }
        layouts
    }

    /// Compares with what code of the binary says: `runtime.allgadd` begins by
    /// reading `g.atomicstatus`. False when they contradict each other.
    pub fn agrees_with(&self, atomicstatus_in_code: Option<u64>) -> bool {
        atomicstatus_in_code.is_none_or(|found| found == self.g.atomicstatus)
    }
}

fn newer_note(minor: Option<u32>, source: LayoutSource) -> String {
    let (first, last) = KNOWN_MINORS;
    let version = minor.map_or_else(
        || "a Go version that is not understood".to_owned(),
        |m| format!("Go 1.{m}"),
    );
    let how = match source {
        LayoutSource::TypeData => "fields were found by name in its type data",
        LayoutSource::Table | LayoutSource::Nearest => {
            "its type data was not found, the nearest known version's layout is assumed"
        }
    };
    format!("built by {version}, known are 1.{first} to 1.{last}: {how}")
}
