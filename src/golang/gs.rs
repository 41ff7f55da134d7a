//! Goroutines and threads, as the runtime lists them; read while the target
//! runs (runtime/proc.go: forEachGRace reads allgs the same way).

#[cfg(test)]
mod tests;

use crate::addr::{Bias, LiveAddr};
use crate::golang::globals::Globals;
use crate::golang::layout::Layouts;
use crate::memory::{Memory, MemoryError, Piece};

/// More goroutines than this are garbage.
const MAX_GOROUTINES: u64 = 1 << 24;
/// More threads than this are garbage.
const MAX_THREADS: usize = 1 << 16;
/// Times the list is begun anew because it grew.
const TRIES: usize = 5;
/// Structs nearer to each other than this are read in one piece.
const NEAR: u64 = 2048;
/// Longest such piece.
const MAX_RUN: u64 = 1 << 18;
/// Bytes read per batch: they are looked at while the cache still has them.
const BATCH: usize = 1 << 20;
/// Pieces read per batch, as many as one system call takes.
const PIECES: usize = 1024;

/// Why the goroutines could not be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GsError {
    /// The code that tells where they are was not understood.
    #[error("cannot find {0} in this program's code: goroutines cannot be listed")]
    NoGlobal(&'static str),
    /// What is there makes no sense.
    #[error("{what} at {at} is {value:#x}: not a list of goroutines")]
    Garbage {
        /// Which variable.
        what: &'static str,
        /// Where.
        at: LiveAddr,
        /// What it says.
        value: u64,
    },
    /// The list kept growing.
    #[error("the list of goroutines moved {TRIES} times while it was read")]
    Moving,
    /// Memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What a goroutine is doing (runtime/runtime2.go: _Gidle …).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// Just allocated.
    Idle,
    /// On a run queue.
    Runnable,
    /// On a thread.
    Running,
    /// In a system call.
    Syscall,
    /// Blocked.
    Waiting,
    /// Ended; its struct is kept for another.
    Dead,
    /// Its stack is being moved.
    CopyStack,
    /// Stopped for a suspend.
    Preempted,
    /// Blocked for ever, as the collector found (1.26).
    Leaked,
    /// For threads that C made (1.26).
    DeadExtra,
    /// A number that is not known.
    Other(u32),
}

impl Status {
    /// From `g.atomicstatus`.
    pub fn parse(word: u32) -> Status {
        /// The collector scans its stack (runtime/runtime2.go: _Gscan).
        const SCAN: u32 = 0x1000;
        match word & !SCAN {
            0 => Status::Idle,
            1 => Status::Runnable,
            2 => Status::Running,
            3 => Status::Syscall,
            4 => Status::Waiting,
            6 => Status::Dead,
            8 => Status::CopyStack,
            9 => Status::Preempted,
            10 => Status::Leaked,
            11 => Status::DeadExtra,
            other => Status::Other(other),
        }
    }

    /// There is a goroutine in this struct.
    pub fn is_alive(self) -> bool {
        match self {
            Status::Idle | Status::Dead | Status::DeadExtra | Status::Other(_) => false,
            Status::Runnable
            | Status::Running
            | Status::Syscall
            | Status::Waiting
            | Status::CopyStack
            | Status::Preempted
            | Status::Leaked => true,
        }
    }
}

/// A goroutine, as its `g` said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Goroutine {
    /// Where its `g` lies.
    pub addr: LiveAddr,
    /// Its number.
    pub goid: u64,
    /// What it does.
    pub status: Status,
    /// Why it waits: an index into `runtime.waitReasonStrings`.
    pub wait_reason: u8,
    /// Stack pointer while it does not run.
    pub sched_sp: LiveAddr,
    /// Where it goes on.
    pub sched_pc: LiveAddr,
    /// Stack pointer at the system call it is in, else 0.
    pub syscall_sp: LiveAddr,
    /// Where that system call was made.
    pub syscall_pc: LiveAddr,
    /// Lowest address of its stack.
    pub stack_lo: LiveAddr,
    /// One past the highest.
    pub stack_hi: LiveAddr,
    /// The m it runs on, or 0.
    pub m: LiveAddr,
    /// The `go` statement that made it.
    pub gopc: LiveAddr,
    /// Its function.
    pub startpc: LiveAddr,
}

impl Goroutine {
    /// Where to unwind from while it is on no thread: pc and stack pointer.
    pub fn parked_at(&self) -> Option<(LiveAddr, LiveAddr)> {
        let at = match self.status {
            Status::Syscall => (self.syscall_pc, self.syscall_sp),
            Status::Runnable | Status::Waiting | Status::Preempted | Status::Leaked => {
                (self.sched_pc, self.sched_sp)
            }
            Status::Running
            | Status::CopyStack
            | Status::Idle
            | Status::Dead
            | Status::DeadExtra
            | Status::Other(_) => return None,
        };
        (self.stack_lo <= at.1 && at.1 < self.stack_hi).then_some(at)
    }

