use super::*;
use crate::golang::testing::{Flavour, fixture, symbols};

/// The symbol table of an unstripped twin is the oracle.
fn check(flavour: Flavour) {
    let path = fixture("parked", flavour);
    let image = Image::open(&path).unwrap();
    let globals = Globals::resolve(&image);
    let symbols = symbols(&path);
    let want = |name: &str| Some(ImageAddr(symbols[name]));
    assert_eq!(globals.allgs, want("runtime.allgs"));
    assert_eq!(globals.allgptr, want("runtime.allgptr"));
    assert_eq!(globals.allglen, want("runtime.allglen"));
    assert_eq!(globals.allm, want("runtime.allm"));
    assert_eq!(globals.allp, want("runtime.allp"));
    assert_eq!(globals.sched, want("runtime.sched"));
    assert_eq!(globals.gomaxprocs, want("runtime.gomaxprocs"));
    assert_eq!(globals.pollcache, want("runtime.pollcache"));
    assert_eq!(globals.epfd, want("runtime.epfd"));
    assert_eq!(globals.wait_reasons, want("runtime.waitReasonStrings"));
    assert_eq!(globals.firstmoduledata, want("runtime.firstmoduledata"));
    assert_eq!(globals.firstmoduledata, Some(image.module().at));
    assert_eq!(globals.g_tls, Some(-8));
    assert!(
        globals
            .wait_reason_count
            .is_some_and(|n| (20..80).contains(&n))
    );
    assert!(globals.g_atomicstatus.is_some());
}

#[test]
fn globals_are_where_the_symbol_table_says() {
    check(Flavour::Plain);
}

#[test]
fn globals_of_a_position_independent_program() {
    check(Flavour::Pie);
}

#[test]
fn globals_of_an_unoptimised_program() {
    check(Flavour::Unoptimised);
}

#[test]
fn a_stripped_twin_gives_the_same() {
    let plain = Image::open(&fixture("parked", Flavour::Plain)).unwrap();
    let stripped = Image::open(&fixture("parked", Flavour::Stripped)).unwrap();
    assert!(stripped.is_stripped());
    let (plain, stripped) = (Globals::resolve(&plain), Globals::resolve(&stripped));
    assert_eq!(plain.g_atomicstatus, stripped.g_atomicstatus);
    assert_eq!(plain.g_tls, stripped.g_tls);
    assert!(stripped.allgs.is_some() && stripped.allm.is_some());
}
