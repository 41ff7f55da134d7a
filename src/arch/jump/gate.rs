//! What a trampoline asks before it writes a record, so that what nobody wants
//! costs none.
//!
//! A call that is not let in at its entry should not be told of at its RET
//! either, where little is known of it. So calls that are let in leave a mark:
//! a count in a table beside the ring, at a place that goroutine and depth
//! choose. A RET that finds 0 there is of a call that was not let in. Who reads
//! the ring takes the mark away when the call has ended. Several calls may share
//! a place: then a RET too many is recorded, and never one too few.

use super::capture::Int;

/// Places for marks; a power of two.
pub const MARKS: u64 = 1 << 14;

/// Counters for [`Test::Every`]; words of the ring's control page.
pub const COUNTERS: u16 = 256;

/// Odd numbers that spread goroutine and depth over the places.
pub(super) const BY_GOID: i32 = 0x1e35_a7bd;
pub(super) const BY_DEPTH: i32 = 0x27d4_eb2f;
/// Bits of their sum that are not used.
pub(super) const SHIFT: u32 = 20;

/// The place for a call's mark, as a trampoline works it out.
pub fn place(goid: u64, depth: u64) -> u64 {
    let by = |word: u64, factor: i32| word.wrapping_mul(i64::from(factor).cast_unsigned());
    (by(goid, BY_GOID).wrapping_add(by(depth, BY_DEPTH)) >> SHIFT) & (MARKS - 1)
}

/// A condition on what a trampoline finds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Test {
    /// Of so many, one: the first, and every `k`-th after it.
    Every {
        /// How many.
        k: u32,
        /// Which counter; below [`COUNTERS`].
        counter: u16,
    },
    /// An integer register.
    Int {
        /// Which.
        register: Int,
        /// Must be that, else must not.
        equal: bool,
        /// What.
        value: i64,
    },
    /// A word behind pointers; nil on the way is no.
    Reached {
        /// The register that it begins with.
        from: Int,
        /// Offsets of the pointers on the way.
        hops: Vec<i32>,
        /// Offset of the word.
        field: i32,
        /// Must be that, else must not.
        equal: bool,
        /// What.
        value: i64,
    },
    /// `g.goid`.
    Goid {
        /// Must be that, else must not.
        equal: bool,
        /// What.
        value: i64,
    },
}

/// What becomes of a call's mark.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mark {
    /// There is none.
    #[default]
    None,
    /// An entry that is let in leaves one.
    Leave,
    /// A RET without one is not recorded.
    Ask,
}

/// All that must hold, in this order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Gate {
    /// All of them.
    pub tests: Vec<Test>,
    /// And the mark.
    pub mark: Mark,
}
