//! Settings of a session.

use std::fmt::Write as _;
use std::time::Duration;

use crate::script::check::nearest;
use crate::script::command::Word;
use crate::script::{ExprError, ExprKind, Literal};

/// What `config` changes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Beginnings of paths, and what stands there instead on this machine.
    pub substitute_path: Vec<(String, String)>,
    /// Goroutines that are listed at most.
    pub max_goroutines: usize,
    /// Lines that `funcs`, `types` and the like print at most.
    pub max_lines: usize,
    /// Lines of source above and below.
    pub source_lines: u32,
    /// How long a stop may last.
    pub max_stop: Option<Duration>,
    /// How long a copy may hold the target.
    pub snap_max_pause: Duration,
    /// Copies that are held at a time.
    pub snap_max_copies: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            substitute_path: Vec::new(),
            max_goroutines: 1_000,
            max_lines: 1_000,
            source_lines: 5,
            max_stop: None,
            snap_max_pause: Duration::from_millis(50),
            snap_max_copies: 4,
        }
    }
}

const NAMES: &[&str] = &[
    "substitute-path",
    "max-goroutines",
    "max-lines",
    "source-lines",
    "max-stop",
    "snap-max-pause",
    "snap-max-copies",
];

impl Config {
    /// `config NAME VALUE`, `config substitute-path FROM TO`.
    pub fn set(&mut self, words: &[Word]) -> Result<(), ExprError> {
        let Some((name, values)) = words.split_first() else {
            return Ok(());
        };
        match (name.text.as_str(), values) {
            ("substitute-path", [from, to]) => {
                self.substitute_path
                    .retain(|(known, _)| *known != from.text);
                self.substitute_path
                    .push((from.text.clone(), to.text.clone()));
            }
            ("substitute-path", [from]) => {
                self.substitute_path
                    .retain(|(known, _)| *known != from.text);
            }
            ("substitute-path", _) => {
                return Err(ExprError::new(name.span, "config substitute-path FROM TO"));
            }
            ("max-goroutines", _) => self.max_goroutines = number(name, values)?,
            ("max-lines", _) => self.max_lines = number(name, values)?,
            ("source-lines", _) => {
                self.source_lines = u32::try_from(number(name, values)?).unwrap_or(u32::MAX);
            }
            ("snap-max-pause", _) => {
                let longest = time(name, values)?;
                self.snap_max_pause = longest.unwrap_or(Duration::MAX);
            }
            ("snap-max-copies", _) => self.snap_max_copies = number(name, values)?,
            ("max-stop", _) => self.max_stop = time(name, values)?,
            (other, _) => {
                let names: Vec<String> = NAMES.iter().map(ToString::to_string).collect();
                let hint = match nearest(other, &names) {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None => format!("; there are {}", names.join(" ")),
                };
                return Err(ExprError::new(
                    name.span,
                    format!("unknown setting `{other}`{hint}"),
                ));
            }
        }
        Ok(())
    }

    /// All of them.
    pub fn list(&self) -> String {
        let mut text = String::new();
        for (from, to) in &self.substitute_path {
            let _ = writeln!(text, "substitute-path  {from} -> {to}");
        }
        if self.substitute_path.is_empty() {
            text.push_str("substitute-path  (none)\n");
        }
        let _ = writeln!(text, "max-goroutines   {}", self.max_goroutines);
        let _ = writeln!(text, "max-lines        {}", self.max_lines);
        let _ = writeln!(text, "source-lines     {}", self.source_lines);
        match self.max_stop {
            Some(longest) => drop(writeln!(text, "max-stop         {longest:?}")),
            None => text.push_str("max-stop         (none)\n"),
        }
        match self.snap_max_pause {
            Duration::MAX => text.push_str("snap-max-pause   (none)\n"),
            longest => drop(writeln!(text, "snap-max-pause   {longest:?}")),
        }
        let _ = writeln!(text, "snap-max-copies  {}", self.snap_max_copies);
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
}

/// `5s`; `none` takes the limit away.
fn time(name: &Word, values: &[Word]) -> Result<Option<Duration>, ExprError> {
    let [one] = values else {
        return Err(ExprError::new(
            name.span,
            format!("config {} 5s, or none", name.text),
        ));
    };
    if one.text == "none" {
        return Ok(None);
    }
    let parsed = crate::script::parse(&one.text).ok().map(|e| e.kind);
    match parsed {
        Some(ExprKind::Literal(Literal::Duration(ns))) if ns > 0 => {
            Ok(Some(Duration::from_nanos(ns)))
        }
        _ => Err(ExprError::new(one.span, "a time is written 5s, or none")),
    }
}

fn number(name: &Word, values: &[Word]) -> Result<usize, ExprError> {
    match values {
        [one] => one
            .text
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| ExprError::new(one.span, "a number above 0 is needed")),
        _ => Err(ExprError::new(name.span, format!("config {} N", name.text))),
    }
}
