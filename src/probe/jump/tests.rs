use super::*;
use crate::arch::unit::UnitKind;
use crate::probe::plan::{Wanted, plan};
use std::path::Path;
use std::process::Command;

fn go_image() -> Image {
    let out = Command::new("go").args(["env", "GOROOT"]).output();
    let out = out.expect("no `go` on PATH: install Go, e.g. apt-get install golang-go");
    let root = String::from_utf8(out.stdout).expect("a path");
    let path = format!("{}/bin/go", root.trim());
    Image::open(Path::new(&path)).expect("the go command is a Go program")
}

fn planned(image: &Image, wanted: &[Wanted<'_>]) -> (Plan, JumpPlan) {
    let d = Disassembler::new().unwrap();
    let plan = plan(image, &d, wanted, &[Event::Panic, Event::Recovery]);
    let jumps = plan_jumps(image, &d, &plan);
    assert_eq!(jumps.sites.len(), plan.sites.len());
    (plan, jumps)
}

fn named<'i>(image: &'i Image, names: &[&str]) -> Vec<Wanted<'i>> {
    let found = image.functions().by_names(names);
    let function = |(found, name): (Vec<Function<'i>>, &&str)| Wanted {
        function: *found.first().unwrap_or_else(|| panic!("no {name}")),
        exact: true,
    };
    found.into_iter().zip(names).map(function).collect()
}

#[test]
fn a_read_jumps_at_both_ends() {
    let image = go_image();
    let (plan, jumps) = planned(&image, &named(&image, &["net.(*conn).Read"]));
    assert_eq!(jumps.traps().count(), 0, "{}", jumps.explain(&plan));
    let trap = plan.functions[0].trap.as_ref().unwrap();
    let entry = jumps.sites[trap.entry_site].unit.as_ref().unwrap();
    assert_eq!(entry.kind, UnitKind::Entry);
    assert_eq!(entry.at, plan.sites[trap.entry_site].at.0);
    let returns = jumps.units().filter(|(_, u)| u.kind == UnitKind::Return);
    assert_eq!(returns.count(), trap.returns);
    let text = jumps.explain(&plan);
    assert!(text.contains("push rbp; mov rbp,rsp"), "{text}");
    assert!(text.contains("runtime.gopanic  0x"), "{text}");
    assert!(text.ends_with(" jump, 0 trap\n"), "{text}");
}

#[test]
fn assembly_never_jumps() {
    let image = go_image();
    let names = [
        "internal/bytealg.IndexByte",
        "math.archFloor",
        "crypto/internal/fips140/sha256.blockAVX2",
    ];
    let there = |name: &&str| !image.functions().by_name(name).is_empty();
    let names: Vec<&str> = names.into_iter().filter(there).collect();
    assert!(!names.is_empty());
    let (plan, jumps) = planned(&image, &named(&image, &names));
    let mut seen = 0;
    for (site, jump) in plan.sites.iter().zip(&jumps.sites) {
        let function = image.functions().find(site.at).unwrap();
        if function.is_asm() {
            assert_eq!(jump.unit, Err(CannotJump::Assembly));
            seen += 1;
        }
    }
    assert!(seen > 0, "{}", plan.explain());
}

#[test]
fn every_site_jumps_or_has_a_reason() {
    let image = go_image();
    let functions = image.functions();
    let wanted = functions.iter().map(|function| Wanted {
        function,
        exact: true,
    });
    let (plan, jumps) = planned(&image, &wanted.collect::<Vec<_>>());
    let mut last_end = 0;
    let mut units: Vec<&Unit> = jumps.units().map(|(_, unit)| unit).collect();
    units.sort_by_key(|unit| unit.at);
    for unit in units {
        assert!(unit.at >= last_end, "{unit:x?}");
        last_end = unit.end();
    }
    let (mut tables, mut depths) = (0, 0);
    for (site, why) in jumps.traps() {
        let at = plan.sites[site].at;
        let name = image.functions().find(at).unwrap().name();
        match why {
            CannotJump::UnknownJump(_) => tables += 1,
            CannotJump::Depth { .. } => {
                println!("{name}: {why}");
                depths += 1;
            }
            CannotJump::Undecodable(_) => panic!("{name}: {why}"),
            _ => {}
        }
    }
    let rests = jumps.sites.iter().filter(|s| !s.rests.is_empty()).count();
    println!(
        "{} of {} sites jump, {rests} may be rested in; {tables} unknown jumps, {depths} odd depths",
        jumps.jumps(),
        jumps.sites.len()
    );
    assert!(jumps.jumps() * 10 > jumps.sites.len() * 9);
    assert!(tables < 20 && depths < 20);
}

#[test]
fn a_stack_check_is_nowhere_to_rest() {
    let image = go_image();
    let wanted = image
        .functions()
        .iter()
        .filter(|f| f.name().starts_with("net."));
    let wanted: Vec<Wanted<'_>> = wanted
        .map(|function| Wanted {
            function,
            exact: true,
        })
        .collect();
    let (_, jumps) = planned(&image, &wanted);
    let of = |kind| {
        jumps
            .sites
            .iter()
            .filter(move |s| s.unit.as_ref().is_ok_and(|u| u.kind == kind))
    };
    assert!(of(UnitKind::Return).any(|site| !site.rests.is_empty()));
    for site in of(UnitKind::Check) {
        // Between lea and cmp of a larger frame's check one may rest.
        assert!(site.rests.len() <= 1, "{site:x?}");
    }
}
