//! The other side of a run: `dlv trace -p PID`, `dlv attach PID`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::live::poll;

/// How long dlv may take for a step.
const PATIENCE: Duration = Duration::from_secs(60);

/// `Version: 1.27.2`, when dlv is on PATH.
pub fn version() -> Option<String> {
    let out = Command::new("dlv").arg("version").output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = text.lines().find(|l| l.starts_with("Version:"))?;
    Some(line.trim_start_matches("Version:").trim().to_owned())
}

/// A running `dlv trace`.
pub struct Trace {
    child: Child,
    output: tempfile::NamedTempFile,
}

impl Trace {
    /// Traces what `pattern` matches; returns once the first hit was printed.
    pub fn start(pid: i32, pattern: &str) -> Trace {
        let output = tempfile::NamedTempFile::new().expect("a file for dlv's output");
        let to = || {
            File::options()
                .append(true)
                .open(output.path())
                .expect("open it")
        };
        let (stdout, stderr) = (to(), to());
        let child = Command::new("dlv")
            .args(["trace", "-p", &pid.to_string(), "--stack", "0", pattern])
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("start dlv");
        let mut trace = Trace { child, output };
        let hit = poll(PATIENCE, || {
            trace.printed().contains("goroutine(") || !matches!(trace.child.try_wait(), Ok(None))
        });
        let said = trace.printed();
        assert!(hit && said.contains("goroutine("), "dlv says: {said}");
        trace
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// What it has written.
    pub fn printed(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = self.output.reopen() {
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGINT);
        if !poll(Duration::from_secs(10), || {
            !matches!(self.child.try_wait(), Ok(None))
        }) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// `dlv attach`, then `quit` without killing; how long all of that took.
pub fn attach_and_leave(pid: i32) -> Duration {
    let began = Instant::now();
    let mut child = Command::new("dlv")
        .args(["attach", "--allow-non-terminal-interactive=true"])
        .arg(pid.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start dlv");
    let mut stdin = child.stdin.take().expect("piped");
    // quit asks whether the process is to be killed.
    let _ = stdin.write_all(b"quit\nn\n");
    drop(stdin);
    let ended = poll(PATIENCE, || !matches!(child.try_wait(), Ok(None)));
    let took = began.elapsed();
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().expect("wait for dlv");
    assert!(status.success(), "dlv attach: {status}");
    took
}

/// `dlv attach`, `goroutines`, then `quit` without killing: how long all of that
/// took, and how many bytes it wrote.
pub fn goroutines(pid: i32) -> (Duration, u64) {
    let output = tempfile::NamedTempFile::new().expect("a file for dlv's output");
    let began = Instant::now();
    let mut child = Command::new("dlv")
        .args(["attach", "--allow-non-terminal-interactive=true"])
        .arg(pid.to_string())
        .stdin(Stdio::piped())
        .stdout(output.reopen().expect("the same file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("start dlv");
    let mut stdin = child.stdin.take().expect("piped");
    let _ = stdin.write_all(b"goroutines\nquit\nn\n");
    drop(stdin);
    let ended = poll(10 * PATIENCE, || !matches!(child.try_wait(), Ok(None)));
    let took = began.elapsed();
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().expect("wait for dlv");
    assert!(status.success(), "dlv attach: {status}");
    (took, output.path().metadata().map_or(0, |m| m.len()))
}
