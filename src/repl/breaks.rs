//! `break` and `snap` made ready: the instructions that they stand at, and the
//! names that their conditions may use there. Touches no process.

use std::sync::Arc;

use super::asked::{Asked, apart};
use super::compile::{Action, Compiled, action, compile_block, plan_places};
use super::names::PointNames;
use super::resolve::{Resolved, file_of, resolve};
use crate::addr::{ImageAddr, LiveAddr};
use crate::arch::abi::Abi;
use crate::golang::family::family_of;
use crate::image::dwarf::{Dwarf, LinePlaces, MachineFrame, Role, ScopePc, Source};
use crate::image::types::{TypeId, TypeTable};
use crate::image::{Function, Image};
use crate::memory::Patchwork;
use crate::probe::plan::{PlaceWanted, Plan};
use crate::script::command::{Place, Point, Statement};
use crate::script::scope::DwarfScope;
use crate::script::{Checked, ExprError, Known, Names, Scope, check_condition};
use crate::session::{FrameScope, Target, value_names};

/// Functions that one `break` may stop at.
const MOST: usize = 64;

/// Facts that are known while a call begins, at its entry.
const AT_ENTRY: &[&str] = &[
    "goid", "tid", "func", "fd", "network", "local", "remote", "note", "len",
];
/// Facts that are known anywhere.
const ANYWHERE: &[&str] = &["goid", "tid", "func"];

/// An instruction that a point stands at.
#[derive(Clone, Debug)]
pub struct PointPlace {
    /// As it is planned.
    pub wanted: PlaceWanted,
    /// The instruction.
    pub at: ImageAddr,
    /// Index of its function in the function table.
    pub function: u32,
    /// It is where calls of that one are counted.
    pub entry: bool,
    /// What a condition may name there.
    pub scope: Option<Arc<FrameScope>>,
    /// Function, file and line.
    pub source: (Arc<str>, Arc<str>, u32),
}

/// Makes one ready against a program, or checks it without one.
pub fn compile(program: Option<&Target>, point: &Point) -> Result<Compiled, Vec<ExprError>> {
    let mut compiled = match program {
        Some(target) => places(target, point).map_err(|error| vec![error])?,
        None => Compiled {
            names: PointNames::unknown_program(),
            ..Compiled::default()
        },
    };
    let mut errors = Vec::new();
    if let Some(condition) = &point.condition {
        match condition_of(program, &compiled.names, &compiled.places, condition) {
            Ok(found) => compiled.condition = found,
            Err(error) => errors.push(error),
        }
    }
    errors.extend(compile_block(point.actions.as_deref().unwrap_or_default()));
    if errors.is_empty() {
        Ok(compiled)
    } else {
        Err(errors)
    }
}

/// A `trace` of a line inside of a function: what passes there is recorded.
pub fn compile_line(target: &Target, point: &Point) -> Result<Compiled, Vec<ExprError>> {
    let mut compiled = places(target, point).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    if let Some(condition) = &point.condition {
        match condition_of(Some(target), &compiled.names, &compiled.places, condition) {
            Ok(found) => compiled.condition = found,
            Err(error) => errors.push(error),
        }
    }
    let block = point.actions.as_deref().unwrap_or_default();
    match line_actions(Some(target), (&compiled.names, &compiled.places), block) {
        Ok(asked) => {
            compiled.actions.clone_from(&asked.actions);
            compiled.asked = vec![asked];
        }
        Err(found) => errors.extend(found),
    }
    if errors.is_empty() {
        Ok(compiled)
    } else {
        Err(errors)
    }
}

/// What is done with the record of a line; what it reads is read where the line
/// is passed.
pub fn line_actions(
    program: Option<&Target>,
    (names, places): (&PointNames, &[PointPlace]),
    block: &[Statement],
) -> Result<Asked, Vec<ExprError>> {
    let mut asked = Asked::default();
    let mut errors = Vec::new();
    with_names(program, names, places, &mut |names| {
        for statement in block {
            match action(statement, names) {
                Ok(Some(Action::Print(exprs))) => {
                    let parts = &mut asked.questions.at_entry;
                    let exprs = exprs.into_iter();
                    let exprs = exprs.map(|(text, c)| (text, apart(c, true, parts)));
                    asked.actions.push(Action::Print(exprs.collect()));
                }
                Ok(other) => asked.actions.extend(other),
                Err(error) => errors.push(error),
            }
        }
    });
    if errors.is_empty() {
        Ok(asked)
    } else {
        Err(errors)
    }
}

