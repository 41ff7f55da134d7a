//! An engine on a thread of its own, and the handle on it.
//!
//! ptrace answers only the thread that attached, so everything that is asked of
//! the target's threads goes through here.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::SessionError;
use super::calls::Prepared;
use super::control::{Control, StopReason};
use super::engine::{CLEANED, Engine, Options, Outcome, Start, Stats};
use super::replan::{Armed, Change};
use super::report::Reporter;
use super::snap::{NotSnapped, Snapped};
use super::stepping::Walk;
use super::stopped::{Ask, Desk, Errand, Stop};
use super::target::Target;
use crate::addr::LiveAddr;
use crate::probe::plan::Plan;
use crate::process::{ProcessError, Tracer};
use crate::sink::queue;
use crate::sys::Regs;

/// How often a waiting thread looks whether the engine still runs.
const GLANCE: Duration = Duration::from_millis(50);

/// What an engine tells while it runs.
#[derive(Debug)]
pub enum Said {
    /// For the user.
    Message(String),
    /// The target stands still, until it is resumed.
    Stopped(Box<Stop>),
    /// It runs again: the time was over that a stop may last.
    Resumed,
    /// A copy of the target was made, and it runs on.
    Snapped(Box<Snapped>),
    /// A point was refused its copy, and rests.
    NotSnapped(NotSnapped),
    /// It came to its end; [`Live::leave`] tells how.
    Over,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub outcome: Outcome,
    /// Numbers.
    pub stats: Stats,
    /// What went wrong in leaving.
    pub left: Result<(), ProcessError>,
    /// For the next one: how many ids calls have been given.
    pub ids_given: u64,
}

/// A running engine. Dropping the handle takes everything out of the target.
pub struct Live {
    control: Control,
    asks: Sender<Ask>,
    target: Arc<Target>,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<Ended>,
}

/// The thread of an engine that has left, which stays while copies are held.
pub struct Keeper(JoinHandle<()>);

impl Keeper {
    /// No copy is held any more.
    pub fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for that.
    pub fn join(self) {
        let _ = self.0.join();
    }
}

