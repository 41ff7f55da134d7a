//! The machine code that a target's thread runs to fork the target from
//! outside: a frozen copy of its memory that never runs the program.
//!
//! The thread clones an intermediate that shares its memory and for which it
//! waits (`CLONE_VM | CLONE_VFORK`); the intermediate clones the copy, without
//! `CLONE_VM`, and exits, so that the copy is nobody's child in the target (where
//! the target collects orphans, as the first process of a pid namespace does, it
//! is the target's: its name, which it has from the intermediate, tells); the
//! copy's first act is `close_range(0, ~0, CLOSE_RANGE_UNSHARE)`: it holds no
//! descriptor of the target, not for a moment of its own (`CLONE_FILES` shares
//! the table until then). Everything is in registers; no stack is touched.
//!
//! **gotap may be killed at any instruction of it.** The thread then waits for
//! the intermediate, takes its registers from this very code and goes on where
//! it was; the intermediate exits; the copy does too, behind its close_range.
//!
//! Sources: clone(2), close_range(2) (Linux 5.9), wait(2) (`__WALL`: the
//! intermediate announces its end by no signal).

use iced_x86::code_asm::{
    CodeAssembler, eax, edi, edx, esi, qword_ptr, r8, r8d, r10, r10d, r11, rax, rcx, rdi, rdx, rsi,
};
use iced_x86::{BlockEncoderOptions, IcedError};

use crate::sys::Regs;

const SYS_CLONE: i32 = 56;
const SYS_EXIT: i32 = 60;
const SYS_WAIT4: i32 = 61;
const SYS_PRCTL: i32 = 157;
const SYS_EXIT_GROUP: i32 = 231;
const PR_SET_NAME: i32 = 15;
const SYS_CLOSE_RANGE: i32 = 436;
/// CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS, no signal at the end.
const INTERMEDIATE: i32 = 0x4700;
/// CLONE_FILES | CLONE_FS.
const COPY: i32 = 0x600;
const CLOSE_RANGE_UNSHARE: i32 = 2;
const WALL: i32 = 0x4000_0000;
const EINTR: i32 = 4;
/// What a copy exits with that is let run.
const LET_RUN: i32 = 13;
const OVERFLOW: u64 = 1 << 11;

/// What a copy is called (comm in proc(5); 15 bytes at most).
pub const COPY_NAME: &str = "gotap-copy";

/// The system calls that are made, by number with their arguments; the first
/// `OWN_CALLS` of them by the thread itself.
pub const CALLS: [(&str, i64, [u64; 6]); 6] = [
    (
        "clone",
        SYS_CLONE as i64,
        [INTERMEDIATE as u64, 0, 0, 0, 0, 0],
    ),
    ("wait4", SYS_WAIT4 as i64, [0, 0, WALL as u64, 0, 0, 0]),
    (
        "prctl",
        SYS_PRCTL as i64,
        [PR_SET_NAME as u64, 0, 0, 0, 0, 0],
    ),
    ("clone", SYS_CLONE as i64, [COPY as u64, 0, 0, 0, 0, 0]),
    (
        "close_range",
        SYS_CLOSE_RANGE as i64,
        [0, u32::MAX as u64, CLOSE_RANGE_UNSHARE as u64, 0, 0, 0],
    ),
    ("exit", SYS_EXIT as i64, [0; 6]),
];

/// So many of [`CALLS`] does the program's own thread make.
pub const OWN_CALLS: usize = 2;

/// The code, and the places in it that the tracer waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotCode {
    /// To be written where it was assembled for.
    pub bytes: Vec<u8>,
    /// Where the thread begins.
    pub start: u64,
    /// The thread's rip behind its clone.
    pub cloned: u64,
    /// The thread's rip behind its wait for the intermediate.
    pub waited: u64,
    /// The copy's rip behind its close_range.
    pub closed: u64,
}

