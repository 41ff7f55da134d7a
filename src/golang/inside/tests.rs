use super::*;
use crate::arch::prologue::parse_stack_check;
use crate::golang::testing::{Flavour, Running};
use std::time::{Duration, Instant};

fn traced(image: &Image, names: &[&str]) -> Vec<Traced> {
    let mut all: Vec<Traced> = names
        .iter()
        .map(|name| {
            let f = image.functions().by_name(name)[0];
            let after = parse_stack_check(f.code().unwrap()).map_or(0, |c| c.len as u64);
            Traced {
                entry: f.entry(),
                end: f.end(),
                site: f.entry().offset(after),
            }
        })
        .collect();
    all.sort_by_key(|t| t.entry);
    all
}

fn check(flavour: Flavour) {
    let running = Running::start("parked", flavour);
    let layouts = Layouts::resolve(running.image.go_version().minor(), None);
    let globals = Globals::resolve(&running.image);
    let names = ["net.(*conn).Read", "net.(*TCPListener).Accept", "main.deep"];
    let traced = traced(&running.image, &names);
    let search = Search {
        image: &running.image,
        bias: running.bias,
        memory: &running.memory,
        layouts: &layouts,
        globals: &globals,
        traced: &traced,
        threads: &[],
    };
    let mut unwinder = Unwinder::new();
    // The one that never parks cannot be looked at; all others come to rest.
    let spinning: u64 = running
        .said("goid")
        .into_iter()
        .find(|w| w[2] == "preempted")
        .unwrap()[1]
        .parse()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let found = loop {
        let found = search.run(&mut unwinder).unwrap();
        if found.unseen == [spinning] {
            break found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
    };
    let name_of = |c: &Inside| {
        let f = running.image.functions().find(traced[c.traced].entry);
        f.unwrap().name().into_owned()
    };
    let with_role = |role: &str| -> Vec<Inside> {
        let goid: u64 = running
            .said("goid")
            .iter()
            .find(|w| w[2..].join(" ") == role)
            .unwrap()[1]
            .parse()
            .unwrap();
        found
            .calls
            .iter()
            .filter(|c| c.goid == goid)
            .copied()
            .collect()
    };
    for role in ["read tcp4", "read tcp6", "read unix", "tls read"] {
        let calls = with_role(role);
        assert_eq!(calls.len(), 1, "{role}: {calls:?}");
        assert_eq!(name_of(&calls[0]), "net.(*conn).Read");
        assert!(calls[0].offset > 0 && calls[0].offset < 1 << 16);
        let wait = calls[0].wait.unwrap();
        assert!(!wait.write);
        // Both know the fd and the netFD.
        let netfd = format!("{:#x}", wait.poll_fd.unwrap().0);
        if role != "tls read" {
            let told = running
                .said("conn")
                .into_iter()
                .find(|w| w[1] == "pollfd" && w[2] == netfd)
                .unwrap_or_else(|| panic!("{role}: no {netfd}"));
            assert_eq!(told[3], wait.fd.to_string());
        }
    }
    let calls = with_role("accept");
    assert_eq!(calls.len(), 1);
    assert_eq!(name_of(&calls[0]), "net.(*TCPListener).Accept");
    let listener = running
        .said("conn")
        .into_iter()
        .find(|w| w[1] == "tcplistener")
        .unwrap();
    assert_eq!(calls[0].wait.unwrap().fd.to_string(), listener[3]);
    // Recursion: each depth has its own offset, growing outwards.
    let calls = with_role("deep read");
    assert_eq!(calls.len(), 42, "{calls:?}");
    assert!(calls.is_sorted_by(|a, b| a.offset > b.offset), "{calls:?}");
    assert!(with_role("sleep").is_empty());
}

#[test]
fn calls_under_way_are_found() {
    check(Flavour::Plain);
}

#[test]
fn calls_under_way_in_a_stripped_program() {
    check(Flavour::Stripped);
}

#[test]
fn calls_under_way_in_an_unoptimised_program() {
    check(Flavour::Unoptimised);
}
