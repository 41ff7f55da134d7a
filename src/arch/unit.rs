//! A unit: the whole instructions at one place of a function that a 5-byte jump
//! replaces, and what is needed to run them elsewhere.
//!
//! The planner finds units and proves them safe; the generator of trampolines
//! takes them as they are. Pure data: no process, no symbols.

/// Bytes of `jmp rel32`, the least that a unit has.
pub const JUMP: usize = 5;

/// Most bytes that a unit has: five instructions of usual length, and more than
/// any prologue or epilogue of the Go compiler's needs.
pub const MAX_UNIT: usize = 48;

/// Which way a unit is passed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnitKind {
    /// Behind the function's stack check (or at its entry, where it has none):
    /// passed once a call, arguments still in their registers. What follows the
    /// unit runs after it.
    Entry,
    /// The stack check itself, at the function's entry: what passes the check is
    /// a call that begins; what does not goes to `runtime.morestack` and comes
    /// back. The unit's last instruction is the check's conditional jump.
    Check,
    /// The end of the function, RET included: results are in their registers,
    /// nothing follows.
    Return,
}

/// Instructions to be replaced by a jump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Address of the first byte.
    pub at: u64,
    /// The bytes: whole instructions, [`JUMP`]..=[`MAX_UNIT`] of them.
    pub code: Vec<u8>,
    /// Where each instruction begins, from the unit's first byte; ascending,
    /// beginning with 0.
    pub starts: Vec<u8>,
    /// What it is.
    pub kind: UnitKind,
    /// Bytes from RSP, as it is before the unit's first instruction, to the
    /// return address of the call.
    pub to_return: u32,
}
