//! What the tests of live programs share.
//!
//! [`fixture`] builds the Go programs of `testdata/`, [`target`] runs one and
//! talks to it, [`clients`] ask one for its copies, [`dump`] makes core files of it,
//! [`gotap`] runs the command under test, [`pty`] at a terminal, [`piped`] asks it line by line, [`oracle`] asks the
//! kernel and the files what is true, [`delve`] what Delve says, [`scenario`] plays what several tests check. Every test file that traces
//! says `mod support;`; nobody else comes in.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unused_imports, reason = "the same")]

pub mod clients;
pub mod delve;
pub mod dump;
pub mod fixture;
pub mod gotap;
pub mod oracle;
pub mod piped;
pub mod pty;
pub mod scenario;
pub mod target;

pub use fixture::{Fixture, Toolchain, Variant, place};
pub use gotap::{Gotap, Outcome, Tally};
pub use pty::AtTerminal;
pub use target::{Target, program};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a step may take before the test fails. Generous: the machine may
/// be loaded; a step that works takes milliseconds.
pub const SOON: Duration = Duration::from_secs(30);

/// The same for what builds or moves a lot of data.
pub const LATER: Duration = Duration::from_secs(180);

/// A folder that goes with the test.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A script, written in a folder; the one before is gone.
pub fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("a.gotap");
    std::fs::write(&path, text).expect("write a script");
    path
}

/// Asks `holds` until it says yes. False when the time is up.
pub fn poll(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Polls until `find` has an answer; panics with `what` when the time is up.
pub fn wait_for<T>(what: &str, deadline: Duration, mut find: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    let ok = poll(deadline, || {
        found = find();
        found.is_some()
    });
    assert!(ok, "not within {deadline:?}: {what}");
    found.expect("polled")
}
