//! Core files of running programs, as gcore and the kernel write them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Fixture, LATER, Target, poll};

/// gcore's core of a process; it goes on (or stays stopped) afterwards.
pub fn gcore(pid: i32, dir: &Path) -> PathBuf {
    let prefix = dir.join("gcore");
    let out = Command::new("gcore")
        .arg("-o")
        .arg(&prefix)
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run gcore: {e}; apt-get install gdb"));
    let path = dir.join(format!("gcore.{pid}"));
    assert!(
        out.status.success() && path.exists(),
        "gcore {pid} failed:\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    path
}

/// A program that may dump core into `dir`, and does when it crashes.
pub fn start_dumpable(fixture: &Fixture, args: &[&str], dir: &Path) -> Target {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    assert!(
        !pattern.starts_with(['|', '/']),
        "core files go elsewhere here ({}): sysctl kernel.core_pattern=core",
        pattern.trim()
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"ulimit -c unlimited && exec "$0" "$@""#])
        .arg(&fixture.path)
        .args(args)
        .current_dir(dir)
        .env("GOTRACEBACK", "crash")
        .stderr(Stdio::null());
    Target::spawn(command, &fixture.label)
}

/// The kernel's core of a program that ends.
pub fn of_crashed(target: &mut Target, dir: &Path) -> PathBuf {
    let status = target.wait(LATER);
    let mut found = None;
    poll(LATER, || {
        let entries = std::fs::read_dir(dir).expect("read the folder");
        found = entries.flatten().map(|e| e.path()).find(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("core"))
        });
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("{} ended with {status} and left no core", target.label))
}
