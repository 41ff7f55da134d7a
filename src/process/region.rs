//! What gotap puts into a target and takes out again: one region with a slot
//! per site and the SIGTRAP handler, the handler's action, and the int3 bytes.
//!
//! Order going in: the region complete, then the action, then int3s, so that
//! gotap may be killed between any two steps. Going out it is the reverse. No
//! step needs the target stopped as a whole: an int3 is one byte, written at
//! once while others run past it, and only one thread is borrowed for calls.

use std::collections::{HashMap, HashSet};

use super::ProcessError;
use super::die;
use super::procfs;
use super::remote::Remote;
use super::room::room_near;
use super::tracer::{Hit, Tracer};
use crate::addr::LiveAddr;
use crate::arch::region::{
    KernelSigaction, Owner, PlacedSlot, Region, RegionError, RegionSpec, SiteSpec,
};
use crate::arch::slot::{MAX_INSN, Place};
use crate::memory::Memory;
use crate::sys::ptrace;

pub(super) const INT3: u8 = 0xcc;
pub(super) const PAGE: u64 = 4096;
/// Where a region's header holds the action before ours (arch/region.rs).
const OLD_ACTION: u64 = 64;

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
    /// Threads that hit it are looked at: should their signals be blocked, that
    /// is [`super::Event::Blocked`].
    pub doubtful: bool,
}

/// What is in the target now. Sites are counted as the region has them:
/// ascending by address, refused ones left out.
#[derive(Debug)]
pub struct Installed {
    pub(super) region: Region,
    pub(super) mapped_len: u64,
    /// What the region was built from, to build it again around another action.
    sites: Vec<SiteSpec>,
    owner: Owner,
    old: KernelSigaction,
    by_addr: HashMap<u64, usize>,
    pub(super) doubtful: HashSet<u64>,
    pub(super) armed: Vec<bool>,
    /// Our action is the SIGTRAP action.
    pub(super) handling: bool,
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

    /// A site whose hits are looked at twice.
    pub(super) fn is_doubtful(&self, at: u64) -> bool {
        self.doubtful.contains(&at)
    }

    /// Where a site's slot begins.
    pub fn slot_of(&self, index: usize) -> Option<u64> {
        self.region.slots.get(index).map(|s| s.at)
    }

    /// The original place of a pc inside a slot.
    pub fn home_of(&self, rip: u64) -> Option<Place> {
        self.in_slot(rip).map(|(_, place)| place)
    }

    /// The slot that a pc is in, and its original place.
    pub fn in_slot(&self, rip: u64) -> Option<(&PlacedSlot, Place)> {
        let placed = self.region.slot_at(rip)?;
        let offset = usize::try_from(rip - placed.at).ok()?;
        Some((placed, placed.slot.place(offset)?))
    }

    /// Where `struct kernel_sigaction` of the action before lies in the target.
    pub(super) fn old_action_at(&self) -> u64 {
        self.region.base + OLD_ACTION
    }

    /// What it was built from.
    pub(super) fn sites(&self) -> &[SiteSpec] {
        &self.sites
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// The action before ours.
    pub(super) fn old_action(&self) -> KernelSigaction {
        self.old
    }

    /// Sites that got no slot, and why.
    pub(super) fn refused(&self) -> impl Iterator<Item = &(u64, crate::arch::slot::CannotMove)> {
        self.region.refused.iter()
    }

    /// Where int3s of ours stand.
    pub(super) fn armed_addresses(&self) -> impl Iterator<Item = u64> + '_ {
        let sites = self.region.slots.iter().zip(&self.armed);
        sites
            .filter(|(_, armed)| **armed)
            .map(|(slot, _)| slot.site)
    }

    /// An int3 stands at this site already.
    pub(super) fn mark_armed(&mut self, at: u64) {
        if let Some(armed) = self.by_addr.get(&at).and_then(|i| self.armed.get_mut(*i)) {
            *armed = true;
        }
    }

