//! Global variables of the runtime, found without a symbol table: a few
//! functions that every program links are disassembled, and the addresses
//! they refer to are told apart by how they are used.
//!
//! Each rule was compared with DWARF on release toolchains of Go 1.18 to 1.27
//! and holds on stripped, PIE, cgo, static, race and unoptimised builds. The
//! functions: runtime/proc.go (allgadd, mcommoninit, newproc1, preemptall),
//! runtime/runtime2.go (waitReason.String), runtime/netpoll*.go.

#[cfg(test)]
mod tests;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::addr::ImageAddr;
use crate::image::{Function, Image};

/// A function longer than this is not disassembled further.
const MAX_CODE: u64 = 1 << 16;

/// What was found; a global that was not is `None`, and says itself what
/// cannot be done then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Globals {
    /// `runtime.allgs`, a slice of all goroutines ever made.
    pub allgs: Option<ImageAddr>,
    /// `runtime.allgptr`: its array, readable without its lock.
    pub allgptr: Option<ImageAddr>,
    /// `runtime.allglen`: its length, likewise.
    pub allglen: Option<ImageAddr>,
    /// `runtime.allm`: list of all threads, linked by `m.alllink`.
    pub allm: Option<ImageAddr>,
    /// `runtime.allp`, a slice.
    pub allp: Option<ImageAddr>,
    /// `runtime.sched`; `goidgen` is its first field.
    pub sched: Option<ImageAddr>,
    /// `runtime.gomaxprocs`
    pub gomaxprocs: Option<ImageAddr>,
    /// `runtime.pollcache`
    pub pollcache: Option<ImageAddr>,
    /// `runtime.epfd`
    pub epfd: Option<ImageAddr>,
    /// `runtime.waitReasonStrings`, an array of strings.
    pub wait_reasons: Option<ImageAddr>,
    /// How many strings it has.
    pub wait_reason_count: Option<u64>,
    /// `runtime.firstmoduledata`, to be compared with what the image found.
    pub firstmoduledata: Option<ImageAddr>,
    /// Offset of `g.atomicstatus` as compiled code uses it: a check of layouts.
    pub g_atomicstatus: Option<u64>,
    /// Where a thread keeps its g, relative to the thread pointer (fs base).
    pub g_tls: Option<i64>,
}

impl Globals {
    /// Looks them up in the code of `image`.
    pub fn resolve(image: &Image) -> Globals {
        let code = CodeOf::load(image);
        let allgadd = code.of("runtime.allgadd");
        let (allgptr, allglen) = match stored(image, allgadd).as_slice() {
            [.., ptr, len] => (Some(*ptr), Some(*len)),
            _ => (None, None),
        };
        let (wait_reasons, wait_reason_count) =
            wait_reasons(image, code.of("runtime.waitReason.String"));
        Globals {
            allgs: unique_slice(allgadd),
            allgptr,
            allglen,
            allm: stored(image, code.of("runtime.mcommoninit")).pop(),
            allp: pair(code.of("runtime.preemptall")),
            sched: sched(image, code.of("runtime.newproc1")),
            gomaxprocs: [
                "runtime.flushallmcaches",
                "runtime.gcMarkDone",
                "runtime.schedtrace",
            ]
            .iter()
            .find_map(|f| target_of(code.of(f), |i| i.mnemonic() == Mnemonic::Movsxd)),
            pollcache: target_of(code.of("internal/poll.runtime_pollClose"), is_lea),
            epfd: target_of(code.of("runtime.netpoll"), |i| {
                i.mnemonic() == Mnemonic::Cmp
                    && i.memory_size().size() == 4
                    && immediate(i) == Some(-1)
            }),
            wait_reasons,
            wait_reason_count,
            firstmoduledata: ["runtime.findfunc", "runtime.findmoduledatap"]
                .iter()
                .find_map(|f| target_of(code.of(f), is_lea)),
            g_atomicstatus: atomicstatus(allgadd)
                .or_else(|| atomicstatus(code.of("runtime.readgstatus"))),
            g_tls: code.tls_wrappers.iter().find_map(|c| g_tls(c)),
        }
    }
}

