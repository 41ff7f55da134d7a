//! Settings of a session. A setting is a field of [`Config`], its default, and a
//! row of [`SETTINGS`].

use std::fmt::Write as _;
use std::time::Duration;

use crate::script::check::nearest;
use crate::script::command::{Place, Point, Word};
use crate::script::{ExprError, ExprKind, Literal, parse};
use crate::value::Limits;

/// What `config` changes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Beginnings of paths, and what stands there instead on this machine.
    pub substitute_path: Vec<(String, String)>,
    /// Bytes of a string or byte slice that are printed.
    pub max_string_len: usize,
    /// Elements of an array, slice or map that are printed.
    pub max_array_values: usize,
    /// Pointers and structs in one another that are printed.
    pub max_variable_recurse: usize,
    /// Goroutines that are listed at most.
    pub max_goroutines: usize,
    /// Lines that `funcs`, `types` and the like print at most.
    pub max_lines: usize,
    /// Lines of source above and below.
    pub source_lines: usize,
    /// How long a stop may last.
    pub max_stop: Option<Duration>,
    /// How long a copy may hold the target.
    pub snap_max_pause: Option<Duration>,
    /// Copies that are held at a time.
    pub snap_max_copies: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            substitute_path: Vec::new(),
            max_string_len: 64,
            max_array_values: 64,
            max_variable_recurse: 1,
            max_goroutines: 1_000,
            max_lines: 1_000,
            source_lines: 5,
            max_stop: None,
            snap_max_pause: Some(Duration::from_millis(50)),
            snap_max_copies: 4,
        }
    }
}

/// How a setting is read and written.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A number above 0.
    Count(fn(&mut Config) -> &mut usize),
    /// A number, or 0.
    CountOrNone(fn(&mut Config) -> &mut usize),
    /// A time, with its unit.
    Time(fn(&mut Config) -> &mut Duration),
    /// A time, or `none`.
    TimeOrNone(fn(&mut Config) -> &mut Option<Duration>),
    /// Two paths.
    Paths,
}

/// A row of [`SETTINGS`].
#[derive(Clone, Copy)]
pub struct Setting {
    /// Its name, Delve's where Delve has it.
    pub name: &'static str,
    /// What else it is called.
    pub alias: Option<&'static str>,
    /// What it is, in a line.
    pub about: &'static str,
    /// How it is set.
    pub kind: Kind,
}

const fn row(name: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting {
        name,
        alias: None,
        about,
        kind,
    }
}

/// All settings.
pub const SETTINGS: &[Setting] = &[
    row(
        "substitute-path",
        Kind::Paths,
        "FROM TO: where sources are on this machine",
    ),
    row(
        "max-string-len",
        Kind::Count(|c| &mut c.max_string_len),
        "bytes of a string that are printed",
    ),
    row(
        "max-array-values",
        Kind::Count(|c| &mut c.max_array_values),
        "elements of arrays, slices and maps that are printed",
    ),
    row(
        "max-variable-recurse",
        Kind::CountOrNone(|c| &mut c.max_variable_recurse),
        "pointers that are followed, one in another",
    ),
    row(
        "max-goroutines",
        Kind::Count(|c| &mut c.max_goroutines),
        "goroutines that are listed at most",
    ),
    row(
        "max-lines",
        Kind::Count(|c| &mut c.max_lines),
        "lines of funcs, types, sources, vars at most",
    ),
    Setting {
        alias: Some("source-lines"),
        ..row(
            "source-list-line-count",
            Kind::Count(|c| &mut c.source_lines),
            "lines of `list` above and below",
        )
    },
    row(
        "max-stop",
        Kind::TimeOrNone(|c| &mut c.max_stop),
        "a stop that lasts longer ends by itself",
    ),
    row(
        "snap-max-pause",
        Kind::TimeOrNone(|c| &mut c.snap_max_pause),
        "the longest that a copy may hold the target",
    ),
    row(
        "snap-max-copies",
        Kind::Count(|c| &mut c.snap_max_copies),
        "copies that are held at a time",
    ),
];

/// What Delve knows besides, and has no meaning here.
const WITHOUT_MEANING: &[&str] = &[
    "aliases",
    "debug-info-directories",
    "disassemble-flavor",
    "position",
    "prompt-color",
    "show-location-expr",
    "source-list-arrow-color",
    "source-list-comment-color",
    "source-list-keyword-color",
    "source-list-line-color",
    "source-list-number-color",
    "source-list-string-color",
    "source-list-tab-color",
    "tab",
    "trace-show-timestamp",
];

impl Config {
    /// `config NAME VALUE`, `config substitute-path FROM TO`. What is to be said
    /// of it.
    pub fn set(&mut self, words: &[Word]) -> Result<Option<String>, ExprError> {
        let Some((name, values)) = words.split_first() else {
            return Ok(None);
        };
        let Some(setting) = find(&name.text) else {
            return without_meaning(name).map(Some);
        };
        match setting.kind {
            Kind::Count(field) => *field(self) = number(name, values, 1)?,
            Kind::CountOrNone(field) => *field(self) = number(name, values, 0)?,
            Kind::Time(field) => {
                *field(self) = time(name, values)?
                    .ok_or_else(|| ExprError::new(name.span, "a time above 0 is needed"))?;
            }
            Kind::TimeOrNone(field) => *field(self) = time(name, values)?,
            Kind::Paths => self.set_path(name, values)?,
        }
        Ok(None)
    }

