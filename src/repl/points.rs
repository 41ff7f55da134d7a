//! The tracepoints of a session: what the shell sets and the writer of records
//! asks.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::asked::Asked;
use super::breaks::PointPlace;
use super::compile::{Action, Compiled};
use super::names::PointNames;
use crate::record::Call;
use crate::script::command::{
    self, Command, Copies, Location, Point, Script, Statement, Strength, Word,
};
use crate::script::{BinaryOp, Checked, EvalError, Span};
use crate::session::hook::{Takes, counts};
use crate::session::{CopyRule, Tally, Test};
use crate::value::Limits;

/// One tracepoint.
#[derive(Clone, Debug)]
pub struct Tracepoint {
    /// Counts from 1.
    pub id: usize,
    /// As it was named.
    pub name: Option<String>,
    /// As it was typed.
    pub point: Point,
    /// Its functions: index in the image's table, and name.
    pub functions: Vec<(u32, Arc<str>)>,
    /// They were named, not matched.
    pub exact: bool,
    /// The names that expressions may use.
    pub names: PointNames,
    /// What a call must meet.
    pub condition: Option<(String, Checked)>,
    /// Which of those that meet it are recorded.
    pub hits_test: Option<(BinaryOp, u64)>,
    /// The same, counted by goroutine.
    pub goroutine_test: Option<(BinaryOp, u64)>,
    /// What is done.
    pub actions: Vec<Action>,
    /// Of each function: what is asked of its calls.
    pub asked: Vec<Asked>,
    /// How much of a value its actions print.
    pub limits: Limits,
    /// It is on.
    pub enabled: bool,
    /// Calls that met the condition.
    pub hits: u64,
    /// The same by goroutine, where that is asked for.
    pub hits_of: HashMap<u64, u64>,
    /// Why the condition could not be evaluated, the first time.
    pub error: Option<String>,
    /// Of a `break` or `snap`, where it stands.
    pub places: Vec<PointPlace>,
    /// And how often it was met.
    pub tally: Arc<Tally>,
    /// How it copies, of a `snap`.
    pub rule: Option<Arc<CopyRule>>,
}

impl Tracepoint {
    /// Made of its command.
    pub fn new(id: usize, point: Point, compiled: Compiled) -> Tracepoint {
        Tracepoint {
            id,
            name: point.name.as_ref().map(|n| n.text.clone()),
            point,
            functions: compiled.functions,
            exact: compiled.exact,
            names: compiled.names,
            condition: compiled.condition,
            hits_test: None,
            goroutine_test: None,
            actions: compiled.actions,
            asked: compiled.asked,
            limits: Limits::default(),
            enabled: true,
            hits: 0,
            hits_of: HashMap::new(),
            error: None,
            places: compiled.places,
            tally: Arc::default(),
            rule: None,
        }
    }

    /// It records calls.
    pub fn is_trace(&self) -> bool {
        self.point.strength == Strength::Trace && self.places.is_empty()
    }

    /// It records that lines inside of functions are passed.
    pub fn is_line(&self) -> bool {
        self.point.strength == Strength::Trace && !self.places.is_empty()
    }

    /// What a record of a line takes along.
    pub fn takes(&self, at: (Arc<str>, Arc<str>, u32)) -> Takes {
        let parts = self.asked.first().map(|a| a.questions.at_entry.clone());
        Takes {
            parts: parts.unwrap_or_default(),
            arguments: self.actions.iter().any(|a| matches!(a, Action::Args)),
            locals: self.actions.iter().any(|a| matches!(a, Action::Locals)),
            frames: self.frames(),
            limits: self.limits,
            at,
        }
    }

