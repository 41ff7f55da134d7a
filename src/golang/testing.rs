//! For tests: Go programs built at test time, and running ones.
//!
//! `GOTAP_TEST_GO` names another toolchain than the machine's (`go1.21.13`, or
//! the path of a `go` command) to run these tests by hand over versions.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use object::{Object, ObjectSymbol};

use crate::addr::Bias;
use crate::image::Image;
use crate::process::ProcessMemory;

/// How a program is built.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Flavour {
    Plain,
    Stripped,
    Pie,
    Unoptimised,
}

/// The program of testdata/`name`, built.
pub fn fixture(name: &'static str, flavour: Flavour) -> PathBuf {
    static BUILT: OnceLock<Mutex<HashMap<(&'static str, Flavour), PathBuf>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap();
    built
        .entry((name, flavour))
        .or_insert_with(|| build(name, flavour))
        .clone()
}

fn build(name: &str, flavour: Flavour) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let go = std::env::var("GOTAP_TEST_GO").unwrap_or_else(|_| "go".to_owned());
    let dir = root.join("target/golang-fixtures");
    std::fs::create_dir_all(&dir).unwrap();
    let tag = go.replace('/', "_");
    let path = dir.join(format!("{name}-{flavour:?}-{tag}"));
    let fresh = dir.join(format!("{name}-{flavour:?}-{tag}-{}", std::process::id()));
    let mut command = if go.contains('/') || go == "go" {
        Command::new(&go)
    } else {
        let mut command = Command::new("go");
        command.env("GOTOOLCHAIN", &go);
        command
    };
    command.args(["build", "-o"]).arg(&fresh);
    match flavour {
        Flavour::Plain => {}
        Flavour::Stripped => {
            command.arg("-ldflags=-s -w");
        }
        Flavour::Pie => {
            command.arg("-buildmode=pie");
        }
        Flavour::Unoptimised => {
            command.arg("-gcflags=all=-N -l");
        }
    }
    let out = command
        .arg(".")
        .current_dir(root.join("testdata").join(name))
        .output()
        .expect("go is needed: apt-get install golang, or https://go.dev/dl");
    assert!(
        out.status.success(),
        "go build {name}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    std::fs::rename(&fresh, &path).unwrap();
    path
}

/// The symbol table of an unstripped program.
pub fn symbols(path: &Path) -> HashMap<String, u64> {
    let data = std::fs::read(path).unwrap();
    let file = object::File::parse(&*data).unwrap();
    file.symbols()
        .map(|s| (s.name().unwrap().to_owned(), s.address()))
        .collect()
}

/// A running program of testdata that said `ready`.
pub struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it said before.
    pub lines: Vec<String>,
    pub image: Image,
    pub bias: Bias,
    pub memory: ProcessMemory,
}

impl Running {
    pub fn start(name: &'static str, flavour: Flavour) -> Self {
        let path = fixture(name, flavour);
        let mut child = Command::new(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let image = Image::open(&path).unwrap();
        let pid = child.id();
        let mut running = Running {
            bias: Bias(0),
            memory: ProcessMemory::read_only(pid as i32),
            child,
            input,
            output,
            lines: Vec::new(),
            image,
        };
        running.lines = running.until("ready");
        // Only now: a parent goes on before its child's exec has mapped the file.
        running.bias = bias(pid, &path, &running.image);
        running
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended early, after {lines:?}");
            let line = line.trim_end_matches('\n');
            if line == last {
                return lines;
            }
            lines.push(line.to_owned());
        }
    }

    /// Sends a line, gives the answer up to the line `end`.
    pub fn ask(&mut self, what: &str) -> Vec<String> {
        writeln!(self.input, "{what}").unwrap();
        self.until("end")
    }

    /// Lines that begin with this word, split.
    pub fn said(&self, word: &str) -> Vec<Vec<String>> {
        self.lines
            .iter()
            .map(|l| l.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .filter(|w| w.first().is_some_and(|f| f == word))
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the program was mapped, less where its file says.
fn bias(pid: u32, path: &Path, image: &Image) -> Bias {
    let name = path.canonicalize().unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let first = maps
        .lines()
        .find(|l| l.contains(name.to_str().unwrap()))
        .unwrap();
    let start = u64::from_str_radix(first.split('-').next().unwrap(), 16).unwrap();
    let vaddr = image.segments().iter().map(|s| s.vaddr).min().unwrap();
    Bias(start.wrapping_sub(vaddr.0 & !0xfff))
}

/// `0x…`
pub fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}
