//! What gotap puts into a target and takes out again: one region with a slot
//! per site and the SIGTRAP handler, the handler's action, and the int3 bytes.
//!
//! Order going in: the region complete, then the action, then int3s, so that
//! gotap may be killed between any two steps. Going out it is the reverse. No
//! step needs the target stopped as a whole: an int3 is one byte, written at
//! once while others run past it, and only one thread is borrowed for calls.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::ProcessError;
use super::die;
use super::memory::ProcessMemory;
use super::procfs;
use super::remote::{Remote, room_near};
use super::tracer::Tracer;
use crate::addr::LiveAddr;
use crate::arch::region::{
    KernelSigaction, Leftover, Owner, Region, RegionError, RegionSpec, SiteSpec,
};
use crate::arch::slot::{MAX_INSN, Place};
use crate::memory::Memory;
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{ptrace, wait};

const INT3: u8 = 0xcc;
const PAGE: u64 = 4096;
/// Where a region's header holds the action before ours (arch/region.rs).
const OLD_ACTION: u64 = 64;
/// How long threads may take to stop before gotap gives up on them.
const PATIENCE: Duration = Duration::from_secs(5);

/// A site to be installed.
#[derive(Debug, Clone)]
pub struct SiteBytes {
    /// Where.
    pub at: LiveAddr,
    /// What the file says stands there.
    pub code: [u8; MAX_INSN],
    /// How many of them belong to the displaced instruction: those must be what
    /// the target has. Behind them other sites may be armed already.
    pub insn_len: usize,
}

/// What is in the target now. Sites are counted as the region has them:
/// ascending by address, refused ones left out.
#[derive(Debug)]
pub struct Installed {
    region: Region,
    mapped_len: u64,
    /// What the region was built from, to build it again around another action.
    sites: Vec<SiteSpec>,
    owner: Owner,
    old: KernelSigaction,
    by_addr: HashMap<u64, usize>,
    armed: Vec<bool>,
    /// Our action is the SIGTRAP action.
    handling: bool,
}

/// What came of installing one site.
#[derive(Debug)]
pub enum Installation {
    /// It has a slot and can be armed.
    Ready,
    /// It stays as it is, and why.
    Refused(String),
}

impl Installed {
    /// The index of the site at an address, and whether it is armed.
    pub fn site_at(&self, at: u64) -> Option<(usize, bool)> {
        let index = *self.by_addr.get(&at)?;
        Some((index, self.armed.get(index).copied().unwrap_or(false)))
    }

    /// Where a site's slot begins.
    pub fn slot_of(&self, index: usize) -> Option<u64> {
        self.region.slots.get(index).map(|s| s.at)
    }

    /// The original place of a pc inside a slot.
    pub fn home_of(&self, rip: u64) -> Option<Place> {
        let placed = self.region.slot_at(rip)?;
        placed.slot.place(usize::try_from(rip - placed.at).ok()?)
    }

    /// Where `struct kernel_sigaction` of the action before lies in the target.
    fn old_action_at(&self) -> u64 {
        self.region.base + OLD_ACTION
    }

    fn new(
        region: Region,
        mapped_len: u64,
        sites: Vec<SiteSpec>,
        owner: Owner,
        old: KernelSigaction,
    ) -> Installed {
        Installed {
            armed: vec![false; region.slots.len()],
            by_addr: region
                .slots
                .iter()
                .enumerate()
                .map(|(i, s)| (s.site, i))
                .collect(),
            region,
            mapped_len,
            sites,
            owner,
            old,
            handling: false,
        }
    }

    /// How many sites are armed.
    pub fn armed_count(&self) -> usize {
        self.armed.iter().filter(|a| **a).count()
    }

    /// Cleans a forked child's copy: bytes, action, mapping. The child is stopped.
    pub(super) fn clean_copy(&self, child: i32, remote: &Remote) -> Result<(), ProcessError> {
        let memory = ProcessMemory::open(child)?;
        for (slot, armed) in self.region.slots.iter().zip(&self.armed) {
            if *armed {
                memory.write(slot.site, &[slot.original])?;
            }
        }
        if let Ok(regs) = ptrace::registers(child)
            && let Some(home) = self.home_of(regs.rip)
        {
            move_to(child, regs, home);
        }
        if self.handling {
            remote.trap_action(child, self.old_action_at(), 0)?;
        }
        remote.unmap(child, self.region.base, self.mapped_len)
    }
}

