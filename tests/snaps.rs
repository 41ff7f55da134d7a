//! `snap` through the command itself: copies are what the program was at the hit,
//! the target serves on, and nothing is left of them, whatever ends gotap.

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value as Json;
use support::clients::{Clients, children, copies_of, is_there};
use support::{
    Fixture, Gotap, LATER, Outcome, SOON, Target, gotap, oracle, poll, script, wait_for,
};

/// A server with a name of its own, where it listens, and its pid.
struct Server {
    target: Target,
    addr: String,
    pid: i32,
    name: &'static str,
}

impl Server {
    fn start(name: &'static str, args: &[&str]) -> Server {
        let fixture = Fixture::build("snapshot", &[]);
        let mut all = vec!["-name", name];
        all.extend(args);
        let mut target = Target::start(&fixture, &all);
        let line = target.expect_line("listening ");
        Server {
            addr: line.split(' ').nth(1).expect("an address").to_owned(),
            pid: target.pid(),
            target,
            name,
        }
    }

    fn copies(&self) -> Vec<i32> {
        copies_of(self.name, self.pid)
    }

    /// No copy is left, and no zombie.
    fn must_be_alone(&self, when: &str) {
        assert!(
            poll(SOON, || self.copies().is_empty()),
            "{when}: {:?}",
            self.copies()
        );
        assert_eq!(children(self.pid), Vec::<i32>::new(), "{when}: children");
    }
}

/// `gotap run SCRIPT -o json`, and its objects.
fn run(script: &Path, pid: i32) -> Vec<Json> {
    let outcome = Gotap::run_json(script, pid).finish(LATER);
    outcome.must_succeed();
    let lines = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let objects = lines.lines().map(serde_json::from_str);
    objects.map(|o| o.expect("an object a line")).collect()
}

/// A session whose commands come through a pipe that stays open.
struct Session {
    gotap: Gotap,
    to: PipeWriter,
}

impl Session {
    fn start(pid: i32, env: &[(&str, &str)]) -> Session {
        let (from, to) = std::io::pipe().expect("a pipe");
        let mut command = gotap::command(&["attach", &pid.to_string()]);
        command.stdin(Stdio::from(from)).envs(env.iter().copied());
        let gotap = Gotap::spawn(command);
        Session { gotap, to }
    }

    fn tell(&mut self, text: &str) {
        writeln!(self.to, "{text}").expect("typed");
    }

    /// Makes so many copies, one after another, with a point each.
    fn copies(&mut self, many: usize) {
        for n in 1..=many {
            self.tell("snap main.handle");
            self.tell("continue");
            if !poll(SOON, || self.gotap.has_lines(n)) {
                let said = self.gotap.stderr_line("\0", Duration::ZERO);
                panic!("no copy {n}: {said:?} {:?}", self.gotap.said());
            }
        }
    }

    fn finish(self) -> Outcome {
        drop(self.to);
        self.gotap.finish(LATER)
    }
}

/// A hundred, each with a block; the values in each copy are those that the
/// program recorded for that request.
#[test]
fn a_hundred_snapshots_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start("snaps-hundred", &["-mb", "200"]);
    let before = oracle::footprint(server.pid);
    let (clients, mut idle) = Clients::start(&server.addr, 8, 492);
    let commands = "config snap-max-pause 5s\n\
        snap -count 100 main.handle if r.Number % 16 == 0 {\n\
            args\n\
            print r.Number, r.Again, r.Order, r.Name, r.Parts[1]\n\
            goroutines -group state\n\
        }\n";
    let objects = run(&script(folder.path(), commands), server.pid);
    let made: Vec<&Json> = objects
        .iter()
        .filter(|o| o["event"] == "snapshot")
        .collect();
    assert_eq!(made.len(), 100);
    let numbers: Vec<i64> = made.iter().filter_map(|o| o["snapshot"].as_i64()).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<i64>>());
    for one in &made {
        assert_eq!(one["func"], "main.handle", "{one}");
        assert!(one["pause_ns"].as_u64() > Some(0), "{one}");
        assert!(one["resident"].as_u64() > Some(200 << 20), "{one}");
        let pid = one["copy_pid"].as_i64().expect("a pid");
        let pid = i32::try_from(pid).expect("a pid");
        assert!(poll(SOON, || !is_there(pid)), "{one}");
    }
    // Each is followed by what its block said.
    let mut seen = HashSet::new();
    let printed = objects.iter().filter(|o| o["command"] == "print");
    for values in printed.map(|o| &o["values"]) {
        let number = values["r.Number"].as_u64().expect("a number");
        assert_eq!(values["r.Number"], values["r.Again"]);
        assert_eq!(values["r.Parts[1]"].as_u64(), Some(2 * number));
        assert!(seen.insert(number), "each is another request");
        server.target.tell(&format!("recorded {number}"));
        let recorded = server.target.expect_line("recorded ");
        let (order, name) = (&values["r.Order"], &values["r.Name"]);
        let told = format!("recorded {number} {order} {name} [{number} {}]", 2 * number);
        assert_eq!(recorded, told);
    }
    assert_eq!(seen.len(), 100);
    let args = objects.iter().filter(|o| o["command"] == "args");
    assert_eq!(args.count(), 100);
    // All 500 connections have their goroutines, in each.
    let looks: Vec<&Json> = objects.iter().filter(|o| o["groups"].is_array()).collect();
    assert_eq!(looks.len(), 100);
    for look in looks {
        let counts = look["groups"].as_array().expect("groups").iter();
        let all: u64 = counts.filter_map(|g| g["count"].as_u64()).sum();
        assert!(all >= 500, "{look}");
    }
    idle.truncate(400);
    assert!(clients.end() >= 100);
    server.must_be_alone("after a hundred");
    drop(idle);
    assert!(server.target.answers());
    oracle::assert_clean(server.pid, &before, "after a hundred");
}

