//! What a trampoline asks before it writes a record, so that what nobody wants
//! costs none.
//!
//! A call that is not let in at its entry should not be told of at its RET
//! either, where little is known of it. So calls that are let in leave a mark,
//! which the RET takes away ([`super::handed`]).

use super::capture::Int;

/// Counters for [`Test::Every`]; words of the ring's control page.
pub const COUNTERS: u16 = 256;

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
