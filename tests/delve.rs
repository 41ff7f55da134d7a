//! What Delve's users bring along: files that the real dlv wrote, init files,
//! lines inside of functions.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Fixture, Gotap, LATER, Target, Variant, gotap, oracle};

fn orders(variants: &[Variant]) -> (Fixture, Target) {
    let fixture = Fixture::build("orders", variants);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready");
    (fixture, target)
}

/// The line of the source that has this text.
fn line_of(text: &str) -> usize {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/orders/main.go");
    let source = fs::read_to_string(source).expect("the source");
    let at = source.lines().position(|l| l.contains(text));
    1 + at.unwrap_or_else(|| panic!("no line has {text:?}"))
}

/// Has the real dlv set these points on a program and save them.
fn saved_by_dlv(fixture: &Fixture, folder: &Path, commands: &str) -> PathBuf {
    let saved = folder.join("saved.dlv");
    let init = folder.join("make.dlv");
    let all = format!(
        "{commands}\nbreakpoints -save {}\nexit\n",
        saved.to_str().expect("a path")
    );
    fs::write(&init, all).expect("write an init file");
    let out = Command::new("dlv")
        .args(["exec", "--allow-non-terminal-interactive=true", "--init"])
        .arg(&init)
        .arg(&fixture.path)
        .stdin(Stdio::null())
        .output()
        .expect("dlv is needed: go install github.com/go-delve/delve/cmd/dlv@v1.27.2");
    assert!(
        saved.exists(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    saved
}

/// Runs a script while the program handles 50 orders in each of two goroutines.
fn handled(target: &mut Target, path: &Path, ready: &str) -> gotap::Outcome {
    let mut gotap = Gotap::run_json(path, target.pid());
    gotap.stderr_line(ready, LATER).expect("it is armed");
    target.tell("handle 50");
    target.expect_line_within("handle 50", LATER);
    let outcome = gotap.stop();
    assert_eq!(oracle::tracer(target.pid()), 0);
    assert_eq!(oracle::code_differences(target.pid()), [""; 0]);
    target.tell("handle 1");
    target.expect_line("handle 1");
    outcome
}

fn count(outcome: &gotap::Outcome, is: impl Fn(&serde_json::Value) -> bool) -> usize {
    outcome.records().iter().filter(|r| is(r)).count()
}

#[test]
fn a_file_that_delve_saved_runs_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    for variants in [&[][..], &[Variant::NoOpt]] {
        let (fixture, mut target) = orders(variants);
        let saved = saved_by_dlv(
            &fixture,
            folder.path(),
            &format!(
                "trace main.(*server).handle\nbreak main.work\ncondition 4 req.ID == 42\n\
                 break w1 main.go:{}\ncondition -hitcount w1 == 7\nbreak off main.idle\n\
                 toggle off",
                line_of("total += req.ID * i"),
            ),
        );
        let text = fs::read_to_string(&saved).expect("the file");
        let halves = text.lines().filter(|l| l.starts_with("break bp")).count();
        assert!(halves >= 2, "{text}");
        // It is all known, and nothing is wrong with it.
        let path = saved.to_str().expect("a path");
        let program = fixture.path.to_str().expect("a path");
        gotap::run(&["check", path, program]).must_succeed();
        let outcome = handled(&mut target, &saved, "Tracepoint bp1 on");
        outcome.must_succeed();
        let said = outcome.errors();
        assert!(
            said.contains("is a return of main.(*server).handle, as Delve saves"),
            "{text}{said}"
        );
        let calls = count(&outcome, |r| {
            r["func"] == "main.(*server).handle" && r["id"].is_u64()
        });
        assert_eq!(calls, 100, "{}: {text}{said}", fixture.label);
    }
}

#[test]
fn an_init_file_of_delve_runs_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_fixture, mut target) = orders(&[]);
    let path = folder.path().join("init.dlv");
    fs::write(
        &path,
        "# what I always look at\nconfig max-string-len 100\nconfig show-location-expr true\n\n\
         trace h main.(*server).handle\ncond h req.ID % 10 == 3\non h print req.ID\n\
         b w main.work\ncond w req.ID == 7\ncontinue\nprint req.ID\ncontinue\n",
    )
    .expect("write an init file");
    let outcome = handled(&mut target, &path, "Breakpoint w set");
    let said = outcome.errors();
    let printed = count(&outcome, |r| {
        r["action"] == "print"
            && r["values"]["req.ID"]
                .as_u64()
                .is_some_and(|id| id % 10 == 3)
    });
    assert_eq!(printed, 10, "{said}");
    // At the first stop: two goroutines come there, in some order.
    let at_stop = count(&outcome, |r| {
        r["command"] == "print" && r["values"]["req.ID"] == 7
    });
    assert_eq!(at_stop, 1, "{}{said}", outcome.text());
    assert!(said.contains("has no meaning here"), "{said}");
}

