//! What trampolines ask before they write: the simple parts of `--where`, and
//! `--every-nth`. They only spare records: whoever writes calls asks the whole
//! condition of each that comes.

use super::captures::connection;
use crate::arch::jump::gate::COUNTERS;
use crate::arch::jump::{Capture, Gate, Mark, Test};
use crate::probe::plan::{Plan, Role};
use crate::script::{CallFact, Simple};
use crate::session::engine::Options;
use crate::session::report::Reporter;

/// The gates of a session.
pub struct Gates<'a> {
    reporter: &'a Reporter,
    plan: &'a Plan,
    options: &'a Options,
    /// For each function: what its entries are asked, and whether calls leave a
    /// mark.
    entries: Vec<Vec<Test>>,
}

impl<'a> Gates<'a> {
    /// Works out what each entry is asked, of the functions that jump.
    pub fn new(
        reporter: &'a Reporter,
        plan: &'a Plan,
        options: &'a Options,
        jumps: &dyn Fn(usize) -> bool,
    ) -> Gates<'a> {
        // A site that is somebody else's, too, has no gate.
        let alone = |func: usize| {
            let shared = |roles: &[Role]| roles.len() > 1 && roles.contains(&Role::Entry(func));
            !plan.sites.iter().any(|site| shared(&site.roles))
        };
        let entries = (0..plan.functions.len())
            .map(|func| match alone(func) && jumps(func) {
                true => at_entry(reporter, func, options),
                false => Vec::new(),
            })
            .collect();
        Gates {
            reporter,
            plan,
            options,
            entries,
        }
    }

    /// Calls of this function that are let in leave a mark.
    pub fn marks(&self, func: usize) -> bool {
        self.entries
            .get(func)
            .is_some_and(|tests| !tests.is_empty())
    }

    /// The gate of a site; `ends` tells which functions' calls a RET may end.
    pub fn of_site(&self, roles: &[Role], ends: &dyn Fn(Option<usize>) -> Vec<usize>) -> Gate {
        match *roles {
            [Role::Entry(func)] => Gate {
                tests: self.entries.get(func).cloned().unwrap_or_default(),
                mark: if self.marks(func) {
                    Mark::Leave
                } else {
                    Mark::None
                },
            },
            [Role::Return(own)] => {
                let functions = ends(own);
                let all = |holds: &dyn Fn(usize) -> bool| {
                    !functions.is_empty() && functions.iter().all(|f| holds(*f))
                };
                let mut tests = functions.iter().map(|func| self.at_return(*func));
                let first = tests.next().unwrap_or_default();
                Gate {
                    tests: if tests.all(|other| other == first) {
                        first
                    } else {
                        Vec::new()
                    },
                    mark: if all(&|func| self.marks(func)) {
                        Mark::Ask
                    } else {
                        Mark::None
                    },
                }
            }
            _ => Gate::default(),
        }
    }

    /// A call that returned and is not wanted is told as one that did not: the
    /// filter refuses that, too, for it has no result. `--slow` would not.
    fn at_return(&self, func: usize) -> Vec<Test> {
        let Some(family) = self.reporter.family(func) else {
            return Vec::new();
        };
        if self.options.slow.is_some() || self.plan.functions.get(func).is_none() {
            return Vec::new();
        }
        let test = |term: &Simple| {
            let (register, value) = match (term.fact, term.value) {
                (CallFact::N, Some(value)) => (family.n?, value),
                (CallFact::Err, None) => (family.err?, 0),
                _ => return None,
            };
            Some(Test::Int {
                register,
                equal: term.equal,
                value,
            })
        };
        self.options.terms.iter().filter_map(test).collect()
    }
}

fn at_entry(reporter: &Reporter, func: usize, options: &Options) -> Vec<Test> {
    let mut tests = Vec::new();
    if let Some(k) = options.every {
        let counter = u16::try_from(func % usize::from(COUNTERS)).unwrap_or(0);
        tests.push(Test::Every { k, counter });
    }
    for term in &options.terms {
        let (equal, value) = match term.value {
            Some(value) => (term.equal, value),
            None => continue,
        };
        match term.fact {
            CallFact::Goid if value > 0 => tests.push(Test::Goid { equal, value }),
            CallFact::Fd => tests.extend(descriptor(reporter, func, equal, value)),
            _ => {}
        }
    }
    tests
}

/// The receiver's descriptor. What a function gives back has its own, which is
/// known at the RET only.
fn descriptor(reporter: &Reporter, func: usize, equal: bool, value: i64) -> Option<Test> {
    let family = reporter.family(func)?;
    let (register, kind) = family.receiver?;
    // One that is closed has no descriptor, and is not told with one.
    if family.gives.is_some() || value < 0 {
        return None;
    }
    let (capture, fields) = connection(reporter.layouts(), register, kind)?;
    let Capture::Chain { from, hops, .. } = capture else {
        return None;
    };
    Some(Test::Reached {
        from,
        hops,
        field: *fields.fields.first()?,
        equal,
        value,
    })
}
