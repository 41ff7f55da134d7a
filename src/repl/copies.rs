//! The frozen copies of a session: those that are held, the one that is looked
//! at, and what is done when one comes.
//!
//! Whoever looks asks [`Shell::source`]; to look at a copy is to have its source
//! there, and the target's kept aside. At a prompt a copy stays until it is
//! dropped. In a script one whose point has a block is dropped behind its block;
//! others stay for the commands that follow.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::config::Config;
use super::output::Form;
use super::points::Tracepoint;
use super::shell::{Mode, Shell};
use crate::image::SourceFrame;
use crate::process::snapshot::memory_of;
use crate::script::command::{Point, Statement, Strength};
use crate::session::look::Source;
use crate::session::{CopyLimits, CopyRule, NotSnapped, Snapped};
use crate::sink::format::Nanos;
use crate::value::escaped;

/// A copy that is held.
pub struct Copy {
    /// Counts from 1, in the order they were made.
    pub number: usize,
    /// What was told of it; it is held with this.
    pub snapped: Snapped,
    /// Where the thread stood that hit.
    pub place: Option<SourceFrame>,
    /// How its point is called.
    pub point: String,
    /// What is looked at, unless it is looked at now.
    source: Option<Source>,
}

impl Copy {
    /// `goroutine 51`
    fn who(&self) -> String {
        match self.snapped.goid {
            Some(goid) => format!("goroutine {goid}"),
            None => format!("thread {}", self.snapped.tid),
        }
    }
}

/// All of a session's copies.
pub struct Copies {
    list: Vec<Copy>,
    last: usize,
    /// The one that is looked at, and the target's own source meanwhile.
    viewed: Option<(usize, Source)>,
    limits: Arc<CopyLimits>,
}

impl Copies {
    /// None yet.
    pub fn new(config: &Config) -> Copies {
        Copies {
            list: Vec::new(),
            last: 0,
            viewed: None,
            limits: Arc::new(CopyLimits::new(
                config.snap_max_pause.unwrap_or(std::time::Duration::MAX),
                config.snap_max_copies,
            )),
        }
    }

    /// How a point copies; `None` for one that is no `snap`.
    pub fn rule_for(&self, point: &Point) -> Option<Arc<CopyRule>> {
        (point.strength == Strength::Snap).then(|| {
            let count = point.copies.count.unwrap_or(1);
            Arc::new(CopyRule::new(count, point.copies.consistent, &self.limits))
        })
    }

    /// What all points share.
    pub fn limits(&self) -> &CopyLimits {
        &self.limits
    }

    /// The number of the one that is looked at.
    pub fn viewed(&self) -> Option<usize> {
        self.viewed.as_ref().map(|(number, _)| *number)
    }

    /// All that are held.
    pub fn all(&self) -> &[Copy] {
        &self.list
    }
}

impl Shell {
    /// Looks at a copy from now on, at the goroutine that hit. False when there
    /// is none of that number.
    pub fn view_copy(&mut self, number: usize) -> bool {
        self.view_live();
        let Some(copy) = self.copies.list.iter_mut().find(|c| c.number == number) else {
            return false;
        };
        let Some(source) = copy.source.take() else {
            return false;
        };
        let live = std::mem::replace(&mut self.source, source);
        self.goroutine = copy.snapped.goid;
        self.thread = u64::try_from(copy.snapped.tid).ok();
        self.frame = 0;
        self.copies.viewed = Some((number, live));
        true
    }

    /// Looks at the target itself from now on. True when a copy was looked at.
    pub fn view_live(&mut self) -> bool {
        let Some((number, live)) = self.copies.viewed.take() else {
            return false;
        };
        let source = std::mem::replace(&mut self.source, live);
        if let Some(copy) = self.copies.list.iter_mut().find(|c| c.number == number) {
            copy.source = Some(source);
        }
        let stop = self.standing.as_ref().map(|s| &s.stop);
        self.goroutine = stop.and_then(|s| s.goid);
        self.thread = stop.and_then(|s| u64::try_from(s.tid).ok().filter(|tid| *tid != 0));
        self.frame = 0;
        true
    }

    /// Drops a copy. False when there is none of that number.
    pub fn drop_copy(&mut self, number: usize) -> bool {
        if self.copies.viewed() == Some(number) {
            self.view_live();
        }
        let before = self.copies.list.len();
        self.copies.list.retain(|c| c.number != number);
        self.copies.list.len() < before
    }

    /// Drops all. How many there were.
    pub fn drop_copies(&mut self) -> usize {
        self.view_live();
        std::mem::take(&mut self.copies.list).len()
    }

    /// A copy was made.
    pub(super) fn on_snapped(&mut self, snapped: Snapped) {
        let Some(pid) = self.tracing.pid() else {
            return;
        };
        let (id, left) = (snapped.id, snapped.left);
        let point = self.points().all().iter().find(|p| p.id == id).cloned();
        let label = point
            .as_ref()
            .map_or_else(|| id.to_string(), Tracepoint::label);
        if left == 0 {
            self.rest(id);
        }
        let target = self.source.target.clone();
        let pids = (pid, snapped.copy.pid);
        let threads = snapped.threads.clone();
        let source = match Source::frozen(target, pids, threads, snapped.moment) {
            Ok(source) => source,
            Err(error) => {
                let what = format!("snap {label}: the copy cannot be read: {error}");
                self.action_failed(&what);
                return;
            }
        };
        self.copies.last += 1;
        let number = self.copies.last;
        let copy = Copy {
            number,
            place: self.place_at(snapped.at),
            snapped,
            point: label.clone(),
            source: Some(source),
        };
        self.tell_copy(&copy);
        self.copies.list.push(copy);
        let Some(block) = point.and_then(|p| p.point.actions) else {
            return;
        };
        let before = self.copies.viewed();
        let chosen = (self.goroutine, self.frame, self.thread);
        if self.view_copy(number) {
            self.run_copy_block(&label, &block);
        }
        match before.filter(|before| *before != number) {
            Some(before) => drop(self.view_copy(before)),
            None => drop(self.view_live()),
        }
        (self.goroutine, self.frame, self.thread) = chosen;
        if self.mode == Mode::Script {
            self.drop_copy(number);
        }
    }

