//! Which parts of a condition are so simple that they can be asked before a
//! record is made: a fact of the call against a number or nil.

use super::ast::BinaryOp;
use super::check::{Checked, Node};
use super::eval::Fact;
use super::facts::{CallFact, Key};

/// `fact == value` or `fact != value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Simple {
    /// What is compared.
    pub fact: CallFact,
    /// `==`, else `!=`.
    pub equal: bool,
    /// With which number; `None` for nil.
    pub value: Option<i64>,
}

impl Checked {
    /// Conditions that must all hold for this one to hold. Others may be needed
    /// besides: what these let through has still to be asked.
    pub fn simple_terms(&self) -> Vec<Simple> {
        match &self.root {
            Node::All(nodes) => nodes.iter().filter_map(|(node, _)| simple(node)).collect(),
            node => simple(node).into_iter().collect(),
        }
    }
}

fn simple(node: &Node) -> Option<Simple> {
    let Node::Compare(op, left, right, _) = node else {
        return None;
    };
    let equal = match op {
        BinaryOp::Eq => true,
        BinaryOp::Ne => false,
        _ => return None,
    };
    let (asked, with) = match (&**left, &**right) {
        (Node::Ask(Key::Call(fact)), Node::Const(with))
        | (Node::Const(with), Node::Ask(Key::Call(fact))) => (*fact, with),
        _ => return None,
    };
    let value = match with {
        Fact::Nil => None,
        Fact::Int(value) => Some(i64::try_from(*value).ok()?),
        _ => return None,
    };
    Some(Simple {
        fact: asked,
        equal,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{CallNames, compile_condition};

    fn terms(text: &str) -> Vec<(CallFact, bool, Option<i64>)> {
        let checked = compile_condition(text, &CallNames::default()).unwrap();
        let terms = checked.simple_terms().into_iter();
        terms.map(|t| (t.fact, t.equal, t.value)).collect()
    }

    #[test]
    fn conjunctions_have_simple_terms() {
        use CallFact::{Err, Fd, Goid, N};
        assert_eq!(terms("fd == 7"), [(Fd, true, Some(7))]);
        assert_eq!(terms("nil != err"), [(Err, false, None)]);
        assert_eq!(
            terms("fd == 7 && n != 0 && dur > 5ms && (goid == 34)"),
            [
                (Fd, true, Some(7)),
                (N, false, Some(0)),
                (Goid, true, Some(34))
            ]
        );
        assert_eq!(terms("fd == 7 || n == 0"), []);
        assert_eq!(terms("n > 0 && func == \"x\""), []);
        assert_eq!(terms("!(fd == 7)"), []);
    }
}
