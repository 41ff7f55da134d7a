//! Go's own tests of its packages end as they do by themselves while the packages
//! they test are traced. Everyday a few tests of `net`; `GOTAP_GO_TESTS` names
//! others: packages by commas, each with an expression behind `=` where not all
//! of its tests are wanted (`net/http=TestServe,runtime=TestGC`), or `all`.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::gotap;

/// Everyday.
const SHORT: &str = "net=^(TestTCP|TestUDP|TestUnix|TestDial|TestRead|TestConn)";

/// By hand. Of the runtime what goroutines do, and what unwinds, moves and scans
/// their stacks: its other tests start `go build` or take the machine for an hour.
const ALL: &str = "net,crypto/tls,net/http,runtime=^(TestChan|TestSelect|TestDefer|\
    TestRecover|TestStackGrowth|TestTimer|TestMutex|TestGoexit|TestNetpoll|TestFinalizer|\
    TestSemaHandoff|TestLFStack|TestPingPong)";

/// A package's test program, and its folder.
fn build(package: &str, to: &Path) -> (PathBuf, PathBuf) {
    let name = package.replace('/', "_");
    let program = to.join(format!("{name}.test"));
    let go = |args: &[&str]| {
        let mut command = Command::new("go");
        command.args(args).env("GOTOOLCHAIN", "local");
        let done = command
            .output()
            .expect("go is to be installed: golang.org/dl");
        assert!(
            done.status.success(),
            "go {args:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    let out = program.to_str().expect("a path");
    go(&["test", "-c", "-o", out, package]);
    let folder = go(&["list", "-f", "{{.Dir}}", package]);
    (program, PathBuf::from(folder))
}

/// Per test how it ended, as `-test.v` tells.
fn endings(output: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(output);
    let told = text.lines().filter_map(|line| {
        let (how, rest) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
        let name = rest.split_whitespace().next()?;
        Some((name.to_owned(), how.to_owned()))
    });
    told.collect()
}

fn same(package: &str, which: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, home) = build(package, folder.path());
    let mut args: Vec<String> = ["-test.v", "-test.short", "-test.timeout=20m"]
        .map(str::to_owned)
        .to_vec();
    args.push(format!("-test.run={which}"));
    let plain = Command::new(&program)
        .args(&args)
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()
        .expect("run it");
    let records = folder.path().join("records");
    let mut traced = gotap::command(&["trace", "-q", "--summary", "--max-matches", "100000"]);
    let pattern = format!(r"^{}\.", package.replace('.', r"\."));
    let traced = traced
        .arg(pattern)
        .arg("--out")
        .arg(&records)
        .args(["--fire", &fire(package), "--"])
        .arg(&program)
        .args(&args)
        .current_dir(&home)
        .output()
        .expect("run gotap");
    let said = String::from_utf8_lossy(&traced.stderr);
    let said: Vec<&str> = said.lines().filter(|l| l.starts_with("gotap: ")).collect();
    println!("{package}: {}", said.join("\n"));
    let (alone, with) = (endings(&plain.stdout), endings(&traced.stdout));
    assert!(!alone.is_empty(), "{package} has no test {which}");
    let differ: Vec<_> = alone
        .iter()
        .filter(|(name, how)| with.get(*name) != Some(how))
        .map(|(name, how)| (name, how, with.get(name)))
        .collect();
    assert!(
        differ.is_empty(),
        "{package}, alone and traced: {differ:#?}\n{}\n{}",
        said.join("\n"),
        String::from_utf8_lossy(&traced.stdout)
    );
    assert!(traced.status.success(), "{}", said.join("\n"));
    let code = plain.status.code().expect("an exit code");
    assert!(
        said.iter()
            .any(|l| l.contains(&format!("exited with code {code}"))),
        "{}",
        said.join("\n")
    );
    println!("{package}: {} tests end alike", alone.len());
}

/// Of the runtime only what jumps: it calls the rest so often that minutes become
/// hours by traps.
fn fire(package: &str) -> String {
    let way = if package == "runtime" { "jump" } else { "auto" };
    std::env::var("GOTAP_TEST_FIRE").unwrap_or_else(|_| way.to_owned())
}

#[test]
fn they_end_as_they_do_untraced() {
    let asked = std::env::var("GOTAP_GO_TESTS").unwrap_or_else(|_| SHORT.to_owned());
    let asked = if asked == "all" { ALL } else { &asked };
    for one in asked.split(',') {
        let (package, which) = one.split_once('=').unwrap_or((one, "."));
        same(package, which);
    }
}
