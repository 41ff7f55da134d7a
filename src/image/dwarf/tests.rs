//! Go programs built here say what their DWARF must tell.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object as _, ObjectSection as _};

use super::*;
use crate::image::types::{TypeKind, TypeTable as _};

/// An ELF file's sections through the object crate.
pub(crate) struct ElfSections(pub(crate) Vec<u8>);

impl Sections for ElfSections {
    fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let file = object::File::parse(&*self.0).ok()?;
        file.section_by_name(name)?.uncompressed_data().ok()
    }
}

/// Builds a program of testdata/ with the machine's Go (or the toolchain that
/// GOTAP_TEST_TOOLCHAIN names, for checks by hand).
pub(crate) fn build(program: &str, flags: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join(program);
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(program);
    let toolchain = std::env::var("GOTAP_TEST_TOOLCHAIN").unwrap_or_else(|_| "local".into());
    let output = Command::new("go")
        .arg("build")
        .args(flags)
        .arg("-o")
        .arg(&out)
        .arg(".")
        .current_dir(source)
        .env("GOTOOLCHAIN", toolchain)
        .output()
        .expect("go runs: install it from https://go.dev/dl or `apt install golang`");
    assert!(
        output.status.success(),
        "go build: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    (dir, out)
}

pub(crate) fn open(path: &Path) -> Dwarf {
    let bytes = std::fs::read(path).expect("the program");
    Dwarf::open(ElfSections(bytes))
        .expect("its DWARF")
        .expect("it has DWARF")
}

/// `reflect.Kind`'s name of a type, its name and size: as the fixture prints.
fn describe(dwarf: &Dwarf, id: TypeId) -> String {
    let ty = dwarf.get(id);
    let signed = matches!(ty.kind, TypeKind::Int { signed: true });
    let kind = match &ty.kind {
        TypeKind::Bool => "bool",
        TypeKind::Int { .. } => "int",
        TypeKind::Float => "float",
        TypeKind::Complex => "complex",
        TypeKind::String => "string",
        TypeKind::UnsafePointer => "unsafe.Pointer",
        TypeKind::Pointer(_) => "ptr",
        TypeKind::Slice(_) => "slice",
        TypeKind::Array { .. } => "array",
        TypeKind::Struct(_) => "struct",
        TypeKind::Interface { .. } => "interface",
        TypeKind::Map { .. } => "map",
        TypeKind::Chan(_) => "chan",
        TypeKind::Func => "func",
        TypeKind::Opaque => "?",
    };
    let unsigned = if kind == "int" && !signed { "u" } else { "" };
    format!("{}/{unsigned}{kind}/{}", ty.name, ty.size)
}

/// `int64` and `int` are one kind here: the size tells.
fn normal(described: &str) -> String {
    let Some((name, rest)) = described.split_once('/') else {
        return described.to_owned();
    };
    let rest = rest.trim_start_matches("ptr/");
    let digits: String = match rest.split_once('/') {
        Some((kind, size)) => {
            let kind = kind.trim_end_matches(|c: char| c.is_ascii_digit());
            format!("{kind}/{size}")
        }
        None => rest.to_owned(),
    };
    format!("{name}/{digits}")
}

fn compare_signatures(flags: &[&str]) {
    let (_dir, path) = build("signatures", flags);
    let dwarf = open(&path);
    let output = Command::new(&path).output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut seen = 0;
    for line in text.lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        let [entry, name, ins, outs] = parts[..] else {
            panic!("line {line:?}");
        };
        let entry = u64::from_str_radix(entry.trim_start_matches("0x"), 16).expect("hex");
        let signature = dwarf
            .signature(name, ImageAddr(entry))
            .unwrap_or_else(|| panic!("{name} has no signature"));
        // Only seen when an older toolchain is chosen by hand.
        let given = ins.split(';').filter(|s| !s.is_empty()).count();
        if dwarf.omits_blank_params() && signature.params.len() < given {
            continue;
        }
        let list = |params: &[crate::image::types::Param]| {
            params
                .iter()
                .map(|p| normal(&describe(&dwarf, p.ty)))
                .collect::<Vec<_>>()
        };
        let split = |text: &str| {
            text.split(';')
                .filter(|s| !s.is_empty())
                .map(normal)
                .collect::<Vec<_>>()
        };
        assert_eq!(list(&signature.params), split(ins), "parameters of {name}");
        let results = signature.results.expect("DWARF knows results");
        assert_eq!(list(&results), split(outs), "results of {name}");
        seen += 1;
    }
    assert!(seen >= 50, "only {seen} functions compared");
}

#[test]
fn signatures_are_what_reflect_says() {
    compare_signatures(&[]);
}

#[test]
fn signatures_of_an_unoptimised_build_are_what_reflect_says() {
    compare_signatures(&["-gcflags=all=-N -l", "-ldflags=-compressdwarf=false"]);
}

#[test]
fn a_stripped_file_has_none() {
    let (_dir, path) = build("signatures", &["-ldflags=-s -w"]);
    let bytes = std::fs::read(path).expect("the program");
    assert!(Dwarf::open(ElfSections(bytes)).expect("no error").is_none());
}

#[test]
fn types_and_variables_are_found_by_name() {
    let (_dir, path) = build("signatures", &[]);
    let dwarf = open(&path);
    let fields = dwarf.struct_fields("runtime.g").expect("runtime.g");
    let at = |name: &str| fields.iter().find(|f| &*f.0 == name).map(|f| f.1);
    // The same in every version of Go.
    assert_eq!(at("stack"), Some(0));
    assert_eq!(at("stackguard0"), Some(16));
    assert_eq!(at("m"), Some(48));
    let fields = dwarf.struct_fields("internal/poll.FD").expect("poll.FD");
    assert_eq!(
        fields.iter().find(|f| &*f.0 == "Sysfd").map(|f| f.1),
        Some(16)
    );
    assert!(dwarf.struct_fields("runtime.nosuch").is_none());
    let variable = dwarf.variable("runtime.allglen").expect("allglen");
    assert!(matches!(
        dwarf.get(variable.ty).kind,
        TypeKind::Int { signed: false }
    ));
    assert_ne!(dwarf.map_kind(), crate::image::types::MapKind::Unknown);
    assert_eq!(&*dwarf.get(TypeId(3)).name, "?");
}
