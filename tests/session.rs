//! From the first instruction of a program to the last word of gotap: what is
//! started, given up, told while it runs, and counted once.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::scenario::{READ, WRITE, number, sum, text};
use support::{Fixture, Gotap, LATER, SOON, Target, Variant, gotap, oracle, poll, wait_for};

/// A program that gotap started and that outlives it: not our child. It is
/// killed, by its pid, when dropped.
struct Orphan {
    pid: i32,
    exe: std::path::PathBuf,
}

impl Orphan {
    fn new(pid: i32) -> Orphan {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).expect("its executable");
        Orphan { pid, exe }
    }

    fn lives(&self) -> bool {
        !matches!(oracle::state(self.pid), None | Some('Z' | 'X'))
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let same = std::fs::read_link(format!("/proc/{}/exe", self.pid));
        if same.is_ok_and(|exe| exe == self.exe) {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// `gotap trace READ … -- echo serve -keep`, armed; the server's address.
fn launched(echo: &Fixture, more: &[&str]) -> (Gotap, Orphan, String) {
    let path = echo.path.to_str().expect("a path");
    let mut args = vec!["trace", READ, "-o", "json"];
    args.extend(more);
    args.extend(["--", path, "serve", "-keep"]);
    let mut gotap = Gotap::spawn(gotap::command(&args));
    gotap.armed();
    // Its stdout is gotap's stderr.
    let line = gotap.stderr_line("listening ", SOON).expect("it listens");
    let words: Vec<&str> = line.split(' ').collect();
    let pid = words[3].parse().expect("a pid");
    (gotap, Orphan::new(pid), words[1].to_string())
}

/// Plays messages through a server that does not talk to us.
fn must_serve(echo: &Fixture, addr: &str, when: &str) {
    let mut load = Target::echo_load(echo, addr, &["-conns", "2", "-calls", "100"]);
    let flows = load.answer("done", LATER);
    for flow in flows.as_array().expect("flows") {
        assert_eq!(number(flow, "calls"), 100, "{when}: {flow}");
    }
}

/// From `runtime.main` on the handler is there: no kill of gotap takes the
/// program along.
#[test]
fn a_program_it_started_survives_its_kill() {
    for variants in [&[][..], &[Variant::Stripped, Variant::Pie], &[Variant::Cgo]] {
        let echo = Fixture::build("echo", variants);
        let (mut gotap, server, addr) = launched(&echo, &[]);
        let _load = Target::echo_load(&echo, &addr, &["-conns", "4", "-calls", "-1"]);
        gotap.wait_for_lines(200, SOON);
        gotap.signal(Signal::SIGKILL);
        gotap.finish(SOON);
        assert!(server.lives(), "{}", echo.label);
        must_serve(&echo, &addr, "after kill -9");
        // The next one cleans up, and leaves as it should be.
        let mut next = Gotap::trace_json(server.pid, &[READ], &[]);
        next.wait_for_lines(50, SOON);
        next.stop().must_succeed();
        assert_eq!(oracle::code_differences(server.pid), [""; 0]);
        must_serve(&echo, &addr, "after the next gotap");
    }
}

/// gotap ends, the program it started goes on.
#[test]
fn a_program_it_started_is_let_go() {
    let echo = Fixture::build("echo", &[]);
    let (gotap, server, addr) = launched(&echo, &["-n", "5"]);
    must_serve(&echo, &addr, "traced");
    let outcome = gotap.finish(LATER);
    let calls = outcome.must_succeed().calls();
    assert_eq!(calls.iter().filter(|c| c["end"] == "return").count(), 5);
    assert_eq!(oracle::code_differences(server.pid), [""; 0]);
    assert_eq!(oracle::tracer(server.pid), 0);
    must_serve(&echo, &addr, "let go");
    assert!(server.lives());
}

#[test]
fn a_program_it_started_is_suspended_with_it() {
    let echo = Fixture::build("echo", &[]);
    let (mut gotap, server, addr) = launched(&echo, &[]);
    let _load = Target::echo_load(&echo, &addr, &["-conns", "2", "-calls", "-1"]);
    gotap.wait_for_lines(50, SOON);
    suspend(&gotap);
    assert_eq!(oracle::tracer(server.pid), 0);
    assert_eq!(oracle::code_differences(server.pid), [""; 0]);
    must_serve(&echo, &addr, "while gotap is stopped");
    gotap.signal(Signal::SIGCONT);
    gotap
        .new_stderr_line("armed ", SOON)
        .expect("it is armed again");
    let mut again = Target::echo_load(&echo, &addr, &["-conns", "1", "-calls", "50"]);
    again.answer("done", LATER);
    let outcome = gotap.stop();
    let calls = outcome.must_succeed().calls();
    let ids: BTreeSet<u64> = calls.iter().map(|c| number(c, "id")).collect();
    assert_eq!(ids.len(), calls.len(), "ids go on after fg");
    assert_eq!(outcome.tally().seen, calls.len() as u64);
    assert_eq!(oracle::code_differences(server.pid), [""; 0]);
    assert!(server.lives());
}

/// What ran before main is traced too: init functions, package variables.
#[test]
fn from_the_first_instruction() {
    for variants in [&[][..], &[Variant::Stripped], &[Variant::Pie]] {
        let ends = Fixture::build("ends", variants);
        let path = ends.path.to_str().expect("a path");
        let patterns = ["main.init.0", "main.main", "main.recurse"];
        let mut args = vec!["trace"];
        args.extend(patterns);
        args.extend(["-o", "json", "--", path, "recurse"]);
        let outcome = gotap::run(&args);
        let calls = outcome.must_succeed().calls();
        let of = |func: &str| calls.iter().filter(|c| c["func"] == func).count();
        assert_eq!(
            (of("main.init.0"), of("main.main")),
            (1, 1),
            "{}",
            ends.label
        );
        assert_eq!(of("main.recurse"), 61);
        let said = outcome.errors();
        assert!(said.contains("exited with code 0"), "{said}");
    }
}

/// Calls in one another: each knows its parent, and bytes are summed once.
#[test]
fn nested_calls_are_summed_once() {
    for variants in [&[][..], &[Variant::Stripped]] {
        let fixture = Fixture::build("copy", variants);
        let mut target = Target::start(&fixture, &[]);
        target.expect_line("ready ");
        for way in ["readfrom", "plain", "buffers"] {
            let more = ["--preset", "conn", "--summary"];
            let gotap = Gotap::trace_json(target.pid(), &[], &more);
            target.tell(way);
            let moved = number(&target.answer(way, SOON), "bytes");
            let outcome = gotap.stop();
            let label = format!("{} {way}", fixture.label);
            let calls = outcome.must_succeed().calls();
            let out: Vec<Value> = calls.into_iter().filter(sends).collect();
            let ids: BTreeMap<u64, &Value> = out.iter().map(|c| (number(c, "id"), c)).collect();
            let nested = |c: &Value| {
                c.get("parent")
                    .is_some_and(|p| ids.contains_key(&p.as_u64().unwrap_or(0)))
            };
            let outermost: Vec<Value> = out.iter().filter(|c| !nested(c)).cloned().collect();
            assert_eq!(sum(&outermost, "n"), moved, "{label}: {out:#?}");
            let summary = outcome
                .records()
                .into_iter()
                .find_map(|r| r.get("summary").cloned());
            let summary = summary.expect("a summary");
            assert_eq!(number(&summary, "bytes_out"), moved, "{label}: {summary}");
            assert_eq!(number(&summary, "bytes_in"), moved, "{label}: {summary}");
            if way == "readfrom" {
                let writes: Vec<&Value> = out.iter().filter(|c| c["func"] == WRITE).collect();
                assert!(writes.len() > 1, "{label}: {out:#?}");
                for write in writes {
                    let parent = ids[&number(write, "parent")];
                    assert_eq!(parent["goid"], write["goid"]);
                    assert!(
                        text(parent, "func").to_lowercase().contains("readfrom"),
                        "{parent}"
                    );
                }
            }
        }
    }
}

fn sends(call: &Value) -> bool {
    let func = text(call, "func");
    let out = ["Write", "ReadFrom", "readFrom", "writeBuffers"];
    number_or_zero(call) > 0 && out.iter().any(|w| func.ends_with(w))
}

fn number_or_zero(call: &Value) -> u64 {
    call.get("n").and_then(Value::as_u64).unwrap_or(0)
}

/// What comes out of a terminal, until gotap has ended.
fn on_a_terminal(args: &[&str], environment: &[(&str, &str)]) -> String {
    let terminal = nix::pty::openpty(None, None).expect("a terminal");
    let mut command = gotap::command(args);
    command.env_remove("NO_COLOR");
    command.envs(environment.iter().copied());
    let gotap = Gotap::spawn_into(command, Stdio::from(terminal.slave));
    let mut master = std::fs::File::from(terminal.master);
    let reader = std::thread::spawn(move || {
        let (mut all, mut part) = (Vec::new(), [0_u8; 4096]);
        // The terminal's end is an error, EIO (pty(7)).
        while let Ok(n @ 1..) = master.read(&mut part) {
            all.extend_from_slice(&part[..n]);
        }
        all
    });
    gotap.finish(LATER).must_succeed();
    String::from_utf8_lossy(&reader.join().expect("the reader")).into_owned()
}

#[test]
fn colour_is_for_terminals() {
    let ends = Fixture::build("ends", &[]);
    let path = ends.path.to_str().expect("a path");
    let args = ["trace", "main.recurse", "--", path, "recurse"];
    let coloured = on_a_terminal(&args, &[]);
    assert!(coloured.contains("\u{1b}["), "{coloured}");
    assert_eq!(coloured.matches("main.recurse").count(), 61);
    let plain = on_a_terminal(&args, &[("NO_COLOR", "1")]);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert_eq!(plain.matches("main.recurse").count(), 61);
}

/// Time is counted from when it is armed, whether calls come or not.
#[test]
fn a_time_without_calls() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let before = oracle::footprint(target.pid());
    let began = Instant::now();
    let gotap = Gotap::trace_json(target.pid(), &["main.hot"], &["--for", "200ms"]);
    let outcome = gotap.finish(SOON);
    outcome.must_succeed();
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(outcome.tally().seen, 0);
    assert!(outcome.stdout.is_empty());
    oracle::assert_clean(target.pid(), &before, "--for");
}

/// Values of arguments in a filter, text and numbers; the tally says the rest.
#[test]
fn filters_on_arguments() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    for (filter, kept) in [
        ("args.n == 7", 1),
        ("args.n < 10", 10),
        ("args.n >= 60 || results.r0 == 0", 2),
        ("end == \"return\" && goid > 0", 61),
    ] {
        let gotap = Gotap::trace_json(target.pid(), &["main.recurse"], &["--where", filter]);
        target.ask("recurse");
        let outcome = gotap.stop();
        let calls = outcome.must_succeed().calls();
        let tally = outcome.tally();
        assert_eq!(calls.len(), kept, "{filter}: {}", outcome.errors());
        assert_eq!(
            (tally.seen, tally.filtered),
            (61, 61 - kept as u64),
            "{filter}"
        );
    }
}

