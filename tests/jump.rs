//! Jumps into generated code: the same exactness as with traps, nobody traced
//! meanwhile, everything as it was afterwards.

mod support;

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use support::scenario::{self, Busy, READ};
use support::{Fixture, Gotap, LATER, SOON, Target, Variant, oracle, poll};

fn reads(variants: &[Variant], (conns, calls): (usize, usize), connected: bool) {
    support::gotap::fire("jump");
    scenario::exact_reads(&Fixture::build("echo", variants), conns, calls, connected);
}

#[test]
fn every_read_is_counted_once() {
    reads(&[], (64, 1600), false);
}

#[test]
fn stripped() {
    reads(&[Variant::Stripped], (64, 250), false);
}

#[test]
fn pie() {
    reads(&[Variant::Pie], (64, 250), true);
}

#[test]
fn connections_that_were_there_before() {
    reads(&[], (64, 250), true);
}

#[test]
fn nobody_traces_meanwhile() {
    support::gotap::fire("jump");
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let pid = busy.server.pid();
    let mut gotap = Gotap::trace_json(pid, &[READ], &[]);
    gotap.wait_for_lines(1000, SOON);
    for tid in oracle::threads(pid) {
        assert_eq!(oracle::tracer(tid), 0, "thread {tid}");
    }
    // A second gotap is told whose the jumps are.
    let owner = gotap.pid().to_string();
    let second = support::gotap::run(&["trace", READ, "-p", &pid.to_string()]);
    assert!(!second.status.success());
    assert!(second.errors().contains(&owner), "{}", second.errors());
    gotap.stop().must_succeed();
    busy.must_be_clean("after jumps");
}

#[test]
fn killed_with_all_its_jumps_in_place() {
    support::gotap::fire("jump");
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let pid = busy.server.pid();
    for round in 0..5 {
        let mut gotap = Gotap::trace_json(pid, &[READ], &[]);
        gotap.wait_for_lines(500, SOON);
        gotap.signal(Signal::SIGKILL);
        let _ = gotap.finish(SOON);
        // The ring fills up; the server goes on.
        busy.must_go_on("after the kill");
        assert!(busy.progresses(20_000));
        if round % 2 == 0 {
            let cleaned = support::gotap::run(&["clean", "-p", &pid.to_string()]);
            cleaned.must_succeed();
            assert!(cleaned.text().contains("took out"), "{}", cleaned.text());
            busy.must_be_clean("after gotap clean");
        }
    }
    busy.must_be_traceable("after five kills");
    let nothing = support::gotap::run(&["clean", "-p", &pid.to_string()]);
    assert!(nothing.must_succeed().text().contains("nothing"));
}

#[test]
fn a_stalled_reader_loses_records_and_says_how_many() {
    support::gotap::fire("jump");
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let mut load = Target::echo_load(&echo, &addr, &["-conns", "16", "-calls", "20000", "-late"]);
    let gotap = Gotap::trace_json(server.pid(), &[READ], &[]);
    gotap.signal(Signal::SIGSTOP);
    load.tell("go");
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["open"] == 0));
    let reads = server.ask("reads").as_u64().expect("a number");
    gotap.signal(Signal::SIGCONT);
    let outcome = gotap.stop();
    outcome.must_succeed();
    let line = outcome
        .stderr
        .iter()
        .find(|l| l.contains(" records of the ring were read"));
    let line = line.unwrap_or_else(|| panic!("{}", outcome.errors()));
    let numbers: Vec<u64> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect();
    let [read, lost, ..] = numbers[..] else {
        panic!("{line}")
    };
    assert!(lost > 0, "{line}");
    // Two a call, and the goroutines' own ends.
    let ended = outcome.calls().len() as u64;
    assert!(ended <= reads);
    assert!(read + lost >= 2 * reads, "{line}, {reads} reads");
    assert!(server.answers());
}

/// Panics, Goexit, recursion, moved stacks: calls end as with traps.
#[test]
fn how_calls_end() {
    support::gotap::fire("jump");
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let pid = target.pid();
    let before = oracle::footprint(pid);
    let patterns = [
        "main.recurse",
        "main.movedOuter",
        r"^main\.unwound(One|Two|Three)$",
        "main.recoverInFourth",
        r"^main\.exit(Outer|Middle|Inner)$",
        "main.deferChanges",
        "main.deferRecovers",
    ];
    let gotap = Gotap::trace_json(pid, &patterns, &[]);
    for case in [
        "recurse",
        "moved",
        "panic",
        "goexit",
        "defer",
        "deferrecover",
    ] {
        target.tell(case);
        target.answer(case, LATER);
    }
    let outcome = gotap.stop();
    outcome.must_succeed();
    let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
    for call in outcome.calls() {
        let key = |field| scenario::text(&call, field).to_owned();
        *found.entry((key("func"), key("end"))).or_default() += 1;
    }
    let expected = [
        ("main.recurse", "return", 61),
        ("main.movedOuter", "return", 1),
        ("main.unwoundOne", "panic", 1),
        ("main.unwoundTwo", "panic", 1),
        ("main.unwoundThree", "panic", 1),
        ("main.recoverInFourth", "return", 1),
        ("main.exitOuter", "exit", 1),
        ("main.exitMiddle", "exit", 1),
        ("main.exitInner", "exit", 1),
        ("main.deferChanges", "return", 1),
        ("main.deferRecovers", "return", 1),
    ];
    for (func, end, count) in expected {
        let key = (func.to_owned(), end.to_owned());
        // What cannot jump is left out, and named.
        let out = outcome
            .stderr
            .iter()
            .any(|l| l.contains(func) && l.contains("left out"));
        let due = if out { None } else { Some(count) };
        assert_eq!(
            found.get(&key).copied(),
            due,
            "{func}: {found:?}\n{}",
            outcome.errors()
        );
    }
    assert_eq!(outcome.tally().lost, 0);
    oracle::assert_clean(pid, &before, "ends");
}

