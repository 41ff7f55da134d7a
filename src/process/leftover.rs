//! What a gotap that was killed left in a target, and taking it out.

use super::ProcessError;
use super::die;
use super::jump::Place;
use super::procfs::{self, Mapping};
use super::region::{INT3, Installed, PAGE};
use super::remote::Remote;
use super::room::is_marked;
use super::tracer::Tracer;
use crate::addr::LiveAddr;
use crate::arch::jump::pages::JumpLeftover;
use crate::arch::region::{Leftover, Owner, Region, RegionSpec, SiteSpec};
use crate::arch::slot::MAX_INSN;
use crate::memory::Memory;

/// Leftovers that are taken out of one target. There is one at most, but for
/// gotaps killed again and again at the wrong moments.
const MOST: usize = 64;

/// What was found in a target.
#[derive(Debug)]
enum Found {
    /// A region, and the length of its mapping.
    Region(Box<Leftover>, u64),
    /// Jumps.
    Jumps(Place),
    /// A mapping that was never written to; its address tells that it is ours.
    Empty(u64, u64),
}

impl Tracer {
    /// Takes out what gotaps that were killed left behind. Tells whether there
    /// was something. Before [`Tracer::install`]. `text` is the program's code.
    pub fn clean_leftover(&mut self, text: (LiveAddr, LiveAddr)) -> Result<bool, ProcessError> {
        let collected = self.collect_leftover_copies();
        for cleaned in 0..MOST {
            if self.replaced {
                return Err(ProcessError::Replaced(self.pid));
            }
            let mappings = procfs::mappings(self.pid)?;
            let Some(found) = find_leftover(self.pid, &mappings, &self.memory)? else {
                return Ok(cleaned > 0 || collected);
            };
            self.remote = Some(Remote::find(&mappings, &self.memory, text)?);
            let result = match found {
                Found::Region(left, mapped_len) => self.clean_region(&left, mapped_len),
                Found::Jumps(place) => self.jump_out(&place),
                Found::Empty(at, len) => self.unmap(at, len),
            };
            self.give_back();
            self.installed = None;
            result?;
        }
        Ok(true)
    }

    fn clean_region(&mut self, left: &Leftover, mapped_len: u64) -> Result<(), ProcessError> {
        let mut installed = self.read_back(left, mapped_len)?;
        installed.handling = true;
        self.installed = Some(installed);
        let sites = left.sites.len();
        for index in 0..sites {
            self.disarm(index)?;
        }
        die::here("clean:disarmed");
        // Every thread passes through a stop on clean ground before the region goes.
        let stuck = self.visit_all();
        if !stuck.is_empty() {
            return Err(ProcessError::Stuck(self.pid));
        }
        die::here("clean:visited");
        let behind = left.base + mapped_len;
        self.take_out()?;
        self.unmap_scratch(behind)
    }

    /// Makes the region again from what is in the target: only then is known
    /// what a pc inside it means.
    fn read_back(&self, left: &Leftover, mapped_len: u64) -> Result<Installed, ProcessError> {
        let mut sites = Vec::with_capacity(left.sites.len());
        let mut armed = Vec::with_capacity(left.sites.len());
        for site in &left.sites {
            let mut code = [INT3; MAX_INSN];
            let len = usize::from(site.insn_len).clamp(1, MAX_INSN);
            let there = code
                .get_mut(..len)
                .is_some_and(|c| self.memory.read(LiveAddr(site.site), c).is_ok());
            if !there {
                return Err(ProcessError::Gone(self.pid));
            }
            armed.push(code.first() == Some(&INT3));
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
        let same = region.slots.len() == left.sites.len()
            && region
                .slots
                .iter()
                .zip(&left.sites)
                .all(|(now, then)| now.at == then.slot);
        if !same {
            return Err(ProcessError::Region {
                pid: self.pid,
                why: "what a killed gotap left there cannot be read back".into(),
            });
        }
        let mut installed = Installed::new(region, mapped_len, sites, left.owner, left.old);
        installed.armed = armed;
        Ok(installed)
    }

    /// The page that was mapped behind a region for a moment, if gotap was
    /// killed in that moment.
    fn unmap_scratch(&mut self, at: u64) -> Result<(), ProcessError> {
        let there = procfs::mappings(self.pid)?.iter().any(|m| {
            let anonymous = m.inode == 0 && m.name.is_empty();
            anonymous && (m.start, m.end) == (at, at + PAGE) && m.write && !m.exec
        });
        if there {
            self.unmap(at, PAGE)?;
        }
        Ok(())
    }
}

/// The region that another gotap left in a process. One whose owner lives is an
/// error that names it.
fn find_leftover(
    pid: i32,
    mappings: &[Mapping],
    memory: &dyn Memory,
) -> Result<Option<Found>, ProcessError> {
    for m in mappings {
        if !(m.exec && m.read && !m.write && m.inode == 0 && m.name.is_empty()) {
            continue;
        }
        let Ok(head) = memory.read_vec(LiveAddr(m.start), Leftover::HEAD) else {
            continue;
        };
        if is_marked(m.start) && head.iter().all(|b| *b == 0) {
            return Ok(Some(Found::Empty(m.start, m.end - m.start)));
        }
        if let Some(place) = find_jumps(pid, m, &head, memory)? {
            return Ok(Some(Found::Jumps(place)));
        }
        let Ok(len) = Leftover::parse_len(&head, m.start) else {
            continue;
        };
        let Ok(bytes) = memory.read_vec(LiveAddr(m.start), len) else {
            continue;
        };
        let Ok(left) = Leftover::parse(&bytes, m.start) else {
            continue;
        };
        check_owner(pid, left.owner)?;
        return Ok(Some(Found::Region(Box::new(left), m.end - m.start)));
    }
    Ok(None)
}

/// Whoever put it there must not live any more.
fn check_owner(pid: i32, owner: Owner) -> Result<(), ProcessError> {
    let alive = procfs::start_time(owner.pid as i32) == Some(owner.start_time)
        && procfs::pid_namespace(owner.pid as i32) == Some(owner.pid_namespace);
    if alive {
        return Err(ProcessError::OwnedByGotap {
            pid,
            owner: owner.pid as i32,
        });
    }
    Ok(())
}

/// The pages of jumps that begin a mapping.
fn find_jumps(
    pid: i32,
    mapping: &Mapping,
    head: &[u8],
    memory: &dyn Memory,
) -> Result<Option<Place>, ProcessError> {
    let Ok(len) = JumpLeftover::parse_len(head, mapping.start) else {
        return Ok(None);
    };
    let Ok(bytes) = memory.read_vec(LiveAddr(mapping.start), len) else {
        return Ok(None);
    };
    let Ok(left) = JumpLeftover::parse(&bytes, mapping.start) else {
        return Ok(None);
    };
    check_owner(pid, left.owner)?;
    Ok(Some(Place {
        base: left.base,
        len: mapping.end - mapping.start,
        ring: left.ring,
        ring_len: left.ring_len,
        sites: left.sites,
    }))
}
