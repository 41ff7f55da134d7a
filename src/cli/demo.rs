//! `gotap demo`: sees for itself that it works here.
//!
//! Builds the bundled Go program (an echo server and its clients, which meet an
//! end of file, a timeout and a reset), starts it, traces what its connections
//! do, prints the calls and a summary, and stops by itself after some two
//! seconds. Needs a Go toolchain (1.19 or later) in PATH.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::trace::{self, Preset, TraceArgs};

const GO_MOD: &str = include_str!("demo_assets/go.mod.txt");
const MAIN_GO: &str = include_str!("demo_assets/main.go.txt");

/// Arguments of `gotap demo`.
#[derive(clap::Args, Debug)]
pub struct DemoArgs {
    /// Show so many frames of each call's stack
    #[arg(short, long, value_name = "FRAMES", default_value_t = 0)]
    stack: usize,
    /// Keep the demo program in this directory instead of a temporary one
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A directory that is gone afterwards.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `gotap demo`.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let scratch;
    let directory = if let Some(directory) = &args.keep {
        directory.as_path()
    } else {
        let name = format!("gotap-demo-{}", std::process::id());
        scratch = Scratch(std::env::temp_dir().join(name));
        scratch.0.as_path()
    };
    let program = build(directory)?;
    trace::run(&TraceArgs {
        preset: Some(Preset::Conn),
        program: vec![program.into_os_string()],
        summary: true,
        stack: args.stack,
        max_matches: 2_000,
        ..TraceArgs::default()
    })
}

fn build(directory: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, text) in [("go.mod", GO_MOD), ("main.go", MAIN_GO)] {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let program = directory.join("demo");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(directory)
        .env("GOFLAGS", "-mod=mod")
        .stdin(Stdio::null())
        .output();
    match built {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => bail!(
            "the demo needs a Go toolchain, and there is no `go` in PATH: install it (apt-get install golang-go, or https://go.dev/dl)"
        ),
        Err(e) => Err(e).context("cannot run go build"),
        Ok(output) if !output.status.success() => {
            bail!(
                "go build failed:\n{}",
                String::from_utf8_lossy(&output.stderr)
            )
        }
        Ok(_) => Ok(program),
    }
}
