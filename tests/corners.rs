//! What a tracer seldom meets: another program in the target's place, children
//! that share its memory or wait in vfork, a first thread that is gone, threads
//! that come and go while it attaches and leaves, filtered system calls.

mod support;

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::scenario::wait_untraced;
use support::{Fixture, Gotap, SOON, Target, Toolchain, Variant, gotap, oracle, poll, wait_for};

const TICK: &str = "main.tick";

/// Longer than leaving takes on a loaded machine, shorter than gotap waits for
/// a thread that does not stop.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(4);

fn corners(variants: &[Variant]) -> (Target, oracle::Footprint) {
    // Some processors more than workers: whoever answers does not wait for them.
    let target = with_processors("8", variants);
    let before = oracle::footprint(target.pid());
    (target, before)
}

fn with_processors(count: &str, variants: &[Variant]) -> Target {
    let fixture = Fixture::build("corners", variants);
    let mut command = support::program(&fixture.path);
    command.env("GOMAXPROCS", count);
    let mut target = Target::spawn(command, &fixture.label);
    target.expect_line("ready ");
    target
}

/// At work, and traced.
fn traced(
    variants: &[Variant],
    patterns: &[&str],
    more: &[&str],
) -> (Target, Gotap, oracle::Footprint) {
    let (mut target, before) = corners(variants);
    target.ask("work 2");
    let mut gotap = Gotap::trace_json(target.pid(), patterns, more);
    gotap.wait_for_lines(200, SOON);
    (target, gotap, before)
}

fn must_work(target: &mut Target, when: &str) {
    let from = number_of(target, "least");
    assert!(
        poll(SOON, || number_of(target, "least") > from + 10),
        "{when}: a worker stands still"
    );
}

fn number_of(target: &mut Target, word: &str) -> u64 {
    target.ask(word).as_u64().expect("a number")
}

fn leave(mut target: Target, gotap: Gotap, before: &oracle::Footprint, when: &str) {
    gotap.stop().must_succeed();
    must_work(&mut target, when);
    oracle::assert_clean(target.pid(), before, when);
}

fn stop_whole(pid: i32) {
    support::target::send(pid, Signal::SIGSTOP);
    wait_for("it stops", SOON, || {
        matches!(oracle::state(pid), Some('T' | 't')).then_some(())
    });
}

/// Ticks as gotap cannot be deceived about: the target stands still.
fn must_stand(pid: i32, when: &str) {
    let spent = || oracle::cpu_ticks(pid);
    let from = spent();
    std::thread::sleep(support::scenario::GLANCE * 5);
    assert_eq!(spent(), from, "{when}: it runs although it was stopped");
    assert!(
        matches!(oracle::state(pid), Some('T' | 't')),
        "{when}: {:?}",
        oracle::state(pid)
    );
}

#[test]
fn stopped_before_gotap_comes() {
    let (mut target, before) = corners(&[]);
    let pid = target.pid();
    target.ask("work 2");
    for i in 0..5 {
        stop_whole(pid);
        let mut gotap = Gotap::trace_json(pid, &[TICK], &[]);
        must_stand(pid, "while gotap waits");
        if i % 2 == 0 {
            support::target::send(pid, Signal::SIGCONT);
            gotap.wait_for_lines(200, SOON);
            gotap.stop().must_succeed();
        } else {
            gotap.stop().must_succeed();
            must_stand(pid, "after gotap");
            support::target::send(pid, Signal::SIGCONT);
        }
        must_work(&mut target, "SIGCONT");
        oracle::assert_clean(pid, &before, "stopped before");
    }
}

/// What a killed gotap left is taken out while the whole process is stopped.
#[test]
fn cleaned_while_stopped() {
    let (mut target, mut gotap, before) = traced(&[], &[TICK], &[]);
    let pid = target.pid();
    for i in 0..3 {
        gotap.signal(Signal::SIGKILL);
        gotap.finish(SOON);
        must_work(&mut target, "after SIGKILL");
        stop_whole(pid);
        gotap = Gotap::trace_json(pid, &[TICK], &[]);
        must_stand(pid, &format!("cleaned #{i}"));
        support::target::send(pid, Signal::SIGCONT);
        gotap.wait_for_lines(200, SOON);
    }
    leave(target, gotap, &before, "cleaned while stopped");
}

