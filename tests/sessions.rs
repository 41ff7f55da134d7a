//! How sessions begin, wait and end; what Delve's files and habits bring along.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use support::oracle::{self, assert_clean, footprint};
use support::{
    AtTerminal, Fixture, Gotap, LATER, SOON, Target, Variant, folder, gotap, poll, script,
};

fn breaks(variants: &[Variant]) -> Target {
    let mut target = Target::start(&Fixture::build("breaks", variants), &[]);
    target.expect_line("ready ");
    target
}

/// `gotap run` of a script.
fn run(target: &Target, folder: &Path, text: &str) -> Gotap {
    Gotap::run_json(&script(folder, text), target.pid())
}

/// A script at whose top level `continue` waits ends when nothing can stop the
/// program any more.
#[test]
fn continue_ends_when_nothing_can_stop_it() {
    let folder = folder();
    let target = breaks(&[]);
    let before = footprint(target.pid());
    // Never set, and cleared.
    for text in [
        "continue\nbreakpoints\n",
        "break a main.visit\nclear a\ncontinue\n",
    ] {
        let outcome = run(&target, folder.path(), text).finish(LATER);
        outcome.must_succeed();
        let said = outcome.errors();
        assert!(
            said.contains("nothing is set that could stop it"),
            "{text}: {said}"
        );
    }
    // Cleared by what is done while it waits.
    let text = "break a main.rest\nevery 50ms { clearall }\nfor 1h\ncontinue\n";
    let mut gotap = run(&target, folder.path(), text);
    gotap.stderr_line("cleared", SOON).expect("it is cleared");
    gotap.stop().must_succeed();
    assert_clean(target.pid(), &before, "after waiting");
}

/// The end of the program is seen whether anything is attached to it or not.
#[test]
fn the_end_of_the_target_ends_waiting() {
    for text in [
        "break a main.rest\ncontinue\nprint 1\n",
        "every 1h { summary }\ncontinue\n",
        "trace main.rest\ncontinue\n",
    ] {
        let folder = folder();
        let mut target = breaks(&[]);
        let marked = format!("{text}\n");
        let mut gotap = run(&target, folder.path(), &format!("halt\n{marked}"));
        assert!(
            gotap.has_lines(1) || poll(SOON, || gotap.has_lines(1)),
            "{text}"
        );
        assert!(target.answers());
        target.signal(Signal::SIGKILL);
        let outcome = gotap.finish(LATER);
        let said = outcome.errors();
        assert!(said.contains("the target"), "{text}: {said}");
    }
}

#[test]
fn a_prompt_sees_the_end_of_the_target() {
    let home = folder();
    let target = breaks(&[]);
    let pid = target.pid().to_string();
    let mut terminal = AtTerminal::start(&["attach", &pid], home.path(), "xterm");
    terminal.wait_for("(gotap) ");
    terminal.line("continue");
    terminal.wait_for("nothing is set that could stop it");
    terminal.wait_for("(gotap) ");
    target.signal(Signal::SIGKILL);
    terminal.wait_for("the target has ended");
    terminal.line("continue");
    terminal.wait_for("the target is gone");
    terminal.send("\x04");
    terminal.finish();
}

/// What a closure captured is what can be known of a deferred call.
#[test]
fn commands_at_a_deferred_call() {
    for variants in [&[][..], &[Variant::NoOpt]] {
        let folder = folder();
        let mut target = breaks(variants);
        let text = "break main.rest {\nframe 1 deferred 1 locals\nframe 1 deferred 2 print i + 1\nframe 1 deferred 1 args\nframe 1 deferred 1 regs\n\
                    frame 1 deferred 3 locals\n}\nbreak armed main.spin\n";
        let mut gotap = run(&target, folder.path(), text);
        gotap
            .stderr_line("Breakpoint armed set", SOON)
            .expect("set");
        target.ask("late");
        let outcome = gotap.stop();
        let records = outcome.records();
        let last: Vec<_> = records
            .iter()
            .filter(|r| r["command"] == "locals")
            .collect();
        let own = last
            .last()
            .unwrap_or_else(|| panic!("{}", outcome.errors()));
        assert_eq!(own["values"]["i"], 2, "{variants:?}: {own}");
        // Optimised, the debug information leaves out what is read once.
        if variants == [Variant::NoOpt] {
            assert_eq!(own["values"]["id"], 20, "{own}");
            assert_eq!(own["values"]["label"], "label", "{own}");
        }
        let printed = records.iter().rfind(|r| r["command"] == "print");
        let printed = printed.unwrap_or_else(|| panic!("{}", outcome.errors()));
        assert_eq!(printed["values"]["i + 1"], 3, "{variants:?}: {printed}");
        let said = outcome.errors();
        assert!(said.contains("print, args and locals are what"), "{said}");
        assert!(said.contains("there are 2 deferred calls, no 3"), "{said}");
    }
}

