//! Functions that are called too often, and calls that take too long.

mod support;

use support::scenario::{READ, number, text};
use support::{Fixture, Gotap, LATER, SOON, Target, Variant, oracle, poll};

/// A function given up leaves no site behind and no call that looks unwound.
#[test]
fn given_up_at_a_rate() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let before = oracle::footprint(target.pid());
    let patterns = ["main.recurse", "main.blocksOn"];
    let mut gotap = Gotap::trace_json(target.pid(), &patterns, &["--max-rate", "50"]);
    assert_eq!(target.ask("block")["open"], 5);
    target.tell("deep");
    let said = gotap
        .stderr_line("more than --max-rate", SOON)
        .expect("it says so");
    assert!(
        said.contains("main.recurse") && said.contains("50"),
        "{said}"
    );
    let made = number(&target.answer("deep", LATER), "calls");
    // Calls of what was not given up are still reported.
    assert_eq!(target.ask("unblock")["closed"], 5);
    let again = number(&target.ask("recurse"), "calls");
    let outcome = gotap.stop();
    outcome.must_succeed();
    let recursions = outcome.calls_of("main.recurse");
    assert!(
        recursions.len() as u64 <= made,
        "none after it was given up"
    );
    assert_eq!(again, 61);
    for call in &recursions {
        assert!(call["end"] == "return" || call["end"] == "open", "{call}");
    }
    let others = outcome.calls_of("main.blocksOn");
    assert_eq!(others.len(), 5);
    assert!(others.iter().all(|c| c["end"] == "return"));
    let tally = outcome.tally();
    assert_eq!(tally.seen as usize, recursions.len() + 5);
    assert_eq!(tally.lost, 0);
    oracle::assert_clean(target.pid(), &before, "--max-rate");
}

/// While gotap goes on, the program is as fast as it was.
#[test]
fn what_is_given_up_costs_nothing() {
    let fixture = Fixture::build("threads", &[]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready ");
    let pid = target.pid();
    let mut gotap = Gotap::trace_json(pid, &["main.hot"], &["--max-rate", "100"]);
    gotap
        .stderr_line("more than --max-rate", SOON)
        .expect("it says so");
    let calls = |target: &mut Target| target.ask("calls").as_u64().expect("a number");
    let from = calls(&mut target);
    // With a stop each, that many would take a minute.
    assert!(poll(SOON, || calls(&mut target) > from + 1_000_000));
    // What is left are gopanic, Goexit and recovery, which are always watched.
    let mut left = oracle::code_differences(pid);
    left.retain(|line| !line.starts_with("executable without"));
    assert!(left.len() <= 3, "{left:#?}");
    let outcome = gotap.stop();
    outcome.must_succeed();
    assert!(target.is_alive());
}

/// Told once while it hangs, not told again when tracing stops.
#[test]
fn slow_calls_that_never_end() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let mut gotap = Gotap::trace_json(target.pid(), &["main.blocksOn"], &["--slow", "30ms"]);
    target.ask("block");
    gotap.wait_for_lines(5, SOON);
    let outcome = gotap.stop();
    let calls = outcome.must_succeed().calls();
    assert_eq!(calls.len(), 5, "{calls:#?}");
    assert!(calls.iter().all(|c| c["end"] == "open"));
    assert_eq!((outcome.tally().seen, outcome.tally().open), (5, 5));
    target.ask("unblock");

    // One that ends after all is one call, and no longer open.
    let mut gotap = Gotap::trace_json(target.pid(), &["main.blocksOn"], &["--slow", "30ms"]);
    target.ask("block");
    gotap.wait_for_lines(5, SOON);
    target.ask("unblock");
    let outcome = gotap.stop();
    assert_eq!(outcome.must_succeed().calls().len(), 10);
    assert_eq!((outcome.tally().seen, outcome.tally().open), (5, 0));
}

/// A Read that hangs shows while it hangs, with its connection.
#[test]
fn a_read_that_hangs() {
    let echo = Fixture::build("echo", &[Variant::Stripped]);
    let (server, addr) = Target::echo_server(&echo, &[]);
    let mut gotap = Gotap::trace_json(server.pid(), &[READ], &["--slow", "50ms"]);
    let _idle = Target::echo_load(&echo, &addr, &["-conns", "3", "-gate"]);
    gotap.wait_for_lines(3, SOON);
    let sockets = oracle::tcp_sockets(server.pid());
    let calls = gotap.stop().calls();
    assert_eq!(calls.len(), 3);
    for call in &calls {
        assert_eq!(call["end"], "open");
        assert!(number(call, "dur_ns") >= 50_000_000, "{call}");
        let socket = &sockets[&call["fd"].as_i64().expect("an fd")];
        assert_eq!(text(call, "remote"), socket.remote.to_string());
    }
}

/// One that hung already when gotap came is told of, too.
#[test]
fn a_read_that_hangs_since_before() {
    let echo = Fixture::build("echo", &[Variant::Stripped]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let _idle = Target::echo_load(&echo, &addr, &["-conns", "3", "-gate"]);
    assert!(server.answers());
    let mut gotap = Gotap::trace_json(server.pid(), &[READ], &["--slow", "50ms"]);
    gotap.wait_for_lines(3, SOON);
    let outcome = gotap.stop();
    let calls = outcome.must_succeed().calls();
    assert_eq!(calls.len(), 3, "told once: {calls:#?}");
    assert!(
        calls
            .iter()
            .all(|c| c["end"] == "open" && c["since_attach"] == true)
    );
    assert_eq!((outcome.tally().seen, outcome.tally().open), (3, 3));
}