#[test]
fn it_runs_another_program() {
    let (mut target, gotap, _) = traced(&[], &[TICK], &[]);
    let pid = target.pid();
    target.tell("again");
    let began = Instant::now();
    target.expect_line("ready ");
    let outcome = gotap.finish(SOON);
    outcome.must_succeed();
    assert!(began.elapsed() < AT_ONCE, "gotap holds the new program up");
    assert!(outcome.errors().contains("exec"), "{}", outcome.errors());
    assert!(target.answers());
    let left = oracle::code_differences(pid);
    assert!(left.is_empty(), "{left:?}");
    // And the new one can be traced.
    target.ask("work 2");
    let before = oracle::footprint(pid);
    let mut gotap = Gotap::trace_json(pid, &[TICK], &[]);
    gotap.wait_for_lines(200, SOON);
    leave(target, gotap, &before, "after exec");
}

/// Exec at any moment of attaching and leaving.
#[test]
fn it_runs_another_program_while_gotap_comes_and_goes() {
    let (mut target, _) = corners(&[]);
    let pid = target.pid();
    for i in 0..30_u64 {
        target.ask("work 2");
        let text = pid.to_string();
        let command = gotap::command(&["trace", r"^main\.", "-o", "json", "-p", &text]);
        let gotap = Gotap::spawn(command);
        if i % 3 == 0 {
            gotap.signal(Signal::SIGINT);
        }
        std::thread::sleep(std::time::Duration::from_millis(i * 2));
        target.tell("again");
        if i % 3 == 1 {
            gotap.signal(Signal::SIGINT);
        }
        target.expect_line("ready ");
        let end = Instant::now();
        gotap.signal(Signal::SIGINT);
        gotap.finish(SOON);
        assert!(end.elapsed() < AT_ONCE, "#{i}: gotap was held up");
        assert!(target.answers(), "#{i}");
        wait_untraced(pid);
        let left = oracle::code_differences(pid);
        assert!(left.is_empty(), "#{i}: {left:?}");
    }
}

/// Exec right then: gotap is held up at one of its steps until the exec waits
/// for it (`de_thread` in the kernel's fs/exec.c), and then goes on.
#[test]
fn it_runs_another_program_right_then() {
    let (mut target, _) = corners(&[Variant::Cgo]);
    let calls = ["call:before", "call:continued", "call:begun", "call:ended"];
    // The third sets the action; from the sixth on they are those of leaving.
    let calls = calls.iter().flat_map(|p| [1, 3, 6, 10].map(|n| (*p, n)));
    let steps = [
        ("arm:after-map", 1),
        ("arm:before-cont", 1),
        ("arm:half-sites", 2),
        ("leave:half-sites", 2),
        ("leave:after-visit", 1),
        ("leave:after-sigaction", 1),
    ];
    for (point, count) in calls.chain(steps) {
        exec_at(&mut target, point, count);
    }
}

fn exec_at(target: &mut Target, point: &str, count: u32) {
    let at = format!("{point}:{count}");
    let pid = target.pid();
    target.ask("work 2");
    let room = tempfile::tempdir().expect("a directory");
    let (held, go) = (room.path().join("held"), room.path().join("go"));
    assert_eq!(target.ask(&format!("execwhen {}", go.display())), 0);
    let text = pid.to_string();
    let mut command = gotap::command(&["trace", TICK, "-n", "20", "-p", &text]);
    command
        .env("GOTAP_TEST_DIE_AT", &at)
        .env("GOTAP_TEST_HOLD", &held);
    let gotap = Gotap::spawn(command);
    assert!(poll(SOON, || held.exists()), "{at}: never reached");
    std::fs::write(&go, "").expect("a file");
    // The exec waits for gotap, or its thread does, in a stop of its own.
    let waits = || {
        let threads = oracle::named_thread_states(pid);
        threads.iter().any(|(_, state)| *state == 'Z') || threads.contains(&("exec".into(), 't'))
    };
    assert!(
        poll(SOON, waits),
        "{at}: {:?}",
        oracle::named_thread_states(pid)
    );
    std::fs::remove_file(&held).expect("gotap has written it");
    let end = Instant::now();
    target.expect_line("ready ");
    let outcome = gotap.finish(SOON);
    println!("{at}: {}", outcome.errors());
    assert!(end.elapsed() < AT_ONCE, "{at}: gotap was held up");
    assert!(target.answers(), "{at}");
    wait_untraced(pid);
    let left = oracle::code_differences(pid);
    assert!(left.is_empty(), "{at}: {left:?}");
}

