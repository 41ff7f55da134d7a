use super::*;
use crate::arch::scan::Disassembler;
use crate::arch::testing::go_functions;
use iced_x86::{FlowControl, Instruction};

type Expected = fn(&CannotMove) -> bool;

const SITE: u64 = 0x40_1000;
const SLOT: u64 = 0x1000_0000;

fn decode(bytes: &[u8], at: u64) -> Vec<Instruction> {
    let mut decoder = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE);
    let mut out = Vec::new();
    while decoder.can_decode() {
        out.push(decoder.decode());
    }
    out
}

/// The jump back, at the end of a slot, goes behind the site.
fn assert_goes_on(slot: &Slot, site: u64, at: u64) {
    let insns = decode(
        slot.bytes.get(slot.resume..).unwrap(),
        at + slot.resume as u64,
    );
    assert_eq!(insns.len(), 1, "{slot:x?}");
    assert_eq!(insns[0].code(), Code::Jmp_rel32_64);
    assert_eq!(insns[0].near_branch_target(), site + slot.insn_len as u64);
}

/// Same instruction, apart from where it stands and its displacement.
fn assert_same(a: &Instruction, b: &Instruction) {
    assert_eq!(a.code(), b.code());
    assert_eq!(a.op_count(), b.op_count());
    for op in 0..a.op_count() {
        assert_eq!(a.op_kind(op), b.op_kind(op));
    }
    assert_eq!(a.memory_base(), b.memory_base());
    assert_eq!(a.memory_index(), b.memory_index());
    assert_eq!(a.memory_index_scale(), b.memory_index_scale());
    // For rip-relative operands iced gives the absolute target here.
    assert_eq!(a.memory_displacement64(), b.memory_displacement64());
    assert_eq!(a.has_lock_prefix(), b.has_lock_prefix());
    assert_eq!(a.segment_prefix(), b.segment_prefix());
}

#[test]
fn plain_instructions_are_copied() {
    let slot = relocate(&[0x55, 0x48, 0x89, 0xe5], SITE, SLOT).unwrap();
    assert_eq!(slot.insn_len, 1);
    assert_eq!(slot.bytes[0], 0x55);
    assert_eq!(slot.resume, 1);
    assert!(!slot.can_fault);
    assert_goes_on(&slot, SITE, SLOT);
    assert_eq!(slot.place(0).unwrap().rip, SITE);
    assert_eq!(slot.place(1).unwrap().rip, SITE + 1);
    assert_eq!(slot.place(2), None);
}

#[test]
fn a_return_stays_alone() {
    let slot = relocate(&[0xc3], SITE, SLOT).unwrap();
    assert_eq!(slot.bytes, [0xc3]);
    assert_eq!(slot.resume, 1);
    assert!(!slot.can_fault);
}

#[test]
fn rip_relative_operands_follow() {
    // cmp qword [rip+0x100], imm8: the immediate lies behind the displacement.
    let code = [0x48, 0x83, 0x3d, 0, 1, 0, 0, 7];
    let slot = relocate(&code, SITE, SLOT).unwrap();
    let old = decode(&code, SITE);
    let new = decode(&slot.bytes, SLOT);
    assert_eq!(new[0].ip_rel_memory_address(), SITE + 8 + 0x100);
    assert_same(&old[0], &new[0]);
    assert_goes_on(&slot, SITE, SLOT);
    assert!(!slot.can_fault);
}

#[test]
fn jumps_keep_their_targets() {
    for code in [&[0xeb, 0x10][..], &[0xe9, 0x0d, 0, 0, 0]] {
        let slot = relocate(code, SITE, SLOT).unwrap();
        let insns = decode(&slot.bytes, SLOT);
        assert_eq!(insns.len(), 1);
        assert_eq!(insns[0].near_branch_target(), SITE + 0x12);
    }
    for code in [&[0x75, 0x10][..], &[0x0f, 0x85, 0x0c, 0, 0, 0]] {
        let slot = relocate(code, SITE, SLOT).unwrap();
        let insns = decode(&slot.bytes, SLOT);
        assert_eq!(insns[0].code(), Code::Jne_rel32_64);
        assert_eq!(insns[0].near_branch_target(), SITE + 0x12);
        assert_goes_on(&slot, SITE, SLOT);
    }
    // jrcxz and loop
    for code in [[0xe3, 0x10], [0xe2, 0x10]] {
        let slot = relocate(&code, SITE, SLOT).unwrap();
        let insns = decode(&slot.bytes, SLOT);
        assert_eq!(insns.len(), 3);
        assert_eq!(insns[0].near_branch_target(), insns[2].ip());
        assert_eq!(insns[1].near_branch_target(), SITE + 2);
        assert_eq!(insns[2].near_branch_target(), SITE + 0x12);
        assert_eq!(slot.place(7).unwrap().rip, SITE + 0x12);
    }
}

