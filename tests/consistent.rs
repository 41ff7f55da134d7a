//! `--consistent`: a process that stands still while it is read, and runs on
//! afterwards, whatever becomes of gotap.

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use serde_json::Value;
use support::{Fixture, Gotap, LATER, SOON, Target, Toolchain, Variant, gotap, oracle, poll};

/// A program that spins, with so many threads in system calls.
fn spinning(variants: &[Variant], threads: &str) -> Target {
    spin(&Fixture::build("states", variants), threads)
}

fn spin(fixture: &Fixture, threads: &str) -> Target {
    let mut command = support::program(&fixture.path);
    command.args(["spin", threads]).env("GOMAXPROCS", "8");
    let mut target = Target::spawn(command, &fixture.label);
    target.answer("ready", LATER);
    let wanted = threads.parse().expect("a number");
    let there = poll(LATER, || oracle::threads(target.pid()).len() > wanted);
    assert!(there, "{}: its threads came", target.label);
    target
}

fn look(pid: i32, more: &[&str]) -> Value {
    let pid = pid.to_string();
    let mut args = vec!["goroutines", "-p", &pid, "--consistent", "-o", "json"];
    args.extend(more);
    let outcome = gotap::run(&args);
    outcome.must_succeed();
    outcome.records().remove(0)
}

fn frames(goroutine: &Value) -> Vec<&str> {
    let stack = goroutine["stack"].as_array().expect("a stack");
    stack.iter().filter_map(|f| f["func"].as_str()).collect()
}

/// Nobody traces it, no thread of it is stopped, and it answers.
fn runs_on(target: &mut Target, when: &str) {
    let pid = target.pid();
    let free = poll(SOON, || {
        oracle::tracer(pid) == 0
            && !oracle::thread_states(pid)
                .iter()
                .any(|s| matches!(s, 't' | 'T'))
    });
    assert!(free, "{when}: {:?}", oracle::thread_states(pid));
    assert!(target.answers(), "{when}: it answers");
}

#[test]
fn running_goroutines_have_their_stacks() {
    let variants = [
        &[][..],
        &[Variant::Stripped],
        &[Variant::Pie],
        &[Variant::Cgo],
        &[Variant::Race],
    ];
    let builds = Toolchain::under_test()
        .into_iter()
        .flat_map(|go| variants.map(|v| (go.clone(), v)));
    for (go, variants) in builds {
        let fixture = Fixture::build_with("states", variants, &go);
        let mut target = spin(&fixture, "10");
        let label = target.label.clone();
        let (mut known, mut unknown) = (BTreeMap::new(), 0);
        for _ in 0..12 {
            let found = look(target.pid(), &["--list"]);
            assert!(found["stopped_ns"].as_u64() > Some(0), "{label}");
            // The parked, six that spin, main and the profile's writer.
            // NumGoroutine itself may be one off while collections begin.
            let in_c = u32::from(variants == [Variant::Cgo]);
            assert_eq!(found["total"], 10 + 6 + 2 + in_c, "{label}");
            assert_eq!(found["unreadable"], 0, "{label}");
            let all = found["goroutines"].as_array().expect("a list");
            for one in all {
                let start = one["start"].as_str().expect("a function");
                let Some(kind) = start.strip_prefix("main.spin") else {
                    continue;
                };
                // Of the closures that start the parked ones.
                if kind.starts_with('.') {
                    continue;
                }
                if one["stack_state"] == "running" {
                    unknown += 1;
                    continue;
                }
                // Moving its stack, at that very moment.
                if one["stack_state"] == "unstable" {
                    continue;
                }
                assert_eq!(one["stack_state"], "whole", "{label}: {one}");
                let stack = frames(one);
                assert!(
                    stack.ends_with(&[start, "runtime.goexit"]),
                    "{label}: {stack:?}"
                );
                let inner = &stack[..stack.len() - 2];
                // Names without a dot are assembly's (gcWriteBarrier, racecall).
                let below = [
                    "runtime.",
                    "runtime/",
                    "time.",
                    "syscall.",
                    "internal/",
                    "sync/",
                    "main.raw",
                ];
                let plausible = inner.iter().all(|f| {
                    !f.contains('.')
                        || below.iter().any(|p| f.starts_with(p))
                        || (kind == "Loop" && *f == "main.spinDeep")
                });
                assert!(plausible, "{label}: {stack:?}");
                if kind == "Loop" && inner.contains(&"main.spinDeep") {
                    let depth = inner.iter().filter(|f| **f == "main.spinDeep").count();
                    assert!(depth <= 8, "{label}: {stack:?}");
                }
                if one["status"] == "running" {
                    *known.entry(kind.to_owned()).or_insert(0) += 1;
                }
            }
        }
        println!("{label}: {known:?}, {unknown} unknown");
        let told: i32 = known.values().sum();
        // The race detector's C code does not tell where it was called.
        let most = if variants == [Variant::Race] {
            1000
        } else {
            told / 4
        };
        assert!(
            told > 5 && unknown <= most,
            "{label}: {known:?}, {unknown} unknown"
        );
        runs_on(&mut target, &label);
    }
}

