//! Expressions over the program's variables in sessions: of parked goroutines,
//! live and in a core file, and of packages.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use support::{AtTerminal, Fixture, Gotap, LATER, Target, Toolchain, Variant, dump, gotap};

/// What a session answers to commands from a pipe.
fn session(args: &[&str], commands: &str) -> gotap::Outcome {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(commands.as_bytes()).expect("a pipe");
    drop(writer);
    let mut command = gotap::command(&[&["attach"], args].concat());
    command.stdin(Stdio::from(reader));
    Gotap::spawn(command).finish(LATER)
}

fn orders(variants: &[Variant], toolchain: &Toolchain) -> (Fixture, Target) {
    let fixture = Fixture::build_with("orders", variants, toolchain);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready");
    (fixture, target)
}

/// The goroutine that is parked in wait, and the number of that frame.
fn parked(pid: i32) -> (u64, usize) {
    let pid = pid.to_string();
    let look = gotap::run(&["goroutines", "--list", "-o", "json", "-p", &pid]);
    let look: serde_json::Value = serde_json::from_str(&look.text()).expect("JSON");
    let all = look["goroutines"].as_array().expect("a list");
    let one = all
        .iter()
        .find(|g| g["user"] == "main.(*server).wait")
        .unwrap_or_else(|| panic!("nobody waits in {all:#?}"));
    let goid = one["goid"].as_u64().expect("a number");
    let stack = gotap::run(&["stack", &goid.to_string(), "--full", "-p", &pid]);
    let stack = stack.text();
    let below = stack.lines().skip_while(|l| !l.is_empty()).skip(1);
    let mut frames = below.filter(|l| !l.starts_with(' '));
    let frame = frames.position(|l| l == "main.(*server).wait");
    (goid, frame.unwrap_or_else(|| panic!("{stack}")))
}

const PRINTED: &[(&str, &str)] = &[
    ("req.Header[\"Host\"]", "[]string{\"a.example\"}"),
    ("s.sessions[3].name[:5]", "\"sessi\""),
    ("len(s.byName)", "5"),
    ("len(s.sessions) + cap(tag[1:])", ""),
    ("err.(*net.OpError).Op", "\"dial\""),
    ("err", "dial tcp: odd order"),
    ("held.(*order).ID == 42 && tag =~ \"^par\"", "true"),
    ("s.byName[\"session-2\"].hits * 2", "4"),
    ("req.Body[1:3]", "[]uint8 len 2 \"od\""),
    ("*s.sessions[1]", "main.session{name:\"session-1\", hits:1}"),
    ("hit.reason", "\"chan receive\""),
    ("fd == nil && goid > 1", "true"),
    ("global == s", "true"),
    ("main.handled", "0"),
];

fn commands(goid: u64, frame: usize) -> String {
    let mut text = format!("goroutine {goid}\nframe {frame}\n");
    for (expr, value) in PRINTED {
        if !value.is_empty() {
            let _ = writeln!(text, "p {expr}");
        }
    }
    text.push_str("whatis err\nwhatis req.Header\nwhatis s.sessions[0].name\nwhatis main.order\n");
    text
}

fn must_print(label: &str, outcome: &gotap::Outcome) {
    let shown = outcome.text();
    for (expr, value) in PRINTED.iter().filter(|(_, v)| !v.is_empty()) {
        let line = format!("{expr} = {value}\n");
        assert!(
            shown.contains(&line),
            "{label}: {line}{shown}{}",
            outcome.errors()
        );
    }
    for typed in [
        "\nerror\nholds *net.OpError\n",
        "\nmap[string][]string\n",
        "\nstring\n",
        "\ntype main.order, ",
    ] {
        assert!(shown.contains(typed), "{label}: {typed}{shown}");
    }
}

#[test]
fn of_a_parked_goroutine_live_and_in_a_core() {
    let folder = tempfile::tempdir().expect("a folder");
    for toolchain in Toolchain::under_test() {
        for variants in [&[Variant::NoOpt][..], &[Variant::NoOpt, Variant::Pie]] {
            let (fixture, target) = orders(variants, &toolchain);
            let (goid, frame) = parked(target.pid());
            let commands = commands(goid, frame);
            let live = session(&[&target.pid().to_string()], &commands);
            must_print(&fixture.label, &live);
            live.must_succeed();
            let core = dump::gcore(target.pid(), folder.path());
            let core = core.to_str().expect("a path");
            let program = fixture.path.to_str().expect("a path");
            let dead = session(&["--core", core, program], &commands);
            must_print(&fixture.label, &dead);
        }
    }
}