/// exec(2) takes everything of gotap along; the new program is not held up.
#[test]
fn a_program_that_execs() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let patterns = ["main.blocksOn", "main.recurse"];
    let gotap = Gotap::trace_json(target.pid(), &patterns, &[]);
    target.ask("block");
    target.ask("recurse");
    target.tell("exec");
    let began = Instant::now();
    target.expect_line("ready ");
    let outcome = gotap.finish(SOON);
    assert!(began.elapsed() < Duration::from_secs(5), "held up");
    let calls = outcome.must_succeed().calls();
    let count = |end: &str| calls.iter().filter(|c| c["end"] == end).count();
    assert_eq!((count("exit"), count("return")), (5, 61));
    assert!(outcome.errors().contains("exec"), "{}", outcome.errors());
    assert_eq!(oracle::tracer(target.pid()), 0);
    assert_eq!(oracle::code_differences(target.pid()), [""; 0]);
    assert_eq!(target.ask("recurse")["calls"], 61);
}

/// It may end while gotap is suspended: gotap says so and ends well.
#[test]
fn it_ends_while_gotap_is_suspended() {
    let ends = Fixture::build("ends", &[]);
    let path = ends.path.to_str().expect("a path");
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let gotap = Gotap::trace_json(target.pid(), &["main.recurse"], &[]);
    target.ask("recurse");
    suspend(&gotap);
    target.close_stdin();
    target.wait(SOON);
    gotap.signal(Signal::SIGCONT);
    let outcome = gotap.finish(SOON);
    assert_eq!(outcome.must_succeed().calls().len(), 61);
    assert_eq!(outcome.tally().seen, 61);
    assert!(outcome.errors().contains("the target ended"));

    // Of a program that it started gotap knows how.
    let mut command = gotap::command(&["trace", "main.recurse", "--", path]);
    command.stdin(Stdio::piped());
    let mut gotap = Gotap::spawn(command);
    gotap.armed();
    gotap.stderr_line("ready ", SOON).expect("it runs");
    suspend(&gotap);
    gotap.close_stdin();
    let pid = gotap.pid();
    wait_for("its child ends", SOON, || {
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(children).expect("its children");
        let child: i32 = children.split_whitespace().next()?.parse().ok()?;
        (oracle::state(child) == Some('Z')).then_some(())
    });
    gotap.signal(Signal::SIGCONT);
    let outcome = gotap.finish(SOON);
    assert!(
        outcome
            .must_succeed()
            .errors()
            .contains("exited with code 0")
    );
}

