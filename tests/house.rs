//! The order of the house, read from the source: no room reaches up, `unsafe`
//! stays in its room, no file grows too long, every room says who lives there.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The rooms, lowest first: a room uses those before it. The list is that of
/// `src/lib.rs`; records hold values and answer the questions of scripts, and
/// probes say with their words how a call ended: they stand in between.
const ROOMS: &[&str] = &[
    "sys", "arch", "addr", "memory", "image", "process", "golang", "value", "script", "record",
    "probe", "tape", "survey", "sink", "session", "repl", "cli",
];

/// Lines a file may have.
const LONGEST: usize = 600;

#[test]
fn every_room_is_in_the_list() {
    let lib = read(&src().join("lib.rs"));
    let declared = Regex::new(r"(?m)^pub mod (\w+);").expect("a pattern");
    for found in declared.captures_iter(&lib) {
        assert!(
            ROOMS.contains(&&found[1]),
            "src/lib.rs declares `{}`, which has no place in the order",
            &found[1]
        );
    }
    for room in ROOMS {
        assert!(
            lib.contains(&format!("pub mod {room};")),
            "src/lib.rs does not declare `{room}`"
        );
        assert!(
            lib.contains(&format!("[`{room}`]")),
            "the header of src/lib.rs does not say what `{room}` is"
        );
    }
}

#[test]
fn no_room_reaches_up() {
    let mut wrong = Vec::new();
    for file in sources() {
        let Some(room) = room_of(&file) else { continue };
        if is_test(&file) {
            continue; // may ask a room above it whether both say the same
        }
        let own = place(&room);
        let code = without_comments(&read(&file));
        for used in rooms_used(&code) {
            if place(&used) > own {
                wrong.push(format!("{}: {room} uses {used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "rooms reach up:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_sys() {
    let word = Regex::new(r"\bunsafe\b").expect("a pattern");
    let mut wrong = Vec::new();
    for file in sources() {
        if room_of(&file).as_deref() == Some("sys") {
            continue;
        }
        if word.is_match(&without_strings(&without_comments(&read(&file)))) {
            wrong.push(file.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "unsafe outside src/sys: {wrong:?}");
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|file| (read(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(
        long.is_empty(),
        "over {LONGEST} lines, split them:\n{}",
        long.join("\n")
    );
}

#[test]
fn every_room_says_who_lives_there() {
    for file in sources() {
        if is_test(&file) {
            continue;
        }
        let header = read(&file);
        let lines = header.lines().take_while(|l| l.starts_with("//!")).count();
        let least = if file.file_name().is_some_and(|n| n == "mod.rs") {
            2
        } else {
            1
        };
        assert!(
            lines >= least,
            "{} does not begin with a header (`//!`) of {least} lines or more",
            file.display()
        );
    }
}

#[test]
fn the_reader_of_uses_reads_them_all() {
    let code = "use crate::{addr::ImageAddr, image::{Image, types::X},\n memory};\n\
                use crate::golang::G; fn f() { crate::sink::x() }\npub(in crate::session) fn g() {}";
    assert_eq!(
        rooms_used(code),
        ["addr", "golang", "image", "memory", "session", "sink"]
    );
    assert_eq!(
        without_comments("a // crate::cli\nb /* crate::sink */ \"// no\" c"),
        "a \nb  \"// no\" c"
    );
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

fn sources() -> Vec<PathBuf> {
    let mut folders = vec![src()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("read src") {
            let path = entry.expect("read src").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The room a file lives in; none for `lib.rs` and `main.rs`.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(src()).expect("under src");
    let first = inside.components().next().expect("a name");
    let name = first.as_os_str().to_string_lossy();
    let room = name.strip_suffix(".rs").unwrap_or(&name);
    (room != "lib" && room != "main").then(|| room.to_string())
}

/// Tests of a room: `tests.rs`, `abi_tests.rs`, whatever lies in `tests/`.
fn is_test(file: &Path) -> bool {
    let inside = file.strip_prefix(src()).expect("under src");
    inside.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        let name = name.strip_suffix(".rs").unwrap_or(&name);
        name == "tests" || name.ends_with("_tests")
    })
}

fn place(room: &str) -> usize {
    ROOMS
        .iter()
        .position(|r| *r == room)
        .unwrap_or_else(|| panic!("`{room}` has no place in the order of rooms"))
}

/// The rooms that a piece of code names through `crate::`, sorted, each once.
fn rooms_used(code: &str) -> Vec<String> {
    let path = Regex::new(r"\bcrate::(\w+|\{)").expect("a pattern");
    let mut used = Vec::new();
    for found in path.captures_iter(code) {
        if &found[1] == "{" {
            let group = &code[found.get(0).expect("the match").end()..];
            used.extend(first_names(group));
        } else {
            used.push(found[1].to_string());
        }
    }
    let in_crate = Regex::new(r"\bin crate::(\w+)").expect("a pattern");
    used.extend(in_crate.captures_iter(code).map(|f| f[1].to_string()));
    used.sort();
    used.dedup();
    used
}

/// `a::b, c::{d, e}}; rest` → a, c: the names at the outer level of a group.
fn first_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut name = String::new();
    let mut fresh = true;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(std::mem::take(&mut name));
                fresh = true;
            }
            c if depth == 0 && fresh && (c.is_alphanumeric() || c == '_') => name.push(c),
            c if c.is_whitespace() => {}
            _ => fresh = false,
        }
    }
    names.push(name);
    names.retain(|n| !n.is_empty());
    names
}

/// The code without `//` and `/* */` comments; strings stay.
fn without_comments(code: &str) -> String {
    let token = Regex::new(
        r#"(?s)(?P<keep>b?"(?:[^"\\]|\\.)*"|r(?:#+)"[^#]*"(?:#+)|r"[^"]*"|'(?:[^'\\]|\\.)')|//[^\n]*|/\*.*?\*/"#,
    )
    .expect("a pattern");
    token.replace_all(code, "$keep").into_owned()
}

fn without_strings(code: &str) -> String {
    let token =
        Regex::new(r#"(?s)r(?:#+)"[^#]*"(?:#+)|r"[^"]*"|b?"(?:[^"\\]|\\.)*""#).expect("a pattern");
    token.replace_all(code, "\"\"").into_owned()
}