pub(super) fn move_to(tid: i32, mut regs: crate::sys::Regs, home: Place) {
    regs.rip = home.rip;
    regs.rsp = regs.rsp.wrapping_add_signed(home.rsp_adjust);
    let _ = ptrace::set_registers(tid, regs);
}

impl Tracer {
    /// Maps the region with a slot for each site; with `handler`, also installs
    /// the SIGTRAP action (a program that gotap starts gets it later, see
    /// [`Tracer::install_handler`]). Arms nothing. Tells per site what came of it.
    pub fn install(
        &mut self,
        sites: &[SiteBytes],
        text: (LiveAddr, LiveAddr),
        handler: bool,
    ) -> Result<Vec<Installation>, ProcessError> {
        let mappings = procfs::mappings(self.pid)?;
        let remote = Remote::find(self.pid, &mappings, &self.memory)?;
        self.remote = Some(remote);
        let mut outcome = Vec::with_capacity(sites.len());
        let mut accepted = Vec::new();
        for site in sites {
            let mut now = [0; MAX_INSN];
            let len = site.insn_len.clamp(1, MAX_INSN);
            let read = now
                .get_mut(..len)
                .is_some_and(|b| self.memory.read(site.at, b).is_ok());
            outcome.push(if read && now.get(..len) == site.code.get(..len) {
                accepted.push(SiteSpec {
                    site: site.at.0,
                    code: site.code,
                });
                Installation::Ready
            } else if now.first() == Some(&INT3) {
                Installation::Refused("there is a breakpoint already (a debugger or uprobe)".into())
            } else {
                Installation::Refused(
                    "its code is not what the file says: something changed it".into(),
                )
            });
        }
        let tid = self.borrow_thread()?;
        let result = self.inject(tid, &remote, accepted, text, handler);
        self.give_back(tid);
        let installed = result?;
        for (site, outcome) in sites.iter().zip(&mut outcome) {
            if let Some((_, why)) = installed
                .region
                .refused
                .iter()
                .find(|(at, _)| *at == site.at.0)
            {
                *outcome = Installation::Refused(why.to_string());
            }
        }
        self.installed = Some(installed);
        Ok(outcome)
    }

    fn inject(
        &self,
        tid: i32,
        remote: &Remote,
        sites: Vec<SiteSpec>,
        (lo, hi): (LiveAddr, LiveAddr),
        handler: bool,
    ) -> Result<Installed, ProcessError> {
        let me = std::process::id();
        let owner = Owner {
            pid: me,
            start_time: procfs::start_time(me as i32).unwrap_or(0),
            pid_namespace: procfs::pid_namespace(me as i32).unwrap_or(0),
        };
        let len = Region::room(sites.len()) as u64;
        // One page more for passing structs to rt_sigaction; gone again at once.
        let base = room_near(self.pid, lo.0, hi.0, len + PAGE)?;
        remote.map(tid, base, len, libc::PROT_READ | libc::PROT_EXEC)?;
        die::here("arm:after-map");
        let injected = self.with_scratch(tid, remote, base + len, |scratch| {
            let old = self.current_action(tid, remote, scratch)?;
            let spec = RegionSpec {
                sites: &sites,
                old,
                owner,
            };
            let region = Region::build(base, &spec).map_err(|e| self.cannot_build(&e))?;
            self.memory.write(base, &region.bytes)?;
            let action = region.action;
            let mut installed = Installed::new(region, len, Vec::new(), owner, old);
            if handler {
                self.memory.write(scratch, &action.to_bytes())?;
                remote.trap_action(tid, scratch, 0)?;
                die::here("arm:after-sigaction");
                installed.handling = true;
            }
            Ok(installed)
        });
        match injected {
            Ok(mut installed) => {
                installed.sites = sites;
                Ok(installed)
            }
            Err(error) => {
                let _ = remote.unmap(tid, base, len);
                Err(error)
            }
        }
    }

    fn cannot_build(&self, error: &RegionError) -> ProcessError {
        ProcessError::Region {
            pid: self.pid,
            why: error.to_string(),
        }
    }

    /// Gives `work` a writable page of the target, and takes it away again.
    fn with_scratch<T>(
        &self,
        tid: i32,
        remote: &Remote,
        at: u64,
        work: impl FnOnce(u64) -> Result<T, ProcessError>,
    ) -> Result<T, ProcessError> {
        remote.map(tid, at, PAGE, libc::PROT_READ | libc::PROT_WRITE)?;
        let result = work(at);
        let unmapped = remote.unmap(tid, at, PAGE);
        let value = result?;
        unmapped.map(|()| value)
    }

