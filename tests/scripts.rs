//! Scripts: what `gotap check` finds, and what `gotap run` does on a live
//! program.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Fixture, gotap};

/// A script in a folder of its own.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("a.gotap");
    fs::write(&path, text).expect("write a script");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// `LINE:COLUMN` and message of every error that `check` prints.
fn found(script: &Path, program: &[&str]) -> Vec<String> {
    let mut args = vec!["check", text(script)];
    args.extend(program);
    let outcome = gotap::run(&args);
    let name = format!("{}:", text(script));
    let all = outcome.text();
    let errors: Vec<String> = all
        .lines()
        .filter_map(|line| line.strip_prefix(&name))
        .map(str::to_owned)
        .collect();
    assert_eq!(outcome.status.success(), errors.is_empty(), "{all}");
    errors
}

#[test]
fn check_finds_planted_errors_at_their_places() {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::build("echo", &[]);
    let binary = text(&fixture.path);
    let planted = [
        (
            "trcae main.main",
            "1:1: unknown command `trcae`; did you mean `trace`?",
        ),
        (
            "# a comment\n\ntrace net.(*conn).Raed",
            "3:7: no function is called `net.(*conn).Raed`; nearest names: net.(*conn).Read",
        ),
        (
            "trace net.(*conn).Read if feed == 7",
            "1:27: unknown name `feed`; did you mean `fd`?",
        ),
        (
            "trace net.(*conn).Read if n > \"x\"",
            "1:31: `>` between an integer and text makes no sense; text stands in quotes",
        ),
        (
            "trace net.(*conn).Read {\n    stack 8\n    print goid, remot\n}",
            "3:17: unknown name `remot`; did you mean `remote`?",
        ),
        (
            "trace net.(*conn).Read { stack 8; locals }",
            "1:35: `locals` needs a target that stands still, and this gotap never stops one; \
             trace records calls while it runs",
        ),
        (
            "break main.main",
            "1:7: `break` needs a target that stands still, and this gotap never stops one; \
             trace records calls while it runs",
        ),
        (
            "call main.main()",
            "1:1: call would run code in the target, which gotap never does; print shows values \
             without it",
        ),
        (
            "trace w1 net.(*conn).Read\non w2 print n",
            "2:4: there is no tracepoint `w2`; did you mean `w1`?",
        ),
        (
            "summary\nset -e",
            "2:1: `set -e` stands at the head of a script",
        ),
        ("trace runtime.sigtramp", "1:7: runtime.sigtramp: not armed"),
        ("trace Read", "1:7: `Read` is ambiguous: "),
        ("source nowhere.gotap", "1:8: cannot read "),
        (
            "trace net.(*conn).Read if n == 0 {",
            "1:34: this block is not closed",
        ),
    ];
    for (source, wanted) in planted {
        let errors = found(&script(folder.path(), source), &[binary]);
        assert_eq!(errors.len(), 1, "{source}: {errors:?}");
        assert!(
            errors[0].starts_with(wanted),
            "{source}:\n{}\n{wanted}",
            errors[0]
        );
    }
    // All of one script at once.
    let all = found(
        &script(
            folder.path(),
            "trace net.(*conn).Raed\nprnt x\ntrace net.(*conn).Read if nn == 0 { bt x }\n",
        ),
        &[binary],
    );
    let places: Vec<&str> = all
        .iter()
        .map(|e| e.split(": ").next().unwrap_or(""))
        .collect();
    assert_eq!(places, ["1:7", "2:1", "3:27", "3:40"], "{all:?}");
}

#[test]
fn check_takes_what_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::build("echo", &[]);
    fs::write(folder.path().join("more.gotap"), "trace conn.Write\n").expect("write a script");
    let good = script(
        folder.path(),
        "set -e\ntrace w1 net.(*conn).Read if dur > 10ms || err != nil {\n  print goid, fd, n, err\n  \
         stack 8\n}\ncondition -hitcount w1 > 2\non w1 args\nevery 5s { goroutines -group state }\n\
         on exit { summary }\nsource more.gotap\ntoggle w1\nfor 10m # the end\n",
    );
    assert_eq!(found(&good, &[text(&fixture.path)]), Vec::<String>::new());
    assert_eq!(found(&good, &[]), Vec::<String>::new());
}
