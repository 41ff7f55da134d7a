//! Go programs of `testdata/`, built when a test first asks for them.
//!
//! A build is kept in `target/tmp/fixtures`, named by program, variants,
//! toolchain and a hash of the source; a lock file makes tests that run side by
//! side build it once.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// How a fixture is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// `-ldflags=-s -w`: no symbol table, no DWARF.
    Stripped,
    /// `-trimpath`
    Trimpath,
    /// `-buildmode=pie`
    Pie,
    /// cgo, linked by the C linker.
    Cgo,
    /// `-gcflags=all=-N -l`: nothing optimised, nothing inlined.
    NoOpt,
    /// `-race`
    Race,
}

impl Variant {
    fn word(self) -> &'static str {
        match self {
            Variant::Stripped => "stripped",
            Variant::Trimpath => "trimpath",
            Variant::Pie => "pie",
            Variant::Cgo => "cgo",
            Variant::NoOpt => "noopt",
            Variant::Race => "race",
        }
    }
}

/// Which Go builds a fixture.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Toolchain {
    /// The `go` on PATH, as it is.
    #[default]
    Machine,
    /// `go1.23.9`: fetched through the module proxy; `go1.19`: Debian's
    /// golang-1.19, which the `go` command cannot switch to.
    Version(String),
}

impl Toolchain {
    /// The toolchains that `GOTAP_TEST_GO` names; the machine's when unset.
    pub fn under_test() -> Vec<Toolchain> {
        let named: Vec<Toolchain> = std::env::var("GOTAP_TEST_GO")
            .unwrap_or_default()
            .split_whitespace()
            .map(|v| Toolchain::Version(v.to_string()))
            .collect();
        if named.is_empty() {
            vec![Toolchain::Machine]
        } else {
            named
        }
    }

    /// How it is called in messages and file names.
    pub fn name(&self) -> &str {
        match self {
            Toolchain::Machine => "machine",
            Toolchain::Version(v) => v,
        }
    }

    /// A `go` command of this toolchain.
    pub fn go(&self) -> Command {
        match self {
            Toolchain::Machine => Command::new("go"),
            Toolchain::Version(v) if v == "go1.19" || v.starts_with("go1.19.") => {
                let debian = "/usr/lib/go-1.19/bin/go";
                assert!(
                    Path::new(debian).exists(),
                    "Go 1.19 is not installed: apt-get install golang-1.19-go"
                );
                let mut go = Command::new(debian);
                go.env_remove("GOTOOLCHAIN").env_remove("GOROOT");
                go
            }
            Toolchain::Version(v) => {
                let mut go = Command::new("go");
                go.env("GOTOOLCHAIN", v);
                go
            }
        }
    }

    /// What `go version` answers.
    pub fn version(&self) -> String {
        let out = self.go().arg("version").output().unwrap_or_else(|e| {
            panic!(
                "cannot run go ({}): {e}; install Go from https://go.dev/dl/",
                self.name()
            )
        });
        assert!(
            out.status.success(),
            "go version ({}) failed: {}",
            self.name(),
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).trim().to_string()
    }
}

/// A built Go program.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The executable.
    pub path: PathBuf,
    /// Program, variants and toolchain, for messages.
    pub label: String,
}

impl Fixture {
    /// Builds `testdata/NAME` with the machine's Go.
    pub fn build(name: &str, variants: &[Variant]) -> Fixture {
        Fixture::build_with(name, variants, &Toolchain::Machine)
    }

    /// Builds `testdata/NAME` with a certain Go.
    pub fn build_with(name: &str, variants: &[Variant], toolchain: &Toolchain) -> Fixture {
        static MACHINE: OnceLock<String> = OnceLock::new();
        let version = match toolchain {
            Toolchain::Machine => MACHINE.get_or_init(|| toolchain.version()).clone(),
            Toolchain::Version(v) => v.clone(),
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(name);
        let mut words: Vec<&str> = variants.iter().map(|v| v.word()).collect();
        if words.is_empty() {
            words.push("default");
        }
        let label = format!("{name}-{}-{}", words.join("-"), toolchain.name());
        let key = format!("{label}-{:016x}", source_hash(&source, &version));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures");
        fs::create_dir_all(&dir).expect("create target/tmp/fixtures");
        let path = dir.join(&key);

        let lock = fs::File::create(dir.join(format!("{key}.lock"))).expect("create a lock file");
        lock.lock().expect("lock the fixture");
        if !path.exists() {
            go_build(&source, &path, variants, toolchain, &label);
        }
        Fixture { path, label }
    }
}

fn go_build(source: &Path, path: &Path, variants: &[Variant], go: &Toolchain, label: &str) {
    let mut build = go.go();
    build.current_dir(source).arg("build");
    let has = |v| variants.contains(&v);
    build.env(
        "CGO_ENABLED",
        if has(Variant::Cgo) || has(Variant::Race) {
            "1"
        } else {
            "0"
        },
    );
    let mut ldflags = Vec::new();
    if has(Variant::Stripped) {
        ldflags.push("-s -w");
    }
    if has(Variant::Cgo) {
        ldflags.push("-linkmode=external");
        build.args(["-tags", "cgoprobe"]);
    }
    if !ldflags.is_empty() {
        build.arg(format!("-ldflags={}", ldflags.join(" ")));
    }
    if has(Variant::Trimpath) {
        build.arg("-trimpath");
    }
    if has(Variant::Pie) {
        build.arg("-buildmode=pie");
    }
    if has(Variant::NoOpt) {
        build.arg("-gcflags=all=-N -l");
    }
    if has(Variant::Race) {
        build.arg("-race");
    }
    // Built beside and renamed: a build that was interrupted leaves nothing
    // that looks finished.
    let half = path.with_extension("building");
    build.arg("-o").arg(&half).arg(".");
    build.env_remove("GOOS").env_remove("GOARCH");
    let out = build.output().unwrap_or_else(|e| {
        panic!("cannot run go to build {label}: {e}; install Go from https://go.dev/dl/")
    });
    assert!(
        out.status.success(),
        "building {label} failed:\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    fs::rename(&half, path).expect("put the fixture in place");
}

fn source_hash(source: &Path, version: &str) -> u64 {
    let mut files: Vec<PathBuf> = fs::read_dir(source)
        .unwrap_or_else(|e| panic!("no fixture {}: {e}", source.display()))
        .map(|entry| entry.expect("read testdata").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let mut hash = DefaultHasher::new();
    version.hash(&mut hash);
    for file in files {
        file.file_name().hash(&mut hash);
        fs::read(&file).expect("read testdata").hash(&mut hash);
    }
    hash.finish()
}

/// Copies a program to where it is to be run from. Another process does it: a
/// file that this one has open for writing may be so in a child of another
/// test, just forked, and cannot be run then (ETXTBSY, execve(2)).
pub fn place(from: &Path, to: &Path) {
    let done = Command::new("install")
        .args(["-m", "755"])
        .args([from, to])
        .status()
        .expect("run install (apt-get install coreutils)");
    assert!(
        done.success(),
        "install {} {}",
        from.display(),
        to.display()
    );
}
