//! Patterns that name functions: an exact Go name, else an unanchored regular
//! expression.
//!
//! Functions that the compiler made (wrappers, `type..eq…`, `.abi0` twins) and
//! C functions answer only to their exact names.

use std::collections::HashSet;

use regex::bytes::Regex;

use super::Image;
use super::function::{Function, decode_name};
use super::inline::{self, InlinedAt};
use super::nearest;

/// Places that an error names.
const SHOWN: usize = 4;
/// Names that an error suggests.
const SUGGESTED: usize = 3;

/// Bounds on what patterns may match.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// More functions than this are an error.
    pub max_matches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_matches: 2_000 }
    }
}

/// A function that a pattern names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match<'a> {
    /// The function.
    pub function: Function<'a>,
    /// The pattern was its name, not an expression that also fits others.
    pub exact: bool,
    /// Which of the patterns (the first, when several fit).
    pub pattern: usize,
}

/// Why patterns name nothing that can be traced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A valid expression that fits no function.
    #[error("no function matches {pattern:?}{}", suggestions(nearest))]
    NoMatch {
        /// As typed.
        pattern: String,
        /// Names much like it, nearest first.
        nearest: Vec<String>,
    },
    /// Neither a function's name nor a valid expression.
    #[error(
        "{pattern:?} is neither a function's name nor a valid regular expression ({reason}){}",
        suggestions(nearest)
    )]
    BadExpression {
        /// As typed.
        pattern: String,
        /// What the expression's parser says.
        reason: String,
        /// Names much like it, nearest first.
        nearest: Vec<String>,
    },
    /// Every function that fits was inlined everywhere.
    #[error(
        "{} only inlined, there is no code of its own to trace; {}",
        inlined_subject(functions),
        inlined_callers(places, *total)
    )]
    InlinedOnly {
        /// As typed.
        pattern: String,
        /// The functions that fit.
        functions: Vec<String>,
        /// Where their bodies are, in order of address: the first few.
        places: Vec<InlinedAt>,
        /// How many places there are.
        total: usize,
    },
    /// Only functions made by the compiler fit, and they must be named.
    #[error(
        "{pattern:?} matches only functions made by the compiler ({}); name the whole function to trace one",
        examples.join(", ")
    )]
    GeneratedOnly {
        /// As typed.
        pattern: String,
        /// A few of them.
        examples: Vec<String>,
    },
    /// More functions than allowed.
    #[error(
        "{count} functions match, more than {max}; narrow the pattern or raise the bound (--max-matches {count})"
    )]
    TooMany {
        /// How many matched.
        count: usize,
        /// The bound.
        max: usize,
    },
}

fn suggestions(nearest: &[String]) -> String {
    if nearest.is_empty() {
        String::new()
    } else {
        format!("; nearest names: {}", nearest.join(", "))
    }
}

fn inlined_subject(functions: &[String]) -> String {
    let shown = functions.get(..SHOWN).unwrap_or(functions).join(", ");
    let more = functions.len().saturating_sub(SHOWN);
    match (functions.len(), more) {
        (..=1, _) => format!("{shown} exists"),
        (_, 0) => format!("{shown} exist"),
        (_, more) => format!("{shown} and {more} more exist"),
    }
}

fn inlined_callers(places: &[InlinedAt], total: usize) -> String {
    let shown: Vec<String> = places
        .iter()
        .map(|place| {
            let file = place.file.rsplit('/').next().unwrap_or_default();
            format!("{} ({file}:{})", place.caller, place.line)
        })
        .collect();
    let more = match total.saturating_sub(places.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = shown.join(", ");
    format!("its callers: {shown}{more}; trace those, or build with -gcflags=all=-l")
}

/// The functions that the patterns name, without duplicates, in order of
/// address.
pub fn resolve<'a, S: AsRef<str>>(
    image: &'a Image,
    patterns: &[S],
    limits: &Limits,
) -> Result<Vec<Match<'a>>, PatternError> {
    let names: Vec<&str> = patterns.iter().map(AsRef::as_ref).collect();
    let named = image.functions().by_names(&names);
    let mut matches = Vec::new();
    let mut inlined = None;
    for (n, (pattern, exact)) in names.iter().zip(named).enumerate() {
        let (functions, exact) = match resolve_one(image, pattern, exact) {
            Ok(found) => found,
            // The others are traced all the same; [`inlined`] tells of this one.
            Err(error @ PatternError::InlinedOnly { .. }) => {
                inlined.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        matches.extend(functions.into_iter().map(|function| Match {
            function,
            exact,
            pattern: n,
        }));
    }
    if let (Some(error), true) = (inlined, matches.is_empty()) {
        return Err(error);
    }
    // A function may fit several patterns: it is exact if one of them is.
    matches.sort_by_key(|m| (m.function.index(), !m.exact, m.pattern));
    matches.dedup_by_key(|m| m.function.index());
    if matches.len() > limits.max_matches {
        return Err(PatternError::TooMany {
            count: matches.len(),
            max: limits.max_matches,
        });
    }
    Ok(matches)
}

/// A function that was asked for and has calls that no site sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inlined {
    /// Its body is in others, too; else it has none of its own.
    pub too: bool,
    /// In how many places.
    pub places: usize,
    /// The first of them.
    pub first: InlinedAt,
}

