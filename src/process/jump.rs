//! Jumps into generated code, put in and taken out; in between nobody traces
//! the target.
//!
//! Going in: pages and ring are mapped by remote calls while the target runs;
//! then all threads are stopped once, nobody may stand strictly inside the bytes
//! that are replaced, the jumps are written, and every thread is let go for good.
//! Going out: all threads are stopped once, the bytes restored; when every thread
//! was seen outside the pages, they are unmapped. gotap may be killed between
//! any two steps: what is left then is harmless, and [`super::leftover`] takes
//! it out.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use super::ProcessError;
use super::die;
use super::leave::{PATIENCE, Settled};
use super::memory::ProcessMemory;
use super::procfs;
use super::quiet::{ThreadAt, busy_threads, returns_into};
use super::region::PAGE;
use super::remote::Remote;
use super::room::room_near;
use super::tracer::{Ending, Tracer};
use crate::addr::LiveAddr;
use crate::arch::jump::pages::{JumpPages, PlacedJump};
use crate::arch::jump::{GOffsets, JumpSite, RingLayout};
use crate::arch::region::Owner;
use crate::arch::unit::{Interiors, JUMP, MAX_UNIT};
use crate::memory::Memory;
use crate::sys::wait::{self, Wait};
use crate::sys::{Shared, map_shared, ptrace};

/// A thread that does not stop within this sleeps in the kernel, and stops
/// before it is back in the program.
const BRIEFLY: Duration = Duration::from_millis(20);

/// How often it is tried to find nobody inside the bytes to be replaced.
const TRIES: usize = 50;

/// Jumps that are in a target, and the ring they lead to.
#[derive(Debug)]
pub struct Jumped {
    pid: i32,
    memory: ProcessMemory,
    place: Place,
    ring: Shared,
    layout: RingLayout,
    /// Nothing is left to be taken out.
    left: Cell<bool>,
    /// How long all threads were stopped.
    pub pause: Duration,
}

/// What is in a target: by this gotap or by one that was killed.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub base: u64,
    pub len: u64,
    pub ring: u64,
    pub ring_len: u64,
    pub sites: Vec<PlacedJump>,
}

/// What [`Tracer::jump_in`] is to do.
#[derive(Debug)]
pub struct Jumps<'a> {
    /// The sites; live addresses.
    pub sites: &'a [JumpSite],
    /// First and last address of the program's code.
    pub text: (LiveAddr, LiveAddr),
    /// Bytes that the ring is to have, about.
    pub ring: u64,
    /// Where g's fields lie.
    pub g: GOffsets,
}

/// Asked, while everybody is stopped, whether some goroutine that does not run
/// rests at one of these addresses; the stack pointers of all threads,
/// ascending, tell which run.
pub type Parked<'a> = dyn FnMut(&ProcessMemory, &Interiors, &[u64]) -> bool + 'a;

impl Jumped {
    /// The target.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its memory.
    pub fn memory(&self) -> &ProcessMemory {
        &self.memory
    }

    /// The ring, and how it is laid out.
    pub fn ring(&self) -> (&Shared, RingLayout) {
        (&self.ring, self.layout)
    }

    /// How many sites jump.
    pub fn sites(&self) -> usize {
        self.place.sites.len()
    }

    /// Something once the process has ended (and how), or runs another program.
    pub fn outcome(&self) -> Option<Option<Ending>> {
        let mut magic = [0; 8];
        let at = LiveAddr(self.place.base);
        let there = self.memory.read(at, &mut magic).is_ok();
        if there && magic == crate::arch::jump::pages::MAGIC {
            return None;
        }
        self.left.set(true);
        if let Some(ending) = try_reap(self.pid) {
            return Some(Some(ending));
        }
        let alive = procfs::status(self.pid).is_ok_and(|s| !"ZX".contains(s.state));
        Some((!alive).then_some(Ending::Unknown))
    }

    /// Stops the target once, puts the bytes back, and unmaps what was put in.
    pub fn leave(&self) -> Result<(), ProcessError> {
        if self.left.replace(true) {
            return Ok(());
        }
        let attached = Tracer::attach(self.pid);
        let mut tracer = match attached {
            Ok(tracer) => tracer,
            // It ended meanwhile, and everything with it.
            Err(
                ProcessError::NoSuchProcess(_)
                | ProcessError::Gone(_)
                | ProcessError::NotTraceable { .. },
            ) => return Ok(()),
            Err(error) => return Err(error),
        };
        match tracer.jump_out(&self.place) {
            Err(ProcessError::Gone(_)) => Ok(()),
            other => other,
        }
    }
}

impl Drop for Jumped {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::error!(pid = self.pid, %error, "the target could not be left in good order");
        }
    }
}

