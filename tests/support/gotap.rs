//! The command under test, as a user runs it.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;
use serde_json::Value;

use super::{SOON, poll};

/// The built `gotap`.
pub const EXE: &str = env!("CARGO_BIN_EXE_gotap");

/// A `gotap` command with a plain environment. A trace fires as [`fire`] says, if it
/// does not say it itself.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(EXE);
    let mut args = args.to_vec();
    if let Some(how) = FIRE.get()
        && args.first() == Some(&"trace")
        && !args.contains(&"--fire")
    {
        args.splice(1..1, ["--fire", how]);
    }
    command
        .args(args)
        .env("NO_COLOR", "1")
        .env_remove("GOTAP_TEST_DIE_AT")
        .stdin(Stdio::null());
    command
}

thread_local! {
    static FIRE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// All traces of this test fire so, if they do not say it themselves: those that it
/// starts from its own thread.
pub fn fire(how: &'static str) {
    FIRE.set(Some(how));
}

/// A test by traps alone, and again as gotap does it unless told.
pub fn both_ways(test: impl Fn()) {
    for how in ["trap", "auto"] {
        println!("--fire {how}");
        fire(how);
        test();
    }
}

/// How traces of [`Gotap::trace_json`] fire: `GOTAP_TEST_FIRE` is for tests that do
/// not care.
fn firing() -> Option<String> {
    let asked = std::env::var("GOTAP_TEST_FIRE").ok();
    FIRE.get().map(str::to_owned).or(asked)
}

/// Runs `gotap` to its end; what it wrote and how it ended.
pub fn run(args: &[&str]) -> Outcome {
    run_command(command(args))
}

/// [`run`] for a command that was made ready by [`command`].
pub fn run_command(command: Command) -> Outcome {
    Gotap::spawn(command).finish(super::LATER)
}

/// A running `gotap`. It is killed, by its pid, when dropped.
pub struct Gotap {
    child: Child,
    stderr: Receiver<String>,
    said: Vec<String>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    progress: Receiver<usize>,
    written: usize,
}

/// What `gotap` left behind.
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The lines of its standard error.
    pub stderr: Vec<String>,
}

/// The counts of the last line on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Calls seen.
    pub seen: u64,
    /// Calls still open.
    pub open: u64,
    /// Calls that a filter dropped.
    pub filtered: u64,
    /// Calls lost.
    pub lost: u64,
}

impl Gotap {
    /// `gotap trace PATTERNS… -o json -p PID`, armed when this returns.
    pub fn trace_json(pid: i32, patterns: &[&str], more: &[&str]) -> Gotap {
        let pid = pid.to_string();
        let mut args = vec!["trace"];
        args.extend(patterns);
        args.extend(["-o", "json", "-p", &pid]);
        args.extend(more);
        let firing = firing().filter(|_| !more.contains(&"--fire"));
        let Some(how) = &firing else {
            return Gotap::spawn_armed(&args);
        };
        let plain = args.clone();
        args.extend(["--fire", how]);
        if how != "jump" || FIRE.get().is_some() {
            return Gotap::spawn_armed(&args);
        }
        // What a test has that cannot jump is left out, by name and for a reason
        // that the plan has, too: the test goes on with both ways at once.
        let mut gotap = Gotap::spawn(command(&args));
        let armed = gotap.stderr_line("armed ", SOON).is_some();
        let reason = |line: &String| Some(line.split_once("it cannot jump: ")?.1.to_owned());
        let reasons: Vec<String> = gotap.said().iter().filter_map(reason).collect();
        let refused = gotap.said().iter().any(|line| line.contains("needs traps"));
        if armed && reasons.is_empty() {
            return gotap;
        }
        gotap.stop();
        assert!(!reasons.is_empty() || refused, "it did not arm");
        let plan = run(&[&plain[..], &["--plan"]].concat()).text();
        for why in reasons {
            assert!(plan.contains(&format!("({why})")), "{why}\n{plan}");
        }
        Gotap::spawn_armed(&[&plain[..], &["--fire", "auto"]].concat())
    }