#[test]
fn package_variables_without_a_goroutine() {
    let (_fixture, mut target) = orders(&[], &Toolchain::Machine);
    target.tell("handle 4");
    target.expect_line("handle 4");
    let pid = target.pid().to_string();
    let outcome = session(
        &[&pid],
        "p handled, lastErr, len(global.sessions), main.errOdd == lastErr\nvars ^main\\.\n\
         p net.DefaultResolver == nil\np nobody\np handled[2]\n",
    );
    let shown = outcome.text();
    for wanted in [
        "handled = 52\n",
        "lastErr = odd order\n",
        "len(global.sessions) = 5\n",
        "main.errOdd == lastErr = true\n",
        "main.handled = 52\n",
        "main.errOdd = odd order\n",
    ] {
        assert!(
            shown.contains(wanted),
            "{wanted}{shown}{}",
            outcome.errors()
        );
    }
    let said = outcome.errors();
    assert!(said.contains("unknown name `nobody`"), "{said}");
    assert!(
        said.contains("this is of type int, which cannot be indexed"),
        "{said}"
    );
    // A caret under the place.
    assert!(said.contains("p nobody\n"), "{said}");
    assert!(said.contains("  ^^^^^^"), "{said}");
}

#[test]
fn limits_are_settings() {
    let (_fixture, target) = orders(&[], &Toolchain::Machine);
    let pid = target.pid().to_string();
    let outcome = session(
        &[&pid],
        "config max-array-values 2\nconfig max-string-len 4\np global.sessions[1:4]\n\
         p global.addr\nconfig max-variable-recurse 0\np global.sessions[0]\n\
         config -list\nconfig show-location-expr true\nconfig max-strin-len 3\n",
    );
    let shown = outcome.text();
    assert!(shown.contains("...+1 more"), "{shown}");
    assert!(
        shown.contains("global.addr = \"127.\"...+7 more\n"),
        "{shown}"
    );
    assert!(
        shown.contains("global.sessions[0] = (*main.session)(0x"),
        "{shown}"
    );
    assert!(shown.contains("max-string-len          4\n"), "{shown}");
    let said = outcome.errors();
    assert!(said.contains("has no meaning here"), "{said}");
    assert!(said.contains("did you mean `max-string-len`?"), "{said}");
}

#[test]
fn completion_of_variables_and_types() {
    let (_fixture, target) = orders(&[Variant::NoOpt], &Toolchain::Machine);
    let (goid, frame) = parked(target.pid());
    let home = tempfile::tempdir().expect("a folder");
    let pid = target.pid().to_string();
    let mut terminal = AtTerminal::start(&["attach", &pid], Path::new(home.path()), "xterm");
    terminal.wait_for("(gotap) ");
    terminal.line(&format!("goroutine {goid}"));
    terminal.wait_for("main.(*server).wait");
    terminal.line(&format!("frame {frame}"));
    terminal.wait_for(&format!("frame {frame}: main.(*server).wait "));
    terminal.wait_for("(gotap) ");
    terminal.send("p len(he\t");
    terminal.wait_for("p len(held");
    terminal.send("\x03");
    terminal.wait_for("(gotap) ");
    terminal.send("p main.hand\t");
    terminal.wait_for("p main.handled");
    terminal.send("\x03");
    terminal.wait_for("(gotap) ");
    terminal.send("types main.sess\t");
    terminal.wait_for("types main.session");
    terminal.send("\x03");
    terminal.wait_for("\n(gotap) ");
    terminal.send("\x04");
    assert!(terminal.finish().0.success());
}

/// Runs a script on a program that handles 100 orders in each of two goroutines.
fn handled(target: &mut Target, script: &str) -> gotap::Outcome {
    let folder = support::folder();
    let path = support::script(folder.path(), script);
    let mut gotap = Gotap::run_json(&path, target.pid());
    gotap
        .stderr_line("Tracepoint 1 on", LATER)
        .expect("it is armed");
    target.tell("handle 100");
    target.expect_line("handle 100");
    gotap.stop()
}

fn calls(outcome: &gotap::Outcome) -> usize {
    let records = outcome.records();
    records
        .iter()
        .filter(|r| r["func"] == "main.(*server).handle")
        .count()
}

