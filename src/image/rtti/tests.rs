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
        assert!(
            types.referenced.get().is_none(),
            "{name} made the text be scanned"
        );
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

#[test]
fn types_of_every_kind_are_read() {
    let types = table(&build("stripped", &["-ldflags=-s -w"]));
    let odd = types.find_type("*main.odd").expect("*main.odd");
    let TypeKind::Pointer(odd) = types.get(odd).kind else {
        panic!("no pointer")
    };
    let text = |id| match &types.get(id).kind {
        TypeKind::Struct(fields) => fields
            .iter()
            .map(|f| {
                let ty = types.get(f.ty);
                let kind = format!("{:?}", ty.kind);
                let kind = kind.split(['(', ' ']).next().unwrap_or("").to_owned();
                format!(
                    "{}{} {} {kind}",
                    if f.embedded { "~" } else { "" },
                    f.name,
                    ty.name
                )
            })
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        text(odd),
        [
            "name string String",
            "~inner main.inner Struct",
            "~File *os.File Pointer",
            "list []main.inner Slice",
            "grid [3][2]main.color Array",
            "one [1]int Array",
            "m map[string]*main.odd Map",
            "ch chan<- main.inner Chan",
            "f func(int) error Func",
            "any interface {} Interface",
            "err error Interface",
            "c64 complex64 Complex",
            "c128 complex128 Complex",
            "when time.Time Struct",
            "empty struct {} Struct",
        ]
    );
    assert_eq!(types.field_offset(odd, &["inner", "c"]), Some(20));
    assert_eq!(types.field_offset(odd, &["nothing"]), None);
    let names = |id| {
        types
            .methods(id)
            .into_iter()
            .map(|m| m.name)
            .collect::<Vec<_>>()
    };
    assert!(
        names(odd).contains(&"ByValue".to_owned()),
        "{:?}",
        names(odd)
    );
    // Maps' descriptors differ from version to version.
    let table = types.find_type("main.table").expect("main.table");
    assert_eq!(names(table), ["Len"]);
    assert_eq!(types.package_path(table).as_deref(), Some("main"));
    let header = types.find_type("net/http.Header").expect("http.Header");
    assert!(names(header).contains(&"Get".to_owned()));
    assert!(types.find_type("crypto/tls.Header").is_none());
    assert!(types.find_type("elsewhere/http.Header").is_none());
}

#[test]
fn code_is_scanned_for_what_no_list_has() {
    let memory = memory(&build("stripped", &["-ldflags=-s -w"]));
    let whole = section(&memory, minor());
    let list = TypeList::Links {
        at: whole.types,
        count: 0,
    };
    let types = RttiTypes::new(memory, TypeSection { list, ..whole });
    for name in RUNTIME {
        assert!(types.find_struct(name).is_some(), "{name}");
    }
}

#[test]
fn garbage_is_survived() {
    let memory = memory(&build("stripped", &["-ldflags=-s -w"]));
    let section = section(&memory, minor());
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    for _ in 0..20 {
        let mut broken = memory.clone();
        for (start, bytes) in &mut broken.pieces {
            let len = bytes.len() as u64;
            if !(start.0..start.0 + len).contains(&section.types.0) {
                continue;
            }
            for _ in 0..len / 64 {
                let at = usize::try_from(random() % len).expect("an index");
                bytes[at] = random() as u8;
            }
        }
        let types = RttiTypes::new(broken, section);
        for name in ["net.netFD", "runtime.g", "*main.odd", "net/http.Header"] {
            if let Some(id) = types.find_type(name) {
                types.methods(id);
                let _ = types.package_path(id);
                if let TypeKind::Struct(fields) = &types.get(id).kind {
                    for field in fields {
                        types.get(field.ty);
                        types.func_types(field.ty);
                        crate::image::signature::shape(&types, field.ty);
                    }
                }
            }
        }
        types.signatures_for(&[section.text, section.text.offset(32)]);
    }
}
