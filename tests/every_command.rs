//! Every command of a session on a live program: with debug information,
//! stripped, stripped with `--symbols`, and what reads on a core file. A command
//! without a row fails the last check; `GOTAP_TEST_GO` names other Go releases.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::gotap::repl::config::SETTINGS;
use ::gotap::script::command::{Standing, VERBS, parse_script};
use regex::Regex;
use support::piped::{Piped, note};
use support::{Fixture, LATER, SOON, Target, Toolchain, Variant, gotap, oracle};

/// What a program lets one know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Knows {
    /// Its variables.
    All,
    /// `-s -w`: no variables.
    Stripped,
    /// The same with `--symbols`.
    Twin,
}

/// Variables: where they are known the answer has these.
fn variables(s: &mut Piped, knows: Knows, line: &str, wanted: &[&str]) {
    match knows {
        Knows::Stripped => s.refused(line, UNKNOWN),
        Knows::All | Knows::Twin => drop(s.has(line, wanted)),
    }
}

/// What is not known of a stripped program, in one line.
const UNKNOWN: &str = "the program has no debug information: its variables are not known; \
                       --symbols FILE takes it from the program before it was stripped";

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/breaks/main.go")
}

/// The number of the fixture's first line with this text.
fn line_of(text: &str) -> usize {
    let code = fs::read_to_string(source()).expect("the fixture's source");
    1 + code.lines().position(|l| l.contains(text)).expect(text)
}

fn go_tool(go: &Toolchain, args: &[&str], path: &Path) -> String {
    let out = go.go().arg("tool").args(args).arg(path).output();
    let out = out.expect("go is needed: https://go.dev/dl/");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The program's own functions, by the symbol table of the one that has one.
fn functions(go: &Toolchain, path: &Path) -> BTreeSet<String> {
    let symbols = go_tool(go, &["nm"], path);
    let own = symbols.lines().filter_map(|l| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let name = words.last().filter(|n| n.starts_with("main."))?;
        matches!(words.get(1), Some(&("T" | "t"))).then(|| (*name).to_owned())
    });
    own.collect()
}

/// Address and bytes of each instruction of a function, as `go tool objdump`
/// has them, up to its last RET.
fn instructions(go: &Toolchain, path: &Path, function: &str) -> Vec<(String, String)> {
    let text = go_tool(go, &["objdump", "-s", &format!("^{function}$")], path);
    let lines = text.lines().filter_map(|l| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let [_, at, bytes, ..] = words.as_slice() else {
            return None;
        };
        at.starts_with("0x")
            .then(|| ((*at).to_owned(), (*bytes).to_owned()))
    });
    lines.collect()
}

