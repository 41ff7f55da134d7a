//! ```text
//! clearall [LOCATION]
//! ```
//!
//! Takes all points out, or those on the functions of a location.

use crate::repl::resolve::{Resolved, resolve};
use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::{Location, Verb};

/// Takes them out.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let only: Option<Vec<u32>> = match call.words {
        [] => None,
        [word] => {
            let location = Location::parse(word)?;
            let target = shell.source.target.clone();
            let found = match resolve(&target, &location)? {
                Resolved::Functions(functions, _) => functions,
                Resolved::Line { function, .. } => vec![function],
            };
            Some(found.iter().map(crate::image::Function::index).collect())
        }
        [_, extra, ..] => return Err(ExprError::new(extra.span, "one location is enough")),
    };
    let gone = shell.points().remove(|p| {
        only.as_ref()
            .is_none_or(|only| p.functions.iter().any(|(f, _)| only.contains(f)))
    });
    shell.apply_points().map_err(|e| call.fail(e))?;
    for point in gone {
        let text = format!("{} {} cleared\n", point.title(), point.label());
        shell.tell(Verb::ClearAll, &text);
    }
    Ok(())
}
