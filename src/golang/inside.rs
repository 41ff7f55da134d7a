//! Which goroutines are inside traced functions already: asked once, at attach,
//! so that their calls can be told when they return.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use crate::addr::{Bias, ImageAddr, LiveAddr};
use crate::golang::globals::Globals;
use crate::golang::gs::{self, Goroutine, GsError, Status};
use crate::golang::layout::Layouts;
use crate::golang::stack::{Frame, StackCopy, Unwinder};
use crate::image::Image;
use crate::memory::{Memory, MemoryError, Piece};

/// Frames of one stack that are looked at.
const MAX_FRAMES: usize = 512;
/// Bytes of each stack that are read ahead; most stacks are shorter.
const AHEAD: u64 = 8192;
/// Stacks read in one batch.
const BATCH: usize = 256;
/// Times a goroutine that moved on meanwhile is looked at again.
const TRIES: usize = 3;
/// Stack words among which a poll descriptor or its owner is looked for.
const WORDS: usize = 160;

/// A traced function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traced {
    /// First instruction.
    pub entry: ImageAddr,
    /// One past its last.
    pub end: ImageAddr,
    /// Where its entry is armed: a goroutine before or on it will still fire it.
    pub site: ImageAddr,
}

/// A thread that was stopped: its registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// Thread id.
    pub tid: u64,
    /// RIP
    pub pc: LiveAddr,
    /// RSP
    pub sp: LiveAddr,
}

/// What a goroutine waits for in the network poller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollWait {
    /// Its `runtime.pollDesc`.
    pub poll_desc: LiveAddr,
    /// The file descriptor.
    pub fd: i64,
    /// It waits to write, else to read.
    pub write: bool,
    /// The `internal/poll.FD` that owns it (`Receiver::PollFd` of a
    /// `ConnReader` gives the connection), when it was found on the stack.
    pub poll_fd: Option<LiveAddr>,
}

/// A call that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inside {
    /// Number of the goroutine.
    pub goid: u64,
    /// Its `g`.
    pub g: LiveAddr,
    /// `stack.hi` less the address of its return address: the same at its
    /// entry and at its RET, wherever the stack is moved.
    pub offset: u64,
    /// Index of the function in the list asked with.
    pub traced: usize,
    /// What the goroutine waits for.
    pub wait: Option<PollWait>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Calls under way, per goroutine from the innermost outwards.
    pub calls: Vec<Inside>,
    /// Goroutines whose stacks could not be looked at: on a thread whose
    /// registers are not known, or always on the move.
    pub unseen: Vec<u64>,
    /// Goroutines that were alive.
    pub goroutines: usize,
}

/// All that is asked about.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The program.
    pub image: &'a Image,
    /// Where it was loaded.
    pub bias: Bias,
    /// Its memory.
    pub memory: &'a dyn Memory,
    /// Its layouts.
    pub layouts: &'a Layouts,
    /// Its globals.
    pub globals: &'a Globals,
    /// Traced functions, sorted by entry, not overlapping.
    pub traced: &'a [Traced],
    /// Registers of threads that are stopped; the others' goroutines are unseen.
    pub threads: &'a [Registers],
}

