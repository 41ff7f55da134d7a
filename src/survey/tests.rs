//! Groups and verdicts of made-up programs.

use std::net::SocketAddr;
use std::sync::Arc;

use super::compare::{Sightings, growth};
use super::facts::{Asked, GOROUTINE_FACTS, GoroutineNames};
use super::fold::Fold;
use super::group::{By, groups};
use super::names::{is_standard, package};
use super::verdict::{short, span, thousands, verdict};
use super::*;
use crate::script::compile_condition;

fn entry(goid: u64, status: Status, reason: &str) -> Entry {
    let mut kind = Kind::new(status, reason.into());
    kind.stack_state = StackState::Whole;
    Entry::new(goid, kind.into())
}

/// The same, made at a place.
fn created(site: PlaceId, mut one: Entry) -> Entry {
    one.created = Some(site);
    one
}

/// The same, in a frame of the program's own.
fn inside(place: PlaceId, mut one: Entry) -> Entry {
    one.user = Some(place);
    one
}

fn reader(goid: u64, peer: &str, minutes: u64) -> Entry {
    let remote: SocketAddr = peer.parse().expect("an address");
    Entry {
        wait: (minutes > 0).then_some(Wait::AtLeast(minutes * 60_000_000_000)),
        net: Some(Box::new(Net {
            fd: Some(goid as i64 + 2),
            network: Some("tcp".into()),
            remote: Some(Endpoint::Inet(remote, "".into())),
            write: Some(false),
            ..Net::default()
        })),
        ..entry(goid, Status::Waiting, "IO wait")
    }
}

fn survey(goroutines: Vec<Entry>) -> Survey {
    Survey {
        goroutines,
        ..Survey::default()
    }
}

#[test]
fn most_wait_for_one_peer() {
    let mut looked = survey(Vec::new());
    let site = looked.names.place("db.Open", "/src/shop/db/pool.go", 88);
    for goid in 1..=30 {
        looked
            .goroutines
            .push(created(site, reader(goid, "10.0.0.7:5432", goid / 2)));
    }
    looked.goroutines.push(entry(31, Status::Running, ""));
    assert_eq!(
        verdict(&looked).as_deref(),
        Some(
            "30 of 31 goroutines wait to read from 10.0.0.7:5432, the oldest for 15 min or more; \
             created at db/pool.go:88"
        )
    );
    let fds = looked.descriptors();
    assert_eq!(fds.len(), 30);
    assert_eq!((fds[0].fd, fds[0].readers.as_slice()), (3, &[1][..]));
}

#[test]
fn no_evidence_no_verdict() {
    assert_eq!(verdict(&survey(Vec::new())), None);
    let mixed = vec![
        reader(1, "10.0.0.7:5432", 1),
        entry(2, Status::Waiting, "sleep"),
        entry(3, Status::Runnable, ""),
    ];
    assert_eq!(verdict(&survey(mixed)), None);
}

#[test]
fn a_deadlock_needs_everybody() {
    let stuck: Vec<Entry> = (1..=3)
        .map(|g| entry(g, Status::Waiting, "chan receive"))
        .collect();
    let text = verdict(&survey(stuck.clone())).expect("a deadlock");
    assert!(
        text.starts_with("nothing can run: all 3 goroutines"),
        "{text}"
    );
    let mut with_reader = stuck;
    with_reader.push(reader(4, "10.0.0.7:5432", 1));
    assert_eq!(verdict(&survey(with_reader)), None);
}

