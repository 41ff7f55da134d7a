//! DWARF of the same program is the oracle: for places, for the built-in
//! table, for argument info.

use std::collections::HashMap;

use super::*;
use crate::addr::{Bias, ImageAddr};
use crate::arch::abi::{self, Location, Piece, Shape};
use crate::arch::scan::Disassembler;
use crate::image::abi_of;
use crate::image::rtti::TypeSection;
use crate::image::type_oracle::{Formal, Function as Told, Oracle, build};
use crate::image::types::TypeTable;
use crate::image::{ArgShape, ImageMemory};

fn scanned_abi(function: &Function<'_>) -> Abi {
    let disassembler = Disassembler::new().expect("capstone works");
    let code = function.code().unwrap_or_default();
    let scan = disassembler.scan_function(code, function.entry().0);
    abi_of(function, Some(&scan))
}

fn with_abi<'a>(functions: &[Function<'a>]) -> Vec<(Function<'a>, Abi)> {
    functions.iter().map(|f| (*f, scanned_abi(f))).collect()
}

fn open(name: &str, flags: &[&str]) -> Image {
    Image::open(&build(name, flags)).expect("the fixture is a Go program")
}

fn types(image: &Image) -> RttiTypes<ImageMemory<'_>> {
    let section = TypeSection::of(image.module(), image.go_version(), Bias(0));
    RttiTypes::new(image.memory(), section)
}

fn shapes(formals: &[Formal], results: bool) -> Vec<Shape> {
    formals
        .iter()
        .filter(|f| f.result == results)
        .map(|f| f.shape.clone())
        .collect()
}

/// What DWARF says of the program's functions, by entry. Up to Go 1.21 it
/// leaves parameters named _ out: without the functions where that shows.
fn told(image: &Image, oracle: &Oracle) -> HashMap<ImageAddr, Told> {
    let told = oracle
        .functions()
        .into_iter()
        .map(|f| (ImageAddr(f.entry), f));
    let whole = |(entry, told): &(ImageAddr, Told)| {
        let Some(function) = image.functions().find(*entry) else {
            return false;
        };
        let Some(info) = function.arg_info() else {
            return true;
        };
        let params = told.formals.iter().filter(|f| !f.result).count();
        // Truncated argument info cannot tell.
        let old = image.go_version().minor() < Some(22);
        if old && matches!(info.args.last(), Some(ArgShape::More)) {
            return false;
        }
        let described = info.args.len();
        function.entry() == *entry && params >= described + usize::from(told.name.contains('['))
    };
    told.filter(whole).collect()
}

#[test]
fn every_parameter_is_where_dwarf_says() {
    let image = open("plain", &[]);
    let oracle = Oracle::open(&build("plain", &[]));
    let (mut in_registers, mut on_stack, mut elsewhere) = (0, 0, Vec::new());
    for told in told(&image, &oracle).into_values() {
        let function = image.functions().find(ImageAddr(told.entry));
        let Some(function) = function.filter(|f| f.entry().0 == told.entry) else {
            continue;
        };
        if function.is_asm() {
            continue;
        }
        let layout = abi::assign(
            scanned_abi(&function),
            &shapes(&told.formals, false),
            &shapes(&told.formals, true),
        );
        let params = told.formals.iter().filter(|f| !f.result);
        for (formal, slot) in params.zip(&layout.params) {
            if formal.shape.size() == 0 {
                continue;
            }
            match (&slot.location, &formal.entry, formal.stack) {
                (Location::Registers(ours), Some(theirs), _) => {
                    // DWARF leaves out the parts that the function does not
                    // use, and does not count padding between parts.
                    let known = |p: &Piece| ours.iter().any(|o| (o.size, o.reg) == (p.size, p.reg));
                    let wrong = !theirs.iter().all(known);
                    if wrong {
                        elsewhere.push(format!("{} {formal:?}: {ours:?}", told.name));
                        continue;
                    }
                    in_registers += 1;
                }
                (Location::Stack { offset }, None, Some(theirs)) => {
                    assert_eq!(offset.cast_signed(), theirs, "{} {formal:?}", told.name);
                    on_stack += 1;
                }
                (_, None, None) | (Location::Registers(_), None, Some(_)) => {}
                (ours, Some(_), _) => panic!("{} {formal:?}: {ours:?}", told.name),
            }
        }
    }
    // Where the register allocator shuffles arguments in the first
    // instructions, DWARF sometimes tells the state behind them.
    assert!(
        elsewhere.len() <= in_registers / 1000,
        "{}",
        elsewhere.join("\n")
    );
    assert!(
        in_registers > 5_000 && on_stack > 50,
        "{in_registers} {on_stack}"
    );
}

