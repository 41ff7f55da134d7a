//! One look at every goroutine of a program, from outside.
//!
//! Who lives here: where the bytes come from ([`Source`]), the look itself
//! ([`look`]), stacks and the frames in them (`stacks`), what is waited for
//! (`waits`). Nothing is stopped, nothing written. Allowed in: cli.

mod stacks;
mod waits;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::SessionError;
use super::target::Target;
use crate::addr::LiveAddr;
use crate::golang::census::{self, Census, Resident};
use crate::golang::globals::Globals;
use crate::golang::gs::{self, GsError, Status, Thread};
use crate::golang::labels::{Labels, read_labels};
use crate::memory::{Memory, MemoryError};
use crate::process::ProcessMemory;
use crate::process::core::Core;
use crate::survey::{Class, Entry, PlaceId, StackState, Survey, Wait, verdict::busiest_lock};

/// A program to look at: running, or as it was.
pub struct Source {
    /// The program.
    pub target: Arc<Target>,
    /// Its bytes.
    pub memory: Box<dyn Memory>,
    /// The process, when there still is one.
    pub pid: Option<i32>,
    globals: Globals,
    reasons: Vec<Arc<str>>,
    /// Threads whose registers are known: all of a core, those of a process
    /// that was stopped.
    threads: Vec<Registers>,
    /// The thread that crashed, of a core.
    crashed: Option<u64>,
}

/// Where a thread stood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// Thread id.
    pub tid: u64,
    /// RIP
    pub pc: LiveAddr,
    /// RSP
    pub sp: LiveAddr,
}

impl Source {
    /// A running process.
    pub fn process(pid: i32) -> Result<Source, SessionError> {
        let target = Target::of_process(pid)?;
        let memory = Box::new(ProcessMemory::read_only(pid));
        Source::new(target, memory, Some(pid))
    }

    /// A core file, and the executable that it is of, unless the core names it.
    pub fn core(core: &Path, program: Option<&Path>) -> Result<Source, SessionError> {
        let core = Core::open(core, program)?;
        for remark in core.remarks() {
            tracing::warn!("{remark}");
        }
        let threads: Vec<Registers> = core
            .threads()
            .iter()
            .map(|t| Registers {
                tid: u64::try_from(t.tid).unwrap_or(0),
                pc: LiveAddr(t.regs.rip),
                sp: LiveAddr(t.regs.rsp),
            })
            .collect();
        let target = Target::of_core(&core);
        // Only a signal's core has a thread that crashed.
        let crashed = core.signal().and(threads.first()).map(|t| t.tid);
        let mut source = Source::new(target, Box::new(core), None)?;
        source.threads = threads;
        source.crashed = crashed;
        Ok(source)
    }

    /// A program of which only the bytes are left.
    pub fn new(
        target: Target,
        memory: Box<dyn Memory>,
        pid: Option<i32>,
    ) -> Result<Source, SessionError> {
        let globals = Globals::resolve(&target.image);
        let reasons = census::wait_reasons(&*memory, &globals, target.bias)?
            .into_iter()
            .map(Arc::from)
            .collect();
        Ok(Source {
            target: Arc::new(target),
            memory,
            pid,
            globals,
            reasons,
            threads: Vec::new(),
            crashed: None,
        })
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
            Ok(threads) => Ok(threads
                .into_iter()
                .filter(|t| t.tid != 0)
                .map(|t| (t.addr, t))
                .collect()),
            Err(GsError::Memory(MemoryError::Gone)) => Err(MemoryError::Gone.into()),
            Err(error) => {
                tracing::warn!(%error, "threads cannot be told");
                Ok(HashMap::new())
            }
        }
    }

    /// Why a goroutine waits.
    fn reason(&self, r: &Resident) -> Arc<str> {
        match r.g.status {
            Status::Waiting | Status::Leaked => self
                .reasons
                .get(usize::from(r.g.wait_reason))
                .cloned()
                .unwrap_or_else(|| "unknown wait reason".into()),
            _ => "".into(),
        }
    }

    /// CLOCK_MONOTONIC, which runtime.nanotime reads as well; a core has
    /// none: what it says of time is left out.
    fn nanotime(&self) -> Option<i64> {
        self.pid?;
        monotonic()
    }

    fn gomaxprocs(&self) -> Option<u32> {
        let at = self.target.bias.live(self.globals.gomaxprocs?);
        self.memory.read_u32(at).ok().filter(|n| *n <= 1 << 16)
    }
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
    /// Arguments of every frame.
    pub args: bool,
    /// Channels, sleeps and system calls.
    pub details: bool,
    /// This goroutine alone.
    pub only: Option<u64>,
}