/// What only looks, whether the program runs, stands, or has been dumped.
fn reading(s: &mut Piped, knows: Knows, go: &Toolchain, twin: &Path) {
    // All but what the compiler made for `go` and `defer`.
    let listed = s.ask("funcs ^main\\.");
    let listed: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
    let known = functions(go, twin);
    assert!(listed.is_subset(&known), "{}: {listed:?}", s.label);
    let made = Regex::new(r"\.(deferwrap\d+|gowrap\d+|func\d+(\.\d+)?)$").expect("a pattern");
    let lost: Vec<&String> = known
        .difference(&listed)
        .filter(|n| !made.is_match(n))
        .collect();
    assert!(
        lost.is_empty() && listed.len() > 12,
        "{}: {lost:?}",
        s.label
    );
    s.has("types ^\\*os\\.File$", &["*os.File\n"]);
    s.has("types ^nothing$", &["(none)\n"]);
    s.has("packages ^main$", &["main\n"]);
    s.has(
        "sources breaks/main.go",
        &[source().to_str().expect("UTF-8")],
    );
    let visit = line_of("func visit(");
    s.has(
        "list main.visit",
        &[&format!("=>{visit:5}:  func visit(req")],
    );
    s.has(
        &format!("ls main.go:{}", visit + 5),
        &["=>", "total = req.ID"],
    );
    let shown = s.ask("disassemble main.rest");
    for (at, mut bytes) in instructions(go, twin, "main.rest") {
        if knows == Knows::Stripped {
            // Data lies elsewhere where it is not told of.
            bytes.truncate(4);
        }
        let line = shown.lines().find(|l| l.contains(&at));
        assert!(
            line.is_some_and(|l| l.contains(&format!("  {bytes}"))),
            "{at} {bytes}:\n{shown}"
        );
    }
    assert!(!shown.contains("int3"), "{shown}");
    let (at, bytes) = instructions(go, twin, "main.visit").remove(0);
    let first = format!("{at}:   0x{}", &bytes[..2]);
    s.has(&format!("examinemem {at}"), &[&first]);
    s.has(&format!("x -fmt oct -count 2 -size 1 {at}"), &[&at]);
    s.has(&format!("x -x {at} + 0"), &[&first]);
    variables(
        s,
        knows,
        "vars ^main\\.(ratio|greet)$",
        &["main.greet = \"hello\"\nmain.ratio = 0.5\n"],
    );
    variables(
        s,
        knows,
        "print main.greet, main.last.ID",
        &["\"hello\"", "main.last.ID = -1\n"],
    );
    variables(s, knows, "whatis main.last", &["*main.Request\n"]);
    s.has("print 1 + 2", &["1 + 2 = 3\n"]);
    s.has("goroutines", &[" goroutines, go1.", "GOID", "main.main"]);
    s.has(
        "grs -with user main.main -t",
        &["main.main(", "runtime.main("],
    );
    s.has("goroutines -group reason", &["COUNT", "STATE"]);
    s.has("goroutines -group stack", &["COUNT"]);
    s.has(
        "goroutines -with state \"chan receive\" -exec bt 1",
        &["runtime.gopark("],
    );
    s.has(
        "goroutines -without user main. -with label no=body",
        &["GOID"],
    );
    s.has("goroutine 1", &["main.main"]);
    s.has("goroutine", &["GOID", "1 "]);
    let stack = s.has("stack", &["main.main(", "runtime.main("]);
    s.has("bt 2", &["syscall."]);
    let frames: Vec<&str> = stack
        .lines()
        .filter(|l| l.ends_with(')') && !l.starts_with(' '))
        .collect();
    let main = frames
        .iter()
        .position(|l| l.starts_with("main.main("))
        .expect("main.main");
    s.has(
        &format!("frame {main}"),
        &[&format!("frame {main}: main.main ")],
    );
    s.has("up", &[&format!("frame {}: runtime.main ", main + 1)]);
    s.has("down 1", &[&format!("frame {main}: main.main ")]);
    s.has("print goid, goid == 1", &["goid = 1\ngoid == 1 = true\n"]);
    variables(s, knows, "locals", &["heard = (chan os.Signal)("]);
    variables(s, knows, "args", &["(none)\n"]);
    variables(
        s,
        knows,
        &format!("goroutine 1 frame {main} locals ^heard$"),
        &["heard = "],
    );
    variables(s, knows, "stack -full", &["main.main", "heard = "]);
    s.has("deferred", &["(none)\n"]);
    s.has("breakpoints", &["no tracepoints"]);
    s.has("summary", &["no calls yet"]);
    s.has("snapshots", &["no snapshots"]);
    s.has("snapshot", &["live"]);
    s.has("display -a goid", &["display 1 comes at each stop"]);
    s.has("display", &["1: goid = 1\n"]);
    s.has("display -d 1", &[""]);
    s.has("display", &["(none)"]);
    for setting in SETTINGS {
        s.has("config", &[setting.name]);
    }
    s.has("config max-string-len 3", &[""]);
    variables(s, knows, "print main.greet", &["\"hel\"...+2 more"]);
    s.has("config -list", &["max-string-len          3\n"]);
    s.has("config max-string-len 64", &[""]);
    for row in VERBS {
        match row.standing {
            Standing::Works => drop(s.has(&format!("help {}", row.name), &[row.name])),
            Standing::LeftOut(why) => {
                s.refused(row.name, why);
                s.has(&format!("help {}", row.name), &[why]);
            }
        }
    }
}

/// A program that runs: its own files, and what needs a stop.
fn running(s: &mut Piped, target: &Target, path: &Path, folder: &Path) {
    let pid = target.pid();
    s.has("libraries", &[path.to_str().expect("UTF-8")]);
    let listed = s.ask("fds");
    let shown: BTreeSet<&str> = listed
        .lines()
        .filter_map(|l| l.split_whitespace().nth(1))
        .collect();
    let real = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let real: Vec<String> = real
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(shown, real.iter().map(String::as_str).collect(), "{listed}");
    s.has("conns", &["(none)\n"]);
    let listed = s.ask("threads");
    for tid in oracle::threads(pid) {
        assert!(
            listed.contains(&format!("Thread {tid} ")),
            "{tid}:\n{listed}"
        );
    }
    for line in [
        "next",
        "step",
        "stepout",
        "step-instruction",
        "next-instruction",
        "regs",
        "thread 1",
        "set a = 1",
    ] {
        s.refused(line, "halt");
    }
    let log = folder.join("log");
    s.has(&format!("transcript -t {}", log.display()), &[""]);
    s.ask("packages ^main$");
    s.has("transcript -off", &[""]);
    let text = fs::read_to_string(&log).expect("a transcript");
    assert!(
        text.contains("packages ^main$") && text.contains("\nmain\n"),
        "{text}"
    );
}

