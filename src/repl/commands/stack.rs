//! ```text
//! stack [GOID] [DEPTH]                                             alias: bt
//! ```
//!
//! Prints a goroutine's stack, with arguments as a traceback shows them, without
//! stopping it. A goroutine that runs has none that could be read. Where a
//! goroutine was chosen (`goroutine ID`), the number is the depth, as in Delve.
//! -full shows the variables of each frame too, from the debug information.
//! In the block of a trace, `stack N` shows the call's own, as it was at its
//! entry.

use crate::repl::frames;
use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::session::look::{Wanted, look};
use crate::sink::goroutines::{full, json, table};

/// Prints it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let mut numbers = Vec::new();
    let mut whole = false;
    for word in call.words {
        if word.text == "-full" {
            whole = true;
            continue;
        }
        let number: u64 = word
            .text
            .parse()
            .map_err(|_| ExprError::new(word.span, "a number is needed: stack 34"))?;
        numbers.push(number);
    }
    let (goid, depth) = match (numbers.as_slice(), shell.goroutine) {
        ([], Some(goid)) => (goid, None),
        ([depth], Some(goid)) => (goid, Some(*depth)),
        ([goid], None) => (*goid, None),
        ([goid, depth], _) => (*goid, Some(*depth)),
        ([], None) => {
            return Err(call.fail("whose? stack GOID, or choose one with goroutine ID"));
        }
        _ => return Err(call.fail("stack [GOID] [DEPTH]")),
    };
    if whole {
        return full_stack(shell, &call, goid, depth);
    }
    let wanted = Wanted {
        all_stacks: true,
        each: true,
        args: true,
        details: true,
        only: Some(goid),
    };
    let survey = look(&shell.source, &wanted).map_err(|e| call.fail(e))?;
    let Some(one) = survey.goroutines.first() else {
        return Err(call.fail(format!("there is no goroutine {goid}")));
    };
    let mut out = Vec::new();
    let most = depth.map_or(usize::MAX, |d| usize::try_from(d).unwrap_or(usize::MAX));
    match shell.form() {
        Form::Text => {
            table::stack(&mut out, &survey, one, most).map_err(|e| call.fail(e))?;
            shell.answer(Verb::Stack, &String::from_utf8_lossy(&out));
        }
        Form::Json => {
            json::one_line(&mut out, &survey, one).map_err(|e| call.fail(e))?;
            shell.out.push(&out);
        }
    }
    Ok(())
}

/// With the variables of each frame.
fn full_stack(
    shell: &mut Shell,
    call: &Call<'_>,
    goid: u64,
    depth: Option<u64>,
) -> Result<(), ExprError> {
    let before = shell.goroutine.replace(goid);
    let read = frames::all(shell, call);
    shell.goroutine = before;
    let (mut all, state) = read?;
    all.truncate(depth.map_or(usize::MAX, |d| usize::try_from(d).unwrap_or(usize::MAX)));
    let mut out = Vec::new();
    full::frames(&mut out, &all).map_err(|e| call.fail(e))?;
    table::stack_end(&mut out, state).map_err(|e| call.fail(e))?;
    shell.answer(Verb::Stack, &String::from_utf8_lossy(&out));
    Ok(())
}
