//! `trace --record` and `show`: what is shown is what trace would have printed,
//! whichever way sites fire; files that end anywhere are read.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::scenario::{Busy, READ, WRITE};
use support::{Fixture, Gotap, LATER, SOON, Target, gotap, poll};

/// A folder for files of one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path").to_owned()
    }
}

fn show(file: &str, more: &[&str]) -> gotap::Outcome {
    let mut args = vec!["show", file];
    args.extend(more);
    gotap::run(&args)
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("what trace wrote");
    text.lines().map(str::to_owned).collect()
}

/// Some calls of an echo server, recorded and printed at once.
fn echo_calls(fire: &str, output: &str, folder: &Folder) -> (gotap::Outcome, u64) {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let args = ["-conns", "16", "-calls", "100", "-linger", "-late"];
    let mut load = Target::echo_load(&echo, &addr, &args);
    let (record, out) = (folder.text("calls.gtr"), folder.text("calls"));
    let pid = server.pid().to_string();
    let mut gotap = Gotap::spawn(gotap::command(&[
        "trace",
        READ,
        WRITE,
        "-o",
        output,
        "--fire",
        fire,
        "--record",
        &record,
        "--out",
        &out,
        "--summary",
        "-p",
        &pid,
    ]));
    gotap.armed();
    load.tell("go");
    load.expect_line_within("finished", LATER);
    load.tell("close");
    load.answer("done", SOON);
    assert!(poll(SOON, || server.ask("counts")["open"] == 0));
    let reads = server.ask("reads").as_u64().expect("a number");
    let outcome = gotap.stop();
    outcome.must_succeed();
    assert!(outcome.stdout.is_empty(), "calls went to --out");
    (outcome, reads)
}

fn shown_is_printed(fire: &str) {
    let folder = Folder::new();
    let (outcome, reads) = echo_calls(fire, "json", &folder);
    let file = folder.text("calls.gtr");
    let shown = show(&file, &["-o", "json", "--summary"]);
    shown.must_succeed();
    let printed = lines(&folder.path("calls"));
    let again: Vec<String> = shown.text().lines().map(str::to_owned).collect();
    assert_eq!(again.len(), printed.len(), "{}", shown.errors());
    for (shown, printed) in again.iter().zip(&printed) {
        assert_eq!(shown, printed);
    }
    assert_eq!(shown.tally(), outcome.tally());
    assert_eq!(shown.calls_of(READ).len() as u64, reads);
    // Filtered as trace does it.
    let wanted = show(&file, &["-o", "json", "--where", "err != nil && n == 0"]);
    wanted.must_succeed();
    let failed = printed
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|call| call["err"].is_string() && call["n"] == 0)
        .count();
    assert!(failed >= 16, "each connection ends");
    assert_eq!(wanted.calls().len(), failed);
    let unknown = show(&file, &["--where", "args.nosuch == 1"]);
    assert!(!unknown.status.success());
    assert!(unknown.errors().contains("nosuch"), "{}", unknown.errors());
    let three = show(&file, &["-n", "3"]);
    assert_eq!(three.must_succeed().text().lines().count(), 3);
}

#[test]
fn what_is_shown_is_what_was_printed_by_traps() {
    shown_is_printed("trap");
}

#[test]
fn what_is_shown_is_what_was_printed_by_jumps() {
    shown_is_printed("jump");
}

#[test]
fn text_looks_the_same() {
    let folder = Folder::new();
    echo_calls("trap", "text", &folder);
    let shown = show(&folder.text("calls.gtr"), &["--summary"]);
    let printed = fs::read_to_string(folder.path("calls")).expect("what trace wrote");
    assert_eq!(shown.must_succeed().text(), printed);
}

/// Arguments of all kinds, stacks and payloads.
#[test]
fn deep_values_stacks_and_payloads() {
    let folder = Folder::new();
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let (record, out) = (folder.text("calls.gtr"), folder.text("calls"));
    let pid = busy.server.pid().to_string();
    let args = [
        "trace",
        r"^main\.",
        READ,
        WRITE,
        "-s",
        "8",
        "--payload=100",
        "-o",
        "json",
        "--record",
        &record,
        "--out",
        &out,
        "-n",
        "300",
        "-p",
        &pid,
    ];
    gotap::run(&args).must_succeed();
    let shown = show(&record, &["-o", "json"]);
    let printed = fs::read_to_string(folder.path("calls")).expect("what trace wrote");
    assert_eq!(shown.must_succeed().text(), printed);
    assert!(printed.contains("\"stack\""));
    assert!(printed.contains("\"payload\""));
    busy.must_be_clean("after a recording");
}

/// A gotap that is killed leaves what it had flushed.
#[test]
fn killed_while_it_records() {
    let folder = Folder::new();
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let pid = busy.server.pid().to_string();
    let file = folder.text("calls.gtr");
    for fire in ["jump", "trap"] {
        let mut gotap = Gotap::spawn(gotap::command(&[
            "trace", READ, "--fire", fire, "--record", &file, "-p", &pid,
        ]));
        gotap.armed();
        let size = || fs::metadata(&file).map_or(0, |m| m.len());
        let head = size();
        assert!(poll(SOON, || size() > head + 10_000), "{fire}: blocks come");
        gotap.signal(Signal::SIGKILL);
        let _ = gotap.finish(SOON);
        let shown = show(&file, &["-o", "json"]);
        shown.must_succeed();
        assert!(shown.errors().contains("no end"), "{}", shown.errors());
        assert!(shown.calls_of(READ).len() > 100, "{fire}");
        gotap::run(&["clean", "-p", &pid]).must_succeed();
        busy.must_be_clean("after the kill");
    }
}

/// Records are in the file soon, though no more come to fill a block.
#[test]
fn a_quiet_recording_is_readable_while_it_is_made() {
    let folder = Folder::new();
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let args = ["-conns", "2", "-calls", "3", "-linger", "-late"];
    let mut load = Target::echo_load(&echo, &addr, &args);
    let file = folder.text("calls.gtr");
    let pid = server.pid().to_string();
    let mut gotap = Gotap::spawn(gotap::command(&[
        "trace", READ, "--record", &file, "-p", &pid,
    ]));
    gotap.armed();
    load.tell("go");
    load.expect_line_within("finished", LATER);
    assert!(poll(SOON, || show(&file, &["-o", "json"]).calls().len() == 6));
    gotap.stop().must_succeed();
    assert!(server.answers());
}

#[test]
fn files_that_are_none_or_torn() {
    let folder = Folder::new();
    let file = folder.path("x");
    let text = folder.text("x");
    fs::write(&file, b"{\"id\":1}\n").expect("a file");
    let refused = show(&text, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.errors().contains("no recording"),
        "{}",
        refused.errors()
    );
    let missing = show(&folder.text("nosuch"), &[]);
    assert_eq!(missing.status.code(), Some(1));
    echo_calls("jump", "json", &folder);
    let whole = fs::read(folder.path("calls.gtr")).expect("a recording");
    let all = show(&folder.text("calls.gtr"), &["-o", "json"])
        .calls()
        .len();
    fs::write(&file, &whole[..whole.len() * 2 / 3]).expect("a file");
    let torn = show(&text, &["-o", "json"]);
    assert!(torn.must_succeed().calls().len() < all);
    assert!(torn.errors().contains("no end"), "{}", torn.errors());
    let mut more = whole.clone();
    more.truncate(whole.len() - 100);
    more.extend([0; 4096]);
    fs::write(&file, &more).expect("a file");
    let zeros = show(&text, &["-o", "json"]);
    zeros.must_succeed();
}
