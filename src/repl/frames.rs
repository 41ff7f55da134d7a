//! A frame of the chosen goroutine, as `locals`, `args` and `print` see it. Nothing
//! is stopped for it: a goroutine that runs has none to show, unless the target
//! stands still.

use std::sync::{Arc, PoisonError};

use serde_json::{Map, Value as Json};

use super::output::Form;
use super::shell::{Call, Mode, Shell};
use crate::image::dwarf::package_of;
use crate::record::Named;
use crate::script::command::Verb;
use crate::script::scope::{DwarfScope, StoppedFrame};
use crate::script::{
    Checked, Expr, ExprError, Fact, Facts, Key, Known, Names, Scope, Span, Stopped, check,
};
use crate::session::look::{Wanted, look};
use crate::survey::facts::{Asked, GoroutineNames};
use crate::survey::{StackState, Survey};
use crate::value::frame::{FrameValues, FrameVariables, NamedValue, Variables};
use crate::value::{Value, escaped};

/// What is said of a program without debug information.
pub const NO_DEBUG: &str = "the program has no debug information: its variables are not known; \
                            --symbols FILE takes it from the program before it was stripped";

/// A program without debug information has no variables to tell of.
pub fn must_be_known(shell: &Shell, call: &Call<'_>) -> Result<(), ExprError> {
    let dwarf = shell.source.target.debug_info().map_err(|e| call.fail(e))?;
    dwarf.map(drop).ok_or_else(|| call.fail(NO_DEBUG))
}

/// The frames of the chosen goroutine, innermost first, and whether there are
/// all.
pub fn all(shell: &Shell, call: &Call<'_>) -> Result<(Vec<FrameValues>, StackState), ExprError> {
    must_be_known(shell, call)?;
    let mut frames = Vec::new();
    let state = visit(shell, call, &mut |variables, found| {
        frames = found.iter().map(|f| variables.load_frame(f)).collect();
    })?;
    Ok((frames, state))
}

