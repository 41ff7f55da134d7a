//! A Go program's values, read from outside, against what it prints itself.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};

use super::*;
use crate::addr::{Bias, LiveAddr};
use crate::golang::dynamic::{LiveTypes, type_section};
use crate::golang::errors::ErrorReader;
use crate::image::Image;
use crate::image::dwarf::Dwarf;
use crate::image::dwarf::tests::{build, open};
use crate::image::rtti::RttiTypes;
use crate::image::types::{MapKind, TypeId, TypeTable as _};
use crate::memory::{Memory, MemoryError, Patchwork};

/// A running program's memory, without stopping it.
struct ProcMem(File);

impl Memory for ProcMem {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0
            .read_exact_at(into, at.0)
            .map_err(|_| MemoryError::Unmapped {
                at,
                len: into.len(),
            })
    }
}

/// Ends the program with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the tests know of the running program: its DWARF and its symbols.
struct DwarfRuntime<'a> {
    dwarf: &'a Dwarf,
    functions: Vec<(u64, String)>,
    types: u64,
}

impl<'a> DwarfRuntime<'a> {
    fn new(dwarf: &'a Dwarf, path: &Path) -> DwarfRuntime<'a> {
        let bytes = std::fs::read(path).expect("the program");
        let file = object::File::parse(&*bytes).expect("an ELF file");
        let functions: Vec<_> = file
            .symbols()
            .filter_map(|s| Some((s.address(), s.name().ok()?.to_owned())))
            .collect();
        let types = functions.iter().find(|s| s.1 == "runtime.types");
        DwarfRuntime {
            dwarf,
            types: types.expect("runtime.types").0,
            functions,
        }
    }

    fn find(&self, rtype: LiveAddr) -> Option<TypeId> {
        let offset = rtype.0.checked_sub(self.types)?;
        self.dwarf.type_of_descriptor(offset)
    }
}

impl RuntimeTypes for DwarfRuntime<'_> {
    fn dynamic(&self, rtype: LiveAddr) -> Option<Dynamic<'_>> {
        let ty = self.find(rtype)?;
        Some(Dynamic {
            name: Arc::clone(&self.dwarf.get(ty).name),
            ty,
            types: self.dwarf,
        })
    }

    fn function(&self, pc: LiveAddr) -> Option<Arc<str>> {
        let found = self.functions.iter().find(|f| f.0 == pc.0)?;
        Some(found.1.as_str().into())
    }

    fn error_text(&self, words: ErrorWords, memory: &dyn Memory) -> Option<ErrorText> {
        let ty = self.find(words.rtype)?;
        if &*self.dwarf.get(ty).name != "*errors.errorString" {
            return None;
        }
        let at = memory.read_addr(LiveAddr(words.data)).ok()?;
        let len = memory
            .read_u64(LiveAddr(words.data).offset(8))
            .ok()?
            .min(256);
        let text = memory.read_vec(at, usize::try_from(len).ok()?).ok()?;
        Some(ErrorText {
            text: String::from_utf8_lossy(&text).into(),
            structural: false,
        })
    }
}

fn load_variable(dwarf: &Dwarf, name: &str, memory: &dyn Memory, rt: &dyn RuntimeTypes) -> Value {
    let variable = dwarf
        .variable(&format!("main.{name}"))
        .unwrap_or_else(|| panic!("main.{name} is in the DWARF"));
    load(
        variable.ty,
        dwarf,
        Place::At(LiveAddr(variable.at.0)),
        memory,
        &Limits::default(),
        rt,
    )
}

