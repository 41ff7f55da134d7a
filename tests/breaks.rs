//! `break`, `halt`, `continue` and what is looked at while a program is stopped:
//! counts are exact, values are what the program has, and whatever ends gotap or
//! the stop, the program runs on as it was.

mod support;

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::oracle::{assert_clean, footprint, thread_states, tracer};
use support::{
    AtTerminal, Fixture, Gotap, LATER, Outcome, SOON, Target, Variant, folder, gotap, poll, script,
    target,
};

fn breaks(variants: &[Variant]) -> Fixture {
    Fixture::build("breaks", variants)
}

fn start(variants: &[Variant]) -> Target {
    let mut target = Target::start(&breaks(variants), &[]);
    target.expect_line("ready ");
    target
}

/// `gotap run` of a script, when it has come to the point `armed`, which stands
/// where nobody comes and is added where the script has none.
fn run(target: &Target, folder: &Path, text: &str, more: &[&str]) -> Gotap {
    const LAST: &str = "break armed main.spin\n";
    let last = if text.contains(LAST) { "" } else { LAST };
    let path = script(folder, &format!("{text}{last}"));
    let pid = target.pid().to_string();
    let mut args = vec!["run", path.to_str().expect("UTF-8"), "-p", &pid];
    args.extend(more);
    let mut gotap = Gotap::spawn(gotap::command(&args));
    gotap
        .stderr_line("Breakpoint armed set at ", SOON)
        .unwrap_or_else(|| panic!("nothing is set: {text}"));
    gotap
}

/// Commands from a pipe, to their end.
fn piped(target: &Target, commands: &str) -> Outcome {
    let folder = folder();
    let path = script(folder.path(), commands);
    let mut command = gotap::command(&["attach", &target.pid().to_string()]);
    command.stdin(fs::File::open(path).expect("commands"));
    gotap::run_command(command)
}

/// A prompt on the program.
fn attach(target: &Target, home: &Path) -> AtTerminal {
    let mut terminal = AtTerminal::start(&["attach", &target.pid().to_string()], home, "xterm");
    terminal.wait_for("(gotap) ");
    terminal
}

/// Every thread is in a stop of its tracer.
fn stands(pid: i32) -> bool {
    let states = thread_states(pid);
    !states.is_empty() && states.iter().all(|s| *s == 't')
}

fn runs(pid: i32) -> bool {
    thread_states(pid).iter().all(|s| *s != 't')
}

/// The number of the fixture's first line with this text.
fn line_of(text: &str) -> usize {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/breaks/main.go");
    let source = fs::read_to_string(file).expect("the fixture's source");
    1 + source.lines().position(|l| l.contains(text)).expect(text)
}

fn count<'v>(answer: &'v Value, name: &str) -> &'v Value {
    &answer[name]
}

/// Two goroutines, a hundred calls each.
#[test]
fn a_breakpoint_is_hit_as_often_as_the_function_is_called() {
    for variants in [
        &[][..],
        &[Variant::NoOpt],
        &[Variant::Stripped],
        &[Variant::Pie],
    ] {
        let folder = folder();
        let mut target = start(variants);
        let before = footprint(target.pid());
        let text = "break main.visit\non exit { breakpoints }\n";
        let gotap = run(&target, folder.path(), text, &["-o", "json"]);
        let answer = {
            target.tell("visit 100");
            target.answer("visit", LATER)
        };
        assert_eq!(count(&answer, "visits"), 200, "{variants:?}");
        let outcome = gotap.stop();
        let records = outcome.must_succeed().records();
        let stops: Vec<&Value> = records.iter().filter(|r| r["event"] == "stop").collect();
        assert_eq!(stops.len(), 200, "{variants:?}");
        for stop in &stops {
            assert_eq!(stop["func"], "main.visit", "{stop}");
            assert_eq!(stop["breakpoints"], serde_json::json!([1]), "{stop}");
        }
        let goids: std::collections::BTreeSet<u64> =
            stops.iter().filter_map(|s| s["goid"].as_u64()).collect();
        assert_eq!(goids.len(), 2, "{variants:?}");
        let listed = outcome.text();
        assert!(listed.contains("on main.visit hits 200"), "{listed}");
        assert_clean(target.pid(), &before, "after 200 stops");
        assert!(target.answers());
    }
}

