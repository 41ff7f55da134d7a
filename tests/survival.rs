//! The target survives whatever ends gotap, under load, and is as it was.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::Signal;
use support::scenario::{Busy, READ, wait_untraced};
use support::{Fixture, Gotap, LATER, SOON, gotap, oracle, poll, wait_for};

/// How often each end is tried.
const TIMES: usize = 50;

/// Calls that are traced before the end comes: the load is running at full.
const CALLS: usize = 200;

fn survive_signal(signal: Signal) {
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    for i in 0..TIMES {
        let when = format!("{signal} #{i}");
        let mut gotap = Gotap::trace_json(busy.server.pid(), &[READ], &[]);
        gotap.wait_for_lines(CALLS, SOON);
        gotap.signal(signal);
        let outcome = gotap.finish(LATER);
        assert_eq!(
            outcome.status.signal(),
            None,
            "{when}: {:?}",
            outcome.stderr
        );
        assert!(outcome.tally().seen >= CALLS as u64, "{when}");
        busy.must_be_clean(&when);
    }
}

#[test]
fn interrupt() {
    gotap::both_ways(|| {
        survive_signal(Signal::SIGINT);
    });
}

#[test]
fn terminate() {
    gotap::both_ways(|| {
        survive_signal(Signal::SIGTERM);
    });
}

#[test]
fn hang_up() {
    gotap::both_ways(|| {
        survive_signal(Signal::SIGHUP);
    });
}

#[test]
fn quit() {
    gotap::both_ways(|| {
        survive_signal(Signal::SIGQUIT);
    });
}

/// `gotap trace … | head -3`
#[test]
fn closed_stdout() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        let pid = busy.server.pid().to_string();
        for i in 0..TIMES {
            let when = format!("closed stdout #{i}");
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let command = gotap::command(&["trace", READ, "-p", &pid]);
            let gotap = Gotap::spawn_into(command, Stdio::from(writer));
            let mut head = BufReader::new(reader);
            for _ in 0..3 {
                let mut line = String::new();
                head.read_line(&mut line).expect("a line");
                assert!(line.contains(READ), "{when}: {line:?}");
            }
            drop(head);
            let outcome = gotap.finish(LATER);
            assert!(outcome.status.success(), "{when}: {:?}", outcome.stderr);
            busy.must_be_clean(&when);
        }
    });
}

/// After SIGKILL the target goes on; the next gotap takes out what is left.
#[test]
fn kill() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        for i in 0..TIMES {
            kill_once(&mut busy, &format!("SIGKILL #{i}"));
        }
    });
}

fn kill_once(busy: &mut Busy, when: &str) {
    let mut gotap = Gotap::trace_json(busy.server.pid(), &[READ], &[]);
    gotap.wait_for_lines(CALLS, SOON);
    gotap.signal(Signal::SIGKILL);
    assert_eq!(gotap.finish(SOON).status.signal(), Some(9), "{when}");
    busy.must_go_on(when);
    busy.must_be_traceable(&format!("{when}, then another gotap"));
}

/// Killed twice in a row, several patterns: leftovers of two gotaps.
#[test]
fn kill_two_in_a_row() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        for i in 0..5 {
            for pattern in [READ, r"net\.\(\*conn\)\."] {
                let mut gotap = Gotap::trace_json(busy.server.pid(), &[pattern], &[]);
                gotap.wait_for_lines(CALLS, SOON);
                gotap.signal(Signal::SIGKILL);
                gotap.finish(SOON);
                busy.must_go_on(&format!("{pattern} #{i}"));
            }
            busy.must_be_traceable(&format!("after two kills #{i}"));
        }
    });
}

/// A position-independent program: nothing lies where the file says.
#[test]
fn kill_pie() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[support::Variant::Pie, support::Variant::Stripped]);
        let mut busy = Busy::start(&echo, &[]);
        for i in 0..10 {
            kill_once(&mut busy, &format!("pie, SIGKILL #{i}"));
        }
    });
}

/// Where memory may not become executable (`MemoryDenyWriteExecute` of
/// systemd, prctl 65), the handler alone has to do.
#[test]
fn memory_deny_write_execute() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &["-mdwe"]);
        for i in 0..10 {
            let when = format!("under MDWE, SIGINT #{i}");
            let mut gotap = Gotap::trace_json(busy.server.pid(), &[READ], &[]);
            gotap.wait_for_lines(CALLS, SOON);
            gotap.stop().must_succeed();
            busy.must_be_clean(&when);
        }
        for i in 0..TIMES {
            kill_once(&mut busy, &format!("under MDWE, SIGKILL #{i}"));
        }
    });
}

/// Moments between two steps. Builds with debug assertions send themselves
/// SIGKILL at the named point, the n-th time they come by.
const OF_A_HIT: &[&str] = &["hit:before-regs", "hit:before-cont", "hit:after-cont"];

const OF_ARMING: &[&str] = &[
    "arm:after-map",
    "arm:after-region",
    "arm:after-sigaction",
    "arm:before-cont",
    "arm:half-sites",
];

/// While a thread of the target makes a system call for gotap: arming takes
/// five, leaving takes five more.
const OF_A_CALL: &[&str] = &["call:before", "call:begun", "call:ended"];

