//! What is never armed, and why.
//!
//! An int3 that is hit while SIGTRAP is blocked makes the kernel set SIGTRAP's
//! action back to default for the whole process, tracer or not
//! (`force_sig_info_to_task` in the kernel's kernel/signal.c): the handler that
//! keeps the target alive without us would be gone. So whatever can run with
//! signals blocked is left alone: signal handlers, the start and the end of a
//! thread, the way between fork and exec (where a vfork child shares our bytes).
//! So is code that is entered without a stack of its own, by jumping into its
//! middle, or that is not Go's.
//!
//! The first two are found by following direct calls, jumps and closures from
//! known roots. The lists were checked against GOROOT/src of Go 1.19, 1.21, 1.26
//! and 1.27: runtime/{signal_unix,os_linux,proc,cgocall}.go, syscall/exec_linux.go
//! and the assembly of amd64.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::addr::{ImageAddr, LiveAddr};
use crate::arch::scan::Disassembler;
use crate::image::{Function, Image};
use crate::memory::Memory;

/// Most functions that are followed from the roots.
const MAX_REACHED: usize = 20_000;

/// Why a function is not armed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Never {
    /// C, the linker's, or an assembly body without a package.
    #[error("it is not a Go package's function")]
    NotGo,
    /// It switches stacks or starts on a borrowed one.
    #[error("it switches stacks")]
    SwitchesStacks,
    /// Callers jump into its middle.
    #[error("it is entered in its middle")]
    EnteredMidway,
    /// Curated: it runs with signals blocked itself.
    #[error("it runs with signals blocked ({0})")]
    Blocked(&'static str),
    /// Found by following calls from such a function.
    #[error("it can run with signals blocked ({when}): {root} reaches it")]
    Reached {
        /// When that is.
        when: &'static str,
        /// The function that it was reached from.
        root: &'static str,
    },
}

const HANDLER: &str = "in a signal handler";
const THREAD: &str = "while a thread starts or ends";
const FORK: &str = "between fork and exec";

/// Exact names that switch stacks, with everything that begins with
/// [`SWITCH_PREFIXES`].
const SWITCHES: &[&str] = &[
    "gogo",
    "mcall",
    "systemstack",
    "systemstack_switch",
    "switchToThreadstack",
    "setg_gcc",
    "rt0_go",
    "mstart_stub",
    "sigreturn",
    "sigreturn__sigaction",
    "goexit",
    "call16",
    "abort",
    "breakpoint",
    "debugCallV1",
    "debugCallV2",
];

const SWITCH_PREFIXES: &[&str] = &[
    "asmcgocall",
    "cgocallback",
    "morestack",
    "asyncPreempt",
    "_rt0_",
    "rt0_",
    "debugCall",
    "asmSysvicall",
    "spillArgs",
    "unspillArgs",
];

/// Where signals are blocked, with when; these and what they reach is left
/// alone.
const ROOTS: &[(&str, &str)] = &[
    ("runtime.sigtramp", HANDLER),
    ("runtime.cgoSigtramp", HANDLER),
    ("runtime.sigtrampgo", HANDLER),
    ("runtime.sigfwd", HANDLER),
    ("runtime.sigfwdgo", HANDLER),
    ("runtime.sighandler", HANDLER),
    ("runtime.sigprofNonGo", HANDLER),
    ("runtime.sigprofNonGoPC", HANDLER),
    ("runtime.badsignal", HANDLER),
    ("runtime.badsignal2", HANDLER),
    ("runtime.doSigPreempt", HANDLER),
    ("runtime.setsig", HANDLER),
    ("runtime.getsig", HANDLER),
    ("runtime.minit", THREAD),
    ("runtime.asminit", THREAD),
    ("runtime.unminit", THREAD),
    ("runtime.mdestroy", THREAD),
    ("runtime.exitThread", THREAD),
    ("runtime.newosproc", THREAD),
    ("runtime.newosproc0", THREAD),
    ("runtime.clone", THREAD),
    ("runtime.callbackUpdateSystemStack", THREAD),
    ("runtime.getExtraM", THREAD),
    ("runtime.putExtraM", THREAD),
    ("runtime.addExtraM", THREAD),
    ("runtime.lockextra", THREAD),
    ("runtime.unlockextra", THREAD),
    ("runtime.vgetrandomDestroy", THREAD),
    ("runtime.sigblock", THREAD),
    ("runtime.sigsave", THREAD),
    ("runtime.msigrestore", THREAD),
    ("runtime.rtsigprocmask", THREAD),
    ("syscall.runtime_BeforeFork", FORK),
    ("syscall.runtime_AfterFork", FORK),
    ("syscall.runtime_AfterForkInChild", FORK),
    ("runtime.clearSignalHandlers", FORK),
    // badsignal makes a thread of C one of Go's for a moment (needm, dropm).
    ("runtime.casgstatus", HANDLER),
    // mexit, with signals blocked, frees its signal stack and gives its P away,
    // to a new thread if need be, which it allocates.
    ("runtime.unminitSignals", THREAD),
    ("runtime.lock2", THREAD),
    ("runtime.unlock2", THREAD),
    ("runtime.releasep", THREAD),
    ("runtime.stackfree", THREAD),
    ("runtime.handoffp", THREAD),
    ("runtime.checkdead", THREAD),
    ("runtime.startm", THREAD),
    ("runtime.newm", THREAD),
    ("runtime.newm1", THREAD),
    ("runtime.allocm", THREAD),
    ("runtime.mcommoninit", THREAD),
    ("runtime.mspinning", THREAD),
    // Called by fixalloc.alloc through a field.
    ("runtime.recordspan", THREAD),
    // What handoffp may do for a collection, by way of `sched.safePointFn`.
    ("runtime.wbBufFlush1", THREAD),
    ("runtime.(*gcWork).dispose", THREAD),
    ("runtime.(*mcache).prepareForSweep", THREAD),
    ("runtime.(*pageCache).flush", THREAD),
];

