//! Every way a call can end, with what Go itself says of the numbers.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::scenario::{ends_by_count, number, only, text};
use support::{Fixture, Gotap, LATER, Outcome, SOON, Target, Variant, oracle};

/// Runs one case of `ends` under trace; the calls, and the program's answer.
fn trace_case(variants: &[Variant], patterns: &[&str], case: &str) -> (Vec<Value>, Value) {
    let ends = Fixture::build("ends", variants);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let before = oracle::footprint(target.pid());
    let gotap = Gotap::trace_json(target.pid(), patterns, &[]);
    target.tell(case);
    let answer = target.answer(case, LATER);
    let outcome = gotap.stop();
    let calls = outcome.must_succeed().calls();
    assert_eq!(outcome.tally().lost, 0);
    assert_eq!(outcome.tally().seen, calls.len() as u64);
    assert!(target.is_alive());
    oracle::assert_clean(target.pid(), &before, case);
    (calls, answer)
}

fn of<'a>(calls: &'a [Value], func: &str) -> Vec<&'a Value> {
    calls.iter().filter(|c| c["func"] == func).collect()
}

fn one<'a>(calls: &'a [Value], func: &str) -> &'a Value {
    let found = of(calls, func);
    assert_eq!(found.len(), 1, "calls of {func} in {calls:#?}");
    found[0]
}

#[test]
fn on_any_build() {
    for variants in [
        &[][..],
        &[Variant::Stripped],
        &[Variant::Pie],
        &[Variant::Cgo],
        &[Variant::NoOpt],
    ] {
        ends_by_count(&Fixture::build("ends", variants));
    }
}

#[test]
fn recursion_that_grows_the_stack() {
    let (calls, answer) = trace_case(&[], &["main.recurse"], "recurse");
    assert_eq!(calls.len(), 61);
    let mut by_argument = BTreeMap::new();
    for call in &calls {
        assert_eq!(call["end"], "return", "{call}");
        let n = only(call, "args").as_i64().expect("n");
        let result = only(call, "results").as_i64().expect("a result");
        assert_eq!(result, n * (n + 1) / 2, "{call}");
        assert!(by_argument.insert(n, call).is_none(), "twice: {call}");
    }
    assert_eq!(answer["result"], 1830);
    // Each happened in the one before it.
    for n in 0..60 {
        assert_eq!(
            by_argument[&n]["parent"],
            by_argument[&(n + 1)]["id"],
            "n={n}"
        );
    }
    assert!(by_argument[&60]["parent"].is_null());
}

#[test]
fn stacks_that_grow_side_by_side() {
    let (calls, answer) = trace_case(&[], &["main.recurse"], "deep");
    assert_eq!(calls.len() as u64, number(&answer, "calls"));
    assert!(calls.iter().all(|c| c["end"] == "return"));
}

#[test]
fn a_stack_that_moved_between_entry_and_return() {
    let (calls, answer) = trace_case(&[], &["main.movedOuter"], "moved");
    assert_eq!(answer["moved"], true, "the fixture must move its stack");
    let call = one(&calls, "main.movedOuter");
    assert_eq!(call["end"], "return");
    assert_eq!(call["args"], json!({"n": 7, "s": "seven"}));
    assert_ne!(call["results"]["before"], call["results"]["after"]);
}

#[test]
fn a_panic_recovered_in_the_fourth_frame() {
    let patterns = [r"^main\.unwound", "main.recoverInFourth"];
    let (calls, answer) = trace_case(&[], &patterns, "panic");
    assert_eq!(calls.len(), 4, "{calls:#?}");
    for func in ["main.unwoundOne", "main.unwoundTwo", "main.unwoundThree"] {
        let call = one(&calls, func);
        assert_eq!(call["end"], "panic", "{call}");
        assert!(
            call.get("results")
                .is_none_or(|r| r.as_object().is_none_or(serde_json::Map::is_empty))
        );
    }
    let fourth = one(&calls, "main.recoverInFourth");
    assert_eq!(fourth["end"], "return");
    assert_eq!(fourth["results"]["result"], answer["text"]);
}

#[test]
fn a_panic_in_a_deferred_call() {
    let patterns = [
        "main.recoverAgain",
        "main.repanicInner",
        "main.repanicDeferred",
    ];
    let (calls, answer) = trace_case(&[], &patterns, "repanic");
    assert_eq!(one(&calls, "main.repanicInner")["end"], "panic");
    assert_eq!(one(&calls, "main.repanicDeferred")["end"], "panic");
    let outer = one(&calls, "main.recoverAgain");
    assert_eq!(outer["end"], "return");
    assert_eq!(outer["results"]["result"], answer["text"]);
}

