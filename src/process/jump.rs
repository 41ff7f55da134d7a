//! Jumps into generated code, put in and taken out; in between nobody need trace
//! the target.
//!
//! Going in: pages and ring are mapped by remote calls while the target runs;
//! then all threads are stopped for a moment, and the jumps written where nobody
//! stands strictly inside the bytes that are replaced ([`stops`]). Where somebody
//! does it is tried again in a later stop, some times. Going out: all threads are
//! stopped once, the bytes restored; when every thread was seen outside the
//! pages, they are unmapped. gotap may be killed between any two steps: what is
//! left then is harmless, and [`super::leftover`] takes it out.

mod stops;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use super::ProcessError;
use super::die;
use super::memory::ProcessMemory;
use super::procfs;
use super::quiet::Whereabouts;
use super::region::PAGE;
use super::remote::Remote;
use super::room::room_near;
use super::tracer::{Ending, Tracer};
use crate::addr::LiveAddr;
use crate::arch::jump::pages::{JumpPages, PlacedJump};
use crate::arch::jump::{GOffsets, JumpSite, RingLayout};
use crate::arch::region::Owner;
use crate::arch::unit::{Interiors, MAX_UNIT};
use crate::memory::Memory;
use crate::sys::wait::{self, Wait};
use crate::sys::{Shared, map_shared};

/// Bytes of code that a site seldom has more of.
const LIKELY: u64 = 4096;

/// As much of the ring is written to while gotap keeps up.
const NEAR: u64 = 2 << 20;

/// How long a process may take to end that has no memory any more.
const ENDING: Duration = Duration::from_secs(2);

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
    /// How long all threads were stopped, the longest time.
    pub pause: Duration,
    /// How often.
    pub stops: usize,
    /// Groups of sites that do not jump, by number, and why.
    pub left_out: Vec<(usize, LeftOut)>,
    armed: usize,
}

/// Why sites that could jump do not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// At every stop somebody was in the middle of the bytes to be replaced.
    #[error("somebody was in the middle of it at each of {0} stops")]
    Busy(usize),
    /// The code is not what the file says.
    #[error("{0}")]
    Foreign(String),
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
    /// Of each site, the number of the group that it belongs to: a group jumps
    /// as a whole, or not at all.
    pub groups: &'a [usize],
    /// First and last address of the program's code.
    pub text: (LiveAddr, LiveAddr),
    /// Bytes that the ring is to have, about.
    pub ring: u64,
    /// Where g's fields lie.
    pub g: GOffsets,
}

/// Asked, while everybody is stopped, in which of these pieces goroutines rest
/// that do not run; where the threads are tells which run. `None`: that could not
/// be found out.
pub type Parked<'a> =
    dyn FnMut(&ProcessMemory, &Interiors, &[Whereabouts]) -> Option<BTreeSet<usize>> + 'a;

