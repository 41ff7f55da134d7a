//! Variables of parked goroutines: what gotap reads of a live program and of
//! its core is what the program itself printed, and what Delve says.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Fixture, Target, Toolchain, Variant, dump, gotap};

/// Name of the function to name of the variable to its text.
type Found = BTreeMap<String, BTreeMap<String, String>>;

/// Variables of one function's frame, in order.
type Frame = Vec<(String, String)>;

const BUILDS: [&[Variant]; 3] = [&[Variant::NoOpt], &[], &[Variant::Pie]];

struct Program {
    target: Target,
    fixture: Fixture,
    /// `var FUNC NAME VALUE` as the program printed it.
    printed: Found,
    /// Its parked goroutines.
    goids: Vec<u64>,
}

impl Program {
    fn start(variants: &[Variant], toolchain: &Toolchain) -> Program {
        let fixture = Fixture::build_with("locals", variants, toolchain);
        let mut target = Target::start(&fixture, &[]);
        let mut printed = Found::new();
        loop {
            let line = target.expect_line("");
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("ready"), ..) => break,
                (Some("var"), Some(func), Some(name), Some(value)) => {
                    let of = printed.entry(format!("main.{func}")).or_default();
                    of.insert(name.to_owned(), value.to_owned());
                }
                other => panic!("{line:?}: {other:?}"),
            }
        }
        let pid = target.pid().to_string();
        let look = gotap::run(&["goroutines", "--list", "-o", "json", "-p", &pid]);
        let look: serde_json::Value = serde_json::from_str(&look.text()).expect("JSON");
        let goids = look["goroutines"].as_array().expect("a list").iter();
        let goids = goids
            .filter(|g| g["func"] == "main.park" || g["user"] == "main.park")
            .filter_map(|g| g["goid"].as_u64())
            .collect();
        Program {
            target,
            fixture,
            printed,
            goids,
        }
    }

    /// All frames of package main, by function.
    fn live(&self) -> BTreeMap<String, Frame> {
        self.frames(&["-p", &self.target.pid().to_string()])
    }

    fn of_core(&self, core: &Path) -> BTreeMap<String, Frame> {
        let program = self.fixture.path.to_str().expect("a path");
        self.frames(&["--core", core.to_str().expect("a path"), program])
    }

    fn frames(&self, from: &[&str]) -> BTreeMap<String, Frame> {
        let mut all = BTreeMap::new();
        for goid in &self.goids {
            let goid = goid.to_string();
            let mut args = vec!["stack", &goid, "--full"];
            args.extend(from);
            let out = gotap::run(&args);
            out.must_succeed();
            let mut func = None;
            for line in out.text().lines() {
                if let Some(variable) = line.strip_prefix("        ") {
                    let (name, value) = variable.split_once(" = ").expect("a variable");
                    let frame: Option<&mut Frame> = func.as_ref().and_then(|f| all.get_mut(f));
                    if let Some(frame) = frame {
                        frame.push((name.to_owned(), value.to_owned()));
                    }
                } else if !line.starts_with(' ') {
                    func = line.starts_with("main.").then(|| line.to_owned());
                    if let Some(func) = &func {
                        all.insert(func.clone(), Vec::new());
                    }
                }
            }
        }
        all
    }
}

/// `%#v` writes unsigned integers in hex.
fn decimal(text: &str) -> String {
    match text.strip_prefix("0x").map(|h| u64::from_str_radix(h, 16)) {
        Some(Ok(n)) => n.to_string(),
        _ => text.to_owned(),
    }
}

/// What is there says what the program printed; how much was optimised away.
fn agrees(label: &str, program: &Program, frames: &BTreeMap<String, Frame>) -> usize {
    let mut away = 0;
    for (func, printed) in &program.printed {
        let frame = frames
            .get(func)
            .unwrap_or_else(|| panic!("{label}: no frame of {func} in {:?}", frames.keys()));
        for (name, value) in printed {
            // The last of a name is the one in scope.
            match frame.iter().rfind(|(n, _)| n == name) {
                Some((_, read)) if read.contains("(optimised away)") => away += 1,
                Some((_, read)) => {
                    assert_eq!(*read, decimal(value), "{label}: {func} {name}");
                }
                // An optimiser may leave no trace of it.
                None => away += 1,
            }
        }
    }
    away
}