impl std::fmt::Display for Inlined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.first.file.rsplit('/').next().unwrap_or_default();
        let more = match self.places.saturating_sub(1) {
            0 => String::new(),
            more => format!(" and {more} more places"),
        };
        write!(
            f,
            "{} is {} in {} ({file}:{}){more}: those calls are not seen",
            self.first.function,
            if self.too {
                "inlined, too,"
            } else {
                "only inlined,"
            },
            self.first.caller,
            self.first.line,
        )
    }
}

/// Of the functions that the patterns name, and of `names`, those that were
/// inlined somewhere, whether they have a body of their own as well or not.
pub fn inlined<S: AsRef<str>>(image: &Image, patterns: &[S], names: &[&str]) -> Vec<Inlined> {
    let mut exact: HashSet<&str> = names.iter().copied().collect();
    let mut expressions = Vec::new();
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let is_name = !image.functions().by_name(pattern).is_empty();
        exact.insert(pattern);
        if !is_name && let Ok(expression) = Regex::new(pattern) {
            expressions.push(expression);
        }
    }
    let wanted = |name: &[u8]| {
        let decoded;
        let text = if name.contains(&b'%') {
            decoded = decode_name(name).into_owned();
            Some(&*decoded)
        } else {
            std::str::from_utf8(name).ok()
        };
        text.is_some_and(|t| exact.contains(t)) || expressions.iter().any(|e| fits(e, name))
    };
    let found = inline::count_inlined(image, &wanted);
    let of: Vec<&str> = found.iter().map(|(at, _)| &*at.function).collect();
    let bodies: Vec<bool> = image
        .functions()
        .by_names(&of)
        .iter()
        .map(|bodies| !bodies.is_empty())
        .collect();
    let all = found.into_iter().zip(bodies);
    all.map(|((first, places), too)| Inlined { too, places, first })
        .collect()
}

/// The functions of one pattern, and whether they were named exactly.
fn resolve_one<'a>(
    image: &'a Image,
    pattern: &str,
    named: Vec<Function<'a>>,
) -> Result<(Vec<Function<'a>>, bool), PatternError> {
    if !named.is_empty() {
        return Ok((bodies(named), true));
    }
    if let Some(twins) = abi0_twins(image, pattern) {
        return Ok((twins, true));
    }
    let is_name = |name: &[u8]| {
        name == pattern.as_bytes() || name.contains(&b'%') && decode_name(name) == pattern
    };
    inlined_only(image, pattern, &is_name)?;
    let expression = Regex::new(pattern);
    if let Ok(expression) = &expression {
        let found: Vec<_> = image
            .functions()
            .iter()
            .filter(|f| fits(expression, f.name_bytes()) && !is_generated(f))
            .collect();
        if !found.is_empty() {
            return Ok((found, false));
        }
    }
    let spelled: Vec<_> = image
        .functions()
        .iter()
        .filter(|f| is_spelled(pattern.as_bytes(), f.name_bytes()))
        .collect();
    if !spelled.is_empty() {
        return Ok((bodies(spelled), true));
    }
    inlined_only(image, pattern, &|name| is_spelled(pattern.as_bytes(), name))?;
    let nearest = || nearest::names(image, pattern, SUGGESTED);
    match expression {
        Ok(expression) => {
            inlined_only(image, pattern, &|name| fits(&expression, name))?;
            let fitting = image.functions().iter();
            let examples: Vec<_> = fitting
                .filter(|f| fits(&expression, f.name_bytes()))
                .take(SUGGESTED)
                .map(|f| f.name().into_owned())
                .collect();
            if !examples.is_empty() {
                return Err(PatternError::GeneratedOnly {
                    pattern: pattern.to_owned(),
                    examples,
                });
            }
            Err(PatternError::NoMatch {
                pattern: pattern.to_owned(),
                nearest: nearest(),
            })
        }
        Err(error) => Err(PatternError::BadExpression {
            pattern: pattern.to_owned(),
            reason: reason(&error),
            nearest: nearest(),
        }),
    }
}

