//! ```text
//! disassemble [LOCATION]                                      alias: disass
//! ```
//!
//! Shows a function's instructions, as the file has them, with their lines; of a
//! target that is stopped also of the function that it stopped in, `=>` before
//! the instruction that comes next.

use std::fmt::Write as _;

use crate::addr::ImageAddr;
use crate::arch::scan::Disassembler;
use crate::arch::slot::instruction_text;
use crate::image::{Function, Image};
use crate::repl::resolve::{Resolved, resolve, short};
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::{Location, Place, Verb};
use crate::value::escaped;

/// Instructions that are shown at most.
const MOST: usize = 10_000;

/// Shows them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    // Delve's -l LOCATION.
    let words = match call.words {
        [flag, rest @ ..] if flag.text == "-l" => rest,
        words => words,
    };
    let target = shell.source.target.clone();
    let now = shell.standing.as_ref().filter(|_| shell.at_stop());
    let now = now.map(|s| target.bias.image(s.stop.at));
    let chosen = match (words, now) {
        ([word], _) => Location::parse(word)?,
        ([], Some(at)) => Location {
            place: Place::Address(at.0),
            span: call.span,
        },
        _ => return Err(call.fail("what? disassemble main.main")),
    };
    let location = chosen;
    let function = match resolve(&target.image, &location)? {
        Resolved::Functions(functions, _) => match functions.as_slice() {
            [one] => *one,
            many => {
                return Err(ExprError::new(
                    location.span,
                    format!("{} functions match; name one", many.len()),
                ));
            }
        },
        Resolved::Line { function, .. } => function,
    };
    let Some(code) = function.code() else {
        return Err(call.fail("the file does not hold its code"));
    };
    let disassembler = Disassembler::new().map_err(|e| call.fail(e))?;
    let mut text = format!("TEXT {}\n", escaped(&function.name()));
    let mut offset = 0;
    for _ in 0..MOST {
        let at = function.entry().offset(offset as u64);
        let Some(rest) = code.get(offset..).filter(|rest| !rest.is_empty()) else {
            break;
        };
        let Some(len) = disassembler.insn_len(rest, at.0) else {
            let _ = writeln!(text, "  {at}  (bad)");
            break;
        };
        let bytes = rest.get(..len).unwrap_or(rest);
        let mut hex = String::new();
        for byte in bytes {
            let _ = write!(hex, "{byte:02x}");
        }
        let place = format!(
            "{}:{}",
            short(function.file_at(at).unwrap_or("?")),
            function.line_at(at).unwrap_or(0)
        );
        // What fills up to the next function has no line.
        if bytes == [0xcc] && function.line_at(at).is_none() {
            offset += 1;
            continue;
        }
        let instruction = with_target(&target.image, &function, instruction_text(bytes, at.0));
        let _ = writeln!(
            text,
            "{} {:<20} {at}  {hex:<20}  {instruction}",
            if now == Some(at) { "=>" } else { "  " },
            escaped(&place)
        );
        offset += len.max(1);
    }
    shell.answer(Verb::Disassemble, &text);
    Ok(())
}

/// A call or jump out of the function, with the name of what it goes to.
fn with_target(image: &Image, function: &Function<'_>, text: String) -> String {
    let goes = text.starts_with("call ") || text.starts_with('j');
    let digits = text.strip_suffix('h').and_then(|t| t.rsplit(' ').next());
    let to = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let Some(to) = to.filter(|_| goes).map(ImageAddr) else {
        return text;
    };
    match image.functions().find(to) {
        Some(other) if other != *function => {
            let skip = to.0.wrapping_sub(other.entry().0);
            let skip = match skip {
                0 => String::new(),
                skip => format!("+{skip:#x}"),
            };
            format!("{text}  {}{skip}", escaped(&other.name()))
        }
        _ => text,
    }
}
