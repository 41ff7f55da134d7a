use super::*;
use crate::arch::scan::Disassembler;
use crate::arch::testing::go_functions;
use proptest::prelude::*;
use std::iter::once;

/// An instruction, and why it stays where it is.
type Stays = (&'static [u8], fn(u64) -> CannotJump);

const AT: u64 = 0x40_1000;

fn found(code: &[u8]) -> Found {
    found_with(code, &[])
}

fn found_with(code: &[u8], landings: &[u64]) -> Found {
    let scan = Disassembler::new().unwrap().scan_function(code, AT);
    assert_eq!(scan.problems, []);
    find_units(code, &scan, landings)
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

const CHECK: &[u8] = &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x12]; // cmp rsp, [r14+16]; jbe
const FRAME: &[u8] = &[0x55, 0x48, 0x89, 0xe5]; // push rbp; mov rbp, rsp
const SUB: &[u8] = &[0x48, 0x83, 0xec, 0x40];
const ADD: &[u8] = &[0x48, 0x83, 0xc4, 0x40];
const END: &[u8] = &[0x5d, 0xc3]; // pop rbp; ret
const GROW: &[u8] = &[0xe8, 0, 0, 0, 0, 0xeb, 0xe1]; // call morestack; jmp entry
const NOPS: &[u8] = &[0x90; 4];

/// A function as the compiler makes them: check, frame, body, end, growth.
fn usual(body: &[u8], end: &[u8]) -> Vec<u8> {
    let mut code = bytes(&[CHECK, FRAME, SUB, body, end]);
    let grow = code.len();
    code[5] = u8::try_from(grow - CHECK.len()).unwrap();
    code.extend([0xe8, 0, 0, 0, 0, 0xeb]);
    let back = -i8::try_from(code.len() + 1).unwrap();
    code.push(back.cast_unsigned());
    code.extend([0xcc; 16]);
    code
}

#[test]
fn the_usual_function() {
    let found = found(&usual(NOPS, &bytes(&[ADD, END])));
    let entry = found.entry.unwrap();
    assert_eq!(
        (entry.kind, entry.at, entry.to_return),
        (UnitKind::Entry, AT + 6, 0)
    );
    assert_eq!(entry.instructions(), "push rbp; mov rbp,rsp; sub rsp,40h");
    assert_eq!(entry.starts, [0, 1, 4]);
    assert_eq!(entry.inner_starts().collect::<Vec<_>>(), [AT + 7, AT + 10]);
    let (ret, unit) = &found.returns[0];
    let unit = unit.as_ref().unwrap();
    assert_eq!(unit.instructions(), "add rsp,40h; pop rbp; ret");
    assert_eq!((unit.end(), unit.to_return), (ret + 1, 0x48));
    assert_eq!(unit.kind, UnitKind::Return);
}

#[test]
fn a_large_frame_is_given_back_by_adding_less_than_nothing() {
    // sub rsp, -128; pop rbp; ret: 128 as the compiler writes it.
    let found = found(&usual(NOPS, &bytes(&[&[0x48, 0x83, 0xec, 0x80], END])));
    assert_eq!(found.returns[0].1.as_ref().unwrap().to_return, 0x88);
}

#[test]
fn short_ends_take_what_stands_before_them() {
    // mov rax, [rsp+24] is a load of the stack's: it goes along.
    let load = [0x48, 0x8b, 0x44, 0x24, 0x18];
    let found_load = found(&usual(&load, END));
    let unit = found_load.returns[0].1.as_ref().unwrap();
    assert_eq!(unit.instructions(), "mov rax,[rsp+18h]; pop rbp; ret");
    assert_eq!(unit.to_return, 8);
    // mov rax, [rcx] may fault; a call stays; div may fault.
    let stays: [Stays; 4] = [
        (&[0x48, 0x8b, 0x01], CannotJump::MayFault),
        (&[0xe8, 0, 0, 0, 0], CannotJump::Flow),
        (&[0x48, 0xf7, 0xf1], CannotJump::MayFault),
        (
            &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0],
            CannotJump::MayFault,
        ),
    ];
    for (insn, why) in stays {
        let found = found(&usual(insn, END));
        assert_eq!(found.returns[0].1, Err(why(AT + 14)), "{insn:x?}");
    }
}

#[test]
fn what_the_stack_pointer_becomes_must_be_plain() {
    // mov rsp, rbp; pop rbp; ret
    let found = found(&usual(&[0x48, 0x89, 0xec], END));
    assert_eq!(found.returns[0].1, Err(CannotJump::Stack(AT + 14)));
}

#[test]
fn nothing_leads_inside() {
    let code = usual(NOPS, &bytes(&[ADD, END]));
    let pop = AT + 6 + 8 + 4 + 4;
    assert_eq!(code[usize::try_from(pop - AT).unwrap()], 0x5d);
    let found = found_with(&code, &[pop]);
    assert_eq!(found.returns[0].1, Err(CannotJump::Target(pop)));
    // At its first byte is before it.
    assert!(found_with(&code, &[pop - 4]).returns[0].1.is_ok());
    // Inside the entry's: the check is left.
    let entry = found_with(&code, &[AT + 7]).entry.unwrap();
    assert_eq!((entry.kind, entry.at), (UnitKind::Check, AT));
    assert_eq!(
        entry.instructions(),
        "cmp rsp,[r14+10h]; jbe short 0000000000401018h"
    );
    // Inside both: nothing.
    let neither = found_with(&code, &[AT + 4, AT + 7]).entry;
    assert_eq!(neither, Err(CannotJump::Target(AT + 7)));
    // A place that is no instruction's beginning: the code is not understood.
    let odd = found_with(&code, &[AT + 8]);
    assert_eq!(odd.entry, Err(CannotJump::Undecodable(AT + 8)));
}

