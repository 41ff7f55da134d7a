//! Jumps into generated code: the same exactness as with traps, nobody traced
//! meanwhile, everything as it was afterwards.

mod support;

use support::{Fixture, Variant, scenario};

fn reads(variants: &[Variant], (conns, calls): (usize, usize), connected: bool) {
    support::gotap::fire("jump");
    scenario::exact_reads(&Fixture::build("echo", variants), conns, calls, connected);
}

#[test]
fn every_read_is_counted_once() {
    reads(&[], (64, 1600), false);
}
