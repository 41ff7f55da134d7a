//! The relocations of a position independent program that its file leaves
//! for the loader, and the file as memory with them applied.
//!
//! Go's own linker and GNU ld write the addends in place too; lld does not.

use std::sync::OnceLock;

use super::bytes::{index_at, u64_at};
use super::elf::Elf;
use crate::addr::{ImageAddr, LiveAddr};
use crate::memory::{Memory, MemoryError};

/// `sizeof(Elf64_Rela)`
const RELA: usize = 24;
/// R_X86_64_RELATIVE
const RELATIVE: u64 = 8;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
/// Relocations looked at to learn whether the addends are in place.
const SAMPLES: usize = 64;

/// The table of relocations, read in place.
#[derive(Debug)]
pub(crate) struct Relocations {
    at: ImageAddr,
    count: usize,
    needed: bool,
    /// Order of the entries by address, when the table is not sorted.
    order: OnceLock<Option<Vec<u32>>>,
}

impl Relocations {
    /// Reads where the table lies (PT_DYNAMIC) and samples it.
    pub(crate) fn of(elf: &Elf) -> Self {
        let mut this = Self {
            at: ImageAddr(0),
            count: 0,
            needed: false,
            order: OnceLock::new(),
        };
        let dynamic = elf
            .dynamic
            .and_then(|(at, len)| elf.data().get(at..at.checked_add(len)?));
        let mut size = 0;
        for entry in dynamic.unwrap_or_default().chunks_exact(16) {
            match u64_at(entry, 0) {
                Some(DT_RELA) => this.at = ImageAddr(u64_at(entry, 8).unwrap_or(0)),
                Some(DT_RELASZ) => size = index_at(entry, 8).unwrap_or(0),
                Some(0) | None => break,
                Some(_) => {}
            }
        }
        let room = elf.tail(this.at).map_or(0, <[u8]>::len);
        this.count = size.min(room) / RELA;
        let step = (this.count / SAMPLES).max(1);
        this.needed = elf.pie
            && (0..this.count).step_by(step).any(|n| {
                this.entry(elf, n).is_some_and(|(at, addend)| {
                    let word = elf.bytes(at, 8).and_then(|b| u64_at(b, 0));
                    word.is_some_and(|word| word != addend)
                })
            });
        this
    }

    /// True when the file's own bytes are not what a program would see.
    pub(crate) fn needed(&self) -> bool {
        self.needed
    }

    /// Entry `n`: where, and what is put there; `None` for other kinds.
    fn entry(&self, elf: &Elf, n: usize) -> Option<(ImageAddr, u64)> {
        let skip = u64::try_from(n.checked_mul(RELA)?).ok()?;
        let entry = elf.bytes(self.at.offset(skip), RELA)?;
        let relative = u64_at(entry, 8)? & 0xffff_ffff == RELATIVE;
        let found = (ImageAddr(u64_at(entry, 0)?), u64_at(entry, 16)?);
        relative.then_some(found)
    }

    /// Where entry `n` applies, whatever its kind.
    fn place(&self, elf: &Elf, n: usize) -> u64 {
        n.checked_mul(RELA)
            .and_then(|skip| u64_at(elf.bytes(self.at.offset(skip as u64), 8)?, 0))
            .unwrap_or(u64::MAX)
    }

    /// Every place whose word is `value` after relocation.
    pub(crate) fn places_of<'a>(
        &'a self,
        elf: &'a Elf,
        value: u64,
    ) -> impl Iterator<Item = ImageAddr> + use<'a> {
        (0..self.count)
            .filter_map(|n| self.entry(elf, n))
            .filter(move |&(_, addend)| addend == value)
            .map(|(at, _)| at)
    }

    /// Applies to `into`, read from `at`, what the loader would.
    fn apply(&self, elf: &Elf, at: u64, into: &mut [u8]) {
        let order = self.order.get_or_init(|| {
            let place = |n: usize| self.place(elf, n);
            if (1..self.count).all(|n| place(n - 1) <= place(n)) {
                return None;
            }
            let mut order: Vec<u32> = (0..self.count)
                .filter_map(|n| u32::try_from(n).ok())
                .collect();
            order.sort_by_key(|&n| place(n as usize));
            Some(order)
        });
        let nth = |n: usize| match order {
            Some(order) => order.get(n).map_or(usize::MAX, |&i| i as usize),
            None => n,
        };
        let end = at.saturating_add(into.len() as u64);
        // The first relocation whose word reaches beyond `at`.
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.place(elf, nth(middle)).saturating_add(8) <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        for n in (low..self.count).map(nth) {
            if self.place(elf, n) >= end {
                break;
            }
            let Some((place, addend)) = self.entry(elf, n) else {
                continue;
            };
            for (i, byte) in (0u64..).zip(addend.to_le_bytes()) {
                let target = place.offset(i).0.checked_sub(at);
                if let Some(slot) = target
                    .and_then(|t| usize::try_from(t).ok())
                    .and_then(|t| into.get_mut(t))
                {
                    *slot = byte;
                }
            }
        }
    }
}

/// The file as the loader would lay it out at bias 0: the memory of a program
/// that has not run yet. Addresses are the image's.
#[derive(Clone, Copy, Debug)]
pub struct ImageMemory<'a> {
    pub(crate) elf: &'a Elf,
    pub(crate) relocations: &'a Relocations,
}

impl Memory for ImageMemory<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let place = ImageAddr(at.0);
        let unmapped = MemoryError::Unmapped {
            at,
            len: into.len(),
        };
        let segment = self.elf.segments.iter().find(|s| s.contains(place));
        let Some(segment) = segment else {
            return Err(unmapped);
        };
        let skip = at.0.wrapping_sub(segment.vaddr.0);
        let end = skip.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > segment.memsz) {
            return Err(unmapped);
        }
        let stored = usize::try_from(skip)
            .ok()
            .and_then(|skip| self.elf.segment_bytes(segment)?.get(skip..))
            .unwrap_or_default();
        let from_file = stored.len().min(into.len());
        let (head, zeros) = into.split_at_mut(from_file);
        head.copy_from_slice(stored.get(..from_file).unwrap_or_default());
        zeros.fill(0);
        if self.relocations.needed() && segment.writable {
            self.relocations.apply(self.elf, at.0, into);
        }
        Ok(())
    }
}
