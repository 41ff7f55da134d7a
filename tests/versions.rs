//! The main facts on every Go release that `GOTAP_TEST_GO` names, each in one
//! build variant: every release and every variant is met, not every pair. With
//! the variable unset this is the machine's Go.

mod support;

use support::scenario::{ends_by_count, exact_reads};
use support::{Fixture, Toolchain, Variant};

/// The release at place i is built as variant i, counted round.
const BUILDS: &[&[Variant]] = &[
    &[],
    &[Variant::Stripped],
    &[Variant::Pie],
    &[Variant::Cgo],
    &[Variant::NoOpt],
];

#[test]
fn exact_on_each_release() {
    for (toolchain, build) in pairs(0) {
        let echo = Fixture::build_with("echo", build, &toolchain);
        println!("{}", echo.label);
        exact_reads(&echo, 64, 1600, false);
    }
}

#[test]
fn parked_reads_on_each_release() {
    for (toolchain, build) in pairs(1) {
        let echo = Fixture::build_with("echo", build, &toolchain);
        println!("{}", echo.label);
        exact_reads(&echo, 64, 20, true);
    }
}

#[test]
fn ends_on_each_release() {
    for (toolchain, build) in pairs(2) {
        let ends = Fixture::build_with("ends", build, &toolchain);
        println!("{}", ends.label);
        ends_by_count(&ends);
    }
}

fn pairs(shift: usize) -> Vec<(Toolchain, &'static [Variant])> {
    Toolchain::under_test()
        .into_iter()
        .enumerate()
        .map(|(i, toolchain)| (toolchain, BUILDS[(i + shift) % BUILDS.len()]))
        .collect()
}