/// Ctrl-Z, and gotap has stopped.
fn suspend(gotap: &Gotap) {
    gotap.signal(Signal::SIGTSTP);
    wait_for("gotap stops", SOON, || {
        (oracle::state(gotap.pid()) == Some('T')).then_some(())
    });
}

/// Begin and duration, by the clock that the test reads too.
#[test]
fn times_are_those_of_the_hits() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let gotap = Gotap::trace_json(target.pid(), &["main.blocksOn"], &[]);
    let before = jiff::Timestamp::now();
    target.ask("block");
    let between = jiff::Timestamp::now();
    std::thread::sleep(Duration::from_millis(40)); // what is measured
    target.ask("unblock");
    let after = jiff::Timestamp::now();
    let calls = gotap.stop().calls();
    assert_eq!(calls.len(), 5);
    for call in &calls {
        let time: jiff::Timestamp = text(call, "time").parse().expect("a time");
        assert!(before <= time && time <= between, "{before} {call}");
        let dur = i128::from(number(call, "dur_ns"));
        assert!(dur >= 40_000_000, "{call}");
        assert!(
            dur <= after.as_nanosecond() - before.as_nanosecond(),
            "{call}"
        );
    }
}

/// Functions that run on g0 have no goroutine; each of them is counted.
#[test]
fn calls_on_the_system_stack() {
    for variants in [&[][..], &[Variant::Stripped]] {
        let ends = Fixture::build("ends", variants);
        let mut target = Target::start(&ends, &[]);
        target.expect_line("ready ");
        let patterns = ["runtime.newproc1", "main.hot"];
        let gotap = Gotap::trace_json(target.pid(), &patterns, &[]);
        target.ask("many"); // fifty goroutines
        let outcome = gotap.stop();
        outcome.must_succeed();
        let made = outcome.calls_of("runtime.newproc1");
        // The runtime may start one of its own meanwhile.
        assert!(
            (50..55).contains(&made.len()),
            "{}: {}",
            ends.label,
            made.len()
        );
        for call in &made {
            assert_eq!(call["end"], "return", "{call}");
            assert!(call.get("goid").is_none_or(Value::is_null), "{call}");
        }
        assert_eq!(outcome.calls_of("main.hot").len(), 50_000);
        assert_eq!(outcome.tally().lost, 0);
    }
}

