//! Goroutines that rest in the middle of code: those that a signal preempted.
//!
//! Every other goroutine that is on no thread rests at a return address. One
//! that was preempted asynchronously goes on at whatever instruction the signal
//! found it at: the handler pushes that address on the goroutine's stack and has
//! it run `asyncPreempt` (runtime/signal_amd64.go: pushCall), which saves all
//! registers below and calls `asyncPreempt2`, which parks by mcall
//! (runtime/preempt.go). So such an address is on the stack of
//! - who is in asyncPreempt: as deep as its table of stack depths says;
//! - who is below asyncPreempt, on a thread or parked: right behind the frame
//!   that a return address into asyncPreempt belongs to. All that runs between
//!   it and the switch to the system stack has the stack that nosplit functions
//!   have, so that return address is near the stack pointer.
//!
//! No other word of a stack is gone to: what merely looks like a program counter
//! inside some function does not count.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::addr::{Bias, LiveAddr};
use crate::arch::unit::Interiors;
use crate::golang::globals::Globals;
use crate::golang::gs::{self, Goroutine, GsError, Status};
use crate::golang::layout::Layouts;
use crate::image::{Function, Image};
use crate::memory::{Memory, MemoryError, Piece};

/// Stacks read in one batch.
const BATCH: usize = 1024;
/// Bytes of a stack within which a preempted goroutine's return address into
/// asyncPreempt lies: asyncPreempt2's frame and its callees', which together are
/// within the limit of nosplit functions (`asyncPreemptStack` in
/// runtime/preempt.go), 800 bytes and twice that under the race detector
/// (internal/abi/stack.go).
const NEAR: u64 = 2 << 10;
/// More than asyncPreempt pushes in any version so far.
const MOST: u64 = 1 << 13;

/// What is known of a program's preemption before it is stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resting {
    /// `None`: its functions are not there, and every word near the top of a
    /// stack counts.
    preempt: Option<Preempt>,
    /// Bytes from a stack pointer that are looked at.
    near: u64,
}

/// The code of preemption.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Preempt {
    /// `runtime.asyncPreempt`.
    call: Range<LiveAddr>,
    /// Up to which address of it the stack is how deep: bytes from its stack
    /// pointer to the address where the goroutine goes on.
    depths: Vec<(LiveAddr, u64)>,
    /// `runtime.asyncPreempt2`, in which it parks.
    parks: Range<LiveAddr>,
}

/// Where to look for goroutines; read while nothing runs.
#[derive(Clone, Copy)]
pub struct Stopped<'a> {
    /// The program's memory.
    pub memory: &'a dyn Memory,
    /// Its layouts.
    pub layouts: &'a Layouts,
    /// Its globals.
    pub globals: &'a Globals,
    /// Where it was loaded.
    pub bias: Bias,
    /// Where its threads are, and where they go on when handlers return: stack
    /// pointer and program counter, ascending by stack pointer.
    pub threads: &'a [(u64, u64)],
}

impl Resting {
    /// Finds out where preempted goroutines park. Reads the program's file; to
    /// be done before the program is stopped.
    pub fn prepare(image: &Image, bias: Bias) -> Resting {
        let named = image
            .functions()
            .by_names(&["runtime.asyncPreempt", "runtime.asyncPreempt2"]);
        let function = |index: usize| named.get(index).and_then(|found| found.first());
        let preempt = function(0).zip(function(1)).and_then(|(call, parks)| {
            let code = |f: &Function<'_>| bias.live(f.entry())..bias.live(f.end());
            let depths = call.sp_values()?.map(|range| {
                let end = bias.live(call.entry().offset(u64::from(range.end)));
                Some((end, u64::try_from(range.value).ok()?))
            });
            Some(Preempt {
                call: code(call),
                depths: depths.collect::<Option<_>>()?,
                parks: code(parks),
            })
        });
        let pushed = preempt.as_ref().map_or(0, Preempt::deepest);
        Resting {
            preempt,
            near: NEAR.saturating_add(pushed.min(MOST)),
        }
    }