/// A forked child gets clean code of its own.
#[test]
fn a_fork_without_exec() {
    let (mut target, gotap, before) = traced(&[], &[TICK, "main.childTick"], &[]);
    for i in 0..10 {
        let child = target.ask("fork").as_i64().expect("a pid");
        let child = i32::try_from(child).expect("a pid");
        assert!(child > 0);
        wait_untraced(child);
        let left = oracle::code_differences(child);
        assert!(left.is_empty(), "#{i}: {left:?}");
        let handlers = oracle::status_lines(child, &["SigCgt"]);
        assert_eq!(handlers, oracle::status_lines(target.pid(), &["SigCgt"]));
        assert_eq!(target.ask("reap"), 7, "#{i}: the child's work");
    }
    leave(target, gotap, &before, "after forks");
}

/// A child that waits while gotap leaves is clean all the same.
#[test]
fn a_fork_while_gotap_leaves() {
    let (mut target, before) = corners(&[]);
    let pid = target.pid();
    target.ask("work 2");
    for i in 0..30 {
        let mut gotap = Gotap::trace_json(pid, &[TICK, "main.childTick"], &[]);
        gotap.wait_for_lines(50, SOON);
        target.tell("fork");
        let outcome = gotap.stop();
        outcome.must_succeed();
        let child = target.answer("fork", SOON).as_i64().expect("a pid");
        let child = i32::try_from(child).expect("a pid");
        wait_untraced(child);
        let left = oracle::code_differences(child);
        assert!(left.is_empty(), "#{i}: {left:?}");
        assert_eq!(target.ask("reap"), 7, "#{i}");
        oracle::assert_clean(pid, &before, "after a fork");
    }
}

/// clone(2) with `CLONE_VM` and SIGCHLD looks like a fork to a tracer: cleaning
/// the child's copy would clean the target's own code.
#[test]
fn a_child_that_shares_memory() {
    let (mut target, mut gotap, before) = traced(&[Variant::Cgo], &[TICK], &[]);
    let pid = target.pid();
    for i in 1..=3 {
        assert!(target.ask("share").as_i64() > Some(0));
        must_work(&mut target, "with a child that shares its memory");
        gotap.wait_for_lines(200 * (i + 1), SOON);
        assert_eq!(target.ask("unshare"), 3);
    }
    assert!(target.ask("share").as_i64() > Some(0));
    gotap.stop().must_succeed();
    oracle::assert_clean(pid, &before, "with a child that shares its memory");
    assert_eq!(target.ask("unshare"), 3);
    must_work(&mut target, "after the child");
}

/// A thread that waits in vfork cannot be stopped before its child runs another
/// program or ends: leaving does what it can, and says so.
#[test]
fn a_vfork_child_that_stays() {
    let (mut target, gotap, before) = traced(&[Variant::Cgo], &[TICK], &[]);
    let pid = target.pid();
    target.ask("vfork");
    wait_for("a thread sleeps in vfork", SOON, || {
        oracle::thread_states(pid).contains(&'D').then_some(())
    });
    let stopping = std::thread::spawn(move || gotap.stop());
    // The others go on all the while.
    must_work(&mut target, "while gotap waits for the thread in vfork");
    let outcome = stopping.join().expect("gotap ended");
    assert!(outcome.status.code().is_some(), "{:?}", outcome.status);
    oracle::assert_clean(pid, &before, "a thread in vfork");
    assert_eq!(target.ask("unvfork"), 4);
    must_work(&mut target, "after vfork");
}

