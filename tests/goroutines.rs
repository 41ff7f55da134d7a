//! `gotap goroutines` against what the programs themselves know: counts per
//! state and reason, the runtime's own text of every stack, connections, and a
//! program whose goroutines come and go while it is looked at.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use gotap::session::look::{Source, Wanted, look};
use serde_json::Value;
use support::{Fixture, LATER, Target, Toolchain, Variant, poll};

/// Goroutines of each kind.
const EACH: &str = "3";

/// How `gotap` answers.
fn gotap(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_gotap"))
        .args(args)
        .output()
        .expect("run gotap");
    assert!(
        out.status.success(),
        "gotap {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).expect("text")
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&gotap(args)).expect("one JSON object")
}

fn list(pid: i32) -> Value {
    let pid = pid.to_string();
    json(&["goroutines", "-p", &pid, "--list", "-o", "json"])
}

/// Every release under test, each in every variant that is named.
fn builds(variants: &[&'static [Variant]]) -> Vec<Fixture> {
    let mut all = Vec::new();
    for toolchain in Toolchain::under_test() {
        for variant in variants {
            all.push(Fixture::build_with("states", variant, &toolchain));
        }
    }
    all
}

/// Go's minor version of a running program, from gotap's own answer.
fn minor(look: &Value) -> u32 {
    let version = look["go_version"].as_str().expect("a version");
    let rest = version.strip_prefix("go1.").expect("a release");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// What is expected of the goroutines of one kind: status, reason, class, kind
/// of what they wait for.
fn expected(
    kind: &str,
    minor: u32,
) -> (
    &'static str,
    Option<&'static str>,
    &'static str,
    &'static str,
) {
    let sema =
        |since: u32, name: &'static str| Some(if minor >= since { name } else { "semacquire" });
    let waiting = |reason, on| ("waiting", reason, "blocked", on);
    match kind {
        "parkReceive" | "parkLocked" | "parkLabelled" | "parkDeep" => {
            waiting(Some("chan receive"), "chan")
        }
        "parkSend" => waiting(Some("chan send"), "chan"),
        "parkNilReceive" => waiting(Some("chan receive (nil chan)"), ""),
        "parkNilSend" => waiting(Some("chan send (nil chan)"), ""),
        "parkSelect" => waiting(Some("select"), "select"),
        "parkForever" => waiting(Some("select (no cases)"), ""),
        "parkSleep" => waiting(Some("sleep"), "sleep"),
        "parkMutex" => waiting(sema(20, "sync.Mutex.Lock"), "mutex"),
        "parkRead" => waiting(sema(20, "sync.RWMutex.RLock"), "rwmutex"),
        "parkWrite" => waiting(sema(20, "sync.RWMutex.Lock"), "rwmutex"),
        "parkCond" => waiting(Some("sync.Cond.Wait"), "cond"),
        "parkWait" => waiting(sema(24, "sync.WaitGroup.Wait"), "waitgroup"),
        "parkQueue" => waiting(Some("semacquire"), "poll_fd"),
        "parkNetRead" | "parkNetWrite" => ("waiting", Some("IO wait"), "network", ""),
        "parkSyscall" => ("syscall", None, "syscall", "syscall"),
        // In C it may be in no system call that /proc tells.
        "parkInC" => ("syscall", None, "syscall", "*"),
        other => panic!("no expectation for {other}"),
    }
}

#[test]
fn states_and_reasons_are_what_was_parked() {
    let variants: [&[Variant]; 4] = [&[], &[Variant::Stripped], &[Variant::Pie], &[Variant::Cgo]];
    for fixture in builds(&variants) {
        println!("{}", fixture.label);
        let mut target = Target::start(&fixture, &["states", EACH]);
        let kinds = target.answer("ready", LATER);
        let total = target.ask("count");
        let look = list(target.pid());
        assert_eq!(look["total"], total, "NumGoroutine");
        assert_eq!(
            (&look["unreadable"], &look["unstable"]),
            (&0.into(), &0.into())
        );
        let minor = minor(&look);
        let all = look["goroutines"].as_array().expect("a list");
        for (kind, count) in kinds.as_object().expect("kinds") {
            let end = format!("main.{kind}");
            let of_kind: Vec<&Value> = all
                .iter()
                .filter(|g| stack_of(g).iter().any(|f| *f == end))
                .collect();
            assert_eq!(
                of_kind.len() as u64,
                count.as_u64().expect("a count"),
                "{kind}"
            );
            for one in of_kind {
                let (status, reason, class, on) = expected(kind, minor);
                assert_eq!(one["status"], status, "{kind}");
                assert_eq!(one["class"], class, "{kind}");
                assert_eq!(one["reason"].as_str(), reason, "{kind}");
                if on != "*" {
                    let found = one["blocked_on"]["kind"].as_str().unwrap_or("");
                    assert_eq!(found, on, "{kind}");
                }
                assert_eq!(one["locked"], kind == "parkLocked", "{kind}");
                assert_eq!(
                    one["created_func"]
                        .as_str()
                        .map(|f| f.starts_with("main.park")),
                    Some(true)
                );
                if kind == "parkLabelled" {
                    let labels = serde_json::json!({"color": "green", "shape": "round"});
                    assert_eq!(one["labels"], labels);
                }
                if kind == "parkSend" {
                    let channel = &one["blocked_on"]["channels"][0];
                    assert_eq!(channel["elem"], "int");
                    assert_eq!((&channel["len"], &channel["cap"]), (&2.into(), &2.into()));
                }
            }
        }
        let own = blocks(target.ask("dump").as_str().expect("text"));
        for one in all.iter().filter(|g| g["goid"] != 1) {
            let goid = one["goid"].as_u64().expect("a number");
            let head = own[&goid].lines().next().expect("a header");
            let state = one["reason"].as_str().or(one["status"].as_str());
            let state = state.expect("a state");
            assert!(head.contains(&format!("[{state}")), "{head}: {state}");
        }
    }
}

fn stack_of(goroutine: &Value) -> Vec<&str> {
    let stack = goroutine["stack"].as_array().expect("a stack");
    stack.iter().filter_map(|f| f["func"].as_str()).collect()
}

/// The runtime's text, by goroutine.
fn blocks(text: &str) -> BTreeMap<u64, String> {
    text.trim()
        .split("\n\n")
        .map(|block| {
            let rest = block.strip_prefix("goroutine ").expect("a header");
            let number = rest.split(' ').next().expect("a number");
            (number.parse().expect("a number"), block.trim().to_owned())
        })
        .collect()
}

#[test]
fn stacks_are_the_runtimes_own_text() {
    let variants: [&[Variant]; 2] = [&[], &[Variant::Stripped, Variant::Pie]];
    for fixture in builds(&variants) {
        println!("{}", fixture.label);
        let mut target = Target::start(&fixture, &["states", "12"]);
        target.answer("ready", LATER);
        let own = blocks(target.ask("dump").as_str().expect("text"));
        let pid = target.pid().to_string();
        let ours = blocks(&gotap(&["goroutines", "-p", &pid, "-o", "text2"]));
        let numbers = |b: &BTreeMap<u64, String>| b.keys().copied().collect::<BTreeSet<_>>();
        assert_eq!(numbers(&own), numbers(&ours));
        let frames = |b: &String| b.matches("main.parkDeep(").count();
        let deepest = own.values().map(frames).max();
        assert!(deepest > Some(90), "none is so deep that it is cut");
        // Goroutine 1 prints the others: it cannot look the same.
        for (goid, block) in own.iter().filter(|(goid, _)| **goid != 1) {
            assert_eq!(block, &ours[goid], "{}", fixture.label);
        }
    }
}

#[test]
fn descriptors_and_peers_are_what_the_program_knows() {
    let variants: [&[Variant]; 2] = [&[], &[Variant::Stripped]];
    for fixture in builds(&variants) {
        println!("{}", fixture.label);
        let mut target = Target::start(&fixture, &["conns", "100"]);
        let known = target.answer("ready", LATER);
        let known = known.as_array().expect("a list");
        assert_eq!(known.len(), 500);
        let look = list(target.pid());
        let ours: BTreeMap<u64, &Value> = look["goroutines"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|g| (g["goid"].as_u64().expect("a number"), g))
            .collect();
        let fds: BTreeMap<i64, &Value> = look["fds"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|f| (f["fd"].as_i64().expect("a number"), f))
            .collect();
        let mut deadlines = 0;
        for wait in known {
            let one = ours[&wait["goid"].as_u64().expect("a number")];
            assert_eq!(one["reason"], "IO wait", "{wait}");
            assert_eq!(
                (&one["fd"], &one["mode"]),
                (&wait["fd"], &wait["mode"]),
                "{wait}"
            );
            assert_eq!(one["network"], wait["network"], "{wait}");
            for end in ["local", "remote"] {
                let said = one[end].as_str().unwrap_or("");
                let true_end = wait[end].as_str().expect("text");
                // An unnamed Unix socket is "@" to Go, or nothing.
                let same = said == true_end
                    || (said.trim_matches('@').is_empty() && true_end.trim_matches('@').is_empty());
                assert!(same, "{end}: {said} is {true_end} in {wait}");
            }
            let row = fds[&wait["fd"].as_i64().expect("a number")];
            let side = if wait["mode"] == "write" {
                "writers"
            } else {
                "readers"
            };
            assert_eq!(row[side], serde_json::json!([wait["goid"]]), "{wait}");
            if let Some(left) = one["deadline_ns"].as_i64() {
                let hour = 3_600_000_000_000;
                assert!((hour - 600_000_000_000..=hour).contains(&left), "{left}");
                deadlines += 1;
            }
        }
        assert_eq!(
            deadlines, 50,
            "every other reader has one, every fourth writes"
        );
    }
}

#[test]
fn walks_hold_while_goroutines_come_and_go() {
    for fixture in builds(&[&[]]) {
        println!("{}", fixture.label);
        let mut target = Target::start(&fixture, &["churn"]);
        target.answer("ready", LATER);
        let busy = poll(LATER, || {
            target.ask("bracket")["ended"].as_i64().unwrap_or(0) > 1000
        });
        assert!(busy, "the program makes goroutines");
        let source = Source::process(target.pid()).expect("a Go process");
        // main, and the one that makes the others.
        let base = 2;
        let number = |v: &Value, name: &str| v[name].as_i64().expect("a number");
        for walk in 0..1000 {
            let before = target.ask("bracket");
            let survey = look(&source, &Wanted::default()).expect("a look");
            let after = target.ask("bracket");
            // What had begun before and not ended after was there; what was
            // made after all and had not ended before cannot exceed.
            let least = base + number(&before, "begun") - number(&after, "ended");
            let gone = number(&before, "created_before")
                - (number(&before, "number") - base)
                - number(&before, "spawners");
            let most = base + number(&after, "created") - gone;
            let total = survey.total() as i64;
            assert!(
                (least.max(base)..=most).contains(&total),
                "walk {walk}: {total} is not in {least}..={most}"
            );
        }
        assert!(target.is_alive());
    }
}

#[test]
fn those_that_could_run_are_told_and_called_starved() {
    for fixture in builds(&[&[], &[Variant::Stripped]]) {
        println!("{}", fixture.label);
        let mut command = Command::new(&fixture.path);
        command
            .args(["starve", "20"])
            .env("GODEBUG", "asyncpreemptoff=1");
        let mut target = Target::spawn(command, &fixture.label);
        target.answer("ready", LATER);
        let look = list(target.pid());
        assert_eq!(look["by_status"]["runnable"], 20);
        assert_eq!(look["by_status"]["running"], 1);
        assert_eq!(look["total"], 21);
        let verdict = look["verdict"].as_str().expect("a verdict");
        assert!(
            verdict.starts_with(
                "20 of 21 goroutines could run and wait for a processor (GOMAXPROCS is 1)"
            ),
            "{verdict}"
        );
        target.close_stdin();
        target.wait(LATER);
    }
}

#[test]
fn a_mutex_that_many_wait_for_is_named() {
    for fixture in builds(&[&[], &[Variant::Stripped]]) {
        println!("{}", fixture.label);
        let mut target = Target::start(&fixture, &["mutex", "50"]);
        let holder = target.answer("holder", LATER);
        let at = target.answer("ready", LATER);
        let look = list(target.pid());
        let all = look["goroutines"].as_array().expect("a list");
        let waiting = all.iter().filter(|g| g["blocked_on"]["kind"] == "mutex");
        let waiting: Vec<&Value> = waiting.collect();
        assert_eq!(waiting.len(), 50);
        assert!(
            waiting.iter().all(|g| g["blocked_on"]["address"] == at),
            "{at}"
        );
        let verdict = look["verdict"].as_str().expect("a verdict");
        let begin = format!(
            "50 goroutines wait for the mutex at {}, first at ",
            at.as_str().expect("text")
        );
        assert!(verdict.starts_with(&begin), "{verdict}");
        // A caller's frame below the sleep still holds the address or not, as
        // the compiler had it: when one is named, it is the one.
        if let Some((_, named)) = verdict.split_once("candidates to hold it: ") {
            assert!(named.contains(&format!("goroutine {holder} ")), "{verdict}");
        }
    }
}

/// Makes a program leave a core in `dir` when it dies by a signal.
fn with_core(fixture: &Fixture, args: &[&str], dir: &std::path::Path) -> Command {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("read a setting");
    assert!(
        pattern.starts_with("core"),
        "the kernel sends cores to {pattern}: sysctl -w kernel.core_pattern=core"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""])
        .arg(&fixture.path)
        .args(args)
        .current_dir(dir)
        .env("GOTRACEBACK", "crash")
        .stderr(std::process::Stdio::null());
    command
}

fn core_in(dir: &std::path::Path) -> String {
    let found = support::wait_for("a core", LATER, || {
        std::fs::read_dir(dir)
            .expect("read a directory")
            .flatten()
            .find(|e| e.file_name().to_string_lossy().starts_with("core"))
    });
    found.path().to_string_lossy().into_owned()
}

/// Without what may differ between a process and its core: time, waits,
/// threads, and what system calls and running goroutines are about.
fn lasting(look: &Value) -> Value {
    let mut look = look.clone();
    for field in ["time", "pid"] {
        look[field] = Value::Null;
    }
    for group in look["groups"].as_array_mut().expect("groups") {
        group["wait_max_ns"] = Value::Null;
    }
    let all = look["goroutines"].as_array_mut().expect("a list");
    // A core puts the one on top whose thread took the signal.
    all.sort_by_key(|g| g["goid"].as_u64());
    for one in all {
        for field in ["wait_ns", "wait_kind", "tid", "deadline_ns"] {
            one[field] = Value::Null;
        }
        if one["status"] != "waiting" || one["blocked_on"]["kind"] == "sleep" {
            for field in ["fd", "network", "blocked_on"] {
                one[field] = Value::Null;
            }
        }
    }
    look
}

#[test]
fn a_core_tells_what_the_process_told() {
    let variants: [&[Variant]; 2] = [&[], &[Variant::Stripped, Variant::Pie]];
    for fixture in builds(&variants) {
        println!("{}", fixture.label);
        let dir = tempfile::tempdir().expect("a directory");
        let command = with_core(&fixture, &["states", EACH], dir.path());
        let mut target = Target::spawn(command, &fixture.label);
        target.answer("ready", LATER);
        let live = list(target.pid());
        target.signal(nix::sys::signal::Signal::SIGABRT);
        target.wait(LATER);
        let core = core_in(dir.path());
        let program = fixture.path.to_string_lossy().into_owned();
        let args = [
            "goroutines",
            "--core",
            &core,
            &program,
            "--list",
            "-o",
            "json",
        ];
        let first = gotap(&args);
        let dead: Value = serde_json::from_str(&first).expect("JSON");
        let (live, dead) = (lasting(&live), lasting(&dead));
        for (name, value) in live.as_object().expect("an object") {
            if name != "goroutines" {
                assert_eq!(value, &dead[name], "{name}");
            }
        }
        let lists = [&live, &dead].map(|l| l["goroutines"].as_array().expect("a list"));
        assert_eq!(lists[0].len(), lists[1].len());
        for (a, b) in lists[0].iter().zip(lists[1]) {
            assert_eq!(a, b, "{}", fixture.label);
        }
        assert_eq!(first, gotap(&args), "the same core twice");
    }
}

#[test]
fn the_goroutine_that_crashed_is_on_top() {
    let fixture = Fixture::build("states", &[Variant::Stripped]);
    let dir = tempfile::tempdir().expect("a directory");
    let mut target = Target::spawn(with_core(&fixture, &["crash"], dir.path()), &fixture.label);
    target.answer("ready", LATER);
    target.tell("crash");
    target.wait(LATER);
    let core = core_in(dir.path());
    let look = json(&["goroutines", "--core", &core, "--list", "-o", "json"]);
    let first = &look["goroutines"][0];
    assert_eq!(first["status"], "running");
    let stack = stack_of(first);
    assert!(
        stack.contains(&"runtime.gopanic") && stack.contains(&"main.panicLater"),
        "{stack:?}"
    );
    let other = Fixture::build("echo", &[]);
    let out = Command::new(env!("CARGO_BIN_EXE_gotap"))
        .args(["goroutines", "--core", &core])
        .arg(&other.path)
        .output()
        .expect("run gotap");
    assert_eq!(out.status.code(), Some(1), "another program's core");
}

#[test]
fn filters_groups_and_profiles() {
    let fixture = Fixture::build("states", &[]);
    let mut target = Target::start(&fixture, &["states", EACH]);
    target.answer("ready", LATER);
    let pid = target.pid().to_string();
    let found = json(&[
        "goroutines",
        "-p",
        &pid,
        "-o",
        "json",
        "--list",
        "--where",
        r#"reason == "IO wait" && mode == "write""#,
    ]);
    assert_eq!(found["goroutines"].as_array().map(Vec::len), Some(3));
    let found = json(&[
        "goroutines",
        "-p",
        &pid,
        "-o",
        "json",
        "--list",
        "--where",
        "wait > 1s",
    ]);
    // Nothing was noted before a collection: an unknown wait matches nothing.
    for one in found["goroutines"].as_array().expect("a list") {
        assert!(one["wait_ns"].as_u64() > Some(1_000_000_000), "{one}");
    }
    let found = json(&["goroutines", "-p", &pid, "-o", "json", "--by", "label"]);
    let labelled: Vec<&Value> = found["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .filter(|g| !g["labels"].is_null())
        .collect();
    assert_eq!(labelled.len(), 1);
    assert_eq!(labelled[0]["count"], 3);

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("g.pb.gz");
    let out = Command::new(env!("CARGO_BIN_EXE_gotap"))
        .args(["goroutines", "-p", &pid, "-o", "pprof"])
        .output()
        .expect("run gotap");
    std::fs::write(&path, &out.stdout).expect("write a file");
    let top = Command::new("go")
        .args(["tool", "pprof", "-top", "-cum", "-nodecount=500"])
        .arg(&path)
        .output()
        .expect("go is needed: https://go.dev/dl/");
    let text = String::from_utf8_lossy(&top.stdout);
    assert!(
        top.status.success(),
        "{}",
        String::from_utf8_lossy(&top.stderr)
    );
    assert!(text.contains("Type: goroutine"), "{text}");
    for kind in ["main.parkReceive", "main.small (inline)", "main.parkCond"] {
        let row = text.lines().find(|l| l.ends_with(kind));
        let row = row.unwrap_or_else(|| panic!("no {kind} in {text}"));
        assert_eq!(row.split_whitespace().nth(3), Some("3"), "{row}");
    }

    let one = json(&["stack", "1", "-p", &pid, "-o", "json"]);
    assert!(stack_of(&one).contains(&"main.main"), "{one}");
    let text = gotap(&["goroutines", "-p", &pid]);
    assert!(text.contains("goroutines, go1."), "{text}");
}

#[test]
fn who_cannot_be_looked_at_is_told_in_a_line() {
    for args in [
        &["goroutines", "-p", "1999999999"][..],
        &["goroutines", "-p", "1", "--where", "feed == 7"][..],
        &["stack", "1", "-p", "1999999999"][..],
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_gotap"))
            .args(args)
            .output()
            .expect("run gotap");
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("gotap: "), "{said}");
    }
}
