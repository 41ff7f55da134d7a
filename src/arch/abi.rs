//! Where Go puts parameters and results on amd64: ABIInternal and ABI0 as a
//! pure function from the shapes of types to registers and stack slots.
//!
//! The rules are those of `cmd/compile/abi-internal.md` (the amd64 part reads
//! the same from Go 1.17 to 1.27) and of `cmd/compile/internal/abi/abiutils.go`
//! (`ABIAnalyzeTypes`), with which the stack offsets agree. Registers hold
//! arguments at entry and results at return; both sequences begin anew.

/// Integer registers of ABIInternal, in the order of assignment.
pub const INT_REGISTERS: [&str; 9] = ["rax", "rbx", "rcx", "rdi", "rsi", "r8", "r9", "r10", "r11"];

/// DWARF numbers of [`INT_REGISTERS`] (System V ABI amd64, figure 3.36).
pub const INT_DWARF: [u16; 9] = [0, 3, 2, 5, 4, 8, 9, 10, 11];

/// Number of floating point registers (X0 to X14).
pub const FLOAT_REGISTERS: u8 = 15;

/// DWARF number of X0; the others follow.
pub const FLOAT_DWARF: u16 = 17;

/// Bytes of a machine word, and the alignment of the parts of an argument area.
const WORD: u64 = 8;

/// Levels of nesting looked at: a type cannot nest without end, a description
/// read from a hostile file can.
const MAX_DEPTH: u32 = 64;

/// What a type is made of, as far as calls are concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Integers, bools, pointers, maps, channels, funcs.
    Int {
        /// Bytes: 1, 2, 4 or 8.
        size: u8,
        /// Sign-extend when widened.
        signed: bool,
    },
    /// `float32`, `float64`.
    Float {
        /// Bytes: 4 or 8.
        size: u8,
    },
    /// Structs, and what Go lays out like one: strings, slices, interfaces,
    /// complex numbers.
    Struct {
        /// Offset and shape of each field, in memory order.
        fields: Vec<(u64, Shape)>,
        /// Bytes.
        size: u64,
        /// Alignment in bytes.
        align: u64,
    },
    /// `[len]elem`
    Array {
        /// The element.
        elem: Box<Shape>,
        /// Number of elements.
        len: u64,
        /// Bytes of the whole array.
        size: u64,
        /// Alignment in bytes.
        align: u64,
    },
}

impl Shape {
    /// A pointer or anything that is one: map, chan, func, `unsafe.Pointer`.
    pub fn pointer() -> Self {
        Self::Int {
            size: 8,
            signed: false,
        }
    }

    /// Two words, as interfaces are.
    pub fn interface() -> Self {
        Self::words(&[Self::pointer(), Self::pointer()])
    }

    /// Pointer and length.
    pub fn string() -> Self {
        Self::words(&[Self::pointer(), Self::int()])
    }

    /// Pointer, length, capacity.
    pub fn slice() -> Self {
        Self::words(&[Self::pointer(), Self::int(), Self::int()])
    }

    /// `int`
    pub fn int() -> Self {
        Self::Int {
            size: 8,
            signed: true,
        }
    }

    /// A complex number of `size` bytes (8 or 16): two floats.
    pub fn complex(size: u8) -> Self {
        let half = size / 2;
        let part = Self::Float { size: half };
        Self::Struct {
            fields: vec![(0, part.clone()), (u64::from(half), part)],
            size: u64::from(size),
            align: u64::from(half.max(1)),
        }
    }

    fn words(parts: &[Self]) -> Self {
        Self::Struct {
            fields: (0u64..).step_by(8).zip(parts.iter().cloned()).collect(),
            size: WORD.saturating_mul(parts.len() as u64),
            align: WORD,
        }
    }

    /// Bytes of memory the type takes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Int { size, .. } | Self::Float { size } => u64::from(*size),
            Self::Struct { size, .. } | Self::Array { size, .. } => *size,
        }
    }

    /// Alignment in bytes, 1 or more.
    pub fn align(&self) -> u64 {
        match self {
            Self::Int { size, .. } | Self::Float { size } => u64::from((*size).max(1)),
            Self::Struct { align, .. } | Self::Array { align, .. } => (*align).max(1),
        }
    }
}

/// Which calling convention.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Abi {
    /// Registers; every body compiled from Go (since Go 1.17).
    Internal,
    /// Everything on the stack; assembly, and the wrappers that call it.
    Abi0,
}

/// A register of ABIInternal by its place in the sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reg {
    /// Index into [`INT_REGISTERS`].
    Int(u8),
    /// X0 to X14.
    Float(u8),
}

impl Reg {
    /// The register's number in DWARF, 0 for one that does not exist.
    pub fn dwarf(self) -> u16 {
        match self {
            Self::Int(i) => INT_DWARF.get(usize::from(i)).copied().unwrap_or(0),
            Self::Float(i) => FLOAT_DWARF.saturating_add(u16::from(i)),
        }
    }
}

