//! What Tab offers, and the hints behind what is typed.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::config::SETTINGS;
use super::points::{Points, Tracepoint};
use crate::image::dwarf::PackageName;
use crate::image::pattern::is_generated;
use crate::script::CALL_FACTS;
use crate::script::command::{VERBS, Verb, is_incomplete};
use crate::session::Target;
use crate::session::look::{Source, Wanted, look};

/// Candidates that are offered at most.
const MOST: usize = 500;
/// Goroutines whose numbers are offered: more are looked for too long.
const MOST_GOROUTINES: usize = 100_000;

/// Where candidates come from.
pub struct Offers {
    /// The program.
    pub target: Arc<Target>,
    /// The process.
    pub pid: Option<i32>,
    /// The core file and its executable.
    pub core: Option<(PathBuf, Option<PathBuf>)>,
    /// The tracepoints.
    pub points: Arc<Mutex<Points>>,
    /// Variables of the chosen frame.
    pub in_scope: Arc<Mutex<Vec<String>>>,
}

/// The editor's helper.
pub struct Assistant {
    offers: Offers,
    files: FilenameCompleter,
    history: HistoryHinter,
    /// Opened when goroutines are first asked for.
    source: OnceCell<Option<Source>>,
    /// `source FILE` of names.
    functions: OnceCell<Vec<String>>,
    /// Package variables, by their full names.
    variables: OnceCell<Vec<String>>,
    /// Source files, as locations begin with them.
    sources: OnceCell<Vec<String>>,
}

impl Assistant {
    /// From these.
    pub fn new(offers: Offers) -> Assistant {
        Assistant {
            offers,
            files: FilenameCompleter::new(),
            history: HistoryHinter {},
            source: OnceCell::new(),
            functions: OnceCell::new(),
            variables: OnceCell::new(),
            sources: OnceCell::new(),
        }
    }

    fn functions(&self) -> &[String] {
        self.functions.get_or_init(|| {
            let image = &self.offers.target.image;
            let mut names: Vec<String> = image
                .functions()
                .iter()
                .filter(|f| !is_generated(f))
                .map(|f| f.name().into_owned())
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        })
    }

    /// Functions whose name begins so, or whose name behind the path does.
    fn functions_like(&self, start: &str) -> Vec<String> {
        let fits = |name: &&String| {
            let last = name.rsplit('/').next().unwrap_or(name);
            name.starts_with(start) || last.starts_with(start)
        };
        let found = self.functions().iter().filter(fits);
        found.take(MOST).cloned().collect()
    }

    /// Where something may be set: functions, and source files before their lines.
    fn places_like(&self, start: &str) -> Vec<String> {
        let mut all = self.functions_like(start);
        let files = self.sources.get_or_init(|| {
            let functions = self.offers.target.image.functions();
            let files: BTreeSet<&str> = functions.iter().filter_map(|f| f.file()).collect();
            let named = files.into_iter().map(|file| format!("{file}:"));
            named.collect()
        });
        for file in files {
            let last = file.rsplit('/').next().unwrap_or(file);
            if last.starts_with(start) {
                all.push(last.to_owned());
            } else if file.starts_with(start) {
                all.push(file.clone());
            }
        }
        // Files of many packages have the same name.
        all.sort_unstable();
        all.dedup();
        all.truncate(MOST);
        all
    }

    /// Threads of the process.
    fn threads(&self) -> Vec<String> {
        let tasks = self.offers.pid.map(|pid| format!("/proc/{pid}/task"));
        let tasks = tasks.and_then(|path| std::fs::read_dir(path).ok());
        let names = tasks.into_iter().flatten().flatten();
        names
            .filter_map(|task| task.file_name().into_string().ok())
            .collect()
    }

    fn goroutines(&self) -> Vec<String> {
        let source = self.source.get_or_init(|| match &self.offers.core {
            Some((core, program)) => Source::core(core, program.as_deref()).ok(),
            None => Source::process(self.offers.pid?).ok(),
        });
        let Some(survey) = source.as_ref().and_then(|source| {
            look(
                source,
                &Wanted {
                    each: true,
                    ..Wanted::default()
                },
            )
            .ok()
        }) else {
            return Vec::new();
        };
        let shown = survey.goroutines.iter().take(MOST_GOROUTINES);
        shown.map(|e| e.goid.to_string()).collect()
    }

    fn package_variables(&self) -> &[String] {
        self.variables.get_or_init(|| {
            let Ok(Some(dwarf)) = self.offers.target.debug_info() else {
                return Vec::new();
            };
            let all = dwarf.package_names(&|_| true).into_iter();
            let mut names: Vec<String> = all
                .filter(|(_, what)| matches!(what, PackageName::Variable(_)))
                .map(|(name, _)| name)
                .collect();
            names.sort_unstable();
            names
        })
    }

    /// What may stand in an expression: variables of the chosen frame, of its
    /// package, or of main where none is chosen, by their bare names, those of all
    /// packages by the package's short name, facts.
    fn in_expressions(&self, start: &str) -> Vec<String> {
        let in_scope = self.offers.in_scope.lock();
        let mut all = in_scope.unwrap_or_else(PoisonError::into_inner).clone();
        if all.is_empty() {
            let own = self.package_variables().iter();
            let bare = own.filter_map(|n| n.strip_prefix("main."));
            all.extend(bare.map(str::to_owned));
        }
        all.extend(facts());
        if !start.is_empty() {
            let own = self.package_variables().iter();
            all.extend(own.map(|n| n.rsplit('/').next().unwrap_or(n).to_owned()));
        }
        all
    }