#[test]
fn every_way_to_print_says_how_long() {
    let mut target = spinning(&[], "3");
    let pid = target.pid().to_string();
    let text = gotap::run(&["goroutines", "-p", &pid, "--consistent"]);
    let text = text.must_succeed().text();
    assert!(text.contains("the program was stopped for "), "{text}");
    for how in [
        &["-o", "text2"][..],
        &["-o", "pprof"],
        &["--by", "stack", "--list", "--all-stacks"],
        &["--where", "status == \"running\""],
    ] {
        let mut args = vec!["goroutines", "-p", &pid, "--consistent"];
        args.extend(how);
        let outcome = gotap::run(&args);
        let all = outcome.must_succeed().errors() + &String::from_utf8_lossy(&outcome.stdout);
        assert!(all.contains("the program was stopped for "), "{how:?}");
    }
    let list = look(target.pid(), &["--list"]);
    let all = list["goroutines"].as_array().expect("a list");
    let spinner = all.iter().find(|g| g["start"] == "main.spinLoop");
    let goid = spinner.expect("it is there")["goid"].to_string();
    let mut seen = false;
    for _ in 0..50 {
        let outcome = gotap::run(&["stack", &goid, "-p", &pid, "--consistent"]);
        let said = outcome.must_succeed().errors();
        assert!(said.contains("the program was stopped for "), "{said}");
        seen |= outcome.text().contains("main.spinLoop()\n");
        if seen {
            break;
        }
    }
    assert!(seen, "the stack of one that runs");
    let mut variables = false;
    for _ in 0..50 {
        let args = ["stack", &goid, "-p", &pid, "--consistent", "--full"];
        let outcome = gotap::run(&args);
        variables |= outcome.must_succeed().text().contains("depth = ");
        if variables {
            break;
        }
    }
    assert!(variables, "the variables of one that runs");
    runs_on(&mut target, "after all");
}

#[test]
fn whatever_ends_gotap_the_process_runs_on() {
    let mut target = spinning(&[Variant::Stripped], "50");
    let pid = target.pid().to_string();
    for point in ["still:asked", "still:stopped", "still:release"] {
        let mut command = gotap::command(&["goroutines", "-p", &pid, "--consistent"]);
        command.env("GOTAP_TEST_DIE_AT", format!("{point}:1"));
        let outcome = gotap::run_command(command);
        assert_eq!(outcome.status.signal(), Some(9), "{point}");
        runs_on(&mut target, point);
    }
    // At any moment, by a signal from outside.
    for signal in [
        nix::sys::signal::Signal::SIGINT,
        nix::sys::signal::Signal::SIGKILL,
        nix::sys::signal::Signal::SIGTERM,
    ] {
        let args = ["goroutines", "-p", &pid, "--consistent", "--every", "1ms"];
        let mut gotap = Gotap::spawn(gotap::command(&args));
        gotap.wait_for_lines(200, LATER);
        gotap.signal(signal);
        gotap.finish(SOON);
        runs_on(&mut target, signal.as_str());
    }
}

#[test]
fn many_threads_stand_still_and_go_on() {
    let mut target = spinning(&[], "1000");
    for _ in 0..3 {
        let found = look(target.pid(), &["--list"]);
        assert_eq!(found["total"], 1000 + 6 + 2);
        let all = found["goroutines"].as_array().expect("a list");
        let parked = all
            .iter()
            .filter(|g| frames(g).contains(&"main.parkSyscall"));
        let mut reads = 0;
        for one in parked {
            assert_eq!(one["status"], "syscall");
            assert_eq!(one["blocked_on"]["syscall"], 0, "read(2)");
            assert!(one["fd"].as_i64() > Some(2) && one["network"] == "pipe");
            reads += 1;
        }
        assert_eq!(reads, 1000);
    }
    runs_on(&mut target, "a thousand threads");
}

#[test]
fn counts_hold_while_goroutines_come_and_go() {
    let fixture = Fixture::build("states", &[]);
    let mut target = Target::start(&fixture, &["churn"]);
    target.answer("ready", LATER);
    let busy = poll(LATER, || {
        target.ask("bracket")["ended"].as_i64().unwrap_or(0) > 1000
    });
    assert!(busy, "the program makes goroutines");
    for _ in 0..30 {
        let found = look(target.pid(), &["--list"]);
        let all = found["goroutines"].as_array().expect("a list");
        assert_eq!(found["total"], all.len());
        // Nothing moves: every stack is read, and each has its beginning.
        for one in all {
            match one["stack_state"].as_str() {
                Some("whole") => {
                    let last = *frames(one).last().expect("a frame");
                    assert!(
                        matches!(
                            last,
                            "runtime.goexit" | "runtime.rt0_go" | "runtime.mstart" | "runtime.main"
                        ),
                        "{one}"
                    );
                }
                state => assert_ne!(one["status"], "waiting", "{state:?}: {one}"),
            }
        }
    }
    runs_on(&mut target, "churn");
}

#[test]
fn one_that_is_stopped_already_stays_so() {
    let mut target = spinning(&[], "3");
    target.signal(nix::sys::signal::Signal::SIGSTOP);
    let pid = target.pid();
    let stopped = || poll(SOON, || oracle::state(pid) == Some('T'));
    assert!(stopped());
    let found = look(pid, &["--list"]);
    assert!(found["total"].as_u64() > Some(5));
    assert!(stopped(), "it is as it was");
    target.signal(nix::sys::signal::Signal::SIGCONT);
    runs_on(&mut target, "continued");
}
