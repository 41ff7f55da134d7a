//! The injected region: handler, site table and slots in one read-only,
//! executable mapping, built here and recognised by the next gotap.
//!
//! ```text
//! +0x000  header       magic, length, owner, old action, checksum (HEADER)
//! +0x100  restorer     for actions that had none
//! +0x110  32 zeros     a struct kernel_sigaction: SIG_DFL
//! +0x140  handler      see `handler`
//! +0x300  site table   24 bytes an entry, ascending: site, slot, what stood there
//!         slots        16-aligned
//! ```
//!
//! Nothing in it is written while the target runs: it is mapped r-x and filled
//! through /proc/PID/mem.
//!
//! **Order.** Arming: map the region, write all of it from its start, set the
//! SIGTRAP action, then write the int3s. Leaving: restore the sites' bytes, wait
//! until no thread is in the region or has an undelivered trap, put the old
//! action back, unmap. So an int3 of ours exists only while the action is ours,
//! and the action only while the region is whole. A gotap killed while it
//! writes leaves a region whose checksum does not fit: nothing was armed then,
//! and it can be unmapped unread ([`Leftover::whole`]).

use super::handler::{ENTRY_SIZE, HandlerPlan, OldAction, assemble_handler, assemble_restorer};
use super::slot::{CannotMove, MAX_INSN, MAX_SLOT, Slot, relocate};

/// What a region begins with; the last byte counts layouts.
pub const MAGIC: [u8; 8] = *b"GOTAP\0\0\x01";

/// Most sites of a region.
pub const MAX_SITES: usize = 200_000;

/// Longest region that is built or believed, bytes.
pub const MAX_REGION: usize = 16 << 20;

/// Offset of a word of the header that means nothing: what is written there
/// tells whether another process shares this memory.
pub const SPARE: u64 = 0xf8;

const HEADER: usize = 0x100;
const RESTORER: usize = 0x100;
const DEFAULT_ACTION: usize = 0x110;
const HANDLER: usize = 0x140;
const TABLE: usize = 0x300;
const SLOT_ALIGN: usize = 16;
const PAGE: usize = 4096;

/// Why a region cannot be built or is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// More sites than a region takes.
    #[error("{0} sites are more than the {MAX_SITES} that fit")]
    TooManySites(usize),
    /// One address given twice.
    #[error("the site {0:#x} is there twice")]
    Twice(u64),
    /// The assembler refused the handler.
    #[error("cannot write the trap handler: {0}")]
    Assembler(String),
    /// The bytes do not begin as a region does.
    #[error("there is no region of gotap's at {0:#x}")]
    NotOurs(u64),
    /// A later gotap's layout.
    #[error("the region at {at:#x} has layout {layout}, which this gotap does not know")]
    Layout {
        /// Where it is.
        at: u64,
        /// Its number.
        layout: u8,
    },
    /// Cut off, or a number in it makes no sense.
    #[error("the region at {at:#x} is damaged: {what}")]
    Damaged {
        /// Where it is.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// A signal action as `rt_sigaction(2)` takes and gives it on x86-64
/// (`struct kernel_sigaction`, 32 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KernelSigaction {
    /// Function address, or 0 (`SIG_DFL`), 1 (`SIG_IGN`).
    pub handler: u64,
    /// `SA_…`
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// Signals blocked meanwhile.
    pub mask: u64,
}

impl KernelSigaction {
    const SA_SIGINFO: u64 = 0x4;
    const SA_RESTORER: u64 = 0x0400_0000;
    const SA_ONSTACK: u64 = 0x0800_0000;
    const SA_RESTART: u64 = 0x1000_0000;

    /// From the kernel's 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = bytes.chunks_exact(8).map(|w| le_u64(w, 0).unwrap_or(0));
        let mut word = || words.next().unwrap_or(0);
        Self {
            handler: word(),
            flags: word(),
            restorer: word(),
            mask: word(),
        }
    }

    /// As the kernel's 32 bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut out = [0; 32];
        let words = [self.handler, self.flags, self.restorer, self.mask];
        for (place, word) in out.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    fn kind(self) -> OldAction {
        match self.handler {
            0 => OldAction::Default,
            1 => OldAction::Ignore,
            _ => OldAction::Handler,
        }
    }
}

/// Which gotap a region belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owner {
    /// Its pid in its own pid namespace.
    pub pid: u32,
    /// Its start time, field 22 of /proc/PID/stat: clock ticks since boot.
    pub start_time: u64,
    /// Inode of its /proc/self/ns/pid.
    pub pid_namespace: u64,
}

