//! Whether any stopped thread is, or will be again, inside some pieces of code:
//! asked before bytes are replaced and before pages are unmapped.
//!
//! A thread is where its program counter says. One that runs a signal handler
//! is besides wherever the kernel saved a program counter for it: it returns
//! there. That lies in a signal frame between its stack pointer and the end of
//! its signal stack, and a frame says itself which stack that is: what looks
//! like a frame elsewhere is left from before. Other words of stacks do not count:
//! who goes on at an address that lies on a stack is known to
//! golang/resting.rs.
//!
//! Pure: registers and memory in, indexes out.

use std::collections::BTreeSet;

use crate::addr::LiveAddr;
use crate::arch::unit::Interiors;
use crate::memory::{Memory, MemoryError, Piece};

/// A handler's stack in Go has 32 KiB (`gsignal`, runtime/os_linux.go:
/// mpreinit); so much is looked at from each thread's stack pointer on.
const HANDLER_STACK: u64 = 32 << 10;

/// Read in one piece: no piece crosses from one page into another.
const PAGE: u64 = 4096;

/// Stacks read in one batch.
const BATCH: usize = 64;

/// A handler may be interrupted by another signal's, but not so often.
const MAX_FRAMES: usize = 16;

/// Where a stopped thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadAt {
    /// Thread id.
    pub tid: i32,
    /// RIP
    pub pc: u64,
    /// RSP
    pub sp: u64,
}

/// Where a thread is, or goes on once a handler has returned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Whereabouts {
    /// With which stack pointer.
    pub sp: u64,
    /// At which instruction.
    pub pc: u64,
}

/// Where these stopped threads are, and where they return to from handlers.
/// Ascending by stack pointer. An unreadable stack has nothing to return to;
/// only a target that is gone is an error.
pub fn whereabouts(
    memory: &dyn Memory,
    threads: &[ThreadAt],
) -> Result<Vec<Whereabouts>, MemoryError> {
    let own = |t: &ThreadAt| Whereabouts { sp: t.sp, pc: t.pc };
    let mut all: Vec<Whereabouts> = threads.iter().map(own).collect();
    let stacks = threads.iter().map(|t| (t.sp, HANDLER_STACK)).collect();
    each_stack(memory, stacks, &mut |sp, words| {
        all.extend(signal_frames(words, sp));
    })?;
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The pieces that any of these is in: indexes as [`Interiors`] knows them,
/// ascending.
pub fn busy(whereabouts: &[Whereabouts], interiors: &Interiors) -> BTreeSet<usize> {
    let pcs = whereabouts.iter().map(|at| at.pc);
    pcs.filter_map(|pc| interiors.find(pc)).collect()
}

/// A thread is in one of these pieces, or returns there from a signal handler.
pub fn returns_into(
    memory: &dyn Memory,
    thread: ThreadAt,
    pieces: &Interiors,
) -> Result<bool, MemoryError> {
    Ok(!busy(&whereabouts(memory, &[thread])?, pieces).is_empty())
}

/// Live signal frames among the words of a stack, which begin at `sp`, where its
/// thread's stack pointer is. In one, behind the stack pointer, the program
/// counter and the flags come cs, gs, fs and ss in one word (`struct
/// sigcontext_64`, arch/x86/include/uapi/asm/sigcontext.h), and 144 bytes before
/// the stack pointer the signal stack is named (`uc_stack` in `struct ucontext`):
/// whoever is in the handler is on it, and the frame too.
fn signal_frames(words: &[u64], sp: u64) -> impl Iterator<Item = Whereabouts> + '_ {
    let frames = words.windows(4).enumerate().filter_map(move |(i, w)| {
        let [own_sp, pc, _, segments] = w else {
            return None;
        };
        if !is_user_segments(*segments) {
            return None;
        }
        let word = |back: usize| words.get(i.checked_sub(back)?).copied();
        let here = sp.saturating_add((i as u64).saturating_mul(8));
        let live = match (word(18), word(16)) {
            (Some(low), Some(size)) if size != 0 => {
                let stack = low..low.saturating_add(size);
                stack.contains(&sp) && stack.contains(&here)
            }
            // No signal stack of its own; or the frame begins before the stack
            // pointer: it is in use.
            _ => true,
        };
        live.then_some(Whereabouts {
            sp: *own_sp,
            pc: *pc,
        })
    });
    frames.take(MAX_FRAMES)
}