/// `on` adds, as Delve's does; what was saved says the same again.
#[test]
fn on_adds_to_what_is_done() {
    let folder = folder();
    let target = breaks(&[]);
    let saved = folder.path().join("saved.gotap");
    let again = folder.path().join("again.gotap");
    let text = format!(
        "trace v main.visit\non v print req.ID\non v print n\non v stack 2\non v stack 3\n\
         on v args -v\non v print n\non v cond n > 1\non v cond -hitcount >= 2\n\
         break b main.rest {{ locals; continue }}\non b print 1\n\
         break e main.spin {{ locals }}\non e {{ }}\n\
         breakpoints -save {}\nexit\n",
        saved.display()
    );
    run(&target, folder.path(), &text)
        .finish(LATER)
        .must_succeed();
    let written = fs::read_to_string(&saved).expect("it was saved");
    assert_eq!(
        written,
        "trace v main.visit if n > 1 {\n    print req.ID\n    stack 3\n    args -v\n    print n\n\
         }\ncondition -hitcount v >= 2\n\
         break b main.rest {\n    locals\n    print 1\n    continue\n}\n\
         break e main.spin {\n}\n"
    );
    let text = format!(
        "source saved.gotap\nbreakpoints -save {}\nexit\n",
        again.display()
    );
    run(&target, folder.path(), &text)
        .finish(LATER)
        .must_succeed();
    assert_eq!(fs::read_to_string(&again).expect("saved again"), written);
}

/// A point that Delve saved without a place, as it does with several places.
#[test]
fn a_point_that_was_saved_without_a_place() {
    let folder = folder();
    let fixture = Fixture::build("breaks", &[]);
    let text = "break bp1 <multiple locations>:0\ncondition bp1 req.ID == 1\ntoggle bp1\n\
                trace main.visit\n";
    let path = script(folder.path(), text);
    let program = fixture.path.to_str().expect("UTF-8");
    gotap::run(&["check", path.to_str().expect("UTF-8"), program]).must_succeed();
    let target = breaks(&[]);
    let mut gotap = run(&target, folder.path(), text);
    gotap
        .stderr_line("Tracepoint 1 on", SOON)
        .expect("it is set");
    let outcome = gotap.stop();
    outcome.must_succeed();
    let said = outcome.errors();
    assert!(
        said.contains("`bp1` has several places, and Delve saves none"),
        "{said}"
    );
}

/// Processes that run this program.
fn running(program: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let exe = fs::read_link(entry.path().join("exe")).ok();
        if let (Some(pid), true) = (pid, exe.as_deref() == Some(program)) {
            found.push(pid);
        }
    }
    found
}

/// The program in a folder of its own, so that what runs it is this test's.
fn copied(fixture: &Fixture, folder: &Path) -> PathBuf {
    let program = folder.join("program");
    fs::copy(&fixture.path, &program).expect("copy a program");
    program
}

/// A program that is started stands before main until it is told to go on, and its
/// end is seen.
#[test]
fn a_program_is_started_and_stands_before_main() {
    for variants in [&[][..], &[Variant::Pie], &[Variant::Stripped]] {
        let folder = folder();
        // Without input it ends.
        let program = copied(&Fixture::build("breaks", variants), folder.path());
        let path = script(folder.path(), "break m main.main\ncontinue\ncontinue\n");
        let program = program.to_str().expect("UTF-8");
        let mut command = gotap::command(&["attach", "-o", "json", "--", program]);
        command.stdin(fs::File::open(path).expect("commands"));
        let outcome = gotap::run_command(command);
        let said = outcome.errors();
        let records = outcome.records();
        let stops: Vec<_> = records.iter().filter(|r| r["event"] == "stop").collect();
        assert_eq!(stops.len(), 2, "{variants:?}: {said}");
        assert_eq!(stops[0]["why"], "start", "{variants:?}");
        assert_eq!(stops[0]["func"], "runtime.gcenable", "{variants:?}");
        assert_eq!(stops[1]["func"], "main.main", "{variants:?}");
        assert!(said.contains("the target exited"), "{variants:?}: {said}");
        assert!(
            said.contains("ready"),
            "{variants:?}: its own output: {said}"
        );
        assert_eq!(running(Path::new(program)), [0; 0]);
    }
}