/// At a breakpoint.
fn stopped(s: &mut Piped, knows: Knows, target: &mut Target) {
    // What it is told while it stands it does when it goes on.
    s.has("halt", &["> halted: ", "(target stopped)"]);
    let number = match knows {
        Knows::Stripped => "a1",
        _ => "n",
    };
    variables(
        s,
        knows,
        "break never main.visit if req.ID == -7",
        &["Breakpoint never set"],
    );
    let set = s.has(
        &format!("break b1 main.visit if {number} == 2"),
        &["Breakpoint b1 set at 0x"],
    );
    let at = set
        .split(" set at 0x")
        .nth(1)
        .expect("an address")
        .split(' ')
        .next()
        .expect("one")
        .to_owned();
    s.has("condition -hitcount b1 == 1", &[""]);
    s.has(
        "breakpoints",
        &[
            "Breakpoint b1 (enabled) on main.visit hits 0",
            &format!("{number} == 2"),
        ],
    );
    target.tell("visit 3");
    let visit = line_of("func visit(");
    s.has(
        "continue",
        &[
            "hit breakpoint b1 main.visit ",
            "(target stopped)",
            &format!("=>{visit:5}:"),
        ],
    );
    match knows {
        Knows::Stripped => s.has("args", &["a0 = ", "a1 = raw(0x2)\n", "a2 = "]),
        _ => s.has(
            "args",
            &["req = &main.Request{ID:", "n = 2\n", "label = \"label\"\n"],
        ),
    };
    variables(
        s,
        knows,
        "print n, label, req.Name[0], req.Header[\"Host\"]",
        &["n = 2\n", "\"label\"\n", "[]string{\"h2\"}"],
    );
    variables(s, knows, "whatis req", &["*main.Request\n"]);
    variables(s, knows, "locals", &["(none)\n"]);
    let top = s.matches(
        "stack 2",
        r"main\.visit\(0x[0-9a-f]+, 0x2, \{0x[0-9a-f]+, 0x5\}\)\n",
    );
    assert!(top.contains("main.run("), "{top}");
    s.has("regs", &["Rip = 0x", &at, "Rbx = 0x0000000000000002\n"]);
    s.has("regs -a", &["Xmm15 = 0x"]);
    variables(s, knows, "x -count 2 -size 8 -x req", &[":   0x"]);
    s.has(
        "disassemble",
        &[
            "TEXT main.visit",
            &format!("=> main.go:{visit}"),
            &format!("0x{at}"),
        ],
    );
    s.has("list", &[&format!("=>{visit:5}:  func visit(")]);
    s.has("threads", &["* Thread ", "goroutine {goid} main.visit"]);
    s.has(
        &format!("thread {}", target.pid()),
        &[&target.pid().to_string()],
    );
    s.has("goroutine {goid}", &["main.visit"]);
    s.has("up", &["frame 1: main.run "]);
    variables(s, knows, "args", &["base = "]);
    s.has("down", &["frame 0: main.visit "]);
    s.has(
        "frame 1 list",
        &[&format!("=>{:5}:", line_of(":= visit(req"))],
    );
    s.has("goroutines -with running", &["main.visit"]);
    s.has("print goid == {goid}", &["= true\n"]);
    s.matches(
        "next",
        &format!(
            r"> goroutine \d+ at main\.visit \S+:({}|{}) ",
            visit + 1,
            visit + 2
        ),
    );
    let rip = |text: String| {
        text.lines()
            .find(|l| l.contains("Rip ="))
            .expect("Rip")
            .to_owned()
    };
    let before = rip(s.ask("regs"));
    s.has("step-instruction", &["> goroutine {goid} at "]);
    let after = rip(s.ask("regs"));
    assert_ne!(before, after, "{}: si", s.label);
    s.has("next-instruction", &["> goroutine {goid} at "]);
    s.matches(
        "step",
        r"> goroutine \d+ at (main\.visit|main\.weigh|sync/atomic)",
    );
    // Out of what is inlined first.
    let mut out = s.has("stepout", &["> goroutine {goid} at "]);
    while !out.contains(" at main.run ") {
        out = s.has("stepout", &["> goroutine {goid} at main."]);
    }
    assert!(out.contains("Values returned:"), "{}: {out}", s.label);
    variables(s, knows, "set main.factor = 5", &[""]);
    variables(s, knows, "print main.factor", &["main.factor = 5\n"]);
    s.has("clear b1", &["Breakpoint b1 cleared"]);
    // What a loop deferred.
    s.has("break rest main.rest", &["Breakpoint rest set"]);
    target.tell("late");
    s.has("continue", &["hit breakpoint rest main.rest "]);
    target.answer("visit", SOON);
    s.has("up", &["frame 1: main.late "]);
    s.has(
        "deferred",
        &["1  main.tidy", "2  main.tidy", "3  main.tidy"],
    );
    s.has("deferred 2", &["2  main.tidy"]);
    s.has("toggle rest", &["Breakpoint rest is off"]);
    s.has("clearall", &["Breakpoint rest cleared"]);
}

