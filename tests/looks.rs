//! `gotap goroutines` as it is used: again and again, twice, of several
//! processes, of cores that are whole, cut or garbage, of a process that dies.

mod support;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use ::gotap::session::look::{Source, Wanted, look};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Fixture, Gotap, LATER, SOON, Target, Variant, dump, gotap, oracle, poll};

fn start(args: &[&str]) -> Target {
    let fixture = Fixture::build("states", &[]);
    let mut target = Target::start(&fixture, args);
    target.answer("ready", LATER);
    target
}

fn json(args: &[&str]) -> Value {
    let outcome = gotap::run(args);
    outcome.must_succeed();
    outcome.records().remove(0)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

#[test]
fn a_leak_shows_itself() {
    let target = start(&["leak"]);
    let pid = target.pid().to_string();
    let diff = ["goroutines", "-p", &pid, "--diff", "1s"];
    let found = json(&[&diff[..], &["-o", "json"]].concat());
    assert_eq!(found["pid"], target.pid());
    let sites = found["sites"].as_array().expect("a list");
    let [site] = &sites[..] else {
        panic!("one site grew: {found}");
    };
    assert_eq!(site["created_func"], "main.leak");
    assert!(
        site["created_file"]
            .as_str()
            .is_some_and(|f| f.ends_with("churn.go"))
    );
    let number = |v: &Value, name: &str| v[name].as_i64().expect("a number");
    let grown = number(site, "after") - number(site, "before");
    assert!(grown > 0, "{found}");
    assert_eq!(number(site, "new"), grown, "those that were stay: {found}");
    assert_eq!(number(&found, "after") - number(&found, "before"), grown);

    let outcome = gotap::run(&diff);
    let text = outcome.must_succeed().text();
    let row = text
        .lines()
        .find(|l| l.contains("main.leak states/churn.go:"));
    assert!(row.is_some_and(|r| r.starts_with('+')), "{text}");
    let quiet = start(&["states", "2"]);
    let pid = quiet.pid().to_string();
    let outcome = gotap::run(&["goroutines", "-p", &pid, "--diff", "100ms"]);
    let text = outcome.must_succeed().text();
    assert!(
        text.contains("no creation site has more or fewer"),
        "{text}"
    );
}

#[test]
fn peers_are_put_together() {
    let target = start(&["conns", "20"]);
    let pid = target.pid().to_string();
    let list = json(&["goroutines", "-p", &pid, "-o", "json", "--list"]);
    let found = json(&["goroutines", "-p", &pid, "-o", "json", "--by", "peer"]);
    let groups = found["groups"].as_array().expect("groups");
    let all = list["goroutines"].as_array().expect("a list");
    let mut seen = 0;
    for group in groups {
        let Some(peer) = group["peer"].as_str() else {
            continue;
        };
        let of_peer = all.iter().filter(|g| g["remote"] == peer).count();
        assert_eq!(group["count"], of_peer, "{peer}");
        seen += of_peer;
    }
    // 20 of TCP and 20 of TLS; other ends of the others have no names.
    assert!(seen >= 40, "{seen}: {found}");
    let sum: u64 = groups.iter().filter_map(|g| g["count"].as_u64()).sum();
    assert_eq!(found["total"], sum, "each is in one group");
}

#[test]
fn who_waits_for_one_server_is_told_with_its_address() {
    for variants in [&[][..], &[Variant::Stripped]] {
        let fixture = Fixture::build("states", variants);
        let mut target = Target::start(&fixture, &["replies", "60"]);
        let server = target.answer("ready", LATER);
        let server = server.as_str().expect("an address");
        let pid = target.pid().to_string();
        let verdict = || {
            let look = json(&["goroutines", "-p", &pid, "-o", "json"]);
            look["verdict"].as_str().map(str::to_owned)
        };
        let told = format!("60 of 62 goroutines wait to read from {server}");
        let made = "created at states/stuck.go:16";
        let before = verdict().expect("a verdict");
        assert_eq!(before, format!("{told}; {made}"));
        // A collection notes since when they wait.
        target.ask("gc");
        target.ask("gc");
        let after = verdict().expect("a verdict");
        let begin = format!("{told}, the oldest for ");
        assert!(after.starts_with(&begin), "{after}");
        assert!(after.ends_with(&format!(" or more; {made}")), "{after}");
    }
}

#[test]
fn a_deadlock_is_called_one() {
    let fixture = Fixture::build("states", &[Variant::Cgo]);
    let mut target = Target::start(&fixture, &["deadlock", "4"]);
    target.answer("ready", LATER);
    let pid = target.pid().to_string();
    let verdict = poll_verdict(&pid, "nothing can run");
    let expected = "nothing can run: all 5 goroutines wait for each other \
                    (a deadlock, unless a timer wakes one)";
    assert_eq!(verdict, expected);
    // A program that waits for somebody outside is none.
    let other = start(&["states", "2"]);
    let found = json(&["goroutines", "-p", &other.pid().to_string(), "-o", "json"]);
    let said = found["verdict"].as_str().unwrap_or_default();
    assert!(!said.contains("nothing can run"), "{found}");
}

/// Main may still be on its way to where it waits when it has said so.
fn poll_verdict(pid: &str, part: &str) -> String {
    let mut last = Value::Null;
    let came = poll(SOON, || {
        last = json(&["goroutines", "-p", pid, "-o", "json"]);
        last["verdict"].as_str().is_some_and(|v| v.contains(part))
    });
    assert!(came, "{last}");
    last["verdict"].as_str().expect("a verdict").to_owned()
}

#[test]
fn a_signal_ends_looking_again_and_again_well() {
    let target = start(&["states", "2"]);
    let pid = target.pid().to_string();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let args = ["goroutines", "-p", &pid, "--every", "1h", "-o", "json"];
        let mut gotap = Gotap::spawn(gotap::command(&args));
        gotap.wait_for_lines(1, SOON);
        gotap.signal(signal);
        let outcome = gotap.finish(SOON);
        outcome.must_succeed();
        assert_eq!(outcome.records().len(), 1, "{signal}");
        assert_eq!(outcome.errors(), "", "{signal}");
    }
}

