//! Places inside pieces of code where nobody may be when the pieces are
//! replaced or unmapped.

use std::ops::Range;

/// A set of address ranges, asked word by word whether an address lies in one.
/// Each range keeps the index that it was given with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interiors {
    /// Ascending by start, not overlapping.
    ranges: Vec<(Range<u64>, usize)>,
}

impl Interiors {
    /// The bytes of `pieces` but the first of each: a thread at a piece's first
    /// byte is before it, and runs into the jump that is put there.
    pub fn strictly(pieces: impl IntoIterator<Item = Range<u64>>) -> Interiors {
        Interiors::new(pieces.into_iter().map(|r| r.start.saturating_add(1)..r.end))
    }

    /// All bytes of `pieces`: what is unmapped may not be returned to at all.
    pub fn whole(pieces: impl IntoIterator<Item = Range<u64>>) -> Interiors {
        Interiors::new(pieces)
    }

    fn new(pieces: impl IntoIterator<Item = Range<u64>>) -> Interiors {
        let numbered = pieces.into_iter().enumerate();
        let mut ranges: Vec<_> = numbered
            .filter(|(_, range)| !range.is_empty())
            .map(|(index, range)| (range, index))
            .collect();
        ranges.sort_by_key(|(range, _)| range.start);
        Interiors { ranges }
    }

    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The index of the piece that holds `address`.
    pub fn find(&self, address: u64) -> Option<usize> {
        let after = self
            .ranges
            .partition_point(|(range, _)| range.start <= address);
        let (range, index) = self.ranges.get(after.checked_sub(1)?)?;
        range.contains(&address).then_some(*index)
    }

    /// First and last address of them all: most words are told off by it.
    pub fn span(&self) -> Range<u64> {
        let first = self.ranges.first().map_or(0, |(range, _)| range.start);
        let last = self.ranges.iter().map(|(range, _)| range.end).max();
        first..last.unwrap_or(0)
    }
}