    /// `gotap run SCRIPT -o json -p PID`.
    pub fn run_json(script: &Path, pid: i32) -> Gotap {
        let pid = pid.to_string();
        let script = script.to_str().expect("UTF-8");
        Gotap::spawn(command(&["run", script, "-p", &pid, "-o", "json"]))
    }

    fn spawn_armed(args: &[&str]) -> Gotap {
        let mut gotap = Gotap::spawn(command(args));
        gotap.armed();
        gotap
    }

    /// Starts it; stdout is collected.
    pub fn spawn(mut command: Command) -> Gotap {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {EXE}: {e}"));
        let stdout = child.stdout.take().expect("piped");
        let (send, progress) = channel();
        let collector = std::thread::spawn(move || collect(stdout, &send));
        let mut gotap = Gotap::around(child);
        gotap.stdout = Some(collector);
        gotap.progress = progress;
        gotap
    }

    /// Starts it with its stdout as the caller set it up.
    pub fn spawn_into(mut command: Command, stdout: Stdio) -> Gotap {
        let child = command
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {EXE}: {e}"));
        Gotap::around(child)
    }

    fn around(mut child: Child) -> Gotap {
        let errors = child.stderr.take().expect("piped");
        let (send, stderr) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines() {
                let Ok(line) = line else { break };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Gotap {
            child,
            stderr,
            said: Vec::new(),
            stdout: None,
            progress: channel().1,
            written: 0,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Waits for a line on stderr that contains `part`.
    pub fn stderr_line(&mut self, part: &str, deadline: Duration) -> Option<String> {
        if let Some(line) = self.said.iter().find(|l| l.contains(part)) {
            return Some(line.clone());
        }
        self.new_stderr_line(part, deadline)
    }

    /// The same, of lines that nobody has looked at yet.
    pub fn new_stderr_line(&mut self, part: &str, deadline: Duration) -> Option<String> {
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Waits for `armed N sites in M functions of pid P in T ms`; N and M.
    pub fn armed(&mut self) -> (u64, u64) {
        let line = self.stderr_line("armed ", SOON);
        let line = line.unwrap_or_else(|| {
            panic!(
                "gotap did not arm within {SOON:?}; it said {:#?}",
                self.said
            )
        });
        let shape = Regex::new(r"armed (\d+) sites? in (\d+) functions? of pid \d+ in [\d.]+ ?ms")
            .expect("a pattern");
        let found = shape.captures(&line).unwrap_or_else(|| {
            panic!("not `armed N sites in M functions of pid P in T ms`: {line}")
        });
        (number(&found[1]), number(&found[2]))
    }

    /// Waits until it has written so many lines to stdout.
    pub fn wait_for_lines(&mut self, lines: usize, deadline: Duration) {
        let end = Instant::now() + deadline;
        while self.written < lines {
            let left = end.saturating_duration_since(Instant::now());
            match self.progress.recv_timeout(left) {
                Ok(more) => self.written += more,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!(
                    "gotap wrote {} lines, {lines} were to come within {deadline:?}",
                    self.written
                ),
            }
        }
    }

    /// It has written so many lines to stdout.
    pub fn has_lines(&mut self, lines: usize) -> bool {
        self.written += self.progress.try_iter().sum::<usize>();
        self.written >= lines
    }

    /// What it wrote to stderr, as far as anybody looked.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// Closes its stdin, for one that was started with a pipe there: programs
    /// that it started read it.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until it has written so many lines: true, or has ended: false.
    pub fn wait_for_lines_or_end(&mut self, lines: usize, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        while self.written < lines {
            let left = end.saturating_duration_since(Instant::now());
            match self.progress.recv_timeout(left) {
                Ok(more) => self.written += more,
                // Nobody holds the other end of its stdout any more.
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!(
                    "gotap wrote {} lines and did not end, {lines} were to come within {deadline:?}",
                    self.written
                ),
            }
        }
        true
    }

    /// Sends it a signal. It may have ended by itself.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// Has it ended?
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGINT, as Ctrl-C does, and waits for the end.
    pub fn stop(self) -> Outcome {
        self.signal(Signal::SIGINT);
        self.finish(super::LATER)
    }

    /// Waits for its end.
    pub fn finish(mut self, deadline: Duration) -> Outcome {
        let mut status = None;
        let ended = poll(deadline, || {
            status = self.child.try_wait().expect("wait for a child");
            status.is_some()
        });
        while let Ok(line) = self.stderr.recv_timeout(Duration::from_secs(1)) {
            self.said.push(line);
        }
        assert!(
            ended,
            "gotap did not end within {deadline:?}; it said {:#?}",
            self.said
        );
        let stdout = self
            .stdout
            .take()
            .map(|thread| thread.join().expect("collect stdout"))
            .unwrap_or_default();
        Outcome {
            status: status.expect("it ended"),
            stdout,
            stderr: std::mem::take(&mut self.said),
        }
    }
}

impl Drop for Gotap {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Outcome {
    /// stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stdout as JSON lines; every line must be an object.
    pub fn records(&self) -> Vec<Value> {
        self.stdout
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let value: Value = serde_json::from_slice(line).unwrap_or_else(|e| {
                    panic!("not a JSON line ({e}): {}", String::from_utf8_lossy(line))
                });
                assert!(value.is_object(), "not an object: {value}");
                value
            })
            .collect()
    }

    /// The records of calls (a record of a gap has no `func`).
    pub fn calls(&self) -> Vec<Value> {
        let mut calls = self.records();
        calls.retain(|r| r.get("func").is_some());
        calls
    }

    /// The calls of one function.
    pub fn calls_of(&self, func: &str) -> Vec<Value> {
        let mut calls = self.calls();
        calls.retain(|r| r["func"] == func);
        calls
    }

    /// The last line of stderr.
    pub fn last_line(&self) -> &str {
        self.stderr.last().map_or("", String::as_str)
    }

    /// The counts of the last line of stderr: `N calls seen, N still open,
    /// N filtered, N lost`.
    pub fn tally(&self) -> Tally {
        let line = self.last_line();
        let count = |word: &str| {
            let shape = Regex::new(&format!(r"(\d[\d,_]*) (?:calls? )?(?:still )?{word}"))
                .expect("a pattern");
            let found = shape
                .captures(line)
                .unwrap_or_else(|| panic!("no count of {word:?} in the last line: {line:?}"));
            number(&found[1])
        };
        Tally {
            seen: count("seen"),
            open: count("open"),
            filtered: count("filtered"),
            lost: count("lost"),
        }
    }

    /// stderr in one piece.
    pub fn errors(&self) -> String {
        self.stderr.join("\n")
    }

    /// Panics unless it ended well.
    pub fn must_succeed(&self) -> &Outcome {
        assert!(
            self.status.success(),
            "gotap ended with {}; it said\n{}",
            self.status,
            self.errors()
        );
        self
    }
}

/// Reads everything, and says how many lines came.
fn collect(mut from: impl Read, progress: &Sender<usize>) -> Vec<u8> {
    let mut all = Vec::new();
    let mut part = vec![0_u8; 1 << 16];
    while let Ok(n) = from.read(&mut part) {
        if n == 0 {
            break;
        }
        let new = &part[..n];
        all.extend_from_slice(new);
        let lines = new.split(|b| *b == b'\n').count() - 1;
        // Nobody has to listen.
        let _ = progress.send(lines);
    }
    all
}

fn number(text: &str) -> u64 {
    text.replace([',', '_'], "").parse().expect("a number")
}
