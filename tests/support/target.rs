//! A running Go program: its lines, its control line, its end.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Fixture, SOON, poll};

/// A program that a test started. It is killed, by its pid, when dropped.
pub struct Target {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pending: VecDeque<String>,
    /// For messages.
    pub label: String,
}

/// A command for any program, with the environment as it is.
pub fn program(path: impl AsRef<OsStr>) -> Command {
    Command::new(path)
}

impl Target {
    /// Starts a fixture.
    pub fn start(fixture: &Fixture, args: &[&str]) -> Target {
        let mut command = Command::new(&fixture.path);
        command.args(args);
        Target::spawn(command, &fixture.label)
    }

    /// Starts a fixture as the first process of a pid namespace: the only child of
    /// this target, which is unshare(1).
    pub fn in_namespace(fixture: &Fixture) -> Target {
        let mut command = Command::new("unshare");
        if !nix::unistd::getuid().is_root() {
            command.arg("--map-root-user");
        }
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(&fixture.path);
        let label = format!("{} in a pid namespace", fixture.label);
        Target::spawn(command, &label)
    }

    /// Starts any command; stderr goes where the test's goes.
    pub fn spawn(mut command: Command, label: &str) -> Target {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {label}: {e}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Target {
            child,
            stdin,
            lines,
            pending: VecDeque::new(),
            label: label.to_string(),
        }
    }

    /// An `echo serve` that listens, and its address.
    pub fn echo_server(fixture: &Fixture, args: &[&str]) -> (Target, String) {
        let mut all = vec!["serve"];
        all.extend(args);
        let mut server = Target::start(fixture, &all);
        let line = server.expect_line("listening ");
        let addr = line.split(' ').nth(1).expect("an address").to_string();
        (server, addr)
    }

    /// An `echo load` that has connected (or waits to, with `-late`).
    pub fn echo_load(fixture: &Fixture, addr: &str, args: &[&str]) -> Target {
        let mut all = vec!["load", "-addr", addr];
        all.extend(args);
        let mut load = Target::start(fixture, &all);
        load.expect_line("ready ");
        load
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// The next line that begins with `prefix`; others are kept for later.
    pub fn line(&mut self, prefix: &str, deadline: Duration) -> Option<String> {
        if let Some(at) = self.pending.iter().position(|l| l.starts_with(prefix)) {
            return self.pending.remove(at);
        }
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with(prefix) => return Some(line),
                Ok(line) => self.pending.push_back(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// [`Target::line`], which must come soon.
    pub fn expect_line(&mut self, prefix: &str) -> String {
        self.expect_line_within(prefix, SOON)
    }

    /// [`Target::line`], which must come in time.
    pub fn expect_line_within(&mut self, prefix: &str, deadline: Duration) -> String {
        if let Some(line) = self.line(prefix, deadline) {
            return line;
        }
        let alive = self.is_alive();
        panic!(
            "{} (pid {}) did not print {prefix:?} within {deadline:?}; alive: {alive}; it printed {:?}",
            self.label,
            self.pid(),
            self.pending
        )
    }

    /// Writes one control line.
    pub fn tell(&mut self, line: &str) {
        let label = self.label.clone();
        let stdin = self.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").unwrap_or_else(|e| panic!("cannot tell {label} {line:?}: {e}"));
        stdin.flush().expect("flush a pipe");
    }

    /// Writes a control line and reads its answer: the line that begins with
    /// the same word, whose rest is JSON (null when there is no rest).
    pub fn ask(&mut self, line: &str) -> Value {
        self.tell(line);
        let word = line.split(' ').next().expect("a word");
        self.answer(word, SOON)
    }

    /// The JSON behind the next line that begins with `word`.
    pub fn answer(&mut self, word: &str, deadline: Duration) -> Value {
        let line = self.expect_line_within(word, deadline);
        parse_rest(&line, word)
    }

    /// Does it run and answer? A stopped or dead process does neither.
    pub fn answers(&mut self) -> bool {
        let Some(stdin) = self.stdin.as_mut() else {
            return false;
        };
        if writeln!(stdin, "ping x").is_err() {
            return false;
        }
        self.line("pong x", SOON).is_some()
    }

    /// Neither exited nor a zombie.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal)
            .unwrap_or_else(|e| panic!("cannot send {signal} to {}: {e}", self.label));
    }

    /// Closes its stdin: fixtures end then.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        let ended = poll(deadline, || {
            status = self.child.try_wait().expect("wait for a child");
            status.is_some()
        });
        assert!(ended, "{} did not end within {deadline:?}", self.label);
        status.expect("it ended")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Ours, and not yet waited for: the pid cannot be another's.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal to a process by pid.
pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("cannot send {signal}: {e}"));
}

/// `word JSON` → JSON.
pub fn parse_rest(line: &str, word: &str) -> Value {
    let rest = line[word.len()..].trim();
    if rest.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(rest).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"))
}
