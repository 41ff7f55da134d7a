//! The machine code that a target's SIGTRAP action runs while it is armed.
//!
//! With a tracer the kernel gives it the stop and this code never runs. It is
//! for the moment when the tracer is gone (killed) and the int3s are still
//! there: each hit then goes on from its slot, and the program notices
//! nothing. It needs neither a writable page nor a system call.
//!
//! What it does, in this order (`sig`, `siginfo_t *`, `ucontext_t *` come in
//! rdi, rsi, rdx; the saved rip lies at +168 of the ucontext, `REG_RIP` of
//! glibc's sys/ucontext.h, `rip` of the kernel's sigcontext):
//!
//! 1. `si_code` is not `SI_KERNEL`: no int3 (`do_int3_user` in the kernel's
//!    arch/x86/kernel/traps.c forces the signal without further information).
//!    The old action's business, wherever the thread stands.
//! 2. The saved rip lies in the region: the tracer had moved the thread on and
//!    died before it consumed the signal. Return.
//! 3. rip-1 is in the site table: rip becomes the slot. Whether the int3 is
//!    still there does not matter; the slot does what the instruction does.
//!    A RET is done right here: signals that waited are then delivered in Go
//!    code, where the runtime can preempt (isAsyncSafePoint, runtime/preempt.go).
//!    In a loop over a traced function they would hardly ever be otherwise.
//! 4. rip itself is a site: the tracer had moved the thread back to it. Return.
//! 5. rip-1 does not hold an int3 (any more): one that somebody has taken out
//!    since (a gotap that cleaned up after another). The instruction that it
//!    covered has not run yet: rip becomes rip-1, where it now stands whole.
//!    Going on at rip would run the tail of that instruction.
//! 6. The program's own int3: the old action's business.
//!
//! The old action: a handler is jumped to with the registers as they came;
//! SIG_IGN returns (for an int3 the kernel kills all the same, and so does
//! this); SIG_DFL is put back and the signal sent again, to die of it as it
//! would have.
//!
//! Only caller-saved registers are used, and no stack at all.
//! Two sites next to one another (a RET at x, a site at x+1) leave one
//! ambiguity: a thread that the tracer moved *back* to x+1 while its SIGTRAP is
//! unconsumed looks like a hit of x. So the tracer moves threads forward to
//! slots; back to a site only after the signal is consumed.

use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, byte_ptr, dword_ptr, eax, ecx, edi, edx, esi, qword_ptr, r8, r8d, r9, r9d, r10,
    r10d, r11, rax, rcx, rdx, rsi,
};

/// Offset of the saved rip in `ucontext_t` on x86-64 Linux.
pub const UCONTEXT_RIP: i32 = 168;

/// Offset of the saved rsp.
pub const UCONTEXT_RSP: i32 = 160;

/// Offset of `si_code` in `siginfo_t`.
pub const SIGINFO_CODE: i32 = 8;

/// `si_code` of a signal that the kernel forced without more to say: int3.
pub const SI_KERNEL: i32 = 0x80;

/// Bytes of a site table entry: site, slot, lengths and original byte.
pub const ENTRY_SIZE: u64 = 24;

/// The whole of a near return; Go pads some, but writes no other.
const RET: i32 = 0xc3;

const SIGTRAP: i32 = 5;
const SYS_RT_SIGACTION: i32 = 13;
const SYS_RT_SIGRETURN: i32 = 15;
const SYS_GETPID: i32 = 39;
const SYS_GETTID: i32 = 186;
const SYS_TGKILL: i32 = 234;

/// What the old SIGTRAP action was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OldAction {
    /// `SIG_DFL`: dump core.
    Default,
    /// `SIG_IGN`.
    Ignore,
    /// A function.
    Handler,
}

/// Where things lie that the handler refers to; live addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandlerPlan {
    /// Where the code will lie.
    pub at: u64,
    /// Start of the region.
    pub region: u64,
    /// Length of the region, bytes.
    pub region_len: u32,
    /// The site table, ascending by site.
    pub table: u64,
    /// Number of its entries.
    pub sites: u32,
    /// What to do with traps that are not ours.
    pub old: OldAction,
    /// The old handler's address; not looked at unless `old` is a handler.
    pub old_handler: u64,
    /// A `struct kernel_sigaction` of 32 zero bytes: SIG_DFL.
    pub default_action: u64,
}

