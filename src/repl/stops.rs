//! A session whose target stands still: what is said of it, what is done at a
//! stop, and how it goes on.
//!
//! At a prompt the target stands until `continue`. In a script a stop runs the
//! block of its points and goes on, always; but for a stop that a command at the
//! top level waited for (`continue`, `halt`, a step): the commands behind that
//! one see it, and it goes on at the next `continue` or at the script's end.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::commands::display;
use super::output::Form;
use super::shell::{Call, Mode, Shell, Woke};
use crate::addr::LiveAddr;
use crate::image::SourceFrame;
use crate::script::ExprError;
use crate::script::command::Statement;
use crate::session::{Stop, Why};
use crate::value::escaped;

/// A target that stands still.
pub struct Standing {
    /// What was told of it.
    pub stop: Stop,
    /// Where the thread stands that it is about.
    pub place: Option<SourceFrame>,
}

impl Shell {
    /// The target stands still: nothing of it changes by itself.
    pub fn is_stopped(&self) -> bool {
        self.standing.is_some()
    }

    /// The chosen goroutine is the one that the stop is about.
    pub fn at_stop(&self) -> bool {
        let stop = self.standing.as_ref().map(|s| &s.stop);
        stop.is_some_and(|s| s.goid == self.goroutine)
    }

    /// What stands at an address of the process.
    pub fn place_at(&self, at: LiveAddr) -> Option<SourceFrame> {
        let target = &self.source.target;
        target
            .image
            .frames_at(target.bias.image(at))
            .into_iter()
            .next()
    }

    /// News of a stop.
    pub(super) fn on_stop(&mut self, stop: Stop) {
        if self.view_live() {
            self.say("snapshot live: the target stopped");
        }
        let place = (stop.tid != 0).then(|| self.place_at(stop.at)).flatten();
        self.source
            .stand_still(stop.threads.iter().map(Into::into).collect());
        self.tracing.keep(true);
        self.goroutine = match (&stop.why, stop.goid) {
            (_, Some(goid)) => Some(goid),
            (Why::Halted, None) => Some(self.goroutine.unwrap_or(1)),
            (_, None) => None,
        };
        self.thread = u64::try_from(stop.tid).ok().filter(|tid| *tid != 0);
        self.frame = 0;
        let blocks = self.blocks_of(&stop.why);
        self.standing = Some(Standing { stop, place });
        self.tell_stop();
        display::show_all(self);
        for (label, block) in blocks {
            if !self.is_stopped() {
                break;
            }
            self.run_stop_block(&label, &block);
        }
        // Who has it started begins with it, and goes on where it likes.
        let started = self.standing.as_ref().map(|s| &s.stop.why) == Some(&Why::Started);
        let awaited = std::mem::take(&mut self.awaits_stop) || started;
        if self.mode == Mode::Script && !awaited && self.is_stopped() {
            self.resume();
        }
    }

    /// The commands of the points that stopped it.
    fn blocks_of(&self, why: &Why) -> Vec<(String, Vec<Statement>)> {
        let Why::Points(ids) = why else {
            return Vec::new();
        };
        let points = self.points();
        let of = |id: &usize| points.all().iter().find(|p| p.id == *id);
        ids.iter()
            .filter_map(of)
            .filter_map(|p| Some((p.label(), p.point.actions.clone()?)))
            .collect()
    }

    fn run_stop_block(&mut self, label: &str, block: &[Statement]) {
        self.in_block = true;
        for statement in block {
            if !self.is_stopped() {
                break;
            }
            if let Err(error) = self.execute(statement, "") {
                self.action_failed(&format!("breakpoint {label}: {statement}: {error}"));
                if self.is_over() {
                    break;
                }
            }
        }
        self.in_block = false;
    }

    /// Lets the target go on.
    pub fn resume(&mut self) {
        if !self.is_stopped() {
            return;
        }
        if let Some(live) = self.tracing.live() {
            live.resume();
        }
        self.runs_again();
    }

    /// It goes on with a step, and stops again soon.
    pub(super) fn steps_on(&mut self) {
        self.view_live();
        self.standing = None;
        self.source.run_again();
        self.thread = None;
        self.frame = 0;
    }

    /// It goes on, or went on by itself.
    pub(super) fn runs_again(&mut self) {
        self.steps_on();
        self.goroutine = None;
        self.tracing.keep(false);
        // What was taken out while it stood may have been the last point.
        let last = self.points().all().iter().all(|p| !p.enabled);
        if last && let Err(error) = self.apply_points() {
            self.say(&error);
        }
    }

    /// Waits for a stop: true when there is one. Ctrl-C ends the waiting.
    pub fn await_stop(&mut self) -> bool {
        // A copy may come before the script has come to wait for it.
        if self.copies.take_unseen() && self.mode == Mode::Script {
            return false;
        }
        self.awaits_stop = true;
        let stopped = loop {
            match self.wait() {
                Woke::Stopped => break true,
                Woke::Snapped => {
                    self.copies.take_unseen();
                    break false;
                }
                Woke::Cancelled | Woke::TargetGone | Woke::Over => break false,
                Woke::Nothing => {
                    self.say("it runs on: nothing is set that could stop it");
                    break false;
                }
                // Nobody was asked for a line: what comes now was typed before.
                Woke::Resumed | Woke::Line(_) | Woke::Eof => {}
            }
        };
        self.awaits_stop = false;
        stopped && self.is_stopped()
    }