    fn set_path(&mut self, name: &Word, values: &[Word]) -> Result<(), ExprError> {
        match values {
            [flag] if flag.text == "-clear" => self.substitute_path.clear(),
            [flag] if flag.text.starts_with('-') => {
                return Err(ExprError::new(flag.span, "the option is -clear"));
            }
            [from] => self
                .substitute_path
                .retain(|(known, _)| *known != from.text),
            [from, to] => {
                self.substitute_path
                    .retain(|(known, _)| *known != from.text);
                self.substitute_path
                    .push((from.text.clone(), to.text.clone()));
            }
            _ => return Err(ExprError::new(name.span, "config substitute-path FROM TO")),
        }
        Ok(())
    }

    /// All of them.
    pub fn list(&self) -> String {
        let mut text = String::new();
        for setting in SETTINGS {
            let name = setting.name;
            let mut own = self.clone();
            let value = match setting.kind {
                Kind::Count(field) | Kind::CountOrNone(field) => field(&mut own).to_string(),
                Kind::Time(field) => format!("{:?}", field(&mut own)),
                Kind::TimeOrNone(field) => {
                    field(&mut own).map_or("none".to_owned(), |t| format!("{t:?}"))
                }
                Kind::Paths if self.substitute_path.is_empty() => "(none)".to_owned(),
                Kind::Paths => {
                    for (from, to) in &self.substitute_path {
                        let _ = writeln!(text, "{name:<23} {from} -> {to}");
                    }
                    continue;
                }
            };
            let _ = writeln!(text, "{name:<23} {value}");
        }
        text
    }

    /// A path of the program, as it is on this machine.
    pub fn local(&self, path: &str) -> String {
        let found = self.substitute_path.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(from.as_str())?;
            Some(format!("{to}{rest}"))
        });
        found.unwrap_or_else(|| path.to_owned())
    }

    /// A path of this machine, as the program has it: what a location names.
    pub fn remote(&self, path: &str) -> String {
        let found = self.substitute_path.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(to.as_str())?;
            Some(format!("{from}{rest}"))
        });
        found.unwrap_or_else(|| path.to_owned())
    }

    /// A point whose location names a file of this machine, as the program has
    /// it.
    pub fn placed(&self, point: &Point) -> Point {
        let mut point = point.clone();
        if let Place::Named(base, Some(_)) = &mut point.location.place
            && base.contains('/')
        {
            *base = self.remote(base);
        }
        point
    }

    /// Lines of source above and below.
    pub fn lines_around(&self) -> u32 {
        u32::try_from(self.source_lines).unwrap_or(u32::MAX)
    }

    /// How much of a value is read and printed.
    pub fn limits(&self) -> Limits {
        Limits {
            depth: u32::try_from(self.max_variable_recurse).unwrap_or(u32::MAX),
            string: self.max_string_len,
            bytes: self.max_string_len,
            elements: self.max_array_values,
            fields: 1024,
            nodes: 4096,
        }
    }
}

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .find(|s| s.name == name || s.alias == Some(name))
}

/// Init files of Delve set its settings, too.
fn without_meaning(name: &Word) -> Result<String, ExprError> {
    if WITHOUT_MEANING.contains(&&*name.text) {
        return Ok(format!(
            "`config {}` has no meaning here; it is passed over",
            name.text
        ));
    }
    let names: Vec<String> = SETTINGS.iter().map(|s| s.name.to_owned()).collect();
    let hint = match nearest(&name.text, &names) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; there are {}", names.join(" ")),
    };
    Err(ExprError::new(
        name.span,
        format!("unknown setting `{}`{hint}", name.text),
    ))
}

fn number(name: &Word, values: &[Word], least: usize) -> Result<usize, ExprError> {
    match values {
        [one] => one
            .text
            .parse()
            .ok()
            .filter(|n| *n >= least)
            .ok_or_else(|| {
                ExprError::new(
                    one.span,
                    match least {
                        0 => "a number is needed",
                        _ => "a number above 0 is needed",
                    },
                )
            }),
        _ => Err(ExprError::new(name.span, format!("config {} N", name.text))),
    }
}

/// `5s`; `none` takes it away.
fn time(name: &Word, values: &[Word]) -> Result<Option<Duration>, ExprError> {
    let [one] = values else {
        let usage = format!("config {} 5s", name.text);
        return Err(ExprError::new(name.span, usage));
    };
    if one.text == "none" {
        return Ok(None);
    }
    match parse(&one.text).map(|e| e.kind) {
        Ok(ExprKind::Literal(Literal::Duration(ns))) if ns > 0 => {
            Ok(Some(Duration::from_nanos(ns)))
        }
        Ok(ExprKind::Literal(Literal::Int(0) | Literal::Duration(0))) => Ok(None),
        _ => Err(ExprError::new(
            one.span,
            format!("a duration has a unit: config {} 5s", name.text),
        )),
    }
}
