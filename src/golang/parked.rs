//! Stacks of goroutines that may run while they are read.
//!
//! A stack is taken whole, twice, between two reads of its `g`; it counts only
//! when both pairs are equal. Reading it word by word, or once, mixes frames of
//! two moments; of what passes this test none was mixed. One that does not hold
//! still is told so, never guessed.

use crate::addr::LiveAddr;
use crate::golang::census::Resident;
use crate::golang::gs::{Status, visit_structs};
use crate::golang::layout::Layouts;
use crate::memory::{Memory, MemoryError, Piece};

/// Bytes of one stack that are read; what lies further out is left out.
const MAX_STACK: u64 = 4 << 20;
/// Stacks read in one batch.
const BATCH: usize = 1024;
/// Bytes read in one batch.
const BATCH_BYTES: u64 = 4 << 20;
/// Times one that moved is looked at again.
const TRIES: usize = 4;

/// A stack that held still.
#[derive(Debug)]
pub struct Parked<'a> {
    /// The goroutine as it was then.
    pub now: Resident,
    /// Where it goes on.
    pub pc: LiveAddr,
    /// Its stack pointer: the first of the bytes.
    pub sp: LiveAddr,
    /// The stack from there outwards.
    pub bytes: &'a [u8],
    /// The outer part was too long to be read.
    pub cut: bool,
}

/// What became of one goroutine's stack.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It held still.
    Parked(Parked<'a>),
    /// It is on a thread: its registers are not in memory.
    Running,
    /// It moved each time.
    Unstable,
    /// It lies where nothing can be read.
    Unreadable,
    /// It ended, or its struct is another's now.
    Ended,
}

/// Reads the stacks of `wanted`, telling `each` by its index what came of it,
/// in no particular order. Only a target that is gone is an error.
pub fn read_stacks(
    memory: &dyn Memory,
    layouts: &Layouts,
    wanted: &[Resident],
    each: &mut dyn FnMut(usize, Outcome<'_>),
) -> Result<(), MemoryError> {
    let mut left: Vec<usize> = (0..wanted.len()).collect();
    let (mut first, mut second) = (Copies::default(), Copies::default());
    for attempt in 0..TRIES {
        let mut again = Vec::new();
        let mut rest = left.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let most = if attempt == 0 { BATCH } else { 1 };
            let take = rest
                .iter()
                .take(most)
                .take_while(|i| {
                    let fits = bytes < BATCH_BYTES;
                    bytes += wanted.get(**i).map_or(0, stack_len);
                    fits
                })
                .count()
                .max(1);
            let (batch, after) = rest.split_at(take.min(rest.len()));
            let last = attempt + 1 == TRIES;
            let copies = (&mut first, &mut second);
            read_batch(
                memory, layouts, wanted, batch, last, copies, &mut again, each,
            )?;
            rest = after;
        }
        left = again;
    }
    Ok(())
}

/// Bytes from the stack pointer outwards.
fn stack_len(r: &Resident) -> u64 {
    r.g.parked_at()
        .map_or(0, |(_, sp)| r.g.stack_hi.0.saturating_sub(sp.0))
        .min(MAX_STACK)
}