/// A site that a region is to serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SiteSpec {
    /// Its live address.
    pub site: u64,
    /// The bytes that stand there and behind it.
    pub code: [u8; MAX_INSN],
}

/// What a region is built from.
#[derive(Clone, Copy, Debug)]
pub struct RegionSpec<'a> {
    /// In any order, each address once.
    pub sites: &'a [SiteSpec],
    /// The target's SIGTRAP action.
    pub old: KernelSigaction,
    /// This gotap.
    pub owner: Owner,
}

/// A site's slot in the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedSlot {
    /// The site.
    pub site: u64,
    /// Where a thread that hit it goes on.
    pub at: u64,
    /// The first byte that stood at the site.
    pub original: u8,
    /// The slot.
    pub slot: Slot,
}

impl PlacedSlot {
    /// First address behind the slot.
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.slot.bytes.len() as u64)
    }
}

/// A region ready to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// Where it is to lie.
    pub base: u64,
    /// All of it; a whole number of pages.
    pub bytes: Vec<u8>,
    /// The handler.
    pub handler: u64,
    /// The action to install.
    pub action: KernelSigaction,
    /// Ascending by site, and by slot too.
    pub slots: Vec<PlacedSlot>,
    /// Sites that cannot be moved, and why. They are not in the table.
    pub refused: Vec<(u64, CannotMove)>,
}

impl Region {
    /// Bytes to map for so many sites, before the address is known.
    pub fn room(sites: usize) -> usize {
        let each = ENTRY_SIZE as usize + MAX_SLOT.next_multiple_of(SLOT_ALIGN);
        let all = sites
            .saturating_mul(each)
            .saturating_add(TABLE + SLOT_ALIGN);
        all.saturating_add(PAGE - 1) / PAGE * PAGE
    }

    /// Builds the region that will lie at `base`, within 2 GB of its sites.
    pub fn build(base: u64, spec: &RegionSpec<'_>) -> Result<Region, RegionError> {
        if spec.sites.len() > MAX_SITES {
            return Err(RegionError::TooManySites(spec.sites.len()));
        }
        let mut sites: Vec<&SiteSpec> = spec.sites.iter().collect();
        sites.sort_unstable_by_key(|s| s.site);
        if let Some(twice) = sites
            .iter()
            .zip(sites.iter().skip(1))
            .find(|(a, b)| a.site == b.site)
        {
            return Err(RegionError::Twice(twice.0.site));
        }
        let mut refused = Vec::new();
        let mut slots = Vec::with_capacity(sites.len());
        // Room for the table as if none were refused: slots begin behind it.
        let table_len = sites.len() * ENTRY_SIZE as usize;
        let mut offset = (TABLE + table_len).next_multiple_of(SLOT_ALIGN);
        for spec in sites {
            let at = base.wrapping_add(offset as u64);
            match relocate(&spec.code, spec.site, at) {
                Ok(slot) => {
                    offset = (offset + slot.bytes.len()).next_multiple_of(SLOT_ALIGN);
                    let [original, ..] = spec.code;
                    slots.push(PlacedSlot {
                        site: spec.site,
                        at,
                        original,
                        slot,
                    });
                }
                Err(why) => refused.push((spec.site, why)),
            }
        }
        let len = offset.next_multiple_of(PAGE);
        let old = spec.old;
        let plan = HandlerPlan {
            at: base.wrapping_add(HANDLER as u64),
            region: base,
            region_len: len as u32,
            table: base.wrapping_add(TABLE as u64),
            sites: slots.len() as u32,
            old: old.kind(),
            old_handler: old.handler,
            default_action: base.wrapping_add(DEFAULT_ACTION as u64),
        };
        let bytes = lay_out(base, len, &plan, spec, &slots)?;
        Ok(Region {
            base,
            bytes,
            handler: plan.at,
            action: action(&plan, old),
            slots,
            refused,
        })
    }

    /// A page without sites and without a use for its handler: `code` lies in it,
    /// at [`Region::CODE`], and the next gotap recognises it.
    pub fn around(base: u64, owner: Owner, code: &[u8]) -> Result<Vec<u8>, RegionError> {
        let spec = RegionSpec {
            sites: &[],
            old: KernelSigaction::default(),
            owner,
        };
        let mut bytes = Region::build(base, &spec)?.bytes;
        if bytes.len() < Self::CODE + code.len() {
            return Err(RegionError::Assembler("it is longer than its place".into()));
        }
        put(&mut bytes, Self::CODE, code);
        let header = Header {
            len: bytes.len() as u64,
            owner,
            old: spec.old,
            sites: 0,
            base,
            checksum: checksum(bytes.get(HEADER..).unwrap_or_default()),
        };
        put(&mut bytes, 0, &header.to_bytes());
        Ok(bytes)
    }

