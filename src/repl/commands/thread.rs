//! ```text
//! thread ID                                                        alias: tr
//! ```
//!
//! Chooses a thread of a target that is stopped, or of a core file, and the
//! goroutine that it runs: `regs`, `stack`, `args` and `locals` are then about
//! them.

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::session::look::{Wanted, look};

/// Chooses one.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let [word] = call.words else {
        return Err(call.fail("which one? thread 4243"));
    };
    let fail = |message: String| ExprError::new(word.span, message);
    let tid: u64 = word
        .text
        .parse()
        .map_err(|_| fail("a thread is a number: thread 4243".into()))?;
    if shell.source.thread_ids().is_empty() {
        return Err(fail(
            "threads of a program that runs hold nothing to look at: halt stops it".into(),
        ));
    }
    if shell.source.registers(tid).is_none() {
        return Err(fail(format!("there is no thread {tid}")));
    }
    let wanted = Wanted {
        each: true,
        ..Wanted::default()
    };
    let survey = look(&shell.source, &wanted).map_err(|e| call.fail(e))?;
    let own = survey.goroutines.iter().find(|e| e.tid == Some(tid));
    shell.thread = Some(tid);
    shell.goroutine = own.map(|e| e.goid);
    shell.frame = 0;
    let text = match shell.goroutine {
        Some(goid) => format!("thread {tid}, goroutine {goid}\n"),
        None => format!("thread {tid} runs no goroutine\n"),
    };
    shell.answer(Verb::Thread, &text);
    Ok(())
}
