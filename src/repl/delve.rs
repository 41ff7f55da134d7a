//! Files that Delve wrote.
//!
//! `breakpoints -save` of Delve 1.27 (pkg/terminal/command.go, `saveBreakpoints`)
//! writes the return half of `trace F` as a plain `break` on the line of F's
//! return, named `bpN` by its number, in no certain order:
//!
//! ```text
//! break bp4 /src/main.go:69
//! trace bp3 /src/main.go:63
//! ```
//!
//! A point with several places is saved as `<multiple locations>:0`: where they are
//! is not in the file ([`without_place`]).
//!
//! Run as it stands, that would stop the target at every return. Such a break
//! belongs to its trace, which tells of returns anyway.

use super::compile::plan_functions;
use super::config::Config;
use super::resolve::{Resolved, resolve};
use super::shell::Shell;
use crate::image::Function;
use crate::probe::plan::Role;
use crate::script::command::{Command, Place, Point, Script, Statement, Strength, Verb};
use crate::session::Target;

/// A point that is not set: a `break` that is the return of a traced function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Which command of the script.
    pub statement: usize,
    /// As it is named.
    pub name: String,
    /// The function.
    pub function: String,
    /// What to tell.
    pub warning: String,
}

/// The breaks of a script that are returns of functions that it traces.
pub fn returns_of_traces(target: &Target, config: &Config, script: &Script) -> Vec<Joined> {
    let points = script.statements.iter().enumerate().filter_map(|(at, s)| {
        let Command::Point(point) = &s.command else {
            return None;
        };
        Some((at, &**point))
    });
    let points: Vec<(usize, &Point)> = points.collect();
    let half = |(_, point): &&(usize, &Point)| half_name(point).is_some();
    let candidates: Vec<&(usize, &Point)> = points.iter().filter(half).collect();
    if candidates.is_empty() {
        return Vec::new();
    }
    let traces = points
        .iter()
        .filter(|(_, p)| p.strength == Strength::Trace)
        .flat_map(
            |(_, point)| match resolve(target, &config.placed(point).location) {
                Ok(Resolved::Functions(functions, true)) => functions,
                _ => Vec::new(),
            },
        );
    let returns: Vec<(String, String, u32)> =
        traces.flat_map(|f| lines_of_returns(target, &f)).collect();
    candidates
        .into_iter()
        .filter_map(|(at, point)| {
            let name = half_name(point)?;
            let placed = config.placed(point);
            let Place::Named(base, Some(line)) = &placed.location.place else {
                return None;
            };
            let is = |file: &str| file == base || file.ends_with(&format!("/{base}"));
            let (function, ..) = returns.iter().find(|(_, f, l)| l == line && is(f))?;
            Some(Joined {
                statement: *at,
                name: name.to_owned(),
                function: function.clone(),
                warning: format!(
                    "`{name}` at {} is a return of {function}, as Delve saves the second half of \
                     a trace: it belongs to that trace, and stops nothing",
                    placed.location
                ),
            })
        })
        .collect()
}

/// The points of a script that Delve has saved without a place, because they had
/// several (a function of type parameters, a line in inlined code).
pub fn without_place(script: &Script) -> Vec<Joined> {
    let lost = |(at, statement): (usize, &Statement)| {
        let Command::Point(point) = &statement.command else {
            return None;
        };
        if !point.location.is_lost() {
            return None;
        }
        let name = point.name.as_ref().map_or("?", |n| n.text.as_str());
        Some(Joined {
            statement: at,
            name: name.to_owned(),
            function: String::new(),
            warning: format!(
                "`{name}` has several places, and Delve saves none of them: set it by its function \
                 or line; it and what belongs to it is left out"
            ),
        })
    };
    script
        .statements
        .iter()
        .enumerate()
        .filter_map(lost)
        .collect()
}

impl Shell {
    /// It is about a break that belongs to a trace.
    pub(super) fn is_of_joined(&self, statement: &Statement) -> bool {
        let id = match &statement.command {
            Command::On(id, _) | Command::Condition(id, _) => id,
            Command::Plain(Verb::Toggle | Verb::Clear, words, _) => match words.as_slice() {
                [id] => id,
                _ => return false,
            },
            _ => return false,
        };
        self.joined.contains(&id.text) && self.points().find(&id.text).is_none()
    }
}

/// The name of what may be such a half: `bpN`, at a line, with nothing else.
fn half_name(point: &Point) -> Option<&str> {
    let name = point.name.as_ref()?.text.as_str();
    let number = name.strip_prefix("bp")?;
    let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let bare = point.condition.is_none() && point.actions.is_none();
    let at_line = matches!(point.location.place, Place::Named(_, Some(_)));
    (point.strength == Strength::Break && numbered && bare && at_line).then_some(name)
}

/// Function, file and line of each of its returns.
fn lines_of_returns(target: &Target, function: &Function<'_>) -> Vec<(String, String, u32)> {
    let Ok(plan) = plan_functions(&target.image, &[*function]) else {
        return Vec::new();
    };
    let returns = plan.sites.iter().filter(|site| {
        let of_call = |role: &Role| matches!(role, Role::Return(_));
        site.roles.iter().any(of_call)
    });
    returns
        .filter_map(|site| {
            let line = function.line_at(site.at)?;
            let file = function.file_at(site.at).or_else(|| function.file())?;
            Some((function.name().into_owned(), file.to_owned(), line))
        })
        .collect()
}
