//! What a trampoline copies of a value and of what it points to, while the call
//! that has it still stands at its site: an error's text, an address. Later the
//! objects may be another's, or the process gone.
//!
//! Copying is straight-line code. What is followed is decided by the type word of
//! an interface, and every pointer on the way is compared with the first page.

use std::sync::Arc;

/// Pointers below this are nil, or nil plus the offset of a field: Go keeps the
/// first page unmapped (runtime/signal_unix.go, sigpanic: `gp.sigcode1 < 0x1000`).
pub const FIRST_PAGE: i32 = 0x1000;

/// Lengths of which [`Part::Short`] copies: those of IP addresses.
pub(super) const SHORT: [i32; 2] = [16, 4];

/// Something of an object that is copied. Offsets are from the object's beginning.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Part {
    /// Words of it, a pair of them at least where a string or slice is meant.
    Words {
        /// Where they begin.
        at: i32,
        /// How many.
        count: u32,
    },
    /// An interface with methods, and what it holds.
    Interface {
        /// Where its two words are.
        at: i32,
        /// What is copied of what it holds.
        of: Arc<Kinds>,
    },
    /// The bytes of a slice or string, if it has 4 or 16 of them.
    Short {
        /// Where its pointer and its length are.
        at: i32,
    },
    /// What a pointer leads to.
    Pointer {
        /// Where the pointer is.
        at: i32,
        /// What is copied behind it.
        parts: Vec<Part>,
    },
}

/// Types that an interface may hold and what is copied of each. Of others the type
/// word alone is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Kinds {
    /// Offset of the type word in an itab.
    pub type_at: i32,
    /// The types.
    pub kinds: Vec<Kind>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kind {
    /// Its type word: the address of its descriptor.
    pub ty: u64,
    /// What is copied of what the data word points to.
    pub parts: Vec<Part>,
}

/// Words that parts take in a record.
pub(super) fn words(parts: &[Part]) -> usize {
    parts.iter().map(Part::words).sum()
}

impl Part {
    pub(super) fn words(&self) -> usize {
        match self {
            Part::Words { count, .. } => *count as usize,
            Part::Interface { of, .. } => of.words(),
            Part::Short { .. } => 4,
            Part::Pointer { parts, .. } => words(parts).saturating_add(1),
        }
    }
}

impl Kinds {
    /// Words of a record: itab, data, type, and the parts of the one that it is.
    pub(super) fn words(&self) -> usize {
        let longest = self.kinds.iter().map(|kind| words(&kind.parts)).max();
        longest.unwrap_or(0).saturating_add(3)
    }

    /// Tells what stood where: the address, the words and how many bytes of them.
    /// `words` are those of the record.
    pub fn tell<'a>(&self, words: &'a [u64], told: &mut dyn FnMut(u64, &'a [u64], usize)) {
        let word = |i: usize| words.get(i).copied().unwrap_or(0);
        let (itab, data, ty) = (word(0), word(1), word(2));
        if is_nil(itab) {
            return;
        }
        let rest = words.get(3..).unwrap_or_default();
        told(behind(itab, self.type_at), first(words, 2, 1), 8);
        if !is_nil(data)
            && let Some(kind) = self.kinds.iter().find(|kind| kind.ty == ty)
        {
            tell(&kind.parts, data, rest, told);
        }
    }
}

/// Tells what stood where, of an object at `base`.
pub fn tell<'a>(
    parts: &[Part],
    base: u64,
    words: &'a [u64],
    told: &mut dyn FnMut(u64, &'a [u64], usize),
) {
    let mut words = words;
    for part in parts {
        let own = first(words, 0, part.words());
        words = words.get(part.words()..).unwrap_or_default();
        let word = |i: usize| own.get(i).copied().unwrap_or(0);
        match part {
            Part::Words { at, .. } => told(behind(base, *at), own, own.len().saturating_mul(8)),
            Part::Interface { at, of } => {
                told(behind(base, *at), first(own, 0, 2), 16);
                of.tell(own, told);
            }
            Part::Short { at } => {
                told(behind(base, *at), first(own, 0, 2), 16);
                let (to, len) = (word(0), word(1));
                if !is_nil(to) && SHORT.iter().any(|short| *short as u64 == len) {
                    told(to, first(own, 2, 2), len as usize);
                }
            }
            Part::Pointer { at, parts } => {
                told(behind(base, *at), first(own, 0, 1), 8);
                if !is_nil(word(0)) {
                    tell(parts, word(0), own.get(1..).unwrap_or_default(), told);
                }
            }
        }
    }
}

fn first(words: &[u64], from: usize, count: usize) -> &[u64] {
    let rest = words.get(from..).unwrap_or_default();
    rest.get(..count).unwrap_or(rest)
}

fn behind(base: u64, offset: i32) -> u64 {
    base.wrapping_add_signed(i64::from(offset))
}

fn is_nil(pointer: u64) -> bool {
    pointer < FIRST_PAGE as u64
}
