//! What is asked at a place in the program, on the tracer thread, while one
//! thread waits there: whether a point's condition holds and its counts say so,
//! and what is to be done then.
//!
//! At a function's entry a condition sees the call as it begins: arguments,
//! connection, goroutine, by the same names as in filters and records; with
//! debug information, at every place, also the program's variables that are in
//! scope there. What can be looked up before is looked up before
//! ([`FrameScope`]); at a hit only what the condition names is read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::adapters::LiveTypes;
use super::frame::{Around, Frame, FrameScope};
use super::report::{Reporter, Seen};
use super::snap::CopyRule;
use super::target::Target;
use crate::addr::Bias;
use crate::golang::errors::ErrorReader;
use crate::image::Image;
use crate::record::{Call, LOCALS_UNASKED, Passed};
use crate::script::{BinaryOp, CallFact, Checked, EvalError, Fact, Facts, Key, Part, Stopped};
use crate::value::Limits;

/// What is done about a thread that a hook takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The whole target stops.
    Stop,
    /// A frozen copy is made, and the thread goes on.
    Snap,
    /// It is recorded, and the thread goes on.
    Record,
}

/// `OP N`: which of the counted ones are taken.
pub type Count = (BinaryOp, u64);

/// How often a point's condition held. Shared with whoever lists points.
#[derive(Debug, Default)]
pub struct Tally {
    hits: AtomicU64,
    own: Mutex<HashMap<u64, u64>>,
    error: Mutex<Option<String>>,
}

impl Tally {
    /// How often.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }

    /// What was wrong with the condition, the first time.
    pub fn error(&self) -> Option<String> {
        lock(&self.error).clone()
    }

    /// The condition is another one.
    pub fn forget_error(&self) {
        *lock(&self.error) = None;
    }

    /// True for the first.
    fn note(&self, error: &EvalError) -> bool {
        let mut known = lock(&self.error);
        let first = known.is_none();
        known.get_or_insert_with(|| error.to_string());
        first
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A condition with its counts.
#[derive(Clone, Debug, Default)]
pub struct Test {
    /// What must hold.
    pub condition: Option<Arc<Checked>>,
    /// Which of those that meet it are taken.
    pub hits: Option<Count>,
    /// The same, counted by goroutine.
    pub per_goroutine: Option<Count>,
    /// The counts.
    pub tally: Arc<Tally>,
}

impl Test {
    /// Whether this one is taken; it is counted when the condition holds.
    pub fn takes(&self, facts: &dyn Facts, goid: Option<u64>) -> Result<bool, EvalError> {
        if let Some(condition) = &self.condition
            && !condition.holds(facts)?
        {
            return Ok(false);
        }
        let hits = self.tally.hits.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((op, n)) = self.per_goroutine {
            let mut all = lock(&self.tally.own);
            let own = all.entry(goid.unwrap_or(0)).or_default();
            *own += 1;
            if !counts(op, *own, n) {
                return Ok(false);
            }
        }
        Ok(self.hits.is_none_or(|(op, n)| counts(op, hits, n)))
    }

    /// It asks whose it is.
    fn asks_goid(&self) -> bool {
        let keys = self.condition.as_deref().map_or(&[][..], Checked::keys);
        self.per_goroutine.is_some() || keys.contains(&Key::Call(CallFact::Goid))
    }

    /// It asks for more of a call than whose it is.
    fn asks_call(&self) -> bool {
        let keys = self.condition.as_deref().map_or(&[][..], Checked::keys);
        keys.iter().any(|key| {
            !matches!(
                key,
                Key::Call(CallFact::Goid | CallFact::Tid | CallFact::Func)
            )
        })
    }
}

/// `%` holds for every n-th, as in Delve.
pub fn counts(op: BinaryOp, hits: u64, n: u64) -> bool {
    match op {
        BinaryOp::Eq => hits == n,
        BinaryOp::Ne => hits != n,
        BinaryOp::Lt => hits < n,
        BinaryOp::Le => hits <= n,
        BinaryOp::Gt => hits > n,
        BinaryOp::Ge => hits >= n,
        BinaryOp::Rem => n != 0 && hits.is_multiple_of(n),
        _ => true,
    }
}

/// Something that is asked at a place.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The point's number.
    pub id: usize,
    /// What is done.
    pub answer: Answer,
    /// The place: index into the plan's.
    pub place: usize,
    /// Where it is a function's entry: index into the plan's functions.
    pub func: Option<usize>,
    /// What the condition may name there.
    pub scope: Option<Arc<FrameScope>>,
    /// When.
    pub test: Test,
    /// How it copies, of a [`Answer::Snap`].
    pub copies: Option<Arc<CopyRule>>,
    /// What a record takes along.
    pub takes: Takes,
}

/// What is taken along for a record.
#[derive(Clone, Debug, Default)]
pub struct Takes {
    /// Parts of expressions.
    pub parts: Vec<Part>,
    /// Parameters.
    pub arguments: bool,
    /// Local variables.
    pub locals: bool,
    /// Frames of the stack.
    pub frames: usize,
    /// How much of a value is loaded.
    pub limits: Limits,
    /// Function, file and line.
    pub at: (Arc<str>, Arc<str>, u32),
}

/// A hook that takes a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The point's number.
    pub id: usize,
    /// What is done.
    pub answer: Answer,
}

/// The hooks of a plan, and what is needed to ask them.
pub(super) struct Hooks {
    list: Vec<Hook>,
    image: Arc<Image>,
    bias: Bias,
    types: LiveTypes,
    errors: RefCell<ErrorReader>,
    limits: Limits,
}