/// Paths of another machine.
#[test]
fn saved_paths_of_another_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_fixture, mut target) = orders(&[]);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let path = folder.path().join("a.gotap");
    fs::write(
        &path,
        format!(
            "config substitute-path {} /home/you/src\ntrace t1 /home/you/src/orders/main.go:{}\n",
            own.to_str().expect("a path"),
            line_of("func (s *server) handle"),
        ),
    )
    .expect("write a script");
    let outcome = handled(&mut target, &path, "Tracepoint t1 on main.(*server).handle");
    outcome.must_succeed();
    assert_eq!(
        count(&outcome, |r| r["func"] == "main.(*server).handle"),
        100
    );
}

/// A line inside of a function: every passing is told, without duration and
/// results, with the variables as they are there.
#[test]
fn lines_inside_of_functions() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = line_of("total += req.ID * i");
    for variants in [&[][..], &[Variant::NoOpt], &[Variant::Pie]] {
        let (fixture, mut target) = orders(variants);
        let path = folder.path().join("a.gotap");
        fs::write(
            &path,
            format!(
                "trace main.go:{line} if req.ID == 42 {{\n    print req.ID, s.sessions[1].name, \
                 goid\n    args\n    locals\n    stack 3\n}}\n"
            ),
        )
        .expect("write a script");
        let outcome = handled(&mut target, &path, "Tracepoint 1 at main.work ");
        outcome.must_succeed();
        let label = &fixture.label;
        let all = outcome.records();
        let passed: Vec<_> = all.iter().filter(|r| r["end"] == "passed").collect();
        // Three rounds of the loop in each of two calls.
        assert_eq!(passed.len(), 6, "{label}: {all:#?}");
        for one in passed {
            assert_eq!(one["func"], "main.work", "{label}");
            assert_eq!(one["line"], line, "{label}");
            assert!(one["dur_ns"].is_null() && one["results"].is_null(), "{one}");
        }
        let printed: Vec<_> = all.iter().filter(|r| r["action"] == "print").collect();
        assert_eq!(printed.len(), 6, "{label}");
        for one in printed {
            assert_eq!(one["values"]["req.ID"], 42, "{label}");
            assert_eq!(one["values"]["s.sessions[1].name"], "session-1", "{label}");
            assert_eq!(one["values"]["goid"], one["goid"], "{label}");
        }
        let stack = all
            .iter()
            .find(|r| r["action"] == "stack")
            .expect("a stack");
        assert_eq!(stack["stack"][0]["func"], "main.work", "{label}: {stack}");
        assert_eq!(
            stack["stack"][1]["func"], "main.(*server).handle",
            "{label}"
        );
        let rounds: Vec<_> = all
            .iter()
            .filter(|r| r["action"] == "locals")
            .filter_map(|r| r["locals"]["i"].as_u64())
            .collect();
        if variants == [Variant::NoOpt] {
            assert_eq!(rounds.len(), 6, "{label}: {all:#?}");
            assert_eq!(rounds.iter().sum::<u64>(), 6, "{label}: {rounds:?}");
        }
    }
}

/// What `dump` writes is a core that gotap itself, Delve and gdb read.
#[test]
fn a_core_that_dump_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let (fixture, mut target) = orders(&[Variant::NoOpt]);
    let core = folder.path().join("core.orders");
    let name = core.to_str().expect("a path");
    let path = folder.path().join("a.gotap");
    fs::write(&path, format!("dump {name}\n")).expect("write a script");
    let pid = target.pid().to_string();
    let outcome = gotap::run(&["run", path.to_str().expect("a path"), "-p", &pid]);
    outcome.must_succeed();
    let said = outcome.errors();
    assert!(said.contains("the target stood for"), "{said}");
    target.tell("handle 3");
    target.expect_line("handle 3");
    let program = fixture.path.to_str().expect("a path");
    let look = gotap::run(&["goroutines", "--list", "--core", name, program]);
    look.must_succeed();
    assert!(
        look.text().contains("main.(*server).wait"),
        "{}",
        look.text()
    );
    let goid = look
        .text()
        .lines()
        .find(|l| l.contains("main.(*server).wait"))
        .and_then(|l| l.split_whitespace().next().map(str::to_owned))
        .expect("its number");
    fs::write(&path, format!("dump {name}\n")).expect("write a script");
    let again = gotap::run(&["run", path.to_str().expect("a path"), "-p", &pid]);
    assert!(
        again.errors().contains("is there already"),
        "{}",
        again.errors()
    );
    // Delve.
    let init = folder.path().join("look.dlv");
    fs::write(
        &init,
        format!("goroutine {goid} frame 3 print req.ID\nprint main.global.addr\nexit\n"),
    )
    .expect("write an init file");
    let out = Command::new("dlv")
        .args(["core", "--allow-non-terminal-interactive=true"])
        .args([program, name, "--init"])
        .arg(&init)
        .stdin(Stdio::null())
        .output()
        .expect("dlv is needed: go install github.com/go-delve/delve/cmd/dlv@v1.27.2");
    let shown = String::from_utf8_lossy(&out.stdout);
    let wrong = String::from_utf8_lossy(&out.stderr);
    assert!(shown.contains("42"), "{shown}{wrong}");
    assert!(shown.contains("127.0.0.1:1"), "{shown}{wrong}");
    // gdb.
    let out = Command::new("gdb")
        .args([
            "-batch",
            "-nx",
            "-ex",
            "info threads",
            "-ex",
            "x/s 'main.global'",
        ])
        .args([program, name])
        .stdin(Stdio::null())
        .output()
        .expect("gdb is needed: apt-get install gdb");
    let shown = String::from_utf8_lossy(&out.stdout);
    assert!(shown.matches("LWP ").count() >= 2, "{shown}");
    drop(target);
}