#[test]
fn variables_are_what_the_program_printed_live_and_in_a_core() {
    for toolchain in Toolchain::under_test() {
        for variants in BUILDS {
            let program = Program::start(variants, &toolchain);
            let label = &program.fixture.label;
            assert_eq!(program.goids.len(), 11, "{label}: parked goroutines");
            let live = program.live();
            let away = agrees(label, &program, &live);
            let all: usize = program.printed.values().map(BTreeMap::len).sum();
            let unoptimised = variants.contains(&Variant::NoOpt);
            let most = if unoptimised { 0 } else { all * 2 / 3 };
            assert!(away <= most, "{label}: {away} of {all} are not known");
            let dir = tempfile::tempdir().expect("a folder");
            let core = dump::gcore(program.target.pid(), dir.path());
            assert_eq!(program.of_core(&core), live, "{label}: the core");
        }
    }
}

/// What the unoptimised program has beside what it prints.
#[test]
fn every_kind_of_value_is_shown() {
    let program = Program::start(&[Variant::NoOpt], &Toolchain::Machine);
    let frames = program.live();
    let expect = |func: &str, want: &[(&str, &str)]| {
        let frame = &frames[func];
        for (name, value) in want {
            let all: Vec<&str> = frame
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
                .collect();
            assert_eq!(all, [*value], "{func} {name}");
        }
    };
    expect(
        "main.scalars",
        &[("d", "1.5s"), ("k", "3"), ("n", "5"), ("err", "nil")],
    );
    expect(
        "main.composites",
        &[
            ("pp", "&main.point{X:7, Y:8}"),
            ("np", "nil"),
            ("nm", "nil"),
            ("e", "\"dynamic\""),
            ("a", "main.dog{Name:\"rex\", Age:4}"),
            ("pa", "&main.dog{Name:\"pia\", Age:5}"),
            ("na", "nil"),
            ("err", "broken"),
            ("fn", "strings.ToUpper"),
            ("nf", "nil"),
            ("empty", "[]int{}"),
            ("none", "nil"),
            ("raw", "[]uint8 len 7 \"GET /\\r\\n\""),
            ("when", "2024-05-06T07:08:09.00000001Z"),
            ("ip", "10.0.0.1"),
        ],
    );
    // Shadowed ones are told, and only what is declared by that line is there.
    let names: Vec<&str> = frames["main.shadows"].iter().map(|(n, _)| &**n).collect();
    assert_eq!(names, ["(x)", "(y)", "(x)", "i", "x", "y"]);
    expect(
        "main.escapes",
        &[
            ("arg", "5"),
            ("local", "main.point{X:5, Y:6}"),
            ("p", "&main.point{X:5, Y:6}"),
        ],
    );
    expect(
        "main.captures.func1",
        &[("byRef", "12"), ("byValue", "\"held\""), ("local", "4")],
    );
    // Types of a generic function, from its dictionary.
    expect(
        "main.generic[go.shape.struct { X int; Y int },go.shape.*main.point]",
        &[
            ("v", "main.point{X:1, Y:2}"),
            ("many", "[]main.point{main.point{X:3, Y:4}}"),
            ("p", "&main.point{X:1, Y:2}"),
        ],
    );
    expect("main.inlinee", &[("a", "42"), ("sum", "49")]);
    expect(
        "main.deferred",
        &[("result", "1"), ("err", "recovered: on purpose")],
    );
}

