//! One look at every goroutine of a program, from outside.
//!
//! Who lives here: where the bytes come from ([`Source`]), the look itself
//! ([`look`]), who is kept, folded and sampled of many (`crowd`), what structs
//! tell (`entries`), stacks and the frames in them (`stacks`, `standing`), what is waited
//! for (`waits`, and of many `locks`), the variables of a goroutine's frames
//! (`locals`). Nothing is written, and nothing is stopped but for a [`Stoppable`]
//! (`still`). Allowed in: cli.

mod arrived;
mod crowd;
mod entries;
mod locals;
mod locks;
mod stacks;
mod standing;
mod still;
mod waits;

pub use locals::FullStack;
pub use still::Stoppable;

pub use standing::Stands;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::SessionError;
use super::stopped::Stood;
use super::target::Target;
use crate::addr::LiveAddr;
use crate::golang::census::{self, Resident};
use crate::golang::globals::Globals;
use crate::golang::gs::{self, GsError, Status, Thread};
use crate::memory::{Memory, MemoryError};
use crate::process::core::Core;
use crate::process::{ProcessMemory, procfs};
use crate::survey::Survey;
use crate::sys::Regs;
use crowd::{Crowd, Spot};

/// A program to look at: running, or as it was.
pub struct Source {
    /// The program.
    pub target: Arc<Target>,
    /// Its bytes.
    pub memory: Box<dyn Memory>,
    /// The process, when there still is one.
    pub pid: Option<i32>,
    /// What its user should know.
    pub remarks: Vec<String>,
    globals: Globals,
    reasons: Vec<Arc<str>>,
    /// Threads whose registers are known: all of a core, those of a process
    /// that was stopped.
    threads: Vec<Registers>,
    /// The thread that crashed, of a core.
    crashed: Option<u64>,
    /// When it stood still, if it did: by CLOCK_MONOTONIC, and by the calendar.
    moment: Option<(i64, jiff::Timestamp)>,
    /// What is read now will be looked at later.
    gathering: bool,
    /// Of a program that is stopped for each look: where on the stacks parked at
    /// a spot stands which lock they wait for, bytes above their stack pointers.
    hints: HashMap<Spot, u64>,
    /// It is a frozen copy, which is this process.
    copy: Option<i32>,
    /// Of a copy: the ids in our pid namespace by those in its own.
    thread_ids: HashMap<u64, u64>,
}

/// Where a thread stood.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Registers {
    /// Thread id.
    pub tid: u64,
    /// The same as its own pid namespace has it.
    pub own_tid: u64,
    /// RIP
    pub pc: LiveAddr,
    /// RSP
    pub sp: LiveAddr,
    /// The system call it was in, and that one's first argument.
    pub syscall: Option<(i64, u64)>,
    /// All of them, where they are known.
    pub regs: Option<Regs>,
    /// The low halves of xmm0 to xmm15, where they are known.
    pub vectors: Option<[u64; 16]>,
}

impl Registers {
    /// Of a thread that stood still.
    pub fn of(tid: i32, own_tid: i32, regs: &Regs) -> Registers {
        Registers {
            tid: u64::try_from(tid).unwrap_or(0),
            own_tid: u64::try_from(own_tid).unwrap_or(0),
            pc: LiveAddr(regs.rip),
            sp: LiveAddr(regs.rsp),
            // -1 when it was in none (linux/arch/x86/entry).
            syscall: i64::try_from(regs.orig_rax)
                .ok()
                .map(|number| (number, regs.rdi)),
            regs: Some(*regs),
            vectors: None,
        }
    }
}

impl From<&Stood> for Registers {
    fn from(thread: &Stood) -> Registers {
        Registers {
            vectors: Some(thread.vectors),
            ..Registers::of(thread.tid, thread.own_tid, &thread.regs)
        }
    }
}

impl Source {
    /// A running process.
    pub fn process(pid: i32) -> Result<Source, SessionError> {
        let target = Target::of_process(pid)?;
        let memory = readable(&target, pid)?;
        Source::new(target, Box::new(memory), Some(pid))
    }

    /// A process whose executable was opened before.
    pub fn of_target(target: Arc<Target>, pid: i32) -> Result<Source, SessionError> {
        let memory = readable(&target, pid)?;
        Source::around(target, Box::new(memory), Some(pid))
    }