    /// Parses the bytes of a `g`.
    pub fn parse(layouts: &Layouts, addr: LiveAddr, bytes: &[u8]) -> Goroutine {
        let l = &layouts.g;
        let word = |offset| LiveAddr(word_at(bytes, offset));
        Goroutine {
            addr,
            goid: word(l.goid).0,
            status: Status::parse(word(l.atomicstatus).0 as u32),
            wait_reason: word(l.waitreason).0 as u8,
            sched_sp: word(l.sched_sp),
            sched_pc: word(l.sched_pc),
            syscall_sp: word(l.syscallsp),
            syscall_pc: word(l.syscallpc),
            stack_lo: word(l.stack_lo),
            stack_hi: word(l.stack_hi),
            m: word(l.m),
            gopc: word(l.gopc),
            startpc: word(l.startpc),
        }
    }
}

/// A little-endian word; 0 past the end.
pub fn word_at(bytes: &[u8], offset: u64) -> u64 {
    usize::try_from(offset)
        .ok()
        .and_then(|at| bytes.get(at..)?.first_chunk::<8>())
        .map_or(0, |b| u64::from_le_bytes(*b))
}

/// A thread, as its `m` said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thread {
    /// Where its `m` lies.
    pub addr: LiveAddr,
    /// Kernel's thread id; 0 for the spare m of cgo programs.
    pub tid: u64,
    /// Its scheduling stack's g.
    pub g0: LiveAddr,
    /// Its signal stack's g.
    pub gsignal: LiveAddr,
    /// The goroutine that runs on it, or 0.
    pub curg: LiveAddr,
    /// Stack pointer before a call into the vDSO, or 0.
    pub vdso_sp: LiveAddr,
    /// Where that call was made.
    pub vdso_pc: LiveAddr,
}

/// Addresses of all `g` structs ever made.
pub(super) fn read_allgs(
    memory: &dyn Memory,
    globals: &Globals,
    bias: Bias,
) -> Result<Vec<u64>, GsError> {
    let allglen = bias.live(
        globals
            .allglen
            .ok_or(GsError::NoGlobal("runtime.allglen"))?,
    );
    let allgptr = bias.live(
        globals
            .allgptr
            .ok_or(GsError::NoGlobal("runtime.allgptr"))?,
    );
    for _ in 0..TRIES {
        // The array only grows and its length is stored after its pointer
        // (runtime/proc.go: allgadd), so the length is read first.
        let len = memory.read_u64(allglen)?;
        let array = memory.read_addr(allgptr)?;
        if len > MAX_GOROUTINES {
            return Err(GsError::Garbage {
                what: "runtime.allglen",
                at: allglen,
                value: len,
            });
        }
        let bytes = usize::try_from(len.saturating_mul(8)).unwrap_or(0);
        let list = match memory.read_vec(array, bytes) {
            Ok(list) => list,
            Err(MemoryError::Unmapped { .. }) if memory.read_addr(allgptr)? != array => continue,
            Err(e) => return Err(e.into()),
        };
        if memory.read_addr(allgptr)? != array {
            continue;
        }
        let (words, _) = list.as_chunks::<8>();
        return Ok(words.iter().map(|w| u64::from_le_bytes(*w)).collect());
    }
    Err(GsError::Moving)
}

/// All goroutines that are alive, in order of their number.
pub fn read_goroutines(
    memory: &dyn Memory,
    layouts: &Layouts,
    globals: &Globals,
    bias: Bias,
) -> Result<Vec<Goroutine>, GsError> {
    let mut addrs = read_allgs(memory, globals, bias)?;
    addrs.retain(|a| *a != 0);
    let mut all = read_structs(memory, addrs, layouts.g.size, |addr, bytes| {
        Goroutine::parse(layouts, addr, bytes)
    })?;
    all.retain(|g| g.status.is_alive());
    all.sort_by_key(|g| g.goid);
    Ok(all)
}

/// The goroutines with `g` at these addresses, in no particular order.
pub fn read_gs_at(
    memory: &dyn Memory,
    layouts: &Layouts,
    addrs: Vec<u64>,
) -> Result<Vec<Goroutine>, MemoryError> {
    read_structs(memory, addrs, layouts.g.size, |addr, bytes| {
        Goroutine::parse(layouts, addr, bytes)
    })
}

/// Reads structs of `size` bytes; unreadable ones are left out.
pub(super) fn read_structs<T>(
    memory: &dyn Memory,
    mut addrs: Vec<u64>,
    size: u64,
    parse: impl Fn(LiveAddr, &[u8]) -> T,
) -> Result<Vec<T>, MemoryError> {
    addrs.sort_unstable();
    addrs.dedup();
    let mut out = Vec::with_capacity(addrs.len());
    visit_structs::<MemoryError>(memory, &addrs, size, &mut |addr, bytes| {
        out.push(parse(addr, bytes));
        Ok(())
    })?;
    Ok(out)
}

