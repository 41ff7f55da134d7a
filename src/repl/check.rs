//! What is wrong with a script, found without touching a process.

use std::path::Path;
use std::sync::Arc;

use super::asked::ask;
use super::blocks::wrong_in;
use super::breaks::{PointPlace, condition_of};
use super::compile::{self, Compiled};
use super::config::Config;
use super::names::PointNames;
use crate::script::check::nearest;
use crate::script::command::{
    Command, Script, Standing, Statement, Strength, Test, Verb, Word, parse_script,
};
use crate::script::{Expr, ExprError};
use crate::session::Target;

/// Files that name files that name files.
const MAX_SOURCES: usize = 8;

/// One error, rendered: `FILE:LINE:COLUMN: message`, the line, a caret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found(pub String);

/// What an earlier command of the script has set.
struct Known {
    id: String,
    name: Option<String>,
    names: PointNames,
    functions: Vec<(u32, Arc<str>)>,
    /// Of a `break` or `snap`, where it stands.
    places: Vec<PointPlace>,
    is_trace: bool,
    is_line: bool,
}

/// Finds every error of a script's text. `name` is the file's, for messages
/// and for finding those that it names.
pub fn check(program: Option<&Target>, name: &str, text: &str) -> Vec<Found> {
    let mut checker = Checker {
        program,
        points: Vec::new(),
        depth: 0,
        found: Vec::new(),
        config: Config::default(),
    };
    checker.file(name, text);
    checker.found
}

struct Checker<'a> {
    program: Option<&'a Target>,
    points: Vec<Known>,
    depth: usize,
    found: Vec<Found>,
    config: Config,
}

