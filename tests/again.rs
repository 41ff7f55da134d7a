//! Connections whose memory another had before: each record tells its own
//! connection, though it leaves out what was copied before.

mod support;

use support::{Fixture, Gotap, SOON, Target, Variant};

/// Each call writes the port that it has.
fn told(variants: &[Variant], more: &[&str]) {
    const ROUNDS: usize = 400;
    let again = Fixture::build("again", variants);
    let mut target = Target::start(&again, &[]);
    target.expect_line("ready ");
    let pattern = r"^net\.\(\*conn\)\.Write$";
    let options = [&["--payload=16", "--fire", "jump"], more].concat();
    let gotap = Gotap::trace_json(target.pid(), &[pattern], &options);
    target.tell(&format!("go {ROUNDS}"));
    let done = target.answer("done", SOON);
    let reused = done["again"].as_u64().expect("a number");
    assert!(reused > 20, "{reused} connections lay where another did");
    let outcome = gotap.stop();
    outcome.must_succeed();
    assert_eq!(outcome.tally().lost, 0, "{}", outcome.errors());
    let calls = outcome.calls();
    assert_eq!(calls.len(), 3 * ROUNDS);
    for call in calls {
        let payload = call["payload"].as_str().expect("a payload");
        let port = payload.rsplit(' ').next().expect("a port");
        let local = call["local"].as_str().expect("an address");
        assert_eq!(local.rsplit(':').next(), Some(port), "{call}");
        assert!(call["late"].is_null(), "{call}");
    }
}

#[test]
fn with_all_that_is_known() {
    told(&[], &[]);
}

#[test]
fn stripped() {
    told(&[Variant::Stripped], &[]);
}
