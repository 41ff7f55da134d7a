//! `runtime.MemStats` without asking the program for it.
//!
//! Who lives here: where the figures lie ([`places`]), how they are read
//! ([`raw`]), and how the runtime makes MemStats of them (this file, after
//! runtime/mstats.go: readmemstats_m, and runtime/mgcpacer.go: heapGoal).
//! Nobody here knows how memory is read; allowed in: session, cli.

mod places;
mod raw;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use places::{Places, find_collections, find_cpus};

use crate::addr::Bias;
use crate::memory::{Memory, MemoryError};
use raw::Raw;

/// Times the figures are read until they agree with each other.
const TRIES: usize = 16;

/// Size classes of the runtime.
const CLASSES: usize = 68;
/// Bytes of an object of each (runtime/sizeclasses.go, from 1.25 on
/// internal/runtime/gc/sizeclasses.go): the same from Go 1.17 to 1.27.
#[rustfmt::skip]
const CLASS_SIZES: [u64; CLASSES] = [
    0, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320,
    352, 384, 416, 448, 480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792,
    2048, 2304, 2688, 3072, 3200, 3456, 4096, 4864, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728,
    10240, 10880, 12288, 13568, 14336, 16384, 18432, 19072, 20480, 21760, 24576, 27264, 28672,
    32768,
];
/// Entries of `MemStats.BySize`.
const BY_SIZE: usize = 61;

/// Why the figures could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemStatsError {
    /// Other structs, other rules.
    #[error("{version} keeps its memory statistics in another way: Go 1.19 and later are read")]
    TooOld {
        /// What built it.
        version: String,
    },
    /// The code that tells where they are was not understood.
    #[error("cannot find {0} in this program's code: its memory statistics cannot be read")]
    NoGlobal(&'static str),
    /// A version that is not known, and the figures make no sense.
    #[error(
        "this Go version is newer than those known, and keeps its memory statistics elsewhere: {0}"
    )]
    Contradiction(String),
    /// Memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// `runtime.MemStats`: names, order and JSON are Go's; see its documentation
/// for what each figure means. Bytes, unless said otherwise.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "documented by Go's package runtime")]
pub struct MemStats {
    pub alloc: u64,
    pub total_alloc: u64,
    pub sys: u64,
    /// Pointer lookups: always 0.
    pub lookups: u64,
    pub mallocs: u64,
    pub frees: u64,
    pub heap_alloc: u64,
    pub heap_sys: u64,
    pub heap_idle: u64,
    pub heap_inuse: u64,
    pub heap_released: u64,
    pub heap_objects: u64,
    pub stack_inuse: u64,
    pub stack_sys: u64,
    #[serde(rename = "MSpanInuse")]
    pub mspan_inuse: u64,
    #[serde(rename = "MSpanSys")]
    pub mspan_sys: u64,
    #[serde(rename = "MCacheInuse")]
    pub mcache_inuse: u64,
    #[serde(rename = "MCacheSys")]
    pub mcache_sys: u64,
    pub buck_hash_sys: u64,
    #[serde(rename = "GCSys")]
    pub gc_sys: u64,
    pub other_sys: u64,
    #[serde(rename = "NextGC")]
    pub next_gc: u64,
    /// Nanoseconds since 1970.
    #[serde(rename = "LastGC")]
    pub last_gc: u64,
    pub pause_total_ns: u64,
    /// A ring of the last 256.
    pub pause_ns: Vec<u64>,
    /// The same ring: when they ended, nanoseconds since 1970.
    pub pause_end: Vec<u64>,
    #[serde(rename = "NumGC")]
    pub num_gc: u32,
    #[serde(rename = "NumForcedGC")]
    pub num_forced_gc: u32,
    #[serde(rename = "GCCPUFraction")]
    pub gc_cpu_fraction: f64,
    /// Always true.
    #[serde(rename = "EnableGC")]
    pub enable_gc: bool,
    /// Always false.
    #[serde(rename = "DebugGC")]
    pub debug_gc: bool,
    pub by_size: Vec<BySize>,
}

/// One size class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BySize {
    /// Bytes of an object.
    pub size: u64,
    /// Objects ever allocated.
    pub mallocs: u64,
    /// Objects ever freed.
    pub frees: u64,
}

/// The figures, and whether they fit each other.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    /// The figures.
    pub stats: MemStats,
    /// What the runtime keeps twice and was not equal: the program changed it
    /// meanwhile. Empty for one that is quiet.
    pub torn: Vec<String>,
}

/// Reads the figures; again while they contradict each other.
pub fn read(memory: &dyn Memory, places: &Places, bias: Bias) -> Result<Reading, MemStatsError> {
    let mut best: Option<Reading> = None;
    for _ in 0..TRIES {
        let raw = Raw::read(memory, places, bias)?;
        let reading = Reading {
            stats: raw.stats(places),
            torn: raw.contradictions(),
        };
        if reading.torn.is_empty() {
            return Ok(reading);
        }
        if best
            .as_ref()
            .is_none_or(|b| reading.torn.len() < b.torn.len())
        {
            best = Some(reading);
        }
    }
    match best {
        Some(reading) if places.known => Ok(reading),
        other => Err(MemStatsError::Contradiction(
            other.map(|r| r.torn.join("; ")).unwrap_or_default(),
        )),
    }
}

