//! Go programs built here say what their DWARF must tell.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object as _, ObjectSection as _};

use super::*;
use crate::image::types::{Param, TypeKind, TypeTable as _};

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

fn names(params: &[crate::image::types::Param], dwarf: &Dwarf) -> String {
    let list: Vec<String> = params
        .iter()
        .map(|p| {
            let name = p.name.as_deref().unwrap_or("-");
            format!("{name} {}", dwarf.get(p.ty).name)
        })
        .collect();
    list.join(", ")
}

#[test]
fn the_debug_information_goes_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Dwarf>();
}

/// Through the image room: a position independent file, functions by name.
#[test]
fn an_image_gives_its_sections_and_instances_have_a_dictionary() {
    let (_dir, path) = build("signatures", &["-buildmode=pie"]);
    let image = Arc::new(crate::image::Image::open(&path).expect("an image"));
    let dwarf = Dwarf::open(Arc::clone(&image))
        .expect("its DWARF")
        .expect("it has DWARF");
    for (name, params, results) in [
        (
            "main.(*list[go.shape.string,go.shape.int]).put",
            "l *main.list[string,int], .dict DICT, k string, v int",
            "old int, ok bool",
        ),
        (
            "main.filter[go.shape.int]",
            ".dict DICT, xs []int, f func(int) bool",
            "r []int",
        ),
        (
            "main.escapes",
            "a int, b string, c main.pair",
            "- *int, - *main.pair",
        ),
        (
            "main.(*pair).pointer",
            "p *main.pair, x map[string]int, y []main.pair",
            "z chan int, w <-chan bool",
        ),
        ("main.inlined", "a int, b string, - bool", "- int, - error"),
        (
            "net.(*conn).Read",
            "c *net.conn, b []uint8",
            "- int, - error",
        ),
    ] {
        let found = image.functions().by_name(name);
        // Only with an older toolchain, chosen by hand: shapes were spelled
        // otherwise in 1.18, and blank parameters are missing up to 1.21.
        if dwarf.omits_blank_params() && (found.is_empty() || params.contains("- ")) {
            continue;
        }
        let function = found.first().unwrap_or_else(|| panic!("{name}"));
        let signature = dwarf
            .signature_of(function)
            .unwrap_or_else(|| panic!("{name} has no signature"));
        // From Go 1.27 on DWARF names the dictionary, with its own type.
        let shown = names(&signature.params, &dwarf);
        let dict = [".dict uintptr", ".dict *[4]uintptr", ".dict *[5]uintptr"]
            .iter()
            .fold(shown, |text, dict| text.replace(dict, ".dict DICT"));
        assert_eq!(dict, params, "{name}");
        let shown = names(&signature.results.clone().expect("results"), &dwarf);
        assert_eq!(shown, results, "{name}");
        let info = function.arg_info().expect("arguments");
        assert!(fits(&signature, &info), "{name} {info:?}");
    }
}

#[test]
fn a_signature_that_lacks_a_parameter_does_not_fit() {
    let (_dir, path) = build("signatures", &[]);
    let image = Arc::new(crate::image::Image::open(&path).expect("an image"));
    let dwarf = Dwarf::open(Arc::clone(&image)).expect("DWARF").expect("it");
    let mut seen = 0;
    for function in image.functions().iter() {
        let name = function.name();
        let (Some(info), Some(mut signature)) =
            (function.arg_info(), dwarf.signature_of(&function))
        else {
            continue;
        };
        if name.starts_with("type:") || name.contains(']') {
            continue;
        }
        assert!(fits(&signature, &info), "{name} {signature:?} {info:?}");
        signature.params.push(Param {
            name: None,
            ty: TypeId(0),
        });
        let exact = info.args.last() != Some(&crate::image::ArgShape::More);
        assert!(!(exact && fits(&signature, &info)), "{name}");
        seen += 1;
    }
    assert!(seen > 500, "only {seen} functions");
}

/// A small generator: the same bytes are broken every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // Numerical Recipes' LCG; the high bits are good enough here.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// The sections of a real program, some bytes of them changed.
struct Broken(HashMap<&'static str, Vec<u8>>);

impl Sections for Broken {
    fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0.get(name).map(|v| Cow::Borrowed(v.as_slice()))
    }
}

#[test]
fn broken_sections_end_in_an_error_or_an_answer() {
    let (_dir, path) = build("signatures", &[]);
    let whole = ElfSections(std::fs::read(&path).expect("the program"));
    let mut sections = HashMap::new();
    for name in [
        ".debug_info",
        ".debug_abbrev",
        ".debug_addr",
        ".debug_ranges",
        ".debug_rnglists",
    ] {
        if let Some(bytes) = whole.section(name) {
            sections.insert(name, bytes.into_owned());
        }
    }
    let image = crate::image::Image::open(&path).expect("an image");
    let main = image.functions().by_name("main.onStack");
    let entry = main.first().expect("main.onStack").entry();
    let mut random = Random(7);
    let mut answers = 0;
    for round in 0..120 {
        let mut broken = sections.clone();
        let (name, changes) = match round % 3 {
            0 => (".debug_info", 3000),
            1 => (".debug_abbrev", 3),
            _ => (".debug_info", 30),
        };
        let bytes = broken.get_mut(name).expect("the section");
        for _ in 0..changes {
            let at = random.below(bytes.len());
            bytes[at] = u8::try_from(random.below(256)).expect("a byte");
        }
        if round % 10 == 0 {
            let len = random.below(bytes.len());
            bytes.truncate(len);
        }
        let len = bytes.len();
        let Ok(Some(dwarf)) = Dwarf::open(Broken(broken)) else {
            continue;
        };
        answers += u32::from(dwarf.signature("main.onStack", entry).is_some());
        dwarf.signature("nosuch.function", ImageAddr(entry.0 + 1));
        dwarf.struct_fields("runtime.g");
        dwarf.variable("runtime.allglen");
        dwarf.type_of_descriptor(64);
        dwarf.map_kind();
        for _ in 0..50 {
            let at = u32::try_from(random.below(len)).expect("small");
            let ty = dwarf.get(TypeId(at));
            assert!(ty.name.len() <= len);
        }
    }
    assert!(answers > 0, "no signature survived");
}