/// Shows the frames of the chosen goroutine, innermost first, while they are at hand.
pub(super) fn visit(
    shell: &Shell,
    call: &Call<'_>,
    see: &mut dyn FnMut(&Variables<'_>, &[FrameVariables]),
) -> Result<StackState, ExprError> {
    let Some(goid) = shell.goroutine else {
        return Err(call.fail(
            "no goroutine is chosen: goroutine ID chooses one; of calls it shows in the block of \
             a trace",
        ));
    };
    let dwarf = shell.source.target.debug_info_or_absent();
    let dwarf = dwarf.map_err(|e| call.fail(e))?;
    let limits = shell.config.limits();
    let state = shell
        .source
        .visit_stack(&dwarf, goid, &limits, see)
        .map_err(|e| call.fail(e))?;
    state.ok_or_else(|| call.fail(format!("there is no goroutine {goid}")))
}

/// Shows the chosen frame of the chosen goroutine while it is at hand.
fn visit_chosen(
    shell: &Shell,
    call: &Call<'_>,
    see: &mut dyn FnMut(&Variables<'_>, &FrameVariables),
) -> Result<(), ExprError> {
    let (mut frames, mut unknown) = (0, false);
    let state = visit(shell, call, &mut |variables, found| {
        frames = found.len();
        let frame = found.get(shell.frame);
        match shell.deferred {
            None => frame.into_iter().for_each(|frame| see(variables, frame)),
            Some(call) => {
                let code = variables.bias.image(call.code);
                if let Some(frame) = variables.of_closure(code, call.closure) {
                    see(variables, &frame);
                } else {
                    unknown = true;
                }
            }
        }
    })?;
    if unknown {
        return Err(call.fail("the debug information does not know the deferred function"));
    }
    if frames == 0 {
        return Err(call.fail(match state {
            StackState::Running => "the goroutine runs: it has no frames that hold still",
            _ => "the goroutine's stack did not hold still",
        }));
    }
    if shell.frame >= frames {
        return Err(call.fail(format!(
            "there is no frame {}; the outermost is {}",
            shell.frame,
            frames - 1
        )));
    }
    Ok(())
}

/// The chosen frame of the chosen goroutine, loaded.
pub fn current(shell: &Shell, call: &Call<'_>) -> Result<FrameValues, ExprError> {
    let mut loaded = None;
    visit_chosen(shell, call, &mut |variables, frame| {
        loaded = Some(variables.load_frame(frame));
    })?;
    loaded.ok_or_else(|| call.fail("the goroutine's stack did not hold still"))
}

/// Remembers the names of the chosen frame's variables and of its package's, for
/// completion.
pub fn note_names(shell: &Shell, call: &Call<'_>) {
    if shell.mode != Mode::Prompt {
        return;
    }
    let mut names = Vec::new();
    // A frame that cannot be shown has none to offer.
    let _ = visit_chosen(shell, call, &mut |variables, frame| {
        let package = package_of(&frame.source.function);
        names = DwarfScope::of(variables.dwarf, package, Vec::new()).names();
        let seen = frame.variables.iter().filter(|v| !v.shadowed);
        names.extend(seen.map(|v| v.name.to_string()));
    });
    *shell
        .in_scope
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = names;
}

/// Runs something with the chosen frame as the environment of expressions.
/// Where no goroutine is chosen there are the package variables, those of main
/// under their bare names.
pub fn in_frame(
    shell: &Shell,
    call: &Call<'_>,
    run: &mut dyn FnMut(&Here<'_>) -> Result<(), ExprError>,
) -> Result<(), ExprError> {
    let mut done = Ok(());
    if let Some(goid) = shell.goroutine {
        // Facts of the goroutine are looked for beside; it may be gone by then.
        let wanted = Wanted {
            each: true,
            details: true,
            only: Some(goid),
            ..Wanted::default()
        };
        let survey = look(&shell.source, &wanted).map_err(|e| call.fail(e))?;
        visit_chosen(shell, call, &mut |variables, frame| {
            done = run(&Here::new(variables, frame, Some(&survey)));
        })?;
        return done;
    }
    let dwarf = shell.source.target.debug_info_or_absent();
    let dwarf = dwarf.map_err(|e| call.fail(e))?;
    let limits = shell.config.limits();
    shell
        .source
        .with_variables(&dwarf, &*shell.source.memory, &limits, &mut |variables| {
            done = run(&Here::new(variables, &FrameVariables::nowhere(), None));
        });
    done
}

/// What an expression came to.
pub struct Shown {
    /// As it was written.
    pub name: String,
    /// For people.
    pub text: String,
    /// In JSON.
    pub json: Json,
}

/// Evaluates expressions in the chosen frame; where no goroutine is chosen, over
/// package variables. All that can be read comes with the first error of what
/// cannot; what makes no sense at all is an error alone.
pub fn evaluate(
    shell: &Shell,
    call: &Call<'_>,
    exprs: &[Expr],
) -> Result<(Vec<Shown>, Option<ExprError>), ExprError> {
    let limits = shell.config.limits();
    let mut shown = Vec::new();
    let mut wrong = None;
    in_frame(shell, call, &mut |env| {
        // Nothing is read before all of it is known to make sense.
        let checked: Result<Vec<Checked>, ExprError> =
            exprs.iter().map(|expr| check(expr, env)).collect();
        for (expr, checked) in exprs.iter().zip(checked?) {
            let value = match checked.value(env, &limits) {
                Ok(value) => value,
                Err(error) => {
                    let whole = error.span == Span::default();
                    let span = if whole { expr.span } else { error.span };
                    wrong.get_or_insert(ExprError::new(span, error.message));
                    continue;
                }
            };
            shown.push(Shown {
                name: expr.to_string(),
                text: match &value {
                    Some(value) => escaped(&value.to_string()),
                    None => "(absent)".to_owned(),
                },
                json: value
                    .and_then(|v| serde_json::to_value(&v).ok())
                    .unwrap_or(Json::Null),
            });
        }
        Ok(())
    })?;
    Ok((shown, wrong))
}

/// The arguments of the chosen goroutine, of a program without debug information,
/// where it stands at a function's beginning.
pub fn entered(shell: &Shell, call: &Call<'_>) -> Result<Option<Named>, ExprError> {
    let dwarf = shell.source.target.debug_info().map_err(|e| call.fail(e))?;
    match shell.goroutine {
        Some(goid) if dwarf.is_none() && shell.frame == 0 => {
            shell.source.args_at_entry(goid).map_err(|e| call.fail(e))
        }
        _ => Ok(None),
    }
}

/// Prints names and values, a line each.
pub fn show_values(shell: &Shell, verb: Verb, values: &[(Arc<str>, Value)]) {
    let values = values.iter().map(|(name, value)| NamedValue {
        name: name.clone(),
        role: "param",
        ty: "".into(),
        line: 0,
        shadowed: false,
        value: value.clone(),
    });
    let values: Vec<NamedValue> = values.collect();
    show(shell, verb, &values.iter().collect::<Vec<_>>());
}

/// Prints variables of a frame, a line each.
pub fn show(shell: &Shell, verb: Verb, values: &[&NamedValue]) {
    if shell.form() == Form::Json {
        let mut object = Map::new();
        object.insert("command".into(), verb.name().into());
        let all = values.iter().map(|v| {
            let value = serde_json::to_value(&v.value).unwrap_or(Json::Null);
            (v.name.to_string(), value)
        });
        object.insert("values".into(), Json::Object(all.collect()));
        shell.out.object(&object);
        return;
    }
    let mut text = String::new();
    for one in values {
        let (open, close) = if one.shadowed { ("(", ")") } else { ("", "") };
        text.push_str(&escaped(&format!(
            "{open}{}{close} = {}",
            one.name, one.value
        )));
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("(none)\n");
    }
    shell.answer(verb, &text);
}

/// A frame as the environment of an expression: its variables first, then the
/// facts of its goroutine; `hit.NAME` is always the fact.
pub struct Here<'a> {
    scope: DwarfScope<'a>,
    /// The frame.
    pub frame: StoppedFrame<'a>,
    goroutine: Option<&'a Survey>,
}

impl<'a> Here<'a> {
    fn new(
        variables: &Variables<'a>,
        frame: &'a FrameVariables,
        goroutine: Option<&'a Survey>,
    ) -> Here<'a> {
        let mut scope = DwarfScope::at(variables.image, variables.dwarf, frame.pc, frame.depth);
        if !frame.known {
            scope = scope.in_package(&frame.source.function);
        }
        Here {
            scope,
            frame: StoppedFrame {
                variables: *variables,
                frame,
            },
            goroutine,
        }
    }

    /// What reads variables, and its types.
    pub fn variables(&self) -> &Variables<'a> {
        &self.frame.variables
    }

    /// The names and types of the frame.
    pub fn scope(&self) -> &DwarfScope<'a> {
        &self.scope
    }
}

