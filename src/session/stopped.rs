//! An engine whose target stands still: it tells why, does what it is asked,
//! and lets the target go on, when it is told to or when the time is over that
//! was set for it.
//!
//! Whoever asks has a [`super::Live`]. Memory is read by whoever likes; registers
//! come with the news, and are changed here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::SessionError;
use super::engine::{Engine, Outcome};
use super::live::Said;
use super::replan::Change;
use super::report::Seen;
use super::stepping::{Walk, Walked, Walking};
use super::target::Target;
use crate::addr::{ImageAddr, LiveAddr};
use crate::arch::scan::Disassembler;
use crate::golang::step::Returned;
use crate::probe::plan::{PlaceWanted, plan_with};
use crate::process::region::{Installation, SiteBytes};
use crate::process::tracer::{Event, Hit};
use crate::process::{Alone, ProcessError, StillThread};
use crate::sys::{Regs, ptrace};

/// How often flags and ends are looked at while nothing is asked.
const GLANCE: Duration = Duration::from_millis(20);
/// How long one thread may run alone, unless told.
const ALONE: Duration = Duration::from_secs(1);

/// Why the target stands still.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// A thread hit these points.
    Points(Vec<usize>),
    /// Somebody asked for it.
    Halted,
    /// gotap started it, and none of its own packages has run anything yet.
    Started,
    /// A thread came to where [`Errand`] sent it.
    Arrived,
    /// The only thread that was let run did not get there.
    NotThere,
}

/// A thread of a target that stands still.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stood {
    /// Its id, and as its own pid namespace has it.
    pub tid: i32,
    /// The same as its own process calls it.
    pub own_tid: i32,
    /// Its registers; `rip` is the program's own address.
    pub regs: Regs,
    /// The low halves of xmm0 to xmm15.
    pub vectors: [u64; 16],
}

/// News of a target that stands still.
#[derive(Clone, PartialEq, Debug)]
pub struct Stop {
    /// Why.
    pub why: Why,
    /// The thread that it is about; 0 when it is about none.
    pub tid: i32,
    /// Its goroutine, when it ran one.
    pub goid: Option<u64>,
    /// Where it stands.
    pub at: LiveAddr,
    /// Bytes from its stack pointer to the end of its goroutine's stack.
    pub depth: Option<u64>,
    /// All threads whose registers are known.
    pub threads: Arc<[Stood]>,
    /// A function that has returned to where a step ended.
    pub returned: Option<Returned>,
    /// What it took from the news to the last thread's stop.
    pub took: Duration,
}

/// Whom an errand is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// A goroutine, on whatever thread.
    Goroutine(u64),
    /// A thread.
    Thread(i32),
}

/// "Run this one to one of these places": what stepping is made of.
#[derive(Clone, Debug)]
pub struct Errand {
    /// For whom; others pass.
    pub who: Who,
    /// Instructions to stop at (they must begin one), each with the deepest that
    /// the stack may be there ([`Stop::depth`]), if that matters.
    pub to: Vec<(SiteBytes, Option<u64>)>,
    /// A thread runs alone, so long at most, while all others stand; else all
    /// run. For [`Who::Thread`] only.
    pub alone: Option<Duration>,
}

impl Errand {
    /// To these instructions of the program, which are planned here as breakpoints
    /// are; what must not be armed is an error.
    pub fn planned(
        target: &Target,
        who: Who,
        places: &[(ImageAddr, Option<u64>)],
    ) -> Result<Errand, SessionError> {
        let wanted: Vec<PlaceWanted> = places.iter().map(|(at, _)| PlaceWanted::At(*at)).collect();
        let disassembler = Disassembler::new()?;
        let plan = plan_with(&target.image, &disassembler, &[], &wanted, &[]);
        for planned in &plan.places {
            planned.as_ref().map_err(Clone::clone)?;
        }
        let to = plan.sites.iter().map(|site| {
            let deepest = places.iter().find(|(at, _)| *at == site.at);
            let bytes = SiteBytes {
                at: target.bias.live(site.at),
                code: site.code,
                insn_len: site.insn_len,
                doubtful: site.doubtful,
            };
            (bytes, deepest.and_then(|(_, deepest)| *deepest))
        });
        Ok(Errand {
            who,
            to: to.collect(),
            alone: None,
        })
    }
}

/// What is asked of an engine.
pub(super) enum Ask {
    /// Another plan.
    Change(Box<Change>),
    /// Stop.
    Halt,
    /// Go on.
    Resume,
    /// Go on, and stop again.
    Run(Errand, SyncSender<Result<(), SessionError>>),
    /// Go on, and stop where a step ends.
    Walk(Walk, SyncSender<Result<(), SessionError>>),
    /// Write to memory.
    Write(LiveAddr, Vec<u8>, SyncSender<Result<(), SessionError>>),
    /// Change a thread's registers.
    Registers(i32, Box<Regs>, SyncSender<Result<(), SessionError>>),
    /// How long a stop may last.
    MaxStop(Option<Duration>),
    /// Look at the flags.
    Wake,
}

