//! ```text
//! goroutine [ID [COMMAND]]                                         alias: gr
//! ```
//!
//! Without an ID, shows the goroutine that was chosen. With one, chooses it:
//! `stack`, `args`, `locals` and `print` are then about it. With a command behind the ID, runs that for the
//! goroutine, and chooses none.
//!
//! ```text
//!     goroutine 34 stack
//! ```

use crate::repl::frames::note_names;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::session::look::{Wanted, look};
use crate::sink::goroutines::table;

/// Shows, chooses, or looks at another.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let Some(word) = call.words.first() else {
        let Some(goid) = shell.goroutine else {
            return Err(call.fail("no goroutine is chosen: goroutine ID, or goroutines"));
        };
        return show(shell, &call, goid).map(drop);
    };
    let goid: u64 = word
        .text
        .parse()
        .map_err(|_| ExprError::new(word.span, "a goroutine is a number: goroutine 34"))?;
    if let Some(then) = call.then {
        let before = (
            shell.goroutine.replace(goid),
            std::mem::take(&mut shell.frame),
        );
        let done = shell.execute(then, "");
        (shell.goroutine, shell.frame) = before;
        return done;
    }
    let tid = show(shell, &call, goid)?;
    (shell.goroutine, shell.frame) = (Some(goid), 0);
    note_names(shell, &call);
    shell.thread = tid;
    Ok(())
}

/// Shows it; the thread that it is on.
fn show(shell: &Shell, call: &Call<'_>, goid: u64) -> Result<Option<u64>, ExprError> {
    let wanted = Wanted {
        all_stacks: true,
        each: true,
        args: false,
        details: true,
        only: Some(goid),
    };
    let survey = look(&shell.source, &wanted).map_err(|e| call.fail(e))?;
    let Some(one) = survey.goroutines.first() else {
        return Err(call.fail(format!("there is no goroutine {goid}")));
    };
    let mut out = Vec::new();
    table::list(&mut out, &survey, &[one]).map_err(|e| call.fail(e))?;
    shell.answer(Verb::Goroutine, &String::from_utf8_lossy(&out));
    Ok(one.tid)
}
