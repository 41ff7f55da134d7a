//! Places in the program, as Delve writes them (Documentation/cli/locspec.md):
//! `*0xADDR`, `file.go:12`, `12`, `+3`, `Func`, `pkg.(*T).Method:LINE`,
//! `full/import/path.(*T).M`, `/regex/`.

use std::fmt;

use super::Word;
use super::print::Quoted;
use crate::script::error::{ExprError, Span};

/// A place, and where it is written. Equality looks at the place alone.
#[derive(Clone, Debug)]
pub struct Location {
    /// The place.
    pub place: Place,
    /// Where it is written.
    pub span: Span,
}

impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

/// The forms of a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// `*0x45f2a0`
    Address(u64),
    /// `/regex/`: every function that it fits.
    Regex(String),
    /// `12`, in the current file.
    Line(u32),
    /// `+3`, `-3`: lines from the current one.
    Offset(i64),
    /// A function or a file; which of them, only the program tells. With a
    /// line of the file.
    Named(String, Option<u32>),
}

/// What Delve's `breakpoints -save` writes for a file where a point has several
/// places (pkg/proc/breakpoints.go, `setBreakpointInternal`, Delve 1.27), with line 0.
pub const SEVERAL: &str = "<multiple locations>";

impl Location {
    /// Delve has saved no place.
    pub fn is_lost(&self) -> bool {
        matches!(&self.place, Place::Named(file, Some(0)) if file == SEVERAL)
    }

    /// Reads one word.
    pub fn parse(word: &Word) -> Result<Location, ExprError> {
        Ok(Location {
            place: parse_place(word)?,
            span: word.span,
        })
    }
}

fn parse_place(word: &Word) -> Result<Place, ExprError> {
    let text = word.text.as_str();
    let fail = |message: &str| Err(ExprError::new(word.span, message));
    if let Some(address) = text.strip_prefix('*') {
        return match number(address) {
            Some(address) => Ok(Place::Address(address)),
            None => fail("an address is written *0x45f2a0"),
        };
    }
    if let Some(rest) = text.strip_prefix('/')
        && let Some(regex) = rest.strip_suffix('/')
    {
        return match regex::Regex::new(regex) {
            _ if regex.is_empty() => fail("the regular expression is empty"),
            Ok(_) => Ok(Place::Regex(regex.to_owned())),
            Err(error) => fail(&crate::script::check::regex_message(&error)),
        };
    }
    if let Some(lines) = text.strip_prefix('+') {
        return match lines.parse::<u32>() {
            Ok(lines) => Ok(Place::Offset(i64::from(lines))),
            Err(_) => fail("lines from here are written +3"),
        };
    }
    if let Some(lines) = text.strip_prefix('-') {
        return match lines.parse::<u32>() {
            Ok(lines) => Ok(Place::Offset(-i64::from(lines))),
            Err(_) => fail("lines from here are written -3"),
        };
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(line) => Ok(Place::Line(line)),
            Err(_) => fail("a line is a number; a function's name begins with a letter"),
        };
    }
    if let Some((base, line)) = text.rsplit_once(':')
        && !base.is_empty()
        && line.starts_with(|c: char| c.is_ascii_digit())
    {
        return match line.parse::<u32>() {
            Ok(line) => Ok(Place::Named(base.to_owned(), Some(line))),
            Err(_) => fail("behind the colon stands a line's number"),
        };
    }
    if text.is_empty() {
        return fail("the location is empty");
    }
    Ok(Place::Named(text.to_owned(), None))
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(at) => write!(f, "*{at:#x}"),
            Place::Regex(regex) => write!(f, "/{regex}/"),
            Place::Line(line) => write!(f, "{line}"),
            Place::Offset(lines) => write!(f, "{lines:+}"),
            Place::Named(base, None) => f.write_str(base),
            Place::Named(base, Some(line)) => write!(f, "{base}:{line}"),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted(&self.place.to_string()).fmt(f)
    }
}