/// With conditions on the program's variables, and with counts.
#[test]
fn conditions_and_counts_are_exact() {
    let folder = folder();
    let mut target = start(&[]);
    let text = "break all main.visit\n\
                break even main.visit if req.ID % 2 == 0\n\
                break one main.visit if req.Header[\"Host\"][0] == \"h7\" && label == \"label\"\n\
                break third main.visit\n\
                condition -hitcount third % 3\n\
                break own main.visit\n\
                condition -per-g-hitcount own == 100\n\
                break never main.visit if req.Name == \"nobody\"\n\
                on exit { breakpoints }\n";
    let gotap = run(&target, folder.path(), text, &["-o", "json"]);
    target.tell("visit 100");
    let answer = target.answer("visit", LATER);
    assert_eq!(count(&answer, "evens"), 100);
    let outcome = gotap.stop();
    let records = outcome.must_succeed().records();
    let stops = |id: u64| {
        let of = |r: &&Value| {
            r["breakpoints"]
                .as_array()
                .is_some_and(|ids| ids.iter().any(|i| i.as_u64() == Some(id)))
        };
        records.iter().filter(of).count()
    };
    let counted = [1, 2, 3, 4, 5, 6].map(stops);
    assert_eq!(counted, [200, 100, 2, 66, 2, 0]);
    let listed = outcome.text();
    for line in [
        "Breakpoint all (enabled) on main.visit hits 200",
        "Breakpoint even (enabled) on main.visit hits 100",
        "Breakpoint one (enabled) on main.visit hits 2",
        "Breakpoint third (enabled) on main.visit hits 200",
        "Breakpoint never (enabled) on main.visit hits 0",
    ] {
        assert!(listed.contains(line), "{line}:\n{listed}");
    }
}

/// At the entry and inside, optimised or not.
#[test]
fn values_are_what_the_program_has() {
    for variants in [&[][..], &[Variant::NoOpt]] {
        let folder = folder();
        let mut target = start(variants);
        let text = "break main.visit if req.ID == 1042 {\n\
                        args\n\
                        print req.Name, req.Header[\"Host\"], factor, n\n\
                        bt\n\
                        continue\n\
                    }\n\
                    break main.weigh if i == 1 { print label, i; up }\n\
                    break main.go:LINE if req.ID == 7 { print req.ID, factor }\n";
        let text = text.replace("LINE", &line_of("total = req.ID").to_string());
        let gotap = run(&target, folder.path(), &text, &[]);
        target.tell("visit 50");
        target.answer("visit", LATER);
        let outcome = gotap.stop();
        let text = outcome.must_succeed().text();
        for wanted in [
            "hit breakpoint 1 main.visit ",
            "n = 42\n",
            "label = \"label\"\n",
            "req.Name = \"r1042\"\n",
            "req.Header[\"Host\"] = []string{\"h42\"}\n",
            "factor = 3\n",
            "main.both.func1(",
            "hit breakpoint 2 main.weigh ",
            "i = 1\n",
            "frame 1: main.visit ",
            "hit breakpoint 3 main.visit ",
            "req.ID = 7\n",
        ] {
            assert!(text.contains(wanted), "{variants:?}: {wanted}:\n{text}");
        }
        assert_eq!(text.matches("hit breakpoint 1 ").count(), 1, "{text}");
        assert_eq!(text.matches("hit breakpoint 3 ").count(), 1, "{text}");
        assert!(!text.contains("is optimised away there"), "{text}");
        if variants.is_empty() {
            // What came in registers is not on the stack yet: n, and label's length.
            let frame = text.lines().find(|line| line.starts_with("main.visit("));
            let words = frame.expect("its frame");
            assert!(
                words.contains(", 0x2a, {0x") && words.ends_with(", 0x5})"),
                "{words}"
            );
        }
    }
}

#[test]
fn halt_stops_it_and_continue_lets_it_go_on() {
    let home = folder();
    let mut target = start(&[]);
    let before = footprint(target.pid());
    target.ask("spin on");
    let mut terminal = attach(&target, home.path());
    terminal.line("halt");
    terminal.wait_for("(target stopped)");
    assert!(stands(target.pid()));
    for (command, shown) in [
        ("goroutines", "main.main"),
        ("goroutine 1 bt", "main.main("),
        ("threads", "Thread "),
        ("vars ^main\\.factor$", "main.factor = 3"),
        ("print main.factor", "main.factor = 3"),
        ("thread 1", "there is no thread 1"),
    ] {
        terminal.line(command);
        terminal.wait_for(shown);
    }
    // Nothing counts meanwhile.
    terminal.line("print main.ticks");
    let shown = terminal.wait_for("}\n");
    terminal.line("print main.ticks");
    let last = |text: &str| text.rfind("main.ticks = ").map(|at| text[at..].to_owned());
    assert_eq!(last(&terminal.wait_for("}\n")), last(&shown));
    terminal.send("continue\r");
    assert!(poll(SOON, || runs(target.pid())));
    assert!(target.answers());
    // Ctrl-C ends the waiting, not the program; then it is left.
    terminal.send("\x03");
    terminal.line("exit");
    let (status, text) = terminal.finish();
    assert!(status.success(), "{text}");
    assert_clean(target.pid(), &before, "after a halt");
}

