//! Programs with more goroutines than are told of one by one: what is folded and
//! sampled says the same as what is not, and the same as the program itself.

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use support::{Fixture, LATER, Target, Variant, poll};

/// Goroutines; more than 10,000 are sampled.
const MANY: &str = "12000";

fn gotap(pid: i32, args: &[&str]) -> Value {
    let pid = pid.to_string();
    let out = Command::new(env!("CARGO_BIN_EXE_gotap"))
        .args(["goroutines", "-o", "json", "-p", &pid])
        .args(args)
        .output()
        .expect("run gotap");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "gotap {args:?}: {said}");
    serde_json::from_slice(&out.stdout).expect("one JSON object")
}

/// Waits until nobody runs or could.
fn settled(target: &Target) {
    let quiet = poll(LATER, || {
        let states = gotap(target.pid(), &[])["by_status"].clone();
        states["running"].is_null() && states["runnable"].is_null()
    });
    assert!(quiet, "its goroutines park");
}

/// Without what tells of one moment, or of how the answer was found.
fn lasting(look: &Value) -> Value {
    let mut look = look.clone();
    for field in ["time", "goroutines"] {
        look[field] = Value::Null;
    }
    for group in look["groups"].as_array_mut().expect("groups") {
        assert!(group["wait_max_ns"].as_u64() > Some(0) || group["status"] != "waiting");
        group["wait_max_ns"] = Value::Null;
        group["sampled"] = Value::Null;
    }
    look
}

fn stack_has(one: &Value, function: &str) -> bool {
    let stack = one["stack"].as_array().expect("a stack");
    stack.iter().any(|frame| frame["func"] == function)
}

#[test]
fn folded_and_sampled_equals_every_one_and_every_stack() {
    for variant in [&[][..], &[Variant::Stripped, Variant::Pie]] {
        let fixture = Fixture::build("crowd", variant);
        println!("{}", fixture.label);
        let mut target = Target::start(&fixture, &[MANY, "quiet"]);
        let kinds = target.answer("ready", LATER);
        let total = target.ask("count");
        settled(&target);
        let pid = target.pid();
        let folded = gotap(pid, &[]);
        assert_eq!(folded["total"], total, "NumGoroutine");
        assert_eq!(
            (&folded["unreadable"], &folded["unstable"]),
            (&json!(0), &json!(0))
        );
        let sampled = |look: &Value| {
            let groups = look["groups"].as_array().expect("groups");
            groups.iter().any(|g| g["sampled"] == true)
        };
        assert!(sampled(&folded), "of so many a sample is read");
        let expected = lasting(&folded);
        for args in [
            &["--all-stacks"][..],
            &["--list"],
            &["--list", "--all-stacks"],
            &["--where", "goid > 0"],
        ] {
            let look = gotap(pid, args);
            for (name, value) in lasting(&look).as_object().expect("an object") {
                assert_eq!(value, &expected[name], "{name} with {args:?}");
            }
            let all = args.contains(&"--all-stacks");
            assert_eq!(sampled(&look), !all, "{args:?}");
            let Some(list) = look["goroutines"].as_array() else {
                continue;
            };
            assert_eq!(json!(list.len()), total);
            let numbers: Vec<u64> = list.iter().filter_map(|g| g["goid"].as_u64()).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "each once, in order");
            let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
            for one in list {
                if let Some(reason) = one["reason"].as_str() {
                    *reasons.entry(reason).or_default() += 1;
                }
                assert!(one["user"].is_string(), "{one}");
                let mutex = one["reason"] == "sync.Mutex.Lock";
                assert_eq!(one["blocked_on"]["kind"] == "mutex", mutex, "{one}");
            }
            assert_eq!(json!(reasons), look["by_reason"]);
            if all {
                for (kind, count) in kinds.as_object().expect("kinds") {
                    let end = format!("main.{kind}");
                    let found = list.iter().filter(|g| stack_has(g, &end)).count();
                    assert_eq!(json!(found), *count, "{kind}");
                }
            }
        }
        assert!(target.answers());
    }
}

#[test]
fn a_mutex_that_very_many_wait_for_is_told_with_their_number() {
    let fixture = Fixture::build("states", &[Variant::Stripped]);
    let mut target = Target::start(&fixture, &["mutex", "12000"]);
    target.answer("holder", LATER);
    let at = target.answer("ready", LATER);
    let at = at.as_str().expect("an address");
    for args in [
        &[][..],
        &["--all-stacks"],
        &["--list"],
        &["--list", "--all-stacks"],
        &["--consistent"],
        &["--consistent", "--list"],
    ] {
        let look = gotap(target.pid(), args);
        let verdict = look["verdict"].as_str().expect("a verdict");
        let begin = format!("12,000 goroutines wait for the mutex at {at}, first at ");
        assert!(verdict.starts_with(&begin), "{args:?}: {verdict}");
        let waiting = look["goroutines"].as_array().map(|list| {
            let on = list.iter().map(|g| &g["blocked_on"]);
            on.filter(|on| on["kind"] == "mutex" && on["address"] == at)
                .count()
        });
        assert!(waiting.is_none_or(|n| n == 12_000), "{args:?}: {waiting:?}");
    }
}
