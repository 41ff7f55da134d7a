//! The command line: what each option prints.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use regex::Regex;
use serde_json::Value;
use support::scenario::{READ, WRITE, list, number, text};
use support::{Fixture, Gotap, LATER, Outcome, SOON, Target, Variant, gotap, oracle, poll};

/// Every field a record may have.
const FIELDS: &[&str] = &[
    "id",
    "parent",
    "time",
    "dur_ns",
    "goid",
    "tid",
    "func",
    "fd",
    "network",
    "local",
    "remote",
    "note",
    "len",
    "args",
    "results",
    "n",
    "err",
    "err_structural",
    "end",
    "since_attach",
    "entry_lost",
    "doubtful",
    "late",
    "stack",
    "payload",
    "payload_len",
];

/// Two connections with ten messages each, traced with the options given.
fn trace_echo(patterns: &[&str], more: &[&str]) -> Outcome {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let mut load = Target::echo_load(&echo, &addr, &["-conns", "2", "-calls", "10", "-late"]);
    let pid = server.pid().to_string();
    let mut args = vec!["trace"];
    args.extend(patterns);
    args.extend(["-p", &pid]);
    args.extend(more);
    let mut gotap = Gotap::spawn(gotap::command(&args));
    gotap.armed();
    load.tell("go");
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["total"]["closes"] == 2));
    let outcome = gotap.stop();
    outcome.must_succeed();
    assert!(server.answers());
    outcome
}

#[test]
fn one_line_a_call() {
    let outcome = trace_echo(&[READ, WRITE], &[]);
    let read = Regex::new(
        r"^\d\d:\d\d:\d\d\.\d{6}  ?g\d+ +(?:· )?net\.\(\*conn\)\.Read +fd=\d+ tcp 127\.0\.0\.1:\d+ ← 127\.0\.0\.1:\d+ +len=4096 +→ n=(64|0) +err=(nil|EOF) +[\d.]+(ns|µs|ms|s)$",
    )
    .expect("a pattern");
    let lines: Vec<String> = outcome.text().lines().map(str::to_string).collect();
    assert_eq!(lines.len(), 2 * (10 + 1) + 2 * 10, "{lines:#?}");
    let reads: Vec<&String> = lines.iter().filter(|l| l.contains(READ)).collect();
    assert_eq!(reads.len(), 22);
    for line in reads {
        assert!(read.is_match(line), "{line}");
        assert!(!line.contains('\u{1b}'), "no colour in a pipe: {line:?}");
    }
    assert_eq!(
        lines.iter().filter(|l| l.contains("→ 127.0.0.1")).count(),
        20
    );
}

#[test]
fn the_style_of_dlv() {
    let text = trace_echo(&[READ], &["--style", "dlv"]).text();
    let entry = Regex::new(r"(?m)^> goroutine\(\d+\): net\.\(\*conn\)\.Read").expect("a pattern");
    let end =
        Regex::new(r"(?m)^>> goroutine\(\d+\): net\.\(\*conn\)\.Read.* => \(").expect("a pattern");
    assert_eq!(entry.find_iter(&text).count(), 22, "{text}");
    assert_eq!(end.find_iter(&text).count(), 22, "{text}");
}

#[test]
fn json_fields() {
    let outcome = trace_echo(&[READ, WRITE], &["-o", "json"]);
    let records = outcome.records();
    assert_eq!(records.len(), 42);
    for record in &records {
        for field in record.as_object().expect("an object").keys() {
            assert!(FIELDS.contains(&field.as_str()), "{field} in {record}");
        }
        assert!(record["err"].is_null() || record["err"].is_string());
        assert!(record.as_object().expect("an object").contains_key("err"));
        assert_eq!(text(record, "end"), "return");
        assert!(record["args"].is_object());
    }
}