#[test]
fn a_call_pushes_its_old_return_address() {
    let code = [0xe8, 0x00, 0x01, 0, 0];
    let slot = relocate(&code, SITE, SLOT).unwrap();
    let insns = decode(&slot.bytes, SLOT);
    assert_eq!(insns[0].code(), Code::Pushq_imm32);
    assert_eq!(insns[0].immediate(1 - 1), SITE + 5);
    assert_eq!(insns[1].near_branch_target(), SITE + 5 + 0x100);

    let (site, at) = (0x5555_5555_4000, 0x5555_6555_4000);
    let slot = relocate(&code, site, at).unwrap();
    let insns = decode(&slot.bytes, at);
    let texts: Vec<Code> = insns.iter().map(Instruction::code).collect();
    assert_eq!(
        texts,
        [
            Code::Lea_r64_m,
            Code::Mov_rm32_imm32,
            Code::Mov_rm32_imm32,
            Code::Jmp_rel32_64
        ]
    );
    let pushed = u64::from(insns[1].immediate32()) | u64::from(insns[2].immediate32()) << 32;
    assert_eq!(pushed, site + 5);
    assert_eq!(insns[0].memory_displacement64() as i64, -8);
    assert_eq!(insns[2].memory_displacement64(), 4);
    assert_eq!(insns[3].near_branch_target(), site + 5 + 0x100);
    let half = slot.place(5).unwrap();
    assert_eq!((half.rip, half.rsp_adjust), (site, 8));
    assert_eq!(slot.place(slot.resume).unwrap().rip, site + 5 + 0x100);
}

#[test]
fn what_cannot_move_says_why() {
    let cases: &[(&[u8], Expected)] = &[
        (&[0xcc], |e| matches!(e, CannotMove::Breakpoint(SITE))),
        (&[0x0f, 0x05], |e| matches!(e, CannotMove::Traps(SITE))),
        (&[0x0f, 0x0b], |e| matches!(e, CannotMove::Traps(SITE))),
        (&[0xcd, 0x80], |e| matches!(e, CannotMove::Traps(SITE))),
        (&[0xf4], |e| matches!(e, CannotMove::Traps(SITE))),
        // call [rax]; call [rip+8]; call rsp
        (&[0xff, 0x10], |e| {
            matches!(e, CannotMove::IndirectCall(SITE))
        }),
        (&[0xff, 0x15, 8, 0, 0, 0], |e| {
            matches!(e, CannotMove::IndirectCall(SITE))
        }),
        (&[0xff, 0xd4], |e| {
            matches!(e, CannotMove::IndirectCall(SITE))
        }),
        (&[0xc2, 8, 0], |e| matches!(e, CannotMove::Odd(SITE))),
        (&[0x48], |e| matches!(e, CannotMove::Undecodable(SITE))),
        (&[0x06], |e| matches!(e, CannotMove::Undecodable(SITE))),
        (&[], |e| matches!(e, CannotMove::Undecodable(SITE))),
    ];
    for (code, expected) in cases {
        let error = relocate(code, SITE, SLOT).unwrap_err();
        assert!(expected(&error), "{code:x?}: {error}");
    }
    let far = relocate(&[0x55], SITE, 0x7000_0000_0000).unwrap_err();
    assert!(matches!(far, CannotMove::TooFar { .. }));
    // An indirect jump is its own way out.
    let slot = relocate(&[0xff, 0xe0], SITE, SLOT).unwrap();
    assert_eq!((slot.bytes.as_slice(), slot.resume), (&[0xff, 0xe0][..], 2));
}