    fn current_action(
        &self,
        tid: i32,
        remote: &Remote,
        scratch: u64,
    ) -> Result<KernelSigaction, ProcessError> {
        remote.trap_action(tid, 0, scratch)?;
        let mut old = [0; 32];
        self.memory
            .read(LiveAddr(scratch), &mut old)
            .map_err(|_| ProcessError::Gone(self.pid))?;
        Ok(KernelSigaction::from_bytes(old))
    }

    /// Installs the SIGTRAP action on a thread that waits at a site: for a
    /// program that gotap started, whose runtime has just set its own.
    pub fn install_handler(&mut self, tid: i32) -> Result<(), ProcessError> {
        let (Some(installed), Some(remote)) = (&self.installed, self.remote) else {
            return Ok(());
        };
        let (base, end) = (
            installed.region.base,
            installed.region.base + installed.mapped_len,
        );
        let room = room_near(self.pid, base, end, PAGE)?;
        let (old, region) = self.with_scratch(tid, &remote, room, |scratch| {
            let old = self.current_action(tid, &remote, scratch)?;
            let spec = RegionSpec {
                sites: &installed.sites,
                old,
                owner: installed.owner,
            };
            // The same sites give the same slots: threads in them notice nothing.
            let region = Region::build(base, &spec).map_err(|e| self.cannot_build(&e))?;
            self.memory.write(base, &region.bytes)?;
            self.memory.write(scratch, &region.action.to_bytes())?;
            remote.trap_action(tid, scratch, 0)?;
            Ok((old, region))
        })?;
        if let Some(installed) = &mut self.installed {
            (installed.old, installed.region) = (old, region);
            installed.handling = true;
        }
        Ok(())
    }

    /// Arms a site: its first byte becomes int3, while the target runs.
    pub fn arm(&mut self, index: usize) -> Result<(), ProcessError> {
        self.set_byte(index, true)
    }

    /// Disarms a site, while the target runs. Threads that are on their way
    /// into it are sent to the real instruction.
    pub fn disarm(&mut self, index: usize) -> Result<(), ProcessError> {
        self.set_byte(index, false)
    }

    fn set_byte(&mut self, index: usize, on: bool) -> Result<(), ProcessError> {
        let Some(installed) = &mut self.installed else {
            return Ok(());
        };
        let (Some(slot), Some(armed)) = (
            installed.region.slots.get(index),
            installed.armed.get_mut(index),
        ) else {
            return Ok(());
        };
        if *armed == on {
            return Ok(());
        }
        self.memory
            .write(slot.site, &[if on { INT3 } else { slot.original }])?;
        *armed = on;
        if on {
            die::here("arm:half-sites");
        } else {
            die::here("leave:half-sites");
        }
        Ok(())
    }

    /// The index of the site at an address, if it was installed.
    pub fn site_index(&self, at: LiveAddr) -> Option<usize> {
        self.installed.as_ref()?.site_at(at.0).map(|(i, _)| i)
    }

