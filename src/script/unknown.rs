//! What is said of a word that is no name.

use super::ExprError;
use super::check::{Checker, nearest, unknown};
use super::error::Span;
use super::program::Scope;

impl Checker<'_> {
    /// A bare word that is no name: the nearest one, else what there is; of a
    /// package's names, which may be many, only where there are no others.
    pub(super) fn unknown_name(&self, name: &str, span: Span) -> ExprError {
        let program = self.names.program();
        let facts = self.names.names(None);
        let mut all = program.map(Scope::names).unwrap_or_default();
        all.extend(facts.iter().cloned());
        let of_main = format!("main.{name}");
        let in_main = program.is_some_and(|scope| scope.variable(&of_main).is_some());
        if in_main {
            let message = format!("unknown name `{name}`; did you mean `{of_main}`?");
            return ExprError::new(span, message);
        }
        if nearest(name, &all).is_none()
            && let Some(scope) = program
        {
            all = scope.own_names();
            all.extend(facts);
            if all.is_empty() {
                all = scope.names();
            }
        }
        unknown(name, span, &all, "name")
    }
}
