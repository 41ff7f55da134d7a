//! The blocks of breakpoints and snaps, looked at when they are set: the commands of
//! one are run where the point stands, so its variables are known there.

use super::check::usable;
use super::compile::PointPlaces;
use crate::image::dwarf::ScopePc;
use crate::script::command::{Command, Statement, Verb};
use crate::script::scope::DwarfScope;
use crate::script::{Expr, ExprError, Known, Names, Scope, check};
use crate::session::Target;
use crate::survey::facts::GoroutineNames;

/// What is wrong with a block: any command may stand in it that works while the
/// target stands still, but none that waits for another stop. `print` and `whatis`
/// are checked against the variables in scope where the point stands, as long as no
/// command before them has chosen another frame; an error is one at all places.
pub fn wrong_in(
    program: Option<&Target>,
    places: PointPlaces<'_>,
    block: &[Statement],
) -> Vec<ExprError> {
    let mut errors = Vec::new();
    let mut here = true;
    for statement in block {
        match &statement.command {
            Command::Print(exprs) if here => {
                let wrong = exprs.iter().filter_map(|e| wrong_with(program, places, e));
                errors.extend(wrong);
            }
            Command::Whatis(expr) if here => errors.extend(wrong_with(program, places, expr)),
            Command::Plain(verb, _, then) => {
                errors.extend(usable(*verb, statement).err());
                errors.extend(waits(*verb, statement).err());
                if let Some(then) = then {
                    // Of another frame: its names are not known now.
                    let then = std::slice::from_ref(&**then);
                    errors.extend(wrong_in(None, &[], then));
                }
                here &= !chooses(*verb, then.is_some());
            }
            _ => {}
        }
    }
    errors
}

/// A step waits for the next stop, and the block belongs to this one.
fn waits(verb: Verb, at: &Statement) -> Result<(), ExprError> {
    match verb {
        Verb::Next | Verb::Step | Verb::StepOut | Verb::StepInstruction | Verb::NextInstruction => {
            Err(ExprError::new(
                at.span,
                "a step waits for a stop, which the block of one cannot",
            ))
        }
        _ => Ok(()),
    }
}

/// What follows looks at another frame, or the target runs on.
fn chooses(verb: Verb, once: bool) -> bool {
    match verb {
        Verb::Goroutine | Verb::Frame => !once,
        Verb::Up | Verb::Down | Verb::Thread | Verb::Snapshot | Verb::Continue | Verb::Source => {
            true
        }
        _ => false,
    }
}

fn wrong_with(program: Option<&Target>, places: PointPlaces<'_>, expr: &Expr) -> Option<ExprError> {
    // Without debug information the command itself says so.
    let target = program?;
    let dwarf = target.debug_info().ok()??;
    let mut first = None;
    for place in places {
        let scope = DwarfScope::at(&target.image, &dwarf, ScopePc::exact(place.at), 0);
        let scope = match place.scope {
            Some(_) => scope,
            None => scope.in_package(&place.source.0),
        };
        match check(expr, &BlockNames(scope)) {
            Ok(_) => return None,
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    first
}

/// As `print` finds them at a stop: variables, and the facts of the goroutine.
struct BlockNames<'a>(DwarfScope<'a>);

impl Names for BlockNames<'_> {
    fn name(&self, name: &str) -> Option<Known> {
        match name {
            "hit" => Some(Known::Space),
            name => GoroutineNames.name(name),
        }
    }

    fn member(&self, space: &str, name: &str) -> Option<Known> {
        match space {
            "hit" => GoroutineNames.name(name),
            space => GoroutineNames.member(space, name),
        }
    }

    fn names(&self, space: Option<&str>) -> Vec<String> {
        match space {
            Some("hit") => GoroutineNames.names(None),
            space => GoroutineNames.names(space),
        }
    }

    fn program(&self) -> Option<&dyn Scope> {
        Some(&self.0)
    }
}