    pub(super) fn new(
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
            doubtful: HashSet::new(),
            region,
            mapped_len,
            sites,
            owner,
            old,
            handling: false,
        }
    }

    /// How many sites there are, armed or not.
    pub fn site_count(&self) -> usize {
        self.armed.len()
    }

    /// How many sites are armed.
    pub fn armed_count(&self) -> usize {
        self.armed.iter().filter(|a| **a).count()
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
        if self.replaced {
            return Err(ProcessError::Replaced(self.pid));
        }
        let mappings = procfs::mappings(self.pid)?;
        self.remote = Some(Remote::find(&mappings, &self.memory, text)?);
        let mut outcome = Vec::with_capacity(sites.len());
        let mut accepted = Vec::new();
        for site in sites {
            let found = self.compare(site);
            if matches!(found, Installation::Ready) {
                accepted.push(SiteSpec {
                    site: site.at.0,
                    code: site.code,
                });
            }
            outcome.push(found);
        }
        let result = self.inject(accepted, text, handler);
        die::here("arm:before-cont");
        self.give_back();
        let mut installed = result?;
        let doubtful = sites.iter().filter(|s| s.doubtful);
        installed.doubtful = doubtful.map(|s| s.at.0).collect();
        if self.replaced {
            return Err(ProcessError::Replaced(self.pid));
        }
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
        &mut self,
        sites: Vec<SiteSpec>,
        (lo, hi): (LiveAddr, LiveAddr),
        handler: bool,
    ) -> Result<Installed, ProcessError> {
        let len = Region::room(sites.len()) as u64;
        // One page more for passing structs to rt_sigaction; gone again at once.
        let base = room_near(self.pid, lo.0, hi.0, len + PAGE)?;
        self.map(base, len, libc::PROT_READ | libc::PROT_EXEC)?;
        die::here("arm:after-map");
        let injected = self.with_scratch(base + len, |t| t.fill(base, len, &sites, handler));
        match injected {
            Ok(mut installed) => {
                installed.sites = sites;
                Ok(installed)
            }
            Err(error) => {
                let _ = self.unmap(base, len);
                Err(error)
            }
        }
    }

    /// Writes the region, and sets the action.
    fn fill(
        &mut self,
        base: u64,
        len: u64,
        sites: &[SiteSpec],
        handler: bool,
    ) -> Result<Installed, ProcessError> {
        let me = std::process::id();
        let owner = Owner {
            pid: me,
            start_time: procfs::start_time(me as i32).unwrap_or(0),
            pid_namespace: procfs::pid_namespace(me as i32).unwrap_or(0),
        };
        let scratch = base + len;
        let old = self.current_action(scratch)?;
        let spec = RegionSpec { sites, old, owner };
        let region = Region::build(base, &spec).map_err(|e| self.cannot_build(&e))?;
        self.memory.write(base, &region.bytes)?;
        die::here("arm:after-region");
        let action = region.action;
        let mut installed = Installed::new(region, len, Vec::new(), owner, old);
        if handler {
            self.memory.write(scratch, &action.to_bytes())?;
            self.trap_action(scratch, 0)?;
            die::here("arm:after-sigaction");
            installed.handling = true;
        }
        Ok(installed)
    }

    pub(super) fn cannot_build(&self, error: &RegionError) -> ProcessError {
        ProcessError::Region {
            pid: self.pid,
            why: error.to_string(),
        }
    }

    pub(super) fn current_action(&mut self, scratch: u64) -> Result<KernelSigaction, ProcessError> {
        self.trap_action(0, scratch)?;
        let mut old = [0; 32];
        self.memory
            .read(LiveAddr(scratch), &mut old)
            .map_err(|_| ProcessError::Gone(self.pid))?;
        Ok(KernelSigaction::from_bytes(old))
    }

    /// Installs the SIGTRAP action on a thread that waits at a site: for a
    /// program that gotap started, whose runtime has just set its own. The hit
    /// is still to be passed.
    pub fn install_handler(&mut self, hit: &Hit) -> Result<(), ProcessError> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        let Some(slot) = installed.slot_of(hit.site) else {
            return Ok(());
        };
        let scratch = installed.region.base + installed.mapped_len;
        self.borrow_hit(hit.tid, slot)?;
        self.hold_signals();
        let done = self.with_scratch(scratch, |t| t.handle_from(scratch));
        self.give_back_stopped();
        done
    }

    fn handle_from(&mut self, scratch: u64) -> Result<(), ProcessError> {
        let old = self.current_action(scratch)?;
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        let spec = RegionSpec {
            sites: &installed.sites,
            old,
            owner: installed.owner,
        };
        // The same sites give the same slots: threads in them notice nothing.
        let base = installed.region.base;
        let region = Region::build(base, &spec).map_err(|e| self.cannot_build(&e))?;
        self.memory.write(base, &region.bytes)?;
        self.memory.write(scratch, &region.action.to_bytes())?;
        self.trap_action(scratch, 0)?;
        if let Some(installed) = &mut self.installed {
            (installed.old, installed.region) = (old, region);
            installed.handling = true;
        }
        Ok(())
    }

    /// The kernel has set SIGTRAP's action to its default, because an int3 was hit
    /// with SIGTRAP blocked: ours again, and the site is disarmed.
    pub(super) fn handle_again(&mut self, index: usize) -> Result<(), ProcessError> {
        self.disarm(index)?;
        let Some(installed) = self.installed.as_ref().filter(|i| i.handling) else {
            return Ok(());
        };
        let action = installed.region.action.to_bytes();
        let scratch = installed.region.base + installed.mapped_len;
        let done = self.with_scratch(scratch, |t| {
            t.memory.write(scratch, &action)?;
            t.trap_action(scratch, 0)
        });
        self.give_back();
        done
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
}
