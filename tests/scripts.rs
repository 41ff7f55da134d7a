//! Scripts: what `gotap check` finds, and what `gotap run` does on a live
//! program.

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use support::scenario::Busy;
use support::{Fixture, Gotap, LATER, SOON, Target, Variant, dump, gotap, oracle, poll, script};

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
            "trace net.(*conn).Read { stack 8; regs }",
            "1:35: `regs` cannot stand in the block of a trace: print, args, locals and stack can",
        ),
        (
            "break main.main {\n    locals\n    print goid, os.Agrs\n}",
            "3:17: unknown name `os`",
        ),
        (
            "snap main.main { locals; print remot }",
            "1:32: unknown name `remot`; did you mean `remote`?",
        ),
        (
            "break m main.main\non m { frame 1; print whatever; next }",
            "2:33: a step waits for a stop, which the block of one cannot",
        ),
        (
            "break main.main { goroutine 1 step }",
            "1:31: a step waits for a stop, which the block of one cannot",
        ),
        (
            "break main.main if dur > 5ms",
            "1:20: `dur` is not known yet where a call begins; a trace knows it at the end",
        ),
        (
            "break net.(*conn).Read if n == 0",
            "1:27: `n` is not known yet where a call begins; a trace knows it at the end",
        ),
        (
            "break net.(*conn).Read if hit.err != nil",
            "1:31: `err` is not known yet where a call begins; a trace knows it at the end",
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

/// Tracepoints come and go while calls are under way: those of the one that
/// stays are all told, once.
#[test]
fn no_call_is_missed_while_tracepoints_come_and_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let before = oracle::footprint(server.pid());
    let mut load = Target::echo_load(&echo, &addr, &["-conns", "8", "-calls", "1500", "-late"]);
    let path = script(
        folder.path(),
        "trace r net.(*conn).Read\ntrace w net.(*conn).Write\nevery 40ms { toggle w }\n\
         every 90ms { trace net.(*netFD).Read; clear 3; trace x internal/poll.(*FD).Read; clearall (*FD).Read }\n\
         on exit { breakpoints }\n",
    );
    let mut gotap = Gotap::run_json(&path, server.pid());
    gotap
        .stderr_line("Tracepoint w on", SOON)
        .expect("it is armed");
    load.tell("go");
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["open"] == 0));
    let counts = server.ask("counts");
    let outcome = gotap.stop();
    let reads = outcome.calls_of("net.(*conn).Read");
    let ended = reads.iter().filter(|c| c["end"] == "return").count();
    assert_eq!(counts["total"]["reads"], ended, "{:?}", outcome.stderr);
    assert!(outcome.errors().contains(" 0 lost"), "{}", outcome.errors());
    // The other one was told in part: it was off for about half of the time.
    let writes = outcome.calls_of("net.(*conn).Write").len();
    assert!(writes > 0 && writes < 12_000, "{writes}");
    assert!(server.answers());
    oracle::assert_clean(server.pid(), &before, "after many changes");
}

#[test]
fn conditions_counts_and_actions() {
    let folder = tempfile::tempdir().expect("a folder");
    let ends = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&ends, &[]);
    let mut load = Target::echo_load(&ends, &addr, &["-conns", "4", "-calls", "100", "-late"]);
    let saved = folder.path().join("saved.gotap");
    let path = script(
        folder.path(),
        &format!(
            "trace big net.(*conn).Read if n == 64 {{\n    print n, fd, err\n    stack 4\n}}\n\
             condition -hitcount big % 100\n\
             trace each (*conn).Write\ncondition -per-g-hitcount each == 7\non each args\n\
             trace off net.(*conn).Close\ntoggle off\nbreakpoints -save {}\non exit {{ summary }}\n",
            text(&saved)
        ),
    );
    let mut gotap = Gotap::run_json(&path, server.pid());
    gotap
        .stderr_line("Tracepoint off is off", SOON)
        .expect("it is armed");
    load.tell("go");
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["open"] == 0));
    let outcome = gotap.stop();
    outcome.must_succeed();
    let records = outcome.records();
    let of = |action: &str| records.iter().filter(|r| r["action"] == action).count();
    // 400 Reads bring data: every hundredth is told. The seventh Write of each
    // of four goroutines.
    assert_eq!(outcome.calls_of("net.(*conn).Read").len(), 4);
    assert_eq!((of("print"), of("stack"), of("args")), (4, 4, 4));
    assert_eq!(outcome.calls_of("net.(*conn).Write").len(), 4);
    assert_eq!(outcome.calls_of("net.(*conn).Close").len(), 0);
    let stack = records
        .iter()
        .find(|r| r["action"] == "stack")
        .expect("a stack");
    assert_eq!(stack["stack"][0]["func"], "net.(*conn).Read");
    assert!(stack["stack"].as_array().is_some_and(|s| s.len() >= 2));
    assert!(records.iter().any(|r| r.get("summary").is_some()));
    // What was saved is read back, and says the same.
    let written = fs::read_to_string(&saved).expect("it was saved");
    assert_eq!(
        written,
        "trace big net.(*conn).Read if n == 64 {\n    print n, fd, err\n    stack 4\n}\n\
         condition -hitcount big % 100\ntrace each (*conn).Write {\n    args\n}\n\
         condition -per-g-hitcount each == 7\ntrace off net.(*conn).Close\ntoggle off\n"
    );
    let again = folder.path().join("again.gotap");
    let source = script(
        folder.path(),
        &format!(
            "source saved.gotap\nbreakpoints -save {}\nexit\n",
            text(&again)
        ),
    );
    gotap::run(&["run", text(&source), "-p", &server.pid().to_string()]).must_succeed();
    assert_eq!(fs::read_to_string(&again).expect("saved again"), written);
}