impl Checker<'_> {
    fn file(&mut self, name: &str, text: &str) {
        let parsed = parse_script(text);
        let mut errors = parsed.errors;
        let mut nested = Vec::new();
        self.script(&parsed.script, name, &mut errors, &mut nested);
        errors.sort_by_key(|e| e.span.start);
        let rendered = errors.iter().map(|e| Found(e.render_at(name, text)));
        self.found.extend(rendered);
        self.found.extend(nested);
    }

    fn script(
        &mut self,
        script: &Script,
        name: &str,
        errors: &mut Vec<ExprError>,
        nested: &mut Vec<Found>,
    ) {
        for (at, statement) in script.statements.iter().enumerate() {
            if statement.command == Command::StopOnError && at > 0 {
                errors.push(ExprError::new(
                    statement.span,
                    "`set -e` stands at the head of a script",
                ));
            }
            if let Command::Plain(Verb::Source, words, None) = &statement.command {
                self.source(words, statement, name, errors, nested);
                continue;
            }
            self.statement(statement, errors);
        }
    }

    /// A file that the script names.
    fn source(
        &mut self,
        words: &[Word],
        statement: &Statement,
        name: &str,
        errors: &mut Vec<ExprError>,
        nested: &mut Vec<Found>,
    ) {
        let [file] = words else {
            errors.push(ExprError::new(statement.span, "which file? source FILE"));
            return;
        };
        if self.depth >= MAX_SOURCES {
            errors.push(ExprError::new(
                file.span,
                format!("more than {MAX_SOURCES} files, one in another"),
            ));
            return;
        }
        let path = beside(name, &file.text);
        match std::fs::read_to_string(&path) {
            Err(error) => errors.push(ExprError::new(
                file.span,
                format!("cannot read {}: {error}", path.display()),
            )),
            Ok(text) => {
                self.depth += 1;
                let before = std::mem::take(&mut self.found);
                self.file(&path.display().to_string(), &text);
                nested.append(&mut self.found);
                self.found = before;
                self.depth -= 1;
            }
        }
    }

    fn statement(&mut self, statement: &Statement, errors: &mut Vec<ExprError>) {
        match &statement.command {
            Command::Point(point) if point.location.is_lost() => {
                // It is left out when the script runs.
                self.points.push(Known {
                    id: (self.points.len() + 1).to_string(),
                    name: point.name.as_ref().map(|n| n.text.clone()),
                    names: PointNames::unknown_program(),
                    functions: Vec::new(),
                    places: Vec::new(),
                    is_trace: false,
                    is_line: false,
                });
            }
            Command::Point(point) => {
                let compiled = compile::compile(self.program, &self.config.placed(point));
                let compiled = match compiled {
                    Ok(compiled) => compiled,
                    Err(found) => {
                        errors.extend(found);
                        Compiled {
                            names: PointNames::unknown_program(),
                            ..Compiled::default()
                        }
                    }
                };
                let is_trace = point.strength == Strength::Trace && compiled.places.is_empty();
                self.points.push(Known {
                    id: (self.points.len() + 1).to_string(),
                    name: point.name.as_ref().map(|n| n.text.clone()),
                    names: compiled.names,
                    functions: compiled.functions,
                    places: compiled.places,
                    is_trace,
                    is_line: point.strength == Strength::Trace,
                });
            }
            Command::Every(_, block) | Command::OnExit(block) => {
                for inner in block {
                    self.statement(inner, errors);
                }
            }
            Command::On(id, block) => match self.point(id) {
                Ok(known) if !known.places.is_empty() && known.is_line => {
                    let names = (&known.names, &*known.places);
                    let found = super::breaks::line_actions(self.program, names, block);
                    errors.extend(found.err().unwrap_or_default());
                }
                Ok(known) if !known.is_trace => {
                    errors.extend(wrong_in(self.program, &known.places, block));
                }
                Ok(known) => {
                    errors.extend(self.asked(known, None, block));
                }
                Err(error) => errors.push(error),
            },
            Command::Condition(id, test) => match (self.point(id), test) {
                (Ok(known), Test::Holds(expr)) if !known.is_trace => {
                    let found = condition_of(self.program, &known.names, &known.places, expr);
                    errors.extend(found.err());
                }
                (Ok(known), Test::Holds(expr)) => {
                    errors.extend(self.asked(known, Some(expr), &[]));
                }
                (Ok(_), Test::Hits(..) | Test::HitsPerGoroutine(..) | Test::Cleared) => {}
                (Err(error), _) => errors.push(error),
            },
            // What a goroutine's frame will have, nobody knows now.
            Command::Print(_) | Command::Whatis(_) | Command::For(_) | Command::StopOnError => {}
            Command::Plain(verb, words, then) => {
                if let Err(error) = self.plain(*verb, words, statement) {
                    errors.push(error);
                }
                if let Some(then) = then {
                    self.statement(then, errors);
                }
            }
        }
    }

    fn plain(&mut self, verb: Verb, words: &[Word], at: &Statement) -> Result<(), ExprError> {
        usable(verb, at)?;
        match verb {
            Verb::Clear | Verb::Toggle => match words {
                [id] => self.point(id).map(drop),
                [] => Err(ExprError::new(
                    at.span,
                    format!("which one? {} 1", verb.name()),
                )),
                [_, extra, ..] => Err(ExprError::new(extra.span, "one ID is enough")),
            },
            Verb::Config => match words.first() {
                Some(flag) if flag.text == "-list" => Ok(()),
                _ => self.config.set(words).map(drop),
            },
            Verb::Help => match words.first() {
                Some(word) if Verb::by_name(&word.text).is_none() => Err(ExprError::new(
                    word.span,
                    format!("there is no command `{}`", word.text),
                )),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// What is wrong with a condition and actions of a tracepoint.
    fn asked(
        &self,
        known: &Known,
        condition: Option<&Expr>,
        actions: &[Statement],
    ) -> Vec<ExprError> {
        let functions = &known.functions;
        let program = self.program.filter(|_| !functions.is_empty());
        ask(program, functions, &known.names, condition, actions)
            .err()
            .unwrap_or_default()
    }

    fn point(&self, id: &Word) -> Result<&Known, ExprError> {
        let is = |p: &&Known| p.id == id.text || p.name.as_deref() == Some(&*id.text);
        if let Some(known) = self.points.iter().find(is) {
            return Ok(known);
        }
        let all: Vec<String> = self
            .points
            .iter()
            .map(|p| p.name.clone().unwrap_or_else(|| p.id.clone()))
            .collect();
        let hint = match nearest(&id.text, &all) {
            Some(near) => format!("; did you mean `{near}`?"),
            None if all.is_empty() => "; there are none yet".to_owned(),
            None => format!("; there are {}", all.join(" ")),
        };
        Err(ExprError::new(
            id.span,
            format!("there is no tracepoint `{}`{hint}", id.text),
        ))
    }
}

/// The command can be done at all, outside of a trace's block.
pub fn usable(verb: Verb, at: &Statement) -> Result<(), ExprError> {
    match verb.info().standing {
        Standing::Works => Ok(()),
        Standing::LeftOut(why) => Err(ExprError::new(at.span, why)),
    }
}

/// A file named in another: beside that one.
pub fn beside(script: &str, file: &str) -> std::path::PathBuf {
    match Path::new(script).parent() {
        Some(folder) if Path::new(file).is_relative() => folder.join(file),
        _ => file.into(),
    }
}