fn source_of(image: &Image, at: ImageAddr) -> (Arc<str>, Arc<str>, u32) {
    let source = image.frames_at(at).into_iter().next();
    source.map_or_else(
        || (Arc::from("?"), Arc::from("?"), 0),
        |s| (Arc::from(&*s.function), Arc::from(&*s.file), s.line),
    )
}

/// A condition at these places, checked against the first; `None` where it
/// cannot be checked without the program.
pub fn condition_of(
    program: Option<&Target>,
    names: &PointNames,
    places: &[PointPlace],
    condition: &crate::script::Expr,
) -> Result<Option<(String, Checked)>, ExprError> {
    let mut found = Ok(None);
    with_names(program, names, places, &mut |names| {
        found = match check_condition(condition, names) {
            Ok(checked) => Ok(Some((condition.to_string(), checked))),
            // Elements, assertions and the like need its types.
            Err(error) if program.is_none() && error.message.contains("program's variables") => {
                Ok(None)
            }
            Err(error) => Err(error),
        };
    });
    found
}

/// Shows the names that expressions may use at these places.
fn with_names(
    program: Option<&Target>,
    names: &PointNames,
    places: &[PointPlace],
    see: &mut dyn FnMut(&dyn Names),
) {
    let first = places.first();
    let dwarf = program.and_then(|target| target.debug_info().ok().flatten());
    let scope = match (program, &dwarf, first) {
        (Some(target), Some(dwarf), Some(place)) if place.scope.is_some() => Some(PlaceScope {
            inner: DwarfScope::at(&target.image, dwarf, ScopePc::exact(place.at), 0),
            results: results(target, dwarf, place),
        }),
        _ => None,
    };
    let names = BreakNames {
        names,
        scope,
        entry: first.is_none_or(|place| place.entry),
        any: program.is_none(),
    };
    see(&names);
}

/// At an entry results have no value yet.
fn results(target: &Target, dwarf: &Dwarf, place: &PointPlace) -> Vec<Arc<str>> {
    let function = target.image.functions().get(place.function as usize);
    let Some(function) = function.filter(|_| place.entry) else {
        return Vec::new();
    };
    let scopes = dwarf.scope_at(&function.name(), function.entry(), ScopePc::exact(place.at));
    let variables = scopes.into_iter().flat_map(|s| s.variables);
    variables
        .filter(|v| v.role == Role::Result)
        .map(|v| v.name)
        .collect()
}

