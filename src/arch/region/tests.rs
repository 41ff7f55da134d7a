use super::*;
use crate::arch::scan::Disassembler;
use crate::arch::testing::go_functions;
use iced_x86::{Code, Decoder, DecoderOptions};

const BASE: u64 = 0x1000_0000;

fn site(at: u64, code: &[u8]) -> SiteSpec {
    let mut bytes = [0x90; MAX_INSN];
    bytes[..code.len()].copy_from_slice(code);
    SiteSpec {
        site: at,
        code: bytes,
    }
}

fn go_action() -> KernelSigaction {
    KernelSigaction {
        handler: 0x47_1234,
        flags: 0x1c00_0004,
        restorer: 0x47_2000,
        mask: u64::MAX,
    }
}

fn owner() -> Owner {
    Owner {
        pid: 77,
        start_time: 123_456,
        pid_namespace: 0xf000_0001,
    }
}

fn small() -> Region {
    let sites = [
        site(0x40_2000, &[0xc3]),
        site(0x40_1006, &[0x55, 0x48, 0x89, 0xe5]),
        site(0x40_3000, &[0x0f, 0x05]),
    ];
    let spec = RegionSpec {
        sites: &sites,
        old: go_action(),
        owner: owner(),
    };
    Region::build(BASE, &spec).unwrap()
}

#[test]
fn a_region_is_read_back() {
    let region = small();
    assert_eq!(region.bytes.len(), 4096);
    assert_eq!(region.bytes.len(), Region::room(3));
    assert_eq!(region.slots.len(), 2);
    assert_eq!(region.refused, [(0x40_3000, CannotMove::Traps(0x40_3000))]);
    let left = Leftover::parse(&region.bytes, BASE).unwrap();
    assert_eq!(
        Leftover::parse_len(&region.bytes[..Leftover::HEAD], BASE),
        Ok(4096)
    );
    assert!(left.whole);
    assert_eq!(left.owner, owner());
    assert_eq!(left.old, go_action());
    assert_eq!(left.handler, region.handler);
    let told: Vec<_> = left
        .sites
        .iter()
        .map(|s| (s.site, s.slot, s.original))
        .collect();
    let made: Vec<_> = region
        .slots
        .iter()
        .map(|s| (s.site, s.at, s.original))
        .collect();
    assert_eq!(told, made);
    assert_eq!(made[0].0, 0x40_1006);
    assert_eq!(made[0].2, 0x55);
}

#[test]
fn slots_are_found_by_site_and_by_address() {
    let region = small();
    let ret = region.slot_of(0x40_2000).unwrap();
    assert_eq!(region.slot_at(ret.at), Some(ret));
    assert_eq!(region.slot_at(ret.end()), None);
    let push = region.slot_of(0x40_1006).unwrap();
    assert_eq!(region.slot_at(push.at + 1), Some(push));
    assert_eq!(region.slot_at(region.handler), None);
    assert_eq!(region.slot_of(0x40_3000), None);
    assert!(region.contains(BASE) && !region.contains(BASE + 4096) && !region.contains(BASE - 1));
}

#[test]
fn the_action_is_ours_in_the_old_ones_manner() {
    let region = small();
    assert_eq!(region.action.handler, region.handler);
    assert_eq!(region.action.flags, 0x1c00_0004);
    assert_eq!(region.action.restorer, 0x47_2000);
    let bytes = region.action.to_bytes();
    assert_eq!(KernelSigaction::from_bytes(bytes), region.action);
    let spec = RegionSpec {
        sites: &[],
        old: KernelSigaction::default(),
        owner: owner(),
    };
    let region = Region::build(BASE, &spec).unwrap();
    assert_eq!(region.action.restorer, BASE + 0x100);
    let restorer = [0xb8, 15, 0, 0, 0, 0x0f, 0x05];
    assert_eq!(region.bytes[0x100..0x107], restorer);
}

