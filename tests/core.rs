//! Core files of real programs: what is read from one is what the process had.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ::gotap::addr::{Bias, LiveAddr};
use ::gotap::memory::Memory;
use ::gotap::process::{Core, CoreError, ProcessMemory};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Fixture, SOON, Target, Variant, dump, gotap, oracle, wait_for};

/// What the words of the fixture's patterns are multiples of.
const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `ready` line: where the words lie, in .bss and on the heap.
fn ready(target: &mut Target) -> (LiveAddr, LiveAddr) {
    let line = target.expect_line("ready ");
    let mut words = line.split(' ').skip(2).map(|w| {
        let digits = w.strip_prefix("0x").expect("an address");
        LiveAddr(u64::from_str_radix(digits, 16).expect("an address"))
    });
    (words.next().expect("two"), words.next().expect("two"))
}

/// The fixture's own words.
fn check_words(core: &Core, at: LiveAddr, count: u64) {
    for n in 0..count {
        let word = core.read_u64(at.offset(n * 8));
        assert_eq!(word, Ok(n.wrapping_mul(PRIME)), "word {n} at {at}");
    }
}

fn stop(target: &Target) {
    target.signal(Signal::SIGSTOP);
    wait_for("it is stopped", SOON, || {
        (oracle::state(target.pid()) == Some('T')).then_some(())
    });
}

/// Every readable byte of the process, page by page.
fn same_memory(core: &Core, pid: i32, label: &str) {
    let live = ProcessMemory::read_only(pid);
    let (mut a, mut b) = (vec![0; 4096], vec![0; 4096]);
    let (mut equal, mut absent) = (0_u64, 0_u64);
    let executable = fs::read_link(format!("/proc/{pid}/exe")).expect("an executable");
    for mapping in oracle::mappings(pid) {
        let kernels = ["[vvar", "[vsyscall]"]
            .iter()
            .any(|n| mapping.name.starts_with(n));
        if !mapping.perms.starts_with('r') || kernels {
            continue;
        }
        let other_file = mapping.name.starts_with('/') && Path::new(&mapping.name) != executable;
        for page in (mapping.start..mapping.end).step_by(4096) {
            let at = LiveAddr(page);
            if live.read(at, &mut a).is_err() {
                continue; // behind the end of a file
            }
            match core.read(at, &mut b) {
                Ok(()) => {
                    assert!(a == b, "{label}: page {page:#x} of {mapping:?} differs");
                    equal += 1;
                }
                Err(_) if other_file => absent += 1,
                Err(e) => panic!("{label}: {e} in {mapping:?}"),
            }
        }
    }
    println!("{label}: {equal} pages equal, {absent} of libraries left out");
    assert!(equal > 500, "{label}: {equal} pages");
}

#[test]
fn a_core_of_gcore_has_every_byte_of_the_process() {
    for variants in [
        &[][..],
        &[Variant::Stripped],
        &[Variant::Pie],
        &[Variant::Cgo],
    ] {
        let fixture = Fixture::build("memstats", variants);
        let dir = tempfile::tempdir().expect("a folder");
        let mut target = Target::start(&fixture, &[]);
        let (bss, heap) = ready(&mut target);
        stop(&target);
        let path = dump::gcore(target.pid(), dir.path());
        let core = Core::open(&path, None).expect("a core");
        assert_eq!(core.remarks(), &[] as &[String], "{}", fixture.label);
        assert_eq!(
            core.bias() != Bias(0),
            variants == [Variant::Pie],
            "{}",
            fixture.label
        );
        check_words(&core, bss, 4096);
        check_words(&core, heap, 1 << 16);
        same_memory(&core, target.pid(), &fixture.label);
        let mut tids: Vec<i32> = core.threads().iter().map(|t| t.tid).collect();
        tids.sort_unstable();
        assert_eq!(tids, oracle::threads(target.pid()), "{}", fixture.label);
        same_answers(&target, &path, &fixture);
        target.signal(Signal::SIGCONT);
    }
}

