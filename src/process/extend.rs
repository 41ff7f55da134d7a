//! More sites for a target that is armed.
//!
//! A region is never written to while the target runs, so a second one is
//! mapped that has slots for all sites, old and new, and its handler becomes
//! the SIGTRAP action. The first stays mapped until the end: threads may be in
//! its slots. No site is lifted meanwhile, so no call is missed. Sites stay in
//! every later region, armed or not: a thread may have run into one just before
//! it was disarmed.

use super::ProcessError;
use super::die;
use super::region::{INT3, Installation, Installed, PAGE, SiteBytes};
use super::room::room_near;
use super::tracer::Tracer;
use crate::addr::LiveAddr;
use crate::arch::region::{Region, RegionSpec, SiteSpec};
use crate::arch::slot::MAX_INSN;
use crate::memory::Memory;

/// Regions in one target. Each is some pages, and goes with the last.
const MOST: usize = 48;

impl Tracer {
    /// Makes sites ready beside those that are installed, which stay armed or
    /// disarmed as they are. Tells per site what came of it; the indexes of all
    /// sites change (see [`Tracer::site_index`]). No hit may be waiting to be
    /// passed, but by [`Tracer::go_on_all`].
    pub fn extend(
        &mut self,
        sites: &[SiteBytes],
        text: (LiveAddr, LiveAddr),
    ) -> Result<Vec<Installation>, ProcessError> {
        let Some(installed) = &self.installed else {
            return self.install(sites, text, true);
        };
        let mut all = installed.sites().to_vec();
        let mut outcome = Vec::with_capacity(sites.len());
        let before = all.len();
        for site in sites {
            if all.iter().any(|known| known.site == site.at.0) {
                outcome.push(Installation::Ready);
                continue;
            }
            let found = self.compare(site);
            if matches!(found, Installation::Ready) {
                all.push(SiteSpec {
                    site: site.at.0,
                    code: site.code,
                });
            }
            outcome.push(found);
        }
        if all.len() == before {
            return Ok(outcome);
        }
        if self.retired.len() + 1 >= MOST {
            return Err(ProcessError::Region {
                pid: self.pid,
                why: format!("functions were added {MOST} times; detach and attach again"),
            });
        }
        all.sort_by_key(|s| s.site);
        let mut doubtful = installed.doubtful.clone();
        doubtful.extend(sites.iter().filter(|s| s.doubtful).map(|s| s.at.0));
        let done = self.second_region(all, text);
        self.drop_retired();
        self.give_back();
        done?;
        let Some(installed) = &mut self.installed else {
            return Err(ProcessError::Gone(self.pid));
        };
        installed.doubtful = doubtful;
        for (site, outcome) in sites.iter().zip(&mut outcome) {
            let refused = installed.refused().find(|(at, _)| *at == site.at.0);
            if let Some((_, why)) = refused {
                *outcome = Installation::Refused(why.to_string());
            }
        }
        Ok(outcome)
    }

    /// The code at a site is what the file says.
    pub(super) fn compare(&self, site: &SiteBytes) -> Installation {
        let mut now = [0; MAX_INSN];
        let len = site.insn_len.clamp(1, MAX_INSN);
        let read = now
            .get_mut(..len)
            .is_some_and(|b| self.memory.read(site.at, b).is_ok());
        if read && now.get(..len) == site.code.get(..len) {
            Installation::Ready
        } else if now.first() == Some(&INT3) {
            Installation::Refused("there is a breakpoint already (a debugger or uprobe)".into())
        } else {
            Installation::Refused("its code is not what the file says: something changed it".into())
        }
    }

    fn second_region(
        &mut self,
        sites: Vec<SiteSpec>,
        (lo, hi): (LiveAddr, LiveAddr),
    ) -> Result<(), ProcessError> {
        let len = Region::room(sites.len()) as u64;
        let base = room_near(self.pid, lo.0, hi.0, len + PAGE)?;
        self.map(base, len, libc::PROT_READ | libc::PROT_EXEC)?;
        die::here("extend:after-map");
        let filled = self.with_scratch(base + len, |t| t.fill_second(base, len, sites));
        let in_use = self
            .installed
            .as_ref()
            .is_some_and(|i| i.region.base == base);
        if filled.is_err() && !in_use {
            let _ = self.unmap(base, len);
        }
        filled
    }

    fn fill_second(
        &mut self,
        base: u64,
        len: u64,
        sites: Vec<SiteSpec>,
    ) -> Result<(), ProcessError> {
        let Some(first) = &self.installed else {
            return Err(ProcessError::Gone(self.pid));
        };
        let (owner, old, handling) = (first.owner(), first.old_action(), first.handling);
        let armed: Vec<u64> = first.armed_addresses().collect();
        let spec = RegionSpec {
            sites: &sites,
            old,
            owner,
        };
        let region = Region::build(base, &spec).map_err(|e| self.cannot_build(&e))?;
        self.memory.write(base, &region.bytes)?;
        die::here("extend:after-region");
        if handling {
            let scratch = base + len;
            self.memory.write(scratch, &region.action.to_bytes())?;
            self.trap_action(scratch, 0)?;
            die::here("extend:after-sigaction");
        }
        // From here on it is in use, whatever comes.
        let mut second = Installed::new(region, len, sites, owner, old);
        second.handling = handling;
        for at in armed {
            second.mark_armed(at);
        }
        self.retired.extend(self.installed.replace(second));
        Ok(())
    }

    /// What lies in a slot of any region: the slot, and the original place.
    pub(super) fn home_of(&self, rip: u64) -> Option<crate::arch::slot::Place> {
        self.regions().find_map(|i| i.home_of(rip))
    }

    /// An address lies in a region.
    pub(super) fn in_region(&self, at: u64) -> bool {
        self.regions().any(|i| i.region.contains(at))
    }

    /// The region that is used, and those before it.
    pub(super) fn regions(&self) -> impl Iterator<Item = &Installed> {
        self.installed.iter().chain(&self.retired)
    }
}
