//! A tracepoint's command made ready: functions found, expressions checked,
//! actions in the form that is run at each hit. Touches no process.

use std::sync::Arc;

use super::asked::{Asked, ask};
use super::breaks::PointPlace;
use super::names::PointNames;
use super::resolve::{Resolved, resolve};
use crate::arch::scan::Disassembler;
use crate::golang::family::family_of;
use crate::image::{Function, Image};
use crate::probe::plan::{Event, PlaceWanted, Plan, Wanted, plan, plan_with};
use crate::script::command::{Command, Location, Point, Standing, Statement, Strength, Verb, Word};
use crate::script::{Checked, Expr, ExprError, Names, check, check_condition};
use crate::session::{Target, value_names};

/// Frames that `stack` shows unless told.
pub const FRAMES: usize = 50;
/// Frames that are read at a hit at most.
pub const MOST_FRAMES: usize = 200;

/// What is done at each hit.
#[derive(Clone, Debug)]
pub enum Action {
    /// `print`: texts as printed, and what they come to.
    Print(Vec<(String, Checked)>),
    /// `stack N`
    Stack(usize),
    /// `args`
    Args,
    /// `locals`: of a line, or as the call returns.
    Locals,
}

/// A tracepoint made ready.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// Its functions: index in the image's table, and name.
    pub functions: Vec<(u32, Arc<str>)>,
    /// They were named, not matched.
    pub exact: bool,
    /// Sites in all: entries and returns.
    pub entries: usize,
    /// The same.
    pub returns: usize,
    /// What is not armed, and why.
    pub refused: Vec<String>,
    /// The condition.
    pub condition: Option<(String, Checked)>,
    /// The actions.
    pub actions: Vec<Action>,
    /// The names that expressions may use.
    pub names: PointNames,
    /// Of each function: what is asked of its calls.
    pub asked: Vec<Asked>,
    /// Of a `break` or `snap`, where it stands.
    pub places: Vec<PointPlace>,
}

/// Where a point stands.
pub type PointPlaces<'a> = &'a [PointPlace];

/// Events of the runtime that tell how calls end.
pub const EVENTS: &[Event] = &[
    Event::Panic,
    Event::Goexit,
    Event::GoexitDone,
    Event::Recovery,
];

/// Makes a point ready against a program, or checks it without one.
pub fn compile(program: Option<&Target>, point: &Point) -> Result<Compiled, Vec<ExprError>> {
    match point.strength {
        Strength::Trace => {}
        Strength::Break | Strength::Snap => return super::breaks::compile(program, point),
    }
    if let Some(target) = program
        && matches!(resolve(target, &point.location), Ok(Resolved::Line { .. }))
    {
        return super::breaks::compile_line(target, point);
    }
    let mut compiled = match program {
        Some(target) => match place(target, &point.location) {
            Ok(compiled) => compiled,
            Err(error) => return Err(vec![error]),
        },
        None => Compiled {
            names: PointNames::unknown_program(),
            ..Compiled::default()
        },
    };
    let asked = ask(
        program,
        &compiled.functions,
        &compiled.names,
        point.condition.as_ref(),
        point.actions.as_deref().unwrap_or_default(),
    )?;
    if let (Some(condition), Some(first)) = (&point.condition, asked.first()) {
        let checked = first.condition.clone();
        compiled.condition = checked.map(|c| (condition.to_string(), c));
    }
    if let Some(first) = asked.first() {
        compiled.actions.clone_from(&first.actions);
    }
    compiled.asked = asked;
    Ok(compiled)
}

/// A condition, with its text.
pub fn compile_condition(
    condition: &Expr,
    names: &PointNames,
) -> Result<(String, Checked), ExprError> {
    Ok((condition.to_string(), check_condition(condition, names)?))
}

/// The functions of a location, planned.
fn place(target: &Target, location: &Location) -> Result<Compiled, ExprError> {
    let image: &Image = &target.image;
    let (functions, exact) = match resolve(target, location)? {
        Resolved::Functions(functions, exact) => (functions, exact),
        Resolved::Line { function, .. } => {
            return Err(ExprError::new(
                location.span,
                format!(
                    "this is inside of {name}, and only whole functions can be traced: trace {name}",
                    name = function.name()
                ),
            ));
        }
    };
    let wanted: Vec<Wanted<'_>> = functions
        .iter()
        .map(|function| Wanted {
            function: *function,
            exact,
        })
        .collect();
    let planned = plan_of(image, &wanted)
        .map_err(|error| ExprError::new(location.span, error.to_string()))?;
    let refused: Vec<String> = planned
        .functions
        .iter()
        .filter(|f| f.trap.is_err())
        .map(|f| format!("{}: {}", f.name, f.explain()))
        .collect();
    if planned.armed() == 0 {
        let first = refused.first().cloned().unwrap_or_default();
        return Err(ExprError::new(location.span, first));
    }
    let armed = || planned.functions.iter().filter(|f| f.trap.is_ok());
    let minor = image.go_version().minor();
    let family = armed().all(|f| family_of(&f.name, minor).is_some());
    let (arguments, results) = value_names(target, &planned);
    let traps = || armed().filter_map(|f| f.trap.as_ref().ok());
    Ok(Compiled {
        functions: armed()
            .map(|f| (f.index, Arc::from(f.name.as_str())))
            .collect(),
        exact,
        entries: traps().count(),
        returns: traps().map(|t| t.returns + t.foreign_returns).sum(),
        refused,
        names: PointNames::new(arguments, results, family).of_program(target),
        ..Compiled::default()
    })
}