#[test]
fn waits_are_told_as_they_are_known() {
    let began = Instant::now();
    let mut target = start(&["states", "2"]);
    let pid = target.pid().to_string();
    let all = |found: &Value| found["goroutines"].as_array().expect("a list").clone();
    let args = ["goroutines", "-p", &pid, "-o", "json", "--list"];
    target.ask("gc");
    let found = json(&args);
    let longest = u64::try_from(began.elapsed().as_nanos()).expect("short");
    let mut noted = 0;
    for one in all(&found) {
        if one["status"] == "waiting" && one["wait_kind"] == "at_least" {
            assert!(one["wait_ns"].as_u64() <= Some(longest), "{one}");
            noted += 1;
        }
    }
    assert!(noted > 20, "a collection notes who waits: {found}");
    // What gotap saw itself is more than the runtime noted, in a while.
    let mut every = Gotap::spawn(gotap::command(&[&args[..], &["--every", "50ms"]].concat()));
    every.wait_for_lines(5, LATER);
    every.signal(Signal::SIGINT);
    let outcome = every.finish(SOON);
    let looks = outcome.records();
    let kinds = |look: &Value| -> Vec<String> {
        let kinds = all(look).into_iter();
        kinds
            .filter_map(|g| Some(g["wait_kind"].as_str()?.to_owned()))
            .collect()
    };
    assert!(!kinds(&looks[0]).contains(&"observed".to_owned()));
    let last = all(looks.last().expect("a look"));
    let syscall = last.iter().find(|g| g["status"] == "syscall").expect("one");
    assert_eq!(syscall["wait_kind"], "observed", "{syscall}");
    assert!(
        syscall["wait_ns"].as_u64() >= Some(150_000_000),
        "{syscall}"
    );
}

