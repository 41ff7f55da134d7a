//! What a trampoline writes down besides its head, and where in the record.
//!
//! A record is a sequence of 8-byte words. Eight of them are its head:
//!
//! ```text
//! 0 commit   the ticket + 1 once the record is whole, 0 while it is written
//! 1 ticket   counts records of this ring from 0
//! 2 tsc      the processor's time stamp counter
//! 3 site     the number given to the trampoline, below; what else is told, above
//!            ([`TOOK`](super::handed::TOOK), and how many words there are)
//! 4 goid     g.goid
//! 5 hi       g.stack.hi
//! 6 sp       where the return address of the call lies
//! 7 g        R14
//! ```
//!
//! What follows is laid out per site by its [`Shape`].

use std::sync::Arc;

use super::gate::Gate;
use super::held::{self, Kinds, Part};

/// Words of a record's head.
pub const HEAD: usize = 8;

/// Bytes of a cache line: records begin at one.
pub const LINE: usize = 64;

/// Most bytes of a record: the ring would hold too few otherwise.
pub const MAX_RECORD: usize = 4096;

/// One of the nine integer registers of Go's ABI, by its place in their
/// sequence: RAX RBX RCX RDI RSI R8 R9 R10 R11 (cmd/compile/abi-internal.md).
pub type Int = u8;

/// R14, in which Go keeps g; as the beginning of a [`Capture::Chain`] only.
pub const G: Int = 9;

/// Something to be written down.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Capture {
    /// An integer register: one word.
    Int(Int),
    /// A float register, X0 to X14: two words.
    Float(u8),
    /// Words of the stack, from the one above the return address plus `offset`
    /// bytes: what is passed there, or spilled.
    Stack {
        /// Bytes from the word above the return address; a multiple of 8.
        offset: u32,
        /// How many.
        words: u32,
    },
    /// From a pointer in a register over pointers to fields: the last pointer,
    /// 0 where one on the way is nil, and the words at `fields` behind it
    /// (left as they are where it is 0).
    Chain {
        /// The register.
        from: Int,
        /// Offsets of the pointers on the way.
        hops: Vec<i32>,
        /// Offsets of the words to be written down.
        fields: Vec<i32>,
    },
    /// From a pointer in a register over pointers to fields: the last pointer, 0
    /// where one on the way is nil, and parts of what it leads to.
    Copied {
        /// The register.
        from: Int,
        /// Offsets of the pointers on the way.
        hops: Vec<i32>,
        /// What is copied.
        parts: Vec<Part>,
        /// Left out where it was copied before.
        once: Option<Once>,
    },
    /// An interface with methods in two registers: its itab, and unless that is
    /// nil its data word, its type word, and parts of what it holds.
    Interface {
        /// The first register.
        itab: Int,
        /// The second.
        data: Int,
        /// What is copied.
        of: Arc<Kinds>,
    },
    /// Return addresses by the chain of frame pointers that begins in RBP, as it
    /// is before a function has made its frame and after it has left it
    /// (cmd/compile/abi-internal.md): for each where on the stack it lies and what
    /// it is, the call's own first; behind the last 0.
    Frames {
        /// Most of them.
        max: u32,
    },
    /// The first bytes of a buffer whose address and length are in registers:
    /// as many as it has, `max` of them at most.
    Bytes {
        /// The address.
        ptr: Int,
        /// The length.
        len: Int,
        /// A multiple of 16.
        max: u32,
    },
    /// Nothing is written down, but where a buffer is that the call will fill is
    /// kept for [`Capture::Filled`] (`handed`).
    Buffer {
        /// Its address.
        ptr: Int,
        /// Its length.
        len: Int,
        /// As much of it as will be written down.
        max: u32,
    },
    /// At a RET with a count of bytes in RAX: where they lie (0: that is not known),
    /// and the first of them, as many as there are, `max` at most.
    Filled {
        /// A multiple of 16.
        max: u32,
    },
}

