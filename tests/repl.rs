//! `gotap attach` at a terminal: typing while records come, completion,
//! history, keys, odd terminals; and commands from a pipe.

mod support;

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use support::scenario::{Busy, wait_traced, wait_untraced};
use support::{AtTerminal, Fixture, Gotap, LATER, folder, gotap, oracle, poll, wait_for};

const PROMPT: &str = "(gotap) ";

fn echo() -> Fixture {
    Fixture::build("echo", &[])
}

fn attach(pid: i32, home: &Path) -> AtTerminal {
    let mut terminal = AtTerminal::start(&["attach", &pid.to_string()], home, "xterm");
    terminal.wait_for(PROMPT);
    terminal
}

#[test]
fn typing_while_a_thousand_lines_a_second_arrive() {
    let (mut busy, home) = (Busy::start(&echo(), &[]), folder());
    let pid = busy.server.pid();
    let mut terminal = attach(pid, home.path());
    terminal.line("t r1 net.(*conn).Read");
    terminal.wait_for("Tracepoint r1 on net.(*conn).Read (1 entry, 2 returns)");
    wait_traced(pid);
    // A line, a letter at a time, while records are shown above it.
    for letter in "goroutines -group reason".chars() {
        terminal.wait_for("net.(*conn).Read");
        terminal.send(&letter.to_string());
    }
    terminal.send("\r");
    terminal.wait_for("COUNT");
    terminal.line("bp");
    let shown = terminal.wait_for("Tracepoint r1 (enabled) on net.(*conn).Read hits ");
    // Records stand on lines of their own, whatever was typed meanwhile.
    assert!(
        shown
            .lines()
            .filter(|l| l.contains("  net.(*conn).Read  "))
            .all(|l| !l.contains("goroutines")),
        "{shown}"
    );
    terminal.line("clear r1");
    terminal.wait_for("Tracepoint r1 cleared");
    wait_untraced(pid);
    busy.must_be_clean("the last tracepoint is gone");
    terminal.line("exit");
    let (status, text) = terminal.finish();
    assert!(status.success(), "{text}");
    assert!(text.contains(" calls seen, "), "{text}");
    busy.must_be_clean("the session is over");
}

#[test]
fn completion_of_all_that_has_names() {
    let (busy, home) = (Busy::start(&echo(), &[]), folder());
    let mut terminal = attach(busy.server.pid(), home.path());
    terminal.send("tog\t");
    terminal.wait_for("toggle");
    terminal.send("\x03");
    terminal.wait_for(PROMPT);
    let script = home.path().join("reads.gotap");
    std::fs::write(&script, "").expect("a script");
    let start = script.to_str().expect("UTF-8").trim_end_matches("ds.gotap");
    // Functions, files, variables, types, names on disk; in a block, too.
    for (typed, wanted) in [
        ("funcs net.(*conn).Wri", "net.(*conn).Write"),
        ("b net.(*conn).Wri", "net.(*conn).Write"),
        ("snap main.g", "main.go:"),
        ("set net.DefaultRes", "net.DefaultResolver"),
        // Package main's by their bare names, as `print` knows them.
        ("p outM", "outMu"),
        ("b main.main if net.DefaultRes", "net.DefaultResolver"),
        ("t main.main { p net.DefaultRes", "net.DefaultResolver"),
        ("types net.TCPCon", "net.TCPConn"),
        (&format!("source {start}"), "reads.gotap"),
        (&format!("every 5s {{ source {start}"), "reads.gotap"),
    ] {
        terminal.send(&format!("{typed}\t"));
        terminal.wait_for(wanted);
        terminal.send("\x03");
        terminal.wait_for(PROMPT);
    }
    // All goroutines are offered.
    terminal.send("stack \t");
    terminal.wait_for("\n1 ");
    // The line is drawn again below them.
    terminal.wait_for("\n(gotap) stack ");
    // Ctrl-C drops what was typed ahead, too.
    terminal.send("\x03");
    terminal.wait_for("\n(gotap) ");
    // What may follow is hinted.
    terminal.send("trace ");
    terminal.wait_for("LOCATION [if CONDITION]");
    terminal.send("\x03");
    terminal.wait_for("\n(gotap) ");
    terminal.send("\x04");
    assert!(terminal.finish().0.success());
}

#[test]
fn history_goes_on_in_the_next_run() {
    let (busy, home) = (Busy::start(&echo(), &[]), folder());
    let mut first = attach(busy.server.pid(), home.path());
    first.line("funcs ^main.main$");
    first.wait_for("main.main\n");
    first.wait_for(PROMPT);
    first.send("\x04");
    assert!(first.finish().0.success());
    let mut second = attach(busy.server.pid(), home.path());
    second.send("\x1b[A");
    second.wait_for("funcs ^main.main$");
    second.send("\r");
    second.wait_for("main.main\n");
    // Enter alone does it again.
    second.wait_for(PROMPT);
    second.send("\r");
    second.wait_for("main.main\n");
    second.wait_for(PROMPT);
    second.send("\x04");
    assert!(second.finish().0.success());
}

