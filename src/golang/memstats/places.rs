//! Where the figures lie: four variables of the runtime, found by the code of
//! functions that every program links, and offsets in their structs.
//!
//! A stripped program has type data of `p`, `mcache` and `mspan`, none of
//! `mstats`, `heapStatsDelta`, `gcControllerState` and `mheap`: their offsets
//! are a table measured from DWARF of release toolchains (1.19.8, 1.20.14,
//! 1.21.13, 1.22.10, 1.23.9, 1.24.11, 1.25.5, 1.26.6, 1.27.3). That they fit is
//! checked against what the runtime holds twice: see [`super::Reading`].

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::MemStatsError;
use crate::addr::ImageAddr;
use crate::golang::dynamic::StructFields;
use crate::golang::globals::Globals;
use crate::golang::layout::KNOWN_MINORS;
use crate::image::{Function, Image};

/// A function longer than this is not disassembled further.
const MAX_CODE: usize = 1 << 16;

/// One column per minor of [`KNOWN_MINORS`].
type Row = [u64; 9];

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident $row:expr;)*) => {
        /// Byte offsets of the figures.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) struct Offsets { $($(#[$doc])* pub(super) $field: u64,)* }
        impl Offsets {
            fn column(at: usize) -> Offsets {
                Offsets { $($field: pick(&$row, at),)* }
            }
        }
    };
}

fn pick(row: &Row, at: usize) -> u64 {
    row.get(at).copied().unwrap_or_default()
}

const fn same(v: u64) -> Row {
    [v; 9]
}

/// One value until 1.24, another from 1.25 on.
const fn since25(old: u64, new: u64) -> Row {
    [old, old, old, old, old, old, new, new, new]
}

/// 1.19, 1.20, and one value from 1.21 on.
const fn since21(in19: u64, in20: u64, new: u64) -> Row {
    [in19, in20, new, new, new, new, new, new, new]
}

offsets! {
    // runtime.mstats (runtime/mstats.go). heapStats is first: three
    // heapStatsDelta, whose sum counts (consistentHeapStats.unsafeRead).
    stacks_sys since25(3544, 3520);
    mspan_sys since25(3552, 3528);
    mcache_sys since25(3560, 3536);
    buckhash_sys since25(3568, 3544);
    gc_misc_sys since25(3576, 3552);
    other_sys since25(3584, 3560);
    last_gc_unix since25(3592, 3568);
    pause_total_ns since25(3600, 3576);
    pause_ns since25(3608, 3584);
    pause_end since25(5656, 5632);
    numgc since25(7704, 7680);
    numforcedgc since25(7708, 7684);
    gc_cpu_fraction since25(7712, 7688);
    // runtime.heapStatsDelta
    delta_size since25(1176, 1168);
    released same(8);
    in_heap same(16);
    in_stacks same(24);
    in_work_bufs same(32);
    /// 0: that version has none.
    in_ptr_scalar_bits since25(40, 0);
    tiny_alloc_count since25(48, 40);
    large_alloc since25(56, 48);
    large_alloc_count since25(64, 56);
    small_alloc_count since25(72, 64);
    large_free since25(616, 608);
    large_free_count since25(624, 616);
    small_free_count since25(632, 624);
    // runtime.gcControllerState (runtime/mgcpacer.go)
    memory_limit same(8);
    heap_goal_by_percent since21(104, 48, 72);
    sweep_trigger since21(112, 56, 80);
    triggered since21(120, 64, 88);
    heap_marked since21(184, 128, 152);
    heap_in_use since21(304, 248, 272);
    heap_released since21(312, 256, 280);
    heap_free since21(320, 264, 288);
    total_alloc since21(328, 272, 296);
    total_free since21(336, 280, 304);
    mapped_ready since21(344, 288, 312);
    // runtime.mheap (runtime/mheap.go): `inuse` of two fixalloc
    spans_in_use [92272, 92232, 92280, 92344, 92344, 92344, 92368, 92368, 92368];
    mcaches_in_use [92344, 92304, 92352, 92416, 92416, 92416, 92440, 92512, 92512];
    // runtime.p, runtime.mcache, runtime.mspan
    p_mcache [64, 64, 64, 64, 56, 56, 56, 56, 56];
    tiny_allocs [32, 32, 32, 32, 32, 40, 40, 40, 40];
    cached_spans [40, 40, 40, 40, 40, 48, 48, 48, 48];
    alloc_count [96, 96, 104, 96, 96, 96, 96, 96, 96];
    count_before_cache [102, 102, 110, 102, 102, 102, 102, 102, 102];
}

