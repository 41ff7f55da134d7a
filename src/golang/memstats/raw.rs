//! The figures as the runtime keeps them, read in few batches so that they
//! are of nearly one moment.

use super::places::Offsets;
use super::{CLASSES, Places};
use crate::addr::{Bias, LiveAddr};
use crate::memory::{Memory, MemoryError, Piece};

/// heapStatsDelta kept by `memstats.heapStats` (consistentHeapStats.stats).
const DELTAS: u64 = 3;
/// Spans in an mcache (numSpanClasses).
const CACHED: usize = 2 * CLASSES;
/// Entries of the rings of pauses.
const PAUSES: usize = 256;
/// More Ps than this are garbage.
const MAX_PROCS: u64 = 1 << 16;
/// Bytes of memstats, gcController and mheap_ that hold figures are less.
const MAX_STRUCT: u64 = 1 << 16;

/// Sums and copies; the names are those of the runtime.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Raw {
    pub(super) stacks_sys: u64,
    pub(super) mspan_sys: u64,
    pub(super) mcache_sys: u64,
    pub(super) buckhash_sys: u64,
    pub(super) gc_misc_sys: u64,
    pub(super) other_sys: u64,
    pub(super) last_gc: u64,
    pub(super) pause_total_ns: u64,
    pub(super) pause_ns: Vec<u64>,
    pub(super) pause_end: Vec<u64>,
    pub(super) numgc: u32,
    pub(super) numforcedgc: u32,
    pub(super) gc_cpu_fraction: u64,

    pub(super) released: u64,
    pub(super) in_heap: u64,
    pub(super) in_stacks: u64,
    pub(super) in_work_bufs: u64,
    pub(super) in_ptr_scalar_bits: u64,
    pub(super) large_alloc: u64,
    pub(super) large_alloc_count: u64,
    pub(super) large_free: u64,
    pub(super) large_free_count: u64,
    /// With what the Ps' caches hold.
    pub(super) tiny_alloc_count: u64,
    /// By size class, with what the Ps' caches hold.
    pub(super) small_allocs: Vec<u64>,
    pub(super) small_frees: Vec<u64>,
    /// By size class, what the Ps' caches hold.
    pub(super) cached: Vec<u64>,

    pub(super) memory_limit: u64,
    pub(super) heap_goal_by_percent: u64,
    pub(super) sweep_trigger: u64,
    pub(super) triggered: u64,
    pub(super) heap_marked: u64,
    pub(super) heap_in_use: u64,
    pub(super) heap_released: u64,
    pub(super) heap_free: u64,
    pub(super) total_alloc: u64,
    pub(super) total_free: u64,
    pub(super) mapped_ready: u64,

    pub(super) spans_in_use: u64,
    pub(super) mcaches_in_use: u64,
}

/// Bytes of a struct.
struct Bytes(Vec<u8>);

impl Bytes {
    fn word(&self, at: u64) -> u64 {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.0.get(at..)?.first_chunk::<8>())
            .map_or(0, |b| u64::from_le_bytes(*b))
    }

    fn half(&self, at: u64) -> u32 {
        self.word(at) as u32
    }

    fn words(&self, at: u64, count: usize) -> Vec<u64> {
        (0..count as u64)
            .map(|n| self.word(at.wrapping_add(n.wrapping_mul(8))))
            .collect()
    }
}

impl Raw {
    pub(super) fn read(
        memory: &dyn Memory,
        places: &Places,
        bias: Bias,
    ) -> Result<Raw, MemoryError> {
        let o = &places.offsets;
        let caches = find_caches(memory, places, bias)?;
        let mut raw = Raw {
            cached: vec![0; CLASSES],
            ..Raw::default()
        };
        let (mut stats, mut gc) = (room(o.gc_cpu_fraction), room(o.mapped_ready));
        let mut heap = (room(0), room(0));
        let mheap = bias.live(places.mheap);
        let mut pieces = [
            piece(bias.live(places.memstats), &mut stats),
            piece(bias.live(places.gc_controller), &mut gc),
            piece(mheap.offset(o.spans_in_use), &mut heap.0),
            piece(mheap.offset(o.mcaches_in_use), &mut heap.1),
        ];
        memory.read_many(&mut pieces)?;
        if let Some(missing) = pieces.iter().find(|p| !p.ok) {
            return Err(MemoryError::Unmapped {
                at: missing.at,
                len: missing.into.len(),
            });
        }
        raw.add_caches(memory, o, &caches)?;
        raw.take_memstats(o, &stats);
        raw.take_controller(o, &gc);
        raw.spans_in_use = heap.0.word(0);
        raw.mcaches_in_use = heap.1.word(0);
        Ok(raw)
    }

