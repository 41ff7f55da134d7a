//! Go's pc-value tables: a number that changes along a function's code.
//!
//! Pairs of varints (change of value zigzag-coded, bytes of code), the value
//! begins at -1, a change of 0 ends the table except as its first pair
//! (runtime/symtab.go: step). On amd64 the code quantum is 1.

use super::bytes::uvarint;

/// A stretch of a function's code with one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcRange {
    /// Where it begins, in bytes from the function's entry.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// The value there.
    pub value: i32,
}

/// Walks one table; ends early where the bytes make no sense.
#[derive(Clone, Debug)]
pub struct PcValues<'a> {
    data: &'a [u8],
    at: usize,
    pc: u32,
    value: i32,
    done: bool,
}

impl<'a> PcValues<'a> {
    /// The table that begins `data`.
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            pc: 0,
            value: -1,
            done: false,
        }
    }

    /// The value at `pc` bytes into the function.
    pub(crate) fn value_at(mut self, pc: u32) -> Option<i32> {
        self.find(|range| pc < range.end).map(|range| range.value)
    }
}

impl Iterator for PcValues<'_> {
    type Item = PcRange;

    fn next(&mut self) -> Option<PcRange> {
        if self.done {
            return None;
        }
        let first = self.at == 0;
        self.done = true;
        let change = u32::try_from(uvarint(self.data, &mut self.at)?).ok()?;
        if change == 0 && !first {
            return None;
        }
        // Zigzag: the lowest bit says negative (encoding/binary).
        let delta = (change >> 1).cast_signed() ^ -(change & 1).cast_signed();
        let bytes = u32::try_from(uvarint(self.data, &mut self.at)?).ok()?;
        let start = self.pc;
        self.pc = start.checked_add(bytes)?;
        self.value = self.value.wrapping_add(delta);
        self.done = false;
        Some(PcRange {
            start,
            end: self.pc,
            value: self.value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(data: &[u8]) -> Vec<(u32, u32, i32)> {
        PcValues::new(data)
            .map(|r| (r.start, r.end, r.value))
            .collect()
    }

    #[test]
    fn values_change_along_the_code() {
        // +1 for 4 bytes, +8 for 16, -8 for 1, end.
        let data = [2, 4, 16, 16, 15, 1, 0];
        assert_eq!(all(&data), [(0, 4, 0), (4, 20, 8), (20, 21, 0)]);
        assert_eq!(PcValues::new(&data).value_at(4), Some(8));
        assert_eq!(PcValues::new(&data).value_at(21), None);
    }

    #[test]
    fn a_first_change_of_zero_is_not_the_end() {
        assert_eq!(all(&[0, 7, 0]), [(0, 7, -1)]);
    }

    #[test]
    fn a_table_cut_short_ends() {
        assert_eq!(all(&[2, 4, 16]), [(0, 4, 0)]);
        assert_eq!(all(&[0xff; 40]), []);
    }
}
