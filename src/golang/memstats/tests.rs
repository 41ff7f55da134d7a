use super::*;
use crate::golang::globals::Globals;
use crate::golang::testing::{Flavour, fixture, symbols};
use crate::image::Image;

#[test]
fn the_variables_are_where_the_symbol_table_has_them() {
    for flavour in [Flavour::Plain, Flavour::Pie, Flavour::Unoptimised] {
        let path = fixture("memstats", flavour);
        let symbols = symbols(&path);
        let image = Image::open(&path).unwrap();
        let places = Places::resolve(&image, &Globals::resolve(&image), None).unwrap();
        let cpus = symbols
            .get("runtime.numCPUStartup")
            .or(symbols.get("runtime.ncpu"));
        assert_eq!(
            places.memstats.0, symbols["runtime.memstats"],
            "{flavour:?}"
        );
        assert_eq!(places.gc_controller.0, symbols["runtime.gcController"]);
        assert_eq!(places.mheap.0, symbols["runtime.mheap_"]);
        assert_eq!(find_cpus(&image).map(|c| c.0).as_ref(), cpus);
        let counted = find_collections(&image).map(|c| places.memstats.0.abs_diff(c.0));
        assert_eq!(counted, Some(places.offsets.numgc));
    }
}

/// A program at rest by its figures, from which others are derived.
fn quiet() -> Raw {
    Raw {
        small_allocs: vec![0; CLASSES],
        small_frees: vec![0; CLASSES],
        cached: vec![0; CLASSES],
        memory_limit: u64::MAX >> 1,
        heap_goal_by_percent: 4 << 20,
        triggered: u64::MAX,
        ..Raw::default()
    }
}

#[test]
fn the_next_collection_by_percent_runway_and_limit() {
    let mut raw = quiet();
    assert_eq!(raw.heap_goal(26), 4 << 20);
    raw.sweep_trigger = 5 << 20;
    assert_eq!(raw.heap_goal(26), 5 << 20);
    raw.triggered = 6 << 20;
    assert_eq!(raw.heap_goal(26), (6 << 20) + (64 << 10));

    // runtime/mgcpacer_test.go has such cases; by hand: 64 MiB less 3 %.
    raw.heap_goal_by_percent = u64::MAX;
    raw.memory_limit = 64 << 20;
    let limit: u64 = 64 << 20;
    assert_eq!(raw.heap_goal(26), limit - limit / 100 * 3);
    assert_eq!(raw.heap_goal(20), limit - (1 << 20));
    // More is mapped than is allowed: what is marked.
    raw.mapped_ready = 100 << 20;
    raw.heap_marked = 7 << 20;
    assert_eq!(raw.heap_goal(26), 7 << 20);
}

#[test]
fn cached_objects_are_counted_once_everywhere() {
    let mut raw = quiet();
    raw.cached[2] = 10;
    raw.small_allocs[2] = 25;
    raw.small_frees[2] = 5;
    raw.total_alloc = 15 * 16;
    raw.total_free = 5 * 16;
    raw.tiny_alloc_count = 3;
    assert_eq!(raw.contradictions(), Vec::<String>::new());
    assert_eq!(raw.objects(), (28, 8));
    raw.cached[2] = 0;
    assert_eq!(raw.contradictions().len(), 1);
}
