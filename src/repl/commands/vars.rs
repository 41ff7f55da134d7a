//! ```text
//! vars [REGEX]
//! ```
//!
//! Prints package variables, by their full names (`main.sessions`), from the debug
//! information. The target need not be stopped; while it runs, values may change
//! as they are read.

use serde_json::{Map, Value as Json};

use crate::repl::frames::NO_DEBUG;
use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::value::{Limits, escaped};

/// Prints them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let pattern = super::pattern(&call)?;
    let dwarf = shell.source.dwarf().map_err(|e| call.fail(e))?;
    let Some(dwarf) = dwarf else {
        return Err(call.fail(NO_DEBUG));
    };
    let most = shell.config.max_lines;
    let mut found = Vec::new();
    let mut more = 0;
    let limits = Limits::default();
    shell
        .source
        .visit_package(&dwarf, &limits, &mut |variables| {
            let mut all = variables.package_variables(&|name| pattern.is_match(name));
            all.sort_by(|a, b| a.name.cmp(&b.name));
            more = all.len().saturating_sub(most);
            for one in all.iter().take(most) {
                found.push((one.name.clone(), variables.load(one)));
            }
        });
    if shell.form() == Form::Json {
        let mut object = Map::new();
        object.insert("command".into(), Verb::Vars.name().into());
        let values = found.iter().map(|(name, value)| {
            let value = serde_json::to_value(value).unwrap_or(Json::Null);
            (name.to_string(), value)
        });
        object.insert("values".into(), Json::Object(values.collect()));
        shell.out.object(&object);
        return Ok(());
    }
    let mut text: String = found
        .iter()
        .map(|(name, value)| escaped(&format!("{name} = {value}")) + "\n")
        .collect();
    if more > 0 {
        text += &format!("… and {more} more (config max-lines N shows more)\n");
    }
    if text.is_empty() {
        text.push_str("(none)\n");
    }
    shell.answer(Verb::Vars, &text);
    Ok(())
}