/// `locals` in the block of a trace: the function's variables as its call returns,
/// and for calls that end otherwise the reason that there are none.
#[test]
fn locals_as_a_call_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    for variants in [&[][..], &[Variant::NoOpt], &[Variant::Pie]] {
        let (fixture, mut target) = orders(variants);
        let path = folder.path().join("a.gotap");
        fs::write(
            &path,
            "trace main.work {\n    args\n    locals\n}\n\
             trace h main.(*server).handle\non h locals\ntrace last main.idle\n",
        )
        .expect("write a script");
        let outcome = handled(&mut target, &path, "Tracepoint last on");
        outcome.must_succeed();
        let label = &fixture.label;
        let all = outcome.records();
        let of = |action: &str, point: u64| {
            let is =
                move |r: &&serde_json::Value| r["action"] == action && r["tracepoint"] == point;
            all.iter().filter(is).collect::<Vec<_>>()
        };
        let (args, locals) = (of("args", 1), of("locals", 1));
        assert_eq!((args.len(), locals.len()), (100, 100), "{label}");
        let mut known = 0;
        for (args, locals) in args.iter().zip(&locals) {
            assert_eq!(args["call"], locals["call"], "{label}");
            assert!(locals["why"].is_null(), "{label}: {locals}");
            let total = &locals["locals"]["total"];
            // What is optimised away is text.
            if total.is_i64() {
                known += 1;
                assert_eq!(*total, args["results"]["r0"], "{label}: {args} {locals}");
                assert_eq!(
                    total.as_i64(),
                    args["args"]["req"]["ID"].as_i64().map(|id| 2 + 3 * id),
                    "{label}: {args}"
                );
            }
        }
        let ids = of("locals", 2);
        assert_eq!(ids.len(), 100, "{label}");
        if variants == [Variant::NoOpt] {
            assert_eq!(known, 100, "{label}: {all:#?}");
            let mut ids: Vec<u64> = ids
                .iter()
                .map(|r| {
                    r["locals"]["id"]
                        .as_u64()
                        .unwrap_or_else(|| panic!("{label}: {r}"))
                })
                .collect();
            ids.sort_unstable();
            let wanted: Vec<u64> = (0..50).flat_map(|id| [id, id]).collect();
            assert_eq!(ids, wanted, "{label}");
        }
    }
}

#[test]
fn calls_that_end_without_locals_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::build("ends", &[Variant::NoOpt]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready ");
    let path = folder.path().join("a.gotap");
    fs::write(
        &path,
        "trace main.unwoundThree { locals }\ntrace main.exitInner { locals }\n\
         trace main.deferRecovers { locals }\ntrace main.deferChanges { locals }\n",
    )
    .expect("write a script");
    let pid = target.pid().to_string();
    let path = path.to_str().expect("a path");
    let mut gotap = Gotap::spawn(gotap::command(&["run", path, "-p", &pid, "-o", "json"]));
    gotap.stderr_line("Tracepoint 4 on", LATER).expect("armed");
    for case in ["panic", "goexit", "deferrecover", "defer"] {
        target.tell(case);
        target.answer(case, LATER);
    }
    let outcome = gotap.stop();
    outcome.must_succeed();
    let all = outcome.records();
    for (point, why) in [
        (1, Some("a panic ended the call")),
        (2, Some("runtime.Goexit")),
        (3, Some("the call recovered from a panic")),
        (4, None),
    ] {
        let one = all
            .iter()
            .find(|r| r["action"] == "locals" && r["tracepoint"] == point)
            .unwrap_or_else(|| panic!("{point}: {all:#?}"));
        let said = one["why"].as_str();
        match why {
            Some(why) => assert!(said.is_some_and(|s| s.starts_with(why)), "{one}"),
            None => assert_eq!(said, None, "{one}"),
        }
    }
    // The same for people, and refused where nothing can be known.
    let stripped = Fixture::build("ends", &[Variant::Stripped]);
    let program = stripped.path.to_str().expect("a path");
    let check = gotap::run(&["check", path, program]);
    assert!(
        check.text().contains("no debug information"),
        "{}",
        check.text()
    );
}
