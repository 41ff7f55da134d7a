//! ```text
//! vars [REGEX]
//! ```
//!
//! Prints package variables whose full name the expression fits, from the debug
//! information, without stopping anything: what a variable points to may change
//! while it is read. No more than `config max-lines` are read.
//!
//! ```text
//!     vars ^main\.
//! ```

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use crate::image::dwarf::PackageName;
use crate::repl::frames::NO_DEBUG;
use crate::repl::output::Form;
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::Verb;
use crate::value::{Value, escaped};

/// Prints them.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let pattern = super::pattern(&call)?;
    let dwarf = shell.source.target.debug_info().map_err(|e| call.fail(e))?;
    let Some(dwarf) = dwarf else {
        return Err(call.fail(NO_DEBUG));
    };
    let mut found = dwarf.package_names(&|name| pattern.is_match(name));
    found.retain(|(_, what)| matches!(what, PackageName::Variable(_)));
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let more = found.len().saturating_sub(shell.config.max_lines);
    found.truncate(shell.config.max_lines);
    let mut values: Vec<(String, Value)> = Vec::with_capacity(found.len());
    let limits = shell.config.limits();
    shell
        .source
        .with_variables(&dwarf, &*shell.source.memory, &limits, &mut |variables| {
            values = found
                .iter()
                .map(|(name, what)| {
                    let variable = variables.of_package(name, *what);
                    (name.clone(), variables.load(&variable))
                })
                .collect();
        });
    if shell.form() == Form::Json {
        let all = values.into_iter().map(|(name, value)| {
            let value = serde_json::to_value(&value).unwrap_or(Json::Null);
            (name, value)
        });
        let mut object = Map::new();
        object.insert("command".into(), Verb::Vars.name().into());
        object.insert("values".into(), Json::Object(all.collect()));
        object.insert("omitted".into(), more.into());
        shell.out.object(&object);
        return Ok(());
    }
    let mut text = String::new();
    for (name, value) in values {
        let _ = writeln!(text, "{}", escaped(&format!("{name} = {value}")));
    }
    if text.is_empty() {
        text.push_str("(none)\n");
    }
    if more > 0 {
        let _ = writeln!(text, "… and {more} more (config max-lines N shows more)");
    }
    shell.answer(Verb::Vars, &text);
    Ok(())
}