#[test]
fn several_processes_and_one_that_dies() {
    let first = start(&["states", "1"]);
    let mut second = start(&["states", "2"]);
    let (a, b) = (first.pid().to_string(), second.pid().to_string());
    let outcome = gotap::run(&["goroutines", "-p", &a, "-p", &b, "-o", "json"]);
    let looks = outcome.must_succeed().records();
    let pids: Vec<i64> = looks.iter().filter_map(|l| l["pid"].as_i64()).collect();
    assert_eq!(pids, [i64::from(first.pid()), i64::from(second.pid())]);
    let totals: Vec<u64> = looks.iter().filter_map(|l| l["total"].as_u64()).collect();
    assert!(totals[0] < totals[1], "{totals:?}");
    let outcome = gotap::run(&["goroutines", "-p", &a, "-p", &b]);
    let table = outcome.must_succeed().text();
    assert!(table.contains(&format!("process {a}:")) && table.contains(&format!("process {b}:")));

    let args = [
        "goroutines",
        "-p",
        &a,
        "-p",
        &b,
        "-o",
        "json",
        "--every",
        "5ms",
    ];
    let mut every = Gotap::spawn(gotap::command(&args));
    every.wait_for_lines(4, LATER);
    second.signal(Signal::SIGKILL);
    second.wait(SOON);
    let said = every.new_stderr_line(&format!("process {b}: "), SOON);
    assert!(said.is_some(), "it is told which one ended");
    first.signal(Signal::SIGKILL);
    let outcome = every.finish(SOON);
    assert_eq!(outcome.status.code(), Some(1));
    assert_eq!(outcome.last_line(), "gotap: 2 of 2 could not be looked at");
    assert_eq!(outcome.stderr.len(), 3, "{}", outcome.errors());
}

#[test]
fn a_process_that_dies_while_it_is_read() {
    for how in [&["--list"][..], &["--consistent"], &["-o", "text2"]] {
        for _ in 0..5 {
            let mut target = start(&["many", "20000"]);
            let pid = target.pid().to_string();
            let mut args = vec!["goroutines", "-p", &pid, "--every", "1ms"];
            args.extend(how);
            let mut every = Gotap::spawn(gotap::command(&args));
            every.wait_for_lines(10, LATER);
            target.signal(Signal::SIGKILL);
            target.wait(LATER);
            let outcome = every.finish(LATER);
            let said = outcome.errors();
            assert_eq!(outcome.status.code(), Some(1), "{how:?}: {said}");
            let lines: Vec<&str> = said
                .lines()
                .filter(|l| !l.contains("was stopped for"))
                .collect();
            assert_eq!(lines.len(), 1, "{how:?}: {said}");
            assert!(
                ["ended", "no process with pid", "has lost its first thread"]
                    .iter()
                    .any(|w| lines[0].contains(w)),
                "{said}"
            );
        }
    }
}

