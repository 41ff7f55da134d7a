//! A session: a program that is looked at, its tracepoints, and the commands
//! that change and ask. One thread runs all commands; what happens elsewhere
//! (the prompt, signals, the tracer) comes to it as events.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::check::usable;
use super::commands;
use super::commands::display::Displays;
use super::config::Config;
use super::copies::Copies;
use super::delve::{returns_of_traces, without_place};
use super::output::{Form, Output};
use super::points::Points;
use super::stops::Standing;
use super::terminal::Terminal;
use super::tracing::{Begun, Tracing};
use super::waiting::tell_end;
pub use super::waiting::{Event, Woke};
use super::watcher::Figures;
use crate::golang::step::Deferred;
use crate::script::command::{Command, Statement, Strength, Verb, Word, parse_script};
use crate::script::{ExprError, Span};
use crate::session::Stepper;
use crate::session::look::Source;
use crate::sys::signals;

/// Where commands come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A script, or a pipe: Ctrl-C ends the session.
    Script,
    /// Somebody at a terminal.
    Prompt,
}

/// A command, as its function sees it.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The words behind its name.
    pub words: &'a [Word],
    /// Where it stands.
    pub span: Span,
    /// The command that it is a prefix of.
    pub then: Option<&'a Statement>,
}

impl Call<'_> {
    /// An error about the whole command.
    pub fn fail(&self, message: impl std::fmt::Display) -> ExprError {
        ExprError::new(self.span, message.to_string())
    }

    /// Nothing may follow.
    pub fn no_words(&self) -> Result<(), ExprError> {
        match self.words.first() {
            Some(word) => Err(ExprError::new(word.span, "nothing follows here")),
            None => Ok(()),
        }
    }
}

/// Something that is done again and again.
pub(super) struct Timer {
    pub period: Duration,
    pub next: Instant,
    pub block: Vec<Statement>,
}

/// A session.
pub struct Shell {
    /// The program.
    pub source: Source,
    /// What is said and shown.
    pub out: Output,
    /// The tracepoints.
    pub points: Arc<Mutex<Points>>,
    /// The figures of all calls.
    pub figures: Arc<Mutex<Figures>>,
    /// The tracer.
    pub tracing: Tracing,
    /// Settings.
    pub config: Config,
    /// The goroutine that was chosen.
    pub goroutine: Option<u64>,
    /// Its frame that was chosen; 0 is the innermost.
    pub frame: usize,
    /// A deferred call of that frame that a command is about.
    pub(super) deferred: Option<Deferred>,
    /// The variables of that frame, for completion.
    pub in_scope: Arc<Mutex<Vec<String>>>,
    /// The thread that was chosen, of a target that stands still.
    pub thread: Option<u64>,
    /// The target stands still.
    pub standing: Option<Standing>,
    /// Frozen copies of it.
    pub copies: Copies,
    /// What is shown at each stop.
    pub displays: Displays,
    /// What steps have learnt of the program.
    pub(super) stepper: Option<Arc<Stepper>>,
    /// A command waits for a stop.
    pub(super) awaits_stop: bool,
    /// The block of a point is run.
    pub(super) in_block: bool,
    /// What asks for commands.
    pub mode: Mode,
    /// A line was asked for, and has not come.
    pub asked: bool,
    /// The terminal's modes as they were found.
    pub(super) terminal: Option<Terminal>,
    pub(super) timers: Vec<Timer>,
    pub(super) deadline: Option<Instant>,
    on_exit: Vec<Statement>,
    stop_on_error: bool,
    pub(super) over: bool,
    pub(super) target_gone: bool,
    /// Its process has ended, and the tracer may tell how.
    pub(super) target_ended: bool,
    /// The process, where gotap has started it.
    pub(super) started: Option<i32>,
    /// The session ends because somebody has said so, not by a signal or its time.
    pub(super) by_word: bool,
    /// It is to be ended, too.
    pub(super) kills: bool,
    failed: bool,
    pub(super) events: Receiver<Event>,
    /// Files that are run, one in another.
    pub(super) sources: usize,
    last: Option<Statement>,
    /// Names of breaks that belong to traces.
    pub(super) joined: HashSet<String>,
}