    /// Offset of the code in a page that [`Region::around`] makes.
    pub const CODE: usize = TABLE + 0x100;

    /// True for an address inside.
    pub fn contains(&self, at: u64) -> bool {
        at.checked_sub(self.base)
            .is_some_and(|offset| offset < self.bytes.len() as u64)
    }

    /// The slot of a site.
    pub fn slot_of(&self, site: u64) -> Option<&PlacedSlot> {
        let at = self.slots.binary_search_by_key(&site, |s| s.site).ok()?;
        self.slots.get(at)
    }

    /// The slot that an address lies in.
    pub fn slot_at(&self, rip: u64) -> Option<&PlacedSlot> {
        let behind = self.slots.partition_point(|s| s.at <= rip);
        let slot = self.slots.get(behind.checked_sub(1)?)?;
        (rip < slot.end()).then_some(slot)
    }
}

/// The action to install: ours, blocking what the old one blocked.
fn action(plan: &HandlerPlan, old: KernelSigaction) -> KernelSigaction {
    use KernelSigaction as K;
    let handler = plan.old == OldAction::Handler;
    let own_restorer = plan.region.wrapping_add(RESTORER as u64);
    let theirs = old.flags & K::SA_RESTORER != 0 && old.restorer != 0;
    K {
        handler: plan.at,
        // SA_RESETHAND must not come along; SA_NODEFER makes no difference here.
        flags: K::SA_SIGINFO | K::SA_ONSTACK | K::SA_RESTORER | old.flags & K::SA_RESTART,
        restorer: if theirs { old.restorer } else { own_restorer },
        mask: if handler { old.mask } else { u64::MAX },
    }
}

fn lay_out(
    base: u64,
    len: usize,
    plan: &HandlerPlan,
    spec: &RegionSpec<'_>,
    slots: &[PlacedSlot],
) -> Result<Vec<u8>, RegionError> {
    let assembler = |e: iced_x86::IcedError| RegionError::Assembler(e.to_string());
    let mut out = vec![0xcc; len];
    let restorer = assemble_restorer(base.wrapping_add(RESTORER as u64)).map_err(assembler)?;
    let handler = assemble_handler(plan).map_err(assembler)?;
    if restorer.len() > DEFAULT_ACTION - RESTORER || handler.len() > TABLE - HANDLER {
        return Err(RegionError::Assembler("it is longer than its place".into()));
    }
    put(&mut out, RESTORER, &restorer);
    put(&mut out, DEFAULT_ACTION, &[0; 32]);
    put(&mut out, HANDLER, &handler);
    for (i, placed) in slots.iter().enumerate() {
        let entry = TABLE + i * ENTRY_SIZE as usize;
        put(&mut out, entry, &placed.site.to_le_bytes());
        put(&mut out, entry + 8, &placed.at.to_le_bytes());
        let lens = [
            placed.original,
            placed.slot.insn_len as u8,
            placed.slot.bytes.len() as u8,
            placed.slot.resume as u8,
            u8::from(placed.slot.can_fault),
            0,
            0,
            0,
        ];
        put(&mut out, entry + 16, &lens);
        let offset = placed.at.wrapping_sub(base) as usize;
        put(&mut out, offset, &placed.slot.bytes);
    }
    let header = Header {
        len: len as u64,
        owner: spec.owner,
        old: spec.old,
        sites: slots.len() as u64,
        base,
        checksum: checksum(out.get(HEADER..).unwrap_or_default()),
    };
    put(&mut out, 0, &header.to_bytes());
    Ok(out)
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

struct Header {
    len: u64,
    owner: Owner,
    old: KernelSigaction,
    sites: u64,
    base: u64,
    checksum: u64,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        put(&mut out, 0, &MAGIC);
        let words = [
            self.len,
            u64::from(self.owner.pid),
            self.owner.start_time,
            self.owner.pid_namespace,
            self.sites,
            self.base,
            self.checksum,
        ];
        for (i, word) in words.iter().enumerate() {
            put(&mut out, 8 + i * 8, &word.to_le_bytes());
        }
        put(&mut out, 64, &self.old.to_bytes());
        out
    }

    fn parse(bytes: &[u8]) -> Option<Header> {
        let word = |i: usize| le_u64(bytes, 8 + i * 8);
        Some(Header {
            len: word(0)?,
            owner: Owner {
                pid: u32::try_from(word(1)?).ok()?,
                start_time: word(2)?,
                pid_namespace: word(3)?,
            },
            sites: word(4)?,
            base: word(5)?,
            checksum: word(6)?,
            old: KernelSigaction::from_bytes(bytes.get(64..96)?.try_into().ok()?),
        })
    }
}

