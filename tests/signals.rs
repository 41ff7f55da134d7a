//! Signals reach the target as if nobody looked; so do its children's ends and
//! its own.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::scenario::number;
use support::{Fixture, Gotap, LATER, SOON, Target, Variant, gotap, oracle, poll, wait_for};

const TICK: &str = "main.tick";

/// The program at work, and gotap on it.
fn traced(patterns: &[&str], workers: usize) -> (Target, Gotap, oracle::Footprint) {
    let fixture = Fixture::build("signals", &[]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready ");
    let before = oracle::footprint(target.pid());
    target.ask(&format!("work {workers}"));
    let mut gotap = Gotap::trace_json(target.pid(), patterns, &[]);
    gotap.wait_for_lines(200, SOON);
    (target, gotap, before)
}

fn ticks(target: &mut Target) -> u64 {
    target.ask("ticks").as_u64().expect("a number")
}

fn must_tick(target: &mut Target, when: &str) {
    let from = ticks(target);
    assert!(
        poll(SOON, || ticks(target) > from + 100),
        "{when}: no ticks"
    );
}

fn leave(mut target: Target, gotap: Gotap, before: &oracle::Footprint, when: &str) {
    gotap.stop().must_succeed();
    must_tick(&mut target, when);
    oracle::assert_clean(target.pid(), before, when);
}

#[test]
fn each_signal_arrives_once() {
    gotap::both_ways(|| {
        let (mut target, gotap, before) = traced(&[TICK], 2);
        let signals = [
            ("TERM", Signal::SIGTERM),
            ("HUP", Signal::SIGHUP),
            ("INT", Signal::SIGINT),
            ("QUIT", Signal::SIGQUIT),
            ("USR1", Signal::SIGUSR1),
            ("USR2", Signal::SIGUSR2),
            ("WINCH", Signal::SIGWINCH),
        ];
        for i in 1..=30 {
            for (name, signal) in signals {
                target.signal(signal);
                // Standard signals do not queue: the next one goes out when this
                // one has been counted.
                let counted = poll(SOON, || target.ask("counts")[name] == i);
                assert!(counted, "SIG{name} #{i}: {}", target.ask("counts"));
            }
        }
        let counts = target.ask("counts");
        for (name, _) in signals {
            assert_eq!(counts[name], 30, "{counts}");
        }
        leave(target, gotap, &before, "after signals");
    });
}

/// Real-time signals have no names, and stops for them pass through too.
#[test]
fn real_time_signals_arrive_once() {
    gotap::both_ways(|| {
        let (mut target, gotap, before) = traced(&[TICK], 2);
        let pid = target.pid().to_string();
        for i in 1..=40 {
            // nix has no names for real-time signals; kill(1) has numbers.
            let sent = std::process::Command::new("kill")
                .args(["-40", &pid])
                .status()
                .expect("run kill");
            assert!(sent.success());
            // The kernel queues them, Go does not: sigsend drops one that it has
            // not handed out yet (runtime/sigqueue.go).
            let counted = poll(SOON, || target.ask("counts")["RT40"] == i);
            assert!(counted, "#{i}: {}", target.ask("counts"));
        }
        leave(target, gotap, &before, "after real-time signals");
    });
}

#[test]
fn the_profiler_keeps_sampling() {
    gotap::both_ways(|| {
        let (mut target, gotap, before) = traced(&[TICK], 2);
        // Samples come with processor time, which others may want too.
        let mut samples = 0;
        let sampled = poll(LATER, || {
            target.tell("profile 500ms");
            samples += number(&target.answer("profile", LATER), "samples");
            samples > 60
        });
        assert!(sampled, "{samples}");
        must_tick(&mut target, "profile");
        leave(target, gotap, &before, "after profiles");
    });
}

/// Only SIGURG stops such a loop: were it lost, no collection would ever end.
#[test]
fn loops_are_preempted() {
    gotap::both_ways(|| {
        let (mut target, gotap, before) = traced(&[TICK, "main.spin"], 2);
        for _ in 0..5 {
            target.tell("preempt 20");
            let done = target.answer("preempt", LATER);
            assert_eq!(done["collections"], 20);
        }
        leave(target, gotap, &before, "after preemption");
    });
}

#[test]
fn stopped_and_continued() {
    gotap::both_ways(|| {
        let (mut target, gotap, before) = traced(&[TICK], 2);
        let pid = target.pid();
        for i in 1..=5 {
            target.signal(Signal::SIGSTOP);
            wait_for("every thread stops", SOON, || {
                all_stopped(pid).then_some(())
            });
            target.signal(Signal::SIGCONT);
            must_tick(&mut target, "SIGCONT");
            assert!(
                poll(SOON, || target.ask("counts")["CONT"] == i),
                "{}",
                target.ask("counts")
            );
        }
        leave(target, gotap, &before, "after SIGCONT");
    });
}

/// Stopped while gotap leaves, stopped while gotap attaches: it stays stopped,
/// and goes on when told to.
#[test]
fn left_while_stopped() {
    gotap::both_ways(|| {
        let (mut target, gotap, before) = traced(&[TICK], 2);
        let pid = target.pid();
        target.signal(Signal::SIGSTOP);
        wait_for("every thread stops", SOON, || {
            all_stopped(pid).then_some(())
        });
        gotap.stop().must_succeed();
        assert_eq!(oracle::tracer(pid), 0);
        wait_for("it stays stopped", SOON, || {
            (oracle::state(pid) == Some('T')).then_some(())
        });
        target.signal(Signal::SIGCONT);
        must_tick(&mut target, "SIGCONT after gotap left");
        oracle::assert_clean(pid, &before, "left while stopped");
    });
}

/// Every thread in a stop of job control (`T`) or of its tracer (`t`).
fn all_stopped(pid: i32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("read /proc/PID/task");
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('T' | 't') | None)
    })
}