/// `__USER_CS` below, `__USER_DS` (or, from kernels that do not keep it, 0)
/// above, nothing between (arch/x86/include/asm/segment.h); 0xe033 and 0xe02b
/// under Xen (arch/x86/include/asm/xen/interface_64.h).
fn is_user_segments(word: u64) -> bool {
    let (code, data) = (word & 0xffff, word >> 48);
    matches!(code, 0x33 | 0xe033)
        && matches!(data, 0x2b | 0xe02b | 0)
        && word & 0x0000_ffff_ffff_0000 == 0
}

/// Reads stacks from their tops outwards, each up to so many bytes or to where
/// its mapping ends.
fn each_stack(
    memory: &dyn Memory,
    mut stacks: Vec<(u64, u64)>,
    each: &mut dyn FnMut(u64, &[u64]),
) -> Result<(), MemoryError> {
    stacks.sort_unstable();
    stacks.dedup();
    for batch in stacks.chunks(BATCH) {
        let places: Vec<Vec<(u64, usize)>> =
            batch.iter().map(|(sp, len)| pages(*sp, *len)).collect();
        let mut buffers: Vec<Vec<u8>> = places
            .iter()
            .flatten()
            .map(|(_, len)| vec![0; *len])
            .collect();
        let mut pieces: Vec<Piece<'_>> = places
            .iter()
            .flatten()
            .zip(&mut buffers)
            .map(|((at, _), into)| Piece {
                at: LiveAddr(*at),
                into,
                ok: false,
            })
            .collect();
        memory.read_many(&mut pieces)?;
        let mut rest = pieces.iter();
        let mut words = Vec::new();
        for ((sp, _), stack) in batch.iter().zip(&places) {
            words.clear();
            let own = rest.by_ref().take(stack.len());
            // All of this stack's pieces are taken, also those behind a hole.
            let read: Vec<&Piece<'_>> = own.collect();
            for piece in read.iter().take_while(|piece| piece.ok) {
                let (whole, _) = piece.into.as_chunks::<8>();
                words.extend(whole.iter().map(|word| u64::from_le_bytes(*word)));
            }
            each(*sp & !7, &words);
        }
    }
    Ok(())
}