const NAMES: [&str; 14] = [
    "runtime.allgadd",
    "runtime.mcommoninit",
    "runtime.preemptall",
    "runtime.newproc1",
    "runtime.flushallmcaches",
    "runtime.gcMarkDone",
    "runtime.schedtrace",
    "internal/poll.runtime_pollClose",
    "runtime.netpoll",
    "runtime.waitReason.String",
    "runtime.findfunc",
    "runtime.findmoduledatap",
    "runtime.readgstatus",
    "runtime.morestackc",
];

/// Functions in assembly or called from it, whose wrappers load g.
const LOAD_G: &str = "runtime.morestackc";

struct CodeOf {
    of: Vec<(&'static str, Vec<Instruction>)>,
    tls_wrappers: Vec<Vec<Instruction>>,
}

impl CodeOf {
    fn load(image: &Image) -> Self {
        let found = image.functions().by_names(&NAMES);
        let mut of = Vec::new();
        let mut tls_wrappers = Vec::new();
        for (name, functions) in NAMES.iter().zip(&found) {
            if *name == LOAD_G {
                tls_wrappers = functions.iter().map(disassemble).collect();
            }
            if let Some(function) = functions.first() {
                of.push((*name, disassemble(function)));
            }
        }
        CodeOf { of, tls_wrappers }
    }