impl Capture {
    /// It may be left out, but for so many words.
    fn at_least(&self) -> Option<usize> {
        match self {
            Capture::Interface { .. } => Some(1),
            Capture::Copied { once: Some(_), .. } => Some(0),
            _ => None,
        }
    }

    /// Words that it takes.
    pub fn words(&self) -> usize {
        match self {
            Capture::Int(_) => 1,
            Capture::Float(_) => 2,
            Capture::Stack { words, .. } => *words as usize,
            Capture::Chain { fields, .. } => fields.len().saturating_add(1),
            Capture::Copied { parts, .. } => held::words(parts).saturating_add(1),
            Capture::Interface { of, .. } => of.words(),
            Capture::Frames { max } => 2 * *max as usize,
            Capture::Bytes { max, .. } => (*max as usize).div_ceil(8),
            Capture::Buffer { .. } => 0,
            Capture::Filled { max } => (*max as usize).div_ceil(8).saturating_add(1),
        }
    }
}

/// When an object need not be copied again: it was, and it is the same one still.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Once {
    /// Offsets of two pointers in it to what is copied as well.
    pub names: [i32; 2],
    /// Address of four bytes that change before memory is given to another use.
    pub age: u64,
}

/// Where the count of a record's words begins in its site word; 0: all that its
/// site's records have.
const WORDS_AT: u32 = 48;

/// A record's site and how many words of it were written.
pub(super) fn site_word(site: u32, words: usize) -> u64 {
    u64::from(site) | (words as u64) << WORDS_AT
}

/// How many words of a record were written, by its site word.
pub(super) fn words_written(site_word: u64) -> usize {
    match (site_word >> WORDS_AT) as usize {
        0 => usize::MAX,
        words => words,
    }
}

/// The site's number.
pub fn site_number(site_word: u64) -> u32 {
    site_word as u32
}

/// What one site's records hold behind the head: captures, and for each the
/// word at which it begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    parts: Vec<(Capture, usize)>,
    words: usize,
    gate: Gate,
}

impl Shape {
    /// Lays out captures one behind the other, what may be left out last. `None`
    /// when they do not fit [`MAX_RECORD`].
    pub fn new(captures: impl IntoIterator<Item = Capture>) -> Option<Shape> {
        let mut words = HEAD;
        let mut parts: Vec<(Capture, usize)> = Vec::new();
        let all = captures.into_iter();
        let (always, rest): (Vec<_>, Vec<_>) = all.partition(|c| c.at_least().is_none());
        for capture in always.into_iter().chain(rest) {
            if parts.iter().any(|(known, _)| *known == capture) {
                continue;
            }
            let at = words;
            words = words.checked_add(capture.words())?;
            parts.push((capture, at));
        }
        (words.checked_mul(8)? <= MAX_RECORD).then_some(Shape {
            parts,
            words,
            gate: Gate::default(),
        })
    }

    /// The same behind a gate.
    #[must_use]
    pub fn behind(self, gate: Gate) -> Shape {
        Shape { gate, ..self }
    }

    /// What is asked before a record is written.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Captures, and where in the record each begins, in words.
    pub fn parts(&self) -> impl Iterator<Item = (&Capture, usize)> {
        self.parts.iter().map(|(capture, at)| (capture, *at))
    }

    /// Words that are written where what may be left out is: the one capture that
    /// may, if there is one and no more.
    pub(super) fn least(&self) -> Option<(&Capture, usize)> {
        let mut some = self.parts.iter().filter_map(|(capture, at)| {
            let least = capture.at_least()?;
            Some((capture, at.saturating_add(least)))
        });
        some.next().filter(|_| some.next().is_none())
    }

    /// Words of the whole record, its head included.
    pub(super) fn words(&self) -> usize {
        self.words.max(HEAD)
    }

    /// Bytes of the whole record, its head included.
    pub fn bytes(&self) -> usize {
        self.words.max(HEAD) * 8
    }
}