#[test]
fn values_of_a_running_program_are_what_it_prints() {
    let (_dir, path) = build("values", &[]);
    let dwarf = open(&path);
    let rt = DwarfRuntime::new(&dwarf, &path);
    let mut child = Running(
        Command::new(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs"),
    );
    let stdout = child.0.stdout.take().expect("piped");
    let lines: Vec<String> = BufReader::new(stdout)
        .lines()
        .map(|line| line.expect("UTF-8"))
        .take_while(|line| line != "end\t")
        .collect();
    assert!(lines.len() > 50, "only {} lines", lines.len());
    let memory = ProcMem(File::open(format!("/proc/{}/mem", child.0.id())).expect("its memory"));
    let show = |name: &str| load_variable(&dwarf, name, &memory, &rt).to_string();
    let mut wrong = Vec::new();
    for line in &lines {
        let (name, expected) = line.split_once('\t').expect("a tab");
        let shown = show(name);
        if shown != expected {
            wrong.push(format!("{name}:\n  Go     {expected}\n  shown  {shown}"));
        }
    }
    for (name, expected) in [
        ("NilSlice", "nil"),
        ("NilMap", "nil"),
        ("NilFunc", "nil"),
        ("NilAny", "nil"),
        ("NilError", "nil"),
        ("NilPtr", "nil"),
        ("NilChan", "nil"),
        ("IntPtr", "&9"),
        ("AnyKind", "main.Kind(4)"),
        ("MapBool", "map[bool][]string{true:[]string{...+1 more}}"),
        ("MapByte", "map[uint8]uint16{1:2, 3:4}"),
        ("MapGrown", r#"map[string]int{"50":50}"#),
        ("Bytes", r#"[]uint8 len 16 "GET / HTTP/1.1\r\n""#),
        ("Error", r"broken\x1b[2J"),
        ("Func", "main.named"),
        (
            "Nested",
            r#"main.Deep{T:main.T{A:1, B:"a"}, P:nil, L:nil, M:nil, I:nil, E:nil, F:nil, C:nil, x:[2]bool{true, false}}"#,
        ),
        (
            "TooMany",
            "main.Big{A:1, B:0, C:0, D:0, E:0, F:0, G:0, H:0, I:0, J:0, K:0, L:0, M:0, N:0, O:0, P:16, ...+2 more}",
        ),
        ("Long", "[]int{0, 0, 0, 0, 0, 0, 0, 0, ...+92 more}"),
    ] {
        let shown = show(name);
        if shown != expected {
            wrong.push(format!("{name}:\n  want   {expected}\n  shown  {shown}"));
        }
    }
    // The same without DWARF: types from the runtime's descriptors, errors
    // through the golang room.
    let image = Image::open(&path).expect("an image");
    let rtti = RttiTypes::new(image.memory(), type_section(&image));
    let live = LiveTypes {
        table: &rtti,
        bias: Bias(0),
    };
    let minor = image.go_version().minor();
    let layouts = Arc::new(crate::golang::layout::Layouts::resolve(minor, None));
    let errors = RefCell::new(ErrorReader::new(layouts, minor));
    let experiments = image.go_version().text();
    let program = Program {
        types: &live,
        errors: Some(&errors),
        function: &|pc| rt.function(pc),
        maps: MapKind::of(minor.expect("a version"), experiments),
    };
    let mut stripped = 0;
    for (name, expected) in lines.iter().filter_map(|line| line.split_once('\t')) {
        let variable = dwarf.variable(&format!("main.{name}")).expect("in DWARF");
        let Some(ty) = rtti.find_type(&dwarf.get(variable.ty).name) else {
            continue;
        };
        stripped += 1;
        let place = Place::At(LiveAddr(variable.at.0));
        let shown = load(ty, &live, place, &memory, &Limits::default(), &program).to_string();
        if shown != expected {
            wrong.push(format!(
                "{name} by RTTI:\n  Go     {expected}\n  shown  {shown}"
            ));
        }
    }
    let shown = load_variable(&dwarf, "Error", &memory, &program).to_string();
    assert_eq!(shown, r"broken\x1b[2J");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(stripped > 40, "only {stripped} types in RTTI");
    let big = show("MapBig");
    assert!(big.ends_with(", ...+992 more}"), "{big}");
    let wide = show("MapWide");
    assert!(
        wide.starts_with("map[int]main.wide{9:main.wide{Pad:[3000]int64{0, 0"),
        "{wide}"
    );
    let long = show("LongText");
    assert!(long.ends_with(r#"\x00"...+936 more"#), "{long}");
}

/// Counts the batches.
struct Counting<'a>(&'a dyn Memory, std::cell::Cell<u32>);

impl Memory for Counting<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.1.set(self.1.get() + 1);
        self.0.read(at, into)
    }

    fn read_many(&self, pieces: &mut [crate::memory::Piece<'_>]) -> Result<(), MemoryError> {
        self.1.set(self.1.get() + 1);
        self.0.read_many(pieces)
    }
}

fn file_memory(path: &Path) -> Patchwork {
    let bytes = std::fs::read(path).expect("the program");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    Patchwork {
        pieces: file
            .segments()
            .filter_map(|s| Some((LiveAddr(s.address()), s.data().ok()?.to_vec())))
            .collect(),
    }
}

#[test]
fn initialised_data_is_read_from_the_file_in_one_batch_a_level() {
    let (_dir, path) = build("values", &[]);
    let dwarf = open(&path);
    let rt = DwarfRuntime::new(&dwarf, &path);
    let file = file_memory(&path);
    for (name, shown, batches) in [
        ("Int8", "-8", 1),
        ("Strings", r#"[]string{"a", "", "c d"}"#, 3),
        (
            "Structs",
            r#"[]main.T{main.T{A:1, B:"a"}, main.T{A:2, B:"b"}}"#,
            3,
        ),
        ("Pointer", r#"&main.T{A:5, B:"five"}"#, 3),
        ("AnyStruct", r#"main.T{A:6, B:"six"}"#, 3),
        ("Stringer", "1s", 3),
    ] {
        let memory = Counting(&file, std::cell::Cell::new(0));
        assert_eq!(load_variable(&dwarf, name, &memory, &rt).to_string(), shown);
        assert_eq!(memory.1.get(), batches, "{name}");
    }
}