impl Offsets {
    /// For Go 1.`minor`; by the program's type data where it has it.
    fn resolve(minor: Option<u32>, fields: Option<&dyn StructFields>) -> Offsets {
        let (first, last) = KNOWN_MINORS;
        let nearest = minor.unwrap_or(last).clamp(first, last);
        let mut this = Offsets::column(nearest.saturating_sub(first) as usize);
        let by_name = [
            (&mut this.p_mcache, "runtime.p", "mcache"),
            (&mut this.tiny_allocs, "runtime.mcache", "tinyAllocs"),
            (&mut this.cached_spans, "runtime.mcache", "alloc"),
            (&mut this.alloc_count, "runtime.mspan", "allocCount"),
            (
                &mut this.count_before_cache,
                "runtime.mspan",
                "allocCountBeforeCache",
            ),
        ];
        for (offset, strukt, field) in by_name {
            if let Some(found) = fields.and_then(|f| f.offset_of(strukt, field)) {
                *offset = found;
            }
        }
        this
    }
}

/// Where the figures of one program lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// `runtime.memstats`
    pub memstats: ImageAddr,
    /// `runtime.gcController`
    pub gc_controller: ImageAddr,
    /// `runtime.mheap_`
    pub mheap: ImageAddr,
    /// `runtime.allp`, a slice
    pub allp: ImageAddr,
    pub(super) offsets: Offsets,
    /// Go minor version whose rules hold.
    pub(super) minor: u32,
    /// The version is one that was measured.
    pub(super) known: bool,
}

impl Places {
    /// Finds them in the code of `image`; `fields` is its type data.
    pub fn resolve(
        image: &Image,
        globals: &Globals,
        fields: Option<&dyn StructFields>,
    ) -> Result<Places, MemStatsError> {
        let minor = image.go_version().minor();
        let (first, last) = KNOWN_MINORS;
        if minor.is_some_and(|m| m < first) {
            return Err(MemStatsError::TooOld {
                version: image.go_version().text().to_owned(),
            });
        }
        let offsets = Offsets::resolve(minor, fields);
        let bodies = Bodies::of(image);
        let numgc = collections(&bodies.mark_termination);
        let found = |place: Option<ImageAddr>, name| place.ok_or(MemStatsError::NoGlobal(name));
        Ok(Places {
            memstats: found(
                numgc.map(|at| ImageAddr(at.0.wrapping_sub(offsets.numgc))),
                "runtime.memstats",
            )?,
            gc_controller: found(
                first_argument(&bodies.gcinit, bodies.controller_init),
                "runtime.gcController",
            )?,
            mheap: found(
                first_argument(&bodies.mallocinit, bodies.mheap_init),
                "runtime.mheap_",
            )?,
            allp: found(globals.allp, "runtime.allp")?,
            offsets,
            minor: minor.unwrap_or(last),
            known: minor.is_some_and(|m| m <= last),
        })
    }
}

/// The functions that are disassembled, in the order of [`Bodies`].
const NAMES: [&str; 5] = [
    "runtime.gcMarkTermination",
    "runtime.gcinit",
    "runtime.mallocinit",
    "runtime.(*gcControllerState).init",
    "runtime.(*mheap).init",
];

