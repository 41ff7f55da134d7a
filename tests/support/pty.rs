//! `gotap` at a terminal: a pty whose other end the test holds.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;

use super::{SOON, gotap::EXE, poll};

/// A `gotap` at a terminal of its own. It is killed, by its pid, when dropped.
pub struct AtTerminal {
    child: Child,
    master: File,
    /// The terminal's other end, by name.
    name: String,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Bytes of the text that [`AtTerminal::wait_for`] has passed.
    passed: usize,
    /// Reads what is shown; `None` for a terminal that stalls.
    reader: Option<std::thread::JoinHandle<()>>,
}

impl AtTerminal {
    /// Starts it, with a window of 80 columns and 24 rows, and a home of its own.
    pub fn start(args: &[&str], home: &std::path::Path, term: &str) -> AtTerminal {
        let mut terminal = AtTerminal::start_unread(args, home, term);
        terminal.read_on();
        terminal
    }

    /// The same, and nobody reads what it shows.
    pub fn start_unread(args: &[&str], home: &std::path::Path, term: &str) -> AtTerminal {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).expect("a terminal");
        let name = nix::unistd::ttyname(&pty.slave).expect("its name");
        let stdio = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor"));
        // setsid(1) makes it the controlling terminal, as a shell's is.
        let child = Command::new("setsid")
            .args(["--ctty", EXE])
            .args(args)
            .env("TERM", term)
            .env("NO_COLOR", "1")
            .env("HOME", home)
            .env_remove("XDG_STATE_HOME")
            .env_remove("GOTAP_TEST_DIE_AT")
            .stdin(stdio(&pty.slave))
            .stdout(stdio(&pty.slave))
            .stderr(stdio(&pty.slave))
            .spawn()
            .expect("setsid is not installed: apt-get install util-linux");
        AtTerminal {
            child,
            master: File::from(pty.master),
            name: name.to_string_lossy().into_owned(),
            shown: Arc::default(),
            passed: 0,
            reader: None,
        }
    }

    /// Begins to read what is shown.
    pub fn read_on(&mut self) {
        let mut from = self.master.try_clone().expect("a descriptor");
        let shown = self.shown.clone();
        self.reader = Some(std::thread::spawn(move || {
            let mut part = [0_u8; 4096];
            // EIO when the last of the other ends is closed.
            while let Ok(n) = from.read(&mut part) {
                if n == 0 {
                    break;
                }
                shown.lock().expect("a lock").extend_from_slice(&part[..n]);
            }
        }));
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("type");
    }

    /// Types a line, when the prompt is there.
    pub fn line(&mut self, text: &str) {
        self.send(&format!("{text}\r"));
    }

    /// What was shown so far, without what moves the cursor.
    pub fn text(&self) -> String {
        plain(&self.shown.lock().expect("a lock"))
    }

    /// Waits until `part` is shown after what was waited for before.
    pub fn wait_for(&mut self, part: &str) -> String {
        self.wait_for_within(part, SOON)
    }

    /// The same, so long at most.
    pub fn wait_for_within(&mut self, part: &str, longest: Duration) -> String {
        let mut found = None;
        let ok = poll(longest, || {
            let text = self.text();
            let new = text.get(self.passed..).unwrap_or_default();
            found = new.find(part).map(|at| new[..at + part.len()].to_owned());
            found.is_some()
        });
        assert!(ok, "{part:?} was not shown:\n{}", self.text());
        let found = found.expect("polled");
        self.passed += found.len();
        found
    }

    /// Changes the window's size: the terminal tells whoever runs in it.
    pub fn resize(&self, rows: u16, columns: u16) {
        let done = Command::new("stty")
            .args([
                "-F",
                &self.name,
                "rows",
                &rows.to_string(),
                "cols",
                &columns.to_string(),
            ])
            .status()
            .expect("run stty");
        assert!(done.success());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("send a signal");
    }

    /// Waits for its end.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let mut status = None;
        let ended = poll(SOON, || {
            status = self.child.try_wait().expect("wait for a child");
            status.is_some()
        });
        assert!(ended, "it did not end:\n{}", self.text());
        // What it wrote last may still be on its way to us.
        let reader = self.reader.take();
        let read = poll(SOON, || {
            reader
                .as_ref()
                .is_none_or(std::thread::JoinHandle::is_finished)
        });
        assert!(read, "somebody holds the terminal:\n{}", self.text());
        (status.expect("polled"), self.text())
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Without escape sequences (console_codes(4)) and carriage returns.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let escapes =
        Regex::new("\x1b\\[[0-9;?]*[ -/]*[@-~]|\x1b[=>()][A-Z0-9]?|\r").expect("a pattern");
    escapes.replace_all(&text, "").into_owned()
}