#[test]
fn only_memory_that_may_not_be_there_can_fault() {
    let faults = |code: &[u8]| relocate(code, SITE, SLOT).unwrap().can_fault;
    assert!(faults(&[0x84, 0x00])); // test al, [rax]
    assert!(faults(&[0x48, 0x8b, 0x40, 8])); // mov rax, [rax+8]
    assert!(faults(&[0x48, 0xf7, 0xf9])); // idiv rcx
    assert!(!faults(&[0x48, 0x8d, 0x40, 8])); // lea rax, [rax+8]
    assert!(!faults(&[0x0f, 0x1f, 0x40, 0])); // nop [rax]
    assert!(!faults(&[0x48, 0x89, 0x44, 0x24, 8])); // mov [rsp+8], rax
    assert!(!faults(&[0x31, 0xc0])); // xor eax, eax
}

/// Every entry site and RET of a real program moves, or says why not, and
/// means the same afterwards.
#[test]
fn every_site_of_a_real_program_moves() {
    let disassembler = Disassembler::new().unwrap();
    let functions = go_functions();
    let top = functions.iter().map(|f| f.entry).max().unwrap();
    let at = top + (16 << 20);
    let (mut moved, mut faulting, mut odd) = (0_u64, 0_u64, Vec::new());
    for f in &functions {
        let scan = disassembler.scan_function(&f.code, f.entry);
        for site in std::iter::once(scan.site).chain(scan.rets.iter().copied()) {
            let code = f.code.get((site - f.entry) as usize..).unwrap();
            match relocate(code, site, at) {
                Ok(slot) => {
                    assert!(slot.bytes.len() <= MAX_SLOT);
                    moved += 1;
                    faulting += u64::from(slot.can_fault);
                    assert_means_the_same(code, site, &slot, at);
                }
                Err(why) => odd.push(format!("{}: {why}", f.name)),
            }
        }
    }
    println!(
        "moved {moved}, of these {faulting} can fault, refused {}",
        odd.len()
    );
    for o in &odd {
        println!("  {o}");
    }
    assert!(odd.len() * 1000 < moved as usize, "too many refused");
}

fn assert_means_the_same(code: &[u8], site: u64, slot: &Slot, at: u64) {
    let old = decode(code.get(..slot.insn_len).unwrap(), site)[0];
    let new = decode(&slot.bytes, at);
    match old.flow_control() {
        FlowControl::Next => {
            assert_same(&old, &new[0]);
            assert_goes_on(slot, site, at);
        }
        FlowControl::Return => assert_eq!(slot.bytes, code[..slot.insn_len]),
        FlowControl::UnconditionalBranch => {
            assert_eq!(new.len(), 1);
            assert_eq!(new[0].near_branch_target(), old.near_branch_target());
        }
        FlowControl::ConditionalBranch => {
            assert_goes_on(slot, site, at);
            assert_eq!(new[0].condition_code(), old.condition_code());
            assert_eq!(new[0].near_branch_target(), old.near_branch_target());
        }
        FlowControl::Call => {
            assert_eq!(
                new.last().unwrap().near_branch_target(),
                old.near_branch_target()
            );
        }
        other => assert!(matches!(other, FlowControl::IndirectBranch), "{other:?}"),
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_move_or_are_refused(code: [u8; 15], site: u64, slot: u64) {
        if let Ok(moved) = relocate(&code, site, slot) {
            assert!(moved.bytes.len() <= MAX_SLOT);
            assert!(moved.resume <= moved.bytes.len());
        }
    }
}

#[test]
fn a_call_to_a_register_pushes_where_it_would_have_returned_to() {
    // call rcx, low: push next; jmp rcx.
    let slot = relocate(&[0xff, 0xd1], 0x40_1000, 0x60_0000).unwrap();
    assert_eq!(slot.bytes, [0x68, 0x02, 0x10, 0x40, 0, 0xff, 0xe1]);
    assert_eq!(slot.resume, slot.bytes.len());
    let home = slot.place(5).expect("before the jump");
    assert_eq!((home.rip, home.rsp_adjust), (0x40_1000, 8));
    // call r9, high: by halves.
    let slot = relocate(&[0x41, 0xff, 0xd1], 0x5555_0000_1000, 0x5555_0100_0000).unwrap();
    assert!(slot.bytes.ends_with(&[0x41, 0xff, 0xe1]));
    assert!(slot.bytes.len() <= MAX_SLOT);
    let adjusted = slot.places.iter().filter(|p| p.rsp_adjust == 8).count();
    assert_eq!(adjusted, 3);
}