#[test]
fn the_first_thread_ends() {
    let (mut target, mut gotap, _) = traced(&[], &[TICK], &[]);
    let pid = target.pid();
    target.ask("leave");
    wait_for("the first thread is a zombie", SOON, || {
        (oracle::state(pid) == Some('Z')).then_some(())
    });
    gotap.wait_for_lines(1000, SOON);
    let began = Instant::now();
    gotap.signal(Signal::SIGINT);
    gotap.finish(SOON);
    assert!(began.elapsed() < AT_ONCE, "gotap waits for a zombie");
    must_work(&mut target, "without its first thread");
    // Nothing under /proc/PID tells of its memory now: that is said.
    let text = pid.to_string();
    let outcome = gotap::run(&["trace", TICK, "-p", &text]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        outcome.errors().contains("first thread"),
        "{}",
        outcome.errors()
    );
    must_work(&mut target, "after a try");
}

#[test]
fn threads_come_and_go() {
    let (mut target, before) = corners(&[]);
    let pid = target.pid();
    target.ask("churn 4");
    for i in 0..30 {
        let mut gotap = Gotap::trace_json(pid, &[TICK], &[]);
        gotap.wait_for_lines(if i % 2 == 0 { 100 } else { 1 }, SOON);
        if i % 5 == 4 {
            gotap.signal(Signal::SIGKILL);
            gotap.finish(SOON);
            must_churn(&mut target, "SIGKILL");
        } else {
            gotap.stop().must_succeed();
            must_churn(&mut target, "left");
            oracle::assert_clean(pid, &before, "threads come and go");
        }
    }
}

fn must_churn(target: &mut Target, when: &str) {
    let from = number_of(target, "churned");
    assert!(
        poll(SOON, || number_of(target, "churned") > from + 10),
        "{when}: no threads start"
    );
}

/// Threads that hit all the time do not keep others waiting.
#[test]
fn every_thread_has_its_turn() {
    let mut target = with_processors("40", &[]);
    let before = oracle::footprint(target.pid());
    target.ask("work 32");
    let mut gotap = Gotap::trace_json(target.pid(), &[TICK], &[]);
    gotap.wait_for_lines(1000, SOON);
    for i in 1..=10 {
        must_work(&mut target, "32 threads that hit all the time");
        target.signal(Signal::SIGTRAP);
        let counted = poll(SOON, || target.ask("traps") == i);
        assert!(counted, "SIGTRAP #{i}: {}", target.ask("traps"));
    }
    leave(target, gotap, &before, "after 32 threads");
}

#[test]
fn a_thousand_threads() {
    let fixture = Fixture::build("threads", &[]);
    let mut target = Target::start(&fixture, &["-threads", "1000"]);
    target.expect_line("ready ");
    let pid = target.pid();
    let before = oracle::footprint(pid);
    for i in 0..4 {
        let mut gotap = Gotap::trace_json(pid, &["main.hot"], &[]);
        gotap.wait_for_lines(500, SOON);
        if i % 2 == 0 {
            gotap.signal(Signal::SIGKILL);
            gotap.finish(SOON);
        } else {
            gotap.stop().must_succeed();
            oracle::assert_clean(pid, &before, "a thousand threads");
        }
        let from: i64 = calls(&mut target);
        assert!(poll(SOON, || calls(&mut target) > from + 100), "#{i}");
    }
}

fn calls(target: &mut Target) -> i64 {
    target.ask("calls").as_i64().expect("a number")
}

/// SIGTRAPs that somebody sends are the program's own, with gotap, and with
/// what a killed gotap left.
#[test]
fn sent_sigtraps_reach_the_program() {
    let (mut target, gotap, before) = traced(&[], &[TICK], &[]);
    let mut sent = 0;
    let mut send_some = |target: &mut Target, when: &str| {
        for _ in 0..20 {
            sent += 1;
            target.signal(Signal::SIGTRAP);
            let counted = poll(SOON, || target.ask("traps") == sent);
            assert!(counted, "{when} #{sent}: {}", target.ask("traps"));
        }
    };
    send_some(&mut target, "traced");
    gotap.signal(Signal::SIGKILL);
    gotap.finish(SOON);
    send_some(&mut target, "after SIGKILL");
    must_work(&mut target, "after SIGKILL");
    let gotap = Gotap::trace_json(target.pid(), &[TICK], &[]);
    send_some(&mut target, "traced again");
    leave(target, gotap, &before, "after SIGTRAPs");
}

