//! Whether any stopped thread is, or will be again, inside some pieces of code:
//! asked before bytes are replaced and before pages are unmapped.
//!
//! A thread is where its program counter says. One that runs a signal handler
//! is besides wherever the kernel saved a program counter for it: it returns
//! there. That lies in a signal frame between its stack pointer and the end of
//! its signal stack, so all words there are looked at. A word that only looks
//! like such a program counter makes gotap try again, no more. The interrupted
//! stack's own top is looked at too: a goroutine that was being preempted there
//! goes on at an address among its first words.
//!
//! Pure: registers and memory in, indexes out.

use std::collections::BTreeSet;

use crate::addr::LiveAddr;
use crate::arch::unit::Interiors;
use crate::memory::{Memory, MemoryError, Piece};

/// A handler's stack in Go has 32 KiB (`gsignal`, runtime/os_linux.go:
/// mpreinit); so much is looked at from each thread's stack pointer on.
const HANDLER_STACK: u64 = 32 << 10;

/// Bytes of an interrupted stack that are looked at: what a goroutine that is
/// being preempted has pushed lies in the first few hundred.
const NEAR: u64 = 1 << 10;

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

/// A program counter and stack pointer that the kernel saved in a signal frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupted {
    /// Where the thread goes on when its handler returns.
    pub pc: u64,
    /// With which stack pointer.
    pub sp: u64,
}

/// The pieces that any of these threads is in, or returns to from a handler:
/// indexes as [`Interiors`] knows them, ascending. All threads are stopped.
/// An unreadable stack has nothing to return to; only a target that is gone is
/// an error.
pub fn busy_threads(
    memory: &dyn Memory,
    threads: &[ThreadAt],
    interiors: &Interiors,
) -> Result<Vec<usize>, MemoryError> {
    let mut busy = BTreeSet::new();
    if interiors.is_empty() {
        return Ok(Vec::new());
    }
    busy.extend(threads.iter().filter_map(|t| interiors.find(t.pc)));
    let mut interrupted = Vec::new();
    let own = threads.iter().map(|t| (t.sp, HANDLER_STACK)).collect();
    each_stack(memory, own, &mut |words| {
        busy.extend(among(words, interiors));
        interrupted.extend(signal_frames(words));
    })?;
    let tops = interrupted.iter().map(|i| (i.sp, NEAR)).collect();
    each_stack(memory, tops, &mut |words| {
        busy.extend(among(words, interiors));
    })?;
    Ok(busy.into_iter().collect())
}

/// A thread is in one of these pieces, or returns there from a signal handler.
/// For pieces that nobody has an address of but by being in them: old words of
/// stacks do not count, nor old signal frames. Those are told by the signal
/// stack that they name (`uc_stack`, 144 bytes before the stack pointer in
/// `struct ucontext`): a thread that is in the handler is on it.
pub fn returns_into(
    memory: &dyn Memory,
    thread: ThreadAt,
    pieces: &Interiors,
) -> Result<bool, MemoryError> {
    if pieces.find(thread.pc).is_some() {
        return Ok(true);
    }
    let mut found = false;
    each_stack(memory, vec![(thread.sp, HANDLER_STACK)], &mut |words| {
        for (i, w) in words.windows(4).enumerate() {
            let [_, pc, _, segments] = w else { continue };
            if !is_user_segments(*segments) || pieces.find(*pc).is_none() {
                continue;
            }
            let word = |back: usize| words.get(i.checked_sub(back)?).copied();
            found |= match (word(18), word(16)) {
                (Some(_), Some(0)) => true,
                (Some(low), Some(size)) => thread.sp >= low && thread.sp < low.saturating_add(size),
                // The frame begins before the stack pointer: it is in use.
                _ => true,
            };
        }
    })?;
    Ok(found)
}

/// The pieces that words of a stack lead into.
pub fn among<'a>(
    words: &'a [u64],
    interiors: &'a Interiors,
) -> impl Iterator<Item = usize> + use<'a> {
    let span = interiors.span();
    let near = words.iter().filter(move |word| span.contains(word));
    near.filter_map(|word| interiors.find(*word))
}

