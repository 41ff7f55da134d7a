//! Global variables of the runtime, found without a symbol table: a few
//! functions that every program links are disassembled, and the addresses
//! they refer to are told apart by how they are used.
//!
//! Each rule was compared with DWARF on release toolchains of Go 1.18 to 1.27
//! and holds on stripped, PIE, cgo, static and race builds. The functions:
//! runtime/proc.go (allgadd, mcommoninit, newproc1, preemptall),
//! runtime/runtime2.go (waitReason.String), runtime/netpoll*.go, net/net.go.

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
    /// `io.EOF`, an interface.
    pub io_eof: Option<ImageAddr>,
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
        let exchanged = exchanged(allgadd);
        let (allgptr, allglen) = match exchanged.as_slice() {
            [.., ptr, len] => (Some(*ptr), Some(*len)),
            _ => (None, None),
        };
        let (wait_reasons, wait_reason_count) =
            wait_reasons(image, code.of("runtime.waitReason.String"));
        Globals {
            allgs: unique_slice(allgadd),
            allgptr,
            allglen,
            allm: exchanged_last(code.of("runtime.mcommoninit")),
            allp: pair(code.of("runtime.preemptall")),
            sched: sched(code.of("runtime.newproc1")),
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
            firstmoduledata: target_of(code.of("runtime.findfunc"), is_lea),
            io_eof: target_of(code.of("net.(*conn).Read"), |i| {
                i.mnemonic() == Mnemonic::Cmp && i.memory_size().size() == 8
            }),
            g_atomicstatus: atomicstatus(allgadd),
            g_tls: code.tls_wrappers.iter().find_map(|c| g_tls(c)),
        }
    }
}

const NAMES: [&str; 13] = [
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
    "net.(*conn).Read",
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

/// Globals stored to by `lea r,[T]; xchg [r],x` (atomic stores), in order.
fn exchanged(code: &[Instruction]) -> Vec<ImageAddr> {
    code.windows(2)
        .filter_map(|w| match w {
            [lea, xchg]
                if is_lea(lea)
                    && xchg.mnemonic() == Mnemonic::Xchg
                    && xchg.memory_base() == lea.op0_register()
                    && xchg.memory_size().size() == 8 =>
            {
                target(lea)
            }
            _ => None,
        })
        .collect()
}

fn exchanged_last(code: &[Instruction]) -> Option<ImageAddr> {
    exchanged(code).pop()
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

/// `sched.goidgen` is advanced by 16 at a time: `lock xadd` of 0x10.
fn sched(code: &[Instruction]) -> Option<ImageAddr> {
    code.iter().enumerate().find_map(|(at, i)| {
        if i.mnemonic() != Mnemonic::Xadd {
            return None;
        }
        let before = code.get(at.saturating_sub(5)..at)?;
        before
            .iter()
            .any(|b| b.mnemonic() == Mnemonic::Mov && immediate(b) == Some(16))
            .then(|| before.iter().rev().filter(|b| is_lea(b)).find_map(target))
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

/// `allgadd` begins with `if readgstatus(gp) == _Gidle`.
fn atomicstatus(code: &[Instruction]) -> Option<u64> {
    code.iter()
        .find(|i| {
            i.mnemonic() == Mnemonic::Mov
                && i.memory_base() == Register::RAX
                && i.op1_kind() == OpKind::Memory
                && i.memory_size().size() == 4
        })
        .map(Instruction::memory_displacement64)
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