    /// The pieces that a goroutine may go on in: indexes as [`Interiors`] knows
    /// them. The program is stopped as a whole; where its threads' own program
    /// counters are is not asked here.
    pub fn busy(&self, at: Stopped<'_>, interiors: &Interiors) -> Result<BTreeSet<usize>, GsError> {
        let mut busy = BTreeSet::new();
        if interiors.is_empty() {
            return Ok(busy);
        }
        let all = gs::read_goroutines(at.memory, at.layouts, at.globals, at.bias)?;
        let parked = all.iter().filter(|g| g.status != Status::Running);
        busy.extend(parked.filter_map(|g| interiors.find(g.sched_pc.0)));
        let mut tops = Vec::new();
        for g in &all {
            self.tops_of(g, at.threads, &mut tops);
        }
        for batch in tops.chunks(BATCH) {
            read_tops(at.memory, batch, &mut |top, words| {
                self.goes_on(top, words, &mut |pc| busy.extend(interiors.find(pc)));
            })?;
        }
        Ok(busy)
    }

    /// How many stacks [`Resting::busy`] would look at.
    pub fn count(&self, at: Stopped<'_>) -> Result<usize, GsError> {
        let all = gs::read_goroutines(at.memory, at.layouts, at.globals, at.bias)?;
        let mut tops = Vec::new();
        for g in &all {
            self.tops_of(g, at.threads, &mut tops);
        }
        Ok(tops.len())
    }

    /// Where a goroutine's stack has to be looked at.
    fn tops_of(&self, g: &Goroutine, threads: &[(u64, u64)], tops: &mut Vec<Top>) {
        let mut top = |sp: u64, pc: u64| {
            let len = g.stack_hi.0.saturating_sub(sp).min(self.near);
            if let Ok(len) = usize::try_from(len) {
                let sp = LiveAddr(sp);
                tops.push(Top { sp, pc, len });
            }
        };
        let first = threads.partition_point(|(sp, _)| *sp < g.stack_lo.0);
        let after = threads.get(first..).unwrap_or_default();
        let mut own = after
            .iter()
            .take_while(|(sp, _)| *sp < g.stack_hi.0)
            .peekable();
        if own.peek().is_some() {
            for (sp, pc) in own {
                top(*sp, *pc);
            }
        } else if self.may_rest(g) && g.stack_lo <= g.sched_sp && g.sched_sp < g.stack_hi {
            top(g.sched_sp.0, g.sched_pc.0);
        }
    }

    /// Tells where somebody goes on whose stack has these words at its top.
    fn goes_on(&self, top: &Top, words: &[u64], each: &mut dyn FnMut(u64)) {
        let Some(preempt) = &self.preempt else {
            for word in words {
                each(*word);
            }
            return;
        };
        let mut at = |first: usize, depth: Option<u64>| {
            let index = depth.and_then(|d| usize::try_from(d / 8).ok());
            let index = index.and_then(|i| i.checked_add(first));
            if let Some(pc) = index.and_then(|i| words.get(i)) {
                each(*pc);
            }
        };
        if preempt.call.contains(&LiveAddr(top.pc)) {
            at(0, preempt.depth(top.pc));
        }
        for (i, word) in words.iter().enumerate() {
            let word = LiveAddr(*word);
            if preempt.call.contains(&word) && word != preempt.call.start {
                // The return address itself is not of asyncPreempt's frame.
                at(i.saturating_add(1), preempt.depth(word.0));
            }
        }
    }

