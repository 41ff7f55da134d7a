//! Conditions that the generated code asks: the same calls come through as by
//! traps, and what does not is not written.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::scenario::{Busy, READ, WRITE};
use support::{Fixture, Gotap, LATER, SOON, Target, gotap, oracle, poll};

/// Connections and calls of each; what a call is known by beside its time.
const CONNS: u64 = 8;
const CALLS: u64 = 500;

struct Run {
    /// Function, descriptor, bytes and error of all calls told, counted.
    told: BTreeMap<(String, i64, i64, String), u64>,
    calls: Vec<Value>,
    /// What was read out of the ring.
    ring: u64,
    reads: u64,
    lost: u64,
    /// Of the last line: seen, open, filtered.
    counts: [u64; 3],
}

/// An echo server of the same work each time: descriptors come out the same.
fn run(fire: &str, more: &[&str]) -> Run {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let (conns, calls) = (CONNS.to_string(), CALLS.to_string());
    let args = ["-conns", &conns, "-calls", &calls, "-linger", "-gate"];
    let mut load = Target::echo_load(&echo, &addr, &args);
    let pid = server.pid();
    // Accepted, and parked in their first Read.
    assert!(poll(SOON, || server.ask("counts")["open"] == CONNS));
    assert!(poll(SOON, || oracle::is_idle(pid)));
    let mut args = vec!["--fire", fire];
    args.extend(more);
    let gotap = Gotap::trace_json(pid, &[READ, WRITE], &args);
    load.tell("go");
    load.expect_line_within("finished", LATER);
    load.tell("close");
    load.answer("done", SOON);
    assert!(poll(SOON, || server.ask("counts")["open"] == 0));
    let reads = server.ask("reads").as_u64().expect("a number");
    let outcome = gotap.stop();
    outcome.must_succeed();
    let mut told = BTreeMap::new();
    let calls = outcome.calls();
    for call in &calls {
        let key = (
            call["func"].as_str().expect("a name").to_owned(),
            call["fd"].as_i64().unwrap_or(-1),
            call["n"].as_i64().unwrap_or(-1),
            call["err"].as_str().unwrap_or("").to_owned(),
        );
        *told.entry(key).or_default() += 1;
    }
    let line = outcome
        .stderr
        .iter()
        .find(|l| l.contains(" records of the ring"));
    let ring = line.and_then(|line| {
        let line = line.trim_start_matches("gotap: ");
        line.split(' ').next()?.parse().ok()
    });
    Run {
        told,
        calls,
        ring: ring.unwrap_or(0),
        reads,
        lost: outcome.tally().lost,
        counts: {
            let tally = outcome.tally();
            [tally.seen, tally.open, tally.filtered]
        },
    }
}

/// By traps and by jumps; then the records that jumps took for it.
fn same(condition: &str) -> (Run, u64) {
    let trapped = run("trap", &["--where", condition]);
    let jumped = run("jump", &["--where", condition]);
    assert_eq!(trapped.told, jumped.told, "{condition}");
    assert_eq!((trapped.lost, jumped.lost), (0, 0));
    // What is left out at entries is not counted, and that is said.
    if condition.contains("fd ") || condition.contains("goid ") {
        assert_eq!(trapped.counts[1], jumped.counts[1]);
    } else {
        assert_eq!(trapped.counts, jumped.counts, "{condition}");
    }
    // Reads and writes, of each two hits.
    let all = 4 * jumped.reads;
    (jumped, all)
}

/// A descriptor that the server serves.
fn a_descriptor() -> i64 {
    let all = run("jump", &[]);
    let fd = all.calls.iter().find_map(|call| call["fd"].as_i64());
    fd.expect("calls have descriptors")
}

