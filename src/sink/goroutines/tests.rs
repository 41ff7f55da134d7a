//! What is written of made-up looks.

use std::num::NonZeroU64;

use crate::golang::gs::Status;
use crate::survey::group::{By, groups};
use crate::survey::{Entry, Kind, Line, StackState, Survey, Wait};

use super::{json, profile, table, traceback};

fn survey(depth: usize) -> Survey {
    let mut survey = Survey {
        go_version: "go1.26.8".to_owned(),
        ..Survey::default()
    };
    let names = &mut survey.names;
    let line = |place, inlined| Line {
        place,
        inlined,
        hidden: false,
        offset: 0x1d,
        pc: 0x401000,
    };
    let park = line(
        names.place("runtime.gopark", "/go/src/runtime/proc.go", 460),
        false,
    );
    let small = line(
        names.place("main.small[go.shape.int]", "/src/m.go", 7),
        true,
    );
    let deep = line(names.place("main.deep", "/src/m.go", 12), false);
    let exit = line(
        names.place("runtime.goexit", "/go/src/runtime/asm.s", 9),
        false,
    );
    let mut lines = vec![park, small];
    lines.extend(std::iter::repeat_n(deep, depth));
    lines.push(exit);
    let stack = names.stack(lines);
    let created = names.place("main.main", "/src/m.go", 30);
    let kind = Kind {
        created: Some(created),
        created_offset: 0x25,
        locked: true,
        stack_state: StackState::Whole,
        stack: Some(stack),
        user: Some(small.place),
        func: Some(small.place),
        ..Kind::new(Status::Waiting, "chan receive".into())
    };
    survey.goroutines.push(Entry {
        wait: Some(Wait::AtLeast(125_000_000_000)),
        parent: NonZeroU64::new(1),
        args: Some(vec!["0x1"; depth + 3].join("\n").into()),
        ..Entry::new(7, kind.into())
    });
    survey
}

fn text(depth: usize, minor: u32) -> String {
    let survey = survey(depth);
    let list: Vec<&Entry> = survey.goroutines.iter().collect();
    let mut out = Vec::new();
    traceback::write(&mut out, &survey, Some(minor), &list).expect("memory");
    String::from_utf8(out).expect("text")
}

#[test]
fn the_runtimes_own_text() {
    assert_eq!(
        text(1, 26),
        "goroutine 7 [chan receive, 2 minutes, locked to thread]:\n\
         main.small[...](...)\n\t/src/m.go:7\n\
         main.deep(0x1)\n\t/src/m.go:12 +0x1d\n\
         created by main.main in goroutine 1\n\t/src/m.go:30 +0x25\n"
    );
}

#[test]
fn deep_stacks_are_cut_as_the_release_cuts_them() {
    let new = text(200, 26);
    assert!(new.contains("\n...101 frames elided...\n"), "{new}");
    assert_eq!(new.matches("main.deep(").count(), 99);
    let old = text(200, 19);
    // 99 of 100 frames of the machine and one inlined: printed are 100.
    assert!(old.contains("\n...additional frames elided...\n"), "{old}");
    assert_eq!(
        old.matches("main.deep(").count(),
        99,
        "runtime.gopark counts"
    );
    assert!(!text(50, 26).contains("elided"));
}

#[test]
fn json_has_the_names_of_the_table() {
    let survey = survey(1);
    let all = groups(&survey, By::All, &survey.goroutines);
    let list: Vec<&Entry> = survey.goroutines.iter().collect();
    let beside = json::Beside {
        pid: Some(1),
        groups: &all,
        verdict: None,
    };
    let mut out = Vec::new();
    json::write(&mut out, &survey, &beside, Some(&list)).expect("memory");
    let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(value["total"], 1);
    assert_eq!(value["groups"][0]["created_line"], 30);
    let one = value["goroutines"][0].as_object().expect("an object");
    assert_eq!(one["wait_kind"], "at_least");
    for row in crate::survey::facts::GOROUTINE_FACTS {
        // `wait` and `deadline` are in nanoseconds there; the frame's place and
        // the address lie inside `stack` and `blocked_on`.
        let inside = ["wait", "deadline", "file", "line", "address"];
        assert!(
            one.contains_key(row.name) || inside.contains(&row.name),
            "{}",
            row.name
        );
    }
}

#[test]
fn the_table_shows_waits_as_lower_bounds() {
    let survey = survey(1);
    let all = groups(&survey, By::All, &survey.goroutines);
    let mut out = Vec::new();
    table::head(&mut out, &survey, Some("nothing")).expect("memory");
    table::groups(&mut out, &survey, &all, 10).expect("memory");
    let text = String::from_utf8(out).expect("text");
    assert!(text.contains("≥ 2m5s"), "{text}");
    assert!(
        text.contains("main.small[go.shape.int] src/m.go:7"),
        "{text}"
    );
}

#[test]
fn a_profile_is_a_message_with_all_its_strings() {
    let survey = survey(1);
    let list: Vec<&Entry> = survey.goroutines.iter().collect();
    let bytes = profile::encode(&survey, &list);
    for text in ["goroutine", "count", "main.deep", "runtime.goexit", "state"] {
        let found = bytes.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(found, "{text}");
    }
}