#[test]
fn a_filter() {
    let outcome = trace_echo(&[READ], &["-o", "json", "--where", "err != nil"]);
    let calls = outcome.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|c| c["err"] == "EOF"));
    let tally = outcome.tally();
    assert_eq!((tally.seen, tally.filtered, tally.lost), (22, 20, 0));

    for (expression, expected) in [
        ("n == 64 && err == nil", 20),
        ("n == 0", 2),
        ("err =~ \"EO\"", 2),
        ("remote =~ \"127\\\\.\"", 22),
        ("dur > 1h", 0),
        ("dur >= 0ms || n == 5", 22),
        ("!(n == 64)", 2),
        ("func =~ \"conn\"", 22),
    ] {
        let outcome = trace_echo(&[READ], &["-o", "json", "--where", expression]);
        assert_eq!(outcome.calls().len(), expected, "{expression}");
    }
}

#[test]
fn a_number_of_calls() {
    let echo = Fixture::build("echo", &[]);
    let (server, addr) = Target::echo_server(&echo, &[]);
    let _load = Target::echo_load(&echo, &addr, &["-conns", "2", "-calls", "-1"]);
    let gotap = Gotap::trace_json(server.pid(), &[READ], &["-n", "7"]);
    let outcome = gotap.finish(LATER);
    let calls = outcome.must_succeed().calls();
    assert_eq!(calls.iter().filter(|c| c["end"] != "open").count(), 7);
}

#[test]
fn a_time() {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let _load = Target::echo_load(&echo, &addr, &["-conns", "2", "-calls", "-1"]);
    let began = Instant::now();
    let gotap = Gotap::trace_json(server.pid(), &[READ], &["--for", "300ms"]);
    let outcome = gotap.finish(LATER);
    assert!(began.elapsed().as_millis() >= 300);
    assert!(!outcome.must_succeed().calls().is_empty());
    assert!(server.answers());
}

#[test]
fn call_stacks() {
    for variants in [&[][..], &[Variant::Stripped]] {
        let echo = Fixture::build("echo", variants);
        let (server, addr) = Target::echo_server(&echo, &[]);
        let mut load = Target::echo_load(&echo, &addr, &["-conns", "1", "-calls", "5", "-late"]);
        let gotap = Gotap::trace_json(server.pid(), &[READ], &["-s", "8"]);
        load.tell("go");
        load.answer("done", LATER);
        let calls = gotap.stop().calls();
        assert!(calls.len() >= 5, "{}", echo.label);
        for call in &calls {
            let stack = list(call, "stack");
            let funcs: Vec<String> = stack.iter().map(frame_text).collect();
            assert!(
                funcs.iter().any(|f| f.contains("main.(*server).echoTCP")),
                "{}: {funcs:?}",
                echo.label
            );
            assert!(funcs.iter().any(|f| f.contains("serve.go")), "{funcs:?}");
            assert!(stack.len() <= 8);
        }
    }
}

/// A frame as text, whether it is an object or a line.
fn frame_text(frame: &Value) -> String {
    frame
        .as_str()
        .map_or_else(|| frame.to_string(), str::to_string)
}

#[test]
fn payload() {
    let outcome = trace_echo(&[READ, WRITE], &["--payload=16"]);
    let text = outcome.text();
    assert_eq!(text.matches("abcdefghijklmnop").count(), 40, "{text}");
    assert!(
        !text.contains("abcdefghijklmnopq"),
        "no more than asked for"
    );
}

#[test]
fn a_summary() {
    let outcome = trace_echo(&[READ, WRITE], &["--summary"]);
    let all = format!("{}\n{}", outcome.text(), outcome.errors());
    for word in ["p50", "p90", "p99", "max"] {
        assert!(all.contains(word), "{word} in:\n{all}");
    }
    let read = all.lines().find(|l| l.contains(READ) && l.contains("22"));
    assert!(read.is_some(), "22 Reads in the summary:\n{all}");
}