/// Signal frames among the words of a stack. In one, behind the stack pointer,
/// the program counter and the flags come cs, gs, fs and ss in one word
/// (`struct sigcontext_64`, arch/x86/include/uapi/asm/sigcontext.h).
pub fn signal_frames(words: &[u64]) -> impl Iterator<Item = Interrupted> + '_ {
    let frames = words.windows(4).filter_map(|w| match w {
        [sp, pc, _, segments] if is_user_segments(*segments) => {
            Some(Interrupted { pc: *pc, sp: *sp })
        }
        _ => None,
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
    each: &mut dyn FnMut(&[u64]),
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
        for stack in &places {
            words.clear();
            let own = rest.by_ref().take(stack.len());
            // All of this stack's pieces are taken, also those behind a hole.
            let read: Vec<&Piece<'_>> = own.collect();
            for piece in read.iter().take_while(|piece| piece.ok) {
                let (whole, _) = piece.into.as_chunks::<8>();
                words.extend(whole.iter().map(|word| u64::from_le_bytes(*word)));
            }
            each(&words);
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

    /// A page of a signal stack whose frame says so.
    fn signal_stack(frame_at: usize, sp: u64, pc: u64) -> (u64, Vec<u64>) {
        let mut words = vec![0; 512];
        words[frame_at..frame_at + 4].copy_from_slice(&[sp, pc, 0x246, 0x002b_0000_0000_0033]);
        (SIGNAL_STACK, words)
    }

    #[test]
    fn a_thread_inside_is_busy_and_one_at_the_first_byte_is_not() {
        let nothing = Patchwork::default();
        let at = |pc| busy_threads(&nothing, &[thread(pc, STACK)], &units()).unwrap();
        assert!(at(0x40_1000).is_empty());
        assert_eq!(at(0x40_1001), [0]);
        assert!(at(0x40_1008).is_empty());
        assert_eq!(at(0x40_2005), [1]);
        // A region that is to be unmapped has no byte where one may be.
        let region = Interiors::whole(std::iter::once(0x40_1000..0x40_1008));
        let at_first = [thread(0x40_1000, STACK)];
        assert_eq!(busy_threads(&nothing, &at_first, &region), Ok(vec![0]));
    }

    #[test]
    fn a_handler_returns_to_what_its_frame_says() {
        let memory = memory(&[signal_stack(100, STACK, 0x40_1004)]);
        let threads = [thread(HANDLER, SIGNAL_STACK + 64)];
        assert_eq!(busy_threads(&memory, &threads, &units()), Ok(vec![0]));
        // What lies below the stack pointer is of handlers that have returned.
        let threads = [thread(HANDLER, SIGNAL_STACK + 808 + 8)];
        assert_eq!(busy_threads(&memory, &threads, &units()), Ok(vec![]));
    }

    #[test]
    fn the_interrupted_stack_holds_what_preemption_pushed() {
        // Interrupted in asyncPreempt, which returns into a unit. The stack
        // crosses into a page that is there, and ends at one that is not.
        let mut words = vec![7; 40];
        words[20] = 0x40_2003;
        let memory = memory(&[
            signal_stack(100, STACK, HANDLER),
            (STACK, words[..2].to_vec()),
            (STACK + 16, [&words[2..], &vec![0; 512 - 38]].concat()),
        ]);
        let threads = [thread(HANDLER, SIGNAL_STACK)];
        assert_eq!(busy_threads(&memory, &threads, &units()), Ok(vec![1]));
    }

    #[test]
    fn frames_are_known_by_their_segments() {
        let frame = |segments| signal_frames(&[1, 2, 3, segments]).next();
        let found = Some(Interrupted { sp: 1, pc: 2 });
        assert_eq!(frame(0x002b_0000_0000_0033), found);
        assert_eq!(frame(0x0000_0000_0000_0033), found);
        assert_eq!(frame(0xe02b_0000_0000_e033), found);
        assert_eq!(frame(0x002b_0000_0001_0033), None);
        assert_eq!(frame(0x002b_0000_0000_0023), None);
        // A stack full of them is looked at all the same, not for ever.
        let many = vec![0x33; 4096];
        assert_eq!(signal_frames(&many).count(), MAX_FRAMES);
    }

    #[test]
    fn any_stack_pointer_is_taken() {
        for sp in [0, 1, 7, u64::MAX, u64::MAX - 9, 1 << 47] {
            let threads = [thread(0, sp)];
            let nothing = Patchwork::default();
            assert_eq!(busy_threads(&nothing, &threads, &units()), Ok(vec![]));
        }
        assert_eq!(pages(4090, 20), [(4088, 8), (4096, 12)]);
    }
}