#[test]
fn damage_is_noticed() {
    let region = small();
    let parse = |bytes: &[u8]| Leftover::parse(bytes, BASE);
    assert_eq!(parse(&[]), Err(RegionError::NotOurs(BASE)));
    assert_eq!(parse(&[0xcc; 4096]), Err(RegionError::NotOurs(BASE)));
    assert!(matches!(
        parse(&region.bytes[..300]),
        Err(RegionError::Damaged { .. })
    ));
    assert!(matches!(
        Leftover::parse(&region.bytes, BASE + 4096),
        Err(RegionError::Damaged { .. })
    ));
    let mut later = region.bytes.clone();
    later[7] = 9;
    assert_eq!(
        parse(&later),
        Err(RegionError::Layout {
            at: BASE,
            layout: 9
        })
    );
    // Half written: found, but nothing of it is believed.
    let mut half = region.bytes.clone();
    half[0x300..].fill(0);
    let left = parse(&half).unwrap();
    assert!(!left.whole && left.sites.is_empty());
    for (at, value) in [(8, u64::MAX), (8, 5), (40, u64::MAX), (40, 200_000)] {
        let mut bytes = region.bytes.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert!(matches!(parse(&bytes), Err(RegionError::Damaged { .. })));
    }
    let twice = [site(0x40_2000, &[0xc3]), site(0x40_2000, &[0xc3])];
    let spec = RegionSpec {
        sites: &twice,
        old: go_action(),
        owner: owner(),
    };
    assert_eq!(
        Region::build(BASE, &spec),
        Err(RegionError::Twice(0x40_2000))
    );
}

#[test]
fn the_handler_touches_no_stack_and_no_saved_register() {
    use iced_x86::{InstructionInfoFactory, OpAccess, Register as R};
    for handler in [0_u64, 1, 0x47_1234] {
        let spec = RegionSpec {
            sites: &[site(0x40_2000, &[0xc3])],
            old: KernelSigaction {
                handler,
                ..go_action()
            },
            owner: owner(),
        };
        let region = Region::build(BASE, &spec).unwrap();
        let code = &region.bytes[0x140..0x300];
        let mut decoder = Decoder::with_ip(64, code, region.handler, DecoderOptions::NONE);
        let mut factory = InstructionInfoFactory::new();
        let mut last = Code::INVALID;
        loop {
            let insn = decoder.decode();
            if insn.code() == Code::Int3 {
                break;
            }
            last = insn.code();
            let info = factory.info(&insn);
            for used in info.used_registers() {
                let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
                let kept = [R::RBX, R::RBP, R::R12, R::R13, R::R14, R::R15];
                assert!(
                    !written || !kept.contains(&used.register().full_register()),
                    "{insn}"
                );
            }
            let stack = info.used_memory().iter().any(|m| m.base() == R::RSP);
            assert!(!stack || insn.code() == Code::Retnq, "{insn}");
            if insn.is_jcc_short_or_near() || insn.is_jmp_short_or_near() {
                let offset = insn.near_branch_target() - BASE;
                assert!((0x140..0x300).contains(&offset), "{insn}");
            }
        }
        assert!(matches!(last, Code::Retnq | Code::Jmp_rm64));
    }
}

/// A region for every site of a real program: its table is sorted, and its
/// slots do not overlap.
#[test]
fn a_region_for_a_whole_program() {
    let disassembler = Disassembler::new().unwrap();
    let mut sites = Vec::new();
    for f in go_functions() {
        let scan = disassembler.scan_function(&f.code, f.entry);
        for at in std::iter::once(scan.site).chain(scan.rets.iter().copied()) {
            let rest = f.code.get((at - f.entry) as usize..).unwrap();
            let rest = rest.get(..MAX_INSN).unwrap_or(rest);
            sites.push(site(at, rest));
        }
    }
    sites.sort_by_key(|s| s.site);
    sites.dedup_by_key(|s| s.site);
    let spec = RegionSpec {
        sites: &sites,
        old: go_action(),
        owner: owner(),
    };
    let region = Region::build(BASE, &spec).unwrap();
    assert!(region.bytes.len() <= Region::room(sites.len()));
    assert!(sites.len() > 40_000 && region.refused.len() < 10);
    for (a, b) in region.slots.iter().zip(region.slots.iter().skip(1)) {
        assert!(a.site < b.site && a.end() <= b.at);
    }
    let left = Leftover::parse(&region.bytes, BASE).unwrap();
    assert_eq!(left.sites.len(), region.slots.len());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_parsed(mut bytes: Vec<u8>, magic: bool) {
        if let (true, Some(head)) = (magic, bytes.get_mut(..8)) {
            head.copy_from_slice(&MAGIC);
        }
        let _ = Leftover::parse(&bytes, BASE);
    }
}
