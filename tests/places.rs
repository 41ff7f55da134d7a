//! Programs that are not where their path says: deleted, behind another mount,
//! in a pid namespace of their own.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::scenario::{READ, WRITE, number, sum};
use support::{Fixture, Gotap, LATER, SOON, Target, Variant, gotap, oracle, place, poll, wait_for};

/// Serves two clients' ten messages each; what gotap says of them is right, and
/// nothing is left behind.
fn must_trace(server: &mut Target, pid: i32, addr: &str, echo: &Fixture) {
    let before = oracle::footprint(pid);
    let mut load = Target::echo_load(echo, addr, &["-conns", "2", "-calls", "10", "-late"]);
    let gotap = Gotap::trace_json(pid, &[READ, WRITE], &["-s", "3"]);
    load.tell("go");
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["total"]["closes"] == 2));
    let outcome = gotap.stop();
    outcome.must_succeed();
    let total = &server.ask("counts")["total"];
    let reads = outcome.calls_of(READ);
    assert_eq!(reads.len() as u64, number(total, "reads"));
    assert_eq!(sum(&reads, "n"), number(total, "read_bytes"));
    let writes = outcome.calls_of(WRITE);
    assert_eq!(sum(&writes, "n"), number(total, "write_bytes"));
    for call in &reads {
        let stack = call["stack"].to_string();
        assert!(stack.contains("main.(*server).echoTCP"), "{call}");
    }
    assert!(server.answers());
    oracle::assert_clean(pid, &before, &server.label);
}

#[test]
fn a_deleted_executable() {
    for variants in [&[][..], &[Variant::Stripped, Variant::Pie]] {
        let echo = Fixture::build("echo", variants);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("echo");
        place(&echo.path, &path);
        let moved = Fixture {
            path: path.clone(),
            label: format!("{}, deleted", echo.label),
        };
        let (mut server, addr) = Target::echo_server(&moved, &[]);
        std::fs::remove_file(&path).expect("delete it");
        let pid = server.pid();
        must_trace(&mut server, pid, &addr, &echo);
    }
}

/// An upgrade: another file is where the running one was.
#[test]
fn an_executable_that_was_replaced() {
    let echo = Fixture::build("echo", &[]);
    let other = Fixture::build("ends", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("echo");
    place(&echo.path, &path);
    let moved = Fixture {
        path: path.clone(),
        label: "replaced".into(),
    };
    let (mut server, addr) = Target::echo_server(&moved, &[]);
    let new = folder.path().join("new");
    place(&other.path, &new);
    std::fs::rename(&new, &path).expect("replace it");
    let pid = server.pid();
    must_trace(&mut server, pid, &addr, &echo);
}

/// `unshare ARGS sh -c SCRIPT` with the fixture as `$0`.
fn unshared(args: &[&str], script: &str, echo: &Fixture) -> (Target, String) {
    let mut command = Command::new("unshare");
    if !nix::unistd::getuid().is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(args)
        .args(["sh", "-c", script])
        .arg(&echo.path);
    let mut server = Target::spawn(command, script);
    let line = server.expect_line("listening ");
    let addr = line.split(' ').nth(1).expect("an address").to_string();
    (server, addr)
}

/// The path that the kernel names does not exist for gotap.
#[test]
fn another_mount_namespace() {
    for variants in [&[][..], &[Variant::Stripped]] {
        let echo = Fixture::build("echo", variants);
        let script =
            "mount -t tmpfs none /mnt && cp \"$0\" /mnt/gotap-echo && exec /mnt/gotap-echo serve";
        let (mut server, addr) = unshared(&["--mount"], script, &echo);
        let pid = server.pid();
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).expect("its executable");
        assert_eq!(exe, PathBuf::from("/mnt/gotap-echo"));
        assert!(!exe.exists());
        must_trace(&mut server, pid, &addr, &echo);
        let listed = gotap::run(&["ps"]);
        let listed = listed.must_succeed().text();
        let own = pid.to_string();
        let line = listed
            .lines()
            .find(|l| l.split_whitespace().next() == Some(&own));
        assert!(
            line.is_some_and(|l| l.contains("gotap.test/echo")),
            "{listed}"
        );
    }
}

