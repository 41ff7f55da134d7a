//! `gotap memstats`, `stats` and `version` against what the program itself
//! says, figure by figure. Releases: `GOTAP_TEST_GO`.

mod support;

use serde_json::Value;
use support::{Fixture, Target, Toolchain, Variant, gotap};

/// Times a program that should be quiet is looked at until it was: the
/// scavenger goes on for a while after a collection.
const LOOKS: usize = 40;

fn start(fixture: &Fixture, args: &[&str]) -> Target {
    let mut target = Target::start(fixture, args);
    target.expect_line("ready ");
    // What is made once by the first answer, is made.
    hold(&mut target);
    print(&mut target);
    target
}

fn hold(target: &mut Target) {
    target.tell("hold");
    target.expect_line("held");
}

fn print(target: &mut Target) -> Value {
    target.ask("print")
}

fn look(target: &Target) -> Value {
    let pid = target.pid().to_string();
    let outcome = gotap::run(&["memstats", "-o", "json", "-p", &pid]);
    outcome.must_succeed();
    let object = outcome.records().remove(0);
    assert_eq!(object["approximate"], true, "{object}");
    assert_eq!(object["pid"], target.pid());
    object
}

/// Looks before and after the program does; what gotap saw twice must be what
/// the program saw. Gives NextGC.
fn compare(fixture: &Fixture, args: &[&str]) -> u64 {
    let label = format!("{} {args:?}", fixture.label);
    let mut target = start(fixture, args);
    for _ in 0..LOOKS {
        let before = look(&target);
        hold(&mut target);
        let after = look(&target);
        let said = print(&mut target);
        if before["memstats"] != after["memstats"] {
            continue;
        }
        assert_eq!(before["torn"], Value::Array(Vec::new()), "{label}");
        assert_eq!(before["go_version"], said["version"], "{label}");
        same(&label, &before["memstats"], &said["stats"]);
        return said["stats"]["NextGC"].as_u64().expect("a number");
    }
    panic!("{label}: not quiet in {LOOKS} looks");
}

fn same(label: &str, found: &Value, said: &Value) {
    let (found, said) = (found.as_object().unwrap(), said.as_object().unwrap());
    let names: Vec<&String> = said.keys().collect();
    assert_eq!(names, found.keys().collect::<Vec<_>>(), "{label}");
    let wrong: Vec<String> = said
        .iter()
        .filter(|(name, value)| found[*name] != **value)
        .map(|(name, value)| format!("{name}: gotap {}, Go {value}", found[name]))
        .collect();
    assert!(wrong.is_empty(), "{label}:\n{}", wrong.join("\n"));
    assert!(said["NumGC"].as_u64() >= Some(2), "{label}: it collected");
    assert!(said["BySize"].as_array().unwrap().len() == 61, "{label}");
}

fn everywhere(check: impl Fn(&Fixture)) {
    for toolchain in Toolchain::under_test() {
        for variants in [&[][..], &[Variant::Stripped]] {
            let fixture = Fixture::build_with("memstats", variants, &toolchain);
            println!("{}", fixture.label);
            check(&fixture);
        }
    }
}

#[test]
fn every_figure_is_what_readmemstats_gives() {
    everywhere(|fixture| assert!(compare(fixture, &[]) > 1 << 60));
}

#[test]
fn so_it_is_under_a_memory_limit_and_with_collections_on() {
    everywhere(|fixture| {
        let by_limit = compare(fixture, &["limit"]);
        assert!(by_limit > 32 << 20 && by_limit < 64 << 20, "{by_limit}");
        let by_percent = compare(fixture, &["gc"]);
        assert!(by_percent < 32 << 20, "{by_percent}");
    });
}

#[test]
fn so_it_is_of_other_builds() {
    for toolchain in Toolchain::under_test() {
        for variant in [Variant::Pie, Variant::NoOpt, Variant::Race] {
            let fixture = Fixture::build_with("memstats", &[variant], &toolchain);
            println!("{}", fixture.label);
            assert!(compare(&fixture, &[]) > 1 << 60);
        }
    }
}

#[test]
fn goroutines_threads_and_cpus_are_what_the_program_counts() {
    everywhere(|fixture| {
        let mut target = start(fixture, &[]);
        let pid = target.pid().to_string();
        let said = print(&mut target);
        let outcome = gotap::run(&["stats", "-o", "json", "-p", &pid]);
        let found = outcome.must_succeed().records().remove(0);
        for name in ["goroutines", "gomaxprocs", "cpus", "threads"] {
            assert_eq!(found[name], said[name], "{}: {name}", fixture.label);
        }
        let outcome = gotap::run(&["stats", "-p", &pid]);
        let lines = format!(
            "goroutines: {}\nOS threads: {}\nGOMAXPROCS: {}\nnum CPU: {}\n",
            said["goroutines"], said["threads"], said["gomaxprocs"], said["cpus"]
        );
        assert_eq!(outcome.text(), lines, "{}", fixture.label);
        let outcome = gotap::run(&["version", "-p", &pid]);
        assert_eq!(outcome.text().trim_end(), said["version"]);
    });
}

#[test]
fn the_lines_are_those_of_gops() {
    let fixture = Fixture::build("memstats", &[]);
    let target = start(&fixture, &[]);
    let pid = target.pid().to_string();
    let outcome = gotap::run(&["memstats", "-p", &pid]);
    let text = outcome.must_succeed().text();
    let names: Vec<&str> = text.lines().filter_map(|l| l.split(": ").next()).collect();
    let gops = "alloc total-alloc sys lookups mallocs frees heap-alloc heap-sys heap-idle \
                heap-in-use heap-released heap-objects stack-in-use stack-sys \
                stack-mspan-inuse stack-mspan-sys stack-mcache-inuse stack-mcache-sys \
                other-sys gc-sys next-gc last-gc gc-pause-total gc-pause gc-pause-end \
                num-gc num-forced-gc gc-cpu-fraction enable-gc debug-gc";
    assert_eq!(names, gops.split_whitespace().collect::<Vec<_>>());
    assert!(
        outcome.errors().contains("approximate"),
        "{}",
        outcome.errors()
    );
}

#[test]
fn a_program_that_never_rests_is_read_all_the_same() {
    let fixture = Fixture::build("echo", &[]);
    let (server, addr) = Target::echo_server(&fixture, &[]);
    let mut load = Target::echo_load(
        &fixture,
        &addr,
        &["-conns", "4", "-calls", "200000", "-gate"],
    );
    load.tell("go");
    for _ in 0..20 {
        let found = look(&server);
        let stats = &found["memstats"];
        assert!(
            stats["Sys"].as_u64() > stats["HeapInuse"].as_u64(),
            "{stats}"
        );
        assert!(
            stats["Mallocs"].as_u64() > stats["Frees"].as_u64(),
            "{stats}"
        );
    }
}

#[test]
fn no_such_process_and_no_subject() {
    let outcome = gotap::run(&["memstats", "-p", "999999999"]);
    assert!(
        outcome.errors().contains("no process with pid"),
        "{}",
        outcome.errors()
    );
    let outcome = gotap::run(&["memstats"]);
    assert_eq!(outcome.status.code(), Some(2));
    let outcome = gotap::run(&["stats", "-p", "1", "--core", "x"]);
    assert_eq!(outcome.status.code(), Some(2));
    let outcome = gotap::run(&["version", "--core", "/nonexistent/core"]);
    assert!(outcome.errors().contains("/nonexistent/core"));
}