fn places(target: &Target, point: &Point) -> Result<Compiled, ExprError> {
    let image = &*target.image;
    let location = &point.location;
    let fail = |message: String| ExprError::new(location.span, message);
    let dwarf = target.debug_info().map_err(|e| fail(e.to_string()))?;
    let (wanted, exact) = match resolve(image, location)? {
        Resolved::Functions(functions, exact) => {
            if functions.len() > MOST {
                return Err(fail(format!(
                    "{} functions match, more than {MOST}; narrow it",
                    functions.len()
                )));
            }
            let chosen = functions
                .iter()
                .map(|f| of_function(target, dwarf.as_deref(), f));
            (chosen.collect(), exact)
        }
        Resolved::Line { function, at } => (
            of_line(target, dwarf.as_deref(), point, &function, at),
            true,
        ),
    };
    let wanted: Vec<PlaceWanted> = wanted;
    let plan = plan_places(image, &wanted).map_err(|e| fail(e.to_string()))?;
    let mut found = Vec::new();
    let mut refused = Vec::new();
    for (wanted, planned) in wanted.iter().zip(&plan.places) {
        match planned {
            Ok(place) => found.push(PointPlace {
                wanted: *wanted,
                at: place.at,
                function: place.function,
                entry: place.entry,
                scope: dwarf
                    .as_ref()
                    .and_then(|dwarf| FrameScope::at(image, dwarf, place.at))
                    .map(Arc::new),
                source: source_of(image, place.at),
            }),
            Err(why) => refused.push(format!("{}: not armed: {why}", name_of(image, *wanted))),
        }
    }
    let Some(first) = found.first() else {
        return Err(fail(
            refused
                .into_iter()
                .next()
                .unwrap_or_else(|| "no code is there".into()),
        ));
    };
    let minor = image.go_version().minor();
    let mut functions: Vec<(u32, Arc<str>)> = found
        .iter()
        .filter_map(|p| {
            let function = image.functions().get(p.function as usize)?;
            Some((p.function, Arc::from(&*function.name())))
        })
        .collect();
    functions.dedup();
    let family = functions
        .iter()
        .all(|(_, name)| family_of(name, minor).is_some());
    let arguments = if first.entry {
        arguments_of(target, &functions).map_err(|e| fail(e.to_string()))?
    } else {
        Vec::new()
    };
    Ok(Compiled {
        functions,
        exact,
        entries: found.len(),
        refused,
        names: PointNames::new(arguments, Vec::new(), family && first.entry).of_program(target),
        places: found,
        ..Compiled::default()
    })
}

fn arguments_of(
    target: &Target,
    functions: &[(u32, Arc<str>)],
) -> Result<Vec<Arc<str>>, crate::arch::scan::ScanError> {
    let all = target.image.functions();
    let found: Vec<Function<'_>> = functions
        .iter()
        .filter_map(|(index, _)| all.get(*index as usize))
        .collect();
    let plan: Plan = super::compile::plan_functions(&target.image, &found)?;
    Ok(value_names(target, &plan).0)
}

fn name_of(image: &Image, wanted: PlaceWanted) -> String {
    let function = match wanted {
        PlaceWanted::Entry(index) => image.functions().get(index as usize),
        PlaceWanted::At(at) => image.functions().find(at),
    };
    match (function, wanted) {
        (Some(function), PlaceWanted::Entry(_)) => function.name().into_owned(),
        (Some(function), PlaceWanted::At(at)) => format!("{} at {at}", function.name()),
        (None, _) => "this".to_owned(),
    }
}

/// Where a breakpoint on a function goes: where its calls are counted, with the
/// arguments as they came. A function whose code keeps them on the stack (it was
/// built without optimisation) has not put them there yet: behind its prologue
/// then, as the line table tells.
fn of_function(target: &Target, dwarf: Option<&Dwarf>, function: &Function<'_>) -> PlaceWanted {
    let entry = PlaceWanted::Entry(function.index());
    let moved = || {
        let dwarf = dwarf?;
        let plan = plan_places(&target.image, &[entry]).ok()?;
        let place = plan.places.first()?.as_ref().ok()?;
        let function_plan = super::compile::plan_functions(&target.image, &[*function]).ok()?;
        let abi = function_plan.functions.first()?.abi;
        if abi != Abi::Internal || !keeps_arguments_in_memory(dwarf, function, place.at) {
            return None;
        }
        let at = PlaceWanted::At(dwarf.breakpoint_of(function)?);
        let plan = plan_places(&target.image, &[at]).ok()?;
        plan.places.first()?.as_ref().ok().map(|_| at)
    };
    moved().unwrap_or(entry)
}

fn keeps_arguments_in_memory(dwarf: &Dwarf, function: &Function<'_>, at: ImageAddr) -> bool {
    let scopes = dwarf.scope_at(&function.name(), function.entry(), ScopePc::exact(at));
    let Some(own) = scopes.last() else {
        return false;
    };
    let nothing = Patchwork::default();
    let machine = MachineFrame {
        cfa: LiveAddr(1 << 20),
        bias: crate::addr::Bias::default(),
        registers: &|_| Some(0),
        memory: &nothing,
    };
    let mut parameters = own.variables.iter().filter(|v| v.role == Role::Param);
    parameters.any(|p| {
        p.places.iter().any(|place| {
            dwarf.locate(place, &machine).is_ok_and(|parts| {
                let in_memory =
                    |part: &crate::image::dwarf::Part| matches!(part.source, Source::Memory(_));
                parts.iter().any(in_memory)
            })
        })
    })
}

