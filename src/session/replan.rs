//! Another plan for an engine that runs: functions come and go, calls that are
//! open stay open.
//!
//! What takes time (planning, finding decoders) is done by whoever asks, before;
//! the tracer thread only puts sites in. What that costs: one thread of the
//! target is borrowed for four system calls, and threads that hit a site
//! meanwhile wait for it and for the look at parked goroutines: some milliseconds
//! (told by RUST_LOG=gotap=debug). No site that stays is lifted, so no call is
//! missed.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::SessionError;
use super::engine::{Engine, Options};
use super::report::Reporter;
use super::target::Target;
use crate::probe::plan::{Event, Plan, Role, Site};
use crate::process::region::{Installation, Installed, SiteBytes};

/// What came of a change.
#[derive(Debug, Clone, Default)]
pub struct Armed {
    /// Sites that are armed now.
    pub sites: usize,
    /// What is not, and why.
    pub refused: Vec<String>,
}

/// A plan made ready on another thread.
pub(super) struct Change {
    pub plan: Arc<Plan>,
    pub reporter: Reporter,
    pub options: Options,
    pub answer: SyncSender<Result<Armed, SessionError>>,
}

impl Engine {
    /// Does what was asked for.
    pub(super) fn serve_change(&mut self, target: &Target, change: Change) {
        let answer = change.answer.clone();
        let began = std::time::Instant::now();
        let done = self.change(target, change);
        let ns = began.elapsed().as_nanos();
        tracing::debug!(ns, "the plan was changed");
        let _ = answer.send(done);
    }

    /// The functions of the old plan must come first in the new one, in the same
    /// order: open calls know theirs by its index.
    fn change(&mut self, target: &Target, change: Change) -> Result<Armed, SessionError> {
        let bytes: Vec<SiteBytes> = change
            .plan
            .sites
            .iter()
            .map(|s| SiteBytes {
                at: target.bias.live(s.at),
                code: s.code,
                insn_len: s.insn_len,
                doubtful: s.doubtful,
            })
            .collect();
        let outcomes = self.tracer.extend(&bytes, target.text())?;
        let on = change.options.watched.clone();
        let fresh: Vec<bool> = on
            .iter()
            .enumerate()
            .map(|(func, on)| *on && self.calls.rates.get(func).is_none_or(|r| r.disarmed))
            .collect();
        self.plan = change.plan.clone();
        self.calls.plan = change.plan;
        self.calls.reporter = change.reporter;
        let ids_given = self.options.ids_given;
        self.options = Options {
            ids_given,
            ..change.options
        };
        self.calls
            .rates
            .resize_with(self.plan.functions.len(), Default::default);
        self.renumber();
        self.give_up(&on);
        let is_fresh = |func: usize| fresh.get(func).copied().unwrap_or(false);
        // Looking before arming takes nobody's time but ours.
        self.calls
            .find_running(target, self.tracer.memory(), true, &is_fresh);
        self.prepare_copies();
        self.arm_wanted()?;
        let refused = outcomes
            .iter()
            .enumerate()
            .filter_map(|(site, outcome)| match outcome {
                Installation::Ready => None,
                Installation::Refused(why) => {
                    let at = self.plan.sites.get(site)?.at;
                    Some(format!("{} at {at}: not armed: {why}", self.names_at(site)))
                }
            })
            .collect();
        Ok(Armed {
            sites: self.armed_sites(),
            refused,
        })
    }

    /// Which site of the plan each site of the region is, by the new numbers.
    pub(super) fn renumber(&mut self) {
        self.sites.clear();
        self.goexit_done = None;
        let plan = self.plan.clone();
        for (index, site) in plan.sites.iter().enumerate() {
            let Some(slot) = self.tracer.site_index(self.bias.live(site.at)) else {
                continue;
            };
            self.number(slot, index);
            if site.roles == [Role::Event(Event::GoexitDone)] {
                self.goexit_done = Some(slot);
            }
        }
    }

    /// Site `slot` of the region is the plan's `index`.
    pub(super) fn number(&mut self, slot: usize, index: usize) {
        if self.sites.len() <= slot {
            self.sites.resize(slot + 1, usize::MAX);
        }
        if let Some(place) = self.sites.get_mut(slot) {
            *place = index;
        }
    }

    /// Functions that are watched no longer: nobody will see how their open
    /// calls end, so they are told as open now.
    fn give_up(&mut self, on: &[bool]) {
        for func in 0..self.calls.rates.len() {
            let on = on.get(func).copied().unwrap_or(false);
            let Some(rate) = self.calls.rates.get_mut(func) else {
                continue;
            };
            let was_on = !rate.disarmed;
            rate.disarmed = !on;
            if was_on && !on {
                let open = self.calls.join.take_function(func, self.calls.clock.now());
                self.calls.emit(open);
            }
        }
    }

    /// Somebody wants to be told of a site.
    pub(super) fn wants(&self, site: &Site, on: &[bool]) -> bool {
        let is_on = |func: &usize| on.is_empty() || on.get(*func).copied().unwrap_or(false);
        let any = on.is_empty() || on.iter().any(|on| *on);
        site.roles.iter().any(|role| match role {
            Role::Entry(func) | Role::Return(Some(func)) => is_on(func),
            Role::Return(None) | Role::Event(_) => any,
            Role::Place(_) => true,
        })
    }

    /// Returns are armed before entries: a call whose entry is seen will be seen
    /// to end. What nobody wants any more is disarmed.
    fn arm_wanted(&mut self) -> Result<(), SessionError> {
        self.disarm_unwanted();
        let plan = self.plan.clone();
        let on = self.options.watched.clone();
        let mut entries = Vec::new();
        for (slot, index) in self.sites.clone().into_iter().enumerate() {
            let Some(site) = plan.sites.get(index) else {
                continue;
            };
            if Some(slot) == self.goexit_done || !self.wants(site, &on) {
                continue;
            }
            let is_entry = site.roles.iter().any(|r| matches!(r, Role::Entry(_)));
            if is_entry {
                entries.push(slot);
            } else {
                self.tracer.arm(slot)?;
            }
        }
        for slot in entries {
            self.tracer.arm(slot)?;
        }
        Ok(())
    }

    /// Disarms what nobody wants, and what is no part of the plan.
    pub(super) fn disarm_unwanted(&mut self) {
        let plan = self.plan.clone();
        let on = self.options.watched.clone();
        let all = self.tracer.installed().map_or(0, Installed::site_count);
        for slot in 0..all {
            let site = self.sites.get(slot).and_then(|i| plan.sites.get(*i));
            let wanted = if Some(slot) == self.goexit_done {
                !self.calls.goexits.is_empty()
            } else {
                site.is_some_and(|site| self.wants(site, &on))
            };
            let done = match (wanted, Some(slot) == self.goexit_done) {
                (true, true) => self.tracer.arm(slot),
                (true, false) => Ok(()),
                (false, _) => self.tracer.disarm(slot),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a site could not be armed or disarmed");
            }
        }
    }
}
