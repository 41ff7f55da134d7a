//! Bad input: one clear line, exit code 1 (2 for usage), the target untouched.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::scenario::READ;
use support::{Fixture, Gotap, Outcome, SOON, Target, Variant, gotap, oracle};

/// It failed with this code, wrote nothing to stdout and said these words in
/// lines that begin as its messages do.
fn failed(outcome: &Outcome, code: i32, words: &[&str]) {
    let said = outcome.errors();
    assert_eq!(outcome.status.code(), Some(code), "it said:\n{said}");
    assert!(
        outcome.stdout.is_empty(),
        "stdout is data only: {}",
        outcome.text()
    );
    for word in words {
        assert!(
            said.to_lowercase().contains(&word.to_lowercase()),
            "{word:?} is not in:\n{said}"
        );
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(
        said.starts_with("gotap:") || said.starts_with("error:"),
        "{said}"
    );
}

/// [`failed`] with code 1 and exactly one line.
fn failed_in_a_line(outcome: &Outcome, words: &[&str]) {
    failed(outcome, 1, words);
    assert_eq!(outcome.stderr.len(), 1, "one line: {:#?}", outcome.stderr);
}

/// A server to be left alone.
fn server() -> (Target, oracle::Footprint, String) {
    let echo = Fixture::build("echo", &[]);
    let (server, _) = Target::echo_server(&echo, &[]);
    let before = oracle::footprint(server.pid());
    let pid = server.pid().to_string();
    (server, before, pid)
}

/// Runs `gotap trace ARGS -p PID`, and looks that the target was not touched.
fn refused(args: &[&str]) -> Outcome {
    let (mut server, before, pid) = server();
    let mut all = vec!["trace"];
    all.extend(args);
    all.extend(["-p", &pid]);
    let outcome = gotap::run(&all);
    assert!(server.answers());
    oracle::assert_clean(server.pid(), &before, &format!("{args:?}"));
    outcome
}

#[test]
fn no_such_pid() {
    // Pids stay below pid_max (proc(5)).
    let max = fs::read_to_string("/proc/sys/kernel/pid_max").expect("pid_max");
    let pid = max.trim();
    failed_in_a_line(&gotap::run(&["trace", READ, "-p", pid]), &[pid]);
}

#[test]
fn a_pid_that_is_none() {
    for pid in ["0", "-5", "abc", "99999999999999999999"] {
        let outcome = gotap::run(&["trace", READ, "-p", pid]);
        let code = outcome.status.code();
        assert!(matches!(code, Some(1 | 2)), "{pid}: {}", outcome.errors());
    }
}

/// The line says which pid to take.
#[test]
fn the_id_of_a_thread() {
    let (server, _, pid) = server();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let thread = threads
        .flatten()
        .map(|t| t.file_name().to_string_lossy().into_owned())
        .find(|t| *t != pid)
        .expect("a second thread");
    let told = format!("-p {pid}");
    let outcome = gotap::run(&["trace", READ, "-p", &thread]);
    failed_in_a_line(&outcome, &[&thread, &told]);
    assert_eq!(oracle::tracer(server.pid()), 0);
}

#[test]
fn not_a_go_program() {
    let sleep = Target::spawn(
        {
            let mut sleep = Command::new("sleep");
            sleep.arg("1000");
            sleep
        },
        "sleep",
    );
    let pid = sleep.pid().to_string();
    failed_in_a_line(
        &gotap::run(&["trace", READ, "-p", &pid]),
        &["not a Go program"],
    );
    assert_eq!(oracle::tracer(sleep.pid()), 0);
}

#[test]
fn not_a_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("text");
    fs::write(&path, "not a program").expect("write a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = path.to_str().expect("a path");
    failed(&gotap::run(&["trace", READ, "--", path]), 1, &[path]);
    failed(
        &gotap::run(&["trace", READ, "--", "/nowhere/at/all"]),
        1,
        &["/nowhere/at/all"],
    );
}

/// 32 bits, another CPU: refused before anything is started.
#[test]
fn another_architecture() {
    for (arch, word) in [("386", "32-bit"), ("arm64", "arm64")] {
        let path = foreign(arch);
        let path = path.to_str().expect("a path");
        failed_in_a_line(&gotap::run(&["trace", "main.hot", "--", path]), &[word]);
    }
}

fn foreign(arch: &str) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/threads");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("threads-{arch}-{}", std::process::id()));
    let built = Command::new("go")
        .current_dir(source)
        .env("GOARCH", arch)
        .env("CGO_ENABLED", "0")
        .args(["build", "-o"])
        .arg(&path)
        .arg(".")
        .output()
        .expect("run go");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    path
}

/// Somebody else's process: the message says what to do.
#[test]
fn no_permission() {
    let (mut server, before, pid) = server();
    let outcome = if nix::unistd::geteuid().is_root() {
        // As nobody, who needs a copy that may be read.
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let copy = folder.path().join("gotap");
        support::place(Path::new(gotap::EXE), &copy);
        let mut command = Command::new(&copy);
        command
            .args(["trace", READ, "-p", &pid])
            .current_dir("/")
            .stdin(Stdio::null())
            .uid(65534)
            .gid(65534);
        gotap::run_command(command)
    } else {
        gotap::run(&["trace", READ, "-p", "1"])
    };
    failed(&outcome, 1, &["permi"]);
    let said = outcome.errors();
    let helps = ["CAP_SYS_PTRACE", "ptrace_scope", "sudo", "root"];
    assert!(helps.iter().any(|h| said.contains(h)), "no advice: {said}");
    assert!(server.answers());
    oracle::assert_clean(server.pid(), &before, "no permission");
}