/// What the target closes is closed, and what it held is free, although copies
/// are held.
#[test]
fn closes_reach_the_peer_and_ports_are_free() {
    let mut server = Server::start("snaps-closes", &[]);
    let mut peers: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(&server.addr).expect("connect"))
        .collect();
    let mut asks = TcpStream::connect(&server.addr).expect("connect");
    let mut session = Session::start(server.pid, &[]);
    session.tell("snap main.handle");
    session.tell("continue");
    session
        .gotap
        .stderr_line("Snappoint 1 set", SOON)
        .expect("set");
    // It is asked until the point is armed.
    let mut answers = BufReader::new(asks.try_clone().expect("clone"));
    let pid = server.pid;
    let mut number = 0;
    wait_for("a copy", SOON, || {
        number += 1;
        writeln!(asks, "{number}").expect("ask");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("an answer");
        assert_eq!(answer.trim(), number.to_string());
        copies_of("snaps-closes", pid).first().copied()
    });
    session.gotap.wait_for_lines(1, SOON);
    let copy = server.copies()[0];
    let fds = std::fs::read_dir(format!("/proc/{copy}/fd")).expect("its descriptors");
    assert_eq!(fds.count(), 0, "a copy holds no descriptor");
    server.target.tell("shut");
    assert_eq!(server.target.expect_line("shut "), "shut 21");
    for peer in &mut peers {
        peer.set_read_timeout(Some(SOON)).expect("a timeout");
        assert_eq!(peer.read(&mut [0; 8]).expect("the end"), 0);
    }
    assert!(server.target.answers());
    // The session would end with the target, and let go of the copy.
    session.gotap.signal(Signal::SIGSTOP);
    server.target.signal(Signal::SIGKILL);
    // At once, but for the time that the kernel takes to end all its threads.
    let free = || std::net::TcpListener::bind(&server.addr).is_ok();
    assert!(poll(SOON, free), "the port is free");
    assert!(is_there(copy), "the copy is still held");
    session.gotap.signal(Signal::SIGCONT);
    session.finish();
    assert!(poll(SOON, || !is_there(copy)), "gone with the session");
}

/// Every command that reads works on the copy while the target goes on.
#[test]
fn every_command_that_reads_works_on_a_copy() {
    let mut server = Server::start("snaps-reads", &[]);
    let (clients, idle) = Clients::start(&server.addr, 2, 3);
    let mut session = Session::start(server.pid, &[]);
    session.copies(1);
    for command in [
        "snapshot 1",
        "snapshots",
        "args",
        "locals",
        "print r.Number, r.Again, r.Name",
        "print main.every + 1",
        "whatis r",
        "stack",
        "stack -full",
        "frame 1 locals",
        "threads",
        "regs",
        "examinemem -count 4 -size 8 -x r",
        "up",
        "down",
        "goroutines",
        "goroutines -t",
        "goroutines -group reason",
        "goroutines -with state IO -t",
        "goroutine 1",
        "goroutine 1 stack",
        "threads",
        "vars main.sink",
        "libraries",
        "list main.handle",
        "disassemble main.handle",
        "fds",
        "conns",
        "set main.every = 1",
        "next",
        "snapshot 1",
        "print r.Number, r.Again, r.Name",
        "snapshot live",
        "snapshot",
        "fds",
        "snapshot drop 1",
        "snapshots",
        "snapshot 1",
    ] {
        session.tell(command);
    }
    let outcome = session.finish();
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    // Nothing was wrong but what a copy cannot tell.
    let wrong: Vec<&String> = outcome
        .stderr
        .iter()
        .filter(|l| l.starts_with("gotap: stdin, command "))
        .collect();
    assert_eq!(wrong.len(), 5, "{wrong:#?}\n{text}");
    assert!(
        wrong[0].contains("a copy holds no descriptors"),
        "{wrong:?}"
    );
    assert!(
        wrong[1].contains("a copy holds no descriptors"),
        "{wrong:?}"
    );
    assert!(wrong[2].contains("a copy is only looked at"), "{wrong:?}");
    assert!(
        wrong[3].contains("snapshot 1 is a frozen copy"),
        "{wrong:?}"
    );
    assert!(wrong[4].contains("there is no snapshot `1`"), "{wrong:?}");
    let printed: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("r.Number = "))
        .collect();
    assert_eq!(printed.len(), 2, "{text}");
    assert_eq!(
        HashSet::<&&str>::from_iter(&printed).len(),
        1,
        "{printed:?}"
    );
    assert!(text.contains("MB its own"), "{text}");
    assert!(text.contains("Rip = 0x"), "{text}");
    assert!(text.contains("live: the target itself"), "{text}");
    assert!(text.contains("no snapshots; "), "{text}");
    assert!(clients.end() > 0);
    drop(idle);
    server.must_be_alone("after looking");
    assert!(server.target.answers());
}