#[test]
fn goexit_from_nested_frames() {
    let (calls, _) = trace_case(&[], &[r"^main\.exit(Outer|Middle|Inner)$"], "goexit");
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|c| c["end"] == "exit"), "{calls:#?}");
}

/// Neither who panics nor who recovers is traced: the call between them ends
/// when the panic is recovered, not when its goroutine is next heard of.
#[test]
fn a_panic_through_the_only_traced_frame() {
    for variants in [&[][..], &[Variant::Stripped]] {
        let ends = Fixture::build("ends", variants);
        let mut target = Target::start(&ends, &[]);
        target.expect_line("ready ");
        let patterns = ["main.unwoundTwo", "main.exitMiddle", "main.repanicInner"];
        let mut gotap = Gotap::trace_json(target.pid(), &patterns, &[]);
        for (i, case) in ["panic", "goexit", "repanic", "panic"].iter().enumerate() {
            target.ask(case);
            gotap.wait_for_lines(i + 1, SOON);
        }
        let outcome = gotap.stop();
        let calls = outcome.must_succeed().calls();
        let found: Vec<(&str, &str)> = calls
            .iter()
            .map(|c| (text(c, "func"), text(c, "end")))
            .collect();
        let expected = [
            ("main.unwoundTwo", "panic"),
            ("main.exitMiddle", "exit"),
            ("main.repanicInner", "panic"),
            ("main.unwoundTwo", "panic"),
        ];
        assert_eq!(found, expected, "{}", ends.label);
        assert_eq!(outcome.tally().open, 0);
    }
}

#[test]
fn results_that_a_defer_changed() {
    let (calls, answer) = trace_case(&[], &["main.deferChanges"], "defer");
    let call = one(&calls, "main.deferChanges");
    assert_eq!(call["end"], "return");
    assert_eq!(call["results"]["result"], answer["n"]);
    assert_eq!(call["err"], answer["err"]);

    let (calls, answer) = trace_case(&[], &["main.deferRecovers"], "deferrecover");
    let call = one(&calls, "main.deferRecovers");
    assert_eq!(call["end"], "return");
    assert_eq!(call["results"]["result"], answer["n"]);
    assert_eq!(call["err"], answer["err"]);
}

#[test]
fn calls_open_at_the_end_of_tracing() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let before = oracle::footprint(target.pid());
    let gotap = Gotap::trace_json(target.pid(), &["main.blocksOn"], &[]);
    assert_eq!(target.ask("block")["open"], 5);
    let outcome = gotap.stop();
    let calls = outcome.must_succeed().calls();
    assert_eq!(calls.len(), 5);
    let numbers: BTreeSet<i64> = calls
        .iter()
        .map(|call| {
            assert_eq!(call["end"], "open", "{call}");
            call["args"]["i"].as_i64().expect("i")
        })
        .collect();
    assert_eq!(numbers, (0..5).collect());
    assert_eq!((outcome.tally().seen, outcome.tally().open), (5, 5));
    assert_eq!(target.ask("unblock")["closed"], 5);
    oracle::assert_clean(target.pid(), &before, "open calls");
}

/// They are found on their parked stacks and reported when they return.
#[test]
fn calls_open_when_tracing_began() {
    for variants in [&[][..], &[Variant::Stripped], &[Variant::Pie]] {
        let ends = Fixture::build("ends", variants);
        let mut target = Target::start(&ends, &[]);
        target.expect_line("ready ");
        assert_eq!(target.ask("block")["open"], 5);
        let gotap = Gotap::trace_json(target.pid(), &["main.blocksOn"], &[]);
        assert_eq!(target.ask("unblock")["closed"], 5);
        let outcome = gotap.stop();
        let calls = outcome.must_succeed().calls();
        assert_eq!(calls.len(), 5, "{}: {calls:#?}", ends.label);
        for call in &calls {
            assert_eq!(call["since_attach"], true, "{call}");
            assert_eq!(call["end"], "return", "{call}");
            assert!(call.get("dur_ns").is_none_or(Value::is_null), "{call}");
        }
        if variants.is_empty() {
            let results: BTreeSet<i64> = calls
                .iter()
                .map(|call| only(call, "results").as_i64().expect("a result"))
                .collect();
            assert_eq!(results, BTreeSet::from([0, 101, 202, 303, 404]));
        }
        assert_eq!(outcome.tally().open, 0);
    }
}