#[test]
fn a_stripped_program_says_what_it_lacks() {
    let fixture = Fixture::build("locals", &[Variant::Stripped]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready");
    let out = gotap::run(&["stack", "1", "--full", "-p", &target.pid().to_string()]);
    out.must_succeed();
    assert!(
        out.errors().contains("no debug information"),
        "{}",
        out.errors()
    );
    assert!(out.text().contains("main.main("), "{}", out.text());
}

#[test]
fn json_has_the_variables_of_each_frame() {
    let program = Program::start(&[Variant::NoOpt], &Toolchain::Machine);
    let pid = program.target.pid().to_string();
    let mut seen = 0;
    for goid in &program.goids {
        let out = gotap::run(&[
            "stack",
            &goid.to_string(),
            "--full",
            "-o",
            "json",
            "-p",
            &pid,
        ]);
        let one: serde_json::Value = serde_json::from_str(&out.text()).expect("JSON");
        for frame in one["frames"].as_array().expect("frames") {
            if frame["func"] == "main.shadows" {
                let last = frame["variables"].as_array().and_then(|v| v.last());
                let last = last.expect("variables");
                assert_eq!(
                    (&last["name"], &last["role"], &last["type"], &last["value"]),
                    (
                        &"y".into(),
                        &"local".into(),
                        &"string".into(),
                        &"outer!".into()
                    )
                );
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 1);
}

/// Delve's `stack -full` of every goroutine of a core: frames of package main.
fn delve(program: &Path, core: &Path, goids: &[u64]) -> BTreeMap<String, Frame> {
    let mut script = String::from("config max-string-len 64\n");
    for goid in goids {
        writeln!(script, "goroutine {goid}\nstack 20 -full").expect("a string");
    }
    script += "exit\n";
    let init = core.with_extension("dlv");
    std::fs::write(&init, script).expect("write the script");
    let out = Command::new("dlv")
        .arg("core")
        .args([program, core])
        .arg("--init")
        .arg(&init)
        .arg("--allow-non-terminal-interactive=true")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| {
            panic!("cannot run dlv: {e}; go install github.com/go-delve/delve/cmd/dlv@v1.27.2")
        });
    let colours = regex::Regex::new("\x1b\\[[0-9;]*m").expect("a pattern");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let text = colours.replace_all(&text, "");
    let head = regex::Regex::new(r"^ *\d+  0x[0-9a-f]+ in (.*)$").expect("a pattern");
    let mut all: BTreeMap<String, Frame> = BTreeMap::new();
    let mut func = None;
    for line in text.lines() {
        if let Some(found) = head.captures(line) {
            let name = found[1].to_owned();
            func = name.starts_with("main.").then(|| name.clone());
            if func.is_some() {
                all.insert(name, Vec::new());
            }
        } else if let (Some(func), Some((name, value))) = (
            &func,
            line.strip_prefix("       ")
                .and_then(|l| l.split_once(" = ")),
        ) && let Some(frame) = all.get_mut(func)
        {
            frame.push((name.to_owned(), value.to_owned()));
        }
    }
    assert!(
        all.len() > 10,
        "dlv core:\n{text}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    all
}

#[test]
fn the_variables_are_those_that_delve_sees() {
    for variants in [&[Variant::NoOpt][..], &[]] {
        let program = Program::start(variants, &Toolchain::Machine);
        let label = &program.fixture.label;
        let dir = tempfile::tempdir().expect("a folder");
        let core = dump::gcore(program.target.pid(), dir.path());
        let mut ours = program.of_core(&core);
        // Delve's `stack` does not tell what is shadowed, and lists a parameter
        // that was moved to the heap twice.
        for (name, _) in ours.values_mut().flatten() {
            *name = name.trim_matches(['(', ')']).to_owned();
        }
        let mut theirs = delve(&program.fixture.path, &core, &program.goids);
        if let Some(frame) = theirs.get_mut("main.escapes") {
            let at = frame.iter().position(|(n, _)| n == "arg").expect("arg");
            frame.remove(at);
        }
        let functions =
            |frames: &BTreeMap<String, Frame>| -> Vec<String> { frames.keys().cloned().collect() };
        assert_eq!(functions(&ours), functions(&theirs), "{label}");
        let mut compared = 0;
        for (func, mut left) in ours {
            let theirs = &theirs[&func];
            for (i, (name, value)) in theirs.iter().enumerate() {
                let away = value.starts_with("(unreadable");
                let at = left.iter().position(|(n, v)| {
                    // It shows pieces that are nowhere as zero.
                    let in_pieces = v.contains(":(optimised away)");
                    n == name
                        && (in_pieces || away == v.contains("(optimised away)"))
                        && (!is_plain(v) || !is_plain(value) || v == value)
                });
                match at {
                    Some(at) => compared += usize::from(is_plain(&left.remove(at).1)),
                    // Results are in DWARF twice where defers are compiled in.
                    None => assert!(
                        theirs[..i].iter().any(|(n, _)| n == name) && away,
                        "{label}: {func} {name} = {value}\nof {left:#?}"
                    ),
                }
            }
            // Delve shows what a closure captured by the line that DWARF gives
            // for it, which may be a later one.
            left.retain(|(n, _)| !(func == "main.deferred.func1" && n == "label"));
            assert_eq!(left, [], "{label}: {func}");
        }
        assert!(compared >= 15, "{label}: only {compared} compared");
    }
}

/// A literal, which both write alike.
fn is_plain(text: &str) -> bool {
    let number = |t: &str| !t.is_empty() && t.chars().all(|c| c.is_ascii_digit());
    text.starts_with('"')
        || matches!(text, "true" | "false")
        || number(text.trim_start_matches('-'))
}