    /// How it is called.
    pub fn title(&self) -> &'static str {
        match self.point.strength {
            Strength::Trace => "Tracepoint",
            Strength::Break => "Breakpoint",
            Strength::Snap => "Snappoint",
        }
    }

    /// What the tracer asks where it stands.
    pub fn test(&self) -> Test {
        Test {
            condition: self.condition.as_ref().map(|(_, c)| Arc::new(c.clone())),
            hits: self.hits_test,
            per_goroutine: self.goroutine_test,
            tally: self.tally.clone(),
        }
    }

    /// Calls, or stops.
    pub fn hit_count(&self) -> u64 {
        if self.is_trace() {
            self.hits
        } else {
            self.tally.hits()
        }
    }

    fn wrong(&self) -> Option<String> {
        self.error.clone().or_else(|| self.tally.error())
    }

    /// Its name, else its number.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// Frames that its actions show.
    pub fn frames(&self) -> usize {
        let wanted = self.actions.iter().map(|a| match a {
            Action::Stack(n) => *n,
            Action::Print(_) | Action::Args | Action::Locals => 0,
        });
        let asked = self.condition.iter().any(|(_, c)| asks_stack(c))
            || self.actions.iter().any(|a| match a {
                Action::Print(parts) => parts.iter().any(|(_, c)| asks_stack(c)),
                Action::Stack(_) | Action::Args | Action::Locals => false,
            });
        wanted
            .max()
            .unwrap_or(0)
            .max(if asked { super::compile::FRAMES } else { 0 })
    }

    /// What is asked of the calls of a function of the image's table.
    pub fn asked_of(&self, function: u32) -> Option<&Asked> {
        let at = self.functions.iter().position(|(f, _)| *f == function)?;
        self.asked.get(at)
    }

    /// Whether a call of its function `at` is recorded; it is counted.
    fn wants(&mut self, call: &Call, at: usize) -> Result<bool, EvalError> {
        let asked = self.asked.get(at);
        if let Some(condition) = asked.and_then(|a| a.condition.as_ref())
            && !condition.holds(call)?
        {
            return Ok(false);
        }
        self.hits += 1;
        if let Some((op, n)) = self.goroutine_test {
            let own = self.hits_of.entry(call.goid.unwrap_or(0)).or_default();
            *own += 1;
            if !counts(op, *own, n) {
                return Ok(false);
            }
        }
        Ok(self
            .hits_test
            .is_none_or(|(op, n)| counts(op, self.hits, n)))
    }

    /// The commands that make it again: what `breakpoints -save` writes.
    fn commands(&self) -> Vec<Statement> {
        let at = |command| Statement {
            command,
            span: Span::default(),
        };
        let id = Word {
            text: self.label(),
            span: Span::default(),
        };
        let mut all = vec![at(Command::Point(Box::new(self.point.clone())))];
        if let Some((op, n)) = self.hits_test {
            all.push(at(Command::Condition(
                id.clone(),
                command::Test::Hits(op, n),
            )));
        }
        if let Some((op, n)) = self.goroutine_test {
            all.push(at(Command::Condition(
                id.clone(),
                command::Test::HitsPerGoroutine(op, n),
            )));
        }
        if !self.enabled {
            let toggle = crate::script::command::Verb::Toggle;
            all.push(at(Command::Plain(toggle, vec![id], None)));
        }
        all
    }
}

fn asks_stack(checked: &Checked) -> bool {
    use crate::script::{CallFact, Key};
    checked.keys().contains(&Key::Call(CallFact::Stack))
}

/// All of them.
#[derive(Debug, Default)]
pub struct Points {
    list: Vec<Tracepoint>,
    last: usize,
    /// By function: positions in the list, of those that are on, and the
    /// function's own in theirs.
    by_function: HashMap<Arc<str>, Vec<(usize, usize)>>,
}

impl Points {
    /// The number of the next one.
    pub fn next_id(&self) -> usize {
        self.last + 1
    }

    /// Adds one.
    pub fn add(&mut self, point: Tracepoint) {
        self.last = self.last.max(point.id);
        self.list.push(point);
        self.index();
    }

    /// All, in the order they were set.
    pub fn all(&self) -> &[Tracepoint] {
        &self.list
    }

    /// By number or name.
    pub fn find(&self, id: &str) -> Option<&Tracepoint> {
        self.list.iter().find(|p| answers_to(p, id))
    }

