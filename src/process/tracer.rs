//! The tracer: every ptrace request of gotap is made here, on one thread.
//!
//! Threads are seized, never stopped as a whole. A thread that hits a site
//! waits until the session lets it pass through the site's slot; all others run.
//! Stops are looked at without being consumed (see [`crate::sys::wait`]), so
//! that whatever they were about is still delivered if gotap dies right there.

use std::collections::HashSet;

use nix::errno::Errno;

use super::ProcessError;
use super::by_hand::done_by_hand;
use super::children::Children;
use super::die;
use super::halt::Halt;
use super::memory::ProcessMemory;
use super::procfs;
use super::region::Installed;
use super::remote::{Borrowed, Remote};
use super::snapshot::Copies;
use super::watch::Watch;
use crate::addr::LiveAddr;
use crate::memory::Memory;
use crate::sys::wait::{Stop, Wait};
use crate::sys::{Regs, ptrace, wait};

/// Every so many hits, whatever the site, the thread's blocked signals are looked at.
const NOW_AND_THEN: u64 = 64;

/// What the session is told.
#[derive(Debug)]
pub enum Event {
    /// A thread waits at a site; [`Tracer::pass`] lets it go on.
    Hit(Box<Hit>),
    /// The same, and the thread's signals are blocked: what the site belongs to
    /// must never have been armed. The site is disarmed, and what the kernel did
    /// about it is undone; [`Tracer::pass`] as for a hit.
    Blocked(Box<Hit>),
    /// A thread is gone.
    ThreadGone(i32),
    /// The process ended.
    Ended(Ending),
    /// The process runs another program now; nothing of ours is left in it.
    Exec,
    /// [`crate::sys::signals::nudge`] woke us.
    Nudged,
}

/// A thread that waits at a site.
#[derive(Debug)]
pub struct Hit {
    /// The thread.
    pub tid: i32,
    /// Index of the site, as given when it was installed.
    pub site: usize,
    /// Its registers; `rip` is the site's address.
    pub regs: Regs,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// exit(2) with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It is gone, and nobody told us how.
    Unknown,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Exited(code) => write!(f, "exited with code {code}"),
            Ending::Killed(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(s) => write!(f, "was killed by {}", s.as_str()),
                Err(_) => write!(f, "was killed by signal {signal}"),
            },
            Ending::Unknown => f.write_str("ended"),
        }
    }
}

/// One target under ptrace. Dropping it lets the target go in good order.
#[derive(Debug)]
pub struct Tracer {
    pub(super) pid: i32,
    pub(super) memory: ProcessMemory,
    pub(super) remote: Option<Remote>,
    pub(super) threads: HashSet<i32>,
    pub(super) children: Children,
    /// A thread that makes system calls for us.
    pub(super) borrowed: Option<Borrowed>,
    /// The thread whose hit is being attended to: it stays where it is until the
    /// hit is passed, and is not borrowed.
    pub(super) attended: Option<i32>,
    pub(super) installed: Option<Installed>,
    /// Regions that a later one took the place of: threads may be in them.
    pub(super) retired: Vec<Installed>,
    /// Frozen copies of it, and the page they are made with.
    pub(super) copies: Copies,
    /// Whom to ask for news.
    watch: Watch,
    /// The only thread is stopped, by nothing that is still to be reported:
    /// launched and not started, or at the start of another program.
    pub(super) held: bool,
    /// All threads are being stopped, and these have been: they stay so until
    /// all may go on.
    pub(super) standing: HashSet<i32>,
    /// All stand still, until somebody lets them go on.
    pub(super) halted: Option<Halt>,
    /// Threads are stopped to go on, where they are.
    pub(super) halting: bool,
    /// Launched, and not started: without us it would never run.
    pub(super) never_ran: bool,
    hits: u64,
    /// It has run another program since it was seized.
    pub(super) replaced: bool,
    ended: Option<Ending>,
}

