//! ptrace(2) requests, one function each, on stopped tracees of this thread.
//!
//! Signals are raw numbers: real-time signals (33 and 34 are Go's and glibc's)
//! must pass through, and `nix::Signal` has no names for them.

use nix::errno::Errno;
use nix::libc::{self, c_long, c_void};
use nix::sys::ptrace::{self, Options};
use nix::unistd::Pid;

use super::Regs;

/// What tracees report beside signals: threads, children, exec; and system
/// call stops told apart from SIGTRAP.
fn options() -> Options {
    Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESYSGOOD
}

/// Attaches without stopping; new threads and children are attached by the kernel.
pub fn seize(tid: i32) -> Result<(), Errno> {
    ptrace::seize(Pid::from_raw(tid), options())
}

/// The same, and no more is reported than stops: new threads and children are
/// left alone.
pub fn seize_quietly(tid: i32) -> Result<(), Errno> {
    ptrace::seize(Pid::from_raw(tid), Options::empty())
}

/// Asks a running tracee to stop with `PTRACE_EVENT_STOP`.
pub fn interrupt(tid: i32) -> Result<(), Errno> {
    ptrace::interrupt(Pid::from_raw(tid))
}

/// Registers of a stopped tracee.
pub fn registers(tid: i32) -> Result<Regs, Errno> {
    ptrace::getregs(Pid::from_raw(tid))
}

/// Sets all registers of a stopped tracee.
pub fn set_registers(tid: i32, regs: Regs) -> Result<(), Errno> {
    ptrace::setregs(Pid::from_raw(tid), regs)
}

/// Sets the instruction pointer alone: cheaper than all registers.
pub fn set_rip(tid: i32, rip: u64) -> Result<(), Errno> {
    let offset = std::mem::offset_of!(Regs, rip);
    ptrace::write_user(Pid::from_raw(tid), offset as *mut c_void, rip as c_long)
}

/// The 16 XMM registers of a stopped tracee, low 16 bytes each.
pub fn vector_registers(tid: i32) -> Result<[[u8; 16]; 16], Errno> {
    let mut fp = std::mem::MaybeUninit::<libc::user_fpregs_struct>::uninit();
    // SAFETY: PTRACE_GETFPREGS writes one user_fpregs_struct at data, which has room for it.
    let rc = unsafe { libc::ptrace(libc::PTRACE_GETFPREGS, tid, 0, fp.as_mut_ptr()) };
    Errno::result(rc)?;
    // SAFETY: the request succeeded, so the kernel filled the struct.
    let fp = unsafe { fp.assume_init() };
    let mut out = [[0u8; 16]; 16];
    for (reg, words) in out.iter_mut().zip(fp.xmm_space.chunks_exact(4)) {
        for (bytes, word) in reg.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    Ok(out)
}

/// The message of an event stop: a new thread's id, the old id after exec.
pub fn event_message(tid: i32) -> Result<u64, Errno> {
    ptrace::getevent(Pid::from_raw(tid)).map(|m| m as u64)
}

/// `si_code` and fault address of the signal a tracee stopped for.
pub fn signal_code(tid: i32) -> Result<i32, Errno> {
    ptrace::getsiginfo(Pid::from_raw(tid)).map(|si| si.si_code)
}

fn request(what: libc::c_uint, tid: i32, data: i64) -> Result<(), Errno> {
    // SAFETY: these requests (CONT, SYSCALL, SETOPTIONS, DETACH, LISTEN) take a number in data and touch no memory of ours.
    let rc = unsafe { libc::ptrace(what, tid, 0, data) };
    Errno::result(rc).map(drop)
}

/// Lets a stopped tracee run, delivering `signal` unless 0.
pub fn cont(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, tid, i64::from(signal))
}

/// Lets a stopped tracee run to the beginning or end of a system call,
/// delivering `signal` unless 0. Never
/// single steps: the kernel leaves the trap flag set when a tracer dies
/// (`exit_ptrace` in kernel/ptrace.c), and the tracee dies of it.
pub fn cont_to_syscall(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SYSCALL, tid, i64::from(signal))
}

/// Switches a stopped tracee's seccomp filters off or on again, as long as we
/// trace it. Needs CAP_SYS_ADMIN (`PTRACE_O_SUSPEND_SECCOMP`, ptrace(2)).
pub fn suspend_seccomp(tid: i32, on: bool) -> Result<(), Errno> {
    let more = if on { PTRACE_O_SUSPEND_SECCOMP } else { 0 };
    let all = i64::from(options().bits()) | more;
    request(libc::PTRACE_SETOPTIONS, tid, all)
}

/// An instruction of a seccomp filter (`struct sock_filter`, linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FilterInstruction {
    /// What is done.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jt: u8,
    /// The same where it does not.
    pub jf: u8,
    /// A constant.
    pub k: u32,
}

/// A stopped tracee's seccomp filter by its index, the last that was set being
/// 0; None behind the first that was set. Needs CAP_SYS_ADMIN, and no filter of
/// our own (`PTRACE_SECCOMP_GET_FILTER`, ptrace(2)).
pub fn seccomp_filter(tid: i32, index: usize) -> Result<Option<Vec<FilterInstruction>>, Errno> {
    /// BPF_MAXINSNS (linux/bpf_common.h).
    const LONGEST: usize = 4096;
    let nothing = FilterInstruction {
        code: 0,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let mut filter = vec![nothing; LONGEST];
    // SAFETY: the kernel writes BPF_MAXINSNS instructions at most, for which there is room.
    let rc = unsafe { libc::ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, filter.as_mut_ptr()) };
    match Errno::result(rc) {
        Ok(len) => {
            filter.truncate(usize::try_from(len).unwrap_or(0));
            Ok(Some(filter))
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Lets go of a stopped tracee, delivering `signal` unless 0.
pub fn detach(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH, tid, i64::from(signal))
}

/// Leaves a group-stopped tracee stopped, but listening for SIGCONT.
pub fn listen(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN, tid, 0)
}

/// linux/ptrace.h; the libc crate does not name them for gnu targets.
const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const PTRACE_O_SUSPEND_SECCOMP: i64 = 1 << 21;

/// The blocked signals of a stopped tracee: bit n-1 is signal n.
pub fn signal_mask(tid: i32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    let out: *mut u64 = &raw mut mask;
    // SAFETY: addr is the size of the set, data points to that many bytes of ours.
    let rc = unsafe { libc::ptrace(PTRACE_GETSIGMASK, tid, 8usize, out) };
    Errno::result(rc)?;
    Ok(mask)
}

/// Sets the blocked signals of a stopped tracee.
pub fn set_signal_mask(tid: i32, mask: u64) -> Result<(), Errno> {
    let input: *const u64 = &raw const mask;
    // SAFETY: addr is the size of the set, data points to that many bytes of ours, only read.
    let rc = unsafe { libc::ptrace(PTRACE_SETSIGMASK, tid, 8usize, input) };
    Errno::result(rc).map(drop)
}

/// Has a stopped tracee killed when this tracer ends, and asks for no events.
/// `unfiltered`: its seccomp filters stay switched off ([`suspend_seccomp`]).
pub fn kill_with_tracer(tid: i32, unfiltered: bool) -> Result<(), Errno> {
    let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD;
    let more = if unfiltered {
        PTRACE_O_SUSPEND_SECCOMP
    } else {
        0
    };
    let all = i64::from(options.bits()) | more;
    request(libc::PTRACE_SETOPTIONS, tid, all)
}
