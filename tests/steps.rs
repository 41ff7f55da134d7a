//! Steps land where Delve's do.
//!
//! Each walk is a series of steps, the same for both; every stop of ours is
//! compared with Delve's, by address.

mod support;

use std::fmt::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use gotap::addr::ImageAddr;
use gotap::image::Image;
use gotap::image::dwarf::{Dwarf, LinePlaces};
use serde_json::Value;
use support::{Fixture, SOON, Target, Variant, delve, poll};

const BUILDS: [&[Variant]; 2] = [&[Variant::NoOpt], &[]];

/// Functions that walks begin in.
const STARTS: [&str; 13] = [
    "loops",
    "inlines",
    "defers",
    "panics",
    "nilled",
    "recursive",
    "closures",
    "generics",
    "ranges",
    "methods",
    "goroutines",
    "crowd",
    "pass",
];

/// A command, the same for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Next,
    Into,
    Out,
    Instruction,
    InstructionOver,
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Next => "next",
        Kind::Into => "step",
        Kind::Out => "stepout",
        Kind::Instruction => "step-instruction",
        Kind::InstructionOver => "next-instruction",
    }
}

/// Where Delve stops: at the breakpoint, and after each step. `None`: ended.
fn their_stops(program: &Path, function: &str, walk: &[Kind]) -> (Vec<Option<String>>, String) {
    let mut script = format!("break main.{function}\ncontinue\nclearall\n");
    for kind in walk {
        writeln!(script, "{}", word(*kind)).expect("a string");
    }
    let said = delve::exec(program, &(script + "exit\n"));
    let stop = regex::Regex::new(r"(?m)^> .*\(PC: (0x[0-9a-f]+)\)$|Process \d+ has exited");
    let stop = stop.expect("a pattern");
    let stops = stop.captures_iter(&said);
    let stops = stops.map(|found| found.get(1).map(|pc| pc.as_str().to_owned()));
    (stops.collect(), said)
}

/// An instruction of a line of main.go.
fn our_lines(program: &Fixture, line: usize) -> ImageAddr {
    let image = Arc::new(Image::open(&program.path).expect("the program"));
    let dwarf = Dwarf::open(image.clone()).expect("DWARF").expect("some");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/steps/main.go");
    let line = u32::try_from(line).expect("few");
    match dwarf.places_of_line(&image, &path.display().to_string(), line) {
        LinePlaces::At(all) => all[0],
        other => panic!("line {line}: {other:?}"),
    }
}