impl Tracer {
    /// Seizes every thread of `pid`. Nothing is stopped.
    pub fn attach(pid: i32) -> Result<Tracer, ProcessError> {
        procfs::check_traceable(pid)?;
        Tracer::attach_to(pid, ProcessMemory::open(pid)?)
    }

    /// The same with memory that is open already.
    pub(super) fn attach_to(pid: i32, memory: ProcessMemory) -> Result<Tracer, ProcessError> {
        let mut tracer = Tracer::new(pid, memory);
        tracer.seize_all()?;
        Ok(tracer)
    }

    pub(super) fn new(pid: i32, memory: ProcessMemory) -> Tracer {
        Tracer {
            pid,
            memory,
            remote: None,
            threads: HashSet::new(),
            children: Children::default(),
            borrowed: None,
            attended: None,
            installed: None,
            retired: Vec::new(),
            copies: Copies::default(),
            watch: Watch::new(),
            held: false,
            standing: HashSet::new(),
            halted: None,
            halting: false,
            never_ran: false,
            hits: 0,
            replaced: false,
            ended: None,
        }
    }

    /// Threads start while others are seized: look again until nobody is new.
    /// Threads of seized threads are seized by the kernel.
    fn seize_all(&mut self) -> Result<(), ProcessError> {
        loop {
            let mut new = false;
            for tid in procfs::threads(self.pid)? {
                if self.threads.contains(&tid) {
                    continue;
                }
                match ptrace::seize(tid) {
                    Ok(()) => {
                        self.threads.insert(tid);
                        new = true;
                    }
                    // It ended, or the kernel has seized it for us already.
                    Err(Errno::ESRCH) => {}
                    Err(Errno::EPERM) if self.is_ours(tid) => {
                        self.threads.insert(tid);
                        new = true;
                    }
                    Err(Errno::EPERM) => {
                        let tracer = procfs::status(tid).map_or(0, |s| s.tracer);
                        if tracer != 0 {
                            return Err(ProcessError::AlreadyTraced {
                                pid: self.pid,
                                tracer: procfs::name(tracer),
                                tracer_pid: tracer,
                            });
                        }
                        // A thread that is just ending says so too.
                        if procfs::status(tid).is_ok_and(|s| !"ZX".contains(s.state)) {
                            return Err(procfs::denied(self.pid));
                        }
                    }
                    Err(errno) => {
                        return Err(ProcessError::Ptrace {
                            what: "attaching",
                            tid,
                            errno,
                        });
                    }
                }
            }
            // A thread that was not seized yet may have run another program
            // meanwhile: it has the first one's id then, and is not ours.
            if self.threads.contains(&self.pid)
                && procfs::status(self.pid).is_ok_and(|s| s.tracer == 0)
            {
                new = self.threads.remove(&self.pid);
            }
            if !new {
                break;
            }
        }
        if self.threads.is_empty() {
            Err(ProcessError::Gone(self.pid))
        } else {
            Ok(())
        }
    }

    fn is_ours(&self, tid: i32) -> bool {
        // TracerPid names the tracing thread; ours is this one.
        procfs::status(tid).is_ok_and(|s| s.tracer == crate::sys::thread_id())
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its memory.
    pub fn memory(&self) -> &ProcessMemory {
        &self.memory
    }

    /// How many threads are traced.
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// The threads that are traced.
    pub fn thread_ids(&self) -> impl Iterator<Item = i32> + '_ {
        self.threads.iter().copied()
    }

    /// What was injected, once [`Tracer::install`] was called.
    pub fn installed(&self) -> Option<&Installed> {
        self.installed.as_ref()
    }