#[test]
fn padding_behind_the_last_return_is_of_use() {
    // xor eax, eax; ret; int3 …: too short for both, the entry comes first.
    let both = found(&bytes(&[&[0x31, 0xc0, 0xc3], &[0xcc; 13]]));
    assert_eq!(both.entry, Err(CannotJump::Flow(AT + 2)));
    let unit = both.returns[0].1.as_ref().unwrap();
    assert_eq!(unit.code, [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);
    assert_eq!((unit.starts.as_slice(), unit.to_return), (&[0][..], 0));
    // Nothing but a RET begins and ends a call at once.
    let only = found(&bytes(&[&[0xc3], &[0xcc; 15]]));
    assert_eq!(only.entry, Err(CannotJump::OnlyRet));
    assert_eq!(only.returns[0].1, Err(CannotJump::OnlyRet));
}

#[test]
fn units_do_not_share_bytes() {
    // mov eax, 1; ret, then more code: the RET has only the entry's bytes.
    let code = bytes(&[&[0xb8, 1, 0, 0, 0, 0xc3], &[0x31, 0xc0, 0xc3], &[0xcc; 7]]);
    let units = found(&code);
    let entry = units.entry.unwrap();
    assert_eq!(entry.range(), AT..AT + 5);
    assert_eq!(units.returns[0].1, Err(CannotJump::Overlaps(AT)));
    assert!(units.returns[1].1.is_ok());
    // With a stack check the entry makes room: pop rbp is the return's.
    let code = bytes(&[CHECK, FRAME, &[0x90; 2], END, GROW, &[0xcc; 8]]);
    let units = found(&{
        let mut code = code;
        code[5] = 8;
        code
    });
    assert_eq!(units.entry.unwrap().kind, UnitKind::Check);
    let unit = units.returns[0].1.as_ref().unwrap();
    assert_eq!(unit.instructions(), "mov rbp,rsp; nop; nop; pop rbp; ret");
}

#[test]
fn a_jump_to_nobody_knows_where() {
    // jmp rdx
    let units = found(&bytes(&[FRAME, SUB, &[0xff, 0xe2], ADD, END, &[0xcc; 8]]));
    assert_eq!(units.entry, Err(CannotJump::UnknownJump(AT + 8)));
    assert_eq!(units.returns[0].1, Err(CannotJump::UnknownJump(AT + 8)));
}

#[test]
fn interiors_are_what_is_strictly_inside() {
    let units = Interiors::strictly([100..105, 50..58, 200..200]);
    assert_eq!(units.span(), 51..105);
    let asked = [49, 50, 51, 57, 58, 100, 101, 104, 105, 200];
    let found: Vec<_> = asked.iter().map(|at| units.find(*at)).collect();
    let (one, two) = (Some(1), Some(0));
    assert_eq!(
        found,
        [None, None, one, one, None, None, two, two, None, None]
    );
    assert_eq!(Interiors::whole(once(7..9)).find(7), Some(0));
    assert!(Interiors::strictly(once(7..8)).is_empty());
}

#[test]
fn units_of_a_real_program_are_whole() {
    let disassembler = Disassembler::new().unwrap();
    let (mut functions, mut entries, mut returns, mut jumping) = (0, 0, 0, 0);
    for f in go_functions().iter().filter(|f| f.name.contains('.')) {
        let scan = disassembler.scan_function(&f.code, f.entry);
        if !scan.problems.is_empty() {
            continue;
        }
        let found = find_units(&f.code, &scan, &[]);
        functions += 1;
        entries += usize::from(found.entry.is_ok());
        returns += found.returns.len();
        let units = found.returns.iter().map(|(_, unit)| unit);
        for unit in units.chain([&found.entry]).flatten() {
            let range = unit.range();
            let from = usize::try_from(unit.at - f.entry).unwrap();
            assert_eq!(f.code[from..from + unit.code.len()], unit.code);
            assert!(
                !scan
                    .branch_targets
                    .iter()
                    .any(|t| *t > range.start && *t < range.end)
            );
        }
        jumping += found
            .returns
            .iter()
            .filter(|(_, unit)| unit.is_ok())
            .count();
    }
    println!("{entries} of {functions} entries, {jumping} of {returns} returns");
    assert!(entries * 100 > functions * 85 && jumping * 100 > returns * 95);
}

proptest! {
    #[test]
    fn any_bytes_are_taken(code in prop::collection::vec(any::<u8>(), 0..200)) {
        let scan = Disassembler::new().unwrap().scan_function(&code, AT);
        let found = find_units(&code, &scan, &[AT + 3]);
        for unit in found.returns.into_iter().map(|(_, unit)| unit).chain([found.entry]).flatten() {
            prop_assert!(unit.end() <= AT + code.len() as u64);
            prop_assert!(unit.code.len() >= JUMP);
        }
    }
}