/// With all threads stopped first, whoever ran has a stack.
#[test]
fn a_consistent_copy_has_all_stacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start("snaps-consistent", &[]);
    let (clients, idle) = Clients::start(&server.addr, 4, 3);
    let commands = "snap -count 10 -consistent main.handle { goroutines }\n";
    let objects = run(&script(folder.path(), commands), server.pid);
    let made = objects.iter().filter(|o| o["event"] == "snapshot");
    assert_eq!(made.filter(|o| o["consistent"] == true).count(), 10);
    let lists: Vec<&Json> = objects
        .iter()
        .filter(|o| o["goroutines"].is_array())
        .collect();
    assert_eq!(lists.len(), 10, "{objects:#?}");
    for list in lists {
        let all = list["goroutines"].as_array().expect("a list");
        assert!(!all.is_empty(), "{list:#}");
        for one in all {
            assert_ne!(one["stack_state"], "running", "{one:#}");
            assert_ne!(one["stack_state"], "unread", "{one:#}");
        }
    }
    assert!(clients.end() > 0);
    drop(idle);
    server.must_be_alone("after looking");
    assert!(server.target.answers());
}

/// The session is killed while it holds copies.
#[test]
fn nothing_is_left_of_a_session_that_is_killed() {
    let mut server = Server::start("snaps-killed", &["-mb", "64"]);
    let before = oracle::footprint(server.pid);
    let (clients, idle) = Clients::start(&server.addr, 4, 20);
    for round in 0..5 {
        let mut session = Session::start(server.pid, &[]);
        session.copies(3);
        assert_eq!(server.copies().len(), 3);
        session.tell("trace main.handle");
        session.gotap.wait_for_lines(8, SOON);
        session.gotap.signal(Signal::SIGKILL);
        session.gotap.finish(SOON);
        server.must_be_alone(&format!("killed, round {round}"));
        assert!(server.target.answers());
    }
    clean(&server);
    assert!(clients.end() > 0);
    drop(idle);
    oracle::assert_clean(server.pid, &before, "cleaned");
}

fn clean(server: &Server) {
    gotap::run(&["clean", "-p", &server.pid.to_string()]).must_succeed();
}

/// gotap is killed between any two steps of making a copy: the target goes on,
/// no process, no zombie and, once the next gotap was there, no page is left.
#[test]
fn killed_at_each_step_of_a_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start("snaps-steps", &[]);
    let before = oracle::footprint(server.pid);
    let (clients, idle) = Clients::start(&server.addr, 4, 20);
    let plain = script(folder.path(), "snap main.handle\n");
    let other = tempfile::tempdir().expect("a folder");
    let all = script(other.path(), "snap -consistent main.handle\n");
    for (point, script) in [
        ("snap:mapped", &plain),
        ("snap:borrowed", &plain),
        ("snap:written", &plain),
        ("snap:begun", &plain),
        ("snap:cloned", &plain),
        ("snap:copied", &plain),
        ("snap:named", &plain),
        ("snap:closed", &plain),
        ("snap:alone", &plain),
        ("snap:made", &plain),
        ("snap:given-back", &plain),
        ("snap:stopped", &all),
        ("snap:cloned", &all),
        ("snap:copied", &all),
        ("snap:made", &all),
    ] {
        let pid = server.pid.to_string();
        let mut command = gotap::command(&["run", script.to_str().expect("UTF-8"), "-p", &pid]);
        command.env("GOTAP_TEST_DIE_AT", format!("{point}:1"));
        let outcome = gotap::run_command(command);
        assert_eq!(
            outcome.status.signal(),
            Some(libc::SIGKILL),
            "{point}: {:?}",
            outcome.stderr
        );
        assert!(server.target.answers(), "{point}");
        server.must_be_alone(point);
        clean(&server);
        oracle::assert_clean(server.pid, &before, point);
    }
    assert!(clients.end() > 0);
    drop(idle);
    assert!(server.target.answers());
}

