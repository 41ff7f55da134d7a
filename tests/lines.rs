//! Where breakpoints at lines go and where steps land, as Delve has it.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gotap::addr::ImageAddr;
use gotap::image::Image;
use gotap::image::dwarf::{Dwarf, LinePlaces};
use support::{Fixture, Variant, delve};

const BUILDS: [&[Variant]; 2] = [&[Variant::NoOpt], &[]];

struct Program {
    fixture: Fixture,
    image: Arc<Image>,
    dwarf: Dwarf,
    /// Full path of its main.go.
    path: String,
    lines: u32,
}

impl Program {
    fn open(variants: &[Variant]) -> Program {
        let fixture = Fixture::build("locals", variants);
        let image = Arc::new(Image::open(&fixture.path).expect("the program"));
        let dwarf = Dwarf::open(image.clone()).expect("DWARF").expect("some");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/locals/main.go");
        let text = std::fs::read_to_string(&source).expect("the source");
        Program {
            fixture,
            image,
            dwarf,
            path: source.display().to_string(),
            lines: u32::try_from(text.lines().count()).expect("few"),
        }
    }
}

fn addresses(text: &str) -> BTreeSet<u64> {
    let pattern = regex::Regex::new("0x([0-9a-f]+)").expect("a pattern");
    let found = pattern.captures_iter(text);
    found
        .map(|f| u64::from_str_radix(&f[1], 16).expect("hex"))
        .collect()
}

#[test]
fn breakpoints_at_lines_go_where_delve_puts_them() {
    let set = regex::Regex::new(r"Breakpoint l(\d+) set at (.*?) for ").expect("a pattern");
    for variants in BUILDS {
        let program = Program::open(variants);
        let label = &program.fixture.label;
        let mut script = String::new();
        for line in 1..=program.lines {
            writeln!(script, "break l{line} main.go:{line}\nclearall").expect("a string");
        }
        let said = delve::exec(&program.fixture.path, &(script + "exit\n"));
        let mut theirs: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for found in set.captures_iter(&said) {
            theirs.insert(found[1].parse().expect("a line"), addresses(&found[2]));
        }
        assert!(theirs.len() > 60, "{label}: {said}");
        let mut ours = BTreeMap::new();
        for line in 1..=program.lines {
            match program
                .dwarf
                .places_of_line(&program.image, &program.path, line)
            {
                LinePlaces::At(places) => {
                    ours.insert(line, places.iter().map(|at| at.0).collect());
                }
                LinePlaces::NoCode => {}
                LinePlaces::NoFile => panic!("{label}: {} is not known", program.path),
            }
        }
        for line in 1..=program.lines {
            assert_eq!(ours.get(&line), theirs.get(&line), "{label}: line {line}");
        }
    }
}

#[test]
fn breakpoints_on_functions_go_where_delve_puts_them() {
    let names = [
        "main.steps",
        "main.shadows",
        "main.main",
        "main.park",
        "fmt.Fprintf",
    ];
    for variants in BUILDS {
        let program = Program::open(variants);
        let script = format!("break {}\nexit\n", names.join("\nbreak "));
        let said = delve::exec(&program.fixture.path, &script);
        for name in names {
            let found = program.image.functions().by_names(&[name]);
            let function = found[0].first().expect("a function");
            let at = program.dwarf.breakpoint_of(function).expect("lines");
            let wanted = format!("set at {at} for {name}()");
            assert!(said.contains(&wanted), "{wanted}:\n{said}");
        }
    }
}

/// The calls of a line, as `go tool objdump` prints them.
#[test]
fn the_calls_of_a_line_are_those_of_objdump() {
    let program = Program::open(&[Variant::NoOpt]);
    let steps = program.image.functions().by_names(&["main.steps"]);
    let steps = steps[0].first().expect("a function");
    let out = Command::new("go")
        .args(["tool", "objdump", "-s", "^main.steps$"])
        .arg(&program.fixture.path)
        .output()
        .expect("run go; install Go from https://go.dev/dl/");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let row = regex::Regex::new(r"(?m)^ +main.go:(\d+)\s+0x([0-9a-f]+)\s+\S+\s+CALL ");
    let row = row.expect("a pattern");
    let mut theirs: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for found in row.captures_iter(&text) {
        let line = found[1].parse().expect("a line");
        let at = u64::from_str_radix(&found[2], 16).expect("hex");
        theirs.entry(line).or_default().insert(at);
    }
    assert!(theirs.len() >= 5, "{text}");
    let lines = program.dwarf.lines_of(steps).expect("lines");
    let code = steps.code().expect("code");
    for (line, wanted) in theirs {
        let first = lines.rows.iter().find(|r| r.line == line).expect("a row");
        let mut ours = BTreeSet::new();
        for (from, to) in lines.line_around(first.at, steps.end()) {
            let at = |a: ImageAddr| usize::try_from(a.0 - steps.entry().0).expect("small");
            let calls = gotap::arch::calls::calls_in(&code[at(from)..at(to)], from.0);
            ours.extend(calls.iter().map(|c| c.at));
        }
        assert_eq!(ours, wanted, "line {line}");
    }
}