    fn take_memstats(&mut self, o: &Offsets, stats: &Bytes) {
        self.stacks_sys = stats.word(o.stacks_sys);
        self.mspan_sys = stats.word(o.mspan_sys);
        self.mcache_sys = stats.word(o.mcache_sys);
        self.buckhash_sys = stats.word(o.buckhash_sys);
        self.gc_misc_sys = stats.word(o.gc_misc_sys);
        self.other_sys = stats.word(o.other_sys);
        self.last_gc = stats.word(o.last_gc_unix);
        self.pause_total_ns = stats.word(o.pause_total_ns);
        self.pause_ns = stats.words(o.pause_ns, PAUSES);
        self.pause_end = stats.words(o.pause_end, PAUSES);
        self.numgc = stats.half(o.numgc);
        self.numforcedgc = stats.half(o.numforcedgc);
        self.gc_cpu_fraction = stats.word(o.gc_cpu_fraction);

        // consistentHeapStats.unsafeRead: the sum of the three.
        let starts: Vec<u64> = (0..DELTAS).map(|n| n.wrapping_mul(o.delta_size)).collect();
        let sum = |at: u64| {
            let words = starts.iter().map(|s| stats.word(s.wrapping_add(at)));
            words.fold(0, u64::wrapping_add)
        };
        let by_class = |at: u64| -> Vec<u64> {
            (0..CLASSES as u64)
                .map(|n| sum(at.wrapping_add(n.wrapping_mul(8))))
                .collect()
        };
        self.released = sum(o.released);
        self.in_heap = sum(o.in_heap);
        self.in_stacks = sum(o.in_stacks);
        self.in_work_bufs = sum(o.in_work_bufs);
        if o.in_ptr_scalar_bits != 0 {
            self.in_ptr_scalar_bits = sum(o.in_ptr_scalar_bits);
        }
        self.large_alloc = sum(o.large_alloc);
        self.large_alloc_count = sum(o.large_alloc_count);
        self.large_free = sum(o.large_free);
        self.large_free_count = sum(o.large_free_count);
        self.tiny_alloc_count = self.tiny_alloc_count.wrapping_add(sum(o.tiny_alloc_count));
        self.small_frees = by_class(o.small_free_count);
        self.small_allocs = by_class(o.small_alloc_count)
            .iter()
            .zip(&self.cached)
            .map(|(counted, cached)| counted.wrapping_add(*cached))
            .collect();
    }

    fn take_controller(&mut self, o: &Offsets, gc: &Bytes) {
        self.memory_limit = gc.word(o.memory_limit);
        self.heap_goal_by_percent = gc.word(o.heap_goal_by_percent);
        self.sweep_trigger = gc.word(o.sweep_trigger);
        self.triggered = gc.word(o.triggered);
        self.heap_marked = gc.word(o.heap_marked);
        self.heap_in_use = gc.word(o.heap_in_use);
        self.heap_released = gc.word(o.heap_released);
        self.heap_free = gc.word(o.heap_free);
        self.total_alloc = gc.word(o.total_alloc);
        self.total_free = gc.word(o.total_free);
        self.mapped_ready = gc.word(o.mapped_ready);
    }

    /// What each P has taken from its cached spans and not yet told
    /// (runtime/mcache.go: releaseAll).
    fn add_caches(
        &mut self,
        memory: &dyn Memory,
        o: &Offsets,
        caches: &[LiveAddr],
    ) -> Result<(), MemoryError> {
        let last = o
            .tiny_allocs
            .max(o.cached_spans.wrapping_add(8 * CACHED as u64));
        for cache in read_all(memory, caches, 0, last)?.into_iter().flatten() {
            let tiny = cache.word(o.tiny_allocs);
            self.tiny_alloc_count = self.tiny_alloc_count.wrapping_add(tiny);
            let spans: Vec<LiveAddr> = cache
                .words(o.cached_spans, CACHED)
                .into_iter()
                .map(LiveAddr)
                .collect();
            let first = o.alloc_count.min(o.count_before_cache);
            let last = o.alloc_count.max(o.count_before_cache);
            let counts = read_all(memory, &spans, first, last.wrapping_sub(first))?;
            for (class, span) in counts.iter().enumerate() {
                let Some(span) = span else { continue };
                let count = |at: u64| span.word(at.wrapping_sub(first)) & 0xffff;
                let taken = count(o.alloc_count).wrapping_sub(count(o.count_before_cache));
                // Two span classes, with pointers and without, to a size class.
                if let Some(cached) = self.cached.get_mut(class / 2) {
                    *cached = cached.wrapping_add(taken);
                }
            }
        }
        Ok(())
    }
}

/// The mcaches of all Ps.
fn find_caches(
    memory: &dyn Memory,
    places: &Places,
    bias: Bias,
) -> Result<Vec<LiveAddr>, MemoryError> {
    let allp = bias.live(places.allp);
    let procs = memory.read_addr(allp)?;
    let count = memory.read_u64(allp.offset(8))?.min(MAX_PROCS);
    let procs = memory.read_vec(procs, usize::try_from(count).unwrap_or(0).saturating_mul(8))?;
    let procs = Bytes(procs).words(0, usize::try_from(count).unwrap_or(0));
    let mut caches = Vec::with_capacity(procs.len());
    for p in procs.into_iter().filter(|p| *p != 0) {
        let cache = memory.read_addr(LiveAddr(p).offset(places.offsets.p_mcache))?;
        // A P that was taken away by GOMAXPROCS has none.
        if !cache.is_null() {
            caches.push(cache);
        }
    }
    Ok(caches)
}

/// For the bytes of a struct up to a word at `last`.
fn room(last: u64) -> Bytes {
    let len = last.saturating_add(8).min(MAX_STRUCT);
    Bytes(vec![0; usize::try_from(len).unwrap_or(0)])
}

fn piece(at: LiveAddr, bytes: &mut Bytes) -> Piece<'_> {
    Piece {
        at,
        into: &mut bytes.0,
        ok: false,
    }
}

/// Bytes from `first` to a word at `first + last` of several structs; `None`
/// for those that cannot be read.
fn read_all(
    memory: &dyn Memory,
    structs: &[LiveAddr],
    first: u64,
    last: u64,
) -> Result<Vec<Option<Bytes>>, MemoryError> {
    let mut all: Vec<Bytes> = structs.iter().map(|_| room(last)).collect();
    let mut pieces: Vec<Piece<'_>> = structs
        .iter()
        .zip(&mut all)
        .map(|(at, bytes)| piece(at.offset(first), bytes))
        .collect();
    memory.read_many(&mut pieces)?;
    let read: Vec<bool> = pieces.iter().map(|p| p.ok).collect();
    let whole = all.into_iter().zip(read);
    Ok(whole.map(|(b, ok)| ok.then_some(b)).collect())
}
