//! Another plan for an engine that runs: functions come and go, calls that are
//! open stay open.
//!
//! What takes time (planning, finding decoders) is done by whoever asks, before;
//! the tracer thread only puts sites in. What that costs: one thread of the
//! target is borrowed for four system calls, and threads that hit a site
//! meanwhile wait for it, some hundred microseconds. No site that stays is
//! lifted, so no call is missed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use super::SessionError;
use super::engine::{Engine, Options};
use super::report::Reporter;
use super::target::Target;
use crate::probe::plan::{Event, Plan, Role};
use crate::process::region::{Installation, SiteBytes};

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
    /// By function of the plan: it is watched.
    pub on: Vec<bool>,
    pub answer: SyncSender<Result<Armed, SessionError>>,
}

/// Where changes come from.
pub(super) struct Changes {
    pub asked: Receiver<Change>,
    pub target: Arc<Target>,
}

impl Engine {
    /// Does what was asked for.
    pub(super) fn serve_changes(&mut self) {
        let Some(changes) = self.changes.take() else {
            return;
        };
        while let Ok(change) = changes.asked.try_recv() {
            let answer = change.answer.clone();
            let done = self.change(&changes.target, change);
            let _ = answer.send(done);
        }
        self.changes = Some(changes);
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
        let fresh: Vec<bool> = change
            .on
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
        self.renumber(target);
        self.give_up(&change.on);
        let is_fresh = |func: usize| fresh.get(func).copied().unwrap_or(false);
        // Looking before arming takes nobody's time but ours.
        self.calls
            .find_running(target, self.tracer.memory(), true, &is_fresh);
        self.arm_wanted(&change.on)?;
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
    fn renumber(&mut self, target: &Target) {
        self.sites.clear();
        self.goexit_done = None;
        let plan = self.plan.clone();
        for (index, site) in plan.sites.iter().enumerate() {
            let Some(slot) = self.tracer.site_index(target.bias.live(site.at)) else {
                continue;
            };
            if self.sites.len() <= slot {
                self.sites.resize(slot + 1, usize::MAX);
            }
            if let Some(place) = self.sites.get_mut(slot) {
                *place = index;
            }
            if site.roles == [Role::Event(Event::GoexitDone)] {
                self.goexit_done = Some(slot);
            }
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

    /// Returns are armed before entries: a call whose entry is seen will be seen
    /// to end.
    fn arm_wanted(&mut self, on: &[bool]) -> Result<(), SessionError> {
        let plan = self.plan.clone();
        let is_on = |func: &usize| on.get(*func).copied().unwrap_or(false);
        let any = on.iter().any(|on| *on);
        let mut entries = Vec::new();
        for (slot, index) in self.sites.clone().into_iter().enumerate() {
            let Some(site) = plan.sites.get(index) else {
                continue;
            };
            if Some(slot) == self.goexit_done {
                if !self.calls.goexits.is_empty() {
                    self.tracer.arm(slot)?;
                }
                continue;
            }
            let wanted = site.roles.iter().any(|role| match role {
                Role::Entry(func) | Role::Return(Some(func)) => is_on(func),
                Role::Return(None) | Role::Event(_) => any,
            });
            let is_entry = site.roles.iter().any(|r| matches!(r, Role::Entry(_)));
            if !wanted {
                self.tracer.disarm(slot)?;
            } else if is_entry {
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
}
