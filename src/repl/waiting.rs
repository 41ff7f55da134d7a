//! What a session waits for: lines, signals, the tracer, timers, the target's end.

use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::shell::{Mode, Shell};
use crate::session::Said;
use crate::sys::PidFd;

/// What happens elsewhere.
#[derive(Debug)]
pub enum Event {
    /// A line was typed or read.
    Line(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Ctrl-Z at the prompt.
    Suspend,
    /// The end of what is typed or read.
    Eof,
    /// A signal that ends, suspends or resumes.
    Signal(Signal),
    /// The tracer, with the number of its session.
    Tracer(u64, Said),
    /// The target's process has ended.
    Ended,
    /// Nobody reads the output.
    OutputGone,
}

/// What ended waiting.
#[derive(Debug)]
pub enum Woke {
    /// A line.
    Line(String),
    /// Ctrl-C.
    Cancelled,
    /// gotap was suspended, and goes on.
    Resumed,
    /// The end of what is typed or read.
    Eof,
    /// The target stands still.
    Stopped,
    /// A copy of it was made, or refused.
    Snapped,
    /// The target is gone.
    TargetGone,
    /// Nothing is set any more that a command could wait for.
    Nothing,
    /// The session is over.
    Over,
}

impl Shell {
    /// Waits for a line, and does meanwhile what is due.
    pub fn wait(&mut self) -> Woke {
        loop {
            // A reader that has seen enough ends it, with records or without.
            if self.out.broken().is_some() {
                self.over = true;
            }
            if self.over {
                return Woke::Over;
            }
            if self.target_ended && !self.tracing.is_running() && !self.target_gone {
                return self.gone("the target has ended");
            }
            if self.awaits_stop && !self.is_stopped() && !self.may_wake() {
                return Woke::Nothing;
            }
            let due = self
                .timers
                .iter()
                .map(|t| t.next)
                .chain(self.deadline)
                .min();
            let left = due.map_or(Duration::from_secs(3600), |due| {
                due.saturating_duration_since(Instant::now())
            });
            let event = match self.events.recv_timeout(left) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    self.run_due();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Woke::Over,
            };
            if let Some(woke) = self.on_event(event) {
                return woke;
            }
        }
    }

    /// Takes what came while commands ran, without waiting. True for Ctrl-C.
    pub(super) fn poll(&mut self) -> bool {
        let mut cancelled = false;
        while let Ok(event) = self.events.try_recv() {
            cancelled |= matches!(self.on_event(event), Some(Woke::Cancelled));
        }
        cancelled
    }

    /// Events that came while a command ran.
    fn on_event(&mut self, event: Event) -> Option<Woke> {
        if matches!(
            event,
            Event::Line(_) | Event::Eof | Event::Interrupted | Event::Suspend
        ) {
            self.asked = false;
        }
        match event {
            Event::Line(line) => Some(Woke::Line(line)),
            Event::Eof => Some(Woke::Eof),
            Event::Interrupted => Some(Woke::Cancelled),
            Event::Suspend | Event::Signal(Signal::SIGTSTP) => {
                self.suspend();
                Some(Woke::Resumed)
            }
            Event::Signal(Signal::SIGCONT) => None,
            Event::Signal(Signal::SIGINT) if self.mode == Mode::Prompt => Some(Woke::Cancelled),
            Event::Signal(_) | Event::OutputGone => {
                self.over = true;
                Some(Woke::Over)
            }
            Event::Tracer(session, Said::Message(text)) => {
                if self.tracing.is_session(session) {
                    self.say(&text);
                }
                None
            }
            Event::Tracer(session, Said::Stopped(stop)) => {
                if !self.tracing.is_session(session) {
                    return None;
                }
                self.on_stop(*stop);
                Some(Woke::Stopped)
            }
            Event::Tracer(session, Said::Snapped(snapped)) => {
                if !self.tracing.is_session(session) {
                    return None;
                }
                self.on_snapped(*snapped);
                Some(Woke::Snapped)
            }
            Event::Tracer(session, Said::NotSnapped(refused)) => {
                if !self.tracing.is_session(session) {
                    return None;
                }
                self.on_not_snapped(&refused);
                Some(Woke::Snapped)
            }
            Event::Tracer(session, Said::Resumed) => {
                if self.tracing.is_session(session) && self.is_stopped() {
                    self.runs_again();
                    self.say("max-stop: the target runs on");
                }
                None
            }
            Event::Tracer(session, Said::Over) => {
                let told = self.tracing.ended(session)?;
                if self.standing.is_some() {
                    self.view_live();
                    self.standing = None;
                    self.source.run_again();
                }
                Some(self.gone(&told))
            }
            Event::Ended => {
                self.target_ended = true;
                None
            }
        }
    }

    /// The target is gone: a script ends, and at a prompt what was seen can still
    /// be looked at.
    fn gone(&mut self, told: &str) -> Woke {
        self.say(told);
        self.target_gone = true;
        if self.mode == Mode::Script {
            self.over = true;
        }
        Woke::TargetGone
    }

    /// Asks what becomes of a program that gotap started, where the session ends
    /// because somebody has said so. True when there is an answer to wait for.
    pub(super) fn asks_of_program(&mut self) -> bool {
        let Some(pid) = self.started.filter(|_| self.by_word && !self.target_gone) else {
            return false;
        };
        self.say(&format!(
            "kill process {pid}, which gotap started? y kills it, anything else lets it run on"
        ));
        self.out.settle();
        self.over = false;
        self.asked = true;
        true
    }

    /// Waits for the answer.
    pub(super) fn await_answer(&mut self) {
        loop {
            match self.wait() {
                Woke::Line(line) => {
                    self.kills = matches!(line.trim(), "y" | "Y" | "yes");
                    break;
                }
                Woke::Resumed | Woke::Stopped | Woke::Snapped | Woke::Nothing => {}
                Woke::Cancelled | Woke::Eof | Woke::TargetGone | Woke::Over => break,
            }
        }
        self.over = true;
    }

    /// The target has ended, or runs another program.
    pub fn is_gone(&self) -> bool {
        self.target_gone
    }

    /// Something is set that may end waiting: a point, a timer, a step.
    pub fn may_wake(&self) -> bool {
        self.tracing.is_running() || !self.timers.is_empty() || self.deadline.is_some()
    }

    fn run_due(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|d| d <= now) {
            self.over = true;
            return;
        }
        let mut blocks = Vec::new();
        for timer in &mut self.timers {
            if timer.next <= now {
                // What was missed meanwhile is not made up for.
                while timer.next <= now {
                    timer.next += timer.period;
                }
                blocks.push(timer.block.clone());
            }
        }
        for block in blocks {
            self.run_block("every", &block);
        }
    }
}

/// Tells of the end of a process, whether anything is attached to it or not.
pub(super) fn tell_end(pid: i32, tell: Sender<Event>) {
    std::thread::spawn(move || {
        // One that is gone already, or of a kernel without such descriptors, is
        // found gone by whoever looks at it next.
        if let Ok(process) = PidFd::open(pid) {
            process.await_end();
            let _ = tell.send(Event::Ended);
        }
    });
}