fn le_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// A site as a leftover region tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftoverSite {
    /// Its address.
    pub site: u64,
    /// Its slot.
    pub slot: u64,
    /// The byte to put back.
    pub original: u8,
    /// Length of the displaced instruction.
    pub insn_len: u8,
    /// Length of the slot.
    pub slot_len: u8,
    /// Offset at which the displaced instruction is complete.
    pub resume: u8,
}

/// A region found in a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// Where it lies.
    pub base: u64,
    /// Its length, bytes.
    pub len: u64,
    /// Who made it.
    pub owner: Owner,
    /// The SIGTRAP action from before.
    pub old: KernelSigaction,
    /// Its handler, to see whether the action is this region's.
    pub handler: u64,
    /// It was written whole. If not, nothing of it was ever in use, and
    /// `sites` is empty.
    pub whole: bool,
    /// Ascending by site.
    pub sites: Vec<LeftoverSite>,
}

impl Leftover {
    /// Bytes needed to call [`Leftover::parse_len`].
    pub const HEAD: usize = HEADER;

    /// The length of the region that begins with `head`, so that the rest can
    /// be read.
    pub fn parse_len(head: &[u8], base: u64) -> Result<usize, RegionError> {
        let (header, _) = parse_header(head, base)?;
        Ok(header.len as usize)
    }

    /// Reads a region back. `bytes` is what lies at `base`: all of the region,
    /// or all of the mapping.
    pub fn parse(bytes: &[u8], base: u64) -> Result<Leftover, RegionError> {
        let damaged = |what| RegionError::Damaged { at: base, what };
        let (header, len) = parse_header(bytes, base)?;
        let all = bytes.get(..len).ok_or(damaged("it is cut off"))?;
        let whole = checksum(all.get(HEADER..).unwrap_or_default()) == header.checksum;
        let mut sites = Vec::new();
        if whole {
            let count = usize::try_from(header.sites).unwrap_or(usize::MAX);
            let table = count
                .checked_mul(ENTRY_SIZE as usize)
                .and_then(|n| all.get(TABLE..)?.get(..n))
                .ok_or(damaged("the site table is cut off"))?;
            for entry in table.chunks_exact(ENTRY_SIZE as usize) {
                sites.push(parse_site(entry).ok_or(damaged("a site is cut off"))?);
            }
        }
        Ok(Leftover {
            base,
            len: header.len,
            owner: header.owner,
            old: header.old,
            handler: base.wrapping_add(HANDLER as u64),
            whole,
            sites,
        })
    }
}

fn parse_header(bytes: &[u8], base: u64) -> Result<(Header, usize), RegionError> {
    let damaged = |what| RegionError::Damaged { at: base, what };
    let magic = bytes.get(..8).ok_or(RegionError::NotOurs(base))?;
    match (magic.split_last(), MAGIC.split_last()) {
        (Some((_, theirs)), Some((_, ours))) if theirs != ours => {
            return Err(RegionError::NotOurs(base));
        }
        (Some((layout, _)), Some((ours, _))) if layout != ours => {
            return Err(RegionError::Layout {
                at: base,
                layout: *layout,
            });
        }
        _ => {}
    }
    let header = Header::parse(bytes).ok_or(damaged("the header is cut off"))?;
    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
    if !(PAGE..=MAX_REGION).contains(&len) || !len.is_multiple_of(PAGE) {
        return Err(damaged("its length makes no sense"));
    }
    if header.base != base {
        return Err(damaged("it was made for another address"));
    }
    if header.sites > MAX_SITES as u64 {
        return Err(damaged("its number of sites makes no sense"));
    }
    Ok((header, len))
}

fn parse_site(entry: &[u8]) -> Option<LeftoverSite> {
    let [original, insn_len, slot_len, resume, ..] = *entry.get(16..)? else {
        return None;
    };
    Some(LeftoverSite {
        site: le_u64(entry, 0)?,
        slot: le_u64(entry, 8)?,
        original,
        insn_len,
        slot_len,
        resume,
    })
}

#[cfg(test)]
mod tests;