/// Who sits at a prompt is asked what becomes of it.
#[test]
fn a_program_that_was_started_is_asked_about() {
    let folder = folder();
    let program = copied(&Fixture::build("breaks", &[]), folder.path());
    let path = program.to_str().expect("UTF-8");
    for (answer, said) in [("y", "was killed"), ("n", "runs on")] {
        let mut terminal =
            AtTerminal::start(&["attach", "--", path, "stay"], folder.path(), "xterm");
        terminal.wait_for("> started: goroutine 1 at runtime.gcenable");
        terminal.line("break main.visit");
        terminal.wait_for("Breakpoint 1 set");
        terminal.wait_for("(gotap) ");
        terminal.send("\x04");
        terminal.wait_for("which gotap started?");
        terminal.line(answer);
        terminal.wait_for(said);
        // One that is left writes to the terminal, too.
        let left = running(&program);
        if answer == "n" {
            assert_eq!(left.len(), 1);
            support::target::send(left[0], Signal::SIGKILL);
        }
        terminal.finish();
        assert!(poll(SOON, || running(&program).is_empty()));
    }
}

/// What a script has wrong is found before the program runs anything; and where
/// nobody can be asked, it runs on.
#[test]
fn a_started_program_and_scripts() {
    let folder = folder();
    let program = copied(&Fixture::build("breaks", &[]), folder.path());
    let path = program.to_str().expect("UTF-8");
    let wrong = script(folder.path(), "break main.nowhere\n");
    let wrong = wrong.to_str().expect("UTF-8");
    let outcome = gotap::run(&["attach", "--script", wrong, "--", path, "stay"]);
    assert!(
        outcome.errors().contains("no function"),
        "{}",
        outcome.errors()
    );
    assert!(poll(SOON, || running(&program).is_empty()));
    let outcome = gotap::run(&["attach", "--", path, "stay"]);
    outcome.must_succeed();
    assert!(outcome.errors().contains("runs on"), "{}", outcome.errors());
    let left = running(&program);
    assert_eq!(left.len(), 1);
    support::target::send(left[0], Signal::SIGKILL);
    let outcome = gotap::run(&["attach", "--", "/nowhere/at/all"]);
    assert!(
        outcome.errors().contains("/nowhere/at/all"),
        "{}",
        outcome.errors()
    );
}