    /// A core file, and the executable that it is of, unless the core names it.
    pub fn core(core: &Path, program: Option<&Path>) -> Result<Source, SessionError> {
        let core = Core::open(core, program)?;
        let remarks = core.remarks().to_vec();
        let threads: Vec<Registers> = core
            .threads()
            .iter()
            .map(|t| Registers {
                vectors: t.vectors,
                ..Registers::of(t.tid, t.tid, &t.regs)
            })
            .collect();
        let target = Target::of_core(&core);
        // Only a signal's core has a thread that crashed.
        let crashed = core.signal().and(threads.first()).map(|t| t.tid);
        let mut source = Source::new(target, Box::new(core), None)?;
        source.threads = threads;
        source.crashed = crashed;
        source.remarks.extend(remarks);
        Ok(source)
    }

    /// A program of which only the bytes are left.
    pub fn new(
        target: Target,
        memory: Box<dyn Memory>,
        pid: Option<i32>,
    ) -> Result<Source, SessionError> {
        Source::around(Arc::new(target), memory, pid)
    }

    fn around(
        target: Arc<Target>,
        memory: Box<dyn Memory>,
        pid: Option<i32>,
    ) -> Result<Source, SessionError> {
        let globals = Globals::resolve(&target.image);
        let reasons = census::wait_reasons(&*memory, &globals, target.bias)?
            .into_iter()
            .map(Arc::from)
            .collect();
        Ok(Source {
            remarks: target.notes().to_vec(),
            target,
            memory,
            pid,
            globals,
            reasons,
            threads: Vec::new(),
            crashed: None,
            moment: None,
            gathering: false,
            hints: HashMap::new(),
            copy: None,
            thread_ids: HashMap::new(),
        })
    }

    /// A frozen copy of the program of process `pid`, made at a moment by
    /// CLOCK_MONOTONIC and by the calendar: its own memory, and the registers of
    /// threads of which they were taken.
    pub fn frozen(
        target: Arc<Target>,
        (pid, copy): (i32, i32),
        threads: Vec<Registers>,
        moment: Option<(i64, jiff::Timestamp)>,
    ) -> Result<Source, SessionError> {
        let memory = Box::new(ProcessMemory::read_only(copy));
        let mut source = Source::around(target, memory, Some(pid))?;
        let ids = procfs::foreign_thread_ids(pid).into_iter();
        source.thread_ids = ids
            .filter_map(|(a, b)| Some((u64::try_from(a).ok()?, u64::try_from(b).ok()?)))
            .collect();
        source.threads = threads;
        source.moment = moment;
        source.copy = Some(copy);
        Ok(source)
    }

    /// The process, when it can be asked of this moment: of a frozen copy it
    /// has gone on.
    pub fn live_pid(&self) -> Option<i32> {
        self.pid.filter(|_| self.copy.is_none())
    }

    /// The process whose memory this is.
    pub fn memory_pid(&self) -> Option<i32> {
        self.copy.or(self.pid)
    }

    /// From now on the process stands still, and these are its threads.
    pub fn stand_still(&mut self, threads: Vec<Registers>) {
        self.threads = threads;
        self.moment = monotonic().zip(Some(jiff::Timestamp::now()));
    }

    /// It runs again.
    pub fn run_again(&mut self) {
        self.threads = Vec::new();
        self.moment = None;
    }

    /// The registers of a thread, where they are known.
    pub fn registers(&self, tid: u64) -> Option<&Registers> {
        self.threads.iter().find(|t| t.tid == tid)
    }

    /// The registers of a thread that stands still are others now.
    pub fn changed(&mut self, tid: i32, regs: Regs) {
        let own = u64::try_from(tid).unwrap_or(0);
        for known in self.threads.iter_mut().filter(|t| t.tid == own) {
            known.regs = Some(regs);
        }
    }

    /// Threads whose registers are known.
    pub fn thread_ids(&self) -> Vec<u64> {
        self.threads.iter().map(|t| t.tid).collect()
    }

    /// The thread that a `m` is, and where it was last in the vDSO.
    fn runtime_threads(&self) -> Result<HashMap<LiveAddr, Thread>, SessionError> {
        let target = &self.target;
        let memory = &*self.memory;
        match gs::read_threads(memory, &target.layouts, &self.globals, target.bias) {
            Ok(threads) => {
                let ours = self.our_thread_ids();
                let known = threads.into_iter().filter(|t| t.tid != 0).map(|mut t| {
                    t.tid = ours.get(&t.tid).copied().unwrap_or(t.tid);
                    (t.addr, t)
                });
                Ok(known.collect())
            }
            Err(GsError::Memory(MemoryError::Gone)) => Err(MemoryError::Gone.into()),
            Err(error) => {
                tracing::warn!(%error, "threads cannot be told");
                Ok(HashMap::new())
            }
        }
    }