/// Looks once.
pub fn look(source: &Source, wanted: &Wanted) -> Result<Survey, SessionError> {
    let now = source.nanotime();
    let time_ns = source
        .pid
        .map(|_| jiff::Timestamp::now().as_nanosecond() as i64);
    let target = &source.target;
    let mut census = census::take(
        &target.image,
        &*source.memory,
        &target.layouts,
        &source.globals,
        target.bias,
    )?;
    if let Some(goid) = wanted.only {
        let all = census.own.drain(..).chain(census.system.drain(..));
        census.own = all.filter(|r| r.g.goid == goid).collect();
    }
    let Census {
        mut own,
        system,
        dead,
        idle,
        unreadable,
    } = census;
    let mut survey = Survey {
        time_ns,
        go_version: target.image.go_version().text().to_owned(),
        gomaxprocs: source.gomaxprocs(),
        system: system.len(),
        dead,
        idle,
        unreadable,
        ..Survey::default()
    };
    let threads = source.runtime_threads()?;
    let mut seen = stacks::read(source, wanted, &threads, &mut own, &mut survey)?;
    let mut entries = Entries::new(source, now, &threads);
    for (i, r) in own.iter().enumerate() {
        let stack = seen.take(i);
        entries.add(r, stack, &mut survey)?;
    }
    let crashed = |e: &&Entry| e.tid.is_some() && e.tid == source.crashed;
    survey.crashed = survey.goroutines.iter().find(crashed).map(|e| e.goid);
    waits::connections(source, now, &own, &mut survey)?;
    if wanted.details {
        waits::details(source, now, &own, &mut survey)?;
    }
    if let Some((_, at, count)) = busiest_lock(&survey)
        && count > 1
    {
        survey.candidates = stacks::holders(source, &own, &survey, at)?;
    }
    Ok(survey)
}

/// Makes entries of residents.
struct Entries<'a> {
    source: &'a Source,
    now: Option<i64>,
    tids: HashMap<LiveAddr, u64>,
    places: HashMap<(u64, bool), Option<PlaceId>>,
    labels: HashMap<LiveAddr, Option<Arc<Labels>>>,
}

impl<'a> Entries<'a> {
    fn new(source: &'a Source, now: Option<i64>, threads: &HashMap<LiveAddr, Thread>) -> Self {
        Entries {
            source,
            now,
            tids: threads.iter().map(|(m, t)| (*m, t.tid)).collect(),
            places: HashMap::new(),
            labels: HashMap::new(),
        }
    }

    fn add(
        &mut self,
        r: &Resident,
        stack: stacks::Seen,
        survey: &mut Survey,
    ) -> Result<(), SessionError> {
        let reason = self.source.reason(r);
        match stack.state {
            StackState::Unstable => survey.unstable += 1,
            StackState::Unreadable => survey.unreadable += 1,
            _ => {}
        }
        // Nobody's statement made the first (runtime/traceback.go: printcreatedby).
        let created = match r.g.goid {
            1 => None,
            _ => self.place(r.g.gopc, true, survey),
        };
        let start = self.place(r.g.startpc, false, survey);
        survey.goroutines.push(Entry {
            goid: r.g.goid,
            status: r.g.status,
            scanned: r.scanned,
            class: Class::of(r.g.status, &reason),
            wait: self.wait(r),
            created,
            created_offset: self.offset(r.g.gopc),
            start,
            parent: Some(r.parent).filter(|p| *p != 0),
            tid: self.tids.get(&r.g.m).copied(),
            locked: r.locked,
            labels: self.labels(r.labels)?,
            net: None,
            blocked_on: stack.lock,
            stack_state: stack.state,
            stack: stack.id,
            args: stack.args,
            user: stack.user,
            func: stack.func,
            at: (r.g.sched_pc.0, r.g.sched_sp.0),
            reason,
        });
        Ok(())
    }

    /// runtime/traceback.go: goroutineheader says it of the same states.
    fn wait(&self, r: &Resident) -> Option<Wait> {
        if !matches!(
            r.g.status,
            Status::Waiting | Status::Syscall | Status::Leaked
        ) || r.wait_since <= 0
        {
            return None;
        }
        let ns = self.now?.checked_sub(r.wait_since)?;
        u64::try_from(ns).ok().map(Wait::AtLeast)
    }

    /// A `go` statement (runtime/traceback.go: printcreatedby1), or where a
    /// function begins.
    fn place(&mut self, pc: LiveAddr, call: bool, survey: &mut Survey) -> Option<PlaceId> {
        if pc.is_null() {
            return None;
        }
        if let Some(known) = self.places.get(&(pc.0, call)) {
            return *known;
        }
        let target = &self.source.target;
        let at = target.bias.image(pc);
        let found = target.image.functions().find(at).map(|function| {
            let back = if call && at > function.entry() {
                crate::addr::ImageAddr(at.0.wrapping_sub(1))
            } else {
                at
            };
            let line = if call {
                function.line_at(back)
            } else {
                function.start_line()
            };
            survey.names.place(
                &function.name(),
                function.file_at(back).unwrap_or_default(),
                line.unwrap_or(0),
            )
        });
        self.places.insert((pc.0, call), found);
        found
    }

    /// Bytes from the entry of its function.
    fn offset(&self, pc: LiveAddr) -> u32 {
        let target = &self.source.target;
        let at = target.bias.image(pc);
        let function = target.image.functions().find(at);
        let offset = function.map(|f| at.0.saturating_sub(f.entry().0));
        u32::try_from(offset.unwrap_or(0)).unwrap_or(0)
    }

    fn labels(&mut self, at: LiveAddr) -> Result<Option<Arc<Labels>>, SessionError> {
        if at.is_null() {
            return Ok(None);
        }
        if let Some(known) = self.labels.get(&at) {
            return Ok(known.clone());
        }
        let minor = self.source.target.image.go_version().minor();
        let labels = read_labels(&*self.source.memory, minor, at)?;
        let labels = (!labels.is_empty()).then(|| Arc::new(labels));
        self.labels.insert(at, labels.clone());
        Ok(labels)
    }
}