/// The functions that `sched.safePointFn` is set to are among these closures.
const SAFE_POINTS: &[&str] = &["runtime.gcMarkDone.func", "runtime.gcMarkTermination.func"];

/// Left alone themselves; what they call also runs at other times, and mostly
/// then.
const ALONE: &[(&str, &str)] = &[
    ("runtime.mstart", THREAD),
    ("runtime.mstart0", THREAD),
    ("runtime.mstart1", THREAD),
    ("runtime.needm", THREAD),
    ("runtime.needAndBindM", THREAD),
    ("runtime.dropm", THREAD),
    ("runtime.mexit", THREAD),
    ("syscall.forkAndExecInChild", FORK),
    ("syscall.forkAndExecInChild1", FORK),
    ("syscall.rawVforkSyscall", FORK),
    ("syscall.rawSyscallNoError", FORK),
    ("syscall.RawSyscall", FORK),
    ("syscall.RawSyscall6", FORK),
    ("runtime/internal/syscall.RawSyscall6", FORK),
    ("runtime/internal/syscall.Syscall6", FORK),
    ("internal/runtime/syscall.RawSyscall6", FORK),
    ("internal/runtime/syscall.Syscall6", FORK),
    ("internal/runtime/syscall/linux.Syscall6", FORK),
];

/// Calls that are not followed. A panic or the growth of a stack in a signal
/// handler is fatal at its first step (`runtime.panicCheck1`, `newstack`), and
/// g0, which the start and the end of a thread run on, never parks and never
/// gives way to another goroutine.
const NOT_FOLLOWED: &[&str] = &[
    "runtime.gopanic",
    "runtime.sigpanic",
    "runtime.sigpanic0",
    "runtime.newstack",
    "runtime.gopark",
    "runtime.goparkunlock",
    "runtime.goready",
    "runtime.ready",
    "runtime.schedule",
    "runtime.goschedImpl",
    "runtime.gosched_m",
    "runtime.goschedguarded_m",
    "runtime.deferreturn",
    "runtime.Goexit",
    "runtime.goexit1",
    "runtime.cgocall",
    "runtime.entersyscall",
    "runtime.exitsyscall",
    "runtime.mcall",
];

/// Reached, but what they call is not: on g0 they return at once (mgc.go,
/// mgcmark.go).
const LEFT_AT_ONCE: &[&str] = &["runtime.gcStart", "runtime.gcAssistAlloc"];

/// And these by how their names begin.
const NOT_FOLLOWED_PREFIXES: &[&str] = &[
    "runtime.panic",
    "runtime.goPanic",
    "runtime.morestack",
    "runtime.asyncPreempt",
];

/// Which package paths code that signal handlers reach can be in: the runtime
/// and what it imports.
pub(super) fn may_be_reached(name: &str) -> bool {
    if name.starts_with("internal/poll.") {
        return false;
    }
    [
        "runtime.",
        "runtime/internal/",
        "internal/",
        "syscall.",
        "sync/atomic.",
        "time.",
        "reflect.",
    ]
    .iter()
    .any(|package| name.starts_with(package))
        || !name.contains('/') && !name.contains('.')
}