/// What the commands say of the core is what they say of the stopped process.
fn same_answers(target: &Target, path: &Path, fixture: &Fixture) {
    let pid = target.pid().to_string();
    let path = path.to_str().expect("a path");
    let binary = fixture.path.to_str().expect("a path");
    for command in ["memstats", "stats", "version"] {
        let live = gotap::run(&[command, "-o", "json", "-p", &pid]);
        let mut live = live.must_succeed().records().remove(0);
        let once = gotap::run(&[command, "-o", "json", "--core", path]);
        let mut once = once.must_succeed().records().remove(0);
        let again = gotap::run(&[command, "-o", "json", "--core", path, binary]);
        let mut again = again.must_succeed().records().remove(0);
        for object in [&mut live, &mut once, &mut again] {
            let object = object.as_object_mut().expect("an object");
            object.remove("time");
            object.remove("pid");
            assert_ne!(object.get("approximate"), Some(&Value::Bool(true)));
        }
        assert_eq!(live, once, "{command} of {}", fixture.label);
        assert_eq!(once, again, "{command} of {}", fixture.label);
    }
}

#[test]
fn a_core_of_the_kernel_begins_with_the_thread_that_crashed() {
    for (variants, how) in [
        (&[][..], "crash"),
        (&[Variant::Stripped], "fault"),
        (&[Variant::Pie], "crash"),
        (&[Variant::Cgo], "fault"),
    ] {
        let fixture = Fixture::build("memstats", variants);
        let dir = tempfile::tempdir().expect("a folder");
        let mut target = dump::start_dumpable(&fixture, &[], dir.path());
        let (bss, heap) = ready(&mut target);
        let pid = target.pid();
        let tids = oracle::threads(pid);
        target.tell(how);
        let path = dump::of_crashed(&mut target, dir.path());
        let core = Core::open(&path, Some(&fixture.path)).expect("a core");
        assert_eq!(core.remarks(), &[] as &[String], "{}", fixture.label);
        assert_eq!(core.pid(), Some(pid), "{}", fixture.label);
        check_words(&core, bss, 4096);
        check_words(&core, heap, 1 << 16);
        // Text is not dumped: it comes from the executable.
        let text = core.image().module().text.start;
        let code = core.image().bytes(text, 64).expect("code");
        let live = core.read_vec(core.bias().live(text), 64).expect("code");
        assert_eq!(live, code, "{}", fixture.label);

        let first = core.threads().first().expect("a thread");
        assert_eq!(first.signal, 6, "{}: SIGABRT", fixture.label);
        assert_eq!(core.signal().map(|s| s.number), Some(6));
        assert!(
            tids.iter()
                .all(|t| core.threads().iter().any(|c| c.tid == *t))
        );
        let pc = core.bias().image(LiveAddr(first.regs.rip));
        let function = core
            .image()
            .functions()
            .find(pc)
            .map(|f| f.name().into_owned());
        // With cgo the C library raises, and its code is not the executable's.
        if variants != [Variant::Cgo] {
            let raised = function
                .as_deref()
                .is_some_and(|n| n.starts_with("runtime."));
            assert!(raised, "{}: {function:?}", fixture.label);
        }
        let outcome = gotap::run(&["stats", "--core", path.to_str().unwrap()]);
        assert!(outcome.must_succeed().text().contains("goroutines: "));
    }
}

