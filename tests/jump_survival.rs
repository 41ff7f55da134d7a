//! Jumps whose gotap is killed: the target goes on at full speed, nobody traces
//! it, and what was left is found and taken out. By jumps alone, and by jumps
//! beside traps.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::scenario::{Busy, READ, WRITE};
use support::{Fixture, Gotap, LATER, SOON, gotap, oracle, poll};

/// How often gotap is killed.
const TIMES: u32 = 100;

/// Calls that are traced before the end comes, where it comes late.
const CALLS: usize = 100;

/// The last of these functions cannot jump.
const SOME_TRAP: [&str; 3] = [READ, WRITE, "net.(*conn).LocalAddr"];

fn trace(pid: &str, fire: &str, patterns: &[&str]) -> std::process::Command {
    let mut args = vec!["trace"];
    args.extend(patterns);
    args.extend(["-o", "json", "--fire", fire, "-p", pid]);
    gotap::command(&args)
}

/// Nobody stops its threads any more, and it serves.
fn must_run_free(busy: &mut Busy, when: &str) {
    let pid = busy.server.pid();
    assert!(
        poll(SOON, || oracle::threads(pid)
            .iter()
            .all(|tid| oracle::tracer(*tid) == 0)),
        "{when}: somebody traces it"
    );
    busy.must_go_on(when);
}

#[test]
fn killed_a_hundred_times() {
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let pid = busy.server.pid().to_string();
    for i in 0..TIMES {
        let fire = if i % 3 == 2 { "auto" } else { "jump" };
        let when = format!("{fire}, killed for the {i}th time");
        let mut gotap = Gotap::spawn(trace(&pid, fire, &SOME_TRAP));
        if i % 2 == 0 {
            gotap.wait_for_lines(CALLS, SOON);
        } else {
            // Somewhere on its way in.
            std::thread::sleep(Duration::from_millis(u64::from(i * 37 % 400)));
        }
        gotap.signal(Signal::SIGKILL);
        let _ = gotap.finish(SOON);
        must_run_free(&mut busy, &when);
        if i % 10 == 3 {
            gotap::run(&["clean", "-p", &pid]).must_succeed();
            busy.must_be_clean(&when);
        }
    }
    busy.must_be_traceable("in the end");
    let nothing = gotap::run(&["clean", "-p", &pid]);
    assert!(nothing.must_succeed().text().contains("nothing"));
}

/// Where gotap can be killed on its way in, and how often it comes by there.
const GOING_IN: [(&str, &[u32]); 8] = [
    ("jump:mapped", &[1]),
    ("jump:own", &[1]),
    ("jump:memfd", &[1]),
    ("jump:ring", &[1]),
    ("jump:stopped", &[1]),
    ("jump:half", &[1, 2, 5]),
    ("jump:written", &[1]),
    ("jump:in", &[1]),
];
const GOING_OUT: [(&str, &[u32]); 3] = [
    ("jump:half-out", &[1, 4]),
    ("jump:restored", &[1]),
    ("jump:ring-unmapped", &[1]),
];

fn die_at(busy: &mut Busy, fire: &str, point: &str, count: u32) {
    let when = format!("{fire}, killed at {point}:{count}");
    let pid = busy.server.pid().to_string();
    let mut command = trace(&pid, fire, &SOME_TRAP);
    command.env("GOTAP_TEST_DIE_AT", format!("{point}:{count}"));
    let mut gotap = Gotap::spawn(command);
    if gotap.wait_for_lines_or_end(CALLS, SOON) {
        gotap.signal(Signal::SIGINT);
    }
    let outcome = gotap.finish(LATER);
    assert_eq!(
        outcome.status.signal(),
        Some(9),
        "{when}: {}",
        outcome.errors()
    );
    must_run_free(busy, &when);
    if count % 2 == 1 {
        gotap::run(&["clean", "-p", &pid]).must_succeed();
        busy.must_be_clean(&when);
    } else {
        busy.must_be_traceable(&format!("{when}, then another gotap"));
    }
}

fn die_at_all(fire: &str) {
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    for (point, counts) in GOING_IN.iter().chain(&GOING_OUT) {
        for count in *counts {
            die_at(&mut busy, fire, point, *count);
        }
    }
}

#[test]
fn killed_between_two_steps() {
    die_at_all("jump");
}

#[test]
fn killed_between_two_steps_beside_traps() {
    die_at_all("auto");
}