/// What a name alone tells: everything but the reached ones.
fn by_name(name: &str) -> Option<Never> {
    // "memeqbody", "setg_gcc" and the like are assembly without a package.
    if !name.contains('.') {
        return Some(Never::NotGo);
    }
    // The linker's own; runtime/cgo; C++ that the race detector brings along.
    let linker = [
        "go:buildid",
        "go.buildid",
        "go:textfipsstart",
        "go:textfipsend",
    ];
    let foreign = ["x_cgo_", "_cgo_", "_Z"];
    if linker.contains(&name) || foreign.iter().any(|p| name.starts_with(p)) {
        return Some(Never::NotGo);
    }
    let listed = ROOTS.iter().chain(ALONE);
    if let Some((_, when)) = listed.copied().find(|(n, _)| *n == name) {
        return Some(Never::Blocked(when));
    }
    if SAFE_POINTS.iter().any(|p| name.starts_with(p)) {
        return Some(Never::Blocked(THREAD));
    }
    let short = name.strip_prefix("runtime.").or_else(|| {
        let bare = name.strip_prefix("_rt0_");
        bare.map(|_| name)
    })?;
    if short == "duffzero" || short == "duffcopy" {
        return Some(Never::EnteredMidway);
    }
    let switches =
        SWITCHES.contains(&short) || SWITCH_PREFIXES.iter().any(|p| short.starts_with(p));
    switches.then_some(Never::SwitchesStacks)
}

/// Answers for one image what is never armed; what can be reached is found out
/// when it is first asked for.
#[derive(Debug)]
pub struct Avoid {
    reached: Option<HashMap<u32, &'static (&'static str, &'static str)>>,
}

impl Default for Avoid {
    fn default() -> Self {
        Self::new()
    }
}

impl Avoid {
    /// Knows the lists only, yet.
    pub fn new() -> Self {
        Self { reached: None }
    }

    /// Why this function is never armed, or `None`.
    pub fn why(
        &mut self,
        image: &Image,
        disassembler: &Disassembler,
        function: &Function<'_>,
    ) -> Option<Never> {
        let name = function.name();
        if let Some(never) = by_name(&name) {
            return Some(never);
        }
        if !may_be_reached(&name) {
            return None;
        }
        let reached = self
            .reached
            .get_or_insert_with(|| find_reached(image, disassembler));
        let (root, when) = reached.get(&function.index())?;
        Some(Never::Reached { when, root })
    }
}

/// Every function that the roots reach by direct calls, jumps, and closures
/// whose address they take.
fn find_reached(
    image: &Image,
    disassembler: &Disassembler,
) -> HashMap<u32, &'static (&'static str, &'static str)> {
    let functions = image.functions();
    let memory = image.memory();
    let names: Vec<&str> = ROOTS.iter().map(|(name, _)| *name).collect();
    let mut reached = HashMap::new();
    let mut work = VecDeque::new();
    for (root, found) in ROOTS.iter().zip(functions.by_names(&names)) {
        for function in found {
            if let Entry::Vacant(place) = reached.entry(function.index()) {
                place.insert(root);
                work.push_back(function);
            }
        }
    }
    let at_entry = |at: u64| {
        let function = functions.find(ImageAddr(at))?;
        (function.entry() == ImageAddr(at)).then_some(function)
    };
    while let Some(function) = work.pop_front() {
        let Some(root) = reached.get(&function.index()).copied() else {
            continue;
        };
        if LEFT_AT_ONCE.contains(&&*function.name()) {
            continue;
        }
        let Some(code) = function.code() else {
            continue;
        };
        let scan = disassembler.scan_function(code, function.entry().0);
        let jumps = scan.tail_jumps.iter().filter_map(|jump| jump.target);
        let calls = scan.calls.iter().copied().chain(jumps);
        let called = calls.filter_map(|to| functions.find(ImageAddr(to)));
        // The address of code, or of a funcval whose first word is one.
        let closures = scan.taken.iter().filter_map(|to| {
            at_entry(*to).or_else(|| at_entry(memory.read_u64(LiveAddr(*to)).ok()?))
        });
        for next in called.chain(closures) {
            if reached.len() >= MAX_REACHED {
                return reached;
            }
            if !is_followed(&next) {
                continue;
            }
            if let Entry::Vacant(place) = reached.entry(next.index()) {
                place.insert(root);
                work.push_back(next);
            }
        }
    }
    reached
}

fn is_followed(function: &Function<'_>) -> bool {
    let name = function.name();
    !NOT_FOLLOWED.contains(&&*name)
        && !ALONE.iter().any(|(alone, _)| *alone == name)
        && !NOT_FOLLOWED_PREFIXES.iter().any(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests;
