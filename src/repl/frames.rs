//! The variables of a parked goroutine's frames, as `locals`, `args` and `print`
//! see them. Nothing is stopped: a goroutine that runs has none to show.

use serde_json::{Map, Value as Json};

use super::output::Form;
use super::shell::{Call, Shell};
use crate::script::command::Verb;
use crate::script::{CallFact, ExprError, Fact, Facts, Key, Known, Names, Type};
use crate::survey::StackState;
use crate::value::frame::{FrameValues, NamedValue};
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
    if frames.is_empty() {
        return Err(call.fail(match state {
            StackState::Running => "the goroutine runs: it has no frames that hold still",
            _ => "the goroutine's stack did not hold still",
        }));
    }
    if shell.frame >= frames.len() {
        return Err(call.fail(format!(
            "there is no frame {}; the outermost is {}",
            shell.frame,
            frames.len() - 1
        )));
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

/// A frame as the environment of an expression.
pub struct InFrame<'a> {
    /// The frame.
    pub frame: &'a FrameValues,
    /// Its goroutine.
    pub goid: u64,
}

impl InFrame<'_> {
    fn find(&self, name: &str) -> Option<&NamedValue> {
        let values = &self.frame.values;
        values.iter().find(|v| !v.shadowed && *v.name == *name)
    }
}

impl Names for InFrame<'_> {
    fn name(&self, name: &str) -> Option<Known> {
        let (key, ty) = match name {
            name if self.find(name).is_some() => (Key::Value(name.into()), Type::Any),
            "goid" => (Key::Call(CallFact::Goid), Type::Int),
            _ => return None,
        };
        Some(Known::Fact {
            key,
            ty,
            words: &[],
        })
    }

    fn member(&self, _: &str, _: &str) -> Option<Known> {
        None
    }

    fn names(&self, _: Option<&str>) -> Vec<String> {
        let values = self.frame.values.iter().filter(|v| !v.shadowed);
        values.map(|v| v.name.to_string()).collect()
    }
}

impl Facts for InFrame<'_> {
    fn fact(&self, key: &Key) -> Fact<'_> {
        match key {
            Key::Value(name) => self
                .find(name)
                .map_or(Fact::Absent, |v| Fact::from_value(&v.value)),
            Key::Call(CallFact::Goid) => Fact::int(Some(self.goid)),
            Key::Call(_) | Key::Arg(_) | Key::Result(_) => Fact::Absent,
        }
    }
}
