//! ```text
//! examinemem [-fmt FORMAT] [-count N] [-size N] ADDRESS            alias: x
//! examinemem [-fmt FORMAT] [-count N] [-size N] -x EXPR
//! ```
//!
//! Prints raw memory of the target, running or stopped, or of a core file: N
//! pieces (-count, also -len; 1) of 1, 2, 4 or 8 bytes each (-size; 1), as hex,
//! dec, oct, bin (-fmt; hex), or raw. With -x from where the expression points to,
//! or from the number that it is.
//!
//! ```text
//!     x -fmt hex -count 20 -size 1 0xc00008af38
//!     x -count 4 -size 8 -x &req
//! ```

use std::fmt::Write as _;

use crate::addr::LiveAddr;
use crate::memory::Memory;
use crate::repl::frames::in_frame;
use crate::repl::shell::{Call, Shell};
use crate::script::command::Verb;
use crate::script::{ExprError, Fact, check, parse};

/// As in Delve.
const MOST: usize = 1000;

/// Prints it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let (mut format, mut count, mut size) = ("hex".to_owned(), 1, 1);
    let mut words = call.words.iter();
    let mut at = None;
    while let Some(word) = words.next() {
        let flag = word.text.as_str();
        let mut value = || {
            words
                .next()
                .ok_or_else(|| ExprError::new(word.span, format!("{flag} needs a value")))
        };
        match flag {
            "-fmt" => value()?.text.clone_into(&mut format),
            "-count" | "-len" => count = number(value()?, MOST)?,
            "-size" => size = number(value()?, 8)?,
            "-x" => {
                let rest: Vec<&str> = words.by_ref().map(|w| w.text.as_str()).collect();
                at = Some(address_of(shell, &call, &rest.join(" "))?);
            }
            text if at.is_none() => at = Some(address(text, word)?),
            _ => return Err(ExprError::new(word.span, "one address is enough")),
        }
    }
    let Some(at) = at else {
        return Err(call.fail("where? x 0xc00008af38, x -x &req"));
    };
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Err(call.fail("a piece has 1, 2, 4 or 8 bytes"));
    }
    let bytes = read(shell, at, count * size)
        .ok_or_else(|| call.fail(format!("memory at {at} cannot be read")))?;
    let text = match format.as_str() {
        "raw" => bytes.escape_ascii().to_string() + "\n",
        format => table(at, &bytes, size, format)
            .ok_or_else(|| call.fail("formats are hex, dec, oct, bin and raw"))?,
    };
    shell.answer(Verb::ExamineMem, &text);
    Ok(())
}

fn number(word: &crate::script::command::Word, most: usize) -> Result<usize, ExprError> {
    let found = word.text.parse().ok().filter(|n| (1..=most).contains(n));
    found.ok_or_else(|| ExprError::new(word.span, format!("a number from 1 to {most}")))
}

fn address(text: &str, word: &crate::script::command::Word) -> Result<LiveAddr, ExprError> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    parsed.map(LiveAddr).ok_or_else(|| {
        ExprError::new(
            word.span,
            "an address is a number, as 0xc00008af38; -x takes an expression",
        )
    })
}

fn address_of(shell: &Shell, call: &Call<'_>, text: &str) -> Result<LiveAddr, ExprError> {
    let expr = parse(text).map_err(|e| call.fail(e.message))?;
    let mut found = None;
    in_frame(shell, call, &mut |here| {
        let checked = check(&expr, here)?;
        found = match checked.address(here).map_err(|e| call.fail(e.message))? {
            Some(at) => Some(at),
            None => match checked.eval(here).map_err(|e| call.fail(e.message))? {
                Fact::Int(n) => u64::try_from(n).ok(),
                _ => None,
            },
        };
        Ok(())
    })?;
    found
        .map(LiveAddr)
        .ok_or_else(|| call.fail(format!("`{text}` is no pointer and no number")))
}

/// Code is read from the file: breakpoints of ours stand in the process.
fn read(shell: &Shell, at: LiveAddr, len: usize) -> Option<Vec<u8>> {
    let target = &shell.source.target;
    let (low, high) = target.text();
    if (low..high).contains(&at) {
        let mut bytes = vec![0; len];
        let here = LiveAddr(target.bias.image(at).0);
        return target
            .image
            .memory()
            .read(here, &mut bytes)
            .ok()
            .map(|()| bytes);
    }
    shell.source.memory.read_vec(at, len).ok()
}

fn table(at: LiveAddr, bytes: &[u8], size: usize, format: &str) -> Option<String> {
    let columns = if format == "bin" { 4 } else { 8 };
    let mut text = String::new();
    for (row, line) in bytes.chunks(columns * size).enumerate() {
        let _ = write!(text, "{}:", at.offset((row * columns * size) as u64));
        for piece in line.chunks(size) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(piece) {
                *to = *from;
            }
            let value = u64::from_le_bytes(word);
            let _ = match format {
                "hex" | "h" | "x" => write!(text, "   0x{value:0w$x}", w = size * 2),
                "dec" | "d" => write!(
                    text,
                    "   {value:0w$}",
                    w = [3, 3, 5, 5, 10, 5, 5, 5, 20].get(size)?
                ),
                "oct" | "o" => write!(text, "   0{value:0w$o}", w = (size * 8).div_ceil(3)),
                "bin" | "b" => write!(text, "   {value:0w$b}", w = size * 8),
                _ => return None,
            };
        }
        text.push('\n');
    }
    Some(text)
}
