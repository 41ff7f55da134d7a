//! Locations to functions and lines of a program.
//!
//! A name is first a function's whole name as Go writes it, else the end of
//! one: `http.conn.serve`, `(*conn).serve` and `serve` stand for
//! `net/http.(*conn).serve` where nothing else ends so.

use regex::bytes::Regex;

use crate::addr::ImageAddr;
use crate::image::dwarf::LinePlaces;
use crate::image::pattern::is_generated;
use crate::image::{Function, Image, nearest};
use crate::script::ExprError;
use crate::script::command::{Location, Place};
use crate::session::Target;

/// Functions that an expression may match.
const MOST: usize = 2_000;
/// Candidates that an error names.
const NAMED: usize = 8;
/// Names that an error suggests.
const SUGGESTED: usize = 3;

/// What a location stands for.
#[derive(Clone, Debug)]
pub enum Resolved<'a> {
    /// Whole functions; named, or matched by an expression.
    Functions(Vec<Function<'a>>, bool),
    /// A line inside a function, or an instruction.
    Line {
        /// The function.
        function: Function<'a>,
        /// The first instruction of it.
        at: ImageAddr,
    },
}

/// Looks a location up. What a line of a file is, the debug information tells where
/// there is some, as Delve has it: code that was inlined stands there, too.
pub fn resolve<'a>(target: &'a Target, location: &Location) -> Result<Resolved<'a>, ExprError> {
    let image = &*target.image;
    let fail = |message: String| Err(ExprError::new(location.span, message));
    if location.is_lost() {
        return fail(
            "Delve has saved no place of what has several: set it by its function or line"
                .to_owned(),
        );
    }
    match &location.place {
        Place::Address(at) => {
            let at = ImageAddr(*at);
            match image.functions().find(at) {
                Some(f) if f.entry() == at => Ok(Resolved::Functions(vec![f], true)),
                Some(function) => Ok(Resolved::Line { function, at }),
                None => fail(format!("no function is at {at}")),
            }
        }
        Place::Line(_) | Place::Offset(_) => fail(
            "there is no current line: nothing is stopped; write FILE:LINE or a function"
                .to_owned(),
        ),
        Place::Regex(text) => match matching(image, text) {
            Ok(found) => Ok(Resolved::Functions(found, false)),
            Err(message) => fail(message),
        },
        Place::Named(base, None) => match named(image, base) {
            Ok(found) => Ok(Resolved::Functions(vec![found], true)),
            Err(message) => fail(message),
        },
        Place::Named(base, Some(line)) => match line_of(target, base, *line) {
            Ok(found) => Ok(found),
            Err(message) => fail(message),
        },
    }
}

fn matching<'a>(image: &'a Image, text: &str) -> Result<Vec<Function<'a>>, String> {
    let regex = Regex::new(text).map_err(|e| format!("bad regular expression: {e}"))?;
    let found: Vec<_> = image
        .functions()
        .iter()
        .filter(|f| regex.is_match(f.name().as_bytes()) && !is_generated(f))
        .collect();
    match found.len() {
        0 => Err(format!("no function matches /{text}/")),
        n if n > MOST => Err(format!("{n} functions match, more than {MOST}; narrow it")),
        _ => Ok(found),
    }
}

/// The one function that a name stands for.
fn named<'a>(image: &'a Image, name: &str) -> Result<Function<'a>, String> {
    let mut best: Vec<Function<'a>> = image.functions().by_name(name);
    if let Some(first) = best.first() {
        return Ok(*first);
    }
    best = image
        .functions()
        .iter()
        .filter(|f| ends_so(name, f.name_bytes()) && !is_generated(f))
        .collect();
    best.dedup_by_key(|f| f.name().into_owned());
    match best.as_slice() {
        [one] => Ok(*one),
        [] => Err(unknown(image, name)),
        many => {
            let mut names: Vec<String> = many
                .iter()
                .take(NAMED)
                .map(|f| f.name().into_owned())
                .collect();
            names.sort_unstable();
            if many.len() > NAMED {
                names.push(format!("{} more", many.len() - NAMED));
            }
            Err(format!("`{name}` is ambiguous: {}", names.join(", ")))
        }
    }
}