#[test]
fn on_a_terminal_it_is_drawn_in_place() {
    let target = start(&["states", "3"]);
    let pid = target.pid().to_string();
    let size = nix::pty::Winsize {
        ws_row: 12,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = nix::pty::openpty(Some(&size), None).expect("a terminal");
    let args = ["goroutines", "-p", &pid, "--every", "20ms"];
    let command = gotap::command(&args);
    let gotap = Gotap::spawn_into(command, Stdio::from(terminal.slave));
    let mut master = std::fs::File::from(terminal.master);
    let mut all = Vec::new();
    let mut part = [0_u8; 4096];
    while all.windows(3).filter(|w| w == b"\x1b[H").count() < 6 {
        let n = master.read(&mut part).expect("it draws");
        all.extend_from_slice(&part[..n]);
    }
    gotap.signal(Signal::SIGINT);
    drop(gotap);
    let all = String::from_utf8_lossy(&all).into_owned();
    let pages: Vec<&str> = all
        .split("\x1b[H")
        .filter(|p| p.ends_with("\x1b[J"))
        .collect();
    assert!(pages.len() >= 4, "{all:?}");
    for page in pages {
        assert!(page.contains("goroutines, go1."), "{page:?}");
        let lines = page.matches("\r\n").count();
        assert!((5..=11).contains(&lines), "{lines} lines of 12: {page:?}");
        assert_eq!(
            page.matches("\x1b[K").count(),
            lines,
            "each line is cleared"
        );
    }
}

/// Without what differs between a stopped process and its core.
fn lasting(mut look: Value) -> Value {
    for field in ["time", "pid"] {
        look[field] = Value::Null;
    }
    for group in look["groups"].as_array_mut().expect("groups") {
        group["wait_max_ns"] = Value::Null;
    }
    for fd in look["fds"].as_array_mut().expect("fds") {
        fd["deadline_ns"] = Value::Null;
    }
    let all = look["goroutines"].as_array_mut().expect("a list");
    all.sort_by_key(|g| g["goid"].as_u64());
    for one in all {
        for field in ["wait_ns", "wait_kind", "deadline_ns"] {
            one[field] = Value::Null;
        }
        if one["blocked_on"]["kind"] == "sleep" {
            one["blocked_on"]["sleep_ns"] = Value::Null;
            one["blocked_on"] = Value::Null;
        }
        if one["status"] == "syscall" {
            // What a descriptor is, only the process's own files tell.
            one["network"] = Value::Null;
        }
    }
    look
}

#[test]
fn a_core_of_gcore_tells_what_the_process_told() {
    for variants in [
        &[][..],
        &[Variant::Stripped],
        &[Variant::Pie],
        &[Variant::Cgo],
    ] {
        let fixture = Fixture::build("states", variants);
        let dir = tempfile::tempdir().expect("a folder");
        let mut target = Target::start(&fixture, &["states", "3"]);
        target.answer("ready", LATER);
        target.signal(Signal::SIGSTOP);
        let pid = target.pid();
        assert!(poll(SOON, || oracle::state(pid) == Some('T')));
        let pid = pid.to_string();
        let core = dump::gcore(target.pid(), dir.path());
        let how = ["-o", "json", "--list"];
        let live = json(&[&["goroutines", "-p", &pid][..], &how].concat());
        let dead = json(&[&["goroutines", "--core", text(&core)][..], &how].concat());
        let (live, dead) = (lasting(live), lasting(dead));
        for (name, value) in live.as_object().expect("an object") {
            if name != "goroutines" {
                assert_eq!(value, &dead[name], "{}: {name}", fixture.label);
            }
        }
        let lists = [&live, &dead].map(|l| l["goroutines"].as_array().expect("a list"));
        assert_eq!(lists[0].len(), lists[1].len());
        for (a, b) in lists[0].iter().zip(lists[1]) {
            assert_eq!(a, b, "{}", fixture.label);
        }
        target.signal(Signal::SIGCONT);
    }
}

#[test]
fn a_core_that_was_cut_short_is_told_or_refused() {
    let fixture = Fixture::build("states", &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let mut target = dump::start_dumpable(&fixture, &["crash"], dir.path());
    target.answer("ready", LATER);
    target.tell("crash");
    let path = dump::of_crashed(&mut target, dir.path());
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    let whole = file.metadata().expect("a length").len();
    let args = ["goroutines", "--core", text(&path), "--list", "-o", "json"];
    let total = json(&args)["total"].clone();
    let mut told = 0;
    for n in 1..40 {
        file.set_len(whole - whole * n / 40).expect("cut");
        let outcome = gotap::run(&args);
        let said = outcome.errors();
        assert!(!said.contains("panicked"), "{said}");
        assert!(said.contains("cut short"), "{n}: {said}");
        match outcome.status.code() {
            Some(0) => {
                let found = outcome.records().remove(0);
                let list = found["goroutines"].as_array().expect("a list");
                let unread = found["unreadable"].as_u64().expect("a number");
                assert!(
                    found["total"] == total || unread > 0,
                    "{n}: {} of {total}",
                    list.len()
                );
                told += 1;
            }
            code => assert_eq!(code, Some(1), "{n}: {said}"),
        }
    }
    println!("{told} of 39 could be told something of");
}

#[test]
fn garbage_is_counted_and_harms_nobody() {
    let fixture = Fixture::build("states", &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let mut target = Target::start(&fixture, &["states", "3"]);
    target.answer("ready", LATER);
    let list = json(&[
        "goroutines",
        "-p",
        &target.pid().to_string(),
        "-o",
        "json",
        "--list",
    ]);
    let path = dump::gcore(target.pid(), dir.path());
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(&path).expect("open");
    let len = file.metadata().expect("a length").len();
    let mut state = 7_u64;
    let mut next = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let wanted = Wanted {
        all_stacks: true,
        args: true,
        each: true,
        details: true,
        only: None,
    };
    // Where data lies: pages that are not zero.
    let mut pages = Vec::new();
    let mut page = vec![0; 4096];
    for at in (4096..len - 4096).step_by(4096) {
        file.read_exact_at(&mut page, at).expect("read");
        if page.iter().any(|b| *b != 0) {
            pages.push(at);
        }
    }
    let (mut looked, mut refused, mut noticed) = (0, 0, 0);
    for round in 0..60 {
        // A third of the pages have words that are others now.
        let rare = [16, 200, 2000][round % 3];
        let mut undo = Vec::new();
        for &at in &pages {
            if next(3) == 0 {
                file.read_exact_at(&mut page, at).expect("read");
                undo.push((at, page.clone()));
                for word in page.chunks_exact_mut(8) {
                    if next(rare) == 0 {
                        let value = [0, u64::MAX, 1 << 40, 0xc0_0000_0000, next(1 << 31)];
                        let value = value[usize::try_from(next(5)).expect("small")];
                        word.copy_from_slice(&value.to_le_bytes());
                    }
                }
                file.write_all_at(&page, at).expect("write");
            }
        }
        let began = Instant::now();
        match Source::core(&path, Some(&fixture.path)) {
            Ok(source) => match look(&source, &wanted) {
                Ok(survey) => {
                    looked += 1;
                    let odd = survey.total() as u64 != list["total"].as_u64().unwrap_or(0);
                    noticed += u32::from(odd || survey.unreadable > 0 || survey.unstable > 0);
                }
                Err(error) => {
                    assert_eq!(error.to_string().lines().count(), 1, "{error}");
                    refused += 1;
                }
            },
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                refused += 1;
            }
        }
        assert!(began.elapsed() < LATER, "round {round} hangs");
        for (at, bytes) in undo {
            file.write_all_at(&bytes, at).expect("write");
        }
    }
    println!("{looked} looks, {noticed} of them with something odd; {refused} refused");
    assert!(looked > 0 && looked + refused == 60);
}

#[test]
fn a_bare_number_is_a_process() {
    let target = start(&["states", "1"]);
    let pid = target.pid().to_string();
    let (bare, named) = (
        gotap::run(&["version", &pid]),
        gotap::run(&["version", "-p", &pid]),
    );
    assert_eq!(bare.must_succeed().text(), named.must_succeed().text());
    for args in [
        &["goroutines", &pid][..],
        &["stack", "1", &pid],
        &["memstats", &pid],
        &["stats", &pid],
    ] {
        gotap::run(args).must_succeed();
    }
    for args in [
        &["version"][..],
        &["version", "./server"],
        &["version", "-p", &pid, "./server"],
        &["goroutines"],
        &["goroutines", "./server"],
        &["goroutines", "-p", &pid, "7"],
        &["stack", "1", "./server"],
    ] {
        let outcome = gotap::run(args);
        assert_eq!(outcome.status.code(), Some(2), "{args:?}");
        let said = outcome.errors();
        assert!(
            said.contains("-p") || said.contains("--pid"),
            "{args:?}: {said}"
        );
    }
}