/// Where a name has both a body and wrappers, the body.
fn bodies(mut functions: Vec<Function<'_>>) -> Vec<Function<'_>> {
    if functions.iter().any(|f| !f.is_wrapper()) {
        functions.retain(|f| !f.is_wrapper());
    }
    functions
}

/// `runtime.memmove.abi0`, as symbol tables have it: of the functions that
/// share the name, the assembly body, or else the wrapper for assembly callers.
fn abi0_twins<'a>(image: &'a Image, pattern: &str) -> Option<Vec<Function<'a>>> {
    let mut found = image.functions().by_name(pattern.strip_suffix(".abi0")?);
    if found.iter().any(Function::is_asm) {
        found.retain(Function::is_asm);
    } else {
        found.retain(Function::is_wrapper);
    }
    (!found.is_empty()).then_some(found)
}

fn inlined_only(
    image: &Image,
    pattern: &str,
    matches: &dyn Fn(&[u8]) -> bool,
) -> Result<(), PatternError> {
    let (mut places, total) = inline::find_inlined(image, matches, usize::MAX);
    if total == 0 {
        return Ok(());
    }
    let mut functions: Vec<String> = places.iter().map(|p| p.function.clone()).collect();
    functions.sort_unstable();
    functions.dedup();
    // A caller that inlined it twice at one line is named once.
    places.dedup_by(|a, b| a.caller == b.caller && a.line == b.line);
    let total = places.len();
    places.truncate(SHOWN);
    Err(PatternError::InlinedOnly {
        pattern: pattern.to_owned(),
        functions,
        places,
        total,
    })
}

fn fits(expression: &Regex, name: &[u8]) -> bool {
    if name.contains(&b'%') {
        expression.is_match(decode_name(name).as_bytes())
    } else {
        expression.is_match(name)
    }
}

/// Made by the compiler or the linker, or not Go's at all: nobody means it
/// unless they name it. Closures are not, nor are method values (`-fm`).
pub fn is_generated(function: &Function<'_>) -> bool {
    let name = function.name_bytes();
    if name.ends_with(b"-fm") {
        return false;
    }
    is_linkers_own(name) || function.is_wrapper() || function.is_autogenerated()
}

/// Names that no source has: C functions, static assembly, `type:.eq…`.
pub(crate) fn is_linkers_own(name: &[u8]) -> bool {
    // Before Go 1.20 the linker's own prefixes were `type.` and `go.`.
    let prefixes: [&[u8]; 4] = [b"type:", b"type..", b"go:", b"go.buildid"];
    !name.contains(&b'.') || prefixes.iter().any(|p| name.starts_with(p))
}

/// People write `net.conn.Read`, `(*net.conn).Read` or `http.(*conn).serve`
/// for `net.(*conn).Read` and `net/http.(*conn).serve`.
fn is_spelled(pattern: &[u8], name: &[u8]) -> bool {
    let plain = |b: &&u8| !matches!(**b, b'(' | b')' | b'*');
    let mut wanted = pattern.iter().filter(plain).rev();
    let mut actual = name.iter().filter(plain).rev();
    loop {
        match (wanted.next(), actual.next()) {
            (None, None | Some(b'/')) => return !pattern.is_empty(),
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// The one line of the parser's several that says what is wrong.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().rfind(|l| !l.trim().is_empty());
    let line = line.unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_spell_a_method() {
        let name = b"net/http.(*conn).serve";
        for spelled in [
            "net/http.conn.serve",
            "http.(*conn).serve",
            "http.conn.serve",
            "(*http.conn).serve",
        ] {
            assert!(is_spelled(spelled.as_bytes(), name), "{spelled}");
        }
        for other in [
            "conn.serve",
            "p.conn.serve",
            "serve",
            "",
            "x/http.conn.serve",
        ] {
            assert!(!is_spelled(other.as_bytes(), name), "{other}");
        }
    }

    #[test]
    fn a_bad_expression_is_explained_in_one_line() {
        let typed = String::from("net.(*conn).Raed");
        let error = Regex::new(&typed).unwrap_err();
        assert_eq!(reason(&error), "repetition operator missing expression");
    }
}
