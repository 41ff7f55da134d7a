//! Go's own tools and binutils, over every way to build.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};

use super::fixture::{ALL, Build, open, path, tool};
use gimli::{EndianArcSlice, LittleEndian};

use crate::addr::{ImageAddr, LiveAddr};
use crate::image::{ArgShape, Image};
use crate::memory::Memory;

/// Address → names of `go tool nm`; empty for a stripped program.
fn nm(build: Build) -> HashMap<u64, Vec<String>> {
    let mut symbols = HashMap::<u64, Vec<String>>::new();
    for line in tool("go", &["tool", "nm"], &path(build)).lines() {
        let mut words = line.trim().splitn(3, ' ');
        let (Some(at), Some(_), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if let Ok(at) = u64::from_str_radix(at, 16) {
            symbols.entry(at).or_default().push(name.to_owned());
        }
    }
    symbols
}

#[test]
fn every_function_is_the_symbol_at_its_address() {
    for build in ALL {
        if open(build).is_stripped() {
            continue;
        }
        let (image, symbols) = (open(build), nm(build));
        let mut seen = 0;
        for function in image.functions().iter() {
            let Some(names) = symbols.get(&function.entry().0) else {
                continue;
            };
            // nm tells the ABI in the name, and prints the dot of local types
            // as a full stop.
            let raw = String::from_utf8_lossy(function.name_bytes()).replace('·', ".");
            // Until Go 1.20 the table abbreviates type arguments to `[...]`.
            let (head, tail) = raw.split_once("[...]").unwrap_or((&raw, ""));
            let same = |name: &String| {
                let name = name.strip_suffix(".abi0").unwrap_or(name);
                name == raw
                    || name == function.name()
                    || raw.contains("[...]") && name.starts_with(head) && name.ends_with(tail)
            };
            // The linker's own marks lie where functions begin.
            assert!(
                names.iter().any(same) || names.iter().all(|n| n.starts_with("runtime.text")),
                "{build:?} {function:?} {names:?}"
            );
            seen += 1;
        }
        let all = image.functions().len();
        assert!(seen * 100 >= all * 99, "{build:?}: {seen} of {all}");
    }
}

#[test]
fn stripping_changes_no_function() {
    let list = |build| {
        let image = open(build);
        let functions = image.functions();
        functions
            .iter()
            .map(|f| {
                (
                    f.entry(),
                    f.end(),
                    f.name().into_owned(),
                    f.func_id(),
                    f.start_line(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(list(Build::Default), list(Build::Stripped));
    assert!(open(Build::Stripped).is_stripped() && !open(Build::Stripped).has_dwarf());
    assert!(!open(Build::Default).is_stripped() && open(Build::Default).has_dwarf());
}

#[test]
fn module_data_is_where_the_linker_put_it() {
    for build in ALL {
        let image = open(build);
        if image.is_stripped() {
            continue;
        }
        let symbols = nm(build);
        let at = |wanted: &str| {
            let found = symbols
                .iter()
                .find(|(_, names)| names.iter().any(|n| n == wanted));
            found.map(|(at, _)| ImageAddr(*at))
        };
        let module = image.module();
        assert_eq!(at("runtime.firstmoduledata"), Some(module.at), "{build:?}");
        for (symbol, value) in [
            ("runtime.text", module.text.start),
            ("runtime.etext", module.text.end),
            ("runtime.types", module.types.start),
            ("runtime.etypes", module.types.end),
            ("runtime.rodata", module.rodata),
            ("go:func.*", module.gofunc),
            ("runtime.pclntab", module.pclntab),
            ("runtime.noptrdata", module.noptrdata.start),
            ("runtime.ebss", module.bss.end),
        ] {
            // Some builds leave out some of these symbols.
            if let Some(symbol_at) = at(symbol) {
                assert_eq!(symbol_at, value, "{build:?} {symbol}");
            }
        }
    }
}

#[test]
fn build_info_is_what_go_version_prints() {
    for build in ALL {
        let image = open(build);
        let info = image.build_info();
        let text = tool("go", &["version", "-m"], &path(build));
        let mut lines = text.lines();
        let first = lines.next().unwrap();
        assert!(
            first.ends_with(&format!(": {}", image.go_version())),
            "{first}"
        );
        let mut settings = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.trim_start_matches('\t').splitn(2, '\t').collect();
            match words.as_slice() {
                ["path", path] => assert_eq!(info.path, *path),
                ["mod", module] => {
                    let main = info.main.as_ref().unwrap();
                    assert_eq!(main.path, module.split('\t').next().unwrap());
                }
                ["build", setting] => settings.push((*setting).to_owned()),
                _ => {}
            }
        }
        let own: Vec<String> = info
            .settings
            .iter()
            .map(|(key, value)| {
                if value.contains(' ') {
                    format!("{key}={value:?}")
                } else {
                    format!("{key}={value}")
                }
            })
            .collect();
        assert_eq!(own, settings, "{build:?}");
        assert_eq!(image.is_cgo(), info.setting("CGO_ENABLED") == Some("1"));
        let id = tool("go", &["tool", "buildid"], &path(build));
        assert_eq!(image.go_build_id(), Some(id.trim()), "{build:?}");
    }
}

#[test]
fn segments_sections_and_notes_are_what_readelf_prints() {
    for build in ALL {
        let image = open(build);
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
        let text = tool("readelf", &["-lW"], &path(build));
        let loads: Vec<[u64; 4]> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("LOAD"))
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                [hex(words[0]), hex(words[1]), hex(words[3]), hex(words[4])]
            })
            .collect();
        let own: Vec<[u64; 4]> = image
            .segments()
            .iter()
            .map(|s| [s.offset, s.vaddr.0, s.filesz, s.memsz])
            .collect();
        assert_eq!(own, loads, "{build:?}");
        assert_eq!(image.is_pie(), text.contains("type is DYN"));
        let text = tool("readelf", &["-SW"], &path(build));
        for section in image.sections().iter().filter(|s| !s.name.is_empty()) {
            let line = text.lines().find(|l| {
                l.split(']')
                    .nth(1)
                    .is_some_and(|l| l.split_whitespace().next() == Some(&section.name))
            });
            let words: Vec<&str> = line
                .unwrap()
                .rsplit(']')
                .next()
                .unwrap()
                .split_whitespace()
                .collect();
            assert_eq!(hex(words[2]), section.addr.0, "{build:?} {}", section.name);
            assert_eq!(hex(words[4]), section.size, "{build:?} {}", section.name);
        }
        let text = tool("readelf", &["-n"], &path(build));
        let id = text
            .lines()
            .find_map(|l| l.trim().strip_prefix("Build ID: "));
        let id = id.map(|id| {
            let pairs = (0..id.len()).step_by(2).map(|i| &id[i..i + 2]);
            pairs
                .map(|p| u8::from_str_radix(p, 16).unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(image.gnu_build_id(), id.as_deref(), "{build:?}");
    }
}

#[test]
fn compressed_debug_sections_are_opened() {
    let image = open(Build::Default);
    // Go 1.18 still writes the older form.
    let names = [".debug_info", ".zdebug_info"];
    let header = names.iter().find_map(|n| image.section_header(n)).unwrap();
    assert!(header.compressed != header.name.starts_with(".z"));
    let info = image.section(".debug_info").unwrap();
    assert!(info.len() as u64 > header.size);
    assert!(image.section(".no_such_section").is_none());
    assert!(image.section(".bss").is_none());
}

/// Feeds addresses to a tool that answers in lines.
fn ask(command: &mut Command, pcs: &[u64]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}; install it: apt-get install binutils"));
    let mut stdin = child.stdin.take().unwrap();
    let pcs = pcs.to_vec();
    let writer =
        std::thread::spawn(move || pcs.iter().try_for_each(|pc| writeln!(stdin, "{pc:#x}")));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Some addresses in every `step`-th function: where instructions begin is not
/// known here, and both sides answer for any byte of code.
fn sample(image: &Image, step: usize) -> Vec<u64> {
    let functions = image.functions();
    let some = functions.iter().step_by(step);
    some.flat_map(|f| {
        let last = f.sp_values().and_then(Iterator::last).map_or(0, |r| r.end);
        (0..u64::from(last))
            .step_by(23)
            .take(12)
            .map(move |i| f.entry().0 + i)
    })
    .collect()
}

#[test]
fn lines_are_what_go_tool_addr2line_prints() {
    for build in [
        Build::Default,
        Build::Pie,
        Build::External,
        Build::NoOptimisation,
    ] {
        let image = open(build);
        let pcs = sample(&image, 3);
        let text = ask(
            super::fixture::go()
                .args(["tool", "addr2line"])
                .arg(path(build)),
            &pcs,
        );
        let answers: Vec<&str> = text.lines().collect();
        assert_eq!(answers.len(), 2 * pcs.len());
        // Before Go 1.20 the tool does not find its way in all of these.
        let old = image.go_version().minor() < Some(20);
        for (pc, answer) in pcs.iter().zip(answers.chunks(2)) {
            if old && answer[0] == "?" {
                continue;
            }
            let frames = image.frames_at(ImageAddr(*pc));
            let (inner, outer) = (frames.first().unwrap(), frames.last().unwrap());
            let place = format!("{}:{}", inner.file, inner.line);
            let name = answer[0].strip_suffix(".abi0").unwrap_or(answer[0]);
            assert!(!outer.inlined);
            assert_eq!(
                outer.function,
                name.replace("%2e", "."),
                "{build:?} {pc:#x}"
            );
            assert_eq!(place, answer[1], "{build:?} {pc:#x}");
        }
    }
}

#[test]
fn inlined_frames_are_what_dwarf_says() {
    let image = open(Build::Default);
    let dwarf = gimli::Dwarf::load(|id| {
        let bytes = image.section(id.name()).unwrap_or_default().into_owned();
        Ok::<_, gimli::Error>(EndianArcSlice::new(bytes.into(), LittleEndian))
    });
    let context = addr2line::Context::from_dwarf(dwarf.unwrap()).unwrap();
    let mut deep = 0;
    for name in [
        "main.callsInlined",
        "main.manyArgs",
        "main.main",
        "fmt.Fprintln",
        "os.(*File).Write",
    ] {
        let function = image.functions().by_name(name).remove(0);
        let last = function.sp_values().unwrap().last().unwrap().end;
        for pc in (0..u64::from(last)).map(|i| function.entry().offset(i)) {
            let mut theirs = Vec::new();
            let mut frames = context.find_frames(pc.0).skip_all_loads().unwrap();
            while let Some(frame) = frames.next().unwrap() {
                let name = frame.function.unwrap();
                theirs.push(name.raw_name().unwrap().into_owned());
            }
            let ours = image.frames_at(pc);
            deep = deep.max(ours.len());
            let ours: Vec<&str> = ours.iter().map(|f| f.function.as_str()).collect();
            assert_eq!(ours, theirs, "{name} {pc}");
        }
    }
    assert!(deep >= 3, "deepest in onlyInlined in callsInlined");
}

#[test]
fn a_pc_belongs_to_the_function_around_it() {
    let image = open(Build::Default);
    let functions = image.functions();
    for function in functions.iter() {
        for at in [function.entry(), ImageAddr(function.end().0 - 1)] {
            if function.size() > 0 {
                assert_eq!(functions.find(at), Some(function));
            }
        }
    }
    let module = image.module();
    assert_eq!(functions.find(ImageAddr(module.text.start.0 - 1)), None);
    assert_eq!(functions.find(module.text.end.offset(4096)), None);
    assert_eq!(functions.find(ImageAddr(u64::MAX)), None);
}

#[test]
fn the_stack_pointer_is_followed_through_a_function() {
    let image = open(Build::Default);
    let function = image.functions().by_name("main.manyArgs").remove(0);
    let values: HashSet<i32> = function.sp_values().unwrap().map(|r| r.value).collect();
    assert_eq!(image.sp_delta(function.entry()), Some(0));
    assert!(values.iter().all(|v| v % 8 == 0 && *v >= 0));
    assert!(values.len() >= 2, "entry, frame: {values:?}");
}

#[test]
fn arguments_have_the_shapes_of_their_declaration() {
    let image = open(Build::Default);
    let info = image
        .functions()
        .by_name("main.manyArgs")
        .remove(0)
        .arg_info()
        .unwrap();
    let word = |offset| ArgShape::Scalar { offset, size: 8 };
    let words = |offsets: &[u8]| ArgShape::Aggregate(offsets.iter().map(|&o| word(o)).collect());
    // a int, s string, b []byte, i any, e error, f float64: ten words, in
    // registers until e does not fit; the traceback stops after ten.
    let flat: Vec<&ArgShape> = info.args.iter().collect();
    assert_eq!(flat.len(), 6, "{info:?}");
    assert!(matches!(flat[1], ArgShape::Aggregate(parts) if parts.len() == 2));
    assert!(matches!(flat[2], ArgShape::Aggregate(parts) if parts.len() == 3));
    assert_eq!(*flat[4], words(&[0, 8]), "e came on the stack");
    assert_eq!(info.spill_start, Some(16), "{info:?}");
    let add = image.functions().by_name("main.(*inner).Add").remove(0);
    assert_eq!(add.arg_info().unwrap().args, [word(0), word(8)]);
    let memmove = image.functions().by_name("runtime.memmove").remove(0);
    assert!(memmove.is_asm() && memmove.arg_info().is_none());
}

#[test]
fn names_are_found_in_place() {
    let image = open(Build::Stripped);
    let functions = image.functions();
    for name in [
        "main.main",
        "example.com/image/dot.v2.Twice",
        "example.com/image/dot%2ev2.Twice",
    ] {
        assert_eq!(functions.by_name(name).len(), 1, "{name}");
    }
    assert!(functions.by_name("main.onlyInlined").is_empty());
    let twice = functions
        .by_name("example.com/image/dot.v2.Twice")
        .remove(0);
    assert!(twice.file().unwrap().ends_with("dot.v2/dot.go"));
    assert_eq!(twice.start_line(), Some(6));
    let promoted = functions.by_name("main.(*outer).Add").remove(0);
    assert!(
        promoted.is_autogenerated(),
        "it jumps, so it is not marked as a wrapper"
    );
    assert!(
        !functions
            .by_name("main.(*inner).Add")
            .remove(0)
            .is_autogenerated()
    );
    // Both ABIs share a name; the assembly body comes first.
    let both = functions.by_name("runtime.systemstack_switch");
    assert!(both.first().unwrap().is_asm());
}

#[test]
fn relocations_are_applied_where_the_linker_left_them_out() {
    // What lld does: addends in the table only.
    let original = path(Build::ExternalPie);
    let expected = open(Build::ExternalPie);
    let mut bytes = std::fs::read(&original).unwrap();
    let rela = expected.section_header(".rela.dyn").unwrap().clone();
    let mut words = Vec::new();
    for n in 0..usize::try_from(rela.size).unwrap() / 24 {
        let at = usize::try_from(rela.offset).unwrap() + n * 24;
        let word =
            |skip: usize| u64::from_le_bytes(bytes[at + skip..at + skip + 8].try_into().unwrap());
        if word(8) == 8 {
            words.push((ImageAddr(word(0)), word(16)));
        }
    }
    assert!(words.len() > 1000);
    for (at, _) in &words {
        let segment = expected
            .segments()
            .iter()
            .find(|s| s.contains(*at))
            .unwrap();
        let place = usize::try_from(at.0 - segment.vaddr.0 + segment.offset).unwrap();
        bytes[place..place + 8].fill(0);
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("lld");
    std::fs::write(&copy, bytes).unwrap();
    let image = Image::open(&copy).unwrap();
    assert_eq!(image.module(), expected.module());
    let memory = image.memory();
    for (at, addend) in words {
        assert_eq!(memory.read_u64(LiveAddr(at.0)), Ok(addend), "{at}");
        // A read that cuts the word in two.
        let mut half = [0; 4];
        memory.read(LiveAddr(at.0 + 4), &mut half).unwrap();
        assert_eq!(half, addend.to_le_bytes()[4..]);
    }
}

#[test]
fn zeroed_memory_reads_as_zero_and_the_rest_not_at_all() {
    let image = open(Build::Default);
    let bss = image.module().noptrbss;
    let memory = image.memory();
    assert_eq!(memory.read_u64(LiveAddr(bss.start.0)), Ok(0));
    assert!(memory.read_u64(LiveAddr(8)).is_err());
    assert!(memory.read_u64(LiveAddr(u64::MAX - 3)).is_err());
    assert_eq!(image.bytes(bss.start, 8), None);
}
