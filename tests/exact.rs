//! Every call is counted once: records against the server's own count.

mod support;

use std::collections::BTreeMap;

use support::scenario::{self, READ, WRITE, exact_reads, number, text};
use support::{Fixture, Gotap, LATER, SOON, Target, Variant, gotap, oracle, poll};

/// Connections and messages each: 102,400 Reads that bring data, 64 ends.
const FULL: (usize, usize) = (64, 1600);
/// For builds that differ in little: 16,000 and 64.
const SHORT: (usize, usize) = (64, 250);

fn reads(variants: &[Variant], (conns, calls): (usize, usize), connected: bool) {
    let echo = Fixture::build("echo", variants);
    gotap::both_ways(|| exact_reads(&echo, conns, calls, connected));
}

#[test]
fn default_build() {
    reads(&[], FULL, false);
}

#[test]
fn stripped() {
    reads(&[Variant::Stripped], FULL, false);
}

#[test]
fn pie() {
    reads(&[Variant::Pie], SHORT, false);
}

#[test]
fn stripped_pie_trimpath() {
    reads(
        &[Variant::Stripped, Variant::Pie, Variant::Trimpath],
        SHORT,
        true,
    );
}

#[test]
fn cgo_linked_externally() {
    reads(&[Variant::Cgo], SHORT, false);
}

#[test]
fn not_optimised() {
    reads(&[Variant::NoOpt], SHORT, false);
}

#[test]
fn race_detector() {
    reads(&[Variant::Race], (16, 250), false);
}

#[test]
fn connections_that_were_there_before() {
    reads(&[], SHORT, true);
    reads(&[Variant::Stripped], SHORT, true);
}

/// Reads and writes, several patterns at once, with garbage collections.
#[test]
fn reads_and_writes_of_a_busy_server() {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let mut load = Target::echo_load(&echo, &addr, &["-conns", "16", "-calls", "500", "-late"]);
    let gotap = Gotap::trace_json(server.pid(), &[READ, WRITE, "net.(*conn).Close"], &[]);
    load.tell("go");
    for _ in 0..20 {
        server.ask("gc");
    }
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["total"]["closes"] == 16));
    let counts = server.ask("counts");
    let outcome = gotap.stop();
    outcome.must_succeed();
    let (reads, writes) = (outcome.calls_of(READ), outcome.calls_of(WRITE));
    let total = &counts["total"];
    assert_eq!(reads.len() as u64, number(total, "reads"));
    assert_eq!(writes.len() as u64, number(total, "writes"));
    assert_eq!(scenario::sum(&reads, "n"), number(total, "read_bytes"));
    assert_eq!(scenario::sum(&writes, "n"), number(total, "write_bytes"));
    let closes = outcome.calls_of("net.(*conn).Close");
    assert_eq!(closes.len() as u64, number(total, "closes"));
    assert_eq!(outcome.tally().lost, 0);
    assert!(server.answers());
}

#[test]
fn unix_sockets() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("echo.sock");
    let path = path.to_str().expect("a path");
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &["-network", "unix", "-addr", path]);
    let mut load = Target::echo_load(
        &echo,
        &addr,
        &["-network", "unix", "-conns", "8", "-calls", "100", "-late"],
    );
    let gotap = Gotap::trace_json(server.pid(), &[READ], &[]);
    load.tell("go");
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["total"]["closes"] == 8));
    let counts = server.ask("counts");
    let outcome = gotap.stop();
    let calls = outcome.must_succeed().calls();
    assert_eq!(calls.len() as u64, number(&counts["total"], "reads"));
    assert_eq!(
        scenario::sum(&calls, "n"),
        number(&counts["total"], "read_bytes")
    );
    let fds: BTreeMap<i64, usize> = calls.iter().fold(BTreeMap::new(), |mut fds, call| {
        *fds.entry(call["fd"].as_i64().expect("an fd")).or_default() += 1;
        fds
    });
    assert_eq!(fds.len(), 8);
    for call in &calls {
        assert_eq!(text(call, "network"), "unix");
        assert_eq!(text(call, "local"), path);
    }
}

#[test]
fn datagrams() {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &["-network", "udp"]);
    let before = oracle::footprint(server.pid());
    let mut load = Target::echo_load(
        &echo,
        &addr,
        &["-network", "udp", "-conns", "4", "-calls", "200", "-late"],
    );
    // The socket's first ReadFrom is parked when gotap attaches.
    let gotap = Gotap::trace_json(server.pid(), &["net.(*UDPConn).ReadFrom"], &[]);
    load.tell("go");
    let flows = load.answer("done", LATER);
    let counts = server.ask("counts");
    let outcome = gotap.stop();
    let mut calls = outcome.must_succeed().calls();
    calls.retain(|c| c["end"] != "open");
    // The socket is connected to nobody; each datagram comes from somebody.
    for flow in flows.as_array().expect("flows") {
        let from = calls.iter().filter(|c| c["remote"] == flow["local"]);
        assert_eq!(from.count(), 200, "{flow}");
    }
    assert_eq!(calls.len() as u64, number(&counts["total"], "reads"));
    assert_eq!(
        scenario::sum(&calls, "n"),
        number(&counts["total"], "read_bytes")
    );
    let fd = counts["conns"][0]["fd"].as_i64();
    for call in &calls {
        assert_eq!(call["fd"].as_i64(), fd, "{call}");
        assert_eq!(text(call, "network"), "udp");
    }
    oracle::assert_clean(server.pid(), &before, "datagrams");
}

/// With more threads than gotap asks about one by one, hit by several at once.
#[test]
fn two_hundred_threads() {
    let threads = Fixture::build("threads", &[]);
    let mut target = Target::start(&threads, &["-threads", "200", "-loops", "4"]);
    target.expect_line("ready ");
    let before = at_rest(&mut target);
    let gotap = Gotap::trace_json(target.pid(), &["main.hot"], &[]);
    target.ask("go");
    assert!(poll(LATER, || calls(&mut target) >= before + 20_000));
    let after = at_rest(&mut target);
    let outcome = gotap.stop();
    outcome.must_succeed();
    let records = outcome.calls();
    assert_eq!(records.len() as u64, after - before);
    assert!(records.iter().all(|r| r["end"] == "return"));
    assert_eq!(outcome.tally().lost, 0);
}

fn calls(target: &mut Target) -> u64 {
    target.ask("calls").as_u64().expect("a number")
}

/// Its count once all its loops have noticed that they are to pause.
fn at_rest(target: &mut Target) -> u64 {
    target.ask("pause");
    let mut seen = vec![calls(target)];
    assert!(poll(LATER, || {
        seen.push(calls(target));
        seen.len() > 20 && seen.iter().rev().take(20).all(|c| seen.last() == Some(c))
    }));
    seen.pop().expect("asked")
}
