//! The same work, traced by traps and by jumps, gives the same records: all but
//! their order, their times, and what is another in every process.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::scenario::{READ, WRITE};
use support::{Fixture, Gotap, LATER, Outcome, SOON, Target, poll};

/// What differs between two runs of one program.
/// The mark of what jumps read late is the one thing that they have besides.
const OF_ITS_RUN: [&str; 9] = [
    "id", "parent", "time", "dur_ns", "goid", "tid", "local", "remote", "late",
];

/// Addresses and ports are of one run, too.
fn masked(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("0x") => "0x…".clone_into(text),
        Value::String(text) if text.contains("127.0.0.1:") => {
            let port = |c: char| c.is_ascii_digit();
            let parts: Vec<String> = text
                .split("127.0.0.1:")
                .map(|part| part.trim_start_matches(port).to_owned())
                .collect();
            *text = parts.join("127.0.0.1:…");
        }
        Value::Array(all) => all.iter_mut().for_each(masked),
        Value::Object(all) => all.values_mut().for_each(masked),
        _ => {}
    }
}

/// Whether these have returned when gotap leaves is chance: they answer.
fn of_its_end(call: &Value) -> bool {
    call["func"] == "main.say" || call["func"] == "main.run"
}

/// How often there is which record.
fn records(outcome: &Outcome) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for mut call in outcome.calls() {
        // Of a pipe, what it is told to do: in pieces, and how many is chance; so is
        // which of them is under way in the beginning. What is so at the end is
        // chance, too.
        let unseen = call["since_attach"] == true && call["fd"].is_null();
        if call["fd"] == 0 || unseen || call["end"] == "open" || of_its_end(&call) {
            continue;
        }
        let fields = call.as_object_mut().expect("an object");
        for name in OF_ITS_RUN {
            fields.remove(name);
        }
        if call["func"] == "main.movedOuter" {
            call["results"].take(); // addresses of its stack
        }
        masked(&mut call);
        *found.entry(call.to_string()).or_default() += 1;
    }
    found
}

fn must_be_same(of: impl Fn(&str) -> Outcome, ways: [&str; 2]) {
    let [one, other] = ways.map(|fire| {
        let outcome = of(fire);
        outcome.must_succeed();
        assert_eq!(outcome.tally().lost, 0, "{fire}: {}", outcome.errors());
        let jumps = outcome.errors().contains("by jumps");
        assert_eq!(jumps, fire != "trap", "{fire}: {}", outcome.errors());
        records(&outcome)
    });
    let only = |a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>| -> Vec<String> {
        let differ = a.iter().filter(|(k, n)| b.get(*k) != Some(n));
        differ.map(|(k, n)| format!("{n} × {k}")).collect()
    };
    assert!(
        one == other,
        "by {} only: {:#?}\nby {} only: {:#?}",
        ways[0],
        only(&one, &other),
        ways[1],
        only(&other, &one)
    );
    assert!(!one.is_empty());
}

fn echo(fire: &str) -> Outcome {
    echo_with(fire, &[])
}

fn echo_with(fire: &str, more: &[&str]) -> Outcome {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let args = ["-conns", "8", "-calls", "200", "-late"];
    let mut load = Target::echo_load(&echo, &addr, &args);
    let patterns = [
        READ,
        WRITE,
        "net.(*conn).Close",
        "net.(*netFD).Read",
        "net.(*netFD).Write",
        "internal/poll.(*FD).Read",
    ];
    let mut args = vec!["--fire", fire];
    args.extend(more);
    let gotap = Gotap::trace_json(server.pid(), &patterns, &args);
    load.tell("go");
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["open"] == 0));
    gotap.stop()
}

#[test]
fn of_a_server() {
    must_be_same(echo, ["trap", "jump"]);
}

/// What was read and what was written, byte by byte.
#[test]
fn of_a_servers_payloads() {
    for most in ["64", "3"] {
        let with = |fire: &str| {
            let outcome = echo_with(fire, &[&format!("--payload={most}")]);
            let reads = outcome.calls();
            let mut reads = reads.iter().filter(|call| call["func"] == READ);
            let shown = |call: &Value| call["payload"].as_str().is_some_and(|p| !p.is_empty());
            assert!(reads.any(shown), "{fire}");
            outcome
        };
        must_be_same(with, ["trap", "jump"]);
    }
}

fn ends(fire: &str) -> Outcome {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let patterns = [r"^main\.[a-z]\w*$", r"^main\.\(\*inner\)\.Add$"];
    let more = ["--fire", fire];
    let gotap = Gotap::trace_json(target.pid(), &patterns, &more);
    for case in [
        "recurse",
        "moved",
        "panic",
        "goexit",
        "defer",
        "deferrecover",
        "mutual",
        "tail",
        "values",
    ] {
        target.tell(case);
        target.answer(case, LATER);
    }
    gotap.stop()
}

/// Arguments and results of all kinds; how calls end.
#[test]
fn of_calls_that_end_in_all_ways() {
    must_be_same(ends, ["trap", "auto"]);
}