/// Reads one struct of each; `None` where that failed.
fn read_gs(
    memory: &dyn Memory,
    layouts: &Layouts,
    addrs: &[LiveAddr],
) -> Result<Vec<Option<Resident>>, MemoryError> {
    let mut order: Vec<(u64, usize)> = addrs.iter().zip(0..).map(|(a, i)| (a.0, i)).collect();
    order.sort_unstable();
    let mut sorted: Vec<u64> = order.iter().map(|(a, _)| *a).collect();
    sorted.dedup();
    let mut found = vec![None; addrs.len()];
    let mut rest = order.as_slice();
    visit_structs::<MemoryError>(memory, &sorted, layouts.g.size, &mut |addr, bytes| {
        let one = Resident::parse(layouts, addr, bytes);
        while let Some(((at, index), after)) = rest.split_first() {
            if *at > addr.0 {
                break;
            }
            rest = after;
            if *at == addr.0
                && let Some(slot) = found.get_mut(*index)
            {
                *slot = Some(one);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Copies of stacks, one behind the other; the room is used again.
#[derive(Default)]
struct Copies {
    bytes: Vec<u8>,
    /// Of each stack where its copy ends, and whether it could be read.
    ends: Vec<(usize, bool)>,
}

impl Copies {
    fn read(
        &mut self,
        memory: &dyn Memory,
        places: &[(LiveAddr, usize)],
    ) -> Result<(), MemoryError> {
        let total = places.iter().map(|(_, len)| len).sum();
        if self.bytes.len() < total {
            self.bytes.resize(total, 0);
        }
        let mut free = self.bytes.as_mut_slice();
        let mut pieces = Vec::with_capacity(places.len());
        for &(at, len) in places {
            let Some((into, after)) = std::mem::take(&mut free).split_at_mut_checked(len) else {
                break;
            };
            free = after;
            pieces.push(Piece {
                at,
                into,
                ok: false,
            });
        }
        memory.read_many(&mut pieces)?;
        self.ends.clear();
        let mut end = 0;
        for piece in &pieces {
            end += piece.into.len();
            self.ends.push((end, piece.ok));
        }
        Ok(())
    }

    /// The copies, in the order of the places.
    fn all(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut start = 0;
        self.ends.iter().map(move |&(end, ok)| {
            let copy = self.bytes.get(start..end).filter(|_| ok);
            start = end;
            copy
        })
    }
}

#[allow(clippy::too_many_arguments)]
fn read_batch(
    memory: &dyn Memory,
    layouts: &Layouts,
    wanted: &[Resident],
    batch: &[usize],
    last: bool,
    (first, second): (&mut Copies, &mut Copies),
    again: &mut Vec<usize>,
    each: &mut dyn FnMut(usize, Outcome<'_>),
) -> Result<(), MemoryError> {
    let known: Vec<(usize, &Resident)> = batch
        .iter()
        .filter_map(|&i| Some((i, wanted.get(i)?)))
        .collect();
    let addrs: Vec<LiveAddr> = known.iter().map(|(_, r)| r.g.addr).collect();
    let before = read_gs(memory, layouts, &addrs)?;
    let mut at = Vec::new();
    for ((i, was), now) in known.iter().zip(before) {
        let Some(now) = now else {
            each(*i, Outcome::Unreadable);
            continue;
        };
        if now.g.goid != was.g.goid || !now.g.status.is_alive() {
            each(*i, Outcome::Ended);
            continue;
        }
        match (now.g.parked_at(), now.g.status) {
            (Some((pc, sp)), _) => at.push((*i, now, pc, sp)),
            (None, Status::Running) => each(*i, Outcome::Running),
            (None, Status::CopyStack) if last => each(*i, Outcome::Unstable),
            (None, Status::CopyStack) => again.push(*i),
            (None, _) => each(*i, Outcome::Unreadable),
        }
    }
    let places: Vec<(LiveAddr, usize)> = at
        .iter()
        .map(|(_, r, _, sp)| (*sp, usize::try_from(stack_len(r)).unwrap_or(0)))
        .collect();
    first.read(memory, &places)?;
    second.read(memory, &places)?;
    let addrs: Vec<LiveAddr> = at.iter().map(|(_, r, _, _)| r.g.addr).collect();
    let after = read_gs(memory, layouts, &addrs)?;
    let copies = first.all().zip(second.all());
    for ((&(i, now, pc, sp), (one, two)), then) in at.iter().zip(copies).zip(after) {
        let held = then.is_some_and(|then| same_place(&now, &then)) && one == two;
        match one {
            Some(bytes) if held => {
                let cut = stack_len(&now) == MAX_STACK;
                let parked = Parked {
                    now,
                    pc,
                    sp,
                    bytes,
                    cut,
                };
                each(i, Outcome::Parked(parked));
            }
            None if held => each(i, Outcome::Unreadable),
            _ if last => each(i, Outcome::Unstable),
            _ => again.push(i),
        }
    }
    Ok(())
}

/// Nothing of what tells where it is has changed.
fn same_place(a: &Resident, b: &Resident) -> bool {
    a.g.goid == b.g.goid
        && a.g.status == b.g.status
        && a.g.wait_reason == b.g.wait_reason
        && (a.g.stack_lo, a.g.stack_hi) == (b.g.stack_lo, b.g.stack_hi)
        && (a.g.sched_sp, a.g.sched_pc) == (b.g.sched_sp, b.g.sched_pc)
        && (a.g.syscall_sp, a.g.syscall_pc) == (b.g.syscall_sp, b.g.syscall_pc)
}