impl Hooks {
    pub fn new(target: &Target, list: Vec<Hook>) -> Hooks {
        let minor = target.image.go_version().minor();
        Hooks {
            list,
            image: target.image.clone(),
            bias: target.bias,
            types: target.live_types(),
            errors: RefCell::new(ErrorReader::new(target.layouts.clone(), minor)),
            limits: Limits::default(),
        }
    }

    /// A thread is at a place, now by the session's clock: which hooks take it, and
    /// what was wrong with a
    /// condition, each once. One whose condition cannot be told passes.
    pub fn ask(
        &self,
        (place, now): (usize, u64),
        seen: &Seen<'_>,
        reporter: &mut Reporter,
        wrong: &mut Vec<String>,
        passed: &mut Vec<Call>,
    ) -> Vec<Taken> {
        let mut taken = Vec::new();
        let rests = |hook: &Hook| hook.copies.as_ref().is_some_and(|rule| rule.rests(now));
        let here = self.list.iter().filter(|hook| hook.place == place);
        for hook in here.filter(|hook| !rests(hook)) {
            match self.test(hook, seen, reporter, passed) {
                Ok(true) if hook.answer == Answer::Record => {}
                Ok(true) => taken.push(Taken {
                    id: hook.id,
                    answer: hook.answer,
                }),
                Err(error) if hook.test.tally.note(&error) => {
                    wrong.push(format!("breakpoint {}: its condition: {error}", hook.id));
                }
                Ok(false) | Err(_) => {}
            }
        }
        taken
    }

    fn test(
        &self,
        hook: &Hook,
        seen: &Seen<'_>,
        reporter: &mut Reporter,
        passed: &mut Vec<Call>,
    ) -> Result<bool, EvalError> {
        let records = hook.answer == Answer::Record;
        let call = match hook.func {
            Some(func) if hook.test.asks_call() => reporter.entered(func, seen),
            _ => None,
        };
        let goid = match &call {
            Some((g, _)) => g.goid(),
            None if records || hook.test.asks_goid() => reporter.g(seen).and_then(|g| g.goid()),
            None => None,
        };
        let call = call.map(|(_, call)| call);
        let Some(scope) = hook.scope.as_deref() else {
            let facts = AtPlace {
                call: call.as_deref(),
                goid,
                tid: seen.tid,
                frame: None,
            };
            let takes = hook.test.takes(&facts, goid)?;
            if takes && records {
                let mut call = reporter.passing(seen, goid, hook.takes.frames);
                call.func = hook.takes.at.0.clone();
                call.passed = Some(hook.passed());
                call.no_locals = Some("the debug information does not know the place");
                passed.push(call);
            }
            return Ok(takes);
        };
        let around = Around {
            image: &self.image,
            bias: self.bias,
            types: &self.types,
            errors: &self.errors,
            limits: &self.limits,
        };
        scope.visit(&around, seen, &mut |frame| {
            let facts = AtPlace {
                call: call.as_deref(),
                goid,
                tid: seen.tid,
                frame: Some(frame),
            };
            let takes = hook.test.takes(&facts, goid)?;
            if takes && records {
                let mut call = reporter.passing(seen, goid, hook.takes.frames);
                call.func = hook.takes.at.0.clone();
                call.passed = Some(hook.passed());
                let parts = hook.takes.parts.iter();
                call.taken = parts
                    .map(|part| (part.slot, part.take(&facts, &hook.takes.limits)))
                    .collect();
                let Takes {
                    arguments, locals, ..
                } = hook.takes;
                call.no_locals = (!locals).then_some(LOCALS_UNASKED);
                (call.args, call.locals) = frame.load((arguments, locals), &hook.takes.limits);
                passed.push(call);
            }
            Ok(takes)
        })
    }
}

impl Hook {
    fn passed(&self) -> Passed {
        Passed {
            point: self.id,
            file: self.takes.at.1.clone(),
            line: self.takes.at.2,
        }
    }
}

/// The environment of a condition at a place.
struct AtPlace<'a> {
    call: Option<&'a Call>,
    goid: Option<u64>,
    tid: i32,
    frame: Option<&'a Frame<'a>>,
}

impl Facts for AtPlace<'_> {
    fn fact(&self, key: &Key) -> Fact<'_> {
        match (self.call, key) {
            (Some(call), key) => call.fact(key),
            (None, Key::Call(CallFact::Goid)) => Fact::int(self.goid),
            (None, Key::Call(CallFact::Tid)) => Fact::int(Some(self.tid)),
            (None, Key::Call(CallFact::Func)) => Fact::text(self.frame.map(Frame::function)),
            (None, _) => Fact::Absent,
        }
    }

    fn program(&self) -> Option<&dyn Stopped> {
        self.frame.map(|frame| frame as &dyn Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Facts for Nobody {
        fn fact(&self, _: &Key) -> Fact<'_> {
            Fact::Absent
        }
    }

    #[test]
    fn hits_are_counted_in_all_and_by_goroutine() {
        let test = Test {
            hits: Some((BinaryOp::Ge, 3)),
            per_goroutine: Some((BinaryOp::Rem, 2)),
            ..Test::default()
        };
        let taken: Vec<bool> = [1, 1, 2, 2, 1, 1]
            .into_iter()
            .map(|goid| test.takes(&Nobody, Some(goid)) == Ok(true))
            .collect();
        assert_eq!(taken, [false, false, false, true, false, true]);
        assert_eq!(test.tally.hits(), 6);
    }
}