impl Shell {
    /// Around an opened program, which gotap may have started.
    pub fn new(
        source: Source,
        out: Output,
        mode: Mode,
        events: (Sender<Event>, Receiver<Event>),
        begun: Option<Begun>,
    ) -> Shell {
        let started = source.pid.filter(|_| begun.is_some());
        let points = Arc::new(Mutex::new(Points::default()));
        let figures = Arc::new(Mutex::new(Figures::new(out.form())));
        let (tell, events) = events;
        let terminal = mode == Mode::Prompt;
        if let Some(pid) = source.pid {
            tell_end(pid, tell.clone());
        }
        let tracing = Tracing::new(&source, &points, &figures, &out, terminal, tell, begun);
        Shell {
            source,
            out,
            points,
            figures,
            tracing,
            config: Config::default(),
            goroutine: None,
            frame: 0,
            deferred: None,
            in_scope: Arc::default(),
            thread: None,
            standing: None,
            copies: Copies::new(&Config::default()),
            displays: Displays::default(),
            stepper: None,
            awaits_stop: false,
            in_block: false,
            mode,
            asked: false,
            terminal: None,
            timers: Vec::new(),
            deadline: None,
            on_exit: Vec::new(),
            stop_on_error: false,
            over: false,
            target_gone: false,
            target_ended: false,
            started,
            by_word: false,
            kills: false,
            failed: false,
            events,
            sources: 0,
            last: None,
            joined: HashSet::new(),
        }
    }

    /// The tracepoints, to look at or change.
    pub fn points(&self) -> MutexGuard<'_, Points> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something beside the data.
    pub fn say(&self, text: &str) {
        self.out.say(text, self.mode == Mode::Prompt);
    }

    /// The answer of a command, in words.
    pub fn answer(&self, verb: Verb, text: &str) {
        self.out.answer(verb.name(), text);
    }

    /// What a command that changes something says to somebody at a prompt; a
    /// script's output is its records.
    pub fn tell(&self, verb: Verb, text: &str) {
        if self.mode == Mode::Prompt {
            self.answer(verb, text);
        } else {
            self.say(text.trim_end());
        }
    }

    /// Text or JSON.
    pub fn form(&self) -> Form {
        self.out.form()
    }

    /// The session ends when this command is done.
    pub fn end(&mut self) {
        self.over = true;
        self.by_word = true;
    }

    /// The block of a point is run.
    pub fn in_block(&self) -> bool {
        self.in_block
    }

    /// It is to end.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Something of a script failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Runs the text of a script, or what was typed. What is wrong is said, with
    /// its place, and the rest goes on, unless `set -e` stood at its head.
    pub fn run_text(&mut self, name: &str, text: &str) {
        let parsed = parse_script(text);
        if !parsed.errors.is_empty() {
            for error in &parsed.errors {
                self.wrong(name, text, error);
            }
            // A file that cannot be read is not run by halves.
            return;
        }
        let target = self.source.target.clone();
        let halves = if name.is_empty() {
            Vec::new()
        } else {
            let mut left = returns_of_traces(&target, &self.config, &parsed.script);
            left.extend(without_place(&parsed.script));
            left
        };
        for (at, statement) in parsed.script.statements.iter().enumerate() {
            if self.poll() || self.over {
                return;
            }
            if let Some(half) = halves.iter().find(|h| h.statement == at) {
                self.say(&half.warning);
                self.joined.insert(half.name.clone());
                continue;
            }
            if self.is_of_joined(statement) {
                continue;
            }
            if let Err(error) = self.execute(statement, name) {
                self.wrong(name, text, &error);
                if self.stop_on_error {
                    self.say("set -e: the script ends here");
                    self.over = true;
                }
            }
        }
        if let [one] = parsed.script.statements.as_slice() {
            self.last = Some(one.clone());
        }
    }

    /// Does the last command again, when that only looks.
    pub fn repeat(&mut self) {
        let Some(last) = self.last.clone() else {
            return;
        };
        let looks = matches!(&last.command, Command::Plain(verb, ..)
            if !matches!(verb, Verb::Clear | Verb::ClearAll | Verb::Toggle | Verb::Source | Verb::Exit));
        if looks {
            let text = last.to_string();
            self.run_text("", &text);
        }
    }

    /// An action failed, and was said so; with `set -e` that is the end.
    pub(super) fn action_failed(&mut self, what: &str) {
        self.failed = true;
        self.say(what);
        if self.stop_on_error {
            self.say("set -e: the script ends here");
            self.over = true;
        }
    }

    fn wrong(&mut self, name: &str, text: &str, error: &ExprError) {
        self.failed = true;
        let rendered = if name.is_empty() {
            error.render_typed(text)
        } else {
            error.render_at(name, text)
        };
        self.say(&rendered);
    }