#[test]
fn control_c_cancels_what_is_typed_and_what_is_waited_for() {
    let (mut busy, home) = (Busy::start(&echo(), &[]), folder());
    let pid = busy.server.pid();
    let mut terminal = attach(pid, home.path());
    terminal.send("nonsense");
    terminal.wait_for("nonsense");
    terminal.send("\x03");
    terminal.wait_for(PROMPT);
    terminal.line("bp");
    terminal.wait_for("no tracepoints");
    terminal.wait_for(PROMPT);
    // Nobody comes there any more.
    terminal.line("break main.main");
    terminal.wait_for("Breakpoint 1 set at ");
    terminal.line("continue");
    terminal.wait_for("nothing is stopped; waiting");
    terminal.send("\x03");
    terminal.wait_for(PROMPT);
    terminal.line("threads");
    terminal.wait_for(&format!("Thread {pid} "));
    terminal.wait_for(PROMPT);
    terminal.send("\x04");
    assert!(terminal.finish().0.success());
    busy.must_be_clean("Ctrl-C never reached the target");
}

#[test]
fn control_d_detaches_and_blocks_go_over_lines() {
    let (mut busy, home) = (Busy::start(&echo(), &[]), folder());
    let pid = busy.server.pid();
    let mut terminal = attach(pid, home.path());
    terminal.line("trace net.(*conn).Write if n > 0 {");
    terminal.line("    print goid, n");
    terminal.line("}");
    terminal.wait_for("Tracepoint 1 on net.(*conn).Write");
    terminal.wait_for(", n = 64");
    terminal.wait_for(PROMPT);
    terminal.send("\x04");
    let (status, text) = terminal.finish();
    assert!(status.success(), "{text}");
    busy.must_be_clean("Ctrl-D");
    // The terminal is as it was: no bracketed paste, no raw mode.
    assert!(text.contains(" calls seen, "), "{text}");
}

#[test]
fn a_window_that_changes_and_a_line_longer_than_it() {
    let (busy, home) = (Busy::start(&echo(), &[]), folder());
    let mut terminal = attach(busy.server.pid(), home.path());
    terminal.resize(10, 40);
    let names = ["main.main", "net.(*conn).Read"]
        .map(regex::escape)
        .join("|");
    let long = format!("funcs ^({names}|{})$", "x".repeat(300));
    for part in long.as_bytes().chunks(20) {
        terminal.send(std::str::from_utf8(part).expect("ASCII"));
        terminal.resize(10, 30 + u16::try_from(part.len()).expect("small"));
    }
    terminal.send("\r");
    let shown = terminal.wait_for("main.main\nnet.(*conn).Read\n");
    assert!(shown.contains("xxx"));
    terminal.resize(50, 200);
    terminal.line("bp");
    terminal.wait_for("no tracepoints");
    terminal.wait_for(PROMPT);
    terminal.send("\x04");
    assert!(terminal.finish().0.success());
}

#[test]
fn a_dumb_terminal() {
    let (mut busy, home) = (Busy::start(&echo(), &[]), folder());
    let pid = busy.server.pid();
    let mut terminal = AtTerminal::start(&["attach", &pid.to_string()], home.path(), "dumb");
    terminal.wait_for(PROMPT);
    terminal.line("t net.(*conn).Read");
    terminal.wait_for("Tracepoint 1 on net.(*conn).Read");
    terminal.wait_for("n=64 err=nil");
    terminal.line("clearall");
    terminal.wait_for("Tracepoint 1 cleared");
    terminal.wait_for(PROMPT);
    terminal.send("\x04");
    assert!(terminal.finish().0.success());
    busy.must_be_clean("a dumb terminal");
}

#[test]
fn control_z_leaves_the_target_until_gotap_goes_on() {
    let (mut busy, home) = (Busy::start(&echo(), &[]), folder());
    let pid = busy.server.pid();
    let mut terminal = attach(pid, home.path());
    terminal.line("t net.(*conn).Read");
    terminal.wait_for("n=64 err=nil");
    terminal.send("\x1a");
    let own = terminal.pid();
    assert!(poll(LATER, || oracle::state(own) == Some('T')));
    wait_untraced(pid);
    busy.must_be_clean("while gotap is suspended");
    terminal.signal(Signal::SIGCONT);
    wait_traced(pid);
    terminal.wait_for(PROMPT);
    terminal.wait_for("n=64 err=nil");
    terminal.line("exit");
    assert!(terminal.finish().0.success());
    busy.must_be_clean("after Ctrl-Z and fg");
}