/// A line whose code is only where it was inlined: every place that Delve has.
#[test]
fn lines_of_code_that_was_inlined() {
    let folder = folder();
    let fixture = Fixture::build("steps", &[]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/steps/main.go");
    let source = fs::read_to_string(source).expect("the source");
    let program = fixture.path.to_str().expect("UTF-8");
    let mut inlined = 0;
    let lines: Vec<usize> = (15..=60).collect();
    // Delve's answers, in one run.
    let init = folder.path().join("init.dlv");
    let mut text = String::new();
    for line in &lines {
        let _ = writeln!(text, "break b{line} main.go:{line}\nclear b{line}");
    }
    fs::write(&init, text + "exit\n").expect("write");
    let out = std::process::Command::new("dlv")
        .args(["exec", "--allow-non-terminal-interactive=true", "--init"])
        .arg(&init)
        .arg(program)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("dlv is needed: go install github.com/go-delve/delve/cmd/dlv@v1.27.2");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    // The same from gotap.
    let mut text = String::new();
    for line in &lines {
        let _ = writeln!(text, "break b{line} main.go:{line}\nclear b{line}");
    }
    let mut target = Target::start(&fixture, &["wait"]);
    target.expect_line("ready");
    let path = script(folder.path(), &(text + "exit\n"));
    let mut command = gotap::command(&["attach", &target.pid().to_string()]);
    command.stdin(fs::File::open(path).expect("commands"));
    let own = gotap::run_command(command).errors();
    for line in &lines {
        let head = format!("Breakpoint b{line} set at ");
        let delve = said.lines().find_map(|l| l.strip_prefix(&head));
        let delve = delve.and_then(|rest| rest.split(" for ").next());
        let mut delve: Vec<&str> = delve
            .map(|all| all.split(',').collect())
            .unwrap_or_default();
        let mut all: Vec<&str> = own
            .lines()
            .filter_map(|l| l.strip_prefix("gotap: ").unwrap_or(l).strip_prefix(&head))
            .filter_map(|rest| rest.split(" for ").next())
            .collect();
        delve.sort_unstable();
        all.sort_unstable();
        let code = source.lines().nth(line - 1).unwrap_or_default();
        // A line on which a function begins, a literal too, is that function's.
        if code.contains("func ") || code.contains("func(") {
            continue;
        }
        assert_eq!(all, delve, "{line}: {code}\n{own}");
        inlined += usize::from(all.len() > 1);
    }
    assert!(inlined > 0, "{said}");
}

/// An argument that came in a register is changed there, and the program reads it.
#[test]
fn variables_in_registers_are_changed() {
    for variants in [&[][..], &[Variant::NoOpt], &[Variant::Pie]] {
        let folder = folder();
        let mut target = breaks(variants);
        let text = "break main.visit {\nset n = 0\nprint n\nset label = \"x\"\n}\n\
                    break armed main.spin\n";
        let mut gotap = run(&target, folder.path(), text);
        gotap
            .stderr_line("Breakpoint armed set", SOON)
            .expect("set");
        target.tell("visit 10");
        let answer = target.answer("visit", LATER);
        let outcome = gotap.stop();
        let number = |name: &str| answer[name].as_i64().expect("a number");
        let ids: i64 = (0..10).chain(1000..1010).sum();
        let more = if answer["on"] == true { 20 } else { 0 };
        let said = outcome.errors();
        assert_eq!(
            number("sum"),
            ids * number("factor") + more,
            "{variants:?}: {said}"
        );
        let printed = outcome.records();
        let printed: Vec<_> = printed.iter().filter(|r| r["command"] == "print").collect();
        assert_eq!(printed.len(), 20, "{variants:?}: {said}");
        assert!(
            printed.iter().all(|r| r["values"]["n"] == 0),
            "{variants:?}"
        );
        assert!(said.contains("a string cannot be set"), "{said}");
    }
}

/// Counts, Enter, and what a frozen copy has to say of steps.
#[test]
fn steps_at_a_prompt() {
    let home = folder();
    let mut target = breaks(&[Variant::NoOpt]);
    let pid = target.pid().to_string();
    let mut terminal = AtTerminal::start(&["attach", &pid], home.path(), "xterm");
    terminal.wait_for("(gotap) ");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/breaks/main.go");
    let source = fs::read_to_string(source).expect("the source");
    let line_of = |text: &str| 1 + source.lines().position(|l| l.contains(text)).expect(text);
    let first = line_of("\tvisits.Add(1)");
    terminal.line(&format!("break v main.go:{first} if req.ID == 7"));
    terminal.wait_for("Breakpoint v set");
    target.tell("visit 10");
    terminal.wait_for(&format!(
        "hit breakpoint v main.visit ./testdata/breaks/main.go:{first}"
    ));
    // Two lines on: behind the branch that is not taken for odd numbers.
    terminal.line("next 2");
    terminal.wait_for(&format!("main.go:{}", line_of("total = req.ID * factor")));
    terminal.wait_for("(gotap) ");
    // Enter does the step again.
    terminal.line("next");
    terminal.wait_for(&format!("main.go:{}", line_of("for i := 0; i < n%3")));
    terminal.wait_for("(gotap) ");
    terminal.line("");
    terminal.wait_for(&format!("main.go:{}", line_of("total += weigh")));
    terminal.wait_for("(gotap) ");
    terminal.line("clearall");
    terminal.wait_for("(gotap) ");
    terminal.line("continue");
    terminal.wait_for("nothing is set that could stop it");
    target.answer("visit", LATER);
    terminal.wait_for("(gotap) ");
    terminal.send("\x04");
    terminal.finish();
}

/// Ctrl-C ends a step that does not come to its end, and a stop ends by itself.
#[test]
fn a_long_step_is_ended() {
    let home = folder();
    let mut target = breaks(&[Variant::NoOpt]);
    let pid = target.pid().to_string();
    let mut terminal = AtTerminal::start(&["attach", &pid], home.path(), "xterm");
    terminal.wait_for("(gotap) ");
    terminal.line("break main.rest");
    terminal.wait_for("Breakpoint 1 set");
    terminal.wait_for("(gotap) ");
    terminal.line("goroutine 1");
    terminal.wait_for("(gotap) ");
    terminal.line("halt");
    terminal.wait_for("> halted");
    terminal.wait_for("(gotap) ");
    // It reads its input: until somebody writes there.
    terminal.line("goroutine 1");
    terminal.wait_for("(gotap) ");
    terminal.line("stepout");
    assert!(poll(SOON, || oracle::thread_states(target.pid())
        .iter()
        .all(|s| *s != 't')));
    terminal.send("\x03");
    terminal.wait_for("> halted");
    terminal.wait_for("(gotap) ");
    terminal.line("config max-stop 300ms");
    terminal.wait_for("(gotap) ");
    terminal.line("continue");
    target.tell("late");
    terminal.wait_for("hit breakpoint 1");
    terminal.wait_for("max-stop: the target runs on");
    terminal.send("\x04");
    terminal.finish();
    assert!(target.answers());
}