/// Pages and ring, as they would be put into a process.
#[derive(Debug)]
pub struct Drawn {
    pages: JumpPages,
    layout: RingLayout,
}

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
        self.armed
    }

    /// The process is gone, or another program: there is nothing to leave.
    pub fn forget(&self) {
        self.left.set(true);
    }

    /// Something once the process has ended (and how), or runs another program.
    pub fn outcome(&self) -> Option<Option<Ending>> {
        if self.is_there() {
            return None;
        }
        self.left.set(true);
        let deadline = Instant::now() + ENDING;
        loop {
            if let Some(ending) = try_reap(self.pid) {
                return Some(Some(ending));
            }
            let state = procfs::status(self.pid).map_or('X', |s| s.state);
            if "ZX".contains(state) {
                let ending = procfs::ending(self.pid).unwrap_or(Ending::Unknown);
                return Some(Some(ending));
            }
            // Its memory goes before it is seen to have ended.
            let lives = procfs::mappings(self.pid).is_ok_and(|m| !m.is_empty());
            if lives || Instant::now() > deadline {
                return Some(None);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The pages are in its memory.
    fn is_there(&self) -> bool {
        let mut magic = [0; 8];
        let read = self.memory.read(LiveAddr(self.place.base), &mut magic);
        read.is_ok() && magic == crate::arch::jump::pages::MAGIC
    }

    /// [`Jumped::leave`] by a tracer that has the target already, and keeps it.
    /// Threads that wait at its traps wait on.
    pub fn leave_by(&self, tracer: &mut Tracer) -> Result<(), ProcessError> {
        if self.left.replace(true) {
            return Ok(());
        }
        match tracer.jump_out(&self.place) {
            Err(ProcessError::Gone(_)) => Ok(()),
            other => other,
        }
    }

    /// Stops the target once, puts the bytes back, and unmaps what was put in.
    pub fn leave(&self) -> Result<(), ProcessError> {
        if self.left.replace(true) {
            return Ok(());
        }
        let attached = Tracer::attach(self.pid);
        let mut tracer = match attached {
            Ok(tracer) => tracer,
            // Its first thread has ended: only memory that is open reaches it.
            Err(ProcessError::NotTraceable { .. }) if self.is_there() => {
                Tracer::attach_to(self.pid, self.memory.again()?)?
            }
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

/// Finds room in process `pid`, and builds the pages for it. Touches nothing:
/// to be done before it is attached to, since generating code takes its time.
pub fn draw(pid: i32, jumps: &Jumps<'_>) -> Result<Drawn, ProcessError> {
    let cannot = |e: &dyn std::fmt::Display| ProcessError::Region {
        pid,
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
    // How long the code is depends on where it lies, a little.
    let mut len = (jumps.sites.len() as u64 + 1) * LIKELY;
    for _ in 0..3 {
        len = len.next_multiple_of(PAGE);
        // A page to spare, and the page that is the target's own.
        let base = room_near(pid, lo.0, hi.0, len + 2 * PAGE + layout.len())?;
        layout.at = base + len + 2 * PAGE;
        let pages = JumpPages::build(base, jumps.sites, &layout, jumps.g, owner);
        let pages = pages.map_err(|e| cannot(&e))?;
        let needed = pages.bytes.len() as u64;
        if needed <= len + PAGE {
            return Ok(Drawn { pages, layout });
        }
        len = needed + PAGE;
    }
    Err(cannot(&"its code does not keep its length"))
}

impl Tracer {
    /// Puts jumps into the target, which stays traced: see [`Tracer::let_go_of`].
    pub fn jump_in(
        &mut self,
        jumps: &Jumps<'_>,
        drawn: Drawn,
        parked: &mut Parked<'_>,
    ) -> Result<Jumped, ProcessError> {
        let jumped = self.try_jump_in(jumps, drawn, parked);
        self.give_back();
        jumped
    }

    fn try_jump_in(
        &mut self,
        jumps: &Jumps<'_>,
        drawn: Drawn,
        parked: &mut Parked<'_>,
    ) -> Result<Jumped, ProcessError> {
        if self.replaced {
            return Err(ProcessError::Replaced(self.pid));
        }
        let mut left_out = Vec::new();
        for (site, group) in jumps.sites.iter().zip(jumps.groups) {
            match self.check_unchanged(site) {
                Ok(()) => {}
                Err(error @ ProcessError::ForeignBytes { .. }) => {
                    if left_out.iter().all(|(g, _)| g != group) {
                        left_out.push((*group, LeftOut::Foreign(error.to_string())));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let mappings = procfs::mappings(self.pid)?;
        self.remote = Some(Remote::find(&mappings, &self.memory, jumps.text)?);
        let Drawn { pages, layout } = self.map_pages(jumps, drawn)?;
        let place = Place {
            base: pages.base,
            len: pages.bytes.len() as u64,
            ring: layout.at,
            ring_len: layout.len(),
            sites: pages.sites,
        };
        die::here("jump:mapped");
        let ring = self
            .memory
            .write(place.base, &pages.bytes)
            .and_then(|()| self.make_ring(&layout, place.base));
        die::here("jump:ring");
        let written = ring.and_then(|ring| {
            self.give_back();
            let written = self.write_jumps(&place, jumps, left_out, parked)?;
            Ok((ring, written))
        });
        match written {
            Ok((ring, written)) => Ok(Jumped {
                pid: self.pid,
                memory: ProcessMemory::open(self.pid)?,
                place,
                ring,
                layout,
                left: Cell::new(false),
                pause: written.pause,
                stops: written.stops,
                left_out: written.left_out,
                armed: written.armed,
            }),
            Err(error) => {
                let _ = self.unmap_all(&place);
                Err(error)
            }
        }
    }

    /// Maps the pages where they were drawn for, or elsewhere if something else
    /// is there by now.
    fn map_pages(&mut self, jumps: &Jumps<'_>, drawn: Drawn) -> Result<Drawn, ProcessError> {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let len = |drawn: &Drawn| drawn.pages.bytes.len() as u64;
        match self.map(drawn.pages.base, len(&drawn), protection) {
            Ok(()) => Ok(drawn),
            Err(
                ProcessError::NoRoom { .. }
                | ProcessError::Remote {
                    errno: nix::errno::Errno::EEXIST,
                    ..
                },
            ) => {
                let drawn = draw(self.pid, jumps)?;
                self.map(drawn.pages.base, len(&drawn), protection)?;
                Ok(drawn)
            }
            Err(error) => Err(error),
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

    /// Makes the ring in the target and maps it on both sides. Its memory is
    /// there before anybody writes to it: a thread that finds none left is killed.
    fn make_ring(&mut self, layout: &RingLayout, pages: u64) -> Result<Shared, ProcessError> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        self.map(layout.own(), PAGE, protection)?;
        die::here("jump:own");
        let what = "tell its children apart";
        let wipe = [layout.own(), PAGE, libc::MADV_WIPEONFORK as u64, 0, 0, 0];
        self.call(what, libc::SYS_madvise, wipe)?;
        self.memory.write(layout.own(), &[1])?;
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
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let args = [layout.at, len, protection as u64, flags as u64, fd, 0];
        let got = self.call("map shared memory", libc::SYS_mmap, args)?;
        if got != layout.at {
            self.unmap(got, len)?;
            return Err(ProcessError::NoRoom { pid: self.pid, len });
        }
        // The rest is mapped page by page when it is written to; before Linux 5.14
        // this is, too.
        let advice = libc::MADV_POPULATE_WRITE as u64;
        let near = [layout.at, len.min(NEAR), advice, 0, 0, 0];
        match self.call("map pages", libc::SYS_madvise, near) {
            Ok(_) | Err(ProcessError::Remote { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(ring)
    }
}