/// Runs a script on a program that begins when `at` is trapped: its stops, and
/// what it says.
fn run_script(program: &Fixture, script: &str, at: ImageAddr) -> (Vec<Value>, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("walk.gotap");
    std::fs::write(&file, script).expect("write the script");
    let mut target = Target::start(program, &["wait"]);
    target.expect_line("ready");
    let gotap = Command::new(env!("CARGO_BIN_EXE_gotap"))
        .args(["run", "-o", "json", "-p", &target.pid().to_string()])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gotap");
    let memory = std::fs::File::open(format!("/proc/{}/mem", target.pid())).expect("memory");
    let armed = poll(SOON, || {
        let mut byte = [0];
        memory.read_exact_at(&mut byte, at.0).is_ok() && byte == [0xcc]
    });
    assert!(armed, "{}: nothing was armed by {script}", program.label);
    target.tell("go");
    let out = gotap.wait_with_output().expect("gotap ends");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let records = said.lines().map(|l| serde_json::from_str(l).expect("JSON"));
    let stops = records.filter(|r: &Value| r["event"] == "stop").collect();
    (stops, String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Where we stop, and what is said.
fn our_records(program: &Fixture, function: &str, walk: &[Kind]) -> (Vec<Value>, String) {
    let image = Arc::new(Image::open(&program.path).expect("the program"));
    let dwarf = Dwarf::open(image.clone()).expect("DWARF").expect("some");
    let found = image.functions().by_name(&format!("main.{function}"));
    let at = dwarf.breakpoint_of(found.first().expect("the function"));
    let at = at.expect("lines");
    let mut script = format!("break b *{at}\ncontinue\nclear b\n");
    for kind in walk {
        writeln!(script, "{}", word(*kind)).expect("a string");
    }
    run_script(program, &script, at)
}

/// The same by address, with the lines for messages. `None`: ended.
fn our_stops(program: &Fixture, function: &str, walk: &[Kind]) -> Vec<(Option<String>, String)> {
    let (records, errors) = our_records(program, function, walk);
    let mut stops = Vec::new();
    for stop in records {
        let text = |key: &str| stop[key].as_str().unwrap_or("?").to_owned();
        let place = format!("{} {}:{}", text("func"), text("file"), stop["line"]);
        stops.push((Some(text("pc")), format!("{place} {}", text("pc"))));
    }
    match errors.matches("the target exited").count() {
        0 => {}
        1 => stops.push((None, "its end".to_owned())),
        _ => panic!("{errors}"),
    }
    if stops.len() <= walk.len() {
        // What was refused, for messages.
        stops.push((Some(String::new()), errors));
    }
    stops
}

/// Walks with both, and compares. How far they went together, and what was
/// wrong then.
fn compare(program: &Fixture, function: &str, walk: &[Kind]) -> (usize, Option<String>) {
    let (theirs, said) = their_stops(&program.path, function, walk);
    let ours = our_stops(program, function, walk);
    let mut trail = vec![format!("{} main.{function}", program.label)];
    assert_eq!(theirs.first(), Some(&ours[0].0), "{said}");
    trail.push(ours[0].1.clone());
    let steps = walk.iter().zip(&ours[1..]).enumerate();
    for (index, (kind, (pc, place))) in steps {
        // Delve traps what must never be trapped.
        if place.contains("it can run with signals blocked") {
            return (index, None);
        }
        let their = theirs.get(index + 1);
        trail.push(format!("{} {place}", word(*kind)));
        if their != Some(pc) {
            trail.push(format!("Delve {their:?}"));
            return (index, Some(trail.join("\n")));
        }
        // What the runtime does of itself depends on the other threads.
        let theirs_to_say = ["runtime.", "main.settle"];
        if pc.is_none() || theirs_to_say.iter().any(|s| place.starts_with(s)) {
            return (index + 1, None);
        }
    }
    (walk.len(), None)
}

/// Walks with all, and fails with all that went wrong.
fn compare_all(walks: &[(&str, Vec<Kind>)], least: usize) {
    let mut wrong = Vec::new();
    for variants in BUILDS {
        let program = Fixture::build("steps", variants);
        let mut steps = 0;
        for (function, walk) in walks {
            let (walked, what) = compare(&program, function, walk);
            steps += walked;
            wrong.extend(what);
        }
        eprintln!("{}: {steps} steps", program.label);
        assert!(steps >= least || !wrong.is_empty(), "{steps} steps");
    }
    assert!(
        wrong.is_empty(),
        "{} walks:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn next_goes_through_every_function_as_delve_does() {
    let walks = STARTS.map(|start| (start, vec![Kind::Next; 60]));
    compare_all(&walks, 300);
}

#[test]
fn step_goes_into_every_call_as_delve_does() {
    // Not into the scheduler: what it does depends on the other threads.
    let starts = STARTS.iter().filter(|s| **s != "crowd");
    let mut walks: Vec<_> = starts.map(|s| (*s, vec![Kind::Into; 90])).collect();
    // Into a goroutine, and through code that others run at the same time.
    let mut walk = vec![Kind::Next; 5];
    walk.push(Kind::Into);
    walk.extend([Kind::Next; 40]);
    walks.push(("crowd", walk));
    compare_all(&walks, 600);
}

/// Steps of all kinds in an order that is drawn, and the same in each run.
#[test]
fn walks_of_all_kinds_go_where_delve_goes() {
    let mut walks = Vec::new();
    let mut seed = 20_u64;
    for start in STARTS.iter().filter(|s| **s != "crowd") {
        for _ in 0..3 {
            let walk = std::iter::repeat_with(|| {
                // Knuth's MMIX generator.
                seed = seed.wrapping_mul(6_364_136_223_846_793_005);
                seed = seed.wrapping_add(1_442_695_040_888_963_407);
                match seed >> 60 {
                    0..7 => Kind::Next,
                    7..14 => Kind::Into,
                    _ => Kind::Out,
                }
            });
            walks.push((*start, walk.take(60).collect()));
        }
    }
    compare_all(&walks, 700);
}

#[test]
fn stepout_goes_where_delve_goes() {
    let walks = STARTS.map(|start| (start, vec![Kind::Out; 6]));
    compare_all(&walks, 20);
}

#[test]
fn instructions_are_stepped_as_delve_steps_them() {
    let starts = [
        "loops", "inlines", "defers", "closures", "methods", "ranges",
    ];
    let into = starts.map(|s| (s, vec![Kind::Instruction; 70]));
    let over = starts.map(|s| (s, vec![Kind::InstructionOver; 70]));
    compare_all(&[into, over].concat(), 400);
}

/// What Delve prints below `Values returned:` is what we tell.
#[test]
fn what_a_function_returned_is_told_where_a_step_comes_out_of_it() {
    for variants in BUILDS {
        let program = Fixture::build("steps", variants);
        for function in ["loops", "defers", "panics", "recursive", "generics"] {
            let (_, said) = their_stops(&program.path, function, &[Kind::Out]);
            let (stops, errors) = our_records(&program, function, &[Kind::Out]);
            assert_eq!(stops.len(), 2, "{} {function}: {errors}", program.label);
            let returned = stops.last().expect("a stop")["returned"].clone();
            let mut told = 0;
            for line in said
                .lines()
                .skip_while(|l| *l != "Values returned:")
                .skip(1)
                // What an error points to.
                .filter(|l| !l.starts_with("\t\t"))
            {
                let Some((name, value)) = line.trim().split_once(": ") else {
                    break;
                };
                // `~r0` is the compiler's name for one that has none.
                let ours = &returned[name.trim_start_matches('~')];
                // What Delve cannot read in an optimised build is told by us.
                if value.starts_with("(unreadable") {
                    assert!(!ours.is_null(), "{} {function}: {name}", program.label);
                    told += 1;
                    continue;
                }
                // Numbers, and texts in quotes, are the same in JSON.
                let shown = ours.to_string();
                let same = if value.starts_with("error(") {
                    ours == "recovered"
                } else {
                    shown == value
                };
                assert!(
                    same,
                    "{} {function}: {name}: {ours}, Delve {value}",
                    program.label
                );
                told += 1;
            }
            assert!(told > 0, "{} {function}: {said}", program.label);
        }
    }
}

/// Another goroutine's breakpoint ends a step, and is told. Main cannot have an
/// answer before the worker has come to its line.
#[test]
fn a_breakpoint_of_another_goroutine_ends_a_step() {
    let program = Fixture::build("steps", &[]);
    let line = |code: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/steps/main.go");
        let file = std::fs::read_to_string(path).expect("the source");
        1 + file.lines().position(|l| l.contains(code)).expect("a line")
    };
    let (sends, works) = (line("g.in <- i"), line("w := v + n"));
    let script = format!(
        "break b main.go:{sends}\ncontinue\nclear b\nbreak c main.go:{works}\nnext\nnext\n"
    );
    let at = our_lines(&program, sends);
    let (stops, errors) = run_script(&program, &script, at);
    // Behind the script's end the breakpoint goes on stopping it.
    assert!(stops.len() >= 3, "{errors}");
    assert_eq!(stops[0]["goid"], 1, "{stops:?}");
    let other = stops[1..3]
        .iter()
        .find(|s| s["goid"] != 1)
        .expect("the worker's");
    assert_eq!(other["why"], "breakpoint", "{stops:?}");
    assert_eq!(other["func"], "main.worker", "{stops:?}");
    assert_eq!(other["line"], works, "{stops:?}");
}