/// `len` bytes from `sp` on, cut where pages begin.
fn pages(sp: u64, len: u64) -> Vec<(u64, usize)> {
    let mut at = sp & !7;
    let end = at.saturating_add(len);
    let mut pieces = Vec::new();
    while at < end {
        let next = (at | (PAGE - 1)).saturating_add(1).min(end);
        // At most a page.
        pieces.push((at, next.wrapping_sub(at) as usize));
        if next == u64::MAX {
            break;
        }
        at = next;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Patchwork;

    const HANDLER: u64 = 0x45_0000;
    const SIGNAL_STACK: u64 = 0xc000_0100_0000;
    const STACK: u64 = 0xc000_0200_0ff0;

    fn units() -> Interiors {
        Interiors::strictly([0x40_1000..0x40_1008, 0x40_2000..0x40_2006])
    }

    fn memory(pieces: &[(u64, Vec<u64>)]) -> Patchwork {
        let bytes = |words: &Vec<u64>| words.iter().flat_map(|w| w.to_le_bytes()).collect();
        Patchwork {
            pieces: pieces
                .iter()
                .map(|(at, words)| (LiveAddr(*at), bytes(words)))
                .collect(),
        }
    }

    fn thread(pc: u64, sp: u64) -> ThreadAt {
        ThreadAt { tid: 1, pc, sp }
    }

    fn busy_in(memory: &Patchwork, threads: &[ThreadAt], units: &Interiors) -> Vec<usize> {
        let all = whereabouts(memory, threads).expect("it is there");
        busy(&all, units).into_iter().collect()
    }

    /// A page of a signal stack with a frame whose stack pointer is at the word
    /// `at`, and says that it is on the stack `low..low + size`.
    fn signal_stack(at: usize, (low, size): (u64, u64), sp: u64, pc: u64) -> (u64, Vec<u64>) {
        let mut words = vec![0; 512];
        words[at - 18] = low;
        words[at - 16] = size;
        words[at..at + 4].copy_from_slice(&[sp, pc, 0x246, 0x002b_0000_0000_0033]);
        (SIGNAL_STACK, words)
    }

    #[test]
    fn a_thread_inside_is_busy_and_one_at_the_first_byte_is_not() {
        let nothing = Patchwork::default();
        let at = |pc| busy_in(&nothing, &[thread(pc, STACK)], &units());
        assert!(at(0x40_1000).is_empty());
        assert_eq!(at(0x40_1001), [0]);
        assert!(at(0x40_1008).is_empty());
        assert_eq!(at(0x40_2005), [1]);
        // A region that is to be unmapped has no byte where one may be.
        let region = Interiors::whole(std::iter::once(0x40_1000..0x40_1008));
        let at_first = thread(0x40_1000, STACK);
        assert_eq!(busy_in(&nothing, &[at_first], &region), [0]);
        assert_eq!(returns_into(&nothing, at_first, &region), Ok(true));
    }

    #[test]
    fn a_handler_returns_to_what_its_frame_says() {
        let stack = (SIGNAL_STACK, 0x1000);
        let memory = memory(&[signal_stack(100, stack, STACK, 0x40_1004)]);
        let threads = [thread(HANDLER, SIGNAL_STACK + 64)];
        assert_eq!(busy_in(&memory, &threads, &units()), [0]);
        let all = whereabouts(&memory, &threads).unwrap();
        let returns = Whereabouts {
            sp: STACK,
            pc: 0x40_1004,
        };
        assert!(all.contains(&returns), "{all:x?}");
        // What lies below the stack pointer is of handlers that have returned.
        let threads = [thread(HANDLER, SIGNAL_STACK + 808 + 8)];
        assert!(busy_in(&memory, &threads, &units()).is_empty());
    }

    #[test]
    fn a_frame_of_another_stack_was_left_behind() {
        // Of a signal stack that lay elsewhere, and one that ended before here.
        for stack in [(0xc000_0900_0000, 0x8000), (SIGNAL_STACK, 64)] {
            let memory = memory(&[signal_stack(100, stack, STACK, 0x40_1004)]);
            let threads = [thread(HANDLER, SIGNAL_STACK)];
            assert!(busy_in(&memory, &threads, &units()).is_empty());
        }
        // Without a signal stack it is where it is.
        let memory = memory(&[signal_stack(100, (0, 0), STACK, 0x40_1004)]);
        let threads = [thread(HANDLER, SIGNAL_STACK)];
        assert_eq!(busy_in(&memory, &threads, &units()), [0]);
    }

    #[test]
    fn other_words_of_stacks_do_not_count() {
        let mut words = vec![7; 512];
        words[20] = 0x40_2003;
        let memory = memory(&[(SIGNAL_STACK, words)]);
        let threads = [thread(HANDLER, SIGNAL_STACK)];
        assert!(busy_in(&memory, &threads, &units()).is_empty());
    }

    #[test]
    fn frames_are_known_by_their_segments() {
        let frame = |segments| signal_frames(&[1, 2, 3, segments], 0).next();
        let found = Some(Whereabouts { sp: 1, pc: 2 });
        assert_eq!(frame(0x002b_0000_0000_0033), found);
        assert_eq!(frame(0x0000_0000_0000_0033), found);
        assert_eq!(frame(0xe02b_0000_0000_e033), found);
        assert_eq!(frame(0x002b_0000_0001_0033), None);
        assert_eq!(frame(0x002b_0000_0000_0023), None);
        // A stack full of them is looked at all the same, not for ever.
        let many = vec![0x33; 4096];
        assert!(signal_frames(&many, 0).count() <= MAX_FRAMES);
    }

    #[test]
    fn any_stack_pointer_is_taken() {
        for sp in [0, 1, 7, u64::MAX, u64::MAX - 9, 1 << 47] {
            let threads = [thread(0, sp)];
            assert!(busy_in(&Patchwork::default(), &threads, &units()).is_empty());
        }
        assert_eq!(pages(4090, 20), [(4088, 8), (4096, 12)]);
    }
}