/// Where requests come from, and how news goes out.
pub(super) struct Desk {
    pub asked: Receiver<Ask>,
    pub target: Arc<Target>,
    pub tell: Box<dyn Fn(Said)>,
}

/// Stops, as an engine keeps them.
#[derive(Default)]
pub(super) struct Stops {
    /// How long one may last.
    pub max: Option<Duration>,
    /// It is to stop where it begins.
    pub at_main: bool,
    /// It is there.
    pub reached_main: bool,
    /// Under way, with its sites by address.
    errand: Option<(Errand, HashMap<u64, Option<u64>>)>,
    /// A step under way.
    pub walk: Option<Walking>,
    /// What has returned where one ended.
    pub returned: Option<Returned>,
}

/// What comes after a stop.
enum After {
    Run,
    End(Outcome),
}

impl Engine {
    /// Does what was asked for while the target runs.
    pub(super) fn serve(&mut self) -> Option<Outcome> {
        let desk = self.desk.take()?;
        let mut outcome = None;
        while let Ok(ask) = desk.asked.try_recv() {
            match ask {
                Ask::Halt => {
                    outcome = self.stand(&desk, None, Why::Halted);
                    if outcome.is_some() {
                        break;
                    }
                }
                other => self.answer(&desk, other),
            }
        }
        self.desk = Some(desk);
        outcome
    }

    /// A hit that the target is to stop at.
    pub(super) fn stop_at(&mut self, hit: &Hit, why: Why) -> Option<Outcome> {
        let Some(desk) = self.desk.take() else {
            // Nobody could let it go on.
            self.tracer.pass(hit);
            return None;
        };
        let outcome = self.stand(&desk, Some(hit), why);
        self.desk = Some(desk);
        outcome
    }

    /// A thread is at a site: whether an errand ends there.
    pub(super) fn arrived(&self, hit: &Hit) -> bool {
        let Some((errand, sites)) = &self.stops.errand else {
            return false;
        };
        let Some(deepest) = sites.get(&hit.regs.rip) else {
            return false;
        };
        let seen = Seen::stopped(&hit.regs, hit.tid, self.tracer.memory());
        let g = self.calls.reporter.g(&seen);
        let his = match errand.who {
            Who::Thread(tid) => tid == hit.tid,
            Who::Goroutine(goid) => g.and_then(|g| g.goid()) == Some(goid),
        };
        his && deepest.is_none_or(|deepest| g.is_none_or(|g| g.depth <= deepest))
    }

    /// Why the target is to stop for a step, if it is; `Err`: the thread has gone
    /// on already.
    pub(super) fn steps_to(&mut self, hit: &Hit) -> Result<Option<Why>, ()> {
        match self.walk(hit) {
            Walked::Passes => Ok(None),
            Walked::WentOn => Err(()),
            Walked::Ends(returned) => {
                self.stops.returned = returned;
                self.disarm_unwanted();
                Ok(Some(Why::Arrived))
            }
        }
    }

    /// Stops the target, and serves until it is to go on.
    fn stand(&mut self, desk: &Desk, hit: Option<&Hit>, why: Why) -> Option<Outcome> {
        let began = Instant::now();
        if let Err(error) = self.tracer.halt(hit) {
            if let Some(hit) = hit {
                self.tracer.pass(hit);
            }
            (desk.tell)(Said::Message(format!("the target does not stop: {error}")));
            return None;
        }
        self.end_errand();
        let stop = self.news(hit.map(|h| h.tid), why, began.elapsed());
        (desk.tell)(Said::Stopped(Box::new(stop)));
        match self.serve_standing(desk) {
            After::Run => None,
            After::End(outcome) => Some(outcome),
        }
    }

    fn news(&mut self, tid: Option<i32>, why: Why, took: Duration) -> Stop {
        let threads: Vec<Stood> = self.tracer.halted_threads().iter().map(stood).collect();
        let one = threads.iter().find(|t| Some(t.tid) == tid);
        let g = one.and_then(|t| {
            let seen = Seen::stopped(&t.regs, t.tid, self.tracer.memory());
            self.calls.reporter.g(&seen)
        });
        Stop {
            why,
            tid: tid.unwrap_or(0),
            goid: g.and_then(|g| g.goid()),
            at: LiveAddr(one.map_or(0, |t| t.regs.rip)),
            depth: g.map(|g| g.depth),
            threads: threads.into(),
            returned: self.stops.returned.take(),
            took,
        }
    }

