//! What a target seldom does, with jumps in it: it forks without exec, it loses its
//! first thread; or that its stacks move under what is read into them.

mod support;

use nix::sys::signal::Signal;
use support::{Fixture, Gotap, LATER, SOON, Target, oracle, wait_for};

/// Called once for each child by the target, with 100, and seven times by the child.
const STRIDE: &str = "main.stride";

fn start() -> Target {
    let fixture = Fixture::build("corners", &[]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready ");
    target
}

fn jumped(target: &Target) -> Gotap {
    Gotap::trace_json(target.pid(), &[STRIDE], &["--fire", "jump"])
}

/// A child does its work and ends.
fn a_child(target: &mut Target, when: &str) {
    assert!(target.ask("fork").as_i64() > Some(0), "{when}");
    assert_eq!(target.ask("reap"), 7, "{when}: the child's work");
}

/// A child of the target has its jumps and shares its ring: what it calls is not
/// the target's, and its own work comes out right.
#[test]
fn a_forked_child_writes_nothing() {
    let mut target = start();
    let gotap = jumped(&target);
    for i in 0..10 {
        a_child(&mut target, &format!("#{i}"));
    }
    let outcome = gotap.stop();
    let said = outcome.must_succeed().errors();
    let calls = outcome.calls_of(STRIDE);
    assert_eq!(calls.len(), 10, "{said}");
    for call in calls {
        assert_eq!(call["args"]["n"], 100, "{call}");
        assert_eq!(call["end"], "return", "{call}");
    }
    assert_eq!(outcome.tally().lost, 0, "{said}");
    a_child(&mut target, "after gotap left");
    // A child that outlives the trace works on.
    let gotap = jumped(&target);
    assert!(target.ask("fork").as_i64() > Some(0));
    gotap.stop().must_succeed();
    assert_eq!(target.ask("reap"), 7, "a child that has jumps still");
}

/// The first thread ends while jumps are in place: they go on, and are taken out.
#[test]
fn the_first_thread_ends() {
    let mut target = start();
    let gotap = jumped(&target);
    let pid = target.pid();
    a_child(&mut target, "before");
    target.ask("leave");
    wait_for("the first thread is a zombie", SOON, || {
        (oracle::state(pid) == Some('Z')).then_some(())
    });
    a_child(&mut target, "without its first thread");
    gotap.signal(Signal::SIGINT);
    let outcome = gotap.finish(SOON);
    let said = outcome.must_succeed().errors();
    assert_eq!(outcome.calls_of(STRIDE).len(), 2, "{said}");
    a_child(&mut target, "after gotap left");
    let maps = oracle::threads(pid).into_iter();
    let maps = maps.map(|tid| format!("/proc/{pid}/task/{tid}/maps"));
    let maps: Vec<String> = maps
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .filter(|maps| !maps.is_empty())
        .collect();
    assert!(!maps.is_empty());
    for maps in maps {
        assert!(!maps.contains("/memfd:gotap"), "{maps}");
    }
}

/// The bytes that a call has read into its caller's frame, wherever that lies by then.
#[test]
fn buffers_on_stacks_that_move() {
    let fixture = Fixture::build("filled", &[]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready ");
    let more = ["--fire", "jump", "--payload=16"];
    let gotap = Gotap::trace_json(target.pid(), &["syscall.read"], &more);
    target.tell("go");
    let moved = target.answer("read", LATER).as_u64();
    assert!(moved > Some(0), "no stack has moved");
    let outcome = gotap.stop();
    outcome.must_succeed();
    let calls = outcome.calls_of("syscall.read");
    for n in 0..600 {
        let want = format!("message-{n:04}");
        let mut found = calls.iter().filter(|call| call["payload"] == *want);
        let call = found
            .next()
            .unwrap_or_else(|| panic!("{want} was not seen"));
        assert!(
            call["payload_len"] == 12 && call["late"].is_null(),
            "{call}"
        );
        assert!(found.next().is_none(), "{want} twice");
    }
}
