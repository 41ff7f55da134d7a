//! Expressions over the program's variables in sessions: of parked goroutines,
//! live and in a core file, and of packages.

mod support;

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
            text.push_str(&format!("p {expr}\n"));
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