    /// Waits for the next thing worth telling, dealing with all others.
    pub fn next_event(&mut self) -> Event {
        loop {
            if let Some(ending) = self.ended {
                return Event::Ended(ending);
            }
            // Seen while we were at something else.
            if self.replaced && self.held {
                return Event::Exec;
            }
            match self.watch.look(&self.threads) {
                Wait::Interrupted => return Event::Nudged,
                Wait::NoTracees => {
                    self.ended = Some(Ending::Unknown);
                }
                Wait::Nothing => {}
                Wait::Exited { tid, code } => {
                    if let Some(event) = self.on_exit(tid, Ending::Exited(code)) {
                        return event;
                    }
                }
                Wait::Killed { tid, signal, .. } => {
                    if let Some(event) = self.on_exit(tid, Ending::Killed(signal)) {
                        return event;
                    }
                }
                Wait::Stopped { tid, stop } => {
                    if let Some(event) = self.on_stop(tid, stop) {
                        if let Event::Blocked(hit) = &event {
                            self.undo_default(hit);
                        }
                        return event;
                    }
                }
            }
        }
    }

    /// What the kernel did because a thread hit with SIGTRAP blocked.
    pub(super) fn undo_default(&mut self, hit: &Hit) {
        self.attended = Some(hit.tid);
        if let Err(error) = self.handle_again(hit.site) {
            tracing::warn!(pid = self.pid, %error, "SIGTRAP's action stays the default");
        }
        self.attended = None;
    }

    pub(super) fn on_exit(&mut self, tid: i32, ending: Ending) -> Option<Event> {
        wait::consume_end(tid);
        if tid == self.pid {
            self.threads.clear();
            self.ended = Some(ending);
            return Some(Event::Ended(ending));
        }
        let was_ours = self.forget(tid);
        self.collect_dead();
        was_ours.then_some(Event::ThreadGone(tid))
    }

    /// A task is gone. True if it was a thread of the target.
    pub(super) fn forget(&mut self, tid: i32) -> bool {
        self.watch.forget(tid);
        self.children.forget(tid);
        self.copies.forget(tid);
        self.standing.remove(&tid);
        if let Some(halt) = &mut self.halted {
            halt.threads.remove(&tid);
            halt.hits.remove(&tid);
        }
        self.threads.remove(&tid)
    }

    /// The target runs another program: all its other threads are gone, and
    /// with them all that was injected. It stands before its first instruction.
    pub(super) fn on_exec(&mut self) {
        self.threads = HashSet::from([self.pid]);
        self.watch.forget_all();
        self.installed = None;
        self.retired.clear();
        self.remote = None;
        self.borrowed = None;
        self.copies.page = None;
        self.held = true;
        self.replaced = true;
    }

    /// ESRCH on a tracee means that it was killed meanwhile: the wait tells.
    pub(super) fn resume(&self, tid: i32, signal: i32) {
        if let Err(errno) = ptrace::cont(tid, signal) {
            tracing::debug!(tid, %errno, "a thread could not be continued");
        }
    }

    pub(super) fn on_stop(&mut self, tid: i32, stop: Stop) -> Option<Event> {
        if self.copies.has(tid) {
            // It stays where it is.
            wait::consume(tid);
            return None;
        }
        match stop {
            Stop::Signal(libc::SIGTRAP) => self.on_trap(tid),
            Stop::Signal(signal) => {
                self.on_signal(tid, signal);
                None
            }
            Stop::Interrupt => {
                wait::consume(tid);
                self.on_first_stop(tid);
                None
            }
            Stop::Group(_) => {
                wait::consume(tid);
                if self.children.expected.contains_key(&tid) {
                    self.on_first_stop(tid);
                } else if let Err(errno) = ptrace::listen(tid) {
                    tracing::debug!(tid, %errno, "a stopped thread could not be left listening");
                }
                None
            }
            Stop::Clone | Stop::Fork | Stop::Vfork => {
                wait::consume(tid);
                let child = ptrace::event_message(tid).unwrap_or(0) as i32;
                self.on_child(stop, child);
                self.resume(tid, 0);
                None
            }
            Stop::Exec => {
                wait::consume(tid);
                if tid == self.pid {
                    self.on_exec();
                    return Some(Event::Exec);
                }
                self.children.forget(tid);
                let _ = ptrace::detach(tid, 0);
                None
            }
            Stop::Syscall | Stop::Other(_) => {
                wait::consume(tid);
                self.resume(tid, 0);
                None
            }
        }
    }