    fn serve_standing(&mut self, desk: &Desk) -> After {
        let until = self.stops.max.map(|max| Instant::now() + max);
        loop {
            if self.control.stopped().is_some() || self.control.is_suspending() {
                // The loop around sees the same, and leaves.
                self.tracer.go_on_all();
                return After::Run;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                self.tracer.go_on_all();
                (desk.tell)(Said::Resumed);
                return After::Run;
            }
            match self.tracer.glance_while_halted() {
                Some(Event::Ended(ending)) => return After::End(Outcome::Ended(ending)),
                Some(Event::Exec) => return After::End(Outcome::Exec),
                _ => {}
            }
            let ask = match desk.asked.recv_timeout(GLANCE) {
                Ok(ask) => ask,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    self.tracer.go_on_all();
                    return After::Run;
                }
            };
            match ask {
                Ask::Resume => {
                    self.tracer.go_on_all();
                    return After::Run;
                }
                Ask::Run(errand, answer) => {
                    let alone = errand.alone;
                    let begun = self.begin_errand(errand);
                    let well = begun.is_ok();
                    let _ = answer.send(begun);
                    if !well {
                        continue;
                    }
                    if alone.is_none() {
                        self.tracer.go_on_all();
                        return After::Run;
                    }
                    self.run_alone(desk);
                }
                Ask::Walk(walk, answer) => {
                    let begun = self.begin_walk(walk);
                    let well = begun.is_ok();
                    let _ = answer.send(begun);
                    if well {
                        self.tracer.go_on_all();
                        return After::Run;
                    }
                    self.disarm_unwanted();
                }
                Ask::Halt | Ask::Wake => {}
                other => self.answer(desk, other),
            }
        }
    }

    /// What can be done at any time, and what only while it stands still.
    fn answer(&mut self, desk: &Desk, ask: Ask) {
        let stands = self.tracer.is_halted();
        match ask {
            Ask::Change(change) => self.serve_change(&desk.target, *change),
            Ask::MaxStop(max) => self.stops.max = max,
            Ask::Write(at, bytes, answer) => {
                let done = if stands {
                    self.tracer.memory().write(at.0, &bytes).map_err(Into::into)
                } else {
                    Err(SessionError::Runs)
                };
                let _ = answer.send(done);
            }
            Ask::Registers(tid, regs, answer) => {
                let done = if stands {
                    self.tracer.change_registers(tid, *regs).map_err(Into::into)
                } else {
                    Err(SessionError::Runs)
                };
                let _ = answer.send(done);
            }
            Ask::Run(_, answer) | Ask::Walk(_, answer) => {
                let _ = answer.send(Err(SessionError::Runs));
            }
            Ask::Halt | Ask::Resume | Ask::Wake => {}
        }
    }

    fn begin_errand(&mut self, errand: Errand) -> Result<(), SessionError> {
        let Some(text) = self.text else {
            return Err(SessionError::Runs);
        };
        let bytes: Vec<SiteBytes> = errand.to.iter().map(|(site, _)| site.clone()).collect();
        let outcomes = self.tracer.extend(&bytes, text)?;
        self.renumber();
        let mut sites = HashMap::new();
        for ((site, deepest), outcome) in errand.to.iter().zip(outcomes) {
            if let Installation::Refused(why) = outcome {
                self.disarm_unwanted();
                return Err(ProcessError::Region {
                    pid: self.tracer.pid(),
                    why: format!("{:#x}: {why}", site.at.0),
                }
                .into());
            }
            if let Some(slot) = self.tracer.site_index(site.at) {
                self.tracer.arm(slot)?;
            }
            sites.insert(site.at.0, *deepest);
        }
        self.stops.errand = Some((errand, sites));
        Ok(())
    }

    fn end_errand(&mut self) {
        let walked = self.stops.walk.take().is_some();
        if self.stops.errand.take().is_some() || walked {
            self.disarm_unwanted();
        }
    }

    fn run_alone(&mut self, desk: &Desk) {
        let began = Instant::now();
        let Some((errand, _)) = &self.stops.errand else {
            return;
        };
        let Who::Thread(tid) = errand.who else {
            return;
        };
        let longest = errand.alone.unwrap_or(ALONE);
        let why = loop {
            match self
                .tracer
                .run_alone(tid, longest.saturating_sub(began.elapsed()))
            {
                Alone::Hit(hit) if self.arrived(&hit) => break Why::Arrived,
                Alone::Hit(hit) => {
                    let taken = self.on_hit(&hit, self.calls.clock.now());
                    self.calls.emit_ended();
                    if !taken.is_empty() {
                        break Why::Points(taken.iter().map(|t| t.id).collect());
                    }
                }
                // A signal came first: its handler runs, and comes back.
                Alone::Stands if began.elapsed() < longest => {}
                Alone::Stands | Alone::Gone => break Why::NotThere,
            }
        };
        self.end_errand();
        let stop = self.news(Some(tid), why, began.elapsed());
        (desk.tell)(Said::Stopped(Box::new(stop)));
    }
}

fn stood(thread: &StillThread) -> Stood {
    let mut vectors = [0; 16];
    if let Ok(all) = ptrace::vector_registers(thread.tid) {
        for (to, from) in vectors.iter_mut().zip(all) {
            *to = from.first_chunk().map_or(0, |low| u64::from_le_bytes(*low));
        }
    }
    Stood {
        tid: thread.tid,
        own_tid: thread.own_tid,
        regs: thread.regs,
        vectors,
    }
}