/// `--slow` reports a call that hangs while it hangs, once.
#[test]
fn a_call_that_hangs_is_reported() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let mut gotap = Gotap::trace_json(target.pid(), &["main.blocksOn"], &["--slow", "50ms"]);
    target.ask("block");
    gotap.wait_for_lines(5, SOON);
    target.ask("unblock");
    gotap.wait_for_lines(10, SOON);
    let calls = gotap.stop().calls();
    assert_eq!(calls.len(), 10, "{calls:#?}");
    let (open, ended): (Vec<&Value>, Vec<&Value>) = calls.iter().partition(|c| c["end"] == "open");
    assert_eq!((open.len(), ended.len()), (5, 5));
    let ids =
        |calls: &[&Value]| -> BTreeSet<u64> { calls.iter().map(|c| number(c, "id")).collect() };
    assert_eq!(ids(&open), ids(&ended), "the same calls");
    assert!(open.iter().all(|c| number(c, "dur_ns") >= 50_000_000));
}

#[test]
fn fifty_goroutines_with_a_thousand_calls_each() {
    for variants in [&[][..], &[Variant::Stripped]] {
        let (calls, answer) = trace_case(variants, &["main.hot"], "many");
        assert_eq!(calls.len(), 50_000);
        let mut by_goroutine: BTreeMap<u64, usize> = BTreeMap::new();
        for call in &calls {
            assert_eq!(call["end"], "return", "{call}");
            *by_goroutine.entry(number(call, "goid")).or_default() += 1;
        }
        assert_eq!(by_goroutine.len(), 50);
        assert!(
            by_goroutine.values().all(|n| *n == 1000),
            "{by_goroutine:?}"
        );
        if variants.is_empty() {
            let sum: u64 = calls
                .iter()
                .map(|call| only(call, "results").as_u64().expect("a result"))
                .sum();
            assert_eq!(sum, number(&answer, "sum"));
        }
    }
}

/// A promoted method's wrapper jumps to its method: two names, both ended by
/// one return.
#[test]
fn a_wrapper_that_jumps() {
    let patterns = ["main.(*inner).Add", "main.promoted.Add", "main.viaWrapper"];
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let gotap = Gotap::trace_json(target.pid(), &patterns, &[]);
    assert_eq!(target.ask("tail")["result"], 42);
    let outcome = gotap.stop();
    let calls = outcome.must_succeed().calls();
    assert_eq!(*only(one(&calls, "main.(*inner).Add"), "results"), 42);
    assert_eq!(*only(one(&calls, "main.viaWrapper"), "results"), 42);
    assert!(of(&calls, "main.promoted.Add").len() <= 1, "{calls:#?}");
    assert!(calls.iter().all(|c| c["end"] == "return"), "{calls:#?}");
    assert_eq!(outcome.tally().open, 0);
}

#[test]
fn a_loop_is_one_call() {
    let (calls, _) = trace_case(&[], &["main.countDown"], "loop");
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert_eq!(calls[0]["args"]["n"], 100);
}

