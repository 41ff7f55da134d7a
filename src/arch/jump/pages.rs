//! The injected pages of the jump way: trampolines, and a header by which the
//! next gotap knows whose they are and how to take them out.
//!
//! ```text
//! +0x000  header      magic, length, owner, ring, checksum
//! +0x0c0  name        of the memory that the ring is in, for memfd_create(2)
//! +0x100  site table  24 bytes a site, ascending: site, trampoline, what stood there
//!         trampolines 16-aligned
//! ```
//!
//! Nothing in them is written while the target runs: they are mapped r-x and
//! filled through /proc/PID/mem.
//!
//! **Order.** Arming: map the pages, write all of them, make the ring, then in
//! one stop of all threads write the jumps. Leaving: in one stop restore the
//! bytes; when no thread's pc and no pc that a signal frame holds lies inside,
//! unmap. So a jump exists only while pages and ring are whole.

use super::capture::Shape;
use super::ring::RingLayout;
use super::trampoline::{CannotGenerate, GOffsets, Trampoline, generate};
use crate::arch::region::Owner;
use crate::arch::unit::{JUMP, Unit};

/// What the pages begin with; the last byte counts layouts.
pub const MAGIC: [u8; 8] = *b"GOTAPJP\x02";

/// Name of the ring's memory: `/memfd:gotap-ring (deleted)` in /proc/PID/maps.
pub const RING_NAME: &str = "gotap-ring";

/// Most sites.
pub const MAX_SITES: usize = 200_000;

/// Longest pages that are built or believed, bytes.
pub const MAX_PAGES: usize = 256 << 20;

const HEADER: usize = 0x100;
const NAME: usize = 0xc0;
const ENTRY: usize = 24;
const PAGE: usize = 4096;
const ALIGN: usize = 16;

/// Why pages cannot be built or are not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PagesError {
    /// More than [`MAX_SITES`], or longer than [`MAX_PAGES`].
    #[error("{0} sites are more than can jump at once")]
    TooMany(usize),
    /// A site has no code.
    #[error(transparent)]
    Generate(#[from] CannotGenerate),
    /// The bytes do not begin as ours do.
    #[error("there are no pages of gotap's at {0:#x}")]
    NotOurs(u64),
    /// A later gotap's layout.
    #[error("the pages at {at:#x} have layout {layout}, which this gotap does not know")]
    Layout {
        /// Where they are.
        at: u64,
        /// Its number.
        layout: u8,
    },
    /// Cut off, or a number in them makes no sense.
    #[error("the pages at {at:#x} are damaged: {what}")]
    Damaged {
        /// Where they are.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// A site that is to jump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JumpSite {
    /// What is replaced; live addresses.
    pub unit: Unit,
    /// What is recorded.
    pub shape: Shape,
    /// The number its records carry.
    pub id: u32,
}

/// What a site is in the pages of a gotap: this one's or one that was killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlacedJump {
    /// The site's address.
    pub site: u64,
    /// Its trampoline's.
    pub trampoline: u64,
    /// What stood there.
    pub original: [u8; JUMP],
}

impl PlacedJump {
    /// The jump itself.
    pub fn patch(&self) -> [u8; JUMP] {
        let behind = self.site.wrapping_add(JUMP as u64);
        let [a, b, c, d, ..] = self.trampoline.wrapping_sub(behind).to_le_bytes();
        [0xe9, a, b, c, d]
    }
}

/// Pages ready to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JumpPages {
    /// Where they are to lie.
    pub base: u64,
    /// All of them; a whole number of pages.
    pub bytes: Vec<u8>,
    /// Ascending by site.
    pub sites: Vec<PlacedJump>,
}

impl JumpPages {
    /// Where in the pages the ring's name stands, ended by a 0.
    pub const NAME_AT: u64 = NAME as u64;