#[test]
fn a_script_with_an_error_touches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = Target::echo_server(&Fixture::build("echo", &[]), &[]);
    let path = script(folder.path(), "trace net.(*conn).Read\nbreak main.mian\n");
    let outcome = gotap::run(&["run", text(&path), "-p", &server.pid().to_string()]);
    assert_eq!(outcome.status.code(), Some(1));
    let errors = outcome.errors();
    assert!(
        errors.contains("a.gotap:2:7: no function is called `main.mian`"),
        "{errors}"
    );
    assert!(errors.contains("nothing was touched"), "{errors}");
    assert!(!errors.contains("Tracepoint"), "{errors}");
}

#[test]
fn what_fails_is_told_and_the_script_goes_on_unless_told_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = Target::echo_server(&Fixture::build("echo", &[]), &[]);
    let pid = server.pid().to_string();
    let run = |text_of: &str| {
        let path = script(folder.path(), text_of);
        gotap::run(&["run", text(&path), "-p", &pid])
    };
    let going = run("stack 4711\nfuncs ^main.main$\n");
    assert_eq!(going.status.code(), Some(1));
    assert!(
        going
            .errors()
            .contains("a.gotap:1:1: there is no goroutine 4711")
    );
    assert_eq!(going.text(), "main.main\n");
    let stopped = run("set -e\nstack 4711\nfuncs ^main.main$\n");
    assert_eq!(stopped.status.code(), Some(1));
    assert_eq!(stopped.text(), "");
}

/// Every command that only looks, on builds that differ in what they know.
#[test]
fn commands_that_look() {
    for variants in [&[][..], &[Variant::Stripped], &[Variant::Pie]] {
        let folder = tempfile::tempdir().expect("a folder");
        let echo = Fixture::build("echo", variants);
        let (server, addr) = Target::echo_server(&echo, &[]);
        let mut load = Target::echo_load(&echo, &addr, &["-conns", "2", "-calls", "1", "-linger"]);
        load.expect_line("finished");
        let pid = server.pid();
        for (command, wanted) in [
            ("goroutines", "IO wait"),
            ("goroutines -group reason", "COUNT"),
            (
                "goroutines -with user main.(*server).echoTCP -t",
                "main.(*server).echoTCP(",
            ),
            ("goroutines -without reason \"IO wait\"", "GOID"),
            (
                "goroutines -with user acceptTCP -exec bt 1",
                "runtime.gopark(",
            ),
            ("grs -with peer 127.0.0.1:", "echoTCP"),
            ("goroutine 1 stack", "main.main("),
            ("gr 1", "main."),
            ("bt 1", "main.main("),
            ("stack 1 2", "syscall.read("),
            ("threads", "Thread "),
            ("funcs net.\\(\\*conn\\).Read", "net.(*conn).Read\n"),
            ("types ^\\*net.conn$", "*net.conn\n"),
            ("packages ^net$", "net\n"),
            ("sources serve.go", "serve.go"),
            ("list main.main", "func main() {"),
            ("list serve.go:246", "func serve("),
            ("ls main.main:30", "=>"),
            ("disass main.main", "TEXT main.main"),
            ("libraries", "echo-"),
            ("fds", "ESTABLISHED"),
            ("conns LISTEN", "reads: "),
            ("config", "max-lines"),
            ("help goroutines", "-group WHAT"),
            ("help", "trace, t"),
            ("breakpoints", "no tracepoints"),
            ("summary", "no calls yet"),
        ] {
            let path = script(folder.path(), command);
            let outcome = gotap::run(&["run", text(&path), "-p", &pid.to_string()]);
            outcome.must_succeed();
            let shown = outcome.text();
            assert!(
                shown.contains(wanted),
                "{}: {command}:\n{shown}",
                echo.label
            );
        }
    }
}

/// Killed while a tracepoint is added: the target goes on, and is cleaned.
#[test]
fn killed_while_sites_are_added() {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().expect("a folder");
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let path = script(
        folder.path(),
        "trace net.(*conn).Read\ntrace net.(*conn).Write\ntrace net.(*netFD).Read\nexit\n",
    );
    let pid = busy.server.pid().to_string();
    for point in [
        "extend:after-map",
        "extend:after-region",
        "extend:after-sigaction",
    ] {
        for count in [1, 2] {
            let mut command = gotap::command(&["run", text(&path), "-p", &pid, "-o", "json"]);
            command.env("GOTAP_TEST_DIE_AT", format!("{point}:{count}"));
            let outcome = Gotap::spawn(command).finish(LATER);
            let when = format!("killed at {point}:{count}");
            assert_eq!(outcome.status.signal(), Some(9), "{when}");
            busy.must_go_on(&when);
            busy.must_be_traceable(&when);
        }
    }
}