#[test]
fn a_program_that_gotap_starts() {
    support::gotap::fire("jump");
    let ends = Fixture::build("ends", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("calls.json");
    let out = out.to_str().expect("a path");
    let program = ends.path.to_str().expect("a path");
    let args = [
        "trace",
        "main.main",
        "main.recurse",
        "-o",
        "json",
        "--out",
        out,
        "--fire",
        "jump",
        "--",
        program,
    ];
    // Its stdin is empty: it ends by itself.
    let outcome = support::gotap::run(&args);
    outcome.must_succeed();
    assert!(
        outcome.errors().contains("by jumps"),
        "{}",
        outcome.errors()
    );
    assert!(
        outcome.errors().contains("exited with code 0"),
        "{}",
        outcome.errors()
    );
}

/// In and out again under load, with collections that scan every stack.
#[test]
fn in_and_out_under_load() {
    support::gotap::fire("jump");
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let pid = busy.server.pid();
    let patterns = [
        READ,
        scenario::WRITE,
        "internal/poll.(*FD).Read",
        "syscall.read",
    ];
    for round in 0..20 {
        let mut gotap = Gotap::trace_json(pid, &patterns, &[]);
        busy.server.ask("gc");
        gotap.wait_for_lines(100, SOON);
        let outcome = gotap.stop();
        outcome.must_succeed();
        // What a full ring lost may have been a call's end.
        let lost = outcome.tally().lost;
        for call in outcome.calls() {
            let end = &call["end"];
            let whole = end == "return" || end == "open" || end == "lost" && lost > 0;
            assert!(whole, "round {round}: {call}\n{}", outcome.errors());
        }
        busy.must_be_clean("after a round");
    }
}

/// `main.hot` is two instructions: there is no room for two jumps.
#[test]
fn what_cannot_jump() {
    let threads = Fixture::build("threads", &[]);
    let mut target = Target::start(&threads, &["-threads", "4", "-loops", "1"]);
    target.expect_line("ready ");
    let pid = target.pid().to_string();
    let trace = |how, more: &[&str]| {
        let mut args = vec!["trace", "main.hot", "-n", "10", "--fire", how, "-p", &pid];
        args.extend(more);
        support::gotap::run(&args)
    };
    let refused = trace("jump", &[]);
    assert!(!refused.status.success());
    assert!(
        refused.errors().contains("main.hot"),
        "{}",
        refused.errors()
    );
    let trapped = trace("auto", &[]);
    let said = trapped.must_succeed().errors();
    assert!(said.contains("firing by traps: main.hot"), "{said}");
    assert_eq!(trapped.text().lines().count(), 10);
    for option in [
        &["--max-rate", "1000000000"][..],
        &["--stack", "32"],
        &["--payload=1025"],
    ] {
        let needs = |said: String| said.contains("needs traps");
        let refused = trace("jump", option);
        assert!(!refused.status.success());
        assert!(needs(refused.errors()), "{}", refused.errors());
        // What follows from what was asked for is told to those who want to know.
        let trapped = trace("auto", option);
        let said = trapped.must_succeed().errors();
        assert!(!said.contains("firing by traps"), "{said}");
        assert!(said.contains("(by traps)"), "{said}");
        let told = trace("auto", &[&["-v"][..], option].concat());
        let said = told.must_succeed().errors();
        assert!(needs(said.clone()), "{said}");
    }
    assert!(target.answers());
}

/// Where somebody is in the way at every stop, that function alone traps, or is
/// left out; the others jump.
#[test]
fn who_is_always_busy_falls_back_alone() {
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let pid = busy.server.pid().to_string();
    for fire in ["auto", "jump"] {
        let patterns = ["trace", READ, scenario::WRITE, "-o", "json"];
        let more = ["--fire", fire, "-p", &pid];
        let mut command = support::gotap::command(&[&patterns[..], &more].concat());
        command.env("GOTAP_TEST_BUSY", "0"); // the first
        let mut gotap = Gotap::spawn(command);
        gotap.wait_for_lines(200, SOON);
        assert!(busy.progresses(500));
        let outcome = gotap.stop();
        let said = outcome.must_succeed().errors();
        let count = |func| outcome.calls_of(func).len();
        let both = said.contains(" by jumps, ") && said.contains(" by traps");
        assert_eq!(both, fire == "auto", "{said}");
        assert!(said.contains("threads were stopped 16 times"), "{said}");
        if fire == "auto" {
            assert!(count(READ) > 50 && count(scenario::WRITE) > 50, "{said}");
        } else {
            assert!(said.contains(&format!("{READ}: left out")), "{said}");
            assert_eq!(count(READ), 0);
        }
        for call in outcome.calls() {
            let end = &call["end"];
            assert!(end == "return" || end == "open", "{fire}: {call}");
        }
        busy.must_be_clean(fire);
    }
}