/// The first process of a pid namespace collects orphans: after a gotap that was
/// killed the next one has it collect the copies.
#[test]
fn the_next_gotap_reaps_for_the_first_process_of_a_namespace() {
    let fixture = Fixture::build("snapshot", &[]);
    let mut outer = Target::in_namespace(&fixture);
    let line = outer.expect_line("listening ");
    let addr = line.split(' ').nth(1).expect("an address").to_owned();
    let pid = wait_for("a child of unshare", SOON, || {
        children(outer.pid()).first().copied()
    });
    let (clients, idle) = Clients::start(&addr, 2, 3);
    let mut session = Session::start(pid, &[]);
    session.copies(2);
    session.gotap.signal(Signal::SIGKILL);
    session.gotap.finish(SOON);
    let dead = || children(pid).into_iter().filter(|c| !is_there(*c)).count();
    assert!(poll(SOON, || dead() == 2), "{:?}", children(pid));
    gotap::run(&["clean", "-p", &pid.to_string()]).must_succeed();
    assert_eq!(children(pid), Vec::<i32>::new());
    // And in a session that ends well, nobody has to.
    let mut session = Session::start(pid, &[]);
    session.copies(2);
    session.finish();
    assert!(
        poll(SOON, || children(pid).is_empty()),
        "{:?}",
        children(pid)
    );
    assert!(clients.end() > 0);
    drop(idle);
    assert!(outer.answers());
}

/// Each refusal is one line, which says what to do.
#[test]
fn a_copy_that_costs_too_much_is_refused() {
    let mut server = Server::start("snaps-refused", &["-mb", "32"]);
    let before = oracle::footprint(server.pid);
    let (clients, idle) = Clients::start(&server.addr, 2, 1);
    let mut session = Session::start(server.pid, &[]);
    session.tell("config snap-max-pause 10µs");
    session.tell("snap main.handle");
    let told = session
        .gotap
        .stderr_line("longer than snap-max-pause", SOON);
    assert!(told.expect("told").contains("config snap-max-pause"));
    session.tell("bp");
    session.gotap.wait_for_lines(1, SOON);
    // A point that was set before is refused at the hit, and rests.
    session.tell("config snap-max-pause none");
    session.tell("snap main.handle if r.Number == 0");
    session
        .gotap
        .new_stderr_line("Snappoint 1 set", SOON)
        .expect("set");
    session.tell("config snap-max-pause 10µs");
    session.tell("condition 1 r.Number > 0");
    session.tell("continue");
    let told = session
        .gotap
        .new_stderr_line("snap 1: no copy was made", SOON);
    assert!(told.expect("told").contains("the point rests"));
    session.tell("config snap-max-pause none");
    session.tell("config snap-max-copies 1");
    session.tell("toggle 1");
    session.tell("continue");
    session.gotap.wait_for_lines(2, SOON);
    session.tell("snap main.handle");
    let told = session.gotap.new_stderr_line("1 copies are held", SOON);
    assert!(told.expect("told").contains("snapshot drop N"));
    session.finish();
    server.must_be_alone("refused");
    assert!(clients.end() > 0);
    drop(idle);
    assert!(server.target.answers());
    oracle::assert_clean(server.pid, &before, "refused");
}

/// `check` takes it, `breakpoints -save` writes it, `source` reads it back.
#[test]
fn saved_and_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start("snaps-saved", &[]);
    let first = script(
        folder.path(),
        "snap -count 3 -consistent slow main.handle if r.Number == 43 {\n    locals\n    goroutines -group state\n}\n",
    );
    let name = first.to_str().expect("UTF-8");
    gotap::run(&["check", name, "-p", &server.pid.to_string()]).must_succeed();
    let saved = folder.path().join("saved.gotap");
    let saved_again = folder.path().join("again.gotap");
    let mut session = Session::start(server.pid, &[]);
    session.tell(&format!("source {name}"));
    session.tell(&format!("breakpoints -save {}", saved.display()));
    session.tell("clearall");
    session.tell(&format!("source {}", saved.display()));
    session.tell(&format!("breakpoints -save {}", saved_again.display()));
    session.tell("exit");
    session.finish().must_succeed();
    let read = |path: &Path| std::fs::read_to_string(path).expect("saved");
    assert_eq!(read(&saved), read(&first));
    assert_eq!(read(&saved_again), read(&first));
}
