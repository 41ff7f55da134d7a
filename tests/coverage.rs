//! How much of the packages that move bytes can jump, on every Go release that
//! `GOTAP_TEST_GO` names; and that nothing in the whole program leads into what
//! a jump would replace.
//!
//! The oracle decodes all functions with iced-x86 alone, and looks at every
//! branch, every address that code takes and every word of the program's data.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use ::gotap::addr::ImageAddr;
use ::gotap::arch::scan::Disassembler;
use ::gotap::arch::unit::{Interiors, JUMP, Unit, UnitKind};
use ::gotap::golang::family::preset_conn;
use ::gotap::image::Image;
use ::gotap::probe::jump::{JumpPlan, plan_jumps};
use ::gotap::probe::plan::{Event, Plan, Role, Wanted, plan};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use object::{Object, ObjectSection, SectionKind};
use support::{Fixture, Target, Toolchain, Variant, gotap};

const PACKAGES: &[&str] = &[
    "net",
    "internal/poll",
    "net/http",
    "crypto/tls",
    "database/sql",
];

/// Functions of `--preset conn` with a site that has to trap, and why: none.
const CONN_TRAPS: &[(&str, &str)] = &[];

#[test]
fn packages_that_move_bytes() {
    for toolchain in Toolchain::under_test() {
        let program = Fixture::build_with("coverage", &[], &toolchain);
        let (image, plan, jumps) = planned(&program.path, PACKAGES);
        println!("{}: {}", program.label, image.go_version().text());
        let shares = shares(&image, &plan, &jumps);
        for (package, share) in &shares {
            println!("  {package:14} {share}");
            // A few leaf functions begin with a load that may fault, or are
            // shorter than a jump.
            assert!(share.entries.percent() > 75.0, "{package}: {share}");
            assert!(share.returns.percent() > 90.0, "{package}: {share}");
        }
        let mut reasons = BTreeMap::<String, usize>::new();
        for (_, why) in jumps.traps() {
            let text = format!("{why:?}");
            let name = text.split(['(', ' ']).next().unwrap_or_default();
            *reasons.entry(name.to_owned()).or_default() += 1;
        }
        println!("  traps by reason: {reasons:?}");
        let resting = jumps.sites.iter().filter(|s| !s.rests.is_empty()).count();
        println!("  {resting} of {} units have places to rest", jumps.jumps());
        nothing_leads_inside(&program.path, &image, &jumps);
    }
}

#[test]
fn what_connections_do() {
    for toolchain in Toolchain::under_test() {
        let program = Fixture::build_with("coverage", &[], &toolchain);
        let image = Image::open(&program.path).expect("a Go program");
        let named = image.functions().by_names(preset_conn());
        let wanted: Vec<Wanted<'_>> = named
            .iter()
            .filter_map(|found| found.first())
            .map(|function| Wanted {
                function: *function,
                exact: true,
            })
            .collect();
        for (name, found) in preset_conn().iter().zip(&named) {
            if found.is_empty() {
                println!("{}: {name}: has no code of its own here", program.label);
            }
        }
        let (plan, jumps) = plan_of(&image, &wanted);
        let refused = plan.functions.iter().filter_map(|f| {
            let why = f.trap.as_ref().err()?;
            Some(format!("{}: {why}", f.name))
        });
        let refused: Vec<String> = refused.collect();
        assert!(refused.is_empty(), "{}: {refused:?}", program.label);
        let mut trapping = Vec::new();
        for (function, why) in traps_by_function(&plan, &jumps) {
            println!("{}: {function}: {why}", program.label);
            trapping.push(function);
        }
        println!(
            "{}: {} functions, {} sites, {} jump",
            program.label,
            plan.armed(),
            plan.sites.len(),
            jumps.jumps()
        );
        assert!(plan.armed() >= 20, "{}", plan.armed());
        let expected: Vec<&str> = CONN_TRAPS.iter().map(|(name, _)| *name).collect();
        assert_eq!(trapping, expected, "{}", program.label);
    }
}