    /// On no thread whose place is known, and its state does not say that it
    /// rests at a return address.
    fn may_rest(&self, g: &Goroutine) -> bool {
        match g.status {
            // The collector takes preempted ones over as waiting
            // (runtime/preempt.go: suspendG).
            Status::Waiting | Status::Leaked | Status::Syscall => {
                let here = self.preempt.as_ref();
                here.is_none_or(|code| code.parks.contains(&g.sched_pc))
            }
            // On a thread that works on the system stack; or about to park, or
            // to be run.
            Status::Running
            | Status::Runnable
            | Status::Preempted
            | Status::CopyStack
            | Status::Other(_) => true,
            Status::Idle | Status::Dead | Status::DeadExtra => false,
        }
    }
}

impl Preempt {
    fn depth(&self, pc: u64) -> Option<u64> {
        let range = self.depths.iter().find(|(end, _)| pc < end.0)?;
        Some(range.1)
    }

    fn deepest(&self) -> u64 {
        let depths = self.depths.iter().map(|(_, depth)| *depth);
        depths.max().unwrap_or(0)
    }
}

/// A stack's top that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Top {
    sp: LiveAddr,
    /// Where it goes on first.
    pc: u64,
    /// Bytes.
    len: usize,
}

fn read_tops(
    memory: &dyn Memory,
    tops: &[Top],
    each: &mut dyn FnMut(&Top, &[u64]),
) -> Result<(), MemoryError> {
    let mut buffers: Vec<Vec<u8>> = tops.iter().map(|top| vec![0; top.len]).collect();
    let mut pieces: Vec<Piece<'_>> = tops
        .iter()
        .zip(&mut buffers)
        .map(|(top, into)| Piece {
            at: top.sp,
            into,
            ok: false,
        })
        .collect();
    memory.read_many(&mut pieces)?;
    let mut own = Vec::new();
    for (top, piece) in tops.iter().zip(&pieces).filter(|(_, piece)| piece.ok) {
        let (words, _) = piece.into.as_chunks::<8>();
        own.clear();
        own.extend(words.iter().map(|word| u64::from_le_bytes(*word)));
        each(top, &own);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: u64 = 0x46_0000;

    fn resting() -> Resting {
        Resting {
            preempt: Some(Preempt {
                call: LiveAddr(CALL)..LiveAddr(CALL + 0x200),
                depths: [(CALL + 1, 0), (CALL + 5, 8), (CALL + 0x200, 0x78)]
                    .map(|(end, depth)| (LiveAddr(end), depth))
                    .to_vec(),
                parks: LiveAddr(0x43_0000)..LiveAddr(0x43_0080),
            }),
            near: NEAR,
        }
    }

    fn goes_on(pc: u64, words: &[u64]) -> Vec<u64> {
        let top = Top {
            sp: LiveAddr(0xc000_0000_1000),
            pc,
            len: words.len() * 8,
        };
        let mut found = Vec::new();
        resting().goes_on(&top, words, &mut |pc| found.push(pc));
        found
    }

    #[test]
    fn in_async_preempt_the_tables_tell_how_deep() {
        assert_eq!(goes_on(CALL, &[0x40_1003, 9]), [0x40_1003]);
        assert_eq!(goes_on(CALL + 1, &[9, 0x40_1003, 9]), [0x40_1003]);
        let mut words = [9; 40];
        words[15] = 0x40_1003;
        assert_eq!(goes_on(CALL + 0x80, &words), [0x40_1003]);
        // Elsewhere no word counts.
        assert!(goes_on(0x40_0000, &words).is_empty());
    }

    #[test]
    fn below_it_its_return_address_tells() {
        let mut words = [9; 60];
        words[7] = CALL + 0x90;
        words[8 + 15] = 0x40_2002;
        words[40] = 0x40_3003; // left behind
        assert_eq!(goes_on(0x43_0010, &words), [0x40_2002]);
        // Its address alone is no return address into it.
        words[7] = CALL;
        assert!(goes_on(0x43_0010, &words).is_empty());
        // The stack ends before.
        assert!(goes_on(0x43_0010, &[9, CALL + 0x90, 9]).is_empty());
    }
}