#[test]
fn a_list_without_attaching() {
    let echo = Fixture::build("echo", &[]);
    let (mut server, _) = Target::echo_server(&echo, &[]);
    let before = oracle::footprint(server.pid());
    let pid = server.pid().to_string();
    let outcome = gotap::run(&[
        "trace",
        r"net\.\(\*conn\)\.(Read|Write)$",
        "--list",
        "-p",
        &pid,
    ]);
    let text = outcome.must_succeed().text();
    assert!(text.contains(READ) && text.contains(WRITE), "{text}");
    let outcome = gotap::run(&["trace", "--preset", "conn", "--list", "-p", &pid]);
    let text = outcome.must_succeed().text();
    for func in [READ, WRITE, "net.(*conn).Close", "net.(*conn).SetDeadline"] {
        assert!(text.contains(func), "{func} in:\n{text}");
    }
    // What `go tool nm` calls net.(*conn).X is found, every one.
    let nm = std::process::Command::new("go")
        .args(["tool", "nm"])
        .arg(&echo.path)
        .output()
        .expect("run go tool nm");
    let symbols = String::from_utf8_lossy(&nm.stdout).into_owned();
    let listed = gotap::run(&[
        "trace",
        r"^net\.\(\*conn\)\.[A-Z][A-Za-z]*$",
        "--list",
        "-p",
        &pid,
    ])
    .text();
    let method = Regex::new(r" T (net\.\(\*conn\)\.[A-Z][A-Za-z]*)$").expect("a pattern");
    for line in symbols.lines() {
        if let Some(found) = method.captures(line) {
            assert!(listed.contains(&found[1]), "{} in:\n{listed}", &found[1]);
        }
    }
    assert!(server.answers());
    oracle::assert_clean(server.pid(), &before, "--list");
}

/// A function that is everywhere inlined has no entry to arm.
#[test]
fn a_function_that_is_only_inlined() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let pid = target.pid().to_string();
    let outcome = gotap::run(&["trace", "main.addressOf", "-p", &pid]);
    assert_eq!(outcome.status.code(), Some(1));
    let said = outcome.errors();
    assert!(said.contains("inline"), "{said}");
    assert!(said.contains("main.movedOuter"), "its caller: {said}");
}

/// A name that is like none: what there is beside it.
#[test]
fn a_name_like_no_other_is_answered_with_its_package() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let pid = target.pid().to_string();
    let outcome = gotap::run(&["trace", "main.nosuchthing", "-p", &pid]);
    assert_eq!(outcome.status.code(), Some(1));
    let said = outcome.errors();
    assert!(said.contains("nearest names: main."), "{said}");
}

/// What can be traced is, and the calls that nobody sees are said.
#[test]
fn a_function_that_is_only_inlined_beside_others() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let pid = target.pid().to_string();
    let patterns = ["main.addressOf", "main.movedOuter"];
    let listed = gotap::run(&["trace", patterns[0], patterns[1], "--list", "-p", &pid]);
    let text = listed.must_succeed().text();
    assert!(text.contains("main.movedOuter  "), "{text}");
    assert!(
        text.contains("main.addressOf is only inlined, in main.moved"),
        "{text}"
    );
    let traced = gotap::run(&[
        "trace",
        "main.addressOf|movedOuter",
        "--for",
        "50ms",
        "-p",
        &pid,
    ]);
    let said = traced.must_succeed().errors();
    assert!(
        said.contains("main.addressOf is only inlined, in "),
        "{said}"
    );
    assert!(target.answers());
}

