//! `--symbols FILE`: debug information of a program that was stripped, from
//! the file that it was before, and from no other.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Fixture, LATER, Target, Variant, gotap};

/// binutils: `strip`, `objcopy`.
fn binutils(program: &str, args: &[&str], from: &Path, to: &Path) {
    let out = Command::new(program)
        .args(args)
        .arg(from)
        .arg(to)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}; apt-get install binutils"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {said}");
}

/// The same program without symbols and debug information.
fn stripped(fixture: &Fixture, dir: &Path) -> PathBuf {
    let path = dir.join("stripped");
    binutils("objcopy", &["--strip-all"], &fixture.path, &path);
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

#[test]
fn arguments_have_their_names_and_types() {
    for variants in [&[][..], &[Variant::Pie], &[Variant::Cgo]] {
        let fixture = Fixture::build("ends", variants);
        let dir = tempfile::tempdir().expect("a folder");
        let program = stripped(&fixture, dir.path());
        let debug = dir.path().join("only.debug");
        binutils("objcopy", &["--only-keep-debug"], &fixture.path, &debug);
        let args = |more: &[&str]| -> Value {
            let mut all = vec!["trace", "main.recurse", "-o", "json", "-n", "1"];
            all.extend(more);
            all.extend(["--", text(&program), "recurse"]);
            let outcome = gotap::run(&all);
            outcome.must_succeed();
            outcome.calls()[0]["args"].clone()
        };
        let plain = args(&[]);
        assert!(plain["n"].is_null(), "{}: {plain}", fixture.label);
        for twin in [&fixture.path, &debug] {
            let named = args(&["--symbols", text(twin)]);
            assert!(named["n"].is_i64(), "{}: {named}", fixture.label);
        }
    }
}

#[test]
fn a_file_of_another_build_is_refused() {
    let fixture = Fixture::build("states", &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let program = Fixture {
        path: stripped(&fixture, dir.path()),
        label: format!("{}, stripped", fixture.label),
    };
    let mut target = Target::start(&program, &["states", "1"]);
    target.answer("ready", LATER);
    let pid = target.pid().to_string();
    let refused = |symbols: &Path, why: &str| {
        for args in [
            &["goroutines", "-p", &pid, "--symbols", text(symbols)][..],
            &["stack", "1", "-p", &pid, "--symbols", text(symbols)],
            &[
                "trace",
                "main.small",
                "--list",
                "-p",
                &pid,
                "--symbols",
                text(symbols),
            ],
        ] {
            let outcome = gotap::run(args);
            let said = outcome.errors();
            assert_eq!(outcome.status.code(), Some(1), "{args:?}: {said}");
            assert!(said.contains(why), "{args:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        }
    };
    let id = |path: &Path| {
        let out = Command::new("go")
            .args(["tool", "buildid"])
            .arg(path)
            .output();
        let out = out.expect("go is needed: https://go.dev/dl/");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    // The same source with other flags is another build.
    let other = Fixture::build("states", &[Variant::Stripped]);
    refused(&other.path, &id(&other.path));
    refused(&other.path, &id(&fixture.path));
    refused(&Fixture::build("ends", &[]).path, "not of the same build");
    refused(&program.path, "has no debug information either");
    refused(Path::new("/proc/self/status"), "/proc/self/status");
    refused(Path::new("/nonexistent"), "/nonexistent");
    // The build id alone is not believed.
    let twin = std::fs::read(&fixture.path).expect("read");
    let moved = dir.path().join("moved");
    let mut bytes = twin.clone();
    bytes[24] ^= 0x10; // e_entry (elf(5))
    std::fs::write(&moved, &bytes).expect("write");
    refused(&moved, "but not its addresses");
    // A function table that says something else: its first function's offset.
    let mut bytes = twin;
    let table = bytes
        .windows(8)
        .position(|w| w == [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8])
        .expect("a function table");
    bytes[table + 0x1000] ^= 1;
    std::fs::write(&moved, &bytes).expect("write");
    refused(&moved, "its function table");

    let outcome = gotap::run(&["stack", "1", "-p", &pid, "--symbols", text(&fixture.path)]);
    assert!(outcome.must_succeed().text().contains("main.main("));
    let args = ["goroutines", "-p", &pid, "--symbols", text(&fixture.path)];
    gotap::run(&args).must_succeed();
    // The variables of its frames.
    let args = ["stack", "1", "-p", &pid, "--full"];
    let outcome = gotap::run(&args);
    let said = outcome.must_succeed().errors();
    assert!(
        said.contains("no debug information") && said.contains("--symbols"),
        "{said}"
    );
    let named = [&args[..], &["--symbols", text(&fixture.path)]].concat();
    let outcome = gotap::run(&named);
    let shown = outcome.must_succeed().text();
    assert!(shown.contains("\n        number = "), "{shown}");
}
