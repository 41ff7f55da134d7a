//! A ring that is full drops records. Nothing false is told of the calls that they
//! were of: none looks unwound, none as if it had been running at attach.

mod support;

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::scenario::{READ, text};
use support::{Fixture, Gotap, LATER, SOON, Target, gotap, poll};

/// Large records fill the ring soon.
const LARGE: [&str; 4] = ["--payload=1024", "--stack=31", "--fire", "jump"];

/// Reads that the server makes while nobody takes records: more than the ring holds.
const MEANWHILE: u64 = 60_000;

/// What gotap said of the ring, and what the server did.
struct Run {
    /// Records that were read, and that were lost.
    ring: [u64; 2],
    reads: u64,
    errors: String,
}

/// An echo server whose connections are all made later than gotap attaches, and a
/// gotap that stands still for a while.
fn run(mut trace: impl FnMut(i32) -> Gotap) -> (Run, gotap::Outcome) {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let mut load = Target::echo_load(&echo, &addr, &["-conns", "16", "-calls", "-1", "-late"]);
    let gotap = trace(server.pid());
    load.tell("go");
    let mut reach = |more: u64| {
        let mut reads = || server.ask("reads").as_u64().expect("a number");
        let from = reads();
        assert!(poll(LATER, || reads() >= from + more), "no more calls");
    };
    reach(500);
    gotap.signal(Signal::SIGSTOP);
    reach(MEANWHILE);
    gotap.signal(Signal::SIGCONT);
    // The same goroutines go on, seen again.
    reach(MEANWHILE / 4);
    load.tell("stop");
    load.answer("done", LATER);
    assert!(poll(SOON, || server.ask("counts")["open"] == 0));
    let reads = server.ask("reads").as_u64().expect("a number");
    let outcome = gotap.stop();
    let errors = outcome.must_succeed().errors();
    let line = errors
        .lines()
        .find(|l| l.contains(" records of the ring were read"))
        .unwrap_or_else(|| panic!("{errors}"));
    let mut numbers = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    let mut number = || numbers.next().unwrap_or_else(|| panic!("{line}"));
    let ring = [number(), number()];
    assert!(server.answers());
    let run = Run {
        ring,
        reads,
        errors,
    };
    (run, outcome)
}

/// What must hold of what was told.
fn honest(run: &Run, records: &[Value]) {
    let errors = &run.errors;
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut told: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    let mut gaps: BTreeMap<String, u64> = BTreeMap::new();
    let (mut entry_lost, mut doubtful) = (0, 0);
    for record in records {
        if let Some(lost) = record["lost"].as_u64() {
            *gaps.entry(text(record, "why").to_owned()).or_default() += lost;
            continue;
        }
        let end = text(record, "end");
        *ends.entry(end.to_owned()).or_default() += 1;
        // Connected later than gotap was there.
        assert!(record.get("since_attach").is_none(), "{record}\n{errors}");
        let [entries, rets] = told.entry(text(record, "func").to_owned()).or_default();
        if record["entry_lost"] == true {
            entry_lost += 1;
            assert!(record.get("dur_ns").is_none(), "{record}");
        } else {
            *entries += 1;
        }
        *rets += u64::from(end == "return");
        if end == "lost" {
            assert!(record.get("dur_ns").is_none(), "{record}");
        }
        doubtful += u64::from(record["doubtful"] == true);
    }
    let all = format!("{ends:?} {told:?} {gaps:?} {entry_lost} {doubtful}\n{errors}");
    for end in ends.keys() {
        assert!(["return", "lost"].contains(&&**end), "{all}");
    }
    assert!(ends.get("lost").is_some_and(|lost| *lost > 0), "{all}");
    assert!(entry_lost > 0, "{all}");
    // What is lost is said; and of what was read, every record is told of.
    let [read, lost] = run.ring;
    assert_eq!(gaps.get("ring full"), Some(&lost), "{all}");
    let queue = gaps.get("queue").copied().unwrap_or(0);
    // A Read has an entry and a RET; the goroutines' own ends are recorded too.
    let [entries, rets] = told.values().fold([0, 0], |sum, of| {
        assert!(of[0] <= run.reads && of[1] <= run.reads, "{all}");
        [sum[0] + of[0], sum[1] + of[1]]
    });
    assert!(entries + rets <= read, "{all}");
    let missing = lost + 2 * queue;
    assert!(entries + rets + missing >= 2 * run.reads, "{all}");
    assert!(doubtful > 0, "{all}");
}

#[test]
fn calls_whose_records_were_lost() {
    let (run, outcome) = run(|pid| Gotap::trace_json(pid, &[READ], &LARGE));
    honest(&run, &outcome.records());
}

#[test]
fn and_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("calls.gtr");
    let file = file.to_str().expect("a path");
    let (run, _) = run(|pid| {
        let pid = pid.to_string();
        let mut args = vec!["trace", READ, "--record", file, "-p", &pid];
        args.extend(LARGE);
        let mut gotap = Gotap::spawn(gotap::command(&args));
        gotap.armed();
        gotap
    });
    let shown = gotap::run(&["show", file, "-o", "json"]);
    honest(&run, &shown.must_succeed().records());
    let lost = gotap::run(&["show", file, "--where", "end == \"lost\"", "-o", "json"]);
    let calls = lost.must_succeed().calls();
    assert!(!calls.is_empty() && calls.iter().all(|c| c["end"] == "lost"));
    let summary = gotap::run(&["show", file, "--summary"]);
    let text = summary.must_succeed().text();
    assert!(text.contains("end lost"), "{text}");
}