#[test]
fn other_builds_too() {
    for variant in [Variant::Pie, Variant::Stripped, Variant::NoOpt] {
        let program = Fixture::build("coverage", &[variant]);
        let (image, plan, jumps) = planned(&program.path, &["net", "internal/poll"]);
        for (package, share) in shares(&image, &plan, &jumps) {
            println!("{} {package}: {share}", program.label);
        }
        assert!(
            jumps.jumps() * 10 > jumps.sites.len() * 8,
            "{}",
            program.label
        );
        nothing_leads_inside(&program.path, &image, &jumps);
    }
}

#[test]
fn a_plan_is_printed_and_nothing_touched() {
    let program = Fixture::build("echo", &[]);
    let path = program.path.to_str().expect("a path");
    let of_file = gotap::run(&["trace", "--preset", "conn", "--plan", "--", path]);
    let (mut server, _) = Target::echo_server(&program, &[]);
    let before = maps(server.pid());
    let pid = server.pid().to_string();
    let of_process = gotap::run(&["trace", "--preset", "conn", "--plan", "-p", &pid]);
    assert_eq!(
        of_process.must_succeed().text(),
        of_file.must_succeed().text()
    );
    assert_eq!(maps(server.pid()), before);
    assert!(server.is_alive());
    let text = of_file.text();
    assert!(text.contains("net.(*conn).Read  0x"), "{text}");
    let last = text.lines().last().expect("a line");
    assert!(last.ends_with(" jump, 0 trap"), "{last}");
    // A reason for what traps; nothing at all is an error.
    let traps = gotap::run(&["trace", "runtime.sigtramp", "--plan", "--", path]);
    let text = traps.must_succeed().text();
    assert!(
        text.contains("not armed: it runs with signals blocked"),
        "{text}"
    );
}

/// Mappings with code: what would be put in has a page of its own.
fn maps(pid: i32) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it lives");
    let code = maps.lines().filter(|line| line.contains(" r-xp "));
    code.map(str::to_owned).collect()
}

fn planned(path: &Path, packages: &[&str]) -> (Image, Plan, JumpPlan) {
    let image = Image::open(path).expect("a Go program");
    let (plan, jumps) = {
        let functions = image.functions();
        let wanted: Vec<Wanted<'_>> = functions
            .iter()
            .filter(|f| packages.contains(&package_of(&f.name())) && !f.is_autogenerated())
            .map(|function| Wanted {
                function,
                exact: true,
            })
            .collect();
        plan_of(&image, &wanted)
    };
    (image, plan, jumps)
}

fn plan_of(image: &Image, wanted: &[Wanted<'_>]) -> (Plan, JumpPlan) {
    let disassembler = Disassembler::new().expect("a disassembler");
    let events = Event::ALL.map(|(event, _)| event);
    let plan = plan(image, &disassembler, wanted, &events);
    let jumps = plan_jumps(image, &disassembler, &plan);
    assert_eq!(plan.sites.len(), jumps.sites.len());
    (plan, jumps)
}

/// `net/http` of `net/http.(*conn).serve`.
fn package_of(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[last..].find('.').map_or(name.len(), |dot| last + dot);
    &name[..end]
}

fn traps_by_function(plan: &Plan, jumps: &JumpPlan) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (site, why) in jumps.traps() {
        for role in &plan.sites[site].roles {
            let function = match role {
                Role::Entry(own) | Role::Return(Some(own)) => plan.functions[*own].name.clone(),
                Role::Return(None) | Role::Event(_) | Role::Place(_) => {
                    format!("at {}", plan.sites[site].at)
                }
            };
            found.push((function, why.to_string()));
        }
    }
    found
}

/// So many of so many.
#[derive(Default, Clone, Copy)]
struct Part {
    some: usize,
    all: usize,
}

