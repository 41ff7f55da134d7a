//! Where in a target there is room for what gotap maps.
//!
//! The address itself is a mark: its bits 12 to 23 are [`MARK`]. A gotap that
//! is killed between mapping and writing leaves an empty mapping with nothing
//! in it to recognise it by; the address does.

use super::ProcessError;
use super::procfs::{self, Mapping};

/// Bits 12 to 23 of the address of every region.
const MARK: u64 = 0x607;
const MARK_SHIFT: u64 = 12;
const MARK_STEP: u64 = 1 << 24;

/// A jump reaches 2 GB; keep a margin for the length of the range itself.
const REACH: u64 = 0x7000_0000;
const LOWEST: u64 = 0x10_0000;
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// Nothing is put directly beside another mapping.
const MARGIN: u64 = 0x1000;

/// A free range of `len` bytes within ±2 GB of `[lo, hi)`, far from what grows.
pub fn find_room(
    pid: i32,
    mappings: &[Mapping],
    lo: u64,
    hi: u64,
    len: u64,
) -> Result<u64, ProcessError> {
    let from = hi.saturating_sub(REACH).max(LOWEST);
    let to = lo.saturating_add(REACH).min(HIGHEST);
    let mut gaps = Vec::new();
    let mut end_of_last = from;
    for m in mappings {
        if m.start > end_of_last {
            gaps.push((end_of_last, m.start.min(to)));
        }
        end_of_last = end_of_last.max(m.end);
    }
    gaps.push((end_of_last, to));
    let widest = gaps
        .into_iter()
        .filter(|(a, b)| b.saturating_sub(*a) >= len + 2 * MARGIN)
        .max_by_key(|(a, b)| b - a);
    let Some((a, b)) = widest else {
        return Err(ProcessError::NoRoom { pid, len });
    };
    let middle = (a + (b - a) / 2 - len / 2) & !0xfff;
    let marked = (middle & !(MARK_STEP - 1)) | (MARK << MARK_SHIFT);
    let fits = marked >= a + MARGIN && marked + len + MARGIN <= b;
    // A narrow gap may have no such address: then the mark is done without.
    Ok(if fits { marked } else { middle })
}

/// True for the addresses that [`find_room`] prefers.
pub fn is_marked(at: u64) -> bool {
    at & (MARK_STEP - 1) == MARK << MARK_SHIFT
}

/// [`find_room`] in a process as it is now.
pub fn room_near(pid: i32, lo: u64, hi: u64, len: u64) -> Result<u64, ProcessError> {
    find_room(pid, &procfs::mappings(pid)?, lo, hi, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64) -> Mapping {
        Mapping {
            start,
            end,
            read: true,
            write: false,
            exec: false,
            offset: 0,
            inode: 0,
            device: String::new(),
            name: String::new(),
        }
    }

    #[test]
    fn room_is_found_near_the_middle_of_the_widest_gap_in_reach() {
        let maps = [
            mapping(0x400000, 0x800000),
            mapping(0xc000000000, 0xc000400000),
        ];
        let at = find_room(1, &maps, 0x401000, 0x600000, 0x3000).expect("there is room");
        assert!(at > 0x800000 && at + 0x3000 < 0x401000 + 0x8000_0000);
        assert!(is_marked(at), "{at:#x}");
    }

    #[test]
    fn a_narrow_gap_is_used_without_the_mark() {
        let maps = [mapping(0, 0x5000_0000), mapping(0x5000_8000, 0x2_0000_0000)];
        let at = find_room(1, &maps, 0x5000_9000, 0x5000_a000, 0x3000).expect("there is room");
        assert!(at > 0x5000_0000 && at + 0x3000 < 0x5000_8000, "{at:#x}");
        assert!(!is_marked(at));
    }

    #[test]
    fn no_room_is_said() {
        let maps = [mapping(0, 0x2_0000_0000)];
        assert!(matches!(
            find_room(1, &maps, 0x401000, 0x600000, 0x1000),
            Err(ProcessError::NoRoom { .. })
        ));
    }
}