    fn of(&self, name: &str) -> &[Instruction] {
        self.of
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(&[], |(_, code)| code.as_slice())
    }
}

fn disassemble(function: &Function<'_>) -> Vec<Instruction> {
    let Some(code) = function.code() else {
        return Vec::new();
    };
    let len = usize::try_from(function.size().min(MAX_CODE)).unwrap_or(0);
    let code = code.get(..len.min(code.len())).unwrap_or_default();
    Decoder::with_ip(64, code, function.entry().0, DecoderOptions::NONE)
        .into_iter()
        .filter(|i| i.code() != Code::INVALID)
        .collect()
}

/// The address that an instruction names relative to its own.
fn target(i: &Instruction) -> Option<ImageAddr> {
    i.is_ip_rel_memory_operand()
        .then(|| ImageAddr(i.ip_rel_memory_address()))
}

fn target_of(code: &[Instruction], wanted: impl Fn(&Instruction) -> bool) -> Option<ImageAddr> {
    code.iter().filter(|i| wanted(i)).find_map(target)
}

fn is_lea(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Lea
}

fn immediate(i: &Instruction) -> Option<i64> {
    (0..i.op_count())
        .find(|&op| {
            matches!(
                i.op_kind(op),
                OpKind::Immediate8
                    | OpKind::Immediate16
                    | OpKind::Immediate32
                    | OpKind::Immediate64
                    | OpKind::Immediate8to16
                    | OpKind::Immediate8to32
                    | OpKind::Immediate8to64
                    | OpKind::Immediate32to64
            )
        })
        .map(|op| i.immediate(op) as i64)
        .map(|v| {
            // iced gives an i8to32 as the u32 it becomes.
            if i.memory_size().size() == 4 || i.op0_register().size() == 4 {
                i64::from(v as i32)
            } else {
                v
            }
        })
}

/// What an atomic operation on the address in `pointer` looks like, up to two
/// instructions after it was loaded: the instruction itself, or (in builds
/// without inlining) a call with that address as first argument.
fn is_atomic(image: &Image, lea: &Instruction, after: &[Instruction], op: Mnemonic) -> bool {
    let pointer = lea.op0_register();
    for i in after.iter().take(2) {
        if i.mnemonic() == op {
            return i.memory_base() == pointer && i.memory_size().size() == 8;
        }
        if i.mnemonic() == Mnemonic::Call {
            let called = ImageAddr(i.near_branch_target());
            return pointer == Register::RAX
                && image.functions().find(called).is_some_and(|f| {
                    let name = f.name();
                    name == "runtime.atomicstorep" || name.contains("/atomic.")
                });
        }
    }
    false
}

/// Globals that are stored to atomically, in order.
fn stored(image: &Image, code: &[Instruction]) -> Vec<ImageAddr> {
    (0..code.len())
        .filter_map(|at| {
            let (lea, after) = code.get(at..)?.split_first()?;
            (is_lea(lea) && is_atomic(image, lea, after, Mnemonic::Xchg))
                .then(|| target(lea))
                .flatten()
        })
        .collect()
}

/// The one slice header whose three words are all referred to.
fn unique_slice(code: &[Instruction]) -> Option<ImageAddr> {
    let targets: std::collections::BTreeSet<_> = code.iter().filter_map(target).collect();
    let mut found = targets
        .iter()
        .filter(|t| targets.contains(&t.offset(8)) && targets.contains(&t.offset(16)));
    match (found.next(), found.next()) {
        (Some(only), None) => Some(*only),
        _ => None,
    }
}

/// A slice of which pointer and length are loaded.
fn pair(code: &[Instruction]) -> Option<ImageAddr> {
    let targets: std::collections::BTreeSet<_> = code
        .iter()
        .filter(|i| i.mnemonic() == Mnemonic::Mov)
        .filter_map(target)
        .collect();
    targets
        .iter()
        .find(|t| targets.contains(&t.offset(8)))
        .copied()
}

/// `sched.goidgen` is advanced by 16 at a time: an atomic add of 0x10.
fn sched(image: &Image, code: &[Instruction]) -> Option<ImageAddr> {
    (0..code.len()).find_map(|at| {
        let (lea, after) = code.get(at..)?.split_first()?;
        let after = after.get(..5.min(after.len()))?;
        let sixteen = |i: &Instruction| i.mnemonic() == Mnemonic::Mov && immediate(i) == Some(16);
        let add = after.iter().position(|i| {
            i.mnemonic() == Mnemonic::Xadd && i.memory_base() == lea.op0_register()
                || is_atomic(image, lea, std::slice::from_ref(i), Mnemonic::Xadd)
        })?;
        // The amount is loaded shortly before or after the address.
        let near = code.get(at.saturating_sub(3)..at.saturating_add(add).saturating_add(1))?;
        (is_lea(lea) && near.iter().any(sixteen))
            .then(|| target(lea))
            .flatten()
    })
}

/// The array is variable data; its bound is what the index is compared with.
fn wait_reasons(image: &Image, code: &[Instruction]) -> (Option<ImageAddr>, Option<u64>) {
    let writable = |at: ImageAddr| {
        image
            .segments()
            .iter()
            .any(|s| s.writable && at.0 >= s.vaddr.0 && at.0.wrapping_sub(s.vaddr.0) < s.memsz)
    };
    let strings = code
        .iter()
        .filter(|i| is_lea(i))
        .filter_map(target)
        .find(|t| writable(*t));
    let count = code
        .iter()
        .find(|i| i.mnemonic() == Mnemonic::Cmp && i.op0_register() == Register::AL)
        .and_then(immediate)
        .and_then(|c| u64::try_from(c & 0xff).ok());
    (strings, count)
}

/// `allgadd` begins with `if readgstatus(gp) == _Gidle`; the g is in RAX, and
/// the status is loaded from it or (without inlining) its address is made.
fn atomicstatus(code: &[Instruction]) -> Option<u64> {
    code.iter().find_map(|i| match i.mnemonic() {
        Mnemonic::Mov | Mnemonic::Lea
            if i.memory_base() == Register::RAX
                && i.op1_kind() == OpKind::Memory
                && (is_lea(i) || i.memory_size().size() == 4) =>
        {
            Some(i.memory_displacement64())
        }
        Mnemonic::Add if i.op0_register() == Register::RAX => {
            immediate(i).and_then(|v| u64::try_from(v).ok())
        }
        _ => None,
    })
}

/// `mov r14, fs:[-8]`, or `mov r14, -8; mov r14, fs:[r14]` in PIE.
fn g_tls(code: &[Instruction]) -> Option<i64> {
    code.iter().enumerate().find_map(|(at, i)| {
        if i.memory_segment() != Register::FS || i.op1_kind() != OpKind::Memory {
            return None;
        }
        let offset = i.memory_displacement64() as i64;
        match i.memory_base() {
            Register::None => Some(i64::from(offset as i32)),
            base => code
                .get(at.checked_sub(1)?)
                .filter(|b| b.mnemonic() == Mnemonic::Mov && b.op0_register() == base)
                .and_then(immediate)
                .map(|v| v.wrapping_add(offset)),
        }
    })
}