    fn points(&self) -> Vec<String> {
        let points = self.offers.points.lock();
        let points = points.unwrap_or_else(PoisonError::into_inner);
        points.all().iter().map(Tracepoint::label).collect()
    }

    /// The words that may stand where `start` begins, after `before`.
    fn candidates(&self, before: &str, start: &str) -> Vec<String> {
        // Behind `{` or `;` a command begins, and so does it after some words.
        let last = before.rsplit(['{', ';', '\n']).next().unwrap_or(before);
        let words: Vec<&str> = last.split_whitespace().collect();
        let verb = words.first().and_then(|w| Verb::by_name(w));
        let all: Vec<String> = match (verb, words.as_slice()) {
            (_, []) => VERBS.iter().map(|row| row.name.to_owned()).collect(),
            (Some(Verb::Help), [_]) => VERBS.iter().map(|row| row.name.to_owned()).collect(),
            (Some(Verb::On), [_]) => {
                let mut all = self.points();
                all.push("exit".to_owned());
                all
            }
            (Some(Verb::On), [_, _]) => [Verb::Print, Verb::Args, Verb::Stack]
                .map(|v| v.name().to_owned())
                .to_vec(),
            (Some(Verb::Clear | Verb::Toggle | Verb::Condition), [_]) => self.points(),
            (Some(Verb::Goroutine | Verb::Stack), [_]) => self.goroutines(),
            (Some(Verb::Goroutine), [_, _]) => AT_A_GOROUTINE.map(|v| v.name().to_owned()).to_vec(),
            (Some(Verb::Thread), [_]) => self.threads(),
            (Some(Verb::Snapshot), [_]) => vec!["live".to_owned(), "drop".to_owned()],
            (Some(verb), words) if takes_expression(verb, words) => self.in_expressions(start),
            (Some(Verb::Vars), _) => self.package_variables().to_vec(),
            (Some(Verb::Goroutines), words) => match words.last() {
                Some(&("-with" | "-without" | "-group")) => [
                    "user", "curr", "go", "start", "state", "reason", "peer", "label", "stack",
                ]
                .map(str::to_owned)
                .to_vec(),
                _ => ["-with", "-without", "-group", "-t", "-exec"]
                    .map(str::to_owned)
                    .to_vec(),
            },
            (Some(Verb::Config), [_]) => SETTINGS.iter().map(|s| s.name.to_owned()).collect(),
            (Some(Verb::Types), _) => self.offers.target.types.listed_names(),
            (Some(Verb::Funcs | Verb::Disassemble), _) => return self.functions_like(start),
            (Some(Verb::Trace | Verb::Break | Verb::Snap | Verb::List | Verb::ClearAll), _) => {
                return self.places_like(start);
            }
            _ => Vec::new(),
        };
        let fits = |name: &String| name.starts_with(start);
        all.into_iter().filter(fits).take(MOST).collect()
    }
}

/// What is asked of a goroutine behind its number.
const AT_A_GOROUTINE: [Verb; 6] = [
    Verb::Stack,
    Verb::Frame,
    Verb::Locals,
    Verb::Args,
    Verb::Print,
    Verb::Deferred,
];

/// Whether an expression follows these words of a command.
fn takes_expression(verb: Verb, words: &[&str]) -> bool {
    match verb {
        Verb::Print | Verb::Whatis | Verb::Set | Verb::Display | Verb::ExamineMem => true,
        Verb::Condition => words.len() > 1,
        Verb::Trace | Verb::Break | Verb::Snap => words.contains(&"if"),
        _ => false,
    }
}

/// Whether the name of a file on disk does.
fn takes_file(verb: Verb, words: &[&str]) -> bool {
    match verb {
        Verb::Source | Verb::Transcript | Verb::Dump => true,
        Verb::Breakpoints => words.contains(&"-save"),
        _ => false,
    }
}

fn facts() -> Vec<String> {
    CALL_FACTS.iter().map(|row| row.name.to_owned()).collect()
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        ctx: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..pos).unwrap_or(line);
        // In an expression a name begins behind an operator, too.
        let last = typed.rsplit(['{', ';', '\n']).next().unwrap_or(typed);
        let words: Vec<&str> = last.split_whitespace().collect();
        let verb = words.first().and_then(|word| Verb::by_name(word));
        let expression = verb.is_some_and(|verb| takes_expression(verb, &words));
        let start = typed
            .rfind(|c: char| {
                c.is_whitespace()
                    || matches!(c, '{' | ';' | ',')
                    || expression && "()[]!&|=<>+-*:".contains(c)
            })
            .map_or(0, |at| {
                at + typed
                    .get(at..)
                    .and_then(|t| t.chars().next())
                    .map_or(1, char::len_utf8)
            });
        let before = typed.get(..start).unwrap_or("");
        let word = typed.get(start..).unwrap_or("");
        if last.trim_start().contains(' ') && verb.is_some_and(|verb| takes_file(verb, &words)) {
            return self.files.complete(line, pos, ctx);
        }
        let found = self.candidates(before, word);
        let pairs = found.into_iter().map(|text| Pair {
            display: text.clone(),
            replacement: text,
        });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, ctx: &Context<'_>) -> Option<String> {
        if pos < line.len() || line.is_empty() {
            return None;
        }
        if let Some(hint) = self.history.hint(line, pos, ctx) {
            return Some(hint);
        }
        // Behind a command's name and a space: what may follow.
        let name = line.strip_suffix(' ')?;
        let usage = Verb::by_name(name)?.info().usage;
        (!usage.is_empty()).then(|| usage.to_owned())
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Validator for Assistant {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_incomplete(ctx.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

impl Helper for Assistant {}