const OF_LEAVING: &[&str] = &[
    "leave:half-sites",
    "leave:after-restore",
    "leave:after-visit",
    "leave:after-sigaction",
];

/// These come only when a thread has just run into a site that is taken out.
const OF_LEAVING_A_SITE: &[&str] = &["settle:in-slot", "settle:consumed"];

fn die_at_points(server_args: &[&str]) {
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, server_args);
    for point in OF_A_HIT {
        for count in [1, 2, 100, 1001] {
            assert!(die_at(&mut busy, point, count), "{point}:{count}");
        }
    }
    for point in OF_ARMING {
        assert!(die_at(&mut busy, point, 1), "{point}");
    }
    for point in OF_A_CALL {
        for count in 1..=10 {
            assert!(die_at(&mut busy, point, count), "{point}:{count}");
        }
    }
    for point in OF_LEAVING {
        assert!(die_at(&mut busy, point, 1), "{point}");
    }
    for point in OF_LEAVING_A_SITE {
        assert!(poll(LATER, || die_at(&mut busy, point, 1)), "{point}");
    }
}

/// Has gotap killed there, or leave when it does not come there. True if it
/// was killed. Either way the target goes on, and can be traced again.
fn die_at(busy: &mut Busy, point: &str, count: u32) -> bool {
    let when = format!("killed at {point}:{count}");
    let pid = busy.server.pid().to_string();
    let patterns = [READ, "net.(*conn).Write"];
    let mut command = gotap::command(&["trace", patterns[0], patterns[1], "-o", "json"]);
    command.args(["-p", &pid]);
    command.env("GOTAP_TEST_DIE_AT", format!("{point}:{count}"));
    let mut gotap = Gotap::spawn(command);
    // Twice the hits that any point waits for.
    let calls = CALLS.max(count as usize);
    if gotap.wait_for_lines_or_end(calls, SOON) {
        gotap.signal(Signal::SIGINT);
    }
    let outcome = gotap.finish(LATER);
    let killed = outcome.status.signal() == Some(9);
    if !killed {
        outcome.must_succeed();
    }
    busy.must_go_on(&when);
    busy.must_be_traceable(&format!("{when}, then another gotap"));
    killed
}

#[test]
fn kill_between_two_steps() {
    support::gotap::fire("trap");
    die_at_points(&[]);
}

#[test]
fn kill_between_two_steps_under_mdwe() {
    support::gotap::fire("trap");
    die_at_points(&["-mdwe"]);
}

/// Ctrl-Z takes the sites out before gotap stops; `fg` puts them back.
#[test]
fn stop_and_continue() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        let pid = busy.server.pid();
        let mut gotap = Gotap::trace_json(pid, &[READ], &[]);
        for i in 0..5 {
            let when = format!("Ctrl-Z #{i}");
            gotap.wait_for_lines(CALLS * (2 * i + 1), SOON);
            gotap.signal(Signal::SIGTSTP);
            wait_for("gotap stops", SOON, || {
                (oracle::state(gotap.pid()) == Some('T')).then_some(())
            });
            // Its page may stay; the program's own code is as in the file.
            let mut left = oracle::code_differences(pid);
            left.retain(|line| !line.starts_with("executable without"));
            assert!(left.is_empty(), "{when}: {left:?}");
            busy.must_go_on(&when);
            gotap.signal(Signal::SIGCONT);
            gotap.wait_for_lines(CALLS * (2 * i + 2), SOON);
        }
        let outcome = gotap.stop();
        outcome.must_succeed();
        busy.must_be_clean("after Ctrl-Z and fg");
    });
}

/// Attaching and leaving as fast as it goes.
#[test]
fn attach_and_leave() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &["-threads", "20"]);
        for i in 0..TIMES {
            let gotap = Gotap::trace_json(busy.server.pid(), &[r"net\.\(\*conn\)\."], &[]);
            gotap.stop().must_succeed();
            busy.must_be_clean(&format!("attach and leave #{i}"));
        }
    });
}

/// `-n` ends it from inside, in the middle of the load.
#[test]
fn a_number_of_calls() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        let pid = busy.server.pid();
        for n in [1, 2, 1000] {
            let count = n.to_string();
            let gotap = Gotap::trace_json(pid, &[READ], &["-n", &count]);
            let outcome = gotap.finish(LATER);
            let calls = outcome.must_succeed().calls();
            let ended = calls.iter().filter(|c| c["end"] != "open").count();
            assert_eq!(ended, n);
            wait_untraced(pid);
            busy.must_be_clean(&format!("-n {n}"));
        }
    });
}

/// Two seconds of text to nobody: stdout closed before anything is written.
#[test]
fn stdout_closed_from_the_start() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        let pid = busy.server.pid().to_string();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let command = gotap::command(&["trace", READ, "-p", &pid]);
        let gotap = Gotap::spawn_into(command, Stdio::from(writer));
        let mut one = [0_u8; 1];
        reader.read_exact(&mut one).expect("a byte");
        drop(reader);
        assert!(gotap.finish(LATER).status.success());
        assert!(poll(SOON, || oracle::tracer(busy.server.pid()) == 0));
        busy.must_be_clean("closed in the middle of a line");
    });
}