/// A line a function: what is said of each parameter and result.
fn describe(shapes: &[Shape]) -> String {
    let one = |s: &Shape| format!("{s:?}");
    shapes.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_table_agrees_with_dwarf() {
    let image = open("plain", &[]);
    let types = types(&image);
    let oracle = Oracle::open(&build("plain", &[]));
    let told = told(&image, &oracle);
    let minor = image.go_version().minor().expect("a release");
    let mut compared = HashMap::<&str, u32>::new();
    let (mut wrong, mut left_out) = (Vec::new(), 0);
    let names: Vec<_> = builtin::names().collect();
    for (name, functions) in names.iter().zip(image.functions().by_names(&names)) {
        for function in functions {
            let Some(told) = told.get(&function.entry()) else {
                continue;
            };
            if function.is_wrapper() || function.is_asm() {
                continue;
            }
            let row = builtin::signature(&types, name, minor);
            let ours = row.and_then(|row| {
                let params: Option<Vec<_>> =
                    row.params.iter().map(|p| shape(&types, p.ty)).collect();
                let results: Option<Vec<_>> = row
                    .results
                    .as_ref()?
                    .iter()
                    .map(|p| shape(&types, p.ty))
                    .collect();
                Some((params?, results?))
            });
            let theirs = (shapes(&told.formals, false), shapes(&told.formals, true));
            *compared
                .entry(name.split('.').next().unwrap_or_default())
                .or_default() += 1;
            // Once in a while the results of an inlinable function are left out.
            let lacking = theirs.1.is_empty();
            let equal = ours.as_ref().is_some_and(|(params, results)| {
                *params == theirs.0 && (lacking || *results == theirs.1)
            });
            left_out += u32::from(lacking && ours.as_ref().is_some_and(|o| !o.1.is_empty()));
            if !equal {
                let text = |(p, r): &(Vec<Shape>, Vec<Shape>)| {
                    format!("{} -> {}", describe(p), describe(r))
                };
                wrong.push(format!(
                    "{name}\n  row   {}\n  DWARF {}",
                    ours.as_ref().map_or("none".into(), text),
                    text(&theirs)
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(left_out < 20, "{left_out}");
    let total: u32 = compared.values().sum();
    assert!(total > 1500, "{total}: {compared:?}");
}

#[test]
fn argument_info_places_what_it_describes_as_dwarf_does() {
    for flags in [&[][..], &["-gcflags=all=-N -l"]] {
        let name = if flags.is_empty() {
            "plain"
        } else {
            "unoptimised"
        };
        let image = open(name, flags);
        let types = types(&image);
        let (mut whole, mut part) = (0, 0);
        for told in told(&image, &Oracle::open(&build(name, flags))).into_values() {
            let function = image.functions().find(ImageAddr(told.entry));
            let Some(function) = function.filter(|f| f.entry().0 == told.entry && !f.is_asm())
            else {
                continue;
            };
            let Some(info) = function.arg_info() else {
                continue;
            };
            let code = function.code().unwrap_or_default();
            let Some(ours) = args::signature(&types, &info, &function.name(), code) else {
                part += 1;
                continue;
            };
            let ours = locate(&types, &ours, Abi::Internal)
                .expect("a layout")
                .params;
            let theirs = shapes(&told.formals, false);
            let theirs = abi::assign(Abi::Internal, &theirs, &[]).params;
            for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                let what = format!("{} {index} {info:?}", told.name);
                match (&ours.location, &theirs.location) {
                    // A truncated description has the first pieces only.
                    (Location::Registers(ours), Location::Registers(theirs)) => {
                        assert!(theirs.starts_with(ours), "{what} {ours:?} {theirs:?}");
                    }
                    (ours, theirs) => assert_eq!(ours, theirs, "{what}"),
                }
            }
            if ours.len() == theirs.len() {
                whole += 1;
            } else {
                part += 1;
            }
        }
        assert!(whole > 4000 && part < whole / 5, "{whole} {part}");
    }
}

#[test]
fn a_stripped_program_tells_what_dwarf_of_its_twin_does() {
    let image = open("stripped", &["-ldflags=-s -w"]);
    let twin = open("plain", &[]);
    let oracle = told(&twin, &Oracle::open(&build("plain", &[])));
    let types = types(&image);
    let functions: Vec<_> = image.functions().iter().collect();
    let twins: HashMap<String, Vec<ImageAddr>> =
        twin.functions().iter().fold(HashMap::new(), |mut map, f| {
            map.entry(f.name().into_owned())
                .or_insert_with(Vec::new)
                .push(f.entry());
            map
        });
    let signatures = Signatures::new(&image, &types).of(&with_abi(&functions));
    let mut sources = HashMap::<Source, u32>::new();
    for (function, signature) in functions.iter().zip(&signatures) {
        // The twin's function, unless it is one of several of the name.
        let Some([entry]) = twins.get(&*function.name()).map(Vec::as_slice) else {
            continue;
        };
        let Some(told) = oracle.get(entry).filter(|_| !function.is_asm()) else {
            continue;
        };
        *sources.entry(signature.source).or_default() += 1;
        let ours = locate(&types, signature, Abi::Internal).expect("a layout");
        let (params, results) = (shapes(&told.formals, false), shapes(&told.formals, true));
        let theirs = abi::assign(Abi::Internal, &params, &results);
        let what = format!("{} {signature:?}", told.name);
        match signature.source {
            Source::MethodTable | Source::Builtin => {
                // DWARF is known to forget results, see above.
                if !results.is_empty() {
                    let places = |slots: &[abi::Slot]| -> Vec<Location> {
                        slots.iter().map(|s| s.location.clone()).collect()
                    };
                    assert_eq!(places(&ours.params), places(&theirs.params), "{what}");
                    assert_eq!(places(&ours.results), places(&theirs.results), "{what}");
                }
            }
            // A closure that is called at once is given the dictionary as its
            // last argument, which DWARF leaves out.
            Source::ArgInfo if told.name.contains("[go.shape.") => {}
            Source::ArgInfo => assert!(ours.params.len() <= theirs.params.len(), "{what}"),
            Source::Dwarf | Source::Registers => {}
        }
    }
    let count = |source| sources.get(&source).copied().unwrap_or(0);
    assert!(count(Source::MethodTable) > 1000, "{sources:?}");
    assert!(count(Source::Builtin) > 500, "{sources:?}");
    assert!(count(Source::ArgInfo) > 1500, "{sources:?}");
    let known = count(Source::MethodTable) + count(Source::Builtin) + count(Source::ArgInfo);
    assert!(count(Source::Registers) * 4 < known, "{sources:?}");
}

#[test]
fn well_known_functions_have_names_and_types() {
    let image = open("stripped", &["-ldflags=-s -w"]);
    let types = types(&image);
    let text = |name: &str| {
        let functions = image.functions().by_name(name);
        let function = functions.iter().find(|f| !f.is_wrapper()).expect(name);
        let signature = Signatures::new(&image, &types)
            .of(&with_abi(&[*function]))
            .remove(0);
        let list = |params: &[Param]| {
            let one = |p: &Param| {
                format!(
                    "{} {}",
                    p.name.as_deref().unwrap_or("_"),
                    types.get(p.ty).name
                )
            };
            params.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let results = signature.results.as_deref().map(list);
        format!(
            "{:?} {} -> {results:?}",
            signature.source,
            list(&signature.params)
        )
    };
    assert_eq!(
        text("net.(*conn).Read"),
        "MethodTable c *net.conn, b []uint8 -> Some(\"_ int, _ error\")"
    );
    assert_eq!(
        text("internal/poll.(*FD).Accept"),
        "MethodTable fd *poll.FD -> Some(\"_ int, _ syscall.Sockaddr, _ string, _ error\")"
    );
    assert_eq!(
        text("net.(*sysDialer).dialTCP"),
        "Builtin sd *net.sysDialer, ctx context.Context, laddr *net.TCPAddr, raddr *net.TCPAddr \
         -> Some(\"_ *net.TCPConn, _ error\")"
    );
    // Before Go 1.21 shapes were numbered: go.shape.float64_0.
    if image.go_version().minor() >= Some(21) {
        assert_eq!(
            text("main.(*list[go.shape.float64]).push"),
            "ArgInfo _ word64, .dict unsafe.Pointer, _ float64 -> None"
        );
    }
    // Nobody knows which of a leaf function's arguments are floats.
    assert!(text("main.floats").starts_with("Registers rax word64, rbx word64"));
}