    /// The thread that a command is about: the chosen one, that of the chosen
    /// goroutine, of a core the one that it begins with.
    pub fn thread_at_hand(&self, call: &Call<'_>) -> Result<u64, ExprError> {
        let known = self.source.thread_ids();
        if known.is_empty() {
            return Err(call.fail("the target runs: halt stops it"));
        }
        if let Some(tid) = self.thread {
            return Ok(tid);
        }
        if let (Some(goid), true) = (self.goroutine, self.is_stopped()) {
            return Err(call.fail(format!(
                "goroutine {goid} is on no thread: thread ID chooses one"
            )));
        }
        known
            .first()
            .copied()
            .ok_or_else(|| call.fail("it has no threads"))
    }

    fn tell_stop(&self) {
        let Some(standing) = &self.standing else {
            return;
        };
        match self.form() {
            Form::Json => self.out.object(&self.stop_object(standing)),
            Form::Text => {
                let mut text = self.stop_line(standing);
                text.push_str("   (target stopped)\n");
                let returned = self.returned_values(&standing.stop);
                if !returned.is_empty() {
                    text.push_str("Values returned:\n");
                }
                for (name, value) in returned {
                    text.push_str(&escaped(&format!("    {name}: {value}")));
                    text.push('\n');
                }
                let watched = self.mode == Mode::Prompt || self.awaits_stop;
                if let Some(place) = standing.place.as_ref().filter(|_| watched) {
                    text.push_str(
                        &self
                            .lines_around(&place.file, place.line)
                            .unwrap_or_default(),
                    );
                }
                self.out.push(text.as_bytes());
            }
        }
    }

    fn stop_line(&self, standing: &Standing) -> String {
        let stop = &standing.stop;
        let who = match (stop.goid, stop.tid) {
            (Some(goid), _) => format!("goroutine {goid}"),
            (None, 0) => format!("{} threads", stop.threads.len()),
            (None, tid) => format!("thread {tid}"),
        };
        let at = standing.place.as_ref().map_or_else(
            || stop.at.to_string(),
            |p| {
                let file = self.near(&p.file);
                escaped(&format!("{} {file}:{}", p.function, p.line))
            },
        );
        match &stop.why {
            Why::Points(ids) => {
                let points = self.points();
                let labels: Vec<String> = ids
                    .iter()
                    .map(|id| {
                        let found = points.all().iter().find(|p| p.id == *id);
                        found.map_or_else(|| id.to_string(), |p| escaped(&p.label()))
                    })
                    .collect();
                let plural = if labels.len() == 1 { "" } else { "s" };
                format!("> {who} hit breakpoint{plural} {} {at}", labels.join(", "))
            }
            Why::Halted => format!("> halted: {who}"),
            Why::Started => format!("> started: {who} at {at}"),
            Why::Arrived | Why::NotThere => format!("> {who} at {at}"),
        }
    }

    fn stop_object(&self, standing: &Standing) -> Map<String, Json> {
        let stop = &standing.stop;
        let (why, ids) = match &stop.why {
            Why::Points(ids) => ("breakpoint", ids.clone()),
            Why::Halted => ("halt", Vec::new()),
            Why::Started => ("start", Vec::new()),
            Why::Arrived | Why::NotThere => ("step", Vec::new()),
        };
        let place = standing.place.as_ref();
        let object = json!({
            "event": "stop",
            "why": why,
            "breakpoints": ids,
            "goid": stop.goid,
            "tid": (stop.tid != 0).then_some(stop.tid),
            "func": place.map(|p| &*p.function),
            "file": place.map(|p| &*p.file),
            "line": place.map(|p| p.line),
            "pc": (stop.tid != 0).then(|| stop.at.to_string()),
            "threads": stop.threads.len(),
            "stopping_ns": u64::try_from(stop.took.as_nanos()).unwrap_or(u64::MAX),
        });
        match object {
            Json::Object(mut object) => {
                let returned = self.returned_values(stop).into_iter().map(|(name, value)| {
                    let value = serde_json::to_value(&value).unwrap_or(Json::Null);
                    (name.to_string(), value)
                });
                let returned: Map<String, Json> = returned.collect();
                if !returned.is_empty() {
                    object.insert("returned".into(), Json::Object(returned));
                }
                object
            }
            _ => Map::new(),
        }
    }

    /// A source file as people here call it.
    pub fn near(&self, file: &str) -> String {
        let local = self.config.local(file);
        let here = std::env::current_dir().ok();
        let beside = here.and_then(|here| {
            let rest = std::path::Path::new(&local).strip_prefix(here).ok()?;
            Some(format!("./{}", rest.display()))
        });
        beside.unwrap_or(local)
    }

    /// The source around a line, where the file is on this machine.
    pub fn lines_around(&self, file: &str, line: u32) -> Option<String> {
        let text = std::fs::read_to_string(self.config.local(file)).ok()?;
        let around = self.config.lines_around();
        let first = line.saturating_sub(around).max(1);
        let mut shown = String::new();
        for (number, code) in (1_u32..).zip(text.lines()) {
            if number < first {
                continue;
            }
            if number > line.saturating_add(around) {
                break;
            }
            let mark = if number == line { "=>" } else { "  " };
            let code = escaped(&code.replace('\t', "    "));
            let _ = writeln!(shown, "{mark}{number:5}:  {code}");
        }
        Some(shown)
    }
}