#[test]
fn a_thousand_children() {
    gotap::both_ways(|| {
        let (mut target, gotap, before) = traced(&[TICK, "main.runChild"], 2);
        target.tell("children 1000");
        let children = target.answer("children", LATER);
        assert_eq!(children["ok"], 1000, "{children}");
        assert_eq!(children["failed"], 0, "{children}");
        assert!(number(&target.ask("counts"), "CHLD") > 0);
        must_tick(&mut target, "after the children");
        let outcome = gotap.stop();
        let calls = outcome.must_succeed().calls_of("main.runChild");
        assert_eq!(calls.len(), 1000);
        assert!(
            calls
                .iter()
                .all(|c| c["err"].is_null() && c["end"] == "return")
        );
        oracle::assert_clean(target.pid(), &before, "after children");
    });
}

/// The functions around fork and exec are armed too, where that is allowed.
#[test]
fn children_while_their_making_is_traced() {
    gotap::both_ways(|| {
        let patterns = [TICK, r"^os\.", r"^os/exec\.", "syscall.forkExec"];
        let (mut target, gotap, before) = traced(&patterns, 1);
        target.tell("children 100");
        let children = target.answer("children", LATER);
        assert_eq!(children["ok"], 100, "{children}");
        leave(target, gotap, &before, "after children");
    });
}

#[test]
fn it_exits_in_the_middle() {
    gotap::both_ways(|| {
        for variants in [&[][..], &[Variant::Stripped]] {
            let fixture = Fixture::build("signals", variants);
            let mut target = Target::start(&fixture, &[]);
            target.expect_line("ready ");
            target.ask("work 4");
            let mut gotap = Gotap::trace_json(target.pid(), &[TICK], &[]);
            gotap.wait_for_lines(500, SOON);
            target.tell("exit 3");
            let outcome = gotap.finish(SOON);
            assert_eq!(target.wait(SOON).code(), Some(3), "the target's own code");
            assert!(
                outcome
                    .stderr
                    .iter()
                    .any(|l| l.contains("exit") && has_word(l, "3")),
                "the exit code is said: {:?}",
                outcome.stderr
            );
            assert!(outcome.tally().seen >= 500);
            let calls: Vec<Value> = outcome.calls();
            assert!(
                calls
                    .iter()
                    .all(|c| c["end"] == "return" || c["end"] == "exit")
            );
        }
    });
}

#[test]
fn it_is_killed_in_the_middle() {
    gotap::both_ways(|| {
        let (mut target, gotap, _) = traced(&[TICK], 4);
        target.signal(Signal::SIGKILL);
        let outcome = gotap.finish(SOON);
        assert_eq!(target.wait(SOON).signal(), Some(9));
        assert!(
            outcome
                .stderr
                .iter()
                .any(|l| l.contains("SIGKILL") || l.contains("signal 9")),
            "{:?}",
            outcome.stderr
        );
        assert!(outcome.tally().seen >= 200);
    });
}

/// A signal that Go dies of still kills it, with its own report.
#[test]
fn it_crashes_as_it_would() {
    gotap::both_ways(|| {
        let (mut target, gotap, _) = traced(&[TICK], 2);
        target.signal(Signal::SIGABRT);
        let outcome = gotap.finish(SOON);
        let status = target.wait(SOON);
        assert!(
            status.code() == Some(2) || status.signal() == Some(Signal::SIGABRT as i32),
            "{status}"
        );
        assert!(outcome.tally().seen >= 200);
    });
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric())
        .any(|w| w == word)
}