    /// Of threads in another pid namespace, the ids that they have in ours: the
    /// runtime notes its own (`m.procid`).
    fn our_thread_ids(&self) -> HashMap<u64, u64> {
        let Some(pid) = self.pid else {
            return HashMap::new();
        };
        if self.copy.is_some() {
            return self.thread_ids.clone();
        }
        if self.threads.is_empty() {
            let ids = procfs::foreign_thread_ids(pid).into_iter();
            return ids
                .filter_map(|(a, b)| Some((u64::try_from(a).ok()?, u64::try_from(b).ok()?)))
                .collect();
        }
        self.threads.iter().map(|t| (t.own_tid, t.tid)).collect()
    }

    /// It is parked in the network poller.
    fn waits_for_descriptor(&self, r: &Resident) -> bool {
        self.waits(r, |reason| reason == "IO wait")
    }

    /// It is parked as those are that wait for one of sync's types.
    fn may_wait_for_lock(&self, r: &Resident) -> bool {
        self.waits(r, |reason| {
            reason == "semacquire" || reason.starts_with("sync.")
        })
    }

    fn waits(&self, r: &Resident, so: impl Fn(&str) -> bool) -> bool {
        let reason = self.reasons.get(usize::from(r.g.wait_reason));
        r.g.status == Status::Waiting && reason.is_some_and(|reason| so(reason))
    }

    /// CLOCK_MONOTONIC, which runtime.nanotime reads as well; a core has
    /// none: what it says of time is left out.
    fn nanotime(&self) -> Option<i64> {
        self.pid?;
        match self.moment {
            Some((then, _)) => Some(then),
            None => monotonic(),
        }
    }

    /// Nanoseconds since 1970; of a core unknown.
    fn calendar(&self) -> Option<i64> {
        self.pid?;
        let time = self.moment.map_or_else(jiff::Timestamp::now, |(_, t)| t);
        i64::try_from(time.as_nanosecond()).ok()
    }

    fn gomaxprocs(&self) -> Option<u32> {
        let at = self.target.bias.live(self.globals.gomaxprocs?);
        self.memory.read_u32(at).ok().filter(|n| *n <= 1 << 16)
    }
}

/// A process's memory, when it may be read: opening its executable takes less
/// permission.
fn readable(target: &Target, pid: i32) -> Result<ProcessMemory, SessionError> {
    let memory = ProcessMemory::read_only(pid);
    memory.check(target.text().0)?;
    Ok(memory)
}

/// Now, by CLOCK_MONOTONIC and by the calendar.
pub fn moment() -> Option<(i64, jiff::Timestamp)> {
    monotonic().zip(Some(jiff::Timestamp::now()))
}

/// CLOCK_MONOTONIC in nanoseconds.
fn monotonic() -> Option<i64> {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    Some(
        now.tv_sec()
            .saturating_mul(1_000_000_000)
            .saturating_add(now.tv_nsec()),
    )
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Every stack, else of a large program a sample.
    pub all_stacks: bool,
    /// Every goroutine by itself, else in a large program those that do the
    /// same are one entry.
    pub each: bool,
    /// Arguments of every frame.
    pub args: bool,
    /// Channels, sleeps and system calls.
    pub details: bool,
    /// This goroutine alone.
    pub only: Option<u64>,
}

/// Looks once.
pub fn look(source: &Source, wanted: &Wanted) -> Result<Survey, SessionError> {
    Ok(look_and_learn(source, wanted)?.0)
}

/// The same, and what it learnt of where locks are told.
fn look_and_learn(
    source: &Source,
    wanted: &Wanted,
) -> Result<(Survey, HashMap<Spot, u64>), SessionError> {
    let now = source.nanotime();
    let time_ns = source.calendar();
    let target = &source.target;
    let mut crowd = Crowd::new(source, *wanted, now);
    let others = census::walk::<SessionError>(
        &target.image,
        &*source.memory,
        &target.layouts,
        &source.globals,
        target.bias,
        &mut |one, system| match wanted.only {
            Some(goid) if goid == one.g.goid => crowd.add(one),
            None if !system => crowd.add(one),
            _ => Ok(()),
        },
    )?;
    let (mut survey, hints) = crowd.finish()?;
    survey.time_ns = time_ns;
    target
        .image
        .go_version()
        .text()
        .clone_into(&mut survey.go_version);
    survey.gomaxprocs = source.gomaxprocs();
    survey.system = others.system;
    survey.dead = others.dead;
    survey.idle = others.idle;
    survey.unreadable += others.unreadable;
    Ok((survey, hints))
}