    /// Builds the pages that will lie at `base`, within 2 GB of sites and ring.
    pub fn build(
        base: u64,
        sites: &[JumpSite],
        ring: &RingLayout,
        g: GOffsets,
        owner: Owner,
    ) -> Result<JumpPages, PagesError> {
        if sites.len() > MAX_SITES {
            return Err(PagesError::TooMany(sites.len()));
        }
        let mut sites: Vec<&JumpSite> = sites.iter().collect();
        sites.sort_by_key(|s| s.unit.at);
        let mut offset = (HEADER + sites.len() * ENTRY).next_multiple_of(ALIGN);
        let mut placed = Vec::with_capacity(sites.len());
        let mut codes: Vec<(usize, Trampoline)> = Vec::with_capacity(sites.len());
        for site in sites {
            let at = base.wrapping_add(offset as u64);
            let code = generate(at, &site.unit, site.id, &site.shape, ring, g)?;
            let mut original = [0; JUMP];
            for (to, from) in original.iter_mut().zip(&site.unit.code) {
                *to = *from;
            }
            placed.push(PlacedJump {
                site: site.unit.at,
                trampoline: at,
                original,
            });
            let end = offset + code.code.len();
            codes.push((offset, code));
            offset = end.next_multiple_of(ALIGN);
        }
        if offset > MAX_PAGES {
            return Err(PagesError::TooMany(placed.len()));
        }
        let len = offset.next_multiple_of(PAGE);
        let mut bytes = vec![0xcc; len];
        for (i, site) in placed.iter().enumerate() {
            let at = HEADER + i * ENTRY;
            put(&mut bytes, at, &site.site.to_le_bytes());
            put(&mut bytes, at + 8, &site.trampoline.to_le_bytes());
            put(&mut bytes, at + 16, &[0; 8]);
            put(&mut bytes, at + 16, &site.original);
        }
        for (at, code) in &codes {
            put(&mut bytes, *at, &code.code);
        }
        put(&mut bytes, 0, &[0; HEADER]);
        put(&mut bytes, NAME, RING_NAME.as_bytes());
        put(&mut bytes, 0, &MAGIC);
        let words = [
            len as u64,
            u64::from(owner.pid),
            owner.start_time,
            owner.pid_namespace,
            placed.len() as u64,
            base,
            checksum(bytes.get(HEADER..).unwrap_or_default()),
            ring.at,
            ring.len(),
        ];
        for (i, word) in words.iter().enumerate() {
            put(&mut bytes, 8 + i * 8, &word.to_le_bytes());
        }
        Ok(JumpPages {
            base,
            bytes,
            sites: placed,
        })
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    let place = at
        .checked_add(bytes.len())
        .and_then(|end| out.get_mut(at..end));
    debug_assert!(place.is_some(), "the layout leaves room for every part");
    if let Some(place) = place {
        place.copy_from_slice(bytes);
    }
}

/// FNV-1a: told apart are whole and half written, not friend and foe.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// Pages found in a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JumpLeftover {
    /// Where they lie.
    pub base: u64,
    /// Their length.
    pub len: u64,
    /// Who made them.
    pub owner: Owner,
    /// Where the ring was to lie.
    pub ring: u64,
    /// Its length.
    pub ring_len: u64,
    /// They were written whole. If not, nothing jumps there, and `sites` is empty.
    pub whole: bool,
    /// Ascending by site.
    pub sites: Vec<PlacedJump>,
}

impl JumpLeftover {
    /// Bytes needed to call [`JumpLeftover::parse_len`].
    pub const HEAD: usize = HEADER;

    /// The length of the pages that begin with `head`.
    pub fn parse_len(head: &[u8], at: u64) -> Result<usize, PagesError> {
        let magic = head.get(..8).ok_or(PagesError::NotOurs(at))?;
        let (name, layout) = magic.split_at(7);
        let (own, version) = MAGIC.split_at(7);
        if name != own {
            return Err(PagesError::NotOurs(at));
        }
        if layout != version {
            let layout = layout.first().copied().unwrap_or(0);
            return Err(PagesError::Layout { at, layout });
        }
        let len = word(head, 8).and_then(|l| usize::try_from(l).ok());
        match len {
            Some(len) if (PAGE..=MAX_PAGES).contains(&len) && len.is_multiple_of(PAGE) => Ok(len),
            _ => Err(PagesError::Damaged {
                at,
                what: "its length",
            }),
        }
    }

    /// Reads back what another gotap wrote to `at`.
    pub fn parse(bytes: &[u8], at: u64) -> Result<JumpLeftover, PagesError> {
        let len = Self::parse_len(bytes, at)?;
        let damaged = |what| PagesError::Damaged { at, what };
        let head = |i: usize| word(bytes, 8 + i * 8).ok_or(damaged("its header"));
        let body = bytes.get(HEADER..len).ok_or(damaged("it is cut off"))?;
        let owner = Owner {
            pid: u32::try_from(head(1)?).map_err(|_| damaged("its owner"))?,
            start_time: head(2)?,
            pid_namespace: head(3)?,
        };
        if head(5)? != at {
            return Err(damaged("its address"));
        }
        let whole = checksum(body) == head(6)?;
        let count = usize::try_from(head(4)?).unwrap_or(usize::MAX);
        if count > MAX_SITES || count.saturating_mul(ENTRY) > body.len() {
            return Err(damaged("its sites"));
        }
        let mut sites = Vec::new();
        let entries = body.chunks_exact(ENTRY).take(if whole { count } else { 0 });
        for entry in entries {
            let mut original = [0; JUMP];
            let stood = entry.get(16..16 + JUMP).ok_or(damaged("its sites"))?;
            original.copy_from_slice(stood);
            sites.push(PlacedJump {
                site: word(entry, 0).ok_or(damaged("its sites"))?,
                trampoline: word(entry, 8).ok_or(damaged("its sites"))?,
                original,
            });
        }
        Ok(JumpLeftover {
            base: at,
            len: len as u64,
            owner,
            ring: head(7)?,
            ring_len: head(8)?,
            whole,
            sites,
        })
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
