//! Goroutines that rest in the middle of code: those that a signal preempted.
//!
//! Every other goroutine that is on no thread rests at a return address. One
//! that was preempted asynchronously goes on at whatever instruction the signal
//! found it at (runtime/preempt.go: asyncPreempt): its address is pushed on the
//! goroutine's stack, below it all registers, and the goroutine parks by mcall
//! from asyncPreempt2. So those that are parked there are looked at, and all
//! whose state does not tell: runnable, preempted, on a thread whose own stack
//! is elsewhere.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::addr::{Bias, LiveAddr};
use crate::arch::unit::Interiors;
use crate::golang::globals::Globals;
use crate::golang::gs::{self, Goroutine, GsError, Status};
use crate::golang::layout::Layouts;
use crate::image::Image;
use crate::memory::{Memory, MemoryError, Piece};

/// Stacks read in one batch.
const BATCH: usize = 1024;
/// Bytes of a stack that are looked at where the program does not tell how much
/// asyncPreempt pushes; twice what it is in any version so far.
const NEAR: u64 = 1 << 10;
/// Never more than this.
const MOST: u64 = 1 << 13;
/// Return addresses, and what mcall and the signal's push leave between.
const SLACK: u64 = 64;

/// What is known of a program's preemption before it is stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resting {
    /// Code of `runtime.asyncPreempt2`.
    preempt: Option<Range<LiveAddr>>,
    /// Bytes from a preempted goroutine's stack pointer within which the
    /// address lies at which it goes on.
    near: u64,
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
    /// Stack pointers of all its threads, ascending. Their stacks are looked at
    /// by who knows the threads.
    pub stack_pointers: &'a [u64],
}

impl Resting {
    /// Finds out where preempted goroutines park. Reads the program's file; to
    /// be done before the program is stopped.
    pub fn prepare(image: &Image, bias: Bias) -> Resting {
        let named = image
            .functions()
            .by_names(&["runtime.asyncPreempt", "runtime.asyncPreempt2"]);
        let deepest = |index: usize| {
            let function = named.get(index)?.first()?;
            let values = function.sp_values()?;
            u64::try_from(values.map(|range| range.value).max()?).ok()
        };
        let parks = named.get(1).and_then(|found| found.first());
        let near = deepest(0).zip(deepest(1));
        Resting {
            preempt: parks.map(|f| bias.live(f.entry())..bias.live(f.end())),
            near: near.map_or(NEAR, |(a, b)| {
                a.saturating_add(b)
                    .saturating_add(SLACK)
                    .clamp(NEAR / 2, MOST)
            }),
        }
    }

    /// The pieces that a goroutine may go on in, by the first words of its
    /// stack: indexes as [`Interiors`] knows them, ascending. The program is
    /// stopped as a whole.
    pub fn busy(&self, at: Stopped<'_>, interiors: &Interiors) -> Result<Vec<usize>, GsError> {
        if interiors.is_empty() {
            return Ok(Vec::new());
        }
        let all = gs::read_goroutines(at.memory, at.layouts, at.globals, at.bias)?;
        let mut busy: BTreeSet<usize> = all
            .iter()
            .filter(|g| g.status != Status::Running)
            .filter_map(|g| interiors.find(g.sched_pc.0))
            .collect();
        let looked_at: Vec<(LiveAddr, usize)> = all
            .iter()
            .filter(|g| self.may_rest(g, at.stack_pointers))
            .filter_map(|g| self.top(g))
            .collect();
        for batch in looked_at.chunks(BATCH) {
            read_words(at.memory, batch, &mut |word| {
                busy.extend(interiors.find(word));
            })?;
        }
        Ok(busy.into_iter().collect())
    }

    /// How many goroutines [`Resting::busy`] would look at the stacks of.
    pub fn count(&self, at: Stopped<'_>) -> Result<usize, GsError> {
        let all = gs::read_goroutines(at.memory, at.layouts, at.globals, at.bias)?;
        let rests = all.iter().filter(|g| self.may_rest(g, at.stack_pointers));
        Ok(rests.count())
    }

    /// Its state does not say that it rests at a return address.
    fn may_rest(&self, g: &Goroutine, stack_pointers: &[u64]) -> bool {
        let preempted = || {
            let here = self.preempt.as_ref();
            here.is_none_or(|code| code.contains(&g.sched_pc))
        };
        match g.status {
            // The collector takes preempted ones over as waiting
            // (runtime/preempt.go: suspendG).
            Status::Waiting | Status::Leaked | Status::Syscall => preempted(),
            // On a thread: where that one's own stack is. Else about to park,
            // or to be run.
            Status::Running => !has_one_in(stack_pointers, g),
            Status::Runnable | Status::Preempted | Status::CopyStack | Status::Other(_) => true,
            Status::Idle | Status::Dead | Status::DeadExtra => false,
        }
    }

    /// The top of its stack: where, and how many bytes.
    fn top(&self, g: &Goroutine) -> Option<(LiveAddr, usize)> {
        if !(g.stack_lo <= g.sched_sp && g.sched_sp < g.stack_hi) {
            return None;
        }
        let len = g.stack_hi.0.saturating_sub(g.sched_sp.0).min(self.near);
        Some((g.sched_sp, usize::try_from(len).ok()?))
    }
}

/// One of these stack pointers, ascending, is on the goroutine's stack.
fn has_one_in(stack_pointers: &[u64], g: &Goroutine) -> bool {
    let first = stack_pointers.partition_point(|sp| *sp < g.stack_lo.0);
    stack_pointers
        .get(first)
        .is_some_and(|sp| *sp < g.stack_hi.0)
}

fn read_words(
    memory: &dyn Memory,
    places: &[(LiveAddr, usize)],
    each: &mut dyn FnMut(u64),
) -> Result<(), MemoryError> {
    let mut buffers: Vec<Vec<u8>> = places.iter().map(|(_, len)| vec![0; *len]).collect();
    let mut pieces: Vec<Piece<'_>> = places
        .iter()
        .zip(&mut buffers)
        .map(|((at, _), into)| Piece {
            at: *at,
            into,
            ok: false,
        })
        .collect();
    memory.read_many(&mut pieces)?;
    for piece in pieces.iter().filter(|piece| piece.ok) {
        let (words, _) = piece.into.as_chunks::<8>();
        for word in words {
            each(u64::from_le_bytes(*word));
        }
    }
    Ok(())
}