impl Raw {
    /// What readmemstats_m makes of it, once it has emptied the Ps' caches.
    fn stats(&self, places: &Places) -> MemStats {
        let (mallocs, frees) = self.objects();
        let heap_alloc = self.allocated().wrapping_sub(self.freed());
        MemStats {
            alloc: heap_alloc,
            total_alloc: self.allocated(),
            sys: self.mapped(),
            lookups: 0,
            mallocs,
            frees,
            heap_alloc,
            heap_sys: add(&[self.heap_in_use, self.heap_free, self.heap_released]),
            heap_idle: add(&[self.heap_free, self.heap_released]),
            heap_inuse: self.heap_in_use,
            heap_released: self.heap_released,
            heap_objects: mallocs.wrapping_sub(frees),
            stack_inuse: self.in_stacks,
            stack_sys: add(&[self.in_stacks, self.stacks_sys]),
            mspan_inuse: self.spans_in_use,
            mspan_sys: self.mspan_sys,
            mcache_inuse: self.mcaches_in_use,
            mcache_sys: self.mcache_sys,
            buck_hash_sys: self.buckhash_sys,
            gc_sys: add(&[self.gc_misc_sys, self.in_work_bufs, self.in_ptr_scalar_bits]),
            other_sys: self.other_sys,
            next_gc: self.heap_goal(places.minor),
            last_gc: self.last_gc,
            pause_total_ns: self.pause_total_ns,
            pause_ns: self.pause_ns.clone(),
            pause_end: self.pause_end.clone(),
            num_gc: self.numgc,
            num_forced_gc: self.numforcedgc,
            gc_cpu_fraction: f64::from_bits(self.gc_cpu_fraction),
            enable_gc: true,
            debug_gc: false,
            by_size: CLASS_SIZES
                .iter()
                .zip(self.small_allocs.iter().zip(&self.small_frees))
                .take(BY_SIZE)
                .map(|(&size, (&mallocs, &frees))| BySize {
                    size,
                    mallocs,
                    frees,
                })
                .collect(),
        }
    }

    /// Objects ever allocated and freed; tiny ones count in both, since the
    /// block that they share is counted as well.
    fn objects(&self) -> (u64, u64) {
        let small = add(&self.small_allocs);
        let freed = add(&self.small_frees);
        (
            add(&[small, self.large_alloc_count, self.tiny_alloc_count]),
            add(&[freed, self.large_free_count, self.tiny_alloc_count]),
        )
    }

    /// Bytes ever allocated.
    fn allocated(&self) -> u64 {
        self.large_alloc.wrapping_add(bytes(&self.small_allocs))
    }

    /// Bytes ever freed.
    fn freed(&self) -> u64 {
        self.large_free.wrapping_add(bytes(&self.small_frees))
    }

    /// All that was had from the operating system.
    fn mapped(&self) -> u64 {
        add(&[
            self.heap_in_use,
            self.heap_free,
            self.heap_released,
            self.stacks_sys,
            self.mspan_sys,
            self.mcache_sys,
            self.buckhash_sys,
            self.gc_misc_sys,
            self.other_sys,
            self.in_stacks,
            self.in_work_bufs,
            self.in_ptr_scalar_bits,
        ])
    }

    /// runtime/mgcpacer.go: heapGoalInternal
    fn heap_goal(&self, minor: u32) -> u64 {
        let by_limit = self.limit_goal(minor);
        if by_limit < self.heap_goal_by_percent {
            return by_limit;
        }
        let goal = self.heap_goal_by_percent.max(self.sweep_trigger);
        // Not triggered: ^0. The least runway is 64 KiB.
        let runway = self.triggered.saturating_add(64 << 10);
        if self.triggered == u64::MAX {
            goal
        } else {
            goal.max(runway)
        }
    }

    /// runtime/mgcpacer.go: memoryLimitHeapGoal
    fn limit_goal(&self, minor: u32) -> u64 {
        let alloc = self.cached_alloc().wrapping_sub(self.total_free);
        let other = self
            .mapped_ready
            .saturating_sub(self.heap_free)
            .saturating_sub(alloc);
        let overage = self.mapped_ready.saturating_sub(self.memory_limit);
        let used = other.saturating_add(overage);
        if used >= self.memory_limit {
            return self.heap_marked;
        }
        let goal = self.memory_limit.saturating_sub(used);
        // A megabyte; from 1.21 on 3 %, which is that at least.
        let least = 1 << 20;
        let headroom = if minor < 21 {
            least
        } else {
            (goal / 100).saturating_mul(3).max(least)
        };
        let goal = goal.saturating_sub(headroom).max(headroom);
        goal.max(self.heap_marked)
    }

    /// `gcController.totalAlloc` once the Ps' caches are emptied.
    fn cached_alloc(&self) -> u64 {
        self.total_alloc.wrapping_add(bytes(&self.cached))
    }

    /// The runtime keeps some figures twice; with the world stopped they are
    /// equal (readmemstats_m throws otherwise).
    fn contradictions(&self) -> Vec<String> {
        let pairs = [
            ("heap in use", self.heap_in_use, self.in_heap),
            ("released", self.heap_released, self.released),
            ("allocated", self.cached_alloc(), self.allocated()),
            ("freed", self.total_free, self.freed()),
            (
                "mapped",
                self.mapped_ready,
                self.mapped().wrapping_sub(self.released),
            ),
        ];
        pairs
            .iter()
            .filter(|(_, a, b)| a != b)
            .map(|(what, a, b)| format!("{what}: {a} and {b} bytes"))
            .collect()
    }
}

/// Wraps as Go does.
fn add(terms: &[u64]) -> u64 {
    terms.iter().fold(0, |sum: u64, t| sum.wrapping_add(*t))
}

/// Bytes of so many objects of each size class.
fn bytes(counts: &[u64]) -> u64 {
    counts
        .iter()
        .zip(CLASS_SIZES)
        .fold(0, |sum: u64, (n, size)| {
            sum.wrapping_add(n.wrapping_mul(size))
        })
}