#[test]
fn a_forgotten_stop_ends_by_itself() {
    let home = folder();
    let mut target = start(&[]);
    let mut terminal = attach(&target, home.path());
    terminal.line("config max-stop 300ms");
    terminal.wait_for("\n(gotap) ");
    terminal.line("halt");
    terminal.wait_for("(target stopped)");
    terminal.wait_for("max-stop: the target runs on\n(gotap) ");
    assert!(target.answers());
    terminal.line("config max-stop none");
    terminal.wait_for("config max-stop none\n(gotap) ");
    terminal.line("halt");
    terminal.wait_for("(target stopped)");
    terminal.send("\x04");
    assert!(terminal.finish().0.success());
    assert!(target.answers(), "Ctrl-D leaves it running");
}

/// Whatever ends gotap while the program is stopped.
#[test]
fn it_runs_on_when_gotap_ends() {
    for signal in [
        Signal::SIGKILL,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let home = folder();
        let mut target = start(&[]);
        let before = footprint(target.pid());
        target.ask("spin on");
        let mut terminal = attach(&target, home.path());
        terminal.line("break main.visit");
        terminal.wait_for("(target stopped)");
        assert!(stands(target.pid()), "{signal}");
        target::send(terminal.pid(), signal);
        assert!(poll(SOON, || tracer(target.pid()) == 0), "{signal}");
        assert!(target.answers(), "{signal}");
        let first = target.ask("count");
        let goes_on = poll(SOON, || target.ask("count")["visits"] != first["visits"]);
        assert!(goes_on, "{signal}: it goes on past the breakpoint");
        target.ask("spin off");
        drop(terminal);
        if signal == Signal::SIGKILL {
            let pid = target.pid().to_string();
            gotap::run(&["clean", "-p", &pid]);
        }
        assert_clean(target.pid(), &before, signal.as_str());
    }
}

/// Between any two steps of stopping and going on.
#[test]
fn it_runs_on_when_gotap_is_killed_on_the_way() {
    for (point, times) in [
        ("halt:stopped", 1),
        ("halt:going-on", 1),
        ("halt:stopped", 20),
    ] {
        let folder = folder();
        let mut target = start(&[]);
        let before = footprint(target.pid());
        target.ask("spin on");
        let path = script(folder.path(), "break main.visit\n");
        let pid = target.pid().to_string();
        let mut command = gotap::command(&["run", path.to_str().expect("UTF-8"), "-p", &pid]);
        command.env("GOTAP_TEST_DIE_AT", format!("{point}:{times}"));
        let outcome = Gotap::spawn(command).finish(LATER);
        assert!(!outcome.status.success(), "{point}: it was killed");
        let first = target.ask("count");
        let goes_on = poll(SOON, || target.ask("count")["visits"] != first["visits"]);
        assert!(goes_on, "{point}");
        target.ask("spin off");
        gotap::run(&["clean", "-p", &pid]);
        assert_clean(target.pid(), &before, point);
    }
}

/// Signals that come while it is stopped are delivered when it goes on, once.
#[test]
fn signals_wait_and_come_once() {
    let home = folder();
    let mut target = start(&[]);
    let mut terminal = attach(&target, home.path());
    for round in 1..=5 {
        terminal.line("halt");
        terminal.wait_for("(target stopped)");
        target.signal(Signal::SIGUSR1);
        terminal.send("continue\r");
        let heard = poll(SOON, || target.ask("count")["usr1"] == round);
        assert!(heard, "round {round}");
        terminal.wait_for("nothing is set that could stop it");
        terminal.wait_for("(gotap) ");
    }
    terminal.line("exit");
    assert!(terminal.finish().0.success());
    assert_eq!(target.ask("count")["usr1"], 5);
}

