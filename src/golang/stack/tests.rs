use super::*;
use crate::golang::globals::Globals;
use crate::golang::gs::{Status, read_goroutines};
use crate::golang::layout::Layouts;
use crate::golang::testing::{Flavour, Running};

/// Function names and lines per goroutine, of a dump by runtime.Stack.
fn dumped(lines: &[String]) -> Vec<(u64, Vec<(String, u32)>)> {
    let mut all: Vec<(u64, Vec<(String, u32)>)> = Vec::new();
    let mut created = false;
    for line in lines {
        if let Some(rest) = line.strip_prefix("goroutine ") {
            let goid = rest.split(' ').next().unwrap().parse().unwrap();
            all.push((goid, Vec::new()));
            created = false;
        } else if line.starts_with("created by") {
            created = true;
        } else if let Some(place) = line.strip_prefix('\t') {
            if !created {
                let place = place.split(' ').next().unwrap();
                let number = place.rsplit(':').next().unwrap().parse().unwrap();
                all.last_mut().unwrap().1.last_mut().unwrap().1 = number;
            }
        } else if !line.is_empty() && !line.starts_with("...") {
            let name = line.rsplit_once('(').unwrap().0;
            all.last_mut().unwrap().1.push((name.to_owned(), 0));
        }
    }
    all
}

fn check(flavour: Flavour) {
    let mut running = Running::start("parked", flavour);
    let dump = dumped(&running.ask("dump"));
    let layouts = Layouts::resolve(running.image.go_version().minor(), None);
    let globals = Globals::resolve(&running.image);
    let all = read_goroutines(&running.memory, &layouts, &globals, running.bias).unwrap();
    let mut unwinder = Unwinder::new();
    let mut compared = 0;
    for g in all {
        let Some(from) = g.parked_at().filter(|_| g.status == Status::Waiting) else {
            continue;
        };
        let stack = unwinder
            .unwind(&running.image, running.bias, &running.memory, from, 200)
            .unwrap();
        assert_eq!(stack.ended, Ended::Top, "{g:?}");
        let Some((_, want)) = dump.iter().find(|(goid, _)| *goid == g.goid) else {
            continue;
        };
        // The dump leaves out most functions of the runtime, and the outermost.
        let mine: Vec<(String, u32)> = source_frames(&running.image, running.bias, &stack.frames)
            .into_iter()
            .map(|f| (f.function.clone(), f.line))
            .filter(|(func, _)| !func.starts_with("runtime."))
            .collect();
        let want: Vec<(String, u32)> = want
            .iter()
            .filter(|(func, _)| !func.starts_with("runtime."))
            .cloned()
            .collect();
        if want.iter().any(|(f, _)| f == "main.main") {
            continue; // it made the dump, and waits for its input meanwhile
        }
        assert_eq!(mine, want, "goroutine {}", g.goid);
        compared += 1;
    }
    assert!(compared >= 12, "only {compared}");
}

#[test]
fn frames_are_those_of_runtime_stack() {
    check(Flavour::Plain);
}

#[test]
fn frames_of_a_stripped_program() {
    check(Flavour::Stripped);
}

#[test]
fn frames_of_a_position_independent_program() {
    check(Flavour::Pie);
}

#[test]
fn hostile_stacks_end() {
    use crate::memory::Patchwork;
    let path = crate::golang::testing::fixture("parked", Flavour::Plain);
    let image = Image::open(&path).unwrap();
    let gopark = image.functions().by_name("runtime.gopark")[0];
    let pc = LiveAddr(gopark.entry().0 + 40);
    let mut unwinder = Unwinder::new();
    // Every return address leads back into the same function.
    let again: Vec<u8> = (0..1000).flat_map(|_| pc.0.to_le_bytes()).collect();
    let memory = Patchwork {
        pieces: vec![(LiveAddr(0x10_0000), again)],
    };
    let start = (pc, LiveAddr(0x10_0000));
    let stack = unwinder
        .unwind(&image, Bias(0), &memory, start, 100_000)
        .unwrap();
    assert!(matches!(stack.ended, Ended::Unreadable(_)), "{stack:?}");
    assert!(stack.frames.len() < 1000);
    let nowhere = (LiveAddr(0xdead), LiveAddr(0x10_0000));
    let stack = unwinder
        .unwind(&image, Bias(0), &memory, nowhere, 10)
        .unwrap();
    assert_eq!(stack.ended, Ended::ForeignCode(LiveAddr(0xdead)));
    let wrap = (pc, LiveAddr(u64::MAX - 3));
    unwinder.unwind(&image, Bias(0), &memory, wrap, 10).unwrap();
}

#[test]
fn frames_of_an_unoptimised_program() {
    check(Flavour::Unoptimised);
}