impl Part {
    fn percent(self) -> f64 {
        100.0 * self.some as f64 / self.all.max(1) as f64
    }

    fn add(&mut self, yes: bool) {
        self.all += 1;
        self.some += usize::from(yes);
    }
}

#[derive(Default, Clone, Copy)]
struct Share {
    entries: Part,
    returns: Part,
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (e, r) = (self.entries, self.returns);
        write!(
            f,
            "entries {} of {} ({:.1} %), returns {} of {} ({:.1} %)",
            e.some,
            e.all,
            e.percent(),
            r.some,
            r.all,
            r.percent()
        )
    }
}

fn shares(image: &Image, plan: &Plan, jumps: &JumpPlan) -> BTreeMap<String, Share> {
    let mut shares = BTreeMap::<String, Share>::new();
    for (site, jump) in plan.sites.iter().zip(&jumps.sites) {
        let function = image.functions().find(site.at).expect("a function");
        let name = function.name();
        let share = shares.entry(package_of(&name).to_owned()).or_default();
        for role in &site.roles {
            match role {
                Role::Entry(_) => share.entries.add(jump.unit.is_ok()),
                Role::Return(_) => share.returns.add(jump.unit.is_ok()),
                Role::Event(_) | Role::Place(_) => {}
            }
        }
    }
    shares.retain(|package, _| PACKAGES.contains(&package.as_str()));
    shares
}

/// All that the program has: no branch, no address that code takes, no word of
/// data leads strictly inside a unit; units are whole instructions that touch
/// no memory but the stack's; the stack is as deep as the tables say.
fn nothing_leads_inside(path: &Path, image: &Image, jumps: &JumpPlan) {
    let units: Vec<&Unit> = jumps.units().map(|(_, unit)| unit).collect();
    let interiors = Interiors::strictly(units.iter().map(|unit| unit.range()));
    let mut looked = 0;
    for function in image.functions().iter() {
        let code = function.code().unwrap_or_default();
        let decoder = Decoder::with_ip(64, code, function.entry().0, DecoderOptions::NONE);
        for insn in decoder {
            looked += 1;
            let to = match insn.flow_control() {
                FlowControl::Next | FlowControl::IndirectBranch | FlowControl::IndirectCall
                    if insn.is_ip_rel_memory_operand() =>
                {
                    insn.ip_rel_memory_address()
                }
                _ => insn.near_branch_target(),
            };
            if let Some(index) = interiors.find(to) {
                let unit = units[index];
                panic!(
                    "{}: {:#x} in {} leads to {to:#x}, inside {unit:x?}",
                    path.display(),
                    insn.ip(),
                    function.name()
                );
            }
        }
    }
    // A pointer to code is to a function's beginning, or one of a table of
    // eight or more into the same function (cmd/compile/internal/walk/switch.go:
    // tryJumpTable); a lone word is text that looks like an address ("}]]").
    let into = |word: u64| image.functions().find(ImageAddr(word)).map(|f| f.index());
    let mut last = (0, None);
    let words = words_of_data(path, image.is_pie(), &mut |at, word| {
        let inside = interiors.find(word);
        let of_one_table = (inside.is_some() || last.1.is_some()) && into(word) == into(last.0);
        assert!(
            !of_one_table || inside.is_none() && last.1.is_none(),
            "{}: the words up to {at:#x} are {:#x} and {word:#x}",
            path.display(),
            last.0
        );
        last = (word, inside);
    });
    for unit in &units {
        is_whole(image, unit);
    }
    println!(
        "  {} units; {looked} instructions and {words} words of data lead into none",
        units.len()
    );
    assert!(looked > 100_000 && words > 10_000);
}