impl Names for Here<'_> {
    fn name(&self, name: &str) -> Option<Known> {
        if name == "hit" {
            return Some(Known::Space);
        }
        self.goroutine?;
        GoroutineNames.name(name)
    }

    fn member(&self, space: &str, name: &str) -> Option<Known> {
        self.goroutine?;
        match space {
            "hit" => GoroutineNames.name(name),
            space => GoroutineNames.member(space, name),
        }
    }

    fn names(&self, space: Option<&str>) -> Vec<String> {
        match (self.goroutine, space) {
            (None, _) => Vec::new(),
            (Some(_), Some("hit")) => GoroutineNames.names(None),
            (Some(_), space) => GoroutineNames.names(space),
        }
    }

    fn refused(&self, name: &str) -> Option<String> {
        if self.frame.variables.dwarf.is_absent() && self.name(name).is_none() {
            return Some(NO_DEBUG.to_owned());
        }
        let fact = self.goroutine.is_none() && GoroutineNames.name(name).is_some();
        fact.then(|| "no goroutine is chosen: goroutine ID chooses one".to_owned())
    }

    fn program(&self) -> Option<&dyn Scope> {
        Some(&self.scope)
    }
}

impl Facts for Here<'_> {
    fn fact(&self, key: &Key) -> Fact<'_> {
        let entry = self.goroutine.and_then(|s| s.goroutines.first());
        let (Some(survey), Some(entry)) = (self.goroutine, entry) else {
            return Fact::Absent;
        };
        let asked = Asked {
            entry,
            names: &survey.names,
        };
        // What it names outlives the question.
        match asked.fact(key) {
            Fact::Str(text) => Fact::Str(text.into_owned().into()),
            Fact::Bool(b) => Fact::Bool(b),
            Fact::Int(n) => Fact::Int(n),
            Fact::Float(x) => Fact::Float(x),
            Fact::Duration(ns) => Fact::Duration(ns),
            Fact::Nil => Fact::Nil,
            Fact::Absent | Fact::Other(_) | Fact::Whole(_) => Fact::Absent,
        }
    }

    fn program(&self) -> Option<&dyn Stopped> {
        Some(&self.frame)
    }
}