#[test]
fn a_mutex_that_many_wait_for_and_who_may_hold_it() {
    let mut looked = survey(Vec::new());
    let at = looked.names.place("store.Get", "/src/app/store.go", 51);
    let held = looked.names.place("store.Put", "/src/app/store.go", 60);
    for goid in 1..=20 {
        looked.goroutines.push(Entry {
            blocked_on: Some(Box::new(BlockedOn::Lock(Lock::Mutex, 0xc000123450))),
            ..inside(at, entry(goid, Status::Waiting, "sync.Mutex.Lock"))
        });
    }
    looked
        .goroutines
        .push(inside(held, entry(77, Status::Waiting, "IO wait")));
    looked.candidates = vec![77];
    assert_eq!(
        verdict(&looked).as_deref(),
        Some(
            "20 goroutines wait for the mutex at 0xc000123450, first at app/store.go:51; \
             candidates to hold it: goroutine 77 (in app/store.go:60)"
        )
    );
}

#[test]
fn groups_are_largest_first_and_say_what_they_share() {
    let mut all: Vec<Entry> = (1..=3).map(|g| reader(g, "10.0.0.7:5432", g)).collect();
    all.push(reader(4, "10.0.0.8:5432", 0));
    all.push(entry(5, Status::Runnable, ""));
    let looked = survey(all);
    let found = groups(&looked, By::All, &looked.goroutines);
    assert_eq!(found.iter().map(|g| g.count).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(found[0].doing(), "IO wait");
    assert!(found[0].peer.is_mixed());
    assert_eq!(found[0].wait_max, Some(Wait::AtLeast(180_000_000_000)));
    let found = groups(
        &looked,
        By::Peer,
        looked
            .goroutines
            .iter()
            .filter(|e| e.class == Class::Network),
    );
    let peers: Vec<_> = found
        .iter()
        .map(|g| {
            let peer = g.peer.get().and_then(Option::as_ref);
            (g.count, peer.map(ToString::to_string))
        })
        .collect();
    assert_eq!(
        peers,
        [
            (3, Some("10.0.0.7:5432".to_owned())),
            (1, Some("10.0.0.8:5432".to_owned()))
        ]
    );
}

#[test]
fn every_fact_has_a_row_and_an_unknown_wait_matches_nothing() {
    let looked = survey(vec![
        reader(1, "10.0.0.7:5432", 7),
        reader(2, "10.0.0.7:1", 0),
    ]);
    let holds = |text: &str, at: usize| {
        let checked = compile_condition(text, &GoroutineNames).expect(text);
        checked
            .holds(&Asked {
                entry: &looked.goroutines[at],
                names: &looked.names,
            })
            .expect(text)
    };
    assert!(holds(r#"reason == "IO wait" && wait > 5m"#, 0));
    assert!(!holds("wait > 5m", 1));
    assert!(!holds("wait < 5m", 1));
    assert!(holds(r#"remote =~ "5432$" && class == "network""#, 0));
    assert!(holds(r#"mode == "read" && fd == 3"#, 0));
    for row in GOROUTINE_FACTS {
        let checked = compile_condition(&format!("{} != nil", row.name), &GoroutineNames);
        assert!(checked.is_ok(), "{}", row.name);
    }
    assert!(compile_condition(r#"class == "netwrok""#, &GoroutineNames).is_err());
}

#[test]
fn growth_by_creation_site() {
    let mut before = survey(vec![entry(1, Status::Running, "")]);
    let mut after = survey(vec![entry(1, Status::Running, "")]);
    let a = before.names.place("main.leak", "m.go", 7);
    before
        .goroutines
        .push(created(a, entry(2, Status::Waiting, "chan send")));
    let a = after.names.place("main.leak", "m.go", 7);
    for goid in [2, 5, 6] {
        after
            .goroutines
            .push(created(a, entry(goid, Status::Waiting, "chan send")));
    }
    let found = growth(&before, &after);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].grown(), found[0].after, found[0].new), (2, 3, 2));
}

#[test]
fn what_was_seen_between_looks_is_called_observed() {
    let mut sightings = Sightings::default();
    let mut first = survey(vec![entry(1, Status::Waiting, "chan send")]);
    sightings.note(&mut first, 100);
    assert_eq!(first.goroutines[0].wait, None);
    let mut second = first.clone();
    sightings.note(&mut second, 900);
    assert_eq!(second.goroutines[0].wait, Some(Wait::Observed(800)));
    second.goroutines[0].at = 1;
    second.goroutines[0].wait = None;
    sightings.note(&mut second, 1000);
    assert_eq!(second.goroutines[0].wait, None);
}

#[test]
fn packages_of_functions() {
    assert_eq!(package("net/http.(*conn).serve"), "net/http");
    assert_eq!(package("main.main.func1"), "main");
    assert_eq!(package("gopkg.in/yaml.v3.Unmarshal"), "gopkg.in/yaml");
    assert_eq!(
        package("a.org/x.F[go.shape.struct { b.org/y.T }]"),
        "a.org/x"
    );
    let modules = ["parked".to_owned()];
    assert!(is_standard("net/http", &modules));
    assert!(!is_standard("parked/inner", &modules));
    assert!(!is_standard("main", &modules));
    assert!(!is_standard("github.com/x/y", &modules));
}

#[test]
fn words_for_people() {
    assert_eq!(thousands(9812), "9,812");
    assert_eq!(thousands(12), "12");
    assert_eq!(short("/a/b/c.go"), "b/c.go");
    assert_eq!(short("c.go"), "c.go");
    assert_eq!(span(14 * 60_000_000_000), "14 min");
    assert_eq!(span(1_500_000_000), "1.5 s");
    assert_eq!(Arc::<str>::from("x").len(), 1);
}

/// A made-up program: every goroutine by itself.
fn made_up(seed: u64) -> Survey {
    let mut state = seed;
    let mut next = |below: u64| {
        // Knuth's MMIX generator; its high bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut looked = survey(Vec::new());
    let places: Vec<PlaceId> = (1..6)
        .map(|line| looked.names.place("main.f", "/src/m.go", line))
        .collect();
    let many = 200 + next(400);
    for goid in 1..=many {
        let place = |at: u64| places.get(at as usize).copied();
        let mut one = match next(5 + seed % 3) {
            0 => reader(goid, &format!("10.0.0.{}:5432", next(2)), 0),
            1 => entry(goid, Status::Runnable, ""),
            2 => entry(goid, Status::Waiting, "select"),
            _ => entry(goid, Status::Waiting, "sync.Mutex.Lock"),
        };
        if &*one.reason == "sync.Mutex.Lock" {
            let lock = BlockedOn::Lock(Lock::Mutex, 0xc000_0000 + 8 * next(2));
            one.blocked_on = Some(Box::new(lock));
        }
        one.created = place(next(6));
        one.user = place(next(6));
        // No two are equal.
        one.wait = (next(3) > 0).then(|| Wait::AtLeast(next(1 << 20) << 12 | goid));
        looked.goroutines.push(one);
    }
    looked
}

#[test]
fn folded_goroutines_say_what_they_say_one_by_one() {
    for seed in 0..300 {
        let single = made_up(seed);
        let mut folded = Survey {
            goroutines: Vec::new(),
            ..single.clone()
        };
        let mut fold = Fold::default();
        for one in &single.goroutines {
            fold.add(&mut folded.goroutines, one.clone());
        }
        assert!(folded.goroutines.len() < single.goroutines.len());
        assert_eq!(folded.total(), single.total());
        assert_eq!(folded.counts(), single.counts());
        assert_eq!(folded.descriptors(), single.descriptors());
        assert_eq!(verdict(&folded), verdict(&single), "seed {seed}");
        let all = [
            By::All,
            By::Created,
            By::State,
            By::Reason,
            By::Func,
            By::User,
            By::Stack,
            By::Label,
            By::Peer,
        ];
        for by in all {
            let told = |survey: &Survey| format!("{:?}", groups(survey, by, &survey.goroutines));
            assert_eq!(told(&folded), told(&single), "seed {seed}, {by:?}");
        }
    }
}