#[test]
fn processes() {
    let plain = Fixture::build("echo", &[]);
    let stripped = Fixture::build("echo", &[Variant::Stripped]);
    let (one, _) = Target::echo_server(&plain, &[]);
    let (two, _) = Target::echo_server(&stripped, &[]);
    let outcome = gotap::run(&["ps"]);
    let text = outcome.must_succeed().text();
    let version = support::Toolchain::Machine.version();
    let version = version
        .split(' ')
        .nth(2)
        .expect("go version goX")
        .to_string();
    let line = |pid: i32| {
        let pid = pid.to_string();
        text.lines()
            .find(|l| l.split_whitespace().next() == Some(&pid))
            .unwrap_or_else(|| panic!("no line of pid {pid} in:\n{text}"))
            .to_string()
    };
    let own = std::process::id().to_string();
    for pid in [one.pid(), two.pid()] {
        let line = line(pid);
        assert!(line.contains(&version), "{line}");
        assert!(line.contains("gotap.test/echo"), "{line}");
        assert!(
            line.split_whitespace().any(|w| w == own),
            "its parent: {line}"
        );
    }
    let stripped = |pid: i32| line(pid).split_whitespace().any(|w| w == "yes");
    assert!(!stripped(one.pid()) && stripped(two.pid()), "{text}");
    assert!(
        !text
            .lines()
            .any(|l| l.split_whitespace().next() == Some(own.as_str())),
        "not Go:\n{text}"
    );
}

/// `gotap trace … -- program`: from its first instruction, its own stdout on
/// stderr.
#[test]
fn a_program_it_starts() {
    for variants in [
        &[][..],
        &[Variant::Stripped],
        &[Variant::Pie],
        &[Variant::Cgo],
    ] {
        let ends = Fixture::build("ends", variants);
        let path = ends.path.to_str().expect("a path");
        let outcome = gotap::run(&[
            "trace",
            "main.recurse",
            "main.hot",
            "-o",
            "json",
            "--",
            path,
            "recurse",
            "many",
        ]);
        let calls = outcome.must_succeed().calls();
        assert_eq!(calls.len(), 61 + 50_000, "{}", ends.label);
        assert!(calls.iter().all(|c| c["end"] == "return"));
        assert!(
            outcome.errors().contains("recurse {\"calls\":61"),
            "its own output"
        );
    }
}

#[test]
fn a_program_that_fails() {
    let ends = Fixture::build("signals", &[]);
    let path = ends.path.to_str().expect("a path");
    let mut command = gotap::command(&["trace", "main.tick", "-o", "json", "--", path]);
    command.stdin(std::process::Stdio::piped());
    // Its stdin is gotap's.
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("stdin");
    std::fs::write(&input, "work 1\nexit 9\n").expect("write a file");
    command.stdin(std::fs::File::open(&input).expect("open a file"));
    let outcome = gotap::run_command(command);
    let said = outcome.errors();
    assert!(said.contains("exit") && said.contains('9'), "{said}");
}

#[test]
fn an_output_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("calls.jsonl");
    let path_text = path.to_str().expect("a path");
    let ends = Fixture::build("ends", &[]);
    let program = ends.path.to_str().expect("a path");
    let outcome = gotap::run(&[
        "trace",
        "main.recurse",
        "-o",
        "json",
        "--out",
        path_text,
        "--",
        program,
        "recurse",
    ]);
    outcome.must_succeed();
    let written = std::fs::read_to_string(&path).expect("the records");
    assert_eq!(written.lines().count(), 61);
    assert!(
        outcome.text().contains("recurse {"),
        "the program has stdout to itself"
    );
}