    /// Runs one command. `file` is where it stands, for files that it names.
    pub fn execute(&mut self, statement: &Statement, file: &str) -> Result<(), ExprError> {
        match &statement.command {
            Command::Point(point) => {
                let point = &self.config.placed(point);
                match point.strength {
                    Strength::Trace => commands::trace::run(self, point, statement.span),
                    Strength::Break => commands::breaks::run(self, point, statement.span),
                    Strength::Snap => commands::snap::run(self, point, statement.span),
                }
            }
            Command::Every(ns, block) => {
                let period = Duration::from_nanos(*ns);
                self.timers.push(Timer {
                    period,
                    next: Instant::now() + period,
                    block: block.clone(),
                });
                Ok(())
            }
            Command::For(ns) => {
                self.deadline = Some(Instant::now() + Duration::from_nanos(*ns));
                Ok(())
            }
            Command::OnExit(block) => {
                self.on_exit.extend(block.iter().cloned());
                Ok(())
            }
            Command::On(id, block) => commands::on::run(self, id, block),
            Command::Condition(id, test) => commands::condition::run(self, id, test),
            Command::Print(exprs) => commands::print::run(self, exprs, statement.span),
            Command::Whatis(expr) => commands::whatis::run(self, expr, statement.span),
            Command::StopOnError => {
                self.stop_on_error = true;
                Ok(())
            }
            Command::Plain(verb, words, then) => {
                usable(*verb, statement)?;
                let call = Call {
                    words,
                    span: statement.span,
                    then: then.as_deref(),
                };
                match verb {
                    Verb::Source => commands::source::run(self, call, file),
                    verb => commands::run(self, *verb, call),
                }
            }
        }
    }

    /// Something is still to come: calls, or what a timer does.
    pub fn has_more(&self) -> bool {
        !self.over && (self.tracing.is_running() || !self.timers.is_empty())
    }

    pub(super) fn run_block(&mut self, name: &str, block: &[Statement]) {
        for statement in block {
            if let Err(error) = self.execute(statement, "") {
                self.failed = true;
                self.say(&format!("{name}: {statement}: {error}"));
            }
        }
    }

    /// Ctrl-Z: everything leaves the target; `fg` puts it in again.
    pub(super) fn suspend(&mut self) {
        if self.is_stopped() {
            self.runs_again();
            self.say("the target runs on while gotap is suspended");
        }
        self.tracing.leave();
        self.out.settle();
        let modes = self.terminal.as_ref().and_then(Terminal::restore);
        if let Err(error) = signals::suspend_self() {
            self.say(&format!("cannot suspend: {error}"));
        }
        if let Some(modes) = modes.filter(|_| self.asked) {
            Terminal::set(&modes);
        }
        if let Err(error) = self.apply_points() {
            self.say(&error);
        }
    }

    /// Arms what the tracepoints want.
    pub fn apply_points(&mut self) -> Result<(), String> {
        let points = self.points.clone();
        let points = points.lock().unwrap_or_else(PoisonError::into_inner);
        self.tracing.apply(&points)
    }

    /// What becomes of a program that gotap started, when nothing is in it any more.
    fn leave_program(&self) {
        let Some(pid) = self.started.filter(|_| !self.target_gone) else {
            return;
        };
        if !self.kills {
            self.say(&format!("process {pid}, which gotap started, runs on"));
            return;
        }
        // Nobody else waits for it, so the number is its own still.
        match signals::send(pid, libc::SIGKILL) {
            Ok(()) => self.say(&format!("process {pid} was killed")),
            Err(error) => self.say(&format!("process {pid} cannot be killed: {error}")),
        }
    }

    /// Detaches, runs what is to be done then, and says what was seen. False
    /// when something went wrong in leaving.
    pub fn finish(&mut self) -> bool {
        self.drop_copies();
        self.standing = None;
        self.source.run_again();
        // Copies that nobody was told of.
        self.tracing.leave();
        while self.events.try_recv().is_ok() {}
        let left = self.tracing.finish();
        let on_exit = std::mem::take(&mut self.on_exit);
        self.run_block("on exit", &on_exit);
        for line in &left.lines {
            self.say(line);
        }
        self.leave_program();
        let written = self.out.finish();
        if !written {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"gotap: nobody reads the output: what was still to be written is lost\n",
            );
        }
        left.well
    }
}