/// A connection that was idle when gotap came: every traced frame of its stack
/// is a call, each in the one outside it, all about the same connection.
#[test]
fn parked_in_several_traced_functions() {
    for variants in [
        &[][..],
        &[Variant::Stripped],
        &[Variant::Stripped, Variant::Pie],
    ] {
        let echo = Fixture::build("echo", variants);
        let (mut server, addr) = Target::echo_server(&echo, &[]);
        let mut load = Target::echo_load(&echo, &addr, &["-conns", "3", "-calls", "1", "-gate"]);
        assert!(poll(SOON, || server.ask("counts")["open"] == 3));
        assert!(poll(SOON, || oracle::is_idle(server.pid())));
        let chain = ["internal/poll.(*FD).Read", "net.(*netFD).Read", READ];
        let gotap = Gotap::trace_json(server.pid(), &chain, &["-s", "9", "--payload"]);
        let sockets = oracle::tcp_sockets(server.pid());
        load.tell("go");
        load.answer("done", LATER);
        assert!(poll(SOON, || server.ask("counts")["total"]["closes"] == 3));
        let calls = gotap.stop().calls();
        let by_id: BTreeMap<u64, &Value> = calls.iter().map(|c| (number(c, "id"), c)).collect();
        let first: Vec<&Value> = calls.iter().filter(|c| c["since_attach"] == true).collect();
        let innermost: Vec<&&Value> = first.iter().filter(|c| c["func"] == chain[0]).collect();
        // The server's control line may be in a (*FD).Read too.
        let innermost: Vec<&&&Value> = innermost.iter().filter(|c| c["network"] == "tcp").collect();
        assert_eq!(innermost.len(), 3, "{}: {first:#?}", echo.label);
        for read in innermost {
            let net = by_id[&number(read, "parent")];
            let conn = by_id[&number(net, "parent")];
            assert_eq!(
                (&net["func"], &conn["func"]),
                (&chain[1].into(), &chain[2].into())
            );
            for call in [read, net, conn] {
                assert_eq!(call["since_attach"], true);
                assert_eq!((&call["end"], &call["n"]), (&"return".into(), &64.into()));
                let socket = &sockets[&call["fd"].as_i64().expect("an fd")];
                assert_eq!(text(call, "remote"), socket.remote.to_string());
                let stack = call["stack"].to_string();
                assert!(stack.contains("main.(*server).echoTCP"), "{call}");
                assert!(stack.contains("serve.go"), "{call}");
            }
        }
    }
}