/// Copies, made from the stop on.
fn copied(s: &mut Piped, knows: Knows, target: &mut Target) {
    let number = if knows == Knows::Stripped { "a1" } else { "n" };
    s.has(
        &format!("snap s1 main.visit if {number} == 1"),
        &["Snappoint s1 set"],
    );
    target.tell("visit 2");
    s.has("continue", &["in snapshot 1 at main.visit "]);
    target.answer("late", SOON);
    target.answer("visit", SOON);
    s.has(
        "snapshots",
        &["  1  ", "s1  goroutine {goid} at main.visit "],
    );
    s.has("snapshot 1", &[""]);
    match knows {
        Knows::Stripped => s.has("args", &["a1 = raw(0x1)\n"]),
        _ => s.has("args", &["n = 1\n", "label = \"label\"\n"]),
    };
    s.matches("stack", r"main\.visit\(0x[0-9a-f]+, 0x1, ");
    s.has("goroutines -group state", &["running"]);
    s.has("regs", &["Rbx = 0x0000000000000001\n"]);
    variables(s, knows, "print n, req.Name", &["n = 1\n"]);
    s.has("up", &["frame 1: main.run "]);
    for line in ["fds", "conns", "set n = 1"] {
        s.refused(line, "a copy ");
    }
    s.has("snapshot live", &[""]);
    s.has("snapshot drop 1", &["snapshot 1 dropped"]);
    s.has("snapshots", &["no snapshots"]);
    s.has("clear s1", &["cleared"]);
}