    /// Takes everything out of the target and lets every thread go. After it
    /// the code is byte for byte as it was, the SIGTRAP action too, and nothing
    /// stays mapped. What could not be done is the error; the rest is done.
    pub fn leave(&mut self) -> Result<(), ProcessError> {
        let mut first_error = None;
        let mut note = |r: Result<(), ProcessError>| {
            if let Err(e) = r
                && !matches!(e, ProcessError::Gone(_))
            {
                first_error.get_or_insert(e);
            }
        };
        let sites = self.installed.as_ref().map_or(0, |i| i.armed.len());
        for index in 0..sites {
            note(self.disarm(index));
        }
        die::here("leave:after-restore");
        let deadline = Instant::now() + PATIENCE;
        // All threads but one are let go at once; the last makes the calls.
        let mut last = None;
        while let Some(tid) = self.threads.iter().copied().find(|t| Some(*t) != last) {
            match self.settle(tid, deadline) {
                Settled::At(0) if last.is_none() && self.installed.is_some() => last = Some(tid),
                Settled::At(signal)
                    if self.installed.is_some()
                        && last.is_none()
                        && self.threads.len() == 1
                        && Instant::now() < deadline =>
                {
                    // Calls cannot be made on a thread with a signal to take: once it has.
                    let _ = ptrace::cont(tid, signal);
                }
                Settled::At(signal) => {
                    let _ = ptrace::detach(tid, signal);
                    self.threads.remove(&tid);
                }
                Settled::Gone => {
                    self.threads.remove(&tid);
                }
                Settled::Stuck => {
                    self.threads.remove(&tid);
                    note(Err(ProcessError::Stuck(self.pid)));
                }
            }
        }
        if let Some(tid) = last {
            note(self.take_out(tid));
            let _ = ptrace::detach(tid, 0);
            self.threads.remove(&tid);
        }
        // vfork children share the target's bytes, which are clean now.
        let children = std::mem::take(&mut self.vforked);
        let early = std::mem::take(&mut self.early);
        for child in children.into_iter().chain(early) {
            if let Settled::At(signal) = self.settle(child, deadline) {
                let _ = ptrace::detach(child, signal);
            }
        }
        self.installed = None;
        match first_error {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn take_out(&mut self, tid: i32) -> Result<(), ProcessError> {
        let (Some(installed), Some(remote)) = (&mut self.installed, self.remote) else {
            return Ok(());
        };
        if installed.handling {
            remote.trap_action(tid, installed.old_action_at(), 0)?;
            installed.handling = false;
        }
        die::here("leave:after-sigaction");
        remote.unmap(tid, installed.region.base, installed.mapped_len)
    }

    /// Stops one thread for a moment, to make system calls on it.
    fn borrow_thread(&mut self) -> Result<i32, ProcessError> {
        if self.held {
            return Ok(self.pid);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut candidates: Vec<i32> = self.threads.iter().copied().collect();
        // The leader first: it is the thread that is most surely there.
        candidates.sort_by_key(|t| (*t != self.pid, *t));
        let short = Duration::from_millis(200);
        for tid in candidates {
            match self.settle(tid, deadline.min(Instant::now() + short)) {
                Settled::At(0) => return Ok(tid),
                Settled::At(signal) => {
                    let _ = ptrace::cont(tid, signal);
                }
                Settled::Gone => {
                    self.threads.remove(&tid);
                }
                Settled::Stuck => {}
            }
            if Instant::now() > deadline {
                break;
            }
        }
        Err(if self.threads.is_empty() {
            ProcessError::Gone(self.pid)
        } else {
            ProcessError::Stuck(self.pid)
        })
    }

    /// Lets a borrowed thread go on. The interrupt makes it report once more,
    /// so that one that belongs in a group stop is found there and left in it.
    fn give_back(&self, tid: i32) {
        if self.held {
            return;
        }
        let _ = ptrace::interrupt(tid);
        let _ = ptrace::cont(tid, 0);
    }

    /// Brings a thread to a stop in which it stands on the program's own code
    /// with nothing of ours pending: it may be let go, with the signal given.
    fn settle(&mut self, tid: i32, deadline: Instant) -> Settled {
        if std::mem::take(&mut self.held) {
            return Settled::At(0);
        }
        if ptrace::interrupt(tid).is_err() {
            // Not ours any more, or gone: the wait below tells.
            tracing::debug!(tid, "interrupt failed");
        }
        loop {
            let seen = wait::peek(Whom::Tid(tid), true);
            match seen {
                Wait::Nothing | Wait::Interrupted => {
                    if Instant::now() > deadline {
                        return Settled::Stuck;
                    }
                    std::thread::sleep(Duration::from_micros(20));
                }
                Wait::NoTracees => return Settled::Gone,
                Wait::Exited { .. } | Wait::Killed { .. } => {
                    if tid == self.pid {
                        // The event loop tells how it ended.
                        return Settled::Gone;
                    }
                    wait::consume(tid);
                    return Settled::Gone;
                }
                Wait::Stopped { stop, .. } => {
                    if let Some(settled) = self.settle_stop(tid, stop) {
                        return settled;
                    }
                }
            }
        }
    }

    /// Inside the handler, which has still to send its thread to a slot: that
    /// happens when a gotap was killed and threads go on hitting what it left.
    fn in_handler(&self, tid: i32) -> bool {
        let Some(installed) = &self.installed else {
            return false;
        };
        ptrace::registers(tid)
            .is_ok_and(|r| installed.region.contains(r.rip) && installed.home_of(r.rip).is_none())
    }

    fn settle_stop(&mut self, tid: i32, stop: Stop) -> Option<Settled> {
        if self.in_handler(tid) {
            let signal = match stop {
                Stop::Signal(signal) => signal,
                _ => {
                    wait::consume(tid);
                    0
                }
            };
            // A few instructions more; it stops again behind them.
            let _ = ptrace::interrupt(tid);
            let _ = ptrace::cont(tid, signal);
            return None;
        }
        match stop {
            Stop::Signal(libc::SIGTRAP) => {
                let Ok(mut regs) = ptrace::registers(tid) else {
                    return Some(Settled::Gone);
                };
                let at = regs.rip.wrapping_sub(1);
                let ours = self
                    .installed
                    .as_ref()
                    .is_some_and(|i| i.site_at(at).is_some())
                    && ptrace::signal_code(tid) == Ok(libc::SI_KERNEL);
                if !ours {
                    self.clean_thread(tid);
                    return Some(Settled::At(libc::SIGTRAP));
                }
                regs.rip = at;
                let _ = ptrace::set_registers(tid, regs);
                wait::consume(tid);
                self.clean_thread(tid);
                Some(Settled::At(0))
            }
            Stop::Signal(signal) => {
                self.clean_thread(tid);
                Some(Settled::At(signal))
            }
            Stop::Interrupt | Stop::Group(_) => {
                wait::consume(tid);
                let at_site = ptrace::registers(tid).is_ok_and(|r| {
                    let at = r.rip.wrapping_sub(1);
                    self.installed
                        .as_ref()
                        .is_some_and(|i| i.site_at(at).is_some())
                });
                let trap_pending = at_site
                    && procfs::status(tid)
                        .is_ok_and(|s| s.pending & (1 << (libc::SIGTRAP - 1)) != 0);
                if trap_pending {
                    // The interrupt came before the int3's own signal: let that out.
                    let _ = ptrace::cont(tid, 0);
                    return None;
                }
                self.clean_thread(tid);
                Some(Settled::At(0))
            }
            Stop::Clone | Stop::Fork | Stop::Vfork => {
                wait::consume(tid);
                let child = ptrace::event_message(tid).unwrap_or(0) as i32;
                self.on_child(stop, child);
                let _ = ptrace::cont(tid, 0);
                None
            }
            Stop::Exec | Stop::Other(_) => {
                wait::consume(tid);
                let _ = ptrace::cont(tid, 0);
                None
            }
        }
    }

    /// Moves a stopped thread out of the region: its pc, and pcs that the
    /// kernel saved for it in signal frames (a handler that interrupted a slot
    /// returns there).
    fn clean_thread(&self, tid: i32) {
        let Some(installed) = &self.installed else {
            return;
        };
        let Ok(regs) = ptrace::registers(tid) else {
            return;
        };
        if let Some(home) = installed.home_of(regs.rip) {
            move_to(tid, regs, home);
            return;
        }
        // A Go handler's stack is 32 KiB (gsignal, runtime/os_linux.go).
        let mut stack = vec![0u8; 32 << 10];
        let Ok(got) = crate::sys::vm::read(self.pid, regs.rsp, &mut stack) else {
            return;
        };
        for (i, word) in stack
            .get(..got)
            .unwrap_or_default()
            .chunks_exact(8)
            .enumerate()
        {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            let value = u64::from_le_bytes(bytes);
            if !installed.region.contains(value) {
                continue;
            }
            if let Some(home) = installed.home_of(value)
                && home.rsp_adjust == 0
            {
                let at = regs.rsp + 8 * i as u64;
                if let Err(error) = self.memory.write(at, &home.rip.to_le_bytes()) {
                    tracing::warn!(tid, %error, "a saved pc could not be moved");
                }
            }
        }
    }

    /// Takes out what a gotap that was killed left behind. Tells whether there
    /// was something. Before [`Tracer::install`].
    pub fn clean_leftover(&mut self) -> Result<bool, ProcessError> {
        let Some((left, mapped_len)) = find_leftover(self.pid, &self.memory)? else {
            return Ok(false);
        };
        let mappings = procfs::mappings(self.pid)?;
        self.remote = Some(Remote::find(self.pid, &mappings, &self.memory)?);
        let mut sites = Vec::new();
        let mut armed = Vec::new();
        for site in &left.sites {
            let mut code = [0xcc; MAX_INSN];
            if self.memory.read(LiveAddr(site.site), &mut code).is_err() {
                return Err(ProcessError::Gone(self.pid));
            }
            armed.push(code.first() == Some(&INT3) && site.original != INT3);
            if let Some(first) = code.first_mut() {
                *first = site.original;
            }
            sites.push(SiteSpec {
                site: site.site,
                code,
            });
        }
        let spec = RegionSpec {
            sites: &sites,
            old: left.old,
            owner: left.owner,
        };
        let region = Region::build(left.base, &spec).map_err(|e| self.cannot_build(&e))?;
        let mut installed = Installed::new(region, mapped_len, sites, left.owner, left.old);
        if installed.region.refused.is_empty() {
            installed.armed = armed;
        } else {
            return Err(ProcessError::Region {
                pid: self.pid,
                why: "what a killed gotap left there cannot be read back".into(),
            });
        }
        self.installed = Some(installed);
        let result = self.take_out_leftover();
        self.installed = None;
        result.map(|()| true)
    }

    fn take_out_leftover(&mut self) -> Result<(), ProcessError> {
        let sites = self.installed.as_ref().map_or(0, |i| i.armed.len());
        for index in 0..sites {
            self.disarm(index)?;
        }
        // Every thread passes through a stop on clean ground before the region goes.
        let deadline = Instant::now() + PATIENCE;
        let mut done = std::collections::HashSet::new();
        let mut borrowed = None;
        while let Some(tid) = self.threads.iter().copied().find(|t| !done.contains(t)) {
            done.insert(tid);
            match self.settle(tid, deadline) {
                Settled::At(0) if borrowed.is_none() => borrowed = Some(tid),
                Settled::At(signal) => {
                    let _ = ptrace::cont(tid, signal);
                }
                Settled::Gone => {
                    self.threads.remove(&tid);
                }
                Settled::Stuck => return Err(ProcessError::Stuck(self.pid)),
            }
        }
        let (Some(tid), Some(remote)) = (borrowed, self.remote) else {
            return Err(ProcessError::Stuck(self.pid));
        };
        let result = self.remove_leftover_region(tid, &remote);
        self.give_back(tid);
        result
    }

    fn remove_leftover_region(&self, tid: i32, remote: &Remote) -> Result<(), ProcessError> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        let (base, len) = (installed.region.base, installed.mapped_len);
        let room = room_near(self.pid, base, base + len, PAGE)?;
        self.with_scratch(tid, remote, room, |scratch| {
            // Undone only if it is still the one in force.
            let now = self.current_action(tid, remote, scratch)?;
            if installed.region.contains(now.handler) {
                remote.trap_action(tid, installed.old_action_at(), 0)?;
            }
            Ok(())
        })?;
        remote.unmap(tid, base, len)
    }
}

/// Where a thread was brought.
enum Settled {
    /// A stop on the program's own code; the signal is still to be delivered.
    At(i32),
    /// It ended.
    Gone,
    /// It does not stop.
    Stuck,
}

/// The region that another gotap left in a process, and the length of its
/// mapping. One whose owner lives is an error that names it.
pub fn find_leftover(
    pid: i32,
    memory: &dyn Memory,
) -> Result<Option<(Leftover, u64)>, ProcessError> {
    for m in procfs::mappings(pid)? {
        if !(m.exec && m.read && !m.write && m.inode == 0 && m.name.is_empty()) {
            continue;
        }
        let Ok(head) = memory.read_vec(LiveAddr(m.start), Leftover::HEAD) else {
            continue;
        };
        let Ok(len) = Leftover::parse_len(&head, m.start) else {
            continue;
        };
        let Ok(bytes) = memory.read_vec(LiveAddr(m.start), len) else {
            continue;
        };
        let Ok(left) = Leftover::parse(&bytes, m.start) else {
            continue;
        };
        let owner = left.owner;
        let alive = procfs::start_time(owner.pid as i32) == Some(owner.start_time)
            && procfs::pid_namespace(owner.pid as i32) == Some(owner.pid_namespace);
        if alive {
            return Err(ProcessError::OwnedByGotap {
                pid,
                owner: owner.pid as i32,
            });
        }
        return Ok(Some((left, m.end - m.start)));
    }
    Ok(None)
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.never_ran {
            self.abandon_launch();
        }
        if self.threads.is_empty() {
            return;
        }
        if let Err(error) = self.leave() {
            tracing::error!(pid = self.pid, %error, "the target could not be left in good order");
        }
    }
}
