//! `gotap ps PID` against the kernel and ps(1).

mod support;

use std::process::Command;

use support::{Fixture, SOON, Target, gotap, oracle, poll};

#[test]
fn a_server_and_its_connections_are_told() {
    let echo = Fixture::build("echo", &[]);
    let (server, addr) = Target::echo_server(&echo, &[]);
    let _load = Target::echo_load(&echo, &addr, &["-conns", "3", "-gate"]);
    let pid = server.pid().to_string();
    // The client has connected before the server has accepted.
    let all = || oracle::tcp_sockets(server.pid());
    assert!(poll(SOON, || all().len() == 4));
    let sockets = all();

    let outcome = gotap::run(&["ps", &pid, "-o", "json"]);
    let found = outcome.must_succeed().records().remove(0);
    assert_eq!(found["ppid"], std::process::id());
    assert_eq!(found["threads"], oracle::threads(server.pid()).len());
    assert_eq!(found["username"], ps(&pid, "user:64"));
    assert_eq!(found["command"][1], "serve");
    assert!(found["memory_percent"].as_f64() > Some(0.0), "{found}");
    assert!(found["cpu_percent"].as_f64() >= Some(0.0), "{found}");
    let connections = found["connections"].as_array().expect("a list");
    let tcp: Vec<_> = connections
        .iter()
        .filter(|c| c["network"].as_str().is_some_and(|n| n.starts_with("tcp")))
        .collect();
    assert_eq!(tcp.len(), sockets.len(), "{found}");
    for connection in tcp {
        let socket = &sockets[&connection["fd"].as_i64().expect("a descriptor")];
        assert_eq!(connection["local"], socket.local.to_string());
        assert_eq!(connection["remote"], socket.remote.to_string());
        let listens = socket.state == 10;
        assert_eq!(connection["state"] == "LISTEN", listens, "{connection}");
    }

    let outcome = gotap::run(&["ps", &pid, "10ms"]);
    let text = outcome.must_succeed().text();
    let names: Vec<&str> = text.lines().filter_map(|l| l.split(":\t").next()).collect();
    let expected = [
        "parent PID",
        "threads",
        "memory usage",
        "cpu usage",
        "cpu usage (10ms)",
        "username",
        "cmd+args",
        "elapsed time",
    ];
    assert_eq!(names[..8], expected, "{text}");
    let listening = format!("local/remote:\t{addr} <-> ");
    assert!(
        text.contains(&listening) && text.contains("(LISTEN)"),
        "{text}"
    );
    assert_eq!(text.matches("(ESTABLISHED)").count(), 3, "{text}");
    let elapsed = text.lines().find_map(|l| l.strip_prefix("elapsed time:\t"));
    let time = regex::Regex::new(r"^(\d\d-)?(\d\d:)?\d\d:\d\d$").expect("a pattern");
    assert!(elapsed.is_some_and(|e| time.is_match(e)), "{text}");
}

fn ps(pid: &str, what: &str) -> String {
    let out = Command::new("ps")
        .args(["-o", &format!("{what}="), "-p", pid])
        .output()
        .unwrap_or_else(|e| panic!("cannot run ps: {e}; apt-get install procps"));
    String::from_utf8_lossy(&out.stdout).trim().to_string()
}

#[test]
fn wrong_uses_are_told() {
    let outcome = gotap::run(&["ps", "999999999"]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.errors().contains("no process with pid"));
    let outcome = gotap::run(&["ps", "1", "soon"]);
    assert_eq!(outcome.status.code(), Some(2));
    assert!(outcome.errors().contains("500ms"), "{}", outcome.errors());
}
