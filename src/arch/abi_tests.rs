//! Expectations taken from `cmd/compile/internal/test/abiutils_test.go`
//! (Go 1.26), which prints the compiler's own assignment. That whole programs
//! agree is shown in `image/signature` against DWARF.

use super::*;

const I8: Shape = Shape::Int {
    size: 1,
    signed: true,
};
const I16: Shape = Shape::Int {
    size: 2,
    signed: true,
};
const I32: Shape = Shape::Int {
    size: 4,
    signed: true,
};
const I64: Shape = Shape::Int {
    size: 8,
    signed: true,
};
const F32: Shape = Shape::Float { size: 4 };
const F64: Shape = Shape::Float { size: 8 };

fn array(elem: Shape, len: u64) -> Shape {
    let (size, align) = (elem.size() * len, elem.align());
    Shape::Array {
        elem: Box::new(elem),
        len,
        size,
        align,
    }
}

/// Lays fields out as the compiler does, a byte after a zero-size last one.
fn structure(parts: &[Shape]) -> Shape {
    let mut at = 0;
    let fields: Vec<_> = parts
        .iter()
        .map(|p| (next(&mut at, p), p.clone()))
        .collect();
    if at > 0 && parts.last().is_some_and(|p| p.size() == 0) {
        at += 1;
    }
    let align = parts.iter().map(Shape::align).max().unwrap_or(1);
    Shape::Struct {
        fields,
        size: round_up(at, align),
        align,
    }
}

/// One line a value, in the manner of the compiler's dump.
fn dump(params: &[Shape], results: &[Shape]) -> String {
    let layout = assign(Abi::Internal, params, results);
    let line = |slot: &Slot| match &slot.location {
        Location::Registers(pieces) => {
            let regs: Vec<String> = pieces
                .iter()
                .map(|p| match p.reg {
                    Reg::Int(i) => format!("I{i}"),
                    Reg::Float(i) => format!("F{i}"),
                })
                .collect();
            let spill = slot
                .spill
                .map(|s| format!(" spill {}", s - layout.spill_start));
            format!("{}{}", regs.join(" "), spill.unwrap_or_default())
        }
        Location::Stack { offset } => format!("@{offset}"),
    };
    let ins: Vec<String> = layout.params.iter().map(line).collect();
    let outs: Vec<String> = layout.results.iter().map(line).collect();
    format!(
        "{} -> {} area {}",
        ins.join("; "),
        outs.join("; "),
        layout.spill_start
    )
}

#[test]
fn scalars_fill_both_sequences_and_later_ones_use_what_is_left() {
    let c128 = Shape::complex(16);
    let c64 = Shape::complex(8);
    let params = [
        I8,
        I16,
        I32,
        I64,
        F32,
        F32,
        F64,
        F64,
        I8,
        I16,
        I32,
        I64,
        F32,
        F32,
        F64,
        F64,
        c128.clone(),
        c128.clone(),
        c128.clone(),
        c128,
        c64,
        I8,
        I16,
        I32,
        I64,
        I8,
        I16,
        I32,
        I64,
    ];
    assert_eq!(
        dump(&params, &[I32, F64, F64]),
        "I0 spill 0; I1 spill 2; I2 spill 4; I3 spill 8; F0 spill 16; F1 spill 20; F2 spill 24; \
         F3 spill 32; I4 spill 40; I5 spill 42; I6 spill 44; I7 spill 48; F4 spill 56; F5 spill 60; \
         F6 spill 64; F7 spill 72; F8 F9 spill 80; F10 F11 spill 96; F12 F13 spill 112; @0; @16; \
         I8 spill 128; @24; @28; @32; @40; @42; @44; @48 -> I0; F0; F1 area 56"
    );
}

#[test]
fn arrays_of_one_are_their_element_and_longer_ones_lie_on_the_stack() {
    let one = array(I32, 1);
    let none = array(I32, 0);
    let nested = array(one.clone(), 1);
    let two = array(I32, 2);
    assert_eq!(
        dump(
            &[one.clone(), none.clone(), nested.clone(), two.clone()],
            &[two, one, none, nested]
        ),
        "I0 spill 0; @0; I1 spill 4; @0 -> @8; I0; @16; I1 area 16"
    );
    let hollow = structure(&[I64, array(structure(&[]), 2)]);
    assert_eq!(dump(&[hollow], &[]), "@0 ->  area 16");
}

