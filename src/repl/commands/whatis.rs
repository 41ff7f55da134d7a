//! ```text
//! whatis EXPR
//! ```
//!
//! Prints the type of an expression over the chosen frame, as Go writes it, and
//! what an interface holds just now. Of a type's name, says that it is one.
//!
//! ```text
//!     whatis req.Header["Host"]
//! ```

use std::fmt::Write as _;
use std::sync::Arc;

use crate::addr::LiveAddr;
use crate::image::types::{TypeKind, TypeTable as _};
use crate::repl::frames::{Here, in_frame};
use crate::repl::shell::{Call, Shell};
use crate::script::command::Verb;
use crate::script::{Checked, Expr, ExprError, Scope as _, Span, check};
use crate::value::escaped;

/// Prints it.
pub fn run(shell: &mut Shell, expr: &Expr, span: Span) -> Result<(), ExprError> {
    let call = Call {
        words: &[],
        span,
        then: None,
    };
    let mut text = String::new();
    in_frame(shell, &call, &mut |env| {
        let checked = match check(expr, env) {
            Ok(checked) => checked,
            Err(error) => {
                let types = env.scope().types();
                let Some(ty) = env.scope().find_type(&expr.to_string()) else {
                    return Err(error);
                };
                let ty = types.get(ty);
                text = format!("type {}, {} bytes", escaped(&ty.name), ty.size);
                return Ok(());
            }
        };
        text = match checked.type_name(env.scope().types()) {
            Some(name) => escaped(&name),
            None => checked.ty().describe().to_owned(),
        };
        if let Some(held) = held_type(&checked, env) {
            let _ = write!(text, "\nholds {}", escaped(&held));
        }
        Ok(())
    })?;
    shell.answer(Verb::Whatis, &text);
    Ok(())
}

/// The dynamic type of an interface that is not nil.
fn held_type(checked: &Checked, env: &Here<'_>) -> Option<Arc<str>> {
    let variables = env.variables();
    let (ty, held) = checked.place(env).ok()??;
    let TypeKind::Interface { empty } = variables.dwarf.get(ty).kind else {
        return None;
    };
    let word = held.word(variables.memory).filter(|w| *w != 0)?;
    // runtime/runtime2.go, `itab`: inter, type.
    let descriptor = if empty {
        LiveAddr(word)
    } else {
        variables.memory.read_addr(LiveAddr(word).offset(8)).ok()?
    };
    Some(variables.rt.dynamic(descriptor)?.name)
}