#[test]
fn one_descriptor() {
    let fd = a_descriptor();
    let (told, all) = same(&format!("fd == {fd}"));
    assert!(
        told.calls.len() as u64 >= 2 * CALLS,
        "fd {fd}: {:?}",
        told.told
    );
    // The entries and RETs of one connection.
    let most = all / CONNS + all / 100 + 4 * CONNS;
    assert!(told.ring <= most, "{} of {all} records", told.ring);
    let (told, _) = same(&format!("fd != {fd} && dur >= 0ms"));
    assert!(told.calls.len() as u64 >= 2 * CALLS * (CONNS - 1));
    let (told, all) = same("fd == 99999");
    assert!(told.calls.is_empty());
    assert!(told.ring < all / 20, "{} of {all} records", told.ring);
}

#[test]
fn only_errors_and_only_ends() {
    let (told, all) = same("err != nil");
    assert_eq!(told.calls.len() as u64, CONNS, "each connection ends once");
    assert!(told.ring < all * 3 / 4, "{} of {all} records", told.ring);
    let (told, _) = same("n == 0 && err != nil");
    assert_eq!(told.calls.len() as u64, CONNS);
    let (told, _) = same("n == 0");
    assert_eq!(told.calls.len() as u64, CONNS);
}

#[test]
fn one_goroutine() {
    let (told, all) = same("goid == 99999999");
    assert!(told.calls.is_empty());
    assert!(told.ring < all / 2, "{} of {all} records", told.ring);
    let (told, _) = same("goid != 99999999");
    assert_eq!(told.calls.len() as u64, 2 * CONNS * CALLS + CONNS);
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let pid = busy.server.pid();
    let some = |more: &[&str]| {
        let mut args = vec!["--fire", "jump", "-n", "20"];
        args.extend(more);
        Gotap::trace_json(pid, &[READ], &args).finish(LATER).calls()
    };
    let goid = some(&[])[0]["goid"].as_u64().expect("a goroutine");
    for call in some(&["--where", &format!("goid == {goid}")]) {
        assert_eq!(call["goid"].as_u64(), Some(goid));
        assert_eq!(call["end"], "return");
    }
    busy.must_be_clean("after gates");
}

/// Return addresses that trampolines wrote down make the stacks that traps read.
#[test]
fn stacks_are_those_of_traps() {
    let stacks = |fire: &str, frames: &str| {
        let told = run(fire, &["-s", frames]);
        let own = told
            .calls
            .iter()
            .filter(|call| call["since_attach"] != true);
        let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
        for call in own {
            let key = format!("{} {}", call["func"], call["stack"]);
            *stacks.entry(key).or_default() += 1;
        }
        stacks
    };
    for frames in ["1", "3", "30"] {
        let (trapped, jumped) = (stacks("trap", frames), stacks("jump", frames));
        assert_eq!(trapped, jumped, "{frames} frames");
        let deep = frames != "30" || trapped.keys().all(|stack| stack.contains("runtime.goexit"));
        assert!(deep, "{trapped:?}");
    }
}

/// The first of each function, and every tenth after it: all with their ends.
#[test]
fn every_tenth() {
    for fire in ["trap", "jump"] {
        let told = run(fire, &["--every-nth", "10"]);
        let count = |func: &str| {
            let calls = told.calls.iter().filter(|call| call["func"] == func);
            calls.filter(|call| call["since_attach"] != true).count() as u64
        };
        // The first Read of each connection was there before.
        let reads = told.reads - CONNS;
        assert_eq!(count(READ), reads.div_ceil(10), "{fire}");
        assert_eq!(count(WRITE), reads.div_ceil(10), "{fire}");
        for call in &told.calls {
            assert_eq!(call["end"], "return", "{fire}: {call}");
        }
        assert_eq!(told.lost, 0);
        // Reads and writes, of each two hits: of one in ten both are written, and what
        // ran before; goroutines tell when they end.
        let all = 4 * told.reads;
        let most = all / 10 + all / 100 + 4 * CONNS;
        assert!(told.ring <= most, "{fire}: {} of {all} records", told.ring);
    }
    let bad = gotap::run(&["trace", READ, "--every-nth", "0", "-p", "1"]);
    assert_eq!(bad.status.code(), Some(2));
}
