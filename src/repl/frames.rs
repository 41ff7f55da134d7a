//! The variables of a goroutine's frames, as `locals`, `args` and `print` see them.
//! A goroutine that runs has none to show, unless the target stands still.

use serde_json::{Map, Value as Json};

use super::output::Form;
use super::shell::{Call, Shell};
use crate::script::command::Verb;
use crate::script::scope::{DwarfScope, StoppedFrame};
use crate::script::{
    CallFact, Expr, ExprError, Fact, Facts, Key, Known, Names, Scope, Stopped, Type, check,
};
use crate::survey::StackState;
use crate::value::frame::{FrameValues, FrameVariables, NamedValue};
use crate::value::{Limits, escaped};

/// What is said of a program without debug information.
pub const NO_DEBUG: &str = "the program has no debug information: its variables are not known; \
                            --symbols FILE takes it from the program before it was stripped";

/// The frames of the chosen goroutine, innermost first, and whether there are
/// all.
pub fn all(shell: &Shell, call: &Call<'_>) -> Result<(Vec<FrameValues>, StackState), ExprError> {
    let Some(goid) = shell.goroutine else {
        return Err(call.fail(
            "no goroutine is chosen: goroutine ID chooses one; of calls it shows in the block of \
             a trace",
        ));
    };
    let dwarf = shell.source.dwarf().map_err(|e| call.fail(e))?;
    let Some(dwarf) = dwarf else {
        return Err(call.fail(NO_DEBUG));
    };
    let stack = shell
        .source
        .full_stack(&dwarf, goid, &Limits::default())
        .map_err(|e| call.fail(e))?;
    match stack {
        Some(stack) => Ok((stack.frames, stack.state)),
        None => Err(call.fail(format!("there is no goroutine {goid}"))),
    }
}

/// The chosen frame of the chosen goroutine.
pub fn current(shell: &Shell, call: &Call<'_>) -> Result<FrameValues, ExprError> {
    let (mut frames, state) = all(shell, call)?;
    if shell.frame >= frames.len() {
        return Err(no_frame(shell, call, frames.len(), state));
    }
    Ok(frames.swap_remove(shell.frame))
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
/// package variables by their full names.
pub fn evaluate(shell: &Shell, call: &Call<'_>, exprs: &[Expr]) -> Result<Vec<Shown>, ExprError> {
    let limits = Limits::default();
    let mut shown = Vec::new();
    in_frame(shell, call, &mut |env| {
        for expr in exprs {
            let checked = check(expr, env)?;
            let value = checked
                .value(env, &limits)
                .map_err(|error| ExprError::new(expr.span, error.message))?;
            shown.push(Shown {
                name: expr.to_string(),
                text: match &value {
                    Some(value) => escaped(&value.to_string()),
                    None => "(absent)".to_owned(),
                },
                json: value
                    .as_ref()
                    .and_then(|v| serde_json::to_value(v).ok())
                    .unwrap_or(Json::Null),
            });
        }
        Ok(())
    })?;
    Ok(shown)
}

/// What is done in a frame.
pub type InFrame<'f> = dyn FnMut(&Here<'_>) -> Result<(), ExprError> + 'f;

/// Does something in the chosen frame, whose variables are at hand.
pub fn in_frame(shell: &Shell, call: &Call<'_>, work: &mut InFrame<'_>) -> Result<(), ExprError> {
    let dwarf = shell.source.dwarf().map_err(|e| call.fail(e))?;
    let Some(dwarf) = dwarf else {
        return Err(call.fail(NO_DEBUG));
    };
    let target = shell.source.target.clone();
    let limits = Limits::default();
    let Some(goid) = shell.goroutine else {
        let nowhere = FrameVariables::nowhere();
        let mut done = Ok(());
        shell
            .source
            .visit_package(&dwarf, &limits, &mut |variables| {
                done = work(&Here {
                    scope: DwarfScope::at(&target.image, &dwarf, nowhere.pc, 0),
                    frame: StoppedFrame {
                        variables: *variables,
                        frame: &nowhere,
                    },
                    goid: None,
                });
            });
        return done;
    };
    let mut done = None;
    let mut many = 0;
    let state = shell
        .source
        .visit_stack(&dwarf, goid, &limits, &mut |variables, frames| {
            many = frames.len();
            let Some(frame) = frames.get(shell.frame) else {
                return;
            };
            done = Some(work(&Here {
                scope: DwarfScope::at(&target.image, &dwarf, frame.pc, frame.depth),
                frame: StoppedFrame {
                    variables: *variables,
                    frame,
                },
                goid: Some(goid),
            }));
        })
        .map_err(|e| call.fail(e))?;
    match (done, state) {
        (Some(done), _) => done,
        (None, None) => Err(call.fail(format!("there is no goroutine {goid}"))),
        (None, Some(state)) => Err(no_frame(shell, call, many, state)),
    }
}

/// Why there is no such frame.
fn no_frame(shell: &Shell, call: &Call<'_>, many: usize, state: StackState) -> ExprError {
    if many == 0 {
        return call.fail(match state {
            StackState::Running => "the goroutine runs: it has no frames that hold still",
            _ => "the goroutine's stack did not hold still",
        });
    }
    call.fail(format!(
        "there is no frame {}; the outermost is {}",
        shell.frame,
        many - 1
    ))
}

/// A frame as the environment of an expression.
pub struct Here<'a> {
    scope: DwarfScope<'a>,
    /// The frame.
    pub frame: StoppedFrame<'a>,
    goid: Option<u64>,
}

impl Names for Here<'_> {
    fn name(&self, name: &str) -> Option<Known> {
        (name == "goid" && self.goid.is_some()).then(|| Known::Fact {
            key: Key::Call(CallFact::Goid),
            ty: Type::Int,
            words: &[],
        })
    }

    fn member(&self, _: &str, _: &str) -> Option<Known> {
        None
    }

    fn names(&self, _: Option<&str>) -> Vec<String> {
        self.scope.names()
    }

    fn program(&self) -> Option<&dyn Scope> {
        Some(&self.scope)
    }
}

impl Facts for Here<'_> {
    fn fact(&self, key: &Key) -> Fact<'_> {
        match key {
            Key::Call(CallFact::Goid) => Fact::int(self.goid),
            _ => Fact::Absent,
        }
    }

    fn program(&self) -> Option<&dyn Stopped> {
        Some(&self.frame)
    }
}
