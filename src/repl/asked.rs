//! What a tracepoint asks of each of its functions: its condition and actions,
//! checked against that function's own variables, and taken apart into what is
//! tested and read where the call happens, and what is left for its record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::compile::{Action, action};
use super::frames::NO_DEBUG;
use super::names::PointNames;
use crate::golang::family::family_of;
use crate::script::command::{Command, Statement, Verb};
use crate::script::{Checked, Expr, ExprError, Key, Known, Names, Part, Scope, check_condition};
use crate::session::watch::{Questions, known_at_entry};
use crate::session::{CallScope, Target};

/// Of more functions than this their variables are not looked up: conditions are
/// then about what records show.
const MOST_SCOPES: usize = 64;

/// What is asked of the calls of one function.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What its record must meet.
    pub condition: Option<Checked>,
    /// What is done with it.
    pub actions: Vec<Action>,
    /// What is asked where it happens.
    pub questions: Questions,
}

/// The number of the next part.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Checks a condition and actions for every function of a tracepoint: one answer
/// for each, in order; without a program, one in all.
pub fn ask(
    program: Option<&Target>,
    functions: &[(u32, Arc<str>)],
    names: &PointNames,
    condition: Option<&Expr>,
    actions: &[Statement],
) -> Result<Vec<Asked>, Vec<ExprError>> {
    let bare = one_of(names, None, true, condition, actions);
    let Some(target) = program else {
        return bare.map(|asked| vec![asked]);
    };
    if let Some(at) = actions.iter().find(|a| is_locals(a)) {
        let fail = |why: &str| Err(vec![ExprError::new(at.span, why)]);
        match target.debug_info() {
            Ok(Some(_)) => {}
            Ok(None) => return fail(NO_DEBUG),
            Err(error) => return fail(&error.to_string()),
        }
        if functions.len() > MOST_SCOPES {
            return fail(&format!(
                "the local variables of {} functions are not looked up, more than \
                 {MOST_SCOPES}; narrow it",
                functions.len()
            ));
        }
    }
    let plain = condition.is_none() && actions.is_empty();
    // What is known of functions of the net family is in the record, and opening
    // the debug information of a large program takes a while.
    let by_facts = names.is_family() && bare.is_ok();
    if plain || by_facts || functions.len() > MOST_SCOPES {
        let minor = target.image.go_version().minor();
        return functions
            .iter()
            .map(|(_, name)| {
                let gives = family_of(name, minor).is_some_and(|f| f.gives.is_some());
                one_of(names, None, gives, condition, actions)
            })
            .collect();
    }
    let mut all = Vec::with_capacity(functions.len());
    for (index, name) in functions {
        let scope = CallScope::of(target, *index);
        let minor = target.image.go_version().minor();
        let gives = family_of(name, minor).is_some_and(|f| f.gives.is_some());
        match one_of(names, scope, gives, condition, actions) {
            Ok(asked) => all.push(asked),
            Err(errors) if functions.len() == 1 => return Err(errors),
            Err(errors) => {
                let of = |e: ExprError| ExprError::new(e.span, format!("of {name}: {}", e.message));
                return Err(errors.into_iter().map(of).collect());
            }
        }
    }
    Ok(all)
}

fn is_locals(action: &Statement) -> bool {
    matches!(action.command, Command::Plain(Verb::Locals, ..))
}

fn one_of(
    names: &PointNames,
    scope: Option<CallScope>,
    gives: bool,
    condition: Option<&Expr>,
    actions: &[Statement],
) -> Result<Asked, Vec<ExprError>> {
    let mut errors = Vec::new();
    let mut asked = Asked::default();
    let names = Scoped {
        names,
        scope: scope.as_ref(),
    };
    let mut parts = Vec::new();
    if let Some(expr) = condition {
        match check_condition(expr, &names) {
            Ok(checked) => {
                if is_early(&checked, scope.as_ref(), gives) {
                    asked.questions.early.push(checked.clone());
                }
                asked.condition = Some(apart(checked, false, &mut parts));
            }
            Err(error) => errors.push(error),
        }
    }
    for statement in actions {
        match action(statement, &names) {
            Ok(Some(Action::Print(exprs))) => {
                let exprs = exprs
                    .into_iter()
                    .map(|(text, checked)| (text, apart(checked, true, &mut parts)))
                    .collect();
                asked.actions.push(Action::Print(exprs));
            }
            Ok(Some(Action::Locals)) => {
                asked.questions.locals = true;
                asked.actions.push(Action::Locals);
            }
            Ok(other) => asked.actions.extend(other),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    for part in parts {
        if is_early(&part.expr, scope.as_ref(), gives) {
            asked.questions.at_entry.push(part);
        } else {
            asked.questions.at_return.push(part);
        }
    }
    asked.questions.scope = scope;
    Ok(asked)
}

/// An expression without what it reads, which is put to the parts.
pub(super) fn apart(checked: Checked, shown: bool, parts: &mut Vec<Part>) -> Checked {
    // More parts than there are numbers: nobody types four billion of them.
    let mut next = NEXT.fetch_add(1 << 10, Ordering::SeqCst);
    let (rest, own) = checked.apart(shown, &mut next);
    parts.extend(own);
    rest
}

/// All that it names exists at the entry.
fn is_early(checked: &Checked, scope: Option<&CallScope>, gives: bool) -> bool {
    let mentioned = checked.mentions();
    let of_call = |name: &str| scope.is_some_and(|s| s.is_result(name));
    mentioned.keys.iter().all(|key| known_at_entry(key, gives))
        && !mentioned.variables.iter().any(|name| of_call(name))
}

/// A tracepoint's names with one function's variables.
struct Scoped<'a> {
    names: &'a PointNames,
    scope: Option<&'a CallScope>,
}

impl Names for Scoped<'_> {
    fn name(&self, name: &str) -> Option<Known> {
        self.names.name(name)
    }

    fn member(&self, space: &str, name: &str) -> Option<Known> {
        self.names.member(space, name)
    }

    fn names(&self, space: Option<&str>) -> Vec<String> {
        self.names.names(space)
    }

    fn refused(&self, name: &str) -> Option<String> {
        self.names.refused(name)
    }

    fn unknown_program(&self) -> bool {
        self.names.unknown_program()
    }

    fn same_as_fact(&self, name: &str) -> bool {
        self.names.is_same(name)
            && (name != "err" || self.scope.is_some_and(|s| s.is_result(name)))
            && matches!(
                self.names.name(name),
                Some(Known::Fact {
                    key: Key::Call(_),
                    ..
                })
            )
    }

    fn program(&self) -> Option<&dyn Scope> {
        self.scope.map(|scope| scope as &dyn Scope)
    }
}