    fn on_trap(&mut self, tid: i32) -> Option<Event> {
        let Ok(mut regs) = ptrace::registers(tid) else {
            return None;
        };
        let at = regs.rip.wrapping_sub(1);
        let site = self.installed.as_ref().and_then(|i| i.site_at(at));
        // SI_KERNEL is what an int3 gives (arch/x86/kernel/traps.c); a SIGTRAP
        // that somebody sent goes to the program.
        let ours = site.is_some() && ptrace::signal_code(tid) == Ok(libc::SI_KERNEL);
        let (Some((index, armed)), true) = (site, ours) else {
            self.on_signal(tid, libc::SIGTRAP);
            return None;
        };
        regs.rip = at;
        let hit = Hit {
            tid,
            site: index,
            regs,
        };
        if !armed {
            // Disarmed after this thread ran into it: the slot does what the
            // instruction does, and moving forward is safe at every moment
            // (see arch/handler.rs).
            self.pass(&hit);
            return None;
        }
        self.watch.saw(tid);
        self.hits = self.hits.wrapping_add(1);
        if self.ran_blocked(tid, at) {
            return Some(Event::Blocked(Box::new(hit)));
        }
        Some(Event::Hit(Box::new(hit)))
    }

    /// The kernel unblocks SIGTRAP itself when it forces one
    /// (force_sig_info_to_task in kernel/signal.c). SIGSEGV is one that Go code
    /// never has blocked otherwise (`blockableSig` in runtime/signal_unix.go).
    /// Other code than the runtime's may have it by the program's own doing, for
    /// as long as its thread lives: a look now and then finds that.
    fn ran_blocked(&self, tid: i32, at: u64) -> bool {
        const SEGV: u64 = 1 << (libc::SIGSEGV - 1);
        let doubtful = self.installed.as_ref().is_some_and(|i| i.is_doubtful(at));
        (doubtful || self.hits.is_multiple_of(NOW_AND_THEN))
            && ptrace::signal_mask(tid).is_ok_and(|mask| mask & SEGV != 0)
    }

    /// Lets a thread that hit go on, through the displaced instruction in its slot.
    pub fn pass(&mut self, hit: &Hit) {
        let Some(slot) = self.installed.as_ref().and_then(|i| i.slot_of(hit.site)) else {
            return;
        };
        die::here("hit:before-regs");
        if let Err(errno) = ptrace::set_rip(hit.tid, slot) {
            tracing::debug!(tid = hit.tid, %errno, "a thread at a site is gone");
            return;
        }
        die::here("hit:before-cont");
        self.resume(hit.tid, 0);
        die::here("hit:after-cont");
    }

    /// A signal is delivered at a place that the program knows, if there is one:
    /// behind the displaced instruction, or, for a fault of that, before it. Go
    /// makes a panic of such a fault, and preempts only where it knows the code.
    pub(super) fn on_signal(&mut self, tid: i32, signal: i32) {
        self.leave_slot(tid, signal);
        self.resume(tid, signal);
    }

    fn leave_slot(&self, tid: i32, signal: i32) {
        if self.installed.is_none() {
            return;
        }
        let Ok(regs) = ptrace::registers(tid) else {
            return;
        };
        let Some((placed, home)) = self.regions().find_map(|i| i.in_slot(regs.rip)) else {
            return;
        };
        let faulted = matches!(
            signal,
            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL
        );
        if faulted || home.offset >= placed.slot.resume {
            super::region::move_to(tid, regs, home);
        } else if home.offset == 0
            && let Some(code) = placed.slot.bytes.get(..placed.slot.insn_len)
            && let Some(after) = done_by_hand(
                code,
                placed.site,
                &regs,
                |at| self.memory.read_u64(LiveAddr(at)).ok(),
                |at, word| self.memory.write(at, &word.to_le_bytes()).ok(),
            )
        {
            let _ = ptrace::set_registers(tid, after);
        }
    }
}