/// Writes the handler.
pub fn assemble_handler(plan: &HandlerPlan) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let mut search_again = a.create_label();
    let mut search = a.create_label();
    let mut lower = a.create_label();
    let mut hit = a.create_label();
    let mut do_ret = a.create_label();
    let mut not_found = a.create_label();
    let mut restart = a.create_label();
    let mut done = a.create_label();
    let mut chain = a.create_label();
    let saved_rip = qword_ptr(rdx + UCONTEXT_RIP);

    a.endbr64()?;
    // 1: an int3?
    a.cmp(dword_ptr(rsi + SIGINFO_CODE), SI_KERNEL)?;
    a.jne(chain)?;
    // 2: in the region?
    a.mov(rax, saved_rip)?;
    a.mov(rcx, plan.region)?;
    a.mov(r8, rax)?;
    a.sub(r8, rcx)?;
    a.cmp(r8, i32::try_from(plan.region_len).unwrap_or(i32::MAX))?;
    a.jb(done)?;
    // 3 and 4: binary search for rax, which is rip-1 in the first round and rip
    // in the second; entries r8 up to r9 are still possible.
    a.dec(rax)?;
    a.mov(rcx, plan.table)?;
    a.set_label(&mut search_again)?;
    a.xor(r8d, r8d)?;
    a.mov(r9d, plan.sites)?;
    a.set_label(&mut search)?;
    a.cmp(r8, r9)?;
    a.jae(not_found)?;
    a.lea(r10, qword_ptr(r8 + r9))?;
    a.shr(r10, 1)?;
    a.lea(r11, qword_ptr(r10 + r10 * 2))?; // three words an entry
    a.cmp(rax, qword_ptr(rcx + r11 * 8))?;
    a.je(hit)?;
    a.jb(lower)?;
    a.lea(r8, qword_ptr(r10 + 1))?;
    a.jmp(search)?;
    a.set_label(&mut lower)?;
    a.mov(r9, r10)?;
    a.jmp(search)?;
    a.set_label(&mut hit)?;
    a.cmp(rax, saved_rip)?; // the second round?
    a.je(done)?;
    a.cmp(byte_ptr(rcx + r11 * 8 + 16), RET)?;
    a.je(do_ret)?;
    a.mov(rax, qword_ptr(rcx + r11 * 8 + 8))?;
    a.mov(saved_rip, rax)?;
    a.set_label(&mut done)?;
    a.ret()?;
    a.set_label(&mut do_ret)?;
    a.mov(rax, qword_ptr(rdx + UCONTEXT_RSP))?;
    a.mov(r8, qword_ptr(rax))?;
    a.mov(saved_rip, r8)?;
    a.add(rax, 8)?;
    a.mov(qword_ptr(rdx + UCONTEXT_RSP), rax)?;
    a.ret()?;
    a.set_label(&mut not_found)?;
    a.cmp(rax, saved_rip)?;
    a.je(restart)?;
    a.inc(rax)?;
    a.jmp(search_again)?;
    // 5: no int3 there any more?
    a.set_label(&mut restart)?;
    a.dec(rax)?;
    a.movzx(ecx, byte_ptr(rax))?;
    a.cmp(ecx, 0xcc)?;
    a.je(chain)?;
    a.mov(saved_rip, rax)?;
    a.ret()?;
    a.set_label(&mut chain)?;
    chain_on(&mut a, plan)?;
    a.assemble(plan.at)
}

/// What the old action does with sig, info and ucontext as they came.
fn chain_on(a: &mut CodeAssembler, plan: &HandlerPlan) -> Result<(), IcedError> {
    match plan.old {
        OldAction::Handler => {
            a.mov(rax, plan.old_handler)?;
            a.jmp(rax)?;
        }
        OldAction::Ignore => {
            let mut fatal = a.create_label();
            a.cmp(dword_ptr(rsi + SIGINFO_CODE), SI_KERNEL)?;
            a.je(fatal)?;
            a.ret()?;
            a.set_label(&mut fatal)?;
            die(a, plan)?;
        }
        OldAction::Default => die(a, plan)?,
    }
    Ok(())
}

/// `rt_sigaction(SIGTRAP, &default, NULL, 8)`, then
/// `tgkill(getpid(), gettid(), SIGTRAP)`: it stays pending while this handler
/// runs and is delivered when it returns.
fn die(a: &mut CodeAssembler, plan: &HandlerPlan) -> Result<(), IcedError> {
    a.mov(edi, SIGTRAP)?;
    a.mov(rsi, plan.default_action)?;
    a.xor(edx, edx)?;
    a.mov(r10d, 8)?;
    a.mov(eax, SYS_RT_SIGACTION)?;
    a.syscall()?;
    a.mov(eax, SYS_GETTID)?;
    a.syscall()?;
    a.mov(esi, eax)?;
    a.mov(eax, SYS_GETPID)?;
    a.syscall()?;
    a.mov(edi, eax)?;
    a.mov(edx, SIGTRAP)?;
    a.mov(eax, SYS_TGKILL)?;
    a.syscall()?;
    a.ret()
}

/// `mov eax, SYS_rt_sigreturn; syscall`: the restorer for an action that had
/// none (`SIG_DFL` before Go or C set one).
pub fn assemble_restorer(at: u64) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    a.mov(eax, SYS_RT_SIGRETURN)?;
    a.syscall()?;
    a.assemble(at)
}