    fn run_copy_block(&mut self, label: &str, block: &[Statement]) {
        self.in_block = true;
        for statement in block {
            if let Err(error) = self.execute(statement, "") {
                self.action_failed(&format!("snap {label}: {statement}: {error}"));
                if self.is_over() {
                    break;
                }
            }
        }
        self.in_block = false;
    }

    /// A copy was refused.
    pub(super) fn on_not_snapped(&mut self, refused: &NotSnapped) {
        let found = self
            .points()
            .all()
            .iter()
            .find(|p| p.id == refused.id)
            .map(Tracepoint::label);
        let label = found.unwrap_or_else(|| refused.id.to_string());
        self.rest(refused.id);
        self.action_failed(&format!(
            "snap {label}: no copy was made: {}; the point rests, `toggle {label}` sets it again",
            refused.why
        ));
    }

    /// A point has made its copies: nothing stays armed for it.
    fn rest(&mut self, id: usize) {
        self.points().change(&id.to_string(), |p| p.enabled = false);
        if let Err(error) = self.apply_points() {
            self.say(&error);
        }
    }

    fn tell_copy(&self, copy: &Copy) {
        match self.form() {
            Form::Json => self.out.object(&object(copy)),
            Form::Text => {
                let snapped = &copy.snapped;
                let at = copy.place.as_ref().map_or_else(
                    || snapped.at.to_string(),
                    |p| format!("{} {}:{}", p.function, self.near(&p.file), p.line),
                );
                let text = format!(
                    "> {} in snapshot {} at {at}   (target paused {} for {} MB, runs on)",
                    copy.who(),
                    copy.number,
                    milliseconds(snapped.copy.pause),
                    snapped.copy.resident.div_ceil(1 << 20),
                );
                self.out.push(format!("{}\n", escaped(&text)).as_bytes());
            }
        }
    }

    /// The copies, a line each.
    pub fn list_copies(&self) -> String {
        let mut text = String::new();
        for copy in &self.copies.list {
            let viewed = self.copies.viewed() == Some(copy.number);
            let at = copy.place.as_ref().map_or_else(
                || copy.snapped.at.to_string(),
                |p| format!("{} {}:{}", p.function, self.near(&p.file), p.line),
            );
            let line = format!(
                "{} {}  {}  {} ago  {}  {} at {at}{}",
                if viewed { '*' } else { ' ' },
                copy.number,
                match memory_of(copy.snapped.copy.pid) {
                    Some(bytes) => format!("{:.1} MB its own", bytes as f64 / f64::from(1 << 20)),
                    None => "gone: it was killed, for want of memory perhaps".to_owned(),
                },
                seconds(copy.snapped.copy.taken.elapsed()),
                copy.point,
                copy.who(),
                if copy.snapped.consistent {
                    "  consistent"
                } else {
                    ""
                },
            );
            text.push_str(&escaped(&line));
            text.push('\n');
        }
        text
    }

    /// The same as objects.
    pub fn copy_objects(&self) -> Vec<Json> {
        let all = self.copies.list.iter();
        all.map(|copy| {
            let mut object = object(copy);
            let age = copy.snapped.copy.taken.elapsed().as_nanos();
            object.insert("own".into(), memory_of(copy.snapped.copy.pid).into());
            object.insert(
                "age_ns".into(),
                u64::try_from(age).unwrap_or(u64::MAX).into(),
            );
            object.insert(
                "viewed".into(),
                (self.copies.viewed() == Some(copy.number)).into(),
            );
            object.remove("event");
            Json::Object(object)
        })
        .collect()
    }
}

/// `9.8 ms`
fn milliseconds(time: std::time::Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// `12s`
fn seconds(time: std::time::Duration) -> String {
    match time.as_secs() {
        0 => "0s".to_owned(),
        whole => Nanos(whole.saturating_mul(1_000_000_000)).to_string(),
    }
}

fn object(copy: &Copy) -> Map<String, Json> {
    let snapped = &copy.snapped;
    let place = copy.place.as_ref();
    let object = json!({
        "event": "snapshot",
        "snapshot": copy.number,
        "point": copy.point,
        "goid": snapped.goid,
        "tid": snapped.tid,
        "func": place.map(|p| &*p.function),
        "file": place.map(|p| &*p.file),
        "line": place.map(|p| p.line),
        "pause_ns": u64::try_from(snapped.copy.pause.as_nanos()).unwrap_or(u64::MAX),
        "resident": snapped.copy.resident,
        "consistent": snapped.consistent,
        "copy_pid": snapped.copy.pid,
    });
    match object {
        Json::Object(object) => object,
        _ => Map::new(),
    }
}
