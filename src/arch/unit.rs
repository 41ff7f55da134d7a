//! A unit: the whole instructions at one place of a function that a 5-byte jump
//! replaces, and what is needed to run them elsewhere.
//!
//! [`find`] finds units and proves them safe; the generator of trampolines takes
//! them as they are. [`interiors`] are the places where nobody may be when the
//! jumps are written. Pure: no process, no symbols.

pub mod find;
pub mod interiors;
#[cfg(test)]
mod tests;

pub use find::{CannotJump, Found, find_units};
pub use interiors::Interiors;

use super::slot::instruction_text;

/// Bytes of `jmp rel32`, the least that a unit has.
pub const JUMP: usize = 5;

/// Most bytes that a unit has: five instructions of usual length, and more than
/// any prologue or epilogue of the Go compiler's needs.
pub const MAX_UNIT: usize = 48;

/// Which way a unit is passed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnitKind {
    /// Behind the function's stack check (or at its entry, where it has none):
    /// passed once a call, arguments still in their registers, flags free. What
    /// follows the unit runs after it, and may use flags and registers that the
    /// unit's instructions set: they run last, after the call is recorded.
    Entry,
    /// The stack check itself, at the function's entry: what passes the check is
    /// a call that begins; what does not goes to `runtime.morestack` and comes
    /// back. The unit's last instruction is the check's conditional jump.
    Check,
    /// The end of the function, RET included. Nothing follows; results are in
    /// their registers once all but the RET has run (the unit may hold
    /// instructions that load them), and R12, R13, RDX and the flags are free
    /// only then: the call is recorded right before the RET, where RSP is at the
    /// return address.
    Return,
}

/// Instructions to be replaced by a jump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Address of the first byte.
    pub at: u64,
    /// The bytes: whole instructions, [`JUMP`]..=[`MAX_UNIT`] of them. Behind
    /// the RET of a return that ends the function may come int3 padding, which
    /// is no instruction of the unit and is never run.
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

impl Unit {
    /// One past its last byte.
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.code.len() as u64)
    }

    /// The bytes that a jump replaces; nobody else's jump may touch one of them.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.at..self.end()
    }

    /// Addresses of its instructions but the first: where a thread could be that
    /// is neither before the unit nor past it.
    pub fn inner_starts(&self) -> impl Iterator<Item = u64> + '_ {
        let starts = self.starts.iter().skip(1);
        starts.map(|start| self.at.saturating_add(u64::from(*start)))
    }

    /// Its instructions, for people.
    pub fn instructions(&self) -> String {
        let texts = self.starts.iter().map(|start| {
            let code = self.code.get(usize::from(*start)..).unwrap_or_default();
            instruction_text(code, self.at.saturating_add(u64::from(*start)))
        });
        texts.collect::<Vec<_>>().join("; ")
    }
}