fn words_of_data(path: &Path, pie: bool, each: &mut dyn FnMut(u64, u64)) -> usize {
    let data = std::fs::read(path).expect("read the program");
    let file = object::File::parse(&*data).expect("an ELF file");
    let mut words = 0;
    for section in file.sections() {
        let kind = section.kind();
        if matches!(
            kind,
            SectionKind::Data | SectionKind::ReadOnlyData | SectionKind::ReadOnlyDataWithRel
        ) {
            let bytes = section.data().expect("bytes");
            let skew = usize::try_from(section.address().wrapping_neg() % 8).expect("small");
            let aligned = bytes.get(skew..).unwrap_or_default();
            for (i, word) in aligned.chunks_exact(8).enumerate() {
                let at = section.address() + (skew + i * 8) as u64;
                each(at, u64::from_le_bytes(word.try_into().expect("eight")));
                words += 1;
            }
        }
        // R_X86_64_RELATIVE: a position-independent program's words are made
        // of these when it is loaded.
        if pie && section.name() == Ok(".rela.dyn") || section.name() == Ok(".rela") {
            for rela in section.data().expect("bytes").chunks_exact(24) {
                let word = |i: usize| u64::from_le_bytes(rela[i..i + 8].try_into().expect("eight"));
                if word(8) == 8 {
                    each(word(0), word(16));
                    words += 1;
                }
            }
        }
    }
    words
}

/// Whole instructions of the function, decoded from its entry.
fn is_whole(image: &Image, unit: &Unit) {
    let at = ImageAddr(unit.at);
    let function = image.functions().find(at).expect("a function");
    let code = function.code().expect("code");
    let decoder = Decoder::with_ip(64, code, function.entry().0, DecoderOptions::NONE);
    let insns: Vec<Instruction> = decoder
        .into_iter()
        .skip_while(|insn| insn.ip() < unit.at)
        .take_while(|insn| insn.ip() < unit.end())
        .collect();
    let name = function.name();
    assert!(unit.end() <= function.end().0, "{name}");
    assert_eq!(insns.first().map(Instruction::ip), Some(unit.at), "{name}");
    let len: usize = insns.iter().map(Instruction::len).sum();
    assert_eq!(len, unit.code.len(), "{name}: {unit:x?}");
    assert!(len >= JUMP);
    let from = usize::try_from(unit.at - function.entry().0).expect("small");
    assert_eq!(code[from..from + len], unit.code, "{name}");
    let (own, padding) = insns.split_at(unit.starts.len());
    for (insn, start) in own.iter().zip(&unit.starts) {
        assert_eq!(insn.ip() - unit.at, u64::from(*start), "{name}");
    }
    let (last, body) = own.split_last().expect("not empty");
    let plain = |insn: &Instruction| insn.flow_control() == FlowControl::Next;
    assert!(body.iter().all(plain), "{name}: {}", unit.instructions());
    assert!(padding.iter().all(|i| i.mnemonic() == Mnemonic::Int3));
    match unit.kind {
        UnitKind::Entry => assert!(plain(last) && padding.is_empty(), "{name}"),
        UnitKind::Return => assert_eq!(last.mnemonic(), Mnemonic::Ret, "{name}"),
        UnitKind::Check => {
            assert_eq!(unit.at, function.entry().0, "{name}");
            assert!(matches!(last.mnemonic(), Mnemonic::Jbe), "{name}");
        }
    }
    for insn in own {
        let touches = insn.mnemonic() != Mnemonic::Lea && insn.mnemonic() != Mnemonic::Nop;
        let memory = (0..insn.op_count()).any(|i| insn.op_kind(i) == OpKind::Memory);
        let guard = unit.kind == UnitKind::Check && insn.memory_base() == Register::R14;
        let stack = insn.memory_base() == Register::RSP && insn.memory_index() == Register::None;
        assert!(
            !(touches && memory) || stack || guard,
            "{name}: {}",
            unit.instructions()
        );
    }
    assert_eq!(
        function.sp_delta(at).map(i64::from),
        Some(i64::from(unit.to_return)),
        "{name}"
    );
}