/// The name is the end of the whole one, from a package or a name on;
/// parentheses and stars may be left out.
fn ends_so(wanted: &str, whole: &[u8]) -> bool {
    let plain = |b: &&u8| !matches!(**b, b'(' | b')' | b'*');
    let mut wanted_bytes = wanted.as_bytes().iter().filter(plain).rev();
    let mut whole_bytes = whole.iter().filter(plain).rev();
    loop {
        match (wanted_bytes.next(), whole_bytes.next()) {
            (None, None | Some(b'/' | b'.')) => return !wanted.is_empty(),
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn unknown(image: &Image, name: &str) -> String {
    let (places, total) = image.find_inlined(&|raw| ends_so(name, raw), NAMED);
    if total > 0 {
        let callers: Vec<String> = places
            .iter()
            .map(|p| format!("{} ({}:{})", p.caller, short(&p.file), p.line))
            .collect();
        return format!(
            "`{name}` exists only inlined; its callers: {}",
            callers.join(", ")
        );
    }
    let near = nearest::names(image, name, SUGGESTED);
    if near.is_empty() {
        format!("no function is called `{name}`")
    } else {
        format!(
            "no function is called `{name}`; nearest names: {}",
            near.join(", ")
        )
    }
}

/// The file that the code of a line of a function is in.
pub(super) fn file_of(function: &Function<'_>, at: ImageAddr) -> Option<String> {
    function.file_at(at).or(function.file()).map(str::to_owned)
}

/// Without directories.
pub(super) fn short(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn line_of<'a>(target: &'a Target, base: &str, line: u32) -> Result<Resolved<'a>, String> {
    let image = &*target.image;
    let is_file = [".go", ".s", ".c", ".h", ".cc", ".cpp"]
        .iter()
        .any(|end| base.ends_with(end));
    let (file, within) = if is_file {
        (base.to_owned(), None)
    } else {
        let function = named(image, base)?;
        let file = function.file().unwrap_or_default().to_owned();
        (file, Some(function))
    };
    let mut files: Vec<&str> = Vec::new();
    let mut found: Option<(Function<'a>, ImageAddr)> = None;
    let candidates: Vec<Function<'a>> = match within {
        Some(function) => vec![function],
        None => image.functions().iter().collect(),
    };
    for function in candidates {
        let Some(own) = function.file() else { continue };
        if !path_ends_so(&file, own) {
            continue;
        }
        if !files.contains(&own) {
            files.push(own);
        }
        if function.start_line() == Some(line) && !is_generated(&function) {
            return Ok(Resolved::Functions(vec![function], true));
        }
        if let Some(at) = first_at(&function, line)
            && found.is_none_or(|(_, known)| at < known)
        {
            found = Some((function, at));
        }
    }
    // Whose code is nowhere but in others' is in no function of the table.
    if within.is_none() && (files.len() < 2 || found.is_none()) {
        match by_debug_info(target, &file, line)? {
            Some(Ok(at)) => {
                if let Some(function) = image.functions().find(at) {
                    return Ok(Resolved::Line { function, at });
                }
            }
            // Its tables know the file, and no statement there.
            Some(Err(path)) => return Err(format!("no code stands at {}:{line}", short(&path))),
            None => {}
        }
    }
    match (files.as_slice(), found) {
        ([], _) => Err(format!("no source file is called `{base}`")),
        ([_, _, ..], _) => Err(format!("`{base}` is ambiguous: {}", files.join(", "))),
        (_, Some((function, at))) => Ok(Resolved::Line { function, at }),
        (_, None) => Err(format!("no code stands at {}:{line}", short(&file))),
    }
}

/// The first of the places that the debug information has for a line, or the path of
/// the file where it has none; `None` where it does not know the file.
fn by_debug_info(
    target: &Target,
    file: &str,
    line: u32,
) -> Result<Option<Result<ImageAddr, String>>, String> {
    let Some(dwarf) = target.debug_info().map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let mut files = dwarf.source_files();
    files.retain(|path| path_ends_so(file, path));
    let [path] = files.as_slice() else {
        return match files.len() {
            0 => Ok(None),
            _ => Err(format!("`{file}` is ambiguous: {}", files.join(", "))),
        };
    };
    Ok(match dwarf.places_of_line(&target.image, path, line) {
        LinePlaces::At(all) => all.first().copied().map(Ok),
        LinePlaces::NoCode => Some(Err(path.clone())),
        LinePlaces::NoFile => None,
    })
}

/// The first instruction of a line in the function's own code.
fn first_at(function: &Function<'_>, line: u32) -> Option<ImageAddr> {
    let own = function.file()?;
    let code = function.code()?.len() as u64;
    let mut at = function.entry();
    let end = function.entry().offset(code);
    // Instructions of one line lie together: a step of a byte is exact, and a
    // function is short.
    while at < end {
        if function.line_at(at) == Some(line) && function.file_at(at) == Some(own) {
            return Some(at);
        }
        at = at.offset(1);
    }
    None
}

/// A path is another one from a directory on.
pub(super) fn path_ends_so(wanted: &str, whole: &str) -> bool {
    whole
        .strip_suffix(wanted)
        .is_some_and(|before| before.is_empty() || before.ends_with('/') || wanted.starts_with('/'))
        && (!wanted.starts_with('/') || whole == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_their_ends() {
        let whole = b"net/http.(*conn).serve";
        for wanted in [
            "net/http.conn.serve",
            "http.(*conn).serve",
            "(*conn).serve",
            "conn.serve",
            "serve",
        ] {
            assert!(ends_so(wanted, whole), "{wanted}");
        }
        for wanted in ["", "erve", "onn.serve", "p.conn.serve", "x/http.conn.serve"] {
            assert!(!ends_so(wanted, whole), "{wanted}");
        }
    }

    #[test]
    fn paths_by_their_ends() {
        assert!(path_ends_so("main.go", "/a/b/main.go"));
        assert!(path_ends_so("b/main.go", "/a/b/main.go"));
        assert!(path_ends_so("/a/b/main.go", "/a/b/main.go"));
        assert!(!path_ends_so("/b/main.go", "/a/b/main.go"));
        assert!(!path_ends_so("ain.go", "/a/b/main.go"));
    }
}