/// Ctrl-Z suspends gotap, not the program.
#[test]
fn control_z_lets_it_run() {
    let home = folder();
    let mut target = start(&[]);
    let mut terminal = attach(&target, home.path());
    terminal.line("halt");
    terminal.wait_for("(target stopped)");
    terminal.wait_for("(gotap) ");
    terminal.send("\x1a");
    assert!(target.answers());
    assert!(poll(SOON, || tracer(target.pid()) == 0));
    let suspended = || support::oracle::state(terminal.pid()) == Some('T');
    assert!(poll(SOON, suspended));
    target::send(terminal.pid(), Signal::SIGCONT);
    terminal.wait_for("(gotap) ");
    terminal.line("exit");
    let (_, text) = terminal.finish();
    assert!(
        text.contains("the target runs on while gotap is suspended"),
        "{text}"
    );
}

#[test]
fn variables_are_set() {
    let mut target = start(&[]);
    let outcome = piped(
        &target,
        "set main.factor = 4\nhalt\nset main.factor = 5\nset main.ratio = 1.25\n\
         set main.on = false\nset main.last = nil\nset main.greet = \"x\"\n\
         set main.factor = true\nset main.factor = 9223372036854775808\n\
         set main.nobody = 1\nprint main.factor, main.ratio, main.on, main.last\nexit\n",
    );
    let errors = outcome.errors();
    for wanted in [
        "variables are changed only while the target is stopped",
        "a string cannot be set",
        "that is no int",
        "9223372036854775808 does not fit into int",
        "unknown name `main`",
    ] {
        assert_eq!(errors.matches(wanted).count(), 1, "{wanted}:\n{errors}");
    }
    let text = outcome.text();
    assert!(
        text.ends_with("main.factor = 5\nmain.ratio = 1.25\nmain.on = false\nmain.last = nil\n"),
        "{text}"
    );
    let now = target.ask("count");
    assert_eq!(now["factor"], 5);
    assert_eq!(now["ratio"], 1.25);
    assert_eq!(now["on"], false);
    assert_eq!(now["last"], false);
    assert_eq!(now["greet"], "hello");
}

/// What the commands of a stopped program show.
#[test]
fn commands_at_a_stop() {
    let mut target = start(&[]);
    target.ask("spin on");
    let before = footprint(target.pid());
    let commands = [
        ("display -a req.ID", ""),
        ("break b1 main.visit", ""),
        ("continue", "hit breakpoint b1 main.visit "),
        ("args", "label = \"label\"\n"),
        ("whatis req", "*main.Request\n"),
        ("regs", "Rip = 0x"),
        ("regs -a", "Xmm15 = 0x"),
        ("x -count 2 -size 8 -x req", ":   0x"),
        ("disassemble", "=>"),
        ("list", "=>"),
        ("threads", "* Thread "),
        ("up", "frame 1: main.run "),
        ("down", "frame 0: main.visit "),
        // Two goroutines call it: both may have hit until all stood.
        ("breakpoints", "Breakpoint b1 (enabled) on main.visit hits "),
        ("b +5 if n == 0", ""),
        ("toggle b1", ""),
        ("continue", "hit breakpoint 2 main.visit "),
        ("print req.ID, n", "n = 0\n"),
        ("clearall", ""),
        ("print req.ID", "req.ID = "),
        ("goroutines -with user main.visit", "main.visit"),
        ("exit", ""),
    ];
    let lines: Vec<&str> = commands.iter().map(|(c, _)| *c).collect();
    let script = lines.join("\n");
    let outcome = piped(&target, &script);
    let text = outcome.must_succeed().text();
    let mut rest = text.as_str();
    for (command, shown) in commands {
        let at = rest.find(shown);
        let at = at.unwrap_or_else(|| panic!("{command}: {shown:?} is not in\n{rest}"));
        rest = &rest[at + shown.len()..];
    }
    assert_eq!(text.matches("1: req.ID = ").count(), 2, "{text}");
    target.ask("spin off");
    assert_clean(target.pid(), &before, "after commands");
}

/// A binary without debug information: it stops all the same, and one line says
/// what is not known.
#[test]
fn a_stripped_program() {
    let mut target = start(&[Variant::Stripped]);
    target.ask("spin on");
    let outcome = piped(
        &target,
        "break main.visit if goid > 0\ncontinue\nbt\nlocals\nprint req\nvars\nset x = 1\n\
         regs\ngoroutines -with user main.visit\nexit\n",
    );
    let text = outcome.text();
    for shown in ["hit breakpoint 1 main.visit ", "main.run(", "Rip = 0x"] {
        assert!(text.contains(shown), "{shown}:\n{text}");
    }
    let errors = outcome.errors();
    let unknown = "the program has no debug information: its variables are not known";
    assert_eq!(errors.matches(unknown).count(), 4, "{errors}");
    assert!(target.answers());
}