/// How a child of ours ended that nobody traces, if it has.
pub fn try_reap(pid: i32) -> Option<Ending> {
    match wait::consume_end(pid) {
        Wait::Exited { code, .. } => Some(Ending::Exited(code)),
        Wait::Killed { signal, .. } => Some(Ending::Killed(signal)),
        Wait::Stopped { .. } | Wait::Interrupted | Wait::Nothing | Wait::NoTracees => None,
    }
}

impl Tracer {
    /// Puts jumps into the target and lets go of it.
    pub fn jump_in(
        mut self,
        jumps: &Jumps<'_>,
        parked: &mut Parked<'_>,
    ) -> Result<Jumped, Box<(Tracer, ProcessError)>> {
        match self.try_jump_in(jumps, parked) {
            Ok(jumped) => Ok(jumped),
            Err(error) => {
                self.give_back();
                Err(Box::new((self, error)))
            }
        }
    }

    fn try_jump_in(
        &mut self,
        jumps: &Jumps<'_>,
        parked: &mut Parked<'_>,
    ) -> Result<Jumped, ProcessError> {
        for site in jumps.sites {
            self.check_unchanged(site)?;
        }
        let mappings = procfs::mappings(self.pid)?;
        self.remote = Some(Remote::find(&mappings, &self.memory, jumps.text)?);
        let (pages, layout) = self.draw(jumps)?;
        let place = Place {
            base: pages.base,
            len: pages.bytes.len() as u64,
            ring: layout.at,
            ring_len: layout.len(),
            sites: pages.sites,
        };
        self.map(place.base, place.len, libc::PROT_READ | libc::PROT_EXEC)?;
        die::here("jump:mapped");
        let ring = self
            .memory
            .write(place.base, &pages.bytes)
            .and_then(|()| self.make_ring(&layout, place.base));
        die::here("jump:ring");
        let written = ring.and_then(|ring| {
            self.give_back();
            let pause = self.write_jumps(&place, parked)?;
            Ok((ring, pause))
        });
        match written {
            Ok((ring, pause)) => Ok(Jumped {
                pid: self.pid,
                memory: ProcessMemory::open(self.pid)?,
                place,
                ring,
                layout,
                left: Cell::new(false),
                pause,
            }),
            Err(error) => {
                let _ = self.unmap_all(&place);
                Err(error)
            }
        }
    }

    fn check_unchanged(&self, site: &JumpSite) -> Result<(), ProcessError> {
        let mut now = [0; MAX_UNIT];
        let unit = &site.unit;
        let now = now
            .get_mut(..unit.code.len())
            .ok_or(ProcessError::Gone(self.pid))?;
        self.memory
            .read(LiveAddr(unit.at), now)
            .map_err(|_| ProcessError::Gone(self.pid))?;
        let differs = now.iter().zip(&unit.code).zip(unit.at..);
        for ((found, expected), at) in differs {
            if found != expected {
                return Err(ProcessError::ForeignBytes {
                    pid: self.pid,
                    at,
                    found: *found,
                    expected: *expected,
                });
            }
        }
        Ok(())
    }

    /// Finds room, and builds the pages for it.
    fn draw(&self, jumps: &Jumps<'_>) -> Result<(JumpPages, RingLayout), ProcessError> {
        let cannot = |e: &dyn std::fmt::Display| ProcessError::Region {
            pid: self.pid,
            why: e.to_string(),
        };
        let me = std::process::id();
        let owner = Owner {
            pid: me,
            start_time: procfs::start_time(me as i32).unwrap_or(0),
            pid_namespace: procfs::pid_namespace(me as i32).unwrap_or(0),
        };
        let longest = jumps.sites.iter().map(|s| s.shape.bytes()).max();
        let mut layout = RingLayout::new(0, jumps.ring, longest.unwrap_or(0));
        let (lo, hi) = jumps.text;
        // How long they will be is known once they are written somewhere near.
        layout.at = hi.0.next_multiple_of(PAGE);
        let first = layout.at + layout.len();
        let draft = JumpPages::build(first, jumps.sites, &layout, jumps.g, owner)
            .map_err(|e| cannot(&e))?;
        let len = draft.bytes.len() as u64;
        let base = room_near(self.pid, lo.0, hi.0, len + PAGE + layout.len())?;
        layout.at = base + len + PAGE;
        let pages =
            JumpPages::build(base, jumps.sites, &layout, jumps.g, owner).map_err(|e| cannot(&e))?;
        if pages.bytes.len() as u64 > len + PAGE {
            return Err(cannot(&"its code does not keep its length"));
        }
        Ok((pages, layout))
    }

