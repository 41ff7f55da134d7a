//! An engine on a thread of its own, and the handle on it.
//!
//! ptrace answers only the thread that attached, so everything that is asked of
//! the target's threads goes through here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
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
use crate::arch::scan::Disassembler;
use crate::probe::plan::{PlaceWanted, Plan, plan_with};
use crate::process::{ProcessError, Tracer};
use crate::sink::queue;
use crate::sys::Regs;

/// Where a program stops that is started: `runtime.main` calls it once, when a second
/// thread is there (sysmon), the runtime's signal handlers are set, and no package but
/// the runtime has been initialised (runtime/proc.go, Go 1.19 to 1.27).
const BEFORE_INIT: &str = "runtime.gcenable";

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
    /// `None` until it was launched.
    target: Option<Arc<Target>>,
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
        let own = target.clone();
        let begin = move |control: &Control| begin(pid, &own, plan, options, sender, control);
        let (mut live, armed) = Live::on_thread(Some(target), say, move |control| {
            Ok((begin(control)?, None))
        });
        match armed.recv() {
            Ok(Ok((armed, _))) => Ok((live, armed)),
            Ok(Err(error)) => {
                live.end();
                Err(error)
            }
            // It panicked, and its guard has left the target.
            Err(_) => Err(ProcessError::Gone(pid).into()),
        }
    }

    /// Starts a program, with no input and a process group of its own, and stops it
    /// before anything of its own packages runs: [`Said::Stopped`] comes then, or [`Said::Over`]. Returns when it
    /// has been started, with its target and process id.
    pub fn launch(
        argv: Vec<OsString>,
        symbols: Option<PathBuf>,
        sender: Arc<queue::Sender>,
        say: impl Fn(Said) + Send + Clone + 'static,
    ) -> Result<(Live, Arc<Target>, i32), SessionError> {
        let (mut live, armed) = Live::on_thread(None, say, move |control| {
            launched(&argv, symbols.as_deref(), sender, control)
        });
        match armed.recv() {
            Ok(Ok((_, Some((target, pid))))) => {
                live.target = Some(target.clone());
                Ok((live, target, pid))
            }
            Ok(Err(error)) => {
                live.end();
                Err(error)
            }
            Ok(Ok((_, None))) | Err(_) => Err(ProcessError::Gone(0).into()),
        }
    }

    /// An engine that `begin` makes on a thread of its own; what is armed comes by
    /// the receiver.
    fn on_thread(
        target: Option<Arc<Target>>,
        say: impl Fn(Said) + Send + Clone + 'static,
        begin: impl FnOnce(&Control) -> Result<(Engine, Launched), SessionError> + Send + 'static,
    ) -> (Live, Receiver<Arming>) {
        let control = Control::default();
        let (asks, asked) = std::sync::mpsc::channel();
        let (tell, armed) = sync_channel(1);
        let (finish, ended) = sync_channel(1);
        let (own_control, own_target) = (control.clone(), target.clone());
        let thread = std::thread::spawn(move || {
            let (mut engine, launched) = match begin(&own_control) {
                Ok(begun) => begun,
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            let target = own_target.or_else(|| launched.as_ref().map(|(target, _)| target.clone()));
            let news = say.clone();
            engine.desk = target.map(|target| Desk {
                asked,
                target,
                tell: Box::new(news),
            });
            let (told, refused) = engine
                .take_messages()
                .into_iter()
                .partition::<Vec<_>, _>(|message| message == CLEANED);
            let armed = Armed {
                sites: engine.armed_sites(),
                refused,
            };
            let _ = tell.send(Ok((armed, launched)));
            for message in told {
                say(Said::Message(message));
            }
            engine.start();
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
        let live = Live {
            control,
            asks,
            target,
            thread: Some(thread),
            ended,
        };
        (live, armed)
    }

    /// Another plan, which has the functions of the one before first and in the
    /// same order; the options say which are watched. Returns when it is armed.
    pub fn change(&self, plan: &Arc<Plan>, options: Options) -> Result<Armed, SessionError> {
        let gone = || SessionError::Process(ProcessError::Gone(0));
        let target = self.target.as_ref().ok_or_else(gone)?;
        let reporter = Reporter::new(target, plan, &options);
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

/// What was armed, and by an engine that started its target, what that is.
type Arming = Result<(Armed, Launched), SessionError>;

/// The target of an engine that started it, and its process id.
type Launched = Option<(Arc<Target>, i32)>;

/// Starts a program that runs to where it begins; what goes wrong ends it.
fn launched(
    argv: &[OsString],
    symbols: Option<&Path>,
    sender: Arc<queue::Sender>,
    control: &Control,
) -> Result<(Engine, Launched), SessionError> {
    control.adopt();
    let mut tracer = Tracer::launch_apart(argv)?;
    let pid = tracer.pid();
    let options = Options::default();
    let ready = Target::of_process(pid).and_then(|target| {
        let target = target.with_symbols(symbols)?;
        let disassembler = Disassembler::new()?;
        let main = target.image.functions().by_name(BEFORE_INIT).pop();
        let place: Vec<PlaceWanted> = main
            .map(|f| PlaceWanted::Entry(f.index()))
            .into_iter()
            .collect();
        let plan = plan_with(&target.image, &disassembler, &[], &place, &[]);
        plan.places
            .first()
            .ok_or_else(|| SessionError::NothingArmed(format!("{BEFORE_INIT} is not there")))?
            .as_ref()
            .map_err(Clone::clone)?;
        let prepared = Prepared::new(&target, Arc::new(plan), &options, sender, None);
        Ok((Arc::new(target), prepared))
    });
    let (target, prepared) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            tracer.abandon_launch();
            return Err(error);
        }
    };
    control.start_ticker();
    let control = control.clone();
    let start = Start::Launched;
    let mut engine = Engine::arm(tracer, &target, prepared, options, start, control)?;
    engine.stops.at_main = true;
    Ok((engine, Some((target, pid))))
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