/// A plan for these functions.
pub fn plan_of(image: &Image, wanted: &[Wanted<'_>]) -> Result<Plan, crate::arch::scan::ScanError> {
    plan_all(image, wanted, &[])
}

/// A plan for these functions and instructions.
pub fn plan_all(
    image: &Image,
    wanted: &[Wanted<'_>],
    places: &[PlaceWanted],
) -> Result<Plan, crate::arch::scan::ScanError> {
    let disassembler = Disassembler::new()?;
    Ok(plan_with(image, &disassembler, wanted, places, EVENTS))
}

/// A plan for these instructions alone.
pub fn plan_places(
    image: &Image,
    places: &[PlaceWanted],
) -> Result<Plan, crate::arch::scan::ScanError> {
    let disassembler = Disassembler::new()?;
    Ok(plan_with(image, &disassembler, &[], places, &[]))
}

/// A plan for these functions, each as if named.
pub fn plan_functions(
    image: &Image,
    functions: &[Function<'_>],
) -> Result<Plan, crate::arch::scan::ScanError> {
    let named = |function: &Function<'_>| {
        let function = image.functions().get(function.index() as usize)?;
        let exact = true;
        Some(Wanted { function, exact })
    };
    let wanted: Vec<Wanted<'_>> = functions.iter().filter_map(named).collect();
    Ok(plan(image, &Disassembler::new()?, &wanted, &[]))
}

/// The commands of a trace's block.
pub fn actions(block: &[Statement], names: &PointNames) -> Result<Vec<Action>, Vec<ExprError>> {
    let mut done = Vec::new();
    let mut errors = Vec::new();
    for statement in block {
        match action(statement, names) {
            Ok(action) => done.extend(action),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(done)
    } else {
        Err(errors)
    }
}

/// One of them.
pub(super) fn action(
    statement: &Statement,
    names: &dyn Names,
) -> Result<Option<Action>, ExprError> {
    let fail = |message: String| Err(ExprError::new(statement.span, message));
    match &statement.command {
        Command::Print(exprs) => {
            let mut parts = Vec::with_capacity(exprs.len());
            for expr in exprs {
                parts.push((expr.to_string(), check(expr, names)?));
            }
            Ok(Some(Action::Print(parts)))
        }
        Command::Plain(Verb::Args, words, None) => match words.first() {
            // Delve's -v is how gotap prints always.
            Some(word) if word.text == "-v" => Ok(Some(Action::Args)),
            None => Ok(Some(Action::Args)),
            Some(word) => Err(ExprError::new(word.span, "nothing follows `args`")),
        },
        Command::Plain(Verb::Locals, words, None) => match words.first() {
            Some(word) if word.text == "-v" => Ok(Some(Action::Locals)),
            None => Ok(Some(Action::Locals)),
            Some(word) => Err(ExprError::new(word.span, "nothing follows `locals`")),
        },
        Command::Plain(Verb::Stack, words, None) => Ok(Some(Action::Stack(depth(words)?))),
        // It goes on by itself, and each record names its goroutine.
        Command::Plain(Verb::Continue, ..) => Ok(None),
        Command::Plain(Verb::Goroutine, words, None) if words.is_empty() => Ok(None),
        other => match other.verb().info().standing {
            Standing::LeftOut(why) => fail(why.to_owned()),
            Standing::Works => fail(format!(
                "`{}` cannot stand in the block of a trace: print, args, locals and stack can",
                other.verb().name()
            )),
        },
    }
}

/// `stack 8`, `stack`, `stack -full`.
fn depth(words: &[Word]) -> Result<usize, ExprError> {
    let mut depth = FRAMES;
    for word in words {
        depth = match word.text.parse::<usize>() {
            Ok(n) if (1..=MOST_FRAMES).contains(&n) => n,
            Ok(_) => {
                return Err(ExprError::new(
                    word.span,
                    format!("between 1 and {MOST_FRAMES} frames"),
                ));
            }
            Err(_) if word.text == "-full" => {
                return Err(ExprError::new(
                    word.span,
                    "variables of frames need a target that stands still",
                ));
            }
            Err(_) => return Err(ExprError::new(word.span, "how many frames? stack 8")),
        };
    }
    Ok(depth)
}