#[test]
fn a_terminal_that_stalls_holds_nobody_up() {
    let (mut busy, home) = (Busy::start(&echo(), &[]), folder());
    let pid = busy.server.pid();
    let args = ["attach", &pid.to_string()];
    let mut terminal = AtTerminal::start_unread(&args, home.path(), "dumb");
    terminal.line("t net.(*conn).Read");
    wait_traced(pid);
    assert!(busy.progresses(20_000), "it stands still with its terminal");
    terminal.read_on();
    terminal.wait_for_within("n=64 err=nil", LATER);
    terminal.line("exit");
    let (status, text) = terminal.finish();
    assert!(status.success(), "{text}");
    busy.must_be_clean("a terminal that stalled");
}

/// A signal that ends gotap in the middle of a line leaves the target, and the
/// terminal, as they were.
#[test]
fn the_end_in_the_middle_of_a_line() {
    let (mut busy, home) = (Busy::start(&echo(), &[]), folder());
    let mut terminal = attach(busy.server.pid(), home.path());
    terminal.line("t net.(*conn).Read");
    terminal.wait_for("n=64 err=nil");
    terminal.send("goroutin");
    terminal.signal(Signal::SIGTERM);
    assert!(terminal.finish().0.success());
    busy.must_be_clean("SIGTERM in the middle of a line");
}

#[test]
fn commands_from_a_pipe() {
    let mut busy = Busy::start(&echo(), &[]);
    let pid = busy.server.pid().to_string();
    let mut command = gotap::command(&["attach", &pid, "-o", "json"]);
    command.stdin(Stdio::from(written(
        "trace net.(*conn).Read if n > 0 {\n  print n\n}\ngoroutines -group state\nbogus\nfor 200ms\n",
    )));
    let outcome = Gotap::spawn(command).finish(LATER);
    // One of the commands was wrong: it is said, and the rest is done.
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        outcome.errors().contains("unknown command `bogus`"),
        "{}",
        outcome.errors()
    );
    let records = outcome.records();
    assert!(records.iter().any(|r| r["func"] == "net.(*conn).Read"));
    assert!(
        records
            .iter()
            .any(|r| r["action"] == "print" && r["values"]["n"] == 64)
    );
    assert!(records.iter().any(|r| r["groups"].is_array()));
    busy.must_be_clean("commands from a pipe");
}

/// A pipe with some text in it.
fn written(text: &str) -> std::io::PipeReader {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(text.as_bytes()).expect("write to a pipe");
    reader
}

#[test]
fn what_is_wrong_is_said_at_the_prompt() {
    let (mut busy, home) = (Busy::start(&echo(), &[]), folder());
    let mut terminal = attach(busy.server.pid(), home.path());
    for (typed, answer) in [
        (
            "trcae main.main",
            "unknown command `trcae`; did you mean `trace`?",
        ),
        (
            "t net.(*conn).Read if feed == 7",
            "unknown name `feed`; did you mean `fd`?",
        ),
        ("next", "the target runs: halt or a breakpoint stops it"),
        ("call main.main()", "call would run code in the target"),
        (
            "print goid",
            "no goroutine is chosen: goroutine ID chooses one",
        ),
        ("stack 4711", "there is no goroutine 4711"),
        ("clear 3", "there is no tracepoint `3`; there are none yet"),
        ("on 1 print n", "there is no tracepoint `1`"),
        ("config max-gorutines 3", "did you mean `max-goroutines`?"),
    ] {
        terminal.line(typed);
        terminal.wait_for(answer);
        terminal.wait_for(PROMPT);
    }
    terminal.send("\x04");
    assert!(terminal.finish().0.success());
    busy.must_be_clean("wrong commands");
}

#[test]
fn a_target_that_ends_is_told_at_the_prompt() {
    let (busy, home) = (Busy::start(&echo(), &[]), folder());
    let mut terminal = attach(busy.server.pid(), home.path());
    terminal.line("t net.(*conn).Read");
    terminal.wait_for("n=64 err=nil");
    busy.server.signal(Signal::SIGKILL);
    terminal.wait_for("the target was killed by SIGKILL");
    terminal.line("funcs ^main.main$");
    terminal.wait_for("main.main\n");
    terminal.wait_for(PROMPT);
    terminal.send("\x04");
    wait_for("it ends", LATER, || {
        terminal.text().contains("calls seen").then_some(())
    });
    assert!(terminal.finish().0.success());
}