/// A script at whose top level `continue` waits, as Delve's init files do.
#[test]
fn continue_waits_for_the_next_stop() {
    let folder = folder();
    let mut target = start(&[]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/breaks/main.go");
    let text = format!(
        "break w1 {}:{}\ncondition w1 label == \"label\"\ncondition -hitcount w1 > 2\n\
         break armed main.spin\ncontinue\nprint n\nbreakpoints\ncontinue\nprint n\ntoggle w1\nexit\n",
        file.display(),
        line_of("total = req.ID")
    );
    let gotap = run(&target, folder.path(), &text, &[]);
    target.tell("visit 100");
    let outcome = gotap.finish(LATER);
    target.answer("visit", LATER);
    let text = outcome.must_succeed().text();
    assert_eq!(text.matches("hit breakpoint w1").count(), 2, "{text}");
    assert_eq!(text.matches("\nn = ").count(), 2, "{text}");
    assert!(text.contains("hits 3\n"), "{text}");
    assert!(target.answers());
}

/// What is deferred in a loop is in the runtime's list.
#[test]
fn deferred_calls_are_listed() {
    let folder = folder();
    let mut target = start(&[]);
    let text = "break main.rest { up; deferred; deferred 2; deferred 4 }\n";
    let gotap = run(&target, folder.path(), text, &[]);
    target.ask("late");
    let outcome = gotap.stop();
    let text = outcome.text();
    for number in 1..=3 {
        let line = format!("{number}  main.tidy  ");
        assert!(text.contains(&line), "{line}:\n{text}");
    }
    assert_eq!(text.matches("main.tidy").count(), 4, "{text}");
    let errors = outcome.errors();
    assert!(
        errors.contains("there are 3 deferred calls, no 4"),
        "{errors}"
    );
}

/// What goes wrong at a hit marks the breakpoint, and lets the program run.
#[test]
fn a_condition_that_goes_wrong_lets_it_run() {
    let folder = folder();
    let mut target = start(&[]);
    let text = "break main.visit if n / (n - n) == 1\non exit { breakpoints }\n";
    let gotap = run(&target, folder.path(), text, &[]);
    target.tell("visit 100");
    target.answer("visit", LATER);
    let outcome = gotap.stop();
    let text = outcome.must_succeed().text();
    assert!(text.contains("hits 0"), "{text}");
    assert!(text.contains("condition failed: "), "{text}");
    let errors = outcome.errors();
    assert_eq!(errors.matches("its condition: ").count(), 1, "{errors}");
}

/// What `dump` writes at a breakpoint is the program as it was built, with the
/// registers of that moment.
#[test]
fn a_core_at_a_breakpoint() {
    let folder = folder();
    let core = folder.path().join("core.breaks");
    let name = core.to_str().expect("UTF-8");
    let mut target = start(&[]);
    target.ask("spin on");
    let outcome = piped(
        &target,
        &format!("break main.visit\ncontinue\nregs -a\ndump {name}\nclearall\nexit\n"),
    );
    outcome.must_succeed();
    let said = outcome.errors();
    let set = said.split_once("set at 0x").expect("an address").1;
    let at = format!("0x{}", set.split(' ').next().expect("an address"));
    let program = breaks(&[]).path;
    let shown = |text: &str| {
        let out = std::process::Command::new("gdb")
            .args(["-batch", "-nx", "-ex", text])
            .args([program.as_os_str(), core.as_os_str()])
            .output()
            .expect("gdb is needed: apt-get install gdb");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let byte = shown(&format!("output/x *(unsigned char*){at}"));
    assert!(!byte.ends_with("0xcc"), "{at}: {byte}");
    let rip = shown("output/x $rip");
    assert!(rip.ends_with(&at), "{at}: {rip}");
    // mxcsr of a program that changed nothing.
    let control = shown("output/x $mxcsr");
    assert!(control.ends_with("0x1f80"), "{control}");
    assert!(target.answers());
    let registers = |text: &str| -> Vec<String> {
        let named = |line: &&str| line.contains(" = 0x");
        text.lines().filter(named).map(str::to_owned).collect()
    };
    let path = script(folder.path(), "regs -a\n");
    let program = program.to_str().expect("UTF-8");
    let mut command = gotap::command(&["attach", "--core", name, program]);
    command.stdin(fs::File::open(path).expect("commands"));
    let looked = gotap::run_command(command);
    let (then, now) = (registers(&outcome.text()), registers(&looked.text()));
    assert_eq!(then, now, "{}", looked.errors());
    assert!(
        then.iter().any(|line| line.contains("Xmm15 = ")),
        "{then:?}"
    );
}
