//! A program that ends before its last calls were looked at: by jumps as much is
//! known of them as by traps.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Fixture, Gotap, SOON, Target, Variant};

const METHODS: &str = r"^net\.\(\*conn\)\.(Read|Write|Close|SetDeadline)$";

/// The errors that the program met in calls of traced methods, each with both ends
/// of its connection, and what gotap says of them.
fn told(variants: &[Variant], word: &str, fire: &str) {
    let gone = Fixture::build("gone", variants);
    let mut target = Target::start(&gone, &[]);
    target.expect_line("ready ");
    let gotap = Gotap::trace_json(target.pid(), &[METHODS], &["--fire", fire]);
    let traps = fire == "trap";
    if !traps {
        // All of it is looked at when the program is gone.
        gotap.signal(Signal::SIGSTOP);
    }
    target.tell(word);
    let met = target.answer("done", SOON);
    if !traps {
        target.wait(SOON);
        gotap.signal(Signal::SIGCONT);
    }
    let outcome = gotap.finish(SOON);
    assert_eq!(outcome.tally().lost, 0, "{}", outcome.errors());
    let calls = outcome.calls();
    assert!(
        calls.iter().all(|call| call["end"] == "return"),
        "{calls:#?}"
    );
    let late: Vec<&Value> = calls.iter().filter(|c| !c["late"].is_null()).collect();
    assert!(late.is_empty(), "{late:#?}");
    let fields = ["func", "err", "local", "remote"];
    let part = |call: &Value| fields.map(|name| call[name].as_str().unwrap_or("").to_owned());
    let failed: Vec<_> = calls
        .iter()
        .filter(|call| !call["err"].is_null())
        .map(part)
        .collect();
    let met: Vec<_> = met.as_array().expect("a list").iter().map(part).collect();
    assert_eq!(failed, met, "{}", outcome.errors());
    assert!(met.len() >= 16);
}

#[test]
fn it_exits() {
    told(&[], "go", "jump");
}

#[test]
fn it_is_killed() {
    told(&[], "kill", "auto");
}

#[test]
fn by_traps() {
    told(&[], "go", "trap");
}

#[test]
fn stripped() {
    told(&[Variant::Stripped], "go", "jump");
}

#[test]
fn position_independent() {
    told(&[Variant::Pie], "kill", "jump");
}