/// `err` is what the program itself prints.
#[test]
fn errors_as_the_program_prints_them() {
    let fixture = Fixture::build("errs", &[]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready ");
    let gotap = Gotap::trace_json(target.pid(), &[r"^main\.err[A-Z]\w*$"], &[]);
    target.tell("all");
    let all = target.answer("all", LATER);
    let outcome = gotap.stop();
    let by_func: BTreeMap<String, Value> = outcome
        .must_succeed()
        .calls()
        .into_iter()
        .map(|c| (text(&c, "func").to_string(), c))
        .collect();
    for made in all.as_array().expect("a list") {
        let func = text(made, "func");
        let call = by_func
            .get(func)
            .unwrap_or_else(|| panic!("no call of {func}"));
        // `n` is of the net family; here it is one of two results.
        assert_eq!(call["results"]["r0"], made["n"], "{call}");
        if made["own"] == true {
            let shown = text(call, "err");
            let named = shown.contains("main.ownPointer{") || shown.contains("main.ownValue{");
            assert!(named, "{func}: {shown}");
        } else {
            assert_eq!(call["err"], made["err"], "{func}");
        }
    }
}

/// On a stripped binary what net itself returns reads the same.
#[test]
fn errors_of_net_on_a_stripped_binary() {
    for variants in [&[Variant::Stripped][..], &[Variant::Stripped, Variant::Pie]] {
        let fixture = Fixture::build("errs", variants);
        let mut target = Target::start(&fixture, &[]);
        target.expect_line("ready ");
        let gotap = Gotap::trace_json(
            target.pid(),
            &[READ, WRITE, "net.(*Dialer).DialContext"],
            &[],
        );
        target.tell("all");
        let all = target.answer("all", LATER);
        let calls = gotap.stop().calls();
        let found: BTreeSet<&str> = calls.iter().filter_map(|c| c["err"].as_str()).collect();
        for made in all.as_array().expect("a list") {
            let through_net = [
                "EOF",
                "Reset",
                "Pipe",
                "Timeout",
                "Closed",
                "WriteClosed",
                "Refused",
                "DialTimeout",
            ];
            let func = text(made, "func");
            if through_net.iter().any(|k| func == format!("main.err{k}")) {
                let expected = text(made, "err");
                assert!(
                    found.contains(expected),
                    "{}: {expected:?} in {found:#?}",
                    fixture.label
                );
            }
        }
    }
}

/// `--max-rate` gives up a site that is hit too often, and says so.
#[test]
fn a_rate_that_is_too_high() {
    let fixture = Fixture::build("threads", &[]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready ");
    let mut gotap = Gotap::trace_json(target.pid(), &["main.hot"], &["--max-rate", "100"]);
    let said = gotap.stderr_line("main.hot", SOON).expect("it says so");
    assert!(said.contains("100"), "{said}");
    gotap.stop().must_succeed();
}

#[test]
fn the_preset() {
    let outcome = trace_echo(&[], &["--preset", "conn", "-o", "json"]);
    let calls = outcome.calls();
    let funcs: BTreeSet<&str> = calls.iter().map(|c| text(c, "func")).collect();
    assert!(funcs.contains(READ) && funcs.contains(WRITE), "{funcs:?}");
    assert!(funcs.contains("net.(*conn).Close"), "{funcs:?}");
    assert!(funcs.iter().any(|f| f.contains("Accept")), "{funcs:?}");
    let bytes: u64 = calls
        .iter()
        .filter(|c| c["func"] == READ)
        .map(|c| number(c, "n"))
        .sum();
    assert_eq!(bytes, 2 * 10 * 64);
}

#[test]
fn help_and_version() {
    let help = gotap::run(&["--help"]);
    let text = help.must_succeed().text();
    for command in ["trace", "ps", "demo"] {
        assert!(text.contains(command), "{text}");
    }
    let version = gotap::run(&["--version"]);
    assert!(
        version
            .must_succeed()
            .text()
            .contains(env!("CARGO_PKG_VERSION"))
    );
    let trace = gotap::run(&["trace", "--help"]).text();
    for option in [
        "--where",
        "--preset",
        "--slow",
        "--max-rate",
        "--summary",
        "--payload",
    ] {
        assert!(trace.contains(option), "{option} in:\n{trace}");
    }
}

#[test]
fn the_demo() {
    let outcome = gotap::run(&["demo"]);
    let text = outcome.must_succeed().text();
    assert!(text.contains(READ) && text.contains(WRITE), "{text}");
    assert!(text.contains("err=EOF"), "{text}");
    assert!(text.contains("i/o timeout"), "{text}");
    assert!(text.contains("connection reset by peer"), "{text}");
}
