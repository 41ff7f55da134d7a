//! Delve, which some tests compare with.

use std::path::Path;
use std::process::{Command, Stdio};

/// What `dlv exec` says to a script.
pub fn exec(program: &Path, script: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let init = dir.path().join("init");
    std::fs::write(&init, script).expect("write the script");
    let out = Command::new("dlv")
        .arg("exec")
        .arg(program)
        .arg("--init")
        .arg(&init)
        .args([
            "--allow-non-terminal-interactive=true",
            "--check-go-version=false",
        ])
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| {
            panic!("cannot run dlv: {e}; go install github.com/go-delve/delve/cmd/dlv@v1.27.2")
        });
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}