/// It believes to be pid 1; gotap takes the pid that `ps` shows outside.
#[test]
fn a_pid_namespace() {
    let echo = Fixture::build("echo", &[]);
    let args = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let (mut server, addr) = unshared(&args, "exec \"$0\" serve", &echo);
    let outer = server.pid();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let pid = wait_for("a child of unshare", SOON, || {
        let text = std::fs::read_to_string(&children).ok()?;
        text.split_whitespace().next()?.parse::<i32>().ok()
    });
    assert_eq!(number(&server.ask("counts"), "pid"), 1);
    must_trace(&mut server, pid, &addr, &echo);
    // A gotap that is killed: the next one knows its leftover.
    let mut load = Target::echo_load(&echo, &addr, &["-conns", "2", "-calls", "-1"]);
    let mut killed = Gotap::trace_json(pid, &[READ], &[]);
    killed.wait_for_lines(20, SOON);
    killed.signal(nix::sys::signal::Signal::SIGKILL);
    killed.finish(SOON);
    assert!(server.answers());
    let mut next = Gotap::trace_json(pid, &[READ], &[]);
    next.wait_for_lines(20, SOON);
    next.stop().must_succeed();
    // What the program itself writes down has its own numbers of threads.
    let jumped = Gotap::trace_json(pid, &[READ], &["--fire", "jump", "-n", "50"]);
    let jumped = jumped.finish(SOON);
    jumped.must_succeed();
    let threads = oracle::threads(pid);
    for call in jumped.calls() {
        let tid = i32::try_from(call["tid"].as_i64().expect("a thread")).expect("an id");
        assert!(threads.contains(&tid), "{call}");
    }
    assert!(oracle::code_differences(pid).is_empty());
    assert!(load.ask("trips").as_i64() > Some(0));
}

/// Threads have other numbers inside; what they are in is told all the same.
#[test]
fn goroutines_in_a_pid_namespace() {
    let states = Fixture::build("states", &[]);
    let args = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut command = Command::new("unshare");
    command
        .args(args)
        .args(["sh", "-c", "exec \"$0\" spin 3"])
        .arg(&states.path);
    let mut target = Target::spawn(command, "a pid namespace");
    target.answer("ready", LATER);
    let outer = target.pid();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let text = std::fs::read_to_string(&children).expect("its children");
    let pid: i32 = text.trim().parse().expect("one child");
    let name = pid.to_string();
    for how in [&[][..], &["--consistent"]] {
        let mut args = vec!["goroutines", "-p", &name, "--list", "-o", "json"];
        args.extend(how);
        let outcome = gotap::run(&args);
        let look = outcome.must_succeed().records().remove(0);
        let all = look["goroutines"].as_array().expect("a list");
        // Threads of a Go program stay.
        let threads = oracle::threads(pid);
        let func = |g: &serde_json::Value, name: &str| {
            let stack = g["stack"].as_array().expect("a stack");
            stack.iter().any(|f| f["func"] == name)
        };
        let parked: Vec<_> = all.iter().filter(|g| func(g, "main.parkSyscall")).collect();
        assert_eq!(parked.len(), 3, "{how:?}");
        for one in parked {
            assert_eq!(one["blocked_on"]["syscall"], 0, "read(2), {how:?}: {one}");
            assert_eq!(one["network"], "pipe");
            let tid = one["tid"].as_i64().expect("a thread");
            assert!(
                threads.iter().any(|t| i64::from(*t) == tid),
                "{how:?}: {tid}"
            );
        }
        let spins = all.iter().filter(|g| func(g, "main.spinLoop"));
        assert!(how.is_empty() || spins.count() > 0, "{how:?}: {look}");
    }
    assert!(target.answers());
}