    /// The same, to change it.
    pub fn change(&mut self, id: &str, with: impl FnOnce(&mut Tracepoint)) -> bool {
        let found = self.list.iter_mut().find(|p| answers_to(p, id));
        let known = found.is_some();
        if let Some(point) = found {
            with(point);
        }
        self.index();
        known
    }

    /// Takes out those that `gone` says yes to.
    pub fn remove(&mut self, gone: impl Fn(&Tracepoint) -> bool) -> Vec<Tracepoint> {
        let (out, kept) = std::mem::take(&mut self.list).into_iter().partition(gone);
        self.list = kept;
        self.index();
        out
    }

    fn index(&mut self) {
        self.by_function.clear();
        let on = |p: &Tracepoint| p.enabled && p.is_trace();
        for (at, point) in self.list.iter().enumerate().filter(|(_, p)| on(p)) {
            for (own, (_, name)) in point.functions.iter().enumerate() {
                let all = self.by_function.entry(name.clone()).or_default();
                all.push((at, own));
            }
        }
    }

    /// The tracepoints that take a call, in order, counted; and what was wrong
    /// with a condition, each once.
    pub fn takers(&mut self, call: &Call) -> (Vec<(usize, Vec<Action>)>, Vec<String>) {
        let mut takers = Vec::new();
        let mut errors = Vec::new();
        if let Some(passed) = &call.passed {
            // What it asks was tested where it was passed.
            let found = self.list.iter().find(|p| p.id == passed.point && p.enabled);
            takers.extend(found.map(|p| (p.id, p.actions.clone())));
            return (takers, errors);
        }
        let places = self.by_function.get(&call.func).cloned();
        for (at, own) in places.unwrap_or_default() {
            let Some(point) = self.list.get_mut(at) else {
                continue;
            };
            match point.wants(call, own) {
                Ok(true) => {
                    let asked = point.asked.get(own);
                    let actions = asked.map(|a| a.actions.clone()).unwrap_or_default();
                    takers.push((point.id, actions));
                }
                Err(error) if point.error.is_none() => {
                    errors.push(format!(
                        "tracepoint {}: its condition: {error}",
                        point.label()
                    ));
                    point.error = Some(error.to_string());
                }
                Ok(false) | Err(_) => {}
            }
        }
        (takers, errors)
    }

    /// A script that makes them again.
    pub fn save(&self) -> String {
        let statements = self.list.iter().flat_map(Tracepoint::commands).collect();
        Script { statements }.to_string()
    }

    /// For people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for p in &self.list {
            let names: Vec<&str> = p.functions.iter().take(3).map(|(_, n)| &**n).collect();
            let more = p.functions.len().saturating_sub(names.len());
            let _ = write!(text, "{} {}", p.title(), p.label());
            let _ = write!(
                text,
                " ({})",
                if p.enabled { "enabled" } else { "disabled" }
            );
            let _ = write!(text, " on {}", names.join(", "));
            if more > 0 {
                let _ = write!(text, " and {more} more");
            }
            let _ = writeln!(text, " hits {}", p.hit_count());
            if let Some((condition, _)) = &p.condition {
                let _ = writeln!(text, "    cond {condition}");
            }
            if let Some((op, n)) = p.hits_test {
                let _ = writeln!(text, "    cond -hitcount {} {n}", op.as_str());
            }
            if let Some((op, n)) = p.goroutine_test {
                let _ = writeln!(text, "    cond -per-g-hitcount {} {n}", op.as_str());
            }
            for action in p.point.actions.iter().flatten() {
                let _ = writeln!(text, "    {action}");
            }
            if let Some(error) = p.wrong() {
                let _ = writeln!(text, "    condition failed: {error}");
            }
        }
        text
    }
}

fn answers_to(point: &Tracepoint, id: &str) -> bool {
    point.name.as_deref() == Some(id) || point.id.to_string() == id
}

/// A plain `trace` of a place.
pub fn trace_of(location: Location) -> Point {
    Point {
        strength: Strength::Trace,
        copies: Copies::default(),
        name: None,
        location,
        condition: None,
        actions: None,
    }
}