impl Live {
    /// Attaches and arms all of a plan; returns when that is done. `say` is
    /// called on the tracer thread, and must not wait for anybody.
    pub fn start(
        pid: i32,
        target: Arc<Target>,
        plan: Arc<Plan>,
        options: Options,
        sender: Arc<queue::Sender>,
        say: impl Fn(Said) + Send + Clone + 'static,
    ) -> Result<(Live, Armed), SessionError> {
        let control = Control::default();
        let (asks, asked) = std::sync::mpsc::channel();
        let (tell, armed) = sync_channel(1);
        let (finish, ended) = sync_channel(1);
        let (own_control, own_target) = (control.clone(), target.clone());
        let thread = std::thread::spawn(move || {
            let begun = begin(pid, &own_target, plan, options, sender, &own_control);
            let mut engine = match begun {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            let news = say.clone();
            engine.desk = Some(Desk {
                asked,
                target: own_target,
                tell: Box::new(news),
            });
            let (told, refused) = engine
                .take_messages()
                .into_iter()
                .partition::<Vec<_>, _>(|message| message == CLEANED);
            let _ = tell.send(Ok(Armed {
                sites: engine.armed_sites(),
                refused,
            }));
            for message in told {
                say(Said::Message(message));
            }
            let (outcome, left) = engine.run(&mut |message| say(Said::Message(message)));
            own_control.end();
            let ended = Ended {
                outcome,
                stats: engine.stats(),
                left,
                ids_given: engine.ids_given(),
            };
            let _ = finish.send(ended);
            say(Said::Over);
            engine.keep_copies();
        });
        let mut live = Live {
            control,
            asks,
            target,
            thread: Some(thread),
            ended,
        };
        match armed.recv() {
            Ok(Ok(armed)) => Ok((live, armed)),
            Ok(Err(error)) => {
                live.end();
                Err(error)
            }
            // It panicked, and its guard has left the target.
            Err(_) => Err(ProcessError::Gone(pid).into()),
        }
    }

    /// Another plan, which has the functions of the one before first and in the
    /// same order; the options say which are watched. Returns when it is armed.
    pub fn change(&self, plan: &Arc<Plan>, options: Options) -> Result<Armed, SessionError> {
        let reporter = Reporter::new(&self.target, plan, &options);
        self.ask(|answer| {
            Ask::Change(Box::new(Change {
                plan: plan.clone(),
                reporter,
                options,
                answer,
            }))
        })
    }

    /// Asks, and waits for the answer.
    fn ask<T>(
        &self,
        what: impl FnOnce(SyncSender<Result<T, SessionError>>) -> Ask,
    ) -> Result<T, SessionError> {
        let (answer, answered) = sync_channel(1);
        let gone = || SessionError::Process(ProcessError::Gone(0));
        self.asks.send(what(answer)).map_err(|_| gone())?;
        loop {
            self.control.ask();
            match answered.recv_timeout(GLANCE) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) if !self.is_over() => {}
                Err(_) => return Err(gone()),
            }
        }
    }

    fn tell(&self, what: Ask) {
        // An engine that is over has said so.
        let _ = self.asks.send(what);
        self.control.ask();
    }

    /// Stops the whole target: [`Said::Stopped`] comes, unless it stands already.
    pub fn halt(&self) {
        self.tell(Ask::Halt);
    }

    /// Lets a target that stands still go on.
    pub fn resume(&self) {
        self.tell(Ask::Resume);
    }

    /// Lets a target that stands still go on until one goroutine or thread is at
    /// one of some places; [`Said::Stopped`] comes then, or at another stop.
    /// Returns when it runs.
    pub fn run(&self, errand: Errand) -> Result<(), SessionError> {
        self.ask(|answer| Ask::Run(errand, answer))
    }

    /// Lets a target that stands still go on until a step ends;
    /// [`Said::Stopped`] comes then, or at another stop. Returns when it runs.
    pub fn walk(&self, walk: Walk) -> Result<(), SessionError> {
        self.ask(|answer| Ask::Walk(walk, answer))
    }

    /// Writes to the memory of a target that stands still.
    pub fn write(&self, at: LiveAddr, bytes: Vec<u8>) -> Result<(), SessionError> {
        self.ask(|answer| Ask::Write(at, bytes, answer))
    }

    /// Changes the registers of a thread of a target that stands still, but not
    /// where it goes on.
    pub fn set_registers(&self, tid: i32, regs: Regs) -> Result<(), SessionError> {
        self.ask(|answer| Ask::Registers(tid, Box::new(regs), answer))
    }

    /// How long a stop may last, from the next one on.
    pub fn max_stop(&self, longest: Option<Duration>) {
        self.tell(Ask::MaxStop(longest));
    }

    /// Nothing is traced any more.
    pub fn is_over(&self) -> bool {
        self.control.is_over() || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Takes everything out of the target and lets it run. Copies stay, and with
    /// them the thread that made them.
    pub fn leave(mut self) -> (Option<Ended>, Option<Keeper>) {
        let ended = self.end();
        (ended, self.thread.take().map(Keeper))
    }

    fn end(&mut self) -> Option<Ended> {
        self.control.stop(StopReason::Asked);
        let _ = self.asks.send(Ask::Wake);
        // An engine that panicked says nothing.
        self.ended.recv().ok()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

fn begin(
    pid: i32,
    target: &Target,
    plan: Arc<Plan>,
    options: Options,
    sender: Arc<queue::Sender>,
    control: &Control,
) -> Result<Engine, SessionError> {
    control.adopt();
    let prepared = Prepared::new(target, plan, &options, sender, Some(pid));
    let tracer = Tracer::attach(pid)?;
    control.start_ticker();
    let control = control.clone();
    Engine::arm(tracer, target, prepared, options, Start::Attached, control)
}