/// Their bodies; found in one pass over the function table.
struct Bodies {
    mark_termination: Vec<Instruction>,
    gcinit: Vec<Instruction>,
    mallocinit: Vec<Instruction>,
    controller_init: Option<ImageAddr>,
    mheap_init: Option<ImageAddr>,
}

impl Bodies {
    fn of(image: &Image) -> Bodies {
        let found = image.functions().by_names(&NAMES);
        let first = |n: usize| found.get(n).and_then(|f| f.first());
        let body = |n| first(n).map(disassemble).unwrap_or_default();
        Bodies {
            mark_termination: body(0),
            gcinit: body(1),
            mallocinit: body(2),
            controller_init: first(3).map(Function::entry),
            mheap_init: first(4).map(Function::entry),
        }
    }
}

/// `runtime.ncpu`, from 1.25 on `runtime.numCPUStartup`: what runtime.NumCPU
/// gives. `osinit` puts the result of its first call there (runtime/os_linux.go).
pub fn find_cpus(image: &Image) -> Option<ImageAddr> {
    let found = image.functions().by_name("runtime.osinit");
    let osinit = found.first().map(disassemble)?;
    let call = osinit.iter().position(|i| i.mnemonic() == Mnemonic::Call)?;
    osinit
        .get(call..)?
        .iter()
        .find(|i| i.mnemonic() == Mnemonic::Mov && i.op1_register() == Register::EAX)
        .and_then(target)
}

/// `memstats.numgc`, the count of the garbage collector's cycles.
pub fn find_collections(image: &Image) -> Option<ImageAddr> {
    let found = image.functions().by_name("runtime.gcMarkTermination");
    collections(&found.first().map(disassemble)?)
}

/// `memstats.numgc`: `gcMarkTermination` adds one to it and to numforcedgc,
/// which lies directly behind it (runtime/mgc.go).
fn collections(code: &[Instruction]) -> Option<ImageAddr> {
    let counted = |window: &[Instruction]| match window {
        // Unoptimised code loads, adds and stores.
        [load, add, store]
            if load.mnemonic() == Mnemonic::Mov
                && adds_one(add)
                && store.mnemonic() == Mnemonic::Mov
                && target(load) == target(store) =>
        {
            target(load).filter(|_| load.memory_size().size() == 4)
        }
        [i, ..] if i.memory_size().size() == 4 && adds_one(i) => target(i),
        _ => None,
    };
    let counted: Vec<ImageAddr> = code.windows(3).filter_map(counted).collect();
    let mut pairs = counted.iter().filter(|at| counted.contains(&at.offset(4)));
    pairs.next().copied()
}

fn adds_one(i: &Instruction) -> bool {
    match i.mnemonic() {
        Mnemonic::Inc => true,
        Mnemonic::Add => {
            matches!(i.op1_kind(), OpKind::Immediate8 | OpKind::Immediate8to32)
                && i.immediate(1) == 1
        }
        _ => false,
    }
}

/// The variable whose address is given to `called` as first argument.
fn first_argument(code: &[Instruction], called: Option<ImageAddr>) -> Option<ImageAddr> {
    let called = called?;
    let call = code
        .iter()
        .position(|i| i.mnemonic() == Mnemonic::Call && i.near_branch_target() == called.0)?;
    code.get(..call)?
        .iter()
        .rev()
        .find(|i| i.op0_register() == Register::RAX)
        .filter(|i| i.mnemonic() == Mnemonic::Lea)
        .and_then(target)
}

fn target(i: &Instruction) -> Option<ImageAddr> {
    i.is_ip_rel_memory_operand()
        .then(|| ImageAddr(i.ip_rel_memory_address()))
}

fn disassemble(function: &Function<'_>) -> Vec<Instruction> {
    let code = function.code().unwrap_or_default();
    let code = code.get(..code.len().min(MAX_CODE)).unwrap_or_default();
    Decoder::with_ip(64, code, function.entry().0, DecoderOptions::NONE)
        .into_iter()
        .filter(|i| i.code() != Code::INVALID)
        .collect()
}
