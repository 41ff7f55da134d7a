//! ```text
//! regs [-a]
//! ```
//!
//! Prints the registers of the chosen thread of a target that is stopped, or of
//! a core file; with -a the low halves of xmm0 to xmm15 as well.

use std::fmt::Write as _;

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;

/// Prints them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let all = match call.words {
        [] => false,
        [flag] if flag.text == "-a" => true,
        _ => return Err(call.fail("regs [-a]")),
    };
    let tid = shell.thread_at_hand(&call)?;
    let found = shell.source.registers(tid);
    let Some((known, regs)) = found.and_then(|r| Some((r, r.regs?))) else {
        return Err(call.fail(format!("the registers of thread {tid} are not known")));
    };
    let named = [
        ("Rip", regs.rip),
        ("Rsp", regs.rsp),
        ("Rax", regs.rax),
        ("Rbx", regs.rbx),
        ("Rcx", regs.rcx),
        ("Rdx", regs.rdx),
        ("Rsi", regs.rsi),
        ("Rdi", regs.rdi),
        ("Rbp", regs.rbp),
        ("R8", regs.r8),
        ("R9", regs.r9),
        ("R10", regs.r10),
        ("R11", regs.r11),
        ("R12", regs.r12),
        ("R13", regs.r13),
        ("R14", regs.r14),
        ("R15", regs.r15),
        ("Rflags", regs.eflags),
        ("Cs", regs.cs),
        ("Fs_base", regs.fs_base),
        ("Gs_base", regs.gs_base),
    ];
    let mut text = String::new();
    for (name, value) in named {
        let _ = writeln!(text, "{name:>8} = {value:#018x}");
    }
    if all {
        match known.vectors {
            Some(vectors) => {
                for (i, value) in vectors.iter().enumerate() {
                    let _ = writeln!(text, "{:>8} = {value:#018x}", format!("Xmm{i}"));
                }
            }
            None => text.push_str("(vector registers are not known)\n"),
        }
    }
    shell.answer(Verb::Regs, &text);
    Ok(())
}
