//! Tracing while everything moves: forced collections, signals in storms,
//! stacks that grow and shrink, goroutines born and gone, panics and Goexit
//! through traced frames. Counts are exact, results right, and the code is as it
//! was. For as many calls as `GOTAP_TORTURE` says, and by the way of firing that
//! `GOTAP_TEST_FIRE` names, where the command has several.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::{Fixture, Gotap, LATER, SOON, Target, oracle, wait_for};

/// Its functions begin with t.
const PATTERN: &str = r"^main\.t[A-Z][A-Za-z]*$";

/// Calls that everyday tests wait for.
const CALLS: u64 = 20_000;

/// Times that probes are put in and taken out.
const ROUNDS: u64 = 10;

fn asked(everyday: u64) -> u64 {
    let told = std::env::var("GOTAP_TORTURE").ok();
    told.map_or(everyday, |n| n.parse().expect("GOTAP_TORTURE is a number"))
}

fn calls(target: &mut Target) -> u64 {
    target.ask("calls").as_u64().expect("a number")
}

/// Per function: calls, and those that did not return.
fn told(counts: &Value) -> BTreeMap<String, (u64, u64)> {
    let counts = counts.as_object().expect("an object");
    let numbers = |v: &Value| (v[0].as_u64().expect("calls"), v[1].as_u64().expect("ends"));
    counts
        .iter()
        .map(|(name, v)| (name.clone(), numbers(v)))
        .collect()
}

#[test]
fn every_call_is_counted_once() {
    counted(&["--summary", "-q"]);
}

/// Where values are asked for, functions with texts among their arguments trap,
/// between others that jump: calls of both are in each other.
#[test]
fn every_call_is_counted_once_by_jumps_beside_traps() {
    if std::env::var("GOTAP_TEST_FIRE").is_ok_and(|how| how != "auto") {
        return; // one way for all
    }
    let more = ["--summary", "-q", "--where", "goid > 0", "--fire", "auto"];
    let said = counted(&more);
    let both = |l: &String| l.contains(" by jumps, ") && l.contains(" by traps");
    assert!(said.iter().any(both), "{said:#?}");
}

/// What gotap said.
fn counted(more: &[&str]) -> Vec<String> {
    let program = Fixture::build("torture", &[]);
    let mut target = Target::start(&program, &[]);
    target.expect_line("ready");
    let pid = target.pid();
    let before = oracle::footprint(pid);
    let gotap = Gotap::trace_json(pid, &[PATTERN], more);
    target.tell("go");
    target.answer("go", SOON);
    let wanted = asked(CALLS);
    let mut last = (0, std::time::Instant::now());
    while last.0 < wanted {
        let now = calls(&mut target);
        if now > last.0 {
            last = (now, std::time::Instant::now());
        }
        assert!(
            last.1.elapsed() < LATER,
            "it stands still at {} calls",
            last.0
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    target.tell("stop");
    let mut counts = told(&target.answer("stop", LATER));
    let outcome = gotap.stop();
    outcome.must_succeed();
    // What cannot jump is left out where jumps alone are asked for, and named.
    let left_out = |name: &str| {
        let mut lines = outcome.stderr.iter();
        lines.any(|l| l.contains(&format!("{name}: left out")))
    };
    counts.retain(|name, _| !left_out(name));
    oracle::assert_clean(pid, &before, "after torture");
    assert_eq!(outcome.tally().lost, 0, "{}", outcome.errors());
    let records = outcome.records();
    let summary = records.iter().find_map(|r| r.get("summary"));
    let functions = summary.expect("a summary")["functions"].as_array();
    let mut seen = BTreeMap::new();
    for f in functions.expect("a list") {
        let name = f["func"].as_str().expect("a name").to_owned();
        let number = |field: &str| f[field].as_u64().expect("a number");
        assert_eq!(number("open"), 0, "{name}");
        seen.insert(name, (number("calls"), number("unwound")));
    }
    println!("{seen:?}");
    assert_eq!(seen, counts, "{}", outcome.errors());
    assert!(counts.len() >= 6, "{counts:?}");
    assert!(target.is_alive());
    outcome.stderr
}

#[test]
fn probes_come_and_go_under_load() {
    let program = Fixture::build("torture", &[]);
    let mut target = Target::start(&program, &[]);
    target.expect_line("ready");
    let pid = target.pid();
    let before = oracle::footprint(pid);
    target.tell("go");
    target.answer("go", SOON);
    let rounds = (asked(CALLS) / (CALLS / ROUNDS)).max(1);
    for round in 0..rounds {
        let mut gotap = Gotap::trace_json(pid, &[PATTERN], &[]);
        gotap.wait_for_lines(100, LATER);
        let outcome = gotap.stop();
        outcome.must_succeed();
        let was = calls(&mut target);
        wait_for(&format!("calls after round {round}"), LATER, || {
            (calls(&mut target) > was).then_some(())
        });
    }
    target.tell("stop");
    let counts = told(&target.answer("stop", LATER));
    assert!(counts.values().all(|(calls, _)| *calls > 0), "{counts:?}");
    oracle::assert_clean(pid, &before, "after probes came and went");
}

/// Tracepoints of a session are added and taken away: a call of the function that
/// stays is told once, whatever happens at its neighbours meanwhile.
#[test]
fn tracepoints_come_and_go_under_load() {
    let program = Fixture::build("torture", &[]);
    let mut target = Target::start(&program, &[]);
    target.expect_line("ready");
    let pid = target.pid();
    let before = oracle::footprint(pid);
    let rounds = (asked(CALLS) / (CALLS / (4 * ROUNDS))).max(1);
    let folder = tempfile::tempdir().expect("a folder");
    let mut script = String::from("trace stays main.tSpill\n");
    for _ in 0..rounds / 2 {
        script += "trace m main.tMixed\ntrace b main.tBorn\nclear m\nclear b\n";
    }
    script += "trace last main.tExit\n";
    let path = folder.path().join("script");
    std::fs::write(&path, script).expect("write a script");
    let (path, pid_text) = (path.display().to_string(), pid.to_string());
    let args = ["run", &path, "-p", &pid_text, "-o", "json"];
    let mut gotap = Gotap::spawn(support::gotap::command(&args));
    let patience = LATER * u32::try_from(rounds / 100 + 1).expect("a number");
    // All of the script is checked before.
    let on = gotap.stderr_line("Tracepoint stays on", patience);
    on.unwrap_or_else(|| panic!("{:?}", gotap.said()));
    target.tell("go");
    target.answer("go", SOON);
    let done = gotap.stderr_line("Tracepoint last on", patience);
    done.unwrap_or_else(|| panic!("{:?}", gotap.said().last()));
    target.tell("stop");
    let counts = told(&target.answer("stop", LATER));
    let outcome = gotap.stop();
    outcome.must_succeed();
    let calls = outcome.calls_of("main.tSpill");
    let ended = calls.iter().filter(|call| call["end"] == "return").count() as u64;
    assert_eq!(counts["main.tSpill"], (ended, 0), "{}", outcome.errors());
    assert!(outcome.errors().contains(" 0 lost"), "{}", outcome.errors());
    println!("{rounds} rounds, {ended} calls");
    assert!(target.is_alive());
    oracle::assert_clean(pid, &before, "after tracepoints came and went");
}