/// Two goroutines of 100 calls each: exact counts, with and without conditions.
#[test]
fn conditions_of_traces_over_arguments_as_they_were() {
    for variants in [&[][..], &[Variant::NoOpt], &[Variant::Pie]] {
        let (fixture, mut target) = orders(variants, &Toolchain::Machine);
        for (condition, wanted) in [
            ("", 200),
            ("if req.ID >= 0", 200),
            ("if req.ID % 10 == 3", 20),
            ("if req.Header[\"Host\"][0] == \"b.example\"", 20),
            ("if tag == \"g1\" && len(req.Body) == 4", 100),
            ("if req.ID == 42 && s.sessions[2].name =~ \"-2$\"", 2),
            ("if err != nil && req.ID < 10", 10),
            ("if err == nil && n > 100 && s.addr != global.addr", 66),
            ("if req.ID < 0", 0),
            ("if s.byName[\"nobody\"] != nil", 0),
        ] {
            let script = format!("trace main.(*server).handle {condition}\n");
            let outcome = handled(&mut target, &script);
            outcome.must_succeed();
            assert_eq!(calls(&outcome), wanted, "{}: {condition}", fixture.label);
            let last = "200 calls seen, 0 still open, 0 lost";
            let said = outcome.errors();
            assert!(said.contains(last), "{condition}: {said}");
        }
    }
}

#[test]
fn actions_print_what_was_there_at_the_entry() {
    let (_fixture, mut target) = orders(&[], &Toolchain::Machine);
    let outcome = handled(
        &mut target,
        "trace main.(*server).handle if req.ID == 13 {\n    print req.ID, req.Header[\"Host\"], \
         s.sessions[req.ID % 5].name, n, err, err == errOdd, hit.goid == goid\n}\n",
    );
    outcome.must_succeed();
    let records = outcome.records();
    let printed: Vec<_> = records.iter().filter(|r| r["action"] == "print").collect();
    assert_eq!(printed.len(), 2, "{records:#?}");
    for one in printed {
        let values = &one["values"];
        assert_eq!(values["req.ID"], 13, "{one}");
        assert_eq!(values["req.Header[\"Host\"]"][0], "b.example", "{one}");
        assert_eq!(values["s.sessions[req.ID % 5].name"], "session-3", "{one}");
        assert_eq!(values["n"], 41, "{one}");
        assert_eq!(values["err"], "odd order", "{one}");
        assert_eq!(values["err == errOdd"], true, "{one}");
        assert_eq!(values["hit.goid == goid"], true, "{one}");
    }
}

#[test]
fn an_error_at_a_hit_marks_the_point_and_the_target_runs_on() {
    let (_fixture, mut target) = orders(&[], &Toolchain::Machine);
    let outcome = handled(
        &mut target,
        "trace main.(*server).handle if s.sessions[req.ID].hits >= 0\non exit { breakpoints }\n",
    );
    let said = outcome.errors();
    assert!(
        said.contains("tracepoint 1: its condition: index 5 is out of range: 5 elements"),
        "{said}"
    );
    assert_eq!(said.matches("its condition").count(), 1, "{said}");
    assert_eq!(calls(&outcome), 10);
    let shown = outcome.text();
    assert!(shown.contains("condition failed: index 5"), "{shown}");
}

#[test]
fn wrong_conditions_of_traces_are_refused_before_anything_is_armed() {
    let folder = tempfile::tempdir().expect("a folder");
    let fixture = Fixture::build("orders", &[]);
    let path = folder.path().join("a.gotap");
    for (condition, wanted) in [
        (
            "req.Bodi == nil",
            "1:36: unknown field `Bodi`; did you mean `Body`?",
        ),
        (
            "reqq.ID == 4",
            "1:32: unknown name `reqq`; did you mean `req`?",
        ),
        (
            "req.Header[1] == nil",
            "1:43: the map's keys are of type string, this is an integer",
        ),
        (
            "req.ID == \"x\"",
            "1:42: `==` between an integer and text makes no sense",
        ),
        (
            "tag[2] == 3 && len(req) > 2",
            "1:51: this is of type main.order, which has no len",
        ),
        (
            "err.(*nett.OpError) != nil",
            "1:37: the program has no type `*nett.OpError`",
        ),
    ] {
        std::fs::write(
            &path,
            format!("trace main.(*server).handle if {condition}\n"),
        )
        .expect("write a script");
        let script = path.to_str().expect("a path");
        let program = fixture.path.to_str().expect("a path");
        let outcome = gotap::run(&["check", script, program]);
        let shown = outcome.text();
        assert!(shown.contains(wanted), "{condition}: {wanted}\n{shown}");
        // Without the program, what it would tell is not asked.
        let outcome = gotap::run(&["check", script]);
        if condition != "req.ID == \"x\"" {
            outcome.must_succeed();
        }
    }
}
