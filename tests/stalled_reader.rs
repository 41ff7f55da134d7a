//! A reader that stops reading never slows the target: what does not fit is
//! counted as lost.

mod support;

use std::io::Read;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::scenario::{Busy, READ, number};
use support::{Fixture, Gotap, LATER, SOON, Target, gotap, oracle, poll, wait_for};

/// Messages that the server has to serve while nobody reads: far more lines
/// than a pipe (64 KB) and a bounded queue hold.
const MEANWHILE: i64 = 30_000;

/// `kill -STOP` of the reader of `gotap | cat`. Every Read of the server is
/// either in the output or counted as lost.
#[test]
fn a_stopped_reader() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let (mut server, addr) = Target::echo_server(&echo, &[]);
        let pid = server.pid();
        let before = oracle::footprint(pid);
        let mut load = Target::echo_load(&echo, &addr, &["-conns", "8", "-calls", "-1", "-late"]);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("calls.jsonl");
        let mut cat = Reader(
            Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(std::fs::File::create(&path).expect("a file"))
                .spawn()
                .expect("run cat"),
        );
        let pipe = cat.0.stdin.take().expect("piped");
        let text = pid.to_string();
        let command = gotap::command(&["trace", READ, "-o", "json", "-p", &text]);
        let mut gotap = Gotap::spawn_into(command, Stdio::from(pipe));
        gotap.armed();
        load.tell("go");
        assert!(serves(&mut load, 100), "with a reader");

        cat.signal(Signal::SIGSTOP);
        assert!(
            serves(&mut load, MEANWHILE),
            "it stands still with its reader"
        );
        cat.signal(Signal::SIGCONT);
        load.tell("stop");
        load.answer("done", LATER);
        assert!(poll(SOON, || server.ask("counts")["open"] == 0));
        let outcome = gotap.stop();
        outcome.must_succeed();
        assert!(cat.0.wait().expect("wait for cat").success());

        let written = std::fs::read_to_string(&path).expect("what cat wrote");
        let mut lines = 0;
        for line in written.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("whole lines only");
            lines += u64::from(record.get("func").is_some());
        }
        let tally = outcome.tally();
        let reads = number(&server.ask("counts")["total"], "reads");
        assert_eq!(lines + tally.lost, reads, "what is lost is said: {tally:?}");
        assert!(server.answers());
        oracle::assert_clean(pid, &before, "after a stopped reader");
    });
}

/// So many messages more, as the client counts them.
fn serves(load: &mut Target, messages: i64) -> bool {
    let from = load.ask("trips").as_i64().expect("a number");
    poll(LATER, || {
        load.ask("trips").as_i64().expect("a number") >= from + messages
    })
}

/// Ctrl-C while the reader stands still: the target is let go at once.
#[test]
fn leaving_while_the_reader_is_stopped() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        let pid = busy.server.pid();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let text = pid.to_string();
        let command = gotap::command(&["trace", READ, "-o", "json", "-p", &text]);
        let mut gotap = Gotap::spawn_into(command, Stdio::from(writer));
        gotap.armed();
        assert!(busy.progresses(MEANWHILE));
        gotap.signal(Signal::SIGINT);
        busy.wait_let_go();
        busy.must_be_clean("left while the reader is stopped");
        let drain = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).expect("read a pipe");
            all
        });
        let outcome = gotap.finish(LATER);
        outcome.must_succeed();
        let all = drain.join().expect("the reader");
        assert!(all.ends_with(b"\n"), "the last line is whole");
    });
}

/// A terminal that stops reading, as Ctrl-S or `less` make it.
#[test]
fn a_terminal_that_stops() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        let pid = busy.server.pid();
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        let text = pid.to_string();
        let command = gotap::command(&["trace", READ, "-p", &text]);
        let mut gotap = Gotap::spawn_into(command, Stdio::from(terminal.slave));
        gotap.armed();
        assert!(
            busy.progresses(MEANWHILE),
            "it stands still with its terminal"
        );
        gotap.signal(Signal::SIGINT);
        busy.wait_let_go();
        busy.must_be_clean("a terminal that stops");
        drop(terminal.master); // the window is closed
        gotap.finish(LATER);
    });
}

/// stderr is a full pipe too: the messages of gotap must not hold anybody up.
#[test]
fn nobody_reads_stderr() {
    gotap::both_ways(|| {
        let echo = Fixture::build("echo", &[]);
        let mut busy = Busy::start(&echo, &[]);
        let pid = busy.server.pid();
        let text = pid.to_string();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = gotap::command(&["trace", READ, "-o", "json", "-p", &text]);
        command.stdout(Stdio::null()).stderr(Stdio::from(writer));
        let mut gotap = Reader(command.spawn().expect("start gotap"));
        wait_for("it attaches", SOON, || {
            (!oracle::is_clean(pid, &busy.before)).then_some(())
        });
        assert!(busy.progresses(MEANWHILE));
        gotap.signal(Signal::SIGINT);
        assert!(poll(LATER, || matches!(gotap.0.try_wait(), Ok(Some(_)))));
        busy.must_be_clean("nobody reads stderr");
        drop(reader);
    });
}

/// A child of this test, killed when it is over.
struct Reader(Child);

impl Reader {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("send a signal");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