/// Tracepoints, and what is done with points.
fn traced(s: &mut Piped, knows: Knows, target: &mut Target, folder: &Path) {
    let number = if knows == Knows::Stripped { "a1" } else { "n" };
    s.has(
        &format!("trace t1 main.visit if {number} == 1 {{ print goid; stack 2 }}"),
        &["Tracepoint t1 on main.visit"],
    );
    target.tell("visit 3");
    target.answer("visit", LATER);
    let seen = s.until("breakpoints", "hits 2");
    assert!(seen.contains("main.visit"), "{seen}");
    s.has("on t1 args", &[""]);
    s.has("condition -per-g-hitcount t1 > 0", &[""]);
    let saved = folder.join("saved");
    s.has(&format!("breakpoints -save {}", saved.display()), &[""]);
    let text = fs::read_to_string(&saved).expect("saved");
    for part in [
        "trace t1 main.visit",
        &format!("{number} == 1"),
        "args",
        "-per-g-hitcount t1 > 0",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    s.until("summary", "main.visit");
    s.has("clearall main.visit", &["Tracepoint t1 cleared"]);
    s.has(
        &format!("source {}", saved.display()),
        &["Tracepoint t1 on main.visit"],
    );
    target.tell("visit 2");
    target.answer("visit", LATER);
    let seen = s.until("breakpoints", "hits 2");
    assert!(
        seen.contains(if knows == Knows::Stripped {
            "a1"
        } else {
            "label"
        }),
        "{seen}"
    );
    s.has("condition -clear t1", &[""]);
    s.has("toggle t1", &["Tracepoint t1 is off"]);
    s.has("toggle t1", &["Tracepoint t1 is on"]);
    s.has("clear t1", &["Tracepoint t1 cleared"]);
}

/// What only scripts have.
fn scripted(ran: &mut BTreeSet<&'static str>, pid: i32, folder: &Path) {
    let path = folder.join("a.gotap");
    let text = "set -e\nevery 20ms { threads }\non exit { summary }\nfor 300ms\n";
    note(&parse_script(text).script.statements, ran);
    fs::write(&path, text).expect("a script");
    let outcome = gotap::run(&["run", path.to_str().expect("UTF-8"), "-p", &pid.to_string()]);
    let shown = outcome.must_succeed().text();
    assert!(shown.contains(&format!("Thread {pid} ")), "{shown}");
    assert!(shown.ends_with("no calls yet\n"), "{shown}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// All of it on one program; what was run.
fn walk(knows: Knows, toolchain: &Toolchain) -> BTreeSet<&'static str> {
    let folder = tempfile::tempdir().expect("a folder");
    let twin = Fixture::build_with("breaks", &[], toolchain);
    let program = match knows {
        Knows::All => twin.clone(),
        Knows::Stripped => Fixture::build_with("breaks", &[Variant::Stripped], toolchain),
        // Of the same build: the default one without its symbols.
        Knows::Twin => {
            let path = folder.path().join("stripped");
            let done = Command::new("objcopy")
                .arg("--strip-all")
                .args([&twin.path, &path])
                .status();
            assert!(done.expect("objcopy: apt-get install binutils").success());
            Fixture {
                path,
                label: twin.label.clone(),
            }
        }
    };
    let label = format!("{} {knows:?}", program.label);
    println!("{label}");
    let mut target = Target::start(&program, &[]);
    target.expect_line("ready ");
    let before = oracle::footprint(target.pid());
    let pid = target.pid().to_string();
    let symbols: &[&str] = match knows {
        Knows::Twin => &["--symbols", text(&twin.path)],
        _ => &[],
    };
    let core = folder.path().join("core");
    let mut s = Piped::start(&[&["attach", &pid], symbols].concat(), &label);
    reading(&mut s, knows, toolchain, &twin.path);
    running(&mut s, &target, &program.path, folder.path());
    stopped(&mut s, knows, &mut target);
    copied(&mut s, knows, &mut target);
    traced(&mut s, knows, &mut target, folder.path());
    s.has("halt", &["> halted: ", "(target stopped)"]);
    s.refused("halt", "the target is stopped already");
    s.has(&format!("dump {}", core.display()), &[" of memory"]);
    let mut ran = std::mem::take(&mut s.ran);
    s.finish();
    oracle::assert_clean(target.pid(), &before, &label);
    scripted(&mut ran, target.pid(), folder.path());
    assert!(target.answers(), "{label}");

    let args = ["attach", "--core", text(&core), text(&program.path)];
    let label = format!("{label}, its core");
    let mut s = Piped::start(&[&args, symbols].concat(), &label);
    if knows != Knows::Stripped {
        // The set value; the rest is as it was.
        s.has("print main.factor", &["main.factor = 5\n"]);
    }
    reading(&mut s, knows, toolchain, &twin.path);
    s.has("threads", &[&format!("Thread {pid}")]);
    s.has("regs", &["Rip = 0x"]);
    s.has(&format!("thread {pid}"), &[""]);
    for line in [
        "continue",
        "next",
        "break main.visit",
        "trace main.visit",
        "snap main.visit",
        "fds",
        "conns",
        "libraries",
        "set main.factor = 1",
        "dump x",
    ] {
        s.refused(line, "a core file ");
    }
    s.tell("exit");
    s.finish();
    ran
}

#[test]
fn every_command_on_every_program() {
    let all = [Knows::All, Knows::Stripped, Knows::Twin];
    let toolchains = Toolchain::under_test();
    for (index, toolchain) in toolchains.iter().enumerate() {
        // Of several releases each is met, and each kind, not every pair.
        let kinds = match toolchains.len() {
            1 => &all[..],
            _ => &all[index % all.len()..][..1],
        };
        for knows in kinds {
            let mut ran = walk(*knows, toolchain);
            ran.insert("exit"); // the session's last, on the core
            let works = VERBS.iter().filter(|row| row.standing == Standing::Works);
            let missing: Vec<&str> = works.map(|r| r.name).filter(|n| !ran.contains(n)).collect();
            assert!(missing.is_empty(), "no row runs {missing:?}");
        }
    }
}