#[test]
fn structs_go_field_by_field_and_empty_fields_take_nothing() {
    let empty = structure(&[]);
    let s = structure(&[I8, I8, empty.clone(), I8, I16]);
    assert_eq!(
        dump(&[I8, s.clone(), I64], &[s, I8, I32]),
        "I0 spill 0; I1 I2 I3 I4 spill 2; I5 spill 8 -> I0 I1 I2 I3; I4; I5 area 0"
    );
    let s = structure(&[I64, empty.clone()]);
    let fs = structure(&[F64, s.clone(), empty.clone()]);
    assert_eq!(
        dump(&[s.clone(), s, fs.clone()], &[fs.clone(), fs]),
        "I0 spill 0; I1 spill 16; F0 I2 spill 32 -> F0 I0; F1 I1 area 0"
    );
    let s = structure(&[array(I64, 2), empty.clone()]);
    let s2 = structure(&[array(I16, 3), empty.clone()]);
    let fs = structure(&[F64, s.clone(), empty]);
    let two = array(
        Shape::Int {
            size: 1,
            signed: false,
        },
        2,
    );
    assert_eq!(
        dump(
            &[s, two.clone(), s2, fs.clone(), fs.clone()],
            &[fs.clone(), two, fs]
        ),
        "@0; @24; @26; @40; @80 -> @120; @160; @168 area 208"
    );
}

#[test]
fn what_does_not_fit_whole_goes_to_the_stack_and_gives_its_registers_back() {
    let (slice, string) = (Shape::slice(), Shape::string());
    assert_eq!(
        dump(
            &[
                slice.clone(),
                I8,
                slice.clone(),
                I8,
                string.clone(),
                I8,
                I64,
                slice.clone()
            ],
            &[string.clone(), I64, string, slice]
        ),
        "I0 I1 I2 spill 0; I3 spill 24; I4 I5 I6 spill 32; I7 spill 56; @0; I8 spill 57; @16; @24 \
         -> I0 I1; I2; I3 I4; I5 I6 I7 area 48"
    );
}

#[test]
fn methods_and_interfaces() {
    let s1 = structure(&[I16, I16, I16]);
    let pointers = array(Shape::pointer(), 7);
    assert_eq!(
        dump(
            &[s1, Shape::pointer(), pointers.clone(), F64, I16, I16, I16],
            &[pointers, F64, I64]
        ),
        "I0 I1 I2 spill 0; I3 spill 8; @0; F0 spill 16; I4 spill 24; I5 spill 26; I6 spill 28 \
         -> @56; F0; I0 area 112"
    );
    let bool1 = Shape::Int {
        size: 1,
        signed: false,
    };
    let (s1, any) = (structure(&[I16, I16, bool1]), Shape::interface());
    assert_eq!(
        dump(
            &[
                s1,
                any.clone(),
                any.clone(),
                any.clone(),
                Shape::pointer(),
                any.clone(),
                I16
            ],
            &[any.clone(), any, Shape::pointer()]
        ),
        "I0 I1 I2 spill 0; I3 I4 spill 8; I5 I6 spill 24; I7 I8 spill 40; @0; @8; @24 \
         -> I0 I1; I2 I3; I4 area 32"
    );
}

#[test]
fn the_read_that_everybody_traces() {
    let layout = assign(
        Abi::Internal,
        &[Shape::pointer(), Shape::slice()],
        &[Shape::int(), Shape::interface()],
    );
    let regs = |slot: &Slot| match &slot.location {
        Location::Registers(pieces) => pieces
            .iter()
            .map(|p| match p.reg {
                Reg::Int(i) => INT_REGISTERS[usize::from(i)],
                Reg::Float(_) => "x",
            })
            .collect::<Vec<_>>(),
        Location::Stack { .. } => vec!["stack"],
    };
    assert_eq!(regs(&layout.params[0]), ["rax"]);
    assert_eq!(regs(&layout.params[1]), ["rbx", "rcx", "rdi"]);
    assert_eq!(regs(&layout.results[0]), ["rax"]);
    assert_eq!(regs(&layout.results[1]), ["rbx", "rcx"]);
}

#[test]
fn abi0_is_all_stack_results_after_arguments() {
    let layout = assign(Abi::Abi0, &[I32, Shape::slice(), I8], &[I8, I64]);
    let at = |slot: &Slot| match slot.location {
        Location::Stack { offset } => Some(offset),
        Location::Registers(_) => None,
    };
    assert_eq!(
        layout.params.iter().map(at).collect::<Vec<_>>(),
        [Some(0), Some(8), Some(32)]
    );
    assert_eq!(
        layout.results.iter().map(at).collect::<Vec<_>>(),
        [Some(40), Some(48)]
    );
    assert_eq!(layout.stack_size, 56);
}

#[test]
fn hostile_shapes_end() {
    let mut deep = I64;
    for _ in 0..1000 {
        deep = Shape::Array {
            elem: Box::new(deep),
            len: 1,
            size: u64::MAX,
            align: 0,
        };
    }
    let layout = assign(Abi::Internal, &[deep.clone(), deep], &[]);
    assert!(
        layout
            .params
            .iter()
            .all(|s| matches!(s.location, Location::Stack { .. }))
    );
}
