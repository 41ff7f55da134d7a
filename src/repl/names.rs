//! The names that conditions and actions of a tracepoint may use.

use std::sync::Arc;

use super::frames::NO_DEBUG;
use crate::script::check::nearest;
use crate::script::{CallNames, Key, Known, Names, Type};
use crate::session::Target;

/// Facts that say what an argument or a result of the same name says, for
/// functions of the net family.
const SAME: &[&str] = &["fd", "network", "len", "n"];

/// The names of a tracepoint: a variable of the program wins over a fact of
/// its name; `hit.NAME` is always the fact.
#[derive(Clone, Debug, Default)]
pub struct PointNames {
    facts: CallNames,
    variables: Vec<Arc<str>>,
    /// All functions belong to the net family.
    family: bool,
    /// The program is not known: any name may be a variable's.
    any: bool,
    /// The program has no debug information.
    blind: bool,
}

impl PointNames {
    /// Of functions with these arguments and results.
    pub fn new(arguments: Vec<Arc<str>>, results: Vec<Arc<str>>, family: bool) -> PointNames {
        let variables = arguments.iter().chain(&results).cloned().collect();
        PointNames {
            facts: CallNames::with_signatures(arguments, results),
            variables,
            family,
            any: false,
            blind: false,
        }
    }

    /// The same of a program that may have no debug information.
    #[must_use]
    pub fn of_program(self, target: &Target) -> PointNames {
        PointNames {
            blind: matches!(target.debug_info(), Ok(None)),
            ..self
        }
    }

    /// Where no program is at hand.
    pub fn unknown_program() -> PointNames {
        PointNames {
            any: true,
            ..PointNames::default()
        }
    }

    /// All functions belong to the net family.
    pub fn is_family(&self) -> bool {
        self.family
    }

    /// A fact says what an argument or result of this name says.
    pub fn is_same(&self, name: &str) -> bool {
        // The last result, when it is an error, is `err` under any name.
        name == "err" || self.family && SAME.contains(&name)
    }

    fn is_variable(&self, name: &str) -> bool {
        !self.is_same(name) && self.variables.iter().any(|v| **v == *name)
    }
}

impl Names for PointNames {
    fn name(&self, name: &str) -> Option<Known> {
        let variable = || Known::Fact {
            key: Key::Value(name.into()),
            ty: Type::Any,
            words: &[],
        };
        if self.is_variable(name) {
            return Some(variable());
        }
        self.facts.name(name).or_else(|| self.any.then(variable))
    }

    fn member(&self, space: &str, name: &str) -> Option<Known> {
        self.facts.member(space, name)
    }

    fn names(&self, space: Option<&str>) -> Vec<String> {
        self.facts.names(space)
    }

    fn refused(&self, name: &str) -> Option<String> {
        let known = self.names(None);
        // A slip of a name that is known is told as one.
        let unknown = self.blind && self.name(name).is_none() && nearest(name, &known).is_none();
        unknown.then(|| format!("{NO_DEBUG}; there are {}", known.join(" ")))
    }

    fn unknown_program(&self) -> bool {
        self.any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::CallFact;

    fn key(names: &PointNames, name: &str) -> Key {
        match names.name(name) {
            Some(Known::Fact { key, .. }) => key,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn a_variable_wins_over_a_fact() {
        let names = |family| {
            let args = vec!["time".into(), "n".into()];
            PointNames::new(args, vec!["err".into()], family)
        };
        let own = names(false);
        assert_eq!(key(&own, "n"), Key::Value("n".into()));
        assert_eq!(key(&own, "time"), Key::Value("time".into()));
        assert_eq!(key(&own, "err"), Key::Call(CallFact::Err));
        assert_eq!(key(&names(true), "n"), Key::Call(CallFact::N));
        assert!(matches!(
            own.member("hit", "n"),
            Some(Known::Fact {
                key: Key::Call(CallFact::N),
                ..
            })
        ));
        assert_eq!(own.name("nobody"), None);
    }
}
