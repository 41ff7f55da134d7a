use super::*;
use crate::golang::layout::Layouts;
use crate::golang::testing::{Flavour, Running};
use crate::memory::Patchwork;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn layouts(running: &Running) -> Layouts {
    Layouts::resolve(running.image.go_version().minor(), None)
}

fn read(running: &Running) -> Vec<Goroutine> {
    let globals = Globals::resolve(&running.image);
    read_goroutines(&running.memory, &layouts(running), &globals, running.bias).unwrap()
}

/// Numbers and states of a dump by runtime.Stack.
fn dumped(lines: &[String]) -> Vec<(u64, String)> {
    lines
        .iter()
        .filter_map(|l| l.strip_prefix("goroutine "))
        .map(|l| {
            let (goid, rest) = l.split_once(' ').unwrap();
            let state = rest.trim_start_matches('[').split([']', ',']).next();
            (goid.parse().unwrap(), state.unwrap().to_owned())
        })
        .collect()
}

/// Numbers of the goroutines that a dump shows: the runtime's own are left out.
fn shown(running: &Running, all: &[Goroutine]) -> BTreeSet<u64> {
    let is_shown = |g: &&Goroutine| {
        let start = running.bias.image(g.startpc);
        let function = running.image.functions().find(start);
        let name = function.map(|f| f.name().into_owned()).unwrap_or_default();
        !name.starts_with("runtime.") || name == "runtime.main"
    };
    all.iter().filter(is_shown).map(|g| g.goid).collect()
}

fn check(flavour: Flavour) {
    let mut running = Running::start("parked", flavour);
    let deadline = Instant::now() + Duration::from_secs(20);
    // Those that helped to set things up may end between the two looks.
    let (dump, all) = loop {
        let dump = dumped(&running.ask("dump"));
        let all = read(&running);
        let theirs: BTreeSet<u64> = dump.iter().map(|d| d.0).collect();
        if shown(&running, &all) == theirs {
            break (dump, all);
        }
        let mine = shown(&running, &all);
        assert!(Instant::now() < deadline, "{mine:?} {theirs:?}");
    };
    assert!(dump.len() > 12);
    for (goid, state) in &dump {
        let g = all.iter().find(|g| g.goid == *goid).unwrap();
        assert!(g.stack_lo < g.stack_hi, "{g:?}");
        match state.as_str() {
            "IO wait" => {
                assert_eq!((g.status, g.wait_reason), (Status::Waiting, 2), "{g:?}");
                assert!(g.parked_at().is_some());
            }
            "syscall" => assert_eq!(g.status, Status::Syscall, "{g:?}"),
            _ => {}
        }
    }
}

#[test]
fn goroutines_are_those_of_runtime_stack() {
    check(Flavour::Plain);
}

#[test]
fn goroutines_of_a_stripped_program() {
    check(Flavour::Stripped);
}

#[test]
fn goroutines_of_a_position_independent_program() {
    check(Flavour::Pie);
}

#[test]
fn threads_are_those_of_the_kernel() {
    let running = Running::start("parked", Flavour::Plain);
    let globals = Globals::resolve(&running.image);
    let threads =
        read_threads(&running.memory, &layouts(&running), &globals, running.bias).unwrap();
    let tids: BTreeSet<u64> = threads.iter().map(|t| t.tid).filter(|t| *t != 0).collect();
    let kernel: BTreeSet<u64> = std::fs::read_dir(format!("/proc/{}/task", running.pid()))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    assert!(tids.is_subset(&kernel), "{tids:?} {kernel:?}");
    assert!(tids.contains(&u64::from(running.pid())));
    // The goroutine that spins and the one in a system call are on threads.
    let on_threads = threads.iter().filter(|t| !t.curg.is_null()).count();
    assert!(on_threads >= 2, "{threads:?}");
}

#[test]
fn garbage_is_told_not_followed() {
    use crate::memory::Patchwork;
    let globals = Globals {
        allgptr: Some(crate::addr::ImageAddr(0x1000)),
        allglen: Some(crate::addr::ImageAddr(0x1008)),
        ..Globals::default()
    };
    let layouts = Layouts::resolve(Some(26), None);
    let words = [0xdead_beef_u64, u64::MAX];
    let memory = Patchwork {
        pieces: vec![(
            LiveAddr(0x1000),
            words.iter().flat_map(|w| w.to_le_bytes()).collect(),
        )],
    };
    let got = read_goroutines(&memory, &layouts, &globals, Bias(0));
    assert!(matches!(got, Err(GsError::Garbage { .. })), "{got:?}");
    let none = read_goroutines(&memory, &layouts, &Globals::default(), Bias(0));
    assert_eq!(none, Err(GsError::NoGlobal("runtime.allglen")));
}

/// Structs in three places with holes between them: near each other, in one
/// mapping and in none.
#[test]
fn structs_that_are_read_together_are_those_that_are_read_alone() {
    const SIZE: u64 = 448;
    let page = |at: u64, pages: usize| -> (LiveAddr, Vec<u8>) {
        let bytes = (0..pages * 4096).map(|i| (i / 8 * 7 + i % 8) as u8);
        (LiveAddr(at), bytes.collect())
    };
    let memory = Patchwork {
        pieces: vec![page(0x10000, 40), page(0x40000, 1), page(0x41800, 1)],
    };
    let mut addrs: Vec<u64> = (0..500).map(|i| 0x10000 + i * SIZE).collect();
    addrs.extend((0..30).map(|i| 0x3fe00 + i * SIZE));
    addrs.extend([0, u64::MAX - 8, 0x10008]);
    addrs.sort_unstable();
    let mut alone = Vec::new();
    for &addr in &addrs {
        if let Ok(bytes) = memory.read_vec(LiveAddr(addr), SIZE as usize) {
            alone.push((LiveAddr(addr), bytes));
        }
    }
    let mut together = Vec::new();
    visit_structs::<MemoryError>(&memory, &addrs, SIZE, &mut |addr, bytes| {
        together.push((addr, bytes.to_vec()));
        Ok(())
    })
    .expect("none is gone");
    assert!(alone.len() > 300);
    assert_eq!(together, alone);
}