#[test]
fn already_traced() {
    let (mut server, before, pid) = server();
    let first = Gotap::trace_json(server.pid(), &[READ], &[]);
    let outcome = gotap::run(&["trace", READ, "-p", &pid]);
    failed_in_a_line(&outcome, &["traced", &first.pid().to_string()]);
    first.stop().must_succeed();
    assert!(server.answers());
    oracle::assert_clean(server.pid(), &before, "already traced");
}

/// Traced by something that is not gotap.
#[test]
fn already_traced_by_strace() {
    let (mut server, _, pid) = server();
    let strace = "/usr/bin/strace";
    assert!(
        std::path::Path::new(strace).exists(),
        "strace is missing: apt-get install strace"
    );
    let mut command = Command::new(strace);
    command
        .args(["-f", "-e", "trace=none", "-p", &pid])
        .stderr(Stdio::null());
    let strace = Target::spawn(command, "strace");
    support::scenario::wait_traced(server.pid());
    failed_in_a_line(
        &gotap::run(&["trace", READ, "-p", &pid]),
        &["traced", "strace", &strace.pid().to_string()],
    );
    strace.signal(nix::sys::signal::Signal::SIGINT);
    support::scenario::wait_untraced(server.pid());
    assert!(server.answers());
}

/// A Go that came out after this gotap: it goes on, and says so.
#[test]
fn a_newer_go() {
    let echo = Fixture::build("echo", &[Variant::Stripped]);
    let mut bytes = fs::read(&echo.path).expect("read the fixture");
    let version = version_in(&bytes);
    // As long as the real one: go1.26.8 → go1.99.8
    let newer = version.replacen("1.2", "1.9", 1);
    assert_eq!(newer.len(), version.len());
    let places: Vec<usize> = bytes
        .windows(version.len())
        .enumerate()
        .filter(|(_, w)| *w == version.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + newer.len()].copy_from_slice(newer.as_bytes());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (written, path) = (folder.path().join("written"), folder.path().join("echo"));
    fs::write(&written, bytes).expect("write a file");
    support::place(&written, &path);
    let newer_echo = Fixture {
        path,
        label: "echo of the future".into(),
    };
    let (mut server, addr) = Target::echo_server(&newer_echo, &[]);
    let mut load = Target::echo_load(&echo, &addr, &["-conns", "2", "-calls", "20", "-late"]);
    let gotap = Gotap::trace_json(server.pid(), &[READ], &[]);
    load.tell("go");
    load.answer("done", SOON);
    assert!(support::poll(
        SOON,
        || server.ask("counts")["total"]["closes"] == 2
    ));
    let outcome = gotap.stop();
    outcome.must_succeed();
    assert!(
        outcome.errors().contains(&newer),
        "it says so: {}",
        outcome.errors()
    );
    assert_eq!(
        outcome.calls().len() as u64,
        server.ask("counts")["total"]["reads"]
            .as_u64()
            .expect("a number")
    );
    assert!(server.answers());
}

/// The text `go1.N.M` of the machine's Go, which is in the binary.
fn version_in(bytes: &[u8]) -> String {
    let out = Command::new("go")
        .args(["env", "GOVERSION"])
        .output()
        .expect("run go");
    let version = String::from_utf8(out.stdout)
        .expect("text")
        .trim()
        .to_string();
    assert!(version.starts_with("go1.2"), "{version}");
    assert!(
        bytes
            .windows(version.len())
            .any(|w| w == version.as_bytes())
    );
    version
}

#[test]
fn bad_patterns() {
    failed(
        &refused(&["net.(*conn).Raed"]),
        1,
        &["net.(*conn).Raed", READ],
    );
    failed(
        &refused(&["nothing.like.this.at.all"]),
        1,
        &["nothing.like.this.at.all"],
    );
    failed(&refused(&["net.(*conn"]), 1, &["net.(*conn"]);
    failed(&refused(&["."]), 1, &["2000"]);
}

/// The runtime's hot paths are armed only when they are named exactly.
#[test]
fn hot_paths_of_the_runtime() {
    failed(&refused(&[r"^runtime\.mallocgc"]), 1, &["runtime.mallocgc"]);
}

#[test]
fn bad_expressions() {
    for expression in [
        "n ==",
        "n = = 3",
        "err =~",
        "(n == 1",
        "nosuchfield == 1",
        "n == \"x",
    ] {
        let outcome = refused(&[READ, "--where", expression]);
        let said = outcome.errors();
        assert!(
            matches!(outcome.status.code(), Some(1 | 2)),
            "{expression}: {said}"
        );
        assert!(
            said.contains(expression),
            "{expression}: it is quoted: {said}"
        );
        let caret = outcome
            .stderr
            .iter()
            .any(|l| l.trim_start().starts_with('^'));
        assert!(caret, "{expression}: a caret under the place:\n{said}");
        assert!(outcome.stdout.is_empty());
    }
}

#[test]
fn usage() {
    for args in [
        &["trace"][..],
        &["trace", READ],
        &["trace", READ, "-p"],
        &["trace", "--no-such-flag", READ, "-p", "1"],
        &["no-such-command"],
        &["trace", READ, "-p", "1", "--for", "soon"],
        &["trace", READ, "-p", "1", "-n", "many"],
        &["trace", READ, "-p", "1", "-o", "yaml"],
        &["trace", READ, "-p", "1", "--", "./server"],
    ] {
        let outcome = gotap::run(args);
        assert_eq!(
            outcome.status.code(),
            Some(2),
            "{args:?}: {}",
            outcome.errors()
        );
        assert!(outcome.stdout.is_empty(), "{args:?}");
    }
}

/// An output file that cannot be made is found out before the target is touched.
#[test]
fn an_output_file_that_cannot_be_made() {
    failed(
        &refused(&[READ, "--out", "/nowhere/at/all/calls"]),
        1,
        &["/nowhere/at/all/calls"],
    );
}
