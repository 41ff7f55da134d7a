//! Steps land where Delve's do.
//!
//! Each walk is a series of steps, the same for both; every stop of ours is
//! compared with Delve's, by address.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use gotap::golang::step::Kind;
use support::stepper::{Landed, Stepper};
use support::{Fixture, Variant};

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

/// What `dlv exec` says to a script.
fn delve(program: &Path, script: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let init = dir.path().join("init");
    std::fs::write(&init, script).expect("write the script");
    let out = Command::new("dlv")
        .arg("exec")
        .arg(program)
        .arg("--init")
        .arg(&init)
        .args([
            "--allow-non-terminal-interactive=true",
            "--check-go-version=false",
        ])
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| {
            panic!("cannot run dlv: {e}; go install github.com/go-delve/delve/cmd/dlv@v1.27.2")
        });
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Next => "next",
        Kind::Into => "step",
        Kind::Out => "stepout",
    }
}

/// Where Delve stops: at the breakpoint, and after each step. `None`: ended.
fn their_stops(program: &Path, function: &str, walk: &[Kind]) -> (Vec<Option<u64>>, String) {
    let mut script = format!("break main.{function}\ncontinue\nclearall\n");
    for kind in walk {
        writeln!(script, "{}", word(*kind)).expect("a string");
    }
    let said = delve(program, &(script + "exit\n"));
    let stop = regex::Regex::new(r"(?m)^> .*\(PC: 0x([0-9a-f]+)\)$|Process \d+ has exited");
    let stop = stop.expect("a pattern");
    let stops = stop.captures_iter(&said).map(|found| {
        let pc = found.get(1)?;
        Some(u64::from_str_radix(pc.as_str(), 16).expect("hex"))
    });
    (stops.collect(), said)
}

/// Walks with both, and compares. How far they went together, and what was
/// wrong then.
fn compare(program: &Fixture, function: &str, walk: &[Kind]) -> (usize, Option<String>) {
    let (theirs, said) = their_stops(&program.path, function, walk);
    let mut ours = Stepper::start(&program.path, &format!("main.{function}"));
    let mut trail = vec![format!("{} main.{function}", program.label)];
    let mut theirs = theirs.into_iter();
    assert_eq!(theirs.next(), Some(Some(ours.pc())), "{said}");
    trail.push(ours.line(ours.pc()));
    for (index, kind) in walk.iter().enumerate() {
        let landed = ours.step(*kind);
        let their = theirs.next();
        let show = |at: Option<u64>| at.map_or("its end".to_owned(), |pc| ours.line(pc));
        let (same, at) = match landed {
            Ok(Landed::At(pc, _)) => (their == Some(Some(pc)), show(Some(pc))),
            Ok(Landed::Exited) => (their == Some(None), show(None)),
            // Delve says so too, and shows where it stands.
            Err(ref refused) => (their == Some(Some(ours.pc())), refused.clone()),
        };
        trail.push(format!("{} {at}", word(*kind)));
        if !same {
            trail.push(format!(
                "Delve {}",
                their.map_or("nowhere".to_owned(), show)
            ));
            return (index, Some(trail.join("\n")));
        }
        // What the runtime does of itself depends on the other threads.
        if !matches!(landed, Ok(Landed::At(..))) || at.starts_with("runtime.") {
            return (index, None);
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
    compare_all(&walks, 1000);
}

#[test]
fn stepout_goes_where_delve_goes() {
    let walks = STARTS.map(|start| (start, vec![Kind::Out; 6]));
    compare_all(&walks, 20);
}

#[test]
fn tmp() {
    use Kind::*;
    let mut w = vec![Next; 5];
    w.extend([Into, Into, Into, Into, Into, Next, Out, Into, Next]);
    let program = Fixture::build("steps", &[]);
    let (_, what) = compare(&program, "goroutines", &w);
    println!("{what:?}");
    assert!(what.is_none());
}