/// Is shown where each struct lies, and its bytes.
pub(super) type EachStruct<'a, E> = &'a mut dyn FnMut(LiveAddr, &[u8]) -> Result<(), E>;

/// Structs that lie near each other.
struct Run {
    /// How many.
    count: usize,
    /// Bytes from the first's beginning to the last's end.
    span: usize,
}

/// The structs at the beginning of `addrs` that are read in one piece.
fn next_run(addrs: &[u64], size: u64) -> Option<Run> {
    let first = *addrs.first()?;
    let (mut count, mut end) = (0, first);
    for &addr in addrs {
        if addr.saturating_sub(end) > NEAR || addr.saturating_sub(first) > MAX_RUN {
            break;
        }
        count += 1;
        end = addr;
    }
    let span = end.saturating_sub(first).saturating_add(size);
    Some(Run {
        count,
        span: usize::try_from(span).ok()?,
    })
}

/// Shows `each` the bytes of the structs at `addrs`, which are sorted: through
/// one buffer, neighbours in one piece, many pieces at a time. One iovec a
/// struct would take five times as long. Unreadable ones are left out.
pub(super) fn visit_structs<E: From<MemoryError>>(
    memory: &dyn Memory,
    addrs: &[u64],
    size: u64,
    each: EachStruct<'_, E>,
) -> Result<(), E> {
    let size = size.clamp(8, 4096);
    let near = usize::try_from(NEAR).unwrap_or(0);
    let most = addrs.len().saturating_mul(near).min(BATCH);
    let mut buffer = vec![0; most.saturating_add(4096)];
    let mut alone = vec![0; size as usize];
    let mut rest = addrs;
    while !rest.is_empty() {
        let mut free = buffer.as_mut_slice();
        let mut pieces: Vec<(Piece<'_>, &[u64])> = Vec::new();
        while let Some(run) = next_run(rest, size) {
            let (Some((into, after)), Some((addrs, others))) = (
                std::mem::take(&mut free).split_at_mut_checked(run.span),
                rest.split_at_checked(run.count),
            ) else {
                break;
            };
            let at = LiveAddr(addrs.first().copied().unwrap_or(0));
            let piece = Piece {
                at,
                into,
                ok: false,
            };
            pieces.push((piece, addrs));
            (free, rest) = (after, others);
            if pieces.len() == PIECES {
                break;
            }
        }
        let (mut pieces, runs): (Vec<Piece<'_>>, Vec<&[u64]>) = pieces.into_iter().unzip();
        if pieces.is_empty() {
            break; // a buffer holds the longest run: it does not come to this
        }
        memory.read_many(&mut pieces)?;
        for (piece, addrs) in pieces.iter().zip(runs) {
            for &addr in addrs {
                let from = usize::try_from(addr.wrapping_sub(piece.at.0)).unwrap_or(usize::MAX);
                let till = from.saturating_add(size as usize);
                match piece.into.get(from..till).filter(|_| piece.ok) {
                    Some(bytes) => each(LiveAddr(addr), bytes)?,
                    // Something between two of them is not mapped.
                    None => match memory.read(LiveAddr(addr), &mut alone) {
                        Ok(()) => each(LiveAddr(addr), &alone)?,
                        Err(MemoryError::Unmapped { .. }) => {}
                        Err(gone @ MemoryError::Gone) => return Err(gone.into()),
                    },
                }
            }
        }
    }
    Ok(())
}

/// All threads of the runtime's list.
pub fn read_threads(
    memory: &dyn Memory,
    layouts: &Layouts,
    globals: &Globals,
    bias: Bias,
) -> Result<Vec<Thread>, GsError> {
    let allm = bias.live(globals.allm.ok_or(GsError::NoGlobal("runtime.allm"))?);
    let l = &layouts.m;
    let fields = [
        l.g0, l.procid, l.gsignal, l.curg, l.alllink, l.vdso_sp, l.vdso_pc,
    ];
    let len = fields.into_iter().max().unwrap_or(0).saturating_add(8);
    let len = usize::try_from(len).unwrap_or(0).min(1 << 14);
    let mut threads = Vec::new();
    let mut at = memory.read_addr(allm)?;
    while !at.is_null() && threads.len() < MAX_THREADS {
        let bytes = match memory.read_vec(at, len) {
            Ok(bytes) => bytes,
            // It ended while the list was walked; what follows is not reachable.
            Err(MemoryError::Unmapped { .. }) => break,
            Err(gone @ MemoryError::Gone) => return Err(gone.into()),
        };
        let word = |offset| LiveAddr(word_at(&bytes, offset));
        threads.push(Thread {
            addr: at,
            tid: word(l.procid).0,
            g0: word(l.g0),
            gsignal: word(l.gsignal),
            curg: word(l.curg),
            vdso_sp: word(l.vdso_sp),
            vdso_pc: word(l.vdso_pc),
        });
        at = word(l.alllink);
    }
    Ok(threads)
}