impl Search<'_> {
    /// Looks at the stacks of all goroutines.
    pub fn run(&self, unwinder: &mut Unwinder) -> Result<Found, GsError> {
        let all = gs::read_goroutines(self.memory, self.layouts, self.globals, self.bias)?;
        let mut found = Found {
            goroutines: all.len(),
            ..Found::default()
        };
        let running = self.running()?;
        let mut parked = Vec::new();
        for g in all {
            match running.get(&g.addr) {
                Some(&at) => self.on_thread(unwinder, &g, at, &mut found)?,
                None => parked.push(g),
            }
        }
        for _ in 0..TRIES {
            parked = self.parked(unwinder, &parked, &mut found)?;
            if parked.is_empty() {
                break;
            }
        }
        found.unseen.extend(parked.iter().map(|g| g.goid));
        Ok(found)
    }

    /// The goroutines of stopped threads, and where they are.
    fn running(&self) -> Result<HashMap<LiveAddr, Registers>, GsError> {
        if self.threads.is_empty() {
            return Ok(HashMap::new());
        }
        let by_tid: HashMap<u64, Registers> = self.threads.iter().map(|t| (t.tid, *t)).collect();
        let threads = gs::read_threads(self.memory, self.layouts, self.globals, self.bias)?;
        Ok(threads
            .iter()
            .filter(|t| !t.curg.is_null())
            .filter_map(|t| {
                let mut at = *by_tid.get(&t.tid)?;
                // In the vDSO: where it was called (runtime/traceback.go).
                if !t.vdso_sp.is_null() && self.is_foreign(at.pc) {
                    (at.pc, at.sp) = (t.vdso_pc, t.vdso_sp);
                }
                Some((t.curg, at))
            })
            .collect())
    }

    fn is_foreign(&self, pc: LiveAddr) -> bool {
        let pc = self.bias.image(pc);
        self.image.functions().find(pc).is_none()
    }

    /// A goroutine whose thread is stopped.
    fn on_thread(
        &self,
        unwinder: &mut Unwinder,
        g: &Goroutine,
        at: Registers,
        found: &mut Found,
    ) -> Result<(), GsError> {
        let on_own_stack = g.stack_lo <= at.sp && at.sp < g.stack_hi;
        let from = match g.status {
            Status::Syscall => g.parked_at(),
            // On the system stack, the signal stack or in C: where it left its own.
            _ if !on_own_stack => {
                let saved = (g.sched_pc, g.sched_sp);
                let sane = g.stack_lo <= saved.1 && saved.1 < g.stack_hi;
                sane.then_some(saved)
            }
            _ => Some((at.pc, at.sp)),
        };
        let Some(from) = from else {
            found.unseen.push(g.goid);
            return Ok(());
        };
        let stack = unwinder.unwind(self.image, self.bias, self.memory, from, MAX_FRAMES)?;
        self.note(g, &stack.frames, None, found);
        Ok(())
    }

    /// Goroutines on no known thread. Gives back those that moved on while
    /// they were looked at.
    fn parked(
        &self,
        unwinder: &mut Unwinder,
        all: &[Goroutine],
        found: &mut Found,
    ) -> Result<Vec<Goroutine>, GsError> {
        let mut again = Vec::new();
        for batch in all.chunks(BATCH) {
            let mut at: Vec<(Goroutine, LiveAddr, LiveAddr)> = Vec::new();
            for g in batch {
                match g.parked_at() {
                    Some((pc, sp)) => at.push((*g, pc, sp)),
                    None => again.push(*g),
                }
            }
            let mut copies: Vec<Vec<u8>> = at
                .iter()
                .map(|(g, _, sp)| {
                    let len = g.stack_hi.0.saturating_sub(sp.0).min(AHEAD);
                    vec![0; usize::try_from(len).unwrap_or(0)]
                })
                .collect();
            let mut pieces: Vec<Piece<'_>> = at
                .iter()
                .zip(&mut copies)
                .map(|((_, _, sp), copy)| Piece {
                    at: *sp,
                    into: copy,
                    ok: false,
                })
                .collect();
            self.memory.read_many(&mut pieces)?;
            let oks: Vec<bool> = pieces.iter().map(|p| p.ok).collect();
            for ((ok, (g, pc, sp)), copy) in oks.iter().zip(&at).zip(&copies) {
                let copy = StackCopy {
                    at: *sp,
                    bytes: if *ok { copy } else { &[] },
                    beyond: self.memory,
                };
                let stack =
                    unwinder.unwind(self.image, self.bias, &copy, (*pc, *sp), MAX_FRAMES)?;
                let mut fresh = Found::default();
                self.note(g, &stack.frames, Some(&copy), &mut fresh);
                if fresh.calls.is_empty() {
                    continue;
                }
                // Only what it still is counts.
                match gs::read_gs_at(self.memory, self.layouts, vec![g.addr.0])?.first() {
                    Some(now) if same_place(g, now) => found.calls.extend(fresh.calls),
                    Some(now) if now.goid == g.goid && now.status.is_alive() => again.push(*now),
                    Some(_) | None => {}
                }
            }
        }
        Ok(again)
    }

    /// Adds the frames of `g` that are in traced functions.
    fn note(
        &self,
        g: &Goroutine,
        frames: &[Frame],
        stack: Option<&StackCopy<'_>>,
        found: &mut Found,
    ) {
        let mut wait = None;
        for frame in frames {
            let Some(traced) = self.traced_at(frame) else {
                continue;
            };
            if frame.return_slot >= g.stack_hi {
                continue;
            }
            if found.calls.last().is_none_or(|c| c.goid != g.goid) && g.status == Status::Waiting {
                wait = self.poll_wait(g, stack);
            }
            found.calls.push(Inside {
                goid: g.goid,
                g: g.addr,
                offset: g.stack_hi.0.wrapping_sub(frame.return_slot.0),
                traced,
                wait,
            });
        }
    }

    /// The traced function that a frame is in, past its entry site.
    fn traced_at(&self, frame: &Frame) -> Option<usize> {
        let index = self
            .traced
            .binary_search_by_key(&frame.entry, |t| t.entry)
            .ok()?;
        let traced = self.traced.get(index)?;
        if !frame.exact {
            return Some(index);
        }
        let pc = self.bias.image(frame.pc);
        let before = pc <= traced.site || self.is_after_morestack(pc);
        // Between the stack check and the frame's set-up lie the entry and the
        // block that calls morestack and starts over; a RET is past them.
        let no_frame = frame.sp == frame.return_slot && traced.site > traced.entry;
        let at_ret = self.image.bytes(pc, 1) == Some(&[0xc3]);
        (!before && (!no_frame || at_ret)).then_some(index)
    }

    /// `call runtime.morestack…` ends right before `pc`: the function begins anew.
    fn is_after_morestack(&self, pc: ImageAddr) -> bool {
        let call = ImageAddr(pc.0.wrapping_sub(5));
        let Some([0xe8, rel @ ..]) = self.image.bytes(call, 5) else {
            return false;
        };
        let Ok(rel) = <[u8; 4]>::try_from(rel) else {
            return false;
        };
        let to = ImageAddr(pc.0.wrapping_add_signed(i32::from_le_bytes(rel).into()));
        self.image
            .functions()
            .find(to)
            .is_some_and(|f| f.name().starts_with("runtime.morestack"))
    }

    /// What a goroutine waits for in the network poller: a word of
    /// netpollblock's frame is the address of the pollDesc's rg or wg, which
    /// holds the g (runtime/netpoll.go).
    fn poll_wait(&self, g: &Goroutine, stack: Option<&StackCopy<'_>>) -> Option<PollWait> {
        let l = &self.layouts.poll_desc;
        let stack: &dyn Memory = match stack {
            Some(copy) => copy,
            None => self.memory,
        };
        let room = g.stack_hi.0.checked_sub(g.sched_sp.0)? / 8;
        let count = usize::try_from(room).ok()?.min(WORDS);
        let bytes = stack.read_vec(g.sched_sp, count.checked_mul(8)?).ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|w| u64::from_le_bytes(*w)).collect();
        let holders = self.words_at(words.iter().copied(), g.addr.0).ok()?;
        for holder in holders {
            for (field, write) in [(l.rg, false), (l.wg, true)] {
                let desc = LiveAddr(holder.wrapping_sub(field));
                if self.memory.read_u64(desc.offset(l.self_)) != Ok(desc.0) {
                    continue;
                }
                let fd = self.memory.read_u64(desc.offset(l.fd)).ok()? as i64;
                return Some(PollWait {
                    poll_desc: desc,
                    fd,
                    write,
                    poll_fd: self.owner(&words, desc, fd),
                });
            }
        }
        None
    }

    /// The poll.FD among these words: it knows the pollDesc and the number.
    fn owner(&self, words: &[u64], desc: LiveAddr, fd: i64) -> Option<LiveAddr> {
        let l = &self.layouts.poll_fd;
        let places = words.iter().map(|w| w.wrapping_add(l.runtime_ctx));
        self.words_at(places, desc.0)
            .ok()?
            .into_iter()
            .map(|place| LiveAddr(place.wrapping_sub(l.runtime_ctx)))
            .find(|x| self.memory.read_u64(x.offset(l.sysfd)) == Ok(fd as u64))
    }

    /// Those of `places` that hold `value`, read in one batch.
    fn words_at(
        &self,
        places: impl Iterator<Item = u64>,
        value: u64,
    ) -> Result<Vec<u64>, MemoryError> {
        let mut seen = HashSet::new();
        let places: Vec<u64> = places
            .filter(|p| p % 8 == 0 && *p > 0x1000 && *p < 1 << 47 && seen.insert(*p))
            .collect();
        let mut buffers = vec![[0; 8]; places.len()];
        let mut pieces: Vec<Piece<'_>> = places
            .iter()
            .zip(&mut buffers)
            .map(|(&at, into)| Piece {
                at: LiveAddr(at),
                into,
                ok: false,
            })
            .collect();
        self.memory.read_many(&mut pieces)?;
        Ok(pieces
            .iter()
            .filter(|p| p.ok && *p.into == value.to_le_bytes())
            .map(|p| p.at.0)
            .collect())
    }
}

/// It has not run since: the same goroutine, parked at the same place.
fn same_place(then: &Goroutine, now: &Goroutine) -> bool {
    then.goid == now.goid
        && then.stack_hi == now.stack_hi
        && then.parked_at() == now.parked_at()
        && now.parked_at().is_some()
}
