//! The same program's DWARF is the oracle for what its type descriptors say.

use super::*;
use crate::image::type_oracle::{Oracle, build, memory, minor, section};
use crate::memory::Patchwork;

fn table(path: &std::path::Path) -> RttiTypes<Patchwork> {
    let memory = memory(path);
    let section = section(&memory, minor());
    RttiTypes::new(memory, section)
}

/// What the golang room asks for.
const RUNTIME: [&str; 27] = [
    "runtime.g",
    "runtime.m",
    "runtime.p",
    "runtime.sudog",
    "runtime.hchan",
    "runtime.pollDesc",
    "runtime.timer",
    "runtime.moduledata",
    "runtime._defer",
    "runtime._panic",
    "runtime.mspan",
    "internal/poll.FD",
    "internal/poll.pollDesc",
    "net.netFD",
    "net.conn",
    "net.TCPConn",
    "net.OpError",
    "net.TCPAddr",
    "net.UnixAddr",
    "os.File",
    "os.file",
    "os.SyscallError",
    "io/fs.PathError",
    "errors.errorString",
    "crypto/tls.Conn",
    "net/http.conn",
    "bufio.Reader",
];

fn compare(stripped: &str, flags: &[&str], plain: &str, plain_flags: &[&str]) {
    let types = table(&build(stripped, flags));
    let structs = Oracle::open(&build(plain, plain_flags)).structs();
    let mut fields_compared = 0;
    for name in RUNTIME
        .iter()
        .copied()
        .chain(["main.odd", "main.inner", "net/http.Request"])
    {
        let id = types
            .find_struct(name)
            .unwrap_or_else(|| panic!("{name} is not found"));
        let (size, fields) = structs
            .get(name)
            .unwrap_or_else(|| panic!("{name} in DWARF"));
        let found = types.get(id);
        assert_eq!(found.size, *size, "{name}");
        let TypeKind::Struct(ours) = &found.kind else {
            panic!("{name} is no struct")
        };
        let ours: Vec<_> = ours
            .iter()
            .map(|f| (f.name.to_string(), f.offset))
            .collect();
        assert_eq!(&ours, fields, "{name}");
        fields_compared += ours.len();
    }
    assert!(fields_compared > 400, "{fields_compared}");
}

#[test]
fn structs_are_laid_out_as_dwarf_says() {
    compare("plain", &[], "plain", &[]);
}

#[test]
fn a_stripped_program_tells_the_same() {
    compare("stripped", &["-ldflags=-s -w"], "plain", &[]);
}

#[test]
fn so_does_a_position_independent_one() {
    compare("pie", &["-buildmode=pie"], "pie", &["-buildmode=pie"]);
}
