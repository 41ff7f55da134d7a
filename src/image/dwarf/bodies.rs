//! One function as steps see it: its lines, and the bodies that were inlined
//! in it, as a tree.
//!
//! Which bodies a step enters is Delve's rule (pkg/proc/target_exec.go:
//! removeInlinedCalls, 1.27), so that people land where they are used to.

use std::sync::Arc;

use super::Dwarf;
use super::lines::FunctionLines;
use crate::addr::ImageAddr;
use crate::image::Function;

/// A body that was inlined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// Of the function whose body it is.
    pub function: Arc<str>,
    /// How deep its entry lies in the function's.
    pub(super) depth: isize,
    /// Its own code and that of the bodies in it.
    pub(super) ranges: Vec<(u64, u64)>,
}

impl Body {
    /// Whether an instruction is its, or of a body in it.
    pub fn holds(&self, pc: ImageAddr) -> bool {
        self.ranges.iter().any(|(a, b)| (*a..*b).contains(&pc.0))
    }
}

/// What [`Dwarf::step_map`] finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepMap {
    /// The function's first instruction.
    pub entry: ImageAddr,
    /// Its rows.
    pub lines: FunctionLines,
    /// What was inlined in it, deepest first.
    pub bodies: Vec<Body>,
}

impl StepMap {
    /// File and line of an instruction, as Delve has them: a function that
    /// begins with none of its own has those of its beginning throughout.
    pub fn line_at(&self, pc: ImageAddr) -> Option<(&str, u32)> {
        let begins = self.lines.rows.first().map_or(self.entry, |r| r.at);
        self.lines
            .at(if begins > self.entry { self.entry } else { pc })
    }

    /// The bodies around an instruction, innermost first, as indices.
    pub fn bodies_at(&self, pc: ImageAddr) -> Vec<usize> {
        let held = self.bodies.iter().enumerate();
        held.filter(|(_, b)| b.holds(pc)).map(|(i, _)| i).collect()
    }

    /// Where statements of other lines than `here` begin.
    pub fn statements_but(&self, here: Option<(&str, u32)>) -> Vec<ImageAddr> {
        let mut found: Vec<ImageAddr> = Vec::new();
        for row in self.lines.rows.iter().filter(|r| r.statement) {
            let this = self.lines.files.get(row.file).map(|f| (&**f, row.line));
            // Of several rows at one address the first counts.
            if this != here && found.last() != Some(&row.at) {
                found.push(row.at);
            }
        }
        found
    }

    /// Whether a step that goes over calls may land on an instruction: not in
    /// what is inlined, but for the body `own` that the step began in, and for
    /// bodies of `family`: a function and its loops over functions.
    pub fn is_entered(&self, at: ImageAddr, own: Option<usize>, family: &str) -> bool {
        let Some(innermost) = self.bodies.iter().position(|b| b.holds(at)) else {
            return true;
        };
        own == Some(innermost)
            || self.bodies.get(innermost).is_some_and(|body| {
                range_parent(&body.function).unwrap_or(&body.function) == family
            })
    }
}

/// The function that the body of a loop over a function stands in, by the
/// body's name: `main.f` of `main.f-range1` and of `main.f-range1-range2`
/// (cmd/compile/internal/rangefunc, Go 1.23).
pub fn range_parent(name: &str) -> Option<&str> {
    let (parent, number) = name.rsplit_once("-range")?;
    if parent.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(range_parent(parent).unwrap_or(parent))
}

impl Dwarf {
    /// A function's lines and inlined bodies; `None` where it has no lines.
    pub fn step_map(&self, function: &Function<'_>) -> Option<StepMap> {
        let lines = self.lines_of(function)?;
        let inlined = self.inlined_by_entry(function);
        let mut bodies: Vec<Body> = Vec::with_capacity(inlined.len());
        for (index, one) in inlined.iter().enumerate() {
            // The ranges of a body may leave out those of bodies in it.
            let mut around = one.within;
            while let Some(body) = around.and_then(|i| bodies.get_mut(i)) {
                body.ranges.extend(&one.ranges);
                let outer = around.and_then(|i| inlined.get(i)?.within);
                around = outer.filter(|o| *o < index);
            }
            bodies.push(Body {
                function: one.name.clone(),
                depth: one.depth,
                ranges: one.ranges.clone(),
            });
        }
        bodies.sort_by_key(|body| std::cmp::Reverse(body.depth));
        Some(StepMap {
            entry: function.entry(),
            lines,
            bodies,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parents_of_loop_bodies_are_known_by_name() {
        assert_eq!(range_parent("main.f-range1"), Some("main.f"));
        assert_eq!(range_parent("main.f-range1-range12"), Some("main.f"));
        assert_eq!(range_parent("main.f.func1-range2"), Some("main.f.func1"));
        assert_eq!(range_parent("main.f"), None);
        assert_eq!(range_parent("main.f-rangeX"), None);
        assert_eq!(range_parent("-range1"), None);
    }

    #[test]
    fn a_step_over_calls_enters_only_its_own_body() {
        let body = |function: &str, depth, from, to| Body {
            function: function.into(),
            depth,
            ranges: vec![(from, to)],
        };
        let map = StepMap {
            bodies: vec![
                body("main.inner", 2, 30, 40),
                body("main.f-range1", 1, 60, 70),
                body("main.outer", 1, 20, 50),
            ],
            entry: ImageAddr(10),
            lines: FunctionLines::default(),
        };
        let entered = |own| {
            let all = [10, 25, 35, 65].map(ImageAddr);
            all.map(|at| map.is_entered(at, own, "main.f"))
        };
        assert_eq!(entered(None), [true, false, false, true]);
        assert_eq!(entered(Some(0)), [true, false, true, true]);
        assert_eq!(entered(Some(2)), [true, true, false, true]);
        assert_eq!(map.bodies_at(ImageAddr(35)), [0, 2]);
    }
}