/// Blocked in a system call of its own, not parked: found all the same.
#[test]
fn in_a_system_call_when_tracing_began() {
    for variants in [&[][..], &[Variant::Stripped]] {
        let ends = Fixture::build("ends", variants);
        let mut target = Target::start(&ends, &[]);
        target.expect_line("ready ");
        wait_reading_stdin(target.pid());
        let mut gotap = Gotap::trace_json(target.pid(), &["os.(*File).Read"], &[]);
        assert!(target.answers()); // to seven bytes
        gotap.wait_for_lines(1, SOON);
        wait_reading_stdin(target.pid());
        let outcome = gotap.stop();
        let calls = outcome.must_succeed().calls();
        let first = &calls[0];
        assert_eq!(first["since_attach"], true, "{}: {first}", ends.label);
        assert_eq!((&first["end"], &first["n"]), (&"return".into(), &7.into()));
        // The next one waits for the next line.
        assert_eq!(calls[1]["end"], "open", "{calls:#?}");
    }
}

/// A thread of it is in read(0, …): system call 0 (proc(5), /proc/PID/syscall).
fn wait_reading_stdin(pid: i32) {
    wait_for("it reads stdin", SOON, || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        threads
            .flatten()
            .filter_map(|t| std::fs::read_to_string(t.path().join("syscall")).ok())
            .any(|text| text.starts_with("0 0x0 "))
            .then_some(())
    });
}

/// A read that has not returned has no payload.
#[test]
fn payload_of_open_calls() {
    let echo = Fixture::build("echo", &[]);
    let (server, addr) = Target::echo_server(&echo, &[]);
    let mut gotap = Gotap::trace_json(server.pid(), &[READ, WRITE], &["--payload=8"]);
    let mut load = Target::echo_load(&echo, &addr, &["-conns", "1", "-calls", "3", "-linger"]);
    load.expect_line("finished");
    gotap.wait_for_lines(6, SOON);
    assert!(poll(SOON, || oracle::is_idle(server.pid()))); // in the fourth Read
    let calls = gotap.stop().calls();
    let with: Vec<&Value> = calls
        .iter()
        .filter(|c| c.get("payload").is_some())
        .collect();
    assert_eq!((calls.len(), with.len()), (7, 6), "{calls:#?}");
    for call in with {
        assert_eq!(call["end"], "return");
        assert_eq!(number(call, "payload_len"), 64);
        assert_eq!(call["payload"], "abcdefgh");
    }
}

/// At a terminal Ctrl-Z stops the whole group: gotap and what it has started.
#[test]
fn the_group_is_suspended() {
    use std::os::unix::process::CommandExt;
    let echo = Fixture::build("echo", &[]);
    let path = echo.path.to_str().expect("a path");
    let args = ["trace", READ, "-o", "json", "--", path, "serve", "-keep"];
    let mut command = gotap::command(&args);
    command.process_group(0);
    let mut gotap = Gotap::spawn(command);
    gotap.armed();
    let line = gotap.stderr_line("listening ", SOON).expect("it listens");
    let words: Vec<&str> = line.split(' ').collect();
    let (addr, server) = (words[1], Orphan::new(words[3].parse().expect("a pid")));
    let group = Pid::from_raw(-gotap.pid());
    for i in 1..=3 {
        let mut load = Target::echo_load(&echo, addr, &["-conns", "1", "-calls", "20"]);
        load.answer("done", LATER);
        gotap.wait_for_lines(20 * i, SOON);
        kill(group, Signal::SIGTSTP).expect("stop the group");
        wait_for("both stop", SOON, || {
            let states = [oracle::state(gotap.pid()), oracle::state(server.pid)];
            (states == [Some('T'); 2]).then_some(())
        });
        assert_eq!(oracle::tracer(server.pid), 0);
        assert_eq!(oracle::code_differences(server.pid), [""; 0]);
        kill(group, Signal::SIGCONT).expect("continue the group");
        gotap
            .new_stderr_line("armed ", SOON)
            .expect("it is armed again");
        must_serve(&echo, addr, "after fg");
    }
    gotap.stop().must_succeed();
    assert_eq!(oracle::code_differences(server.pid), [""; 0]);
    must_serve(&echo, addr, "let go");
}