/// Writes the code for `at`; a thread that has run it goes on with `back`.
pub fn assemble_snapshot(at: u64, back: &Regs) -> Result<SnapshotCode, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let mut start = a.create_label();
    let mut cloned = a.create_label();
    let mut again = a.create_label();
    let mut waited = a.create_label();
    let mut out = a.create_label();
    let mut intermediate = a.create_label();
    let mut closed = a.create_label();
    let mut leave = a.create_label();
    let mut rip = a.create_label();
    let mut name = a.create_label();

    // A trap handler looks at the byte before rip.
    a.nop()?;
    a.set_label(&mut start)?;
    clone(&mut a, INTERMEDIATE)?;
    a.set_label(&mut cloned)?;
    a.test(rax, rax)?;
    a.jz(intermediate)?;
    a.js(out)?;
    a.mov(r8, rax)?;
    a.set_label(&mut again)?;
    a.mov(rdi, r8)?;
    a.xor(esi, esi)?;
    a.mov(edx, WALL)?;
    a.xor(r10d, r10d)?;
    a.mov(eax, SYS_WAIT4)?;
    a.syscall()?;
    a.set_label(&mut waited)?;
    a.cmp(rax, -EINTR)?;
    a.je(again)?;
    a.set_label(&mut out)?;
    give_back(&mut a, back)?;
    a.jmp(qword_ptr(rip))?;

    a.set_label(&mut intermediate)?;
    a.mov(edi, PR_SET_NAME)?;
    a.lea(rsi, qword_ptr(name))?;
    a.mov(eax, SYS_PRCTL)?;
    a.syscall()?;
    clone(&mut a, COPY)?;
    a.test(rax, rax)?;
    a.jnz(leave)?;
    a.xor(edi, edi)?;
    a.mov(esi, -1i32)?;
    a.mov(edx, CLOSE_RANGE_UNSHARE)?;
    a.mov(eax, SYS_CLOSE_RANGE)?;
    a.syscall()?;
    a.set_label(&mut closed)?;
    a.mov(edi, LET_RUN)?;
    a.mov(eax, SYS_EXIT_GROUP)?;
    a.syscall()?;
    a.set_label(&mut leave)?;
    a.xor(edi, edi)?;
    a.mov(eax, SYS_EXIT)?;
    a.syscall()?;
    a.set_label(&mut rip)?;
    a.dq(&[back.rip])?;
    a.set_label(&mut name)?;
    a.db(COPY_NAME.as_bytes())?;
    a.db(&[0])?;

    let done = a.assemble_options(at, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)?;
    Ok(SnapshotCode {
        start: done.label_ip(&start)?,
        cloned: done.label_ip(&cloned)?,
        waited: done.label_ip(&waited)?,
        closed: done.label_ip(&closed)?,
        bytes: done.inner.code_buffer,
    })
}

/// `clone(flags, 0, NULL, NULL, 0)`.
fn clone(a: &mut CodeAssembler, flags: i32) -> Result<(), IcedError> {
    a.mov(edi, flags)?;
    a.xor(esi, esi)?;
    a.xor(edx, edx)?;
    a.xor(r10d, r10d)?;
    a.xor(r8d, r8d)?;
    a.mov(eax, SYS_CLONE)?;
    a.syscall()
}

/// The registers that the code and the kernel change. The arithmetic flags too:
/// an addition makes the overflow flag, SAHF all others.
fn give_back(a: &mut CodeAssembler, back: &Regs) -> Result<(), IcedError> {
    let overflow = back.eflags & OVERFLOW != 0;
    a.mov(eax, if overflow { 0x7fff_ffff } else { 0 })?;
    a.add(eax, 1)?;
    a.mov(rax, (back.eflags & 0xff) << 8)?;
    a.sahf()?;
    a.mov(rcx, back.rcx)?;
    a.mov(rdx, back.rdx)?;
    a.mov(rsi, back.rsi)?;
    a.mov(rdi, back.rdi)?;
    a.mov(r8, back.r8)?;
    a.mov(r10, back.r10)?;
    a.mov(r11, back.r11)?;
    a.mov(rax, back.rax)
}