    /// Makes the ring in the target and maps it on both sides. Its memory is
    /// there before anybody writes to it: a fault in a trampoline is fatal.
    fn make_ring(&mut self, layout: &RingLayout, pages: u64) -> Result<Shared, ProcessError> {
        let name = pages + JumpPages::NAME_AT;
        let flags = u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        let what = "make shared memory";
        let fd = self.call(what, libc::SYS_memfd_create, [name, flags, 0, 0, 0, 0])?;
        die::here("jump:memfd");
        let made = self.fill_ring(layout, fd);
        let closed = self.call("close a file", libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        let ring = made?;
        closed.map(|_| ring)
    }

    fn fill_ring(&mut self, layout: &RingLayout, fd: u64) -> Result<Shared, ProcessError> {
        let len = layout.len();
        let path = format!("/proc/{}/fd/{fd}", self.pid);
        let failed = |source| ProcessError::Proc {
            path: path.clone().into(),
            source,
        };
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(&path)
            .map_err(failed)?;
        file.set_len(len).map_err(failed)?;
        let bytes = i64::try_from(len).unwrap_or(i64::MAX);
        let mode = nix::fcntl::FallocateFlags::empty();
        nix::fcntl::fallocate(&file, mode, 0, bytes).map_err(|e| failed(e.into()))?;
        let ring = map_shared(&file, len).map_err(failed)?;
        layout.prepare(&ring);
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let args = [layout.at, len, protection as u64, flags as u64, fd, 0];
        let got = self.call("map shared memory", libc::SYS_mmap, args)?;
        if got != layout.at {
            self.unmap(got, len)?;
            return Err(ProcessError::NoRoom { pid: self.pid, len });
        }
        Ok(ring)
    }

    /// One stop of all threads, in which the jumps are written; then all are let
    /// go for good.
    fn write_jumps(
        &mut self,
        place: &Place,
        parked: &mut Parked<'_>,
    ) -> Result<Duration, ProcessError> {
        let replaced = place.sites.iter().map(|s| s.site..s.site + JUMP as u64);
        let inside = Interiors::strictly(replaced);
        for _ in 0..TRIES {
            let began = Instant::now();
            let stopped = self.stop_all()?;
            let threads: Vec<ThreadAt> = stopped.keys().filter_map(|t| self.at(*t)).collect();
            let mut pointers: Vec<u64> = threads.iter().map(|t| t.sp).collect();
            pointers.sort_unstable();
            let busy = self.any_in(&threads, &inside) || parked(&self.memory, &inside, &pointers);
            if busy {
                self.all_go_on(stopped);
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            die::here("jump:stopped");
            let mut result = Ok(());
            for site in &place.sites {
                result = result.and_then(|()| self.memory.write(site.site, &site.patch()));
                die::here("jump:half");
            }
            if result.is_err() {
                for site in &place.sites {
                    let _ = self.memory.write(site.site, &site.original);
                }
                self.all_go_on(stopped);
                return Err(result.err().unwrap_or(ProcessError::Gone(self.pid)));
            }
            self.all_go_for_good(stopped);
            return Ok(began.elapsed());
        }
        Err(ProcessError::Region {
            pid: self.pid,
            why: "some thread is always in the middle of what would be replaced".into(),
        })
    }

    /// Stops every thread. Those that sleep in the kernel may do so on: they are
    /// `Stuck`, and stop before they run anything of the program.
    pub(super) fn stop_all(&mut self) -> Result<HashMap<i32, Settled>, ProcessError> {
        let deadline = Instant::now() + PATIENCE;
        let mut stopped: HashMap<i32, Settled> = HashMap::new();
        loop {
            let new: Vec<i32> = self
                .threads
                .iter()
                .copied()
                .filter(|t| !self.standing.contains(t))
                .collect();
            if new.is_empty() {
                return Ok(stopped);
            }
            if !self.held {
                for tid in &new {
                    let _ = ptrace::interrupt(*tid);
                }
            }
            for tid in new {
                let brief = deadline.min(Instant::now() + BRIEFLY);
                match self.settle(tid, brief) {
                    Settled::Gone => {
                        self.threads.remove(&tid);
                    }
                    Settled::Stuck
                        if procfs::sleeping_at(self.pid, tid).is_none()
                            && Instant::now() > deadline =>
                    {
                        self.all_go_on(stopped);
                        return Err(ProcessError::Stuck(self.pid));
                    }
                    Settled::Stuck if procfs::sleeping_at(self.pid, tid).is_none() => {}
                    settled => {
                        self.standing.insert(tid);
                        stopped.insert(tid, settled);
                    }
                }
            }
        }
    }

    pub(super) fn all_go_on(&mut self, stopped: HashMap<i32, Settled>) {
        self.standing.clear();
        for (tid, settled) in stopped {
            self.go_on(tid, settled);
        }
    }

    fn all_go_for_good(&mut self, stopped: HashMap<i32, Settled>) {
        let mut slow = Vec::new();
        self.standing.clear();
        for (tid, settled) in stopped {
            if settled == Settled::Stuck {
                slow.push(tid);
                continue;
            }
            self.let_go(tid, settled);
            self.threads.remove(&tid);
        }
        // They sleep: they are let go when they wake up.
        let deadline = Instant::now() + PATIENCE;
        for tid in slow {
            let settled = self.settle(tid, deadline);
            self.let_go(tid, settled);
            self.threads.remove(&tid);
        }
        self.let_children_go();
        self.never_ran = false;
        self.held = false;
    }

    /// Where a thread is that is stopped, or sleeps in the kernel.
    fn at(&self, tid: i32) -> Option<ThreadAt> {
        if let Ok(regs) = ptrace::registers(tid) {
            let (pc, sp) = (regs.rip, regs.rsp);
            return Some(ThreadAt { tid, pc, sp });
        }
        let (sp, pc) = procfs::sleeping_at(self.pid, tid)?;
        Some(ThreadAt { tid, pc, sp })
    }

    /// One of these threads is at one of these addresses, or will be again.
    fn any_in(&self, threads: &[ThreadAt], inside: &Interiors) -> bool {
        // What cannot be read is gone.
        busy_threads(&self.memory, threads, inside).is_ok_and(|busy| !busy.is_empty())
    }

    /// Takes jumps out again, and what they lead to, and lets go of the target.
    pub(super) fn jump_out(&mut self, place: &Place) -> Result<(), ProcessError> {
        let stopped = self.stop_all()?;
        let mut foreign = None;
        for site in &place.sites {
            let mut now = [0; JUMP];
            let read = self.memory.read(LiveAddr(site.site), &mut now);
            if read.is_ok() && now == site.patch() {
                if let Err(error) = self.memory.write(site.site, &site.original) {
                    foreign.get_or_insert(error);
                }
                die::here("jump:half-out");
            }
        }
        self.all_go_on(stopped);
        die::here("jump:restored");
        if let Some(error) = foreign {
            return Err(error);
        }
        self.wait_until_outside(place)?;
        let mappings = procfs::mappings(self.pid)?;
        if self.remote.is_none() {
            let code = (LiveAddr(0), LiveAddr(u64::MAX));
            self.remote = Some(Remote::find(&mappings, &self.memory, code)?);
        }
        let unmapped = self.unmap_all(place);
        self.give_back();
        unmapped
    }

    /// Sees every thread once outside the pages: nobody gets in any more.
    fn wait_until_outside(&mut self, place: &Place) -> Result<(), ProcessError> {
        let pages = Interiors::whole(std::iter::once(place.base..place.base + place.len));
        let deadline = Instant::now() + PATIENCE;
        let mut seen: Vec<i32> = Vec::new();
        loop {
            let new: Vec<i32> = self
                .threads
                .iter()
                .copied()
                .filter(|t| !seen.contains(t))
                .collect();
            if new.is_empty() {
                return Ok(());
            }
            for tid in new {
                let settled = self.settle(tid, deadline.min(Instant::now() + BRIEFLY));
                if settled == Settled::Gone {
                    self.threads.remove(&tid);
                    continue;
                }
                let asleep =
                    settled != Settled::Stuck || procfs::sleeping_at(self.pid, tid).is_some();
                let inside = self.at(tid).is_some_and(|at| {
                    // What cannot be read is gone.
                    returns_into(&self.memory, at, &pages).unwrap_or(false)
                });
                if asleep && !inside {
                    seen.push(tid);
                }
                self.go_on(tid, settled);
            }
            if Instant::now() > deadline {
                return Err(ProcessError::Stuck(self.pid));
            }
        }
    }

    /// Unmaps pages and ring, and closes the ring's descriptor if gotap was
    /// killed before it did.
    pub(super) fn unmap_all(&mut self, place: &Place) -> Result<(), ProcessError> {
        let name = format!("/memfd:{} (deleted)", crate::arch::jump::pages::RING_NAME);
        let mappings = procfs::mappings(self.pid)?;
        let ring = mappings
            .iter()
            .any(|m| m.start == place.ring && m.name == name);
        if ring {
            self.unmap(place.ring, place.ring_len)?;
        }
        for fd in procfs::descriptors(self.pid) {
            if procfs::descriptor(self.pid, fd).as_deref() == Some(&name) {
                self.call("close a file", libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
            }
        }
        die::here("jump:ring-unmapped");
        self.unmap(place.base, place.len)
    }
}