#[test]
fn arguments_and_results_as_go_has_them() {
    let (calls, answer) = trace_case(&[], &[r"^main\..*(takes|returnsErrors|Method)"], "values");
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for call in &calls {
        *found.entry(text(call, "func")).or_default() += 1;
        assert_eq!(call["end"], "return", "{call}");
    }
    let expected = answer["calls"].as_object().expect("calls");
    let expected: BTreeMap<&str, u64> = expected
        .iter()
        .map(|(func, n)| (func.as_str(), n.as_u64().expect("a number")))
        .collect();
    assert_eq!(found, expected);

    let args = |func: &str| one(&calls, func)["args"].clone();
    let results = |func: &str| -> Vec<Value> {
        let call = one(&calls, func);
        let object = call["results"].as_object().expect("results");
        object.values().cloned().collect()
    };
    assert_eq!(
        args("main.takesInts"),
        json!({"a": -1, "b": -8, "c": -16, "d": -32, "e": -64})
    );
    assert_eq!(results("main.takesInts"), [json!(-9), json!(-112)]);
    assert_eq!(args("main.takesUints")["e"], json!(1_u64 << 63));
    assert_eq!(args("main.takesFloats")["a"], json!(1.5));
    assert_eq!(args("main.takesFloats")["b"], json!(0.25));
    assert_eq!(results("main.takesFloats"), [json!(3.5), json!(0.5)]);
    assert_eq!(args("main.takesString"), json!({"s": "hello", "empty": ""}));
    let string = &one(&calls, "main.takesString")["results"];
    assert_eq!(*string, json!({"result": "hello!", "n": 5}));
    assert_eq!(args("main.takesSlices")["ints"], json!([1, 2, 3]));
    assert_eq!(args("main.takesSlices")["words"], json!(["a", "b", "c"]));
    assert_eq!(
        args("main.takesSlices")["points"],
        json!([{"X": 3, "Y": 4, "Name": "p"}])
    );
    assert_eq!(
        results("main.takesStruct"),
        [json!({"X": 11, "Y": 22, "Name": "xorigin"})]
    );
    assert_eq!(args("main.takesBig")["b"]["Last"], "last");
    assert_eq!(args("main.takesBig")["n"], 100);
    assert_eq!(results("main.takesBig")[0]["A"], 101);
    let many = args("main.takesMany");
    assert_eq!((&many["a"], &many["k"]), (&json!(1), &json!(11)));
    assert_eq!(many["s"], "end");
    // Eleven results without names: r0 to r10.
    let many = &one(&calls, "main.takesMany")["results"];
    assert_eq!((&many["r0"], &many["r10"]), (&json!(11), &json!("end")));
    assert_eq!(args("main.takesArray")["two"], json!([6, 7]));
    assert_eq!(results("main.takesArray"), [json!([7, 11])]);
    assert_eq!(args("main.takesVariadic")["format"], "format");
    assert_eq!(args("main.takesBool")["a"], true);
    assert!(args("main.takesPointers")["n"].is_null());
    assert!(one(&calls, "main.takesContext")["err"].is_null());

    let mut errors: Vec<(u64, &Value)> = calls
        .iter()
        .filter(|c| c["func"] == "main.returnsErrors")
        .map(|c| (number(&c["results"], "n"), &c["err"]))
        .collect();
    errors.sort_by_key(|(n, _)| *n);
    assert!(errors[0].1.is_null());
    assert_eq!(errors[1].1, "EOF");
    assert_eq!(errors[2].1, "plain text");
    assert_eq!(errors[3].1, "wrapped: unexpected EOF");
    let own = errors[4].1.as_str().expect("a text");
    assert!(own.contains("main.custom{"), "{own}");
}

/// The program ends while calls are open: `exit`.
#[test]
fn calls_open_when_the_program_ends() {
    let ends = Fixture::build("ends", &[]);
    let mut target = Target::start(&ends, &[]);
    target.expect_line("ready ");
    let gotap = Gotap::trace_json(target.pid(), &["main.blocksOn"], &[]);
    target.ask("block");
    target.close_stdin(); // it ends then
    target.wait(SOON);
    let outcome: Outcome = gotap.finish(SOON);
    let calls = outcome.calls();
    assert_eq!(calls.len(), 5, "{calls:#?}");
    assert!(calls.iter().all(|c| c["end"] == "exit"), "{calls:#?}");
}

/// Frames of C lie between the calls; some run on threads that C has made.
#[test]
fn calls_through_c_and_back() {
    for variants in [&[Variant::Cgo][..], &[Variant::Cgo, Variant::Stripped]] {
        let fixture = Fixture::build("callbacks", variants);
        let mut target = Target::start(&fixture, &[]);
        target.expect_line("ready ");
        let before = oracle::footprint(target.pid());
        let patterns = ["main.nested", "main.panics", "main.recovers"];
        let gotap = Gotap::trace_json(target.pid(), &patterns, &[]);
        target.tell("run");
        let counts = target.answer("run", LATER);
        let outcome = gotap.stop();
        let calls = outcome.must_succeed().calls();
        let count = |func: &str, end: &str| {
            let ended = of(&calls, func);
            ended.iter().filter(|c| c["end"] == end).count() as u64
        };
        let label = &fixture.label;
        assert_eq!(
            count("main.nested", "return"),
            number(&counts, "nested"),
            "{label}"
        );
        assert_eq!(
            count("main.panics", "panic"),
            number(&counts, "panics"),
            "{label}"
        );
        assert_eq!(
            count("main.recovers", "return"),
            number(&counts, "recovers"),
            "{label}"
        );
        assert_eq!(outcome.tally().seen, calls.len() as u64);
        assert_eq!(calls.len() as u64, 3000 + 5);
        assert!(target.is_alive());
        oracle::assert_clean(target.pid(), &before, label);
    }
}
