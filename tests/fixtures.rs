//! The fixtures and oracles themselves: a test that trusts them must be able to.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::{Fixture, SOON, Target, Variant, oracle};

#[test]
fn the_server_counts_what_the_client_sent() {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let mut load = Target::echo_load(
        &echo,
        &addr,
        &["-conns", "8", "-calls", "50", "-gate", "-linger"],
    );
    load.tell("go");
    load.expect_line("finished");

    // What the kernel knows of the server's sockets, while they live.
    let counts = server.ask("counts");
    let sockets = oracle::tcp_sockets(server.pid());
    for conn in counts["conns"].as_array().expect("conns") {
        let socket = &sockets[&conn["fd"].as_i64().expect("fd")];
        assert_eq!(conn["remote"], socket.remote.to_string().as_str());
        assert_eq!(conn["local"], socket.local.to_string().as_str());
    }

    load.tell("close");
    let flows = load.answer("done", SOON);
    assert!(support::poll(SOON, || server.ask("counts")["open"] == 0));
    let counts = server.ask("counts");
    assert_eq!(counts["total"]["read_eof"], 8);
    let sent: BTreeMap<String, i64> = by_port(&flows, "local", "sent");
    assert_eq!(sent, by_port(&counts["conns"], "remote", "read_bytes"));
    assert_eq!(sent.values().sum::<i64>(), 8 * 50 * 64);
}

fn by_port(list: &Value, addr: &str, count: &str) -> BTreeMap<String, i64> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|f| {
            (
                f[addr].as_str().expect("an address").to_string(),
                f[count].as_i64().expect("a count"),
            )
        })
        .collect()
}

#[test]
fn an_untouched_program_is_clean() {
    for variants in [&[][..], &[Variant::Pie], &[Variant::Stripped]] {
        let echo = Fixture::build("echo", variants);
        let (mut server, _) = Target::echo_server(&echo, &[]);
        let before = oracle::footprint(server.pid());
        let actions = server.ask("sigactions");
        assert!(actions["5"].is_string(), "{actions}");
        assert!(server.answers());
        oracle::assert_clean(server.pid(), &before, "untouched");
        assert_eq!(actions, server.ask("sigactions"));
    }
}

#[test]
fn every_build_works() {
    let builds: &[&[Variant]] = &[
        &[],
        &[Variant::Stripped],
        &[Variant::Pie],
        &[Variant::Cgo],
        &[Variant::NoOpt],
        &[Variant::Race],
        &[Variant::Stripped, Variant::Pie, Variant::Trimpath],
    ];
    for variants in builds {
        let echo = Fixture::build("echo", variants);
        let mut both = Target::start(&echo, &["both", "-conns", "2", "-calls", "5"]);
        let counts = both.answer("counts", support::LATER);
        assert_eq!(counts["total"]["read_bytes"], 2 * 5 * 64, "{}", echo.label);
        assert!(both.wait(SOON).success(), "{}", echo.label);
    }
}

#[test]
fn every_release_under_test_builds() {
    for toolchain in support::Toolchain::under_test() {
        let ends = Fixture::build_with("ends", &[], &toolchain);
        let mut run = Target::start(&ends, &["recurse", "panic", "values"]);
        assert_eq!(run.answer("recurse", SOON)["result"], 1830);
        assert!(run.wait(SOON).success());
    }
}