/// Variables of a parked goroutine: live, of a core, and with the symbols of the
/// unstripped twin.
#[test]
fn frames_of_a_parked_goroutine() {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::build("locals", &[Variant::NoOpt]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready");
    let pid = target.pid().to_string();
    let look = gotap::run(&["goroutines", "--list", "-o", "json", "-p", &pid]);
    let look: serde_json::Value = serde_json::from_str(&look.text()).expect("JSON");
    let goids = look["goroutines"].as_array().expect("a list").iter();
    let goid = goids
        .filter_map(|g| g["goid"].as_u64())
        .find(|goid| {
            let stack = gotap::run(&["stack", &goid.to_string(), "-p", &pid]);
            stack.text().contains("main.scalars(")
        })
        .expect("a goroutine in scalars");
    let run = |text_of: &str| {
        let path = script(folder.path(), text_of);
        let outcome = gotap::run(&["run", text(&path), "-p", &pid]);
        (outcome.text(), outcome.errors())
    };
    let (full, _) = run(&format!("stack {goid} -full"));
    let frames = full.lines().filter(|l| !l.starts_with(' '));
    let frame = frames
        .into_iter()
        .position(|l| l == "main.scalars")
        .unwrap_or_else(|| panic!("{full}"));
    assert!(full.contains("i16 = -1600"), "{full}");
    let commands = format!(
        "goroutine {goid} frame {frame} locals\ngr {goid} frame {frame} args\n\
         goroutine {goid}\nframe {frame}\nprint i8 + 1, u16 == 65535, f32 < 1.0, goid == {goid}\n\
         whatis u16\nup\ndown 1\n"
    );
    let (shown, errors) = run(&commands);
    for wanted in [
        "i16 = -1600\n",
        "u64 = 9223372036854775808\n",
        "i8 + 1 = -7\n",
        "u16 == 65535 = true\n",
        "f32 < 1.0 = true\n",
        &format!("goid == {goid} = true\n"),
        "uint16\n",
        &format!("frame {frame}: main.scalars "),
    ] {
        assert!(shown.contains(wanted), "{wanted}\n{shown}\n{errors}");
    }
    let (_, errors) = run(&format!(
        "goroutine {goid} frame {frame} print nobody\nlocals\n"
    ));
    assert!(errors.contains("unknown name `nobody`"), "{errors}");
    assert!(
        errors.contains("a.gotap:2:1: no goroutine is chosen"),
        "{errors}"
    );
    // A core file says the same.
    let core = dump::gcore(target.pid(), folder.path());
    let mut command = gotap::command(&["attach", "--core", text(&core), text(&fixture.path)]);
    command.stdin(Stdio::from(
        fs::File::open(script(folder.path(), &commands)).expect("open"),
    ));
    let of_core = Gotap::spawn(command).finish(LATER);
    of_core.must_succeed();
    assert_eq!(of_core.text(), shown);
    let path = script(
        folder.path(),
        "trace main.park\ncontinue\nfds\nfuncs ^main.park$\n",
    );
    let mut command = gotap::command(&["attach", "--core", text(&core), text(&fixture.path)]);
    command.stdin(Stdio::from(fs::File::open(path).expect("open")));
    let refused = Gotap::spawn(command).finish(LATER);
    for wanted in [
        "a core file runs no code",
        "a core file does not run",
        "no open descriptors",
    ] {
        assert!(refused.errors().contains(wanted), "{}", refused.errors());
    }
    assert_eq!(refused.text(), "main.park\n");
}

#[test]
fn a_stripped_program_has_no_variables_but_by_its_twin() {
    let folder = tempfile::tempdir().expect("a folder");
    let stripped = Fixture::build("locals", &[Variant::Stripped]);
    let mut target = Target::start(&stripped, &[]);
    target.expect_line("ready");
    let pid = target.pid().to_string();
    let path = script(folder.path(), "goroutine 1 locals\n");
    let outcome = gotap::run(&["run", text(&path), "-p", &pid]);
    assert!(
        outcome.errors().contains("--symbols FILE takes it from"),
        "{}",
        outcome.errors()
    );
}

/// `gotap run … | head -1`, with records and with what a timer prints.
#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let echo = Fixture::build("echo", &[]);
    let mut busy = Busy::start(&echo, &[]);
    let pid = busy.server.pid().to_string();
    for source in ["trace net.(*conn).Read\n", "every 10ms { threads }\n"] {
        let path = script(folder.path(), source);
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let command = gotap::command(&["run", text(&path), "-p", &pid]);
        let gotap = Gotap::spawn_into(command, Stdio::from(writer));
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut reader, &mut first).expect("something is written");
        drop(reader);
        gotap.finish(LATER).must_succeed();
        busy.must_be_clean("the reader is gone");
    }
}