/// A part of a value in one register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Bytes from the value's start.
    pub offset: u64,
    /// Bytes of the register that count, from its low end.
    pub size: u8,
    /// The register.
    pub reg: Reg,
}

/// Where a parameter or result is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// In registers; bytes covered by no piece are padding.
    Registers(Vec<Piece>),
    /// In memory, at this offset from argp. At a function's first instruction
    /// argp is RSP+8, just above the return address.
    Stack {
        /// Bytes from argp.
        offset: u64,
    },
}

/// A parameter's or result's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Where it is at entry (parameters) or at return (results).
    pub location: Location,
    /// For a parameter in registers: offset from argp of the place the callee
    /// may spill it to. Holds garbage until it does.
    pub spill: Option<u64>,
}

/// The places of a function's parameters and results.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// In order, the receiver first.
    pub params: Vec<Slot>,
    /// In order.
    pub results: Vec<Slot>,
    /// Bytes from argp to the end of the stack-assigned results: what the
    /// caller's frame surely holds of this call.
    pub stack_size: u64,
    /// Offset from argp of the spill area.
    pub spill_start: u64,
}

/// Places `params` (the receiver first, for a generic instance the dictionary
/// after it) and `results`.
pub fn assign(abi: Abi, params: &[Shape], results: &[Shape]) -> Layout {
    let mut state = State {
        abi,
        ints: 0,
        floats: 0,
        stack: 0,
        spill: 0,
    };
    let mut placed: Vec<Slot> = params.iter().map(|p| state.place(p, true)).collect();
    state.stack = round_up(state.stack, WORD);
    state.ints = 0;
    state.floats = 0;
    let results = results.iter().map(|r| state.place(r, false)).collect();
    let spill_start = round_up(state.stack, WORD);
    for slot in &mut placed {
        slot.spill = slot.spill.map(|offset| offset.saturating_add(spill_start));
    }
    Layout {
        params: placed,
        results,
        stack_size: state.stack,
        spill_start,
    }
}

/// How far the assignment has come.
struct State {
    abi: Abi,
    ints: u8,
    floats: u8,
    stack: u64,
    spill: u64,
}

impl State {
    fn place(&mut self, shape: &Shape, param: bool) -> Slot {
        let before = (self.ints, self.floats);
        let mut pieces = Vec::new();
        // A zero-size value has no registers; its stack slot has no bytes.
        if self.abi == Abi::Internal && shape.size() > 0 && self.take(shape, 0, &mut pieces, 0) {
            let spill = param.then(|| next(&mut self.spill, shape));
            return Slot {
                location: Location::Registers(pieces),
                spill,
            };
        }
        (self.ints, self.floats) = before;
        let offset = next(&mut self.stack, shape);
        Slot {
            location: Location::Stack { offset },
            spill: None,
        }
    }

    /// Assigns registers to all of `shape`, or says no.
    fn take(&mut self, shape: &Shape, at: u64, pieces: &mut Vec<Piece>, depth: u32) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        match shape {
            Shape::Int { size, .. } => {
                if usize::from(self.ints) >= INT_REGISTERS.len() {
                    return false;
                }
                pieces.push(Piece {
                    offset: at,
                    size: *size,
                    reg: Reg::Int(self.ints),
                });
                self.ints = self.ints.saturating_add(1);
                true
            }
            Shape::Float { size } => {
                if self.floats >= FLOAT_REGISTERS {
                    return false;
                }
                pieces.push(Piece {
                    offset: at,
                    size: *size,
                    reg: Reg::Float(self.floats),
                });
                self.floats = self.floats.saturating_add(1);
                true
            }
            Shape::Struct { fields, .. } => fields.iter().all(|(offset, field)| {
                self.take(
                    field,
                    at.saturating_add(*offset),
                    pieces,
                    depth.saturating_add(1),
                )
            }),
            Shape::Array { len: 0, .. } => true,
            Shape::Array { elem, len: 1, .. } => {
                self.take(elem, at, pieces, depth.saturating_add(1))
            }
            // Two or more elements would need indexed registers: never, even
            // where the elements have no bytes (types/size.go, CalcArraySize).
            Shape::Array { .. } => false,
        }
    }
}

/// The next place for `shape` in a sequence that has come to `at`.
fn next(at: &mut u64, shape: &Shape) -> u64 {
    let offset = round_up(*at, shape.align());
    *at = offset.saturating_add(shape.size());
    offset
}

/// `n` rounded up to a multiple of `align`; saturates below 2^64.
fn round_up(n: u64, align: u64) -> u64 {
    n.checked_next_multiple_of(align.max(1)).unwrap_or(n)
}

#[cfg(test)]
#[path = "abi_tests.rs"]
mod tests;
