//! testdata/image, built in the ways that people build Go programs.
//!
//! `GOTAP_TEST_GO` names another toolchain than the machine's (`go1.21.13`, or
//! the path of a `go` command) to run these tests by hand over versions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::image::Image;

/// A way to build: arguments of `go build` and the environment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Build {
    Default,
    Stripped,
    Pie,
    StrippedPie,
    /// Linked by the C compiler.
    External,
    ExternalPie,
    NoOptimisation,
    Trimpath,
}

pub(super) const ALL: [Build; 8] = [
    Build::Default,
    Build::Stripped,
    Build::Pie,
    Build::StrippedPie,
    Build::External,
    Build::ExternalPie,
    Build::NoOptimisation,
    Build::Trimpath,
];

impl Build {
    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[],
            Self::Stripped => &["-ldflags=-s -w"],
            Self::Pie => &["-buildmode=pie"],
            Self::StrippedPie => &["-buildmode=pie", "-ldflags=-s -w"],
            Self::External => &["-ldflags=-linkmode=external"],
            Self::ExternalPie => &["-buildmode=pie", "-ldflags=-linkmode=external"],
            Self::NoOptimisation => &["-gcflags=all=-N -l"],
            Self::Trimpath => &["-trimpath"],
        }
    }

    fn cgo(self) -> bool {
        matches!(self, Self::External | Self::ExternalPie)
    }
}

/// The program's path; built once a test run, next to the test binaries.
pub(super) fn path(build: Build) -> PathBuf {
    static BUILT: OnceLock<Mutex<HashMap<Build, PathBuf>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap();
    built.entry(build).or_insert_with(|| compile(build)).clone()
}

fn compile(build: Build) -> PathBuf {
    let dir = std::env::current_exe().unwrap().with_file_name("fixtures");
    std::fs::create_dir_all(&dir).unwrap();
    let tag = toolchain().replace('/', "_");
    let path = dir.join(format!("image-{build:?}-{tag}"));
    // Test runs side by side must not see each other's half-written files.
    let fresh = dir.join(format!("image-{build:?}-{tag}.{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/image");
    let mut command = go();
    command
        .arg("build")
        .args(build.args())
        .arg("-buildvcs=false")
        .arg(if build.cgo() {
            "-tags=usecgo"
        } else {
            "-tags="
        })
        .arg("-o")
        .arg(&fresh)
        .arg(".")
        .current_dir(source)
        .env("GOFLAGS", "-mod=mod")
        .env("CGO_ENABLED", if build.cgo() { "1" } else { "0" });
    output(&mut command);
    std::fs::rename(&fresh, &path).unwrap();
    path
}

pub(super) fn open(build: Build) -> Image {
    Image::open(&path(build)).unwrap()
}

fn toolchain() -> String {
    std::env::var("GOTAP_TEST_GO").unwrap_or_else(|_| "go".to_owned())
}

/// The `go` command of the toolchain under test.
pub(super) fn go() -> Command {
    let toolchain = toolchain();
    if toolchain.contains('/') || toolchain == "go" {
        return Command::new(toolchain);
    }
    let mut command = Command::new("go");
    command.env("GOTOOLCHAIN", toolchain);
    command
}

/// Runs a tool and gives what it wrote; a missing one is named with the
/// package that has it.
pub(super) fn output(command: &mut Command) -> String {
    let tool = command.get_program().to_string_lossy().into_owned();
    let package = if tool == "readelf" {
        "apt-get install binutils"
    } else {
        "Go, from https://go.dev/dl"
    };
    let out = command
        .output()
        .unwrap_or_else(|e| panic!("{tool}: {e}; install it: {package}"));
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

pub(super) fn tool(name: &str, args: &[&str], file: &Path) -> String {
    let mut command = if name == "go" {
        go()
    } else {
        Command::new(name)
    };
    output(command.args(args).arg(file))
}