#[test]
fn another_binary_is_refused_and_a_missing_one_named() {
    let fixture = Fixture::build("memstats", &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let own = dir.path().join("server");
    fs::copy(&fixture.path, &own).expect("copy");
    let mut target = Target::spawn(support::program(&own), "a copy");
    ready(&mut target);
    let path = dump::gcore(target.pid(), dir.path());
    for (name, variants) in [
        ("memstats", &[Variant::Stripped][..]),
        ("memstats", &[Variant::Pie]),
        ("ends", &[]),
    ] {
        let other = Fixture::build(name, variants);
        let error = Core::open(&path, Some(&other.path)).expect_err("another build");
        assert!(
            matches!(error, CoreError::OtherBinary { .. }),
            "{}: {error}",
            other.label
        );
        assert!(
            error
                .to_string()
                .contains("give the executable that crashed")
        );
    }
    Core::open(&path, Some(&fixture.path)).expect("the same build under another name");
    fs::remove_file(&own).expect("remove");
    let outcome = gotap::run(&["memstats", "--core", path.to_str().unwrap()]);
    assert_eq!(outcome.status.code(), Some(1));
    assert_eq!(outcome.stderr.len(), 1, "{}", outcome.errors());
    assert!(
        outcome
            .errors()
            .contains("give the same build behind the core file"),
        "{}",
        outcome.errors()
    );
}

#[test]
fn a_core_that_was_cut_short_says_so_at_every_length() {
    let fixture = Fixture::build("memstats", &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let mut target = dump::start_dumpable(&fixture, &[], dir.path());
    ready(&mut target);
    target.tell("crash");
    let path = dump::of_crashed(&mut target, dir.path());
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("open");
    let whole = file.metadata().expect("a length").len();
    let name = path.to_str().expect("a path");
    let mut cut: Vec<u64> = (1..12).map(|n| whole - whole * n / 12).collect();
    cut.extend([20_000, 4096, 1000, 200, 64, 63, 16, 4, 0]);
    let (mut opened, mut refused) = (0, 0);
    for length in cut {
        file.set_len(length).expect("cut");
        match Core::open(&path, Some(&fixture.path)) {
            Ok(core) => {
                let remarks = core.remarks().join("\n");
                assert!(remarks.contains("is cut short"), "{length}: {remarks}");
                opened += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains("cut short") || text.contains("not an ELF file"),
                    "{length}: {text}"
                );
                refused += 1;
            }
        }
        let outcome = gotap::run(&["memstats", "--core", name]);
        assert!(
            !outcome.errors().contains("panicked"),
            "{length}: {}",
            outcome.errors()
        );
        assert!(outcome.status.code().is_some_and(|c| c < 2), "{length}");
        assert!(
            !outcome.stderr.is_empty() && outcome.stderr.len() <= 3,
            "{length}: {}",
            outcome.errors()
        );
    }
    assert!(opened > 5 && refused > 3, "{opened} {refused}");
}

#[test]
fn a_core_of_garbage_is_refused_or_read_but_never_harms() {
    let fixture = Fixture::build("memstats", &[]);
    let dir = tempfile::tempdir().expect("a folder");
    let mut target = dump::start_dumpable(&fixture, &[], dir.path());
    let (bss, _) = ready(&mut target);
    target.tell("crash");
    let path = dump::of_crashed(&mut target, dir.path());
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).open(&path).expect("open");
    // Headers and notes: what is parsed.
    let mut head = vec![0; 16 << 10];
    file.read_exact_at(&mut head, 0).expect("read");
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let (mut read, mut refused) = (0, 0);
    for round in 0..600 {
        let mut bad = head.clone();
        for _ in 0..=next(6) {
            // Half of the places in the ELF header and the first segments.
            let at = if next(2) == 0 {
                next(400)
            } else {
                next(bad.len())
            };
            bad[at] = [0, 0xff, 0x80, u8::try_from(next(256)).expect("a byte")][next(4)];
        }
        file.write_all_at(&bad, 0).expect("write");
        match Core::open(&path, Some(&fixture.path)) {
            Ok(core) => {
                for at in [bss.0, 0, 0x40_0000, u64::MAX - 3, next(1 << 30) as u64] {
                    let _ = core.read_vec(LiveAddr(at), 1 << 16);
                }
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{round}: {error}");
                refused += 1;
            }
        }
    }
    assert!(read > 100 && refused > 20, "{read} read, {refused} refused");
    file.write_all_at(&head, 0).expect("write");
    let whole = Core::open(&path, Some(&fixture.path)).expect("as it was");
    check_words(&whole, bss, 4096);
}