/// A nil dereference in the displaced instruction itself is the panic that it
/// would have been, also when nobody traces any more.
#[test]
fn a_displaced_instruction_faults() {
    for toolchain in Toolchain::under_test() {
        for variants in [&[][..], &[Variant::Cgo]] {
            let fixture = Fixture::build_with("corners", variants, &toolchain);
            println!("{}", fixture.label);
            faults(&fixture);
        }
    }
}

fn faults(fixture: &Fixture) {
    let get = "main.(*point).get";
    let mut target = Target::start(fixture, &[]);
    target.expect_line("ready ");
    let before = oracle::footprint(target.pid());
    assert_eq!(target.ask("faults 100"), 100, "the program itself");
    let gotap = Gotap::trace_json(target.pid(), &[get, TICK], &[]);
    assert_eq!(target.ask("faults 100"), 100);
    gotap.signal(Signal::SIGKILL);
    gotap.finish(SOON);
    assert_eq!(target.ask("faults 100"), 100, "after SIGKILL");
    let gotap = Gotap::trace_json(target.pid(), &[get, TICK], &[]);
    assert_eq!(target.ask("faults 100"), 100);
    let outcome = gotap.stop();
    let calls: Vec<Value> = outcome.must_succeed().calls_of(get);
    assert_eq!(calls.len(), 100);
    assert!(calls.iter().all(|c| c["end"] == "panic"), "{}", calls[0]);
    assert_eq!(target.ask("faults 100"), 100, "after gotap");
    oracle::assert_clean(target.pid(), &before, "after faults");
}

/// An int3 that is hit with signals blocked makes the kernel forget the handler
/// (force_sig_info_to_task in kernel/signal.c). gotap sees that, puts it back, and
/// leaves alone what it was.
#[test]
fn signals_are_blocked_at_a_site() {
    let function = "time.ParseDuration";
    let (mut target, mut gotap, before) = traced(&[], &[function, TICK], &[]);
    let pid = target.pid();
    let caught = |pid| oracle::status_lines(pid, &["SigCgt"]);
    let handlers = caught(pid);
    assert_eq!(target.ask("blocked"), "1m30s");
    let said = gotap.stderr_line("runs with signals blocked", SOON);
    let said = said.expect("a word about it");
    assert!(said.contains(function), "{said}");
    assert_eq!(caught(pid), handlers, "traced");
    assert_eq!(target.ask("blocked"), "1m30s");
    gotap.signal(Signal::SIGKILL);
    gotap.finish(SOON);
    must_work(&mut target, "after SIGKILL");
    // And with a gotap that goes away in good order.
    let gotap = Gotap::trace_json(pid, &[function, TICK], &[]);
    assert_eq!(target.ask("blocked"), "1m30s");
    leave(target, gotap, &before, "with signals blocked");
}

/// Filters on system calls: the target is traced where gotap may suspend them
/// (CAP_SYS_ADMIN), else left alone with a reason. It is unharmed both ways.
#[test]
fn filtered_system_calls() {
    let (mut target, before) = corners(&[]);
    let pid = target.pid();
    target.ask("work 2");
    assert_eq!(target.ask("filter"), "");
    let text = pid.to_string();
    let outcome = gotap::run(&["trace", TICK, "-n", "100", "-p", &text]);
    if !outcome.status.success() {
        assert_eq!(outcome.status.code(), Some(1));
        let said = outcome.errors();
        assert!(said.contains("could not map memory"), "{said}");
        assert!(said.contains("seccomp"), "{said}");
    }
    must_work(&mut target, "filtered");
    oracle::assert_clean(pid, &before, "filtered");
}