/// By the line tables one instruction in each function and inlined body that has
/// the line; without them the first that the function table has for it.
fn of_line(
    target: &Target,
    dwarf: Option<&Dwarf>,
    point: &Point,
    function: &Function<'_>,
    at: ImageAddr,
) -> Vec<PlaceWanted> {
    if let Place::Address(_) = point.location.place {
        return vec![PlaceWanted::At(at)];
    }
    let line = match &point.location.place {
        Place::Named(_, line) => *line,
        _ => None,
    };
    let tables = || match dwarf?.places_of_line(&target.image, &file_of(function, at)?, line?) {
        LinePlaces::At(all) => Some(all),
        LinePlaces::NoCode | LinePlaces::NoFile => None,
    };
    let all = tables().filter(|all| !all.is_empty());
    let all = all.unwrap_or_else(|| vec![at]);
    all.into_iter().take(MOST).map(PlaceWanted::At).collect()
}

/// The names of a condition at a place.
struct BreakNames<'a> {
    names: &'a PointNames,
    scope: Option<PlaceScope<'a>>,
    entry: bool,
    /// The program is not known.
    any: bool,
}

impl BreakNames<'_> {
    fn known(&self, name: &str) -> bool {
        let known = if self.entry { AT_ENTRY } else { ANYWHERE };
        known.contains(&name)
    }

    fn is_fact(name: &str) -> bool {
        crate::script::CallFact::by_name(name).is_some()
    }
}

impl Names for BreakNames<'_> {
    fn name(&self, name: &str) -> Option<Known> {
        if name == "results" || (Self::is_fact(name) && !self.known(name) && !self.is_own(name)) {
            return None;
        }
        self.names.name(name)
    }

    fn member(&self, space: &str, name: &str) -> Option<Known> {
        match space {
            "hit" if !self.known(name) => None,
            "results" => None,
            _ => self.names.member(space, name),
        }
    }

    fn names(&self, space: Option<&str>) -> Vec<String> {
        let mut all = self.names.names(space);
        all.retain(|name| !Self::is_fact(name) || self.known(name));
        all
    }

    fn refused(&self, name: &str) -> Option<String> {
        if self.any && self.known(name) || !Self::is_fact(name) && name != "results" {
            return self.names.refused(name);
        }
        Some(if self.entry {
            format!("`{name}` is not known yet where a call begins; a trace knows it at the end")
        } else {
            format!("`{name}` is not known inside a function")
        })
    }

    fn program(&self) -> Option<&dyn Scope> {
        self.scope.as_ref().map(|scope| scope as &dyn Scope)
    }
}

impl BreakNames<'_> {
    /// An argument has that name.
    fn is_own(&self, name: &str) -> bool {
        matches!(
            self.names.name(name),
            Some(Known::Fact {
                key: crate::script::Key::Value(_),
                ..
            })
        )
    }
}

/// The program's variables at a place, without those that have no value yet.
struct PlaceScope<'a> {
    inner: DwarfScope<'a>,
    results: Vec<Arc<str>>,
}

impl Scope for PlaceScope<'_> {
    fn variable(&self, name: &str) -> Option<TypeId> {
        if self.results.iter().any(|r| **r == *name) {
            return None;
        }
        self.inner.variable(name)
    }

    fn types(&self) -> &dyn TypeTable {
        self.inner.types()
    }

    fn find_type(&self, text: &str) -> Option<TypeId> {
        self.inner.find_type(text)
    }

    fn names(&self) -> Vec<String> {
        let mut all = self.inner.names();
        all.retain(|name| !self.results.iter().any(|r| **r == **name));
        all
    }

    fn own_names(&self) -> Vec<String> {
        let mut all = self.inner.own_names();
        all.retain(|name| !self.results.iter().any(|r| **r == **name));
        all
    }
}
