//! Functions that are let alone from some moment on: called too often
//! (`--max-rate`), or found to run where a trap would harm the target.

use super::engine::Engine;
use crate::probe::plan::Role;
use crate::process::tracer::Hit;

impl Engine {
    pub(super) fn check_rates(&mut self, now: u64) {
        let seconds = now.saturating_sub(self.second_began) as f64 / 1e9;
        self.second_began = now;
        let max = self.options.max_rate;
        for func in 0..self.calls.rates.len() {
            let Some(rate) = self.calls.rates.get_mut(func) else {
                continue;
            };
            let per_second = std::mem::take(&mut rate.entries) as f64 / seconds;
            if let Some(max) = max
                && per_second > max as f64
                && !rate.disarmed
            {
                let why = format!(
                    "was called {per_second:.0} times a second, more than --max-rate {max}"
                );
                self.disarm_function(func, &why);
            }
        }
    }

    /// A function that would harm the target were it watched further.
    pub(super) fn never_again(&mut self, hit: &Hit) {
        let plan = self.plan.clone();
        let site = self.sites.get(hit.site).and_then(|i| plan.sites.get(*i));
        for role in site.map_or(&[][..], |s| &s.roles) {
            if let Role::Entry(func) | Role::Return(Some(func)) = *role {
                self.disarm_function(func, "runs with signals blocked");
            }
        }
        self.tracer.pass(hit);
    }

    fn disarm_function(&mut self, func: usize, why: &str) {
        let plan = self.plan.clone();
        if let Some(rate) = self.calls.rates.get_mut(func) {
            rate.disarmed = true;
        }
        for (slot, site) in self.sites.clone().into_iter().enumerate() {
            let Some(site) = plan.sites.get(site) else {
                continue;
            };
            // Where a call of another function ends that jumped to this one, its
            // RETs are still looked at.
            let ends_others = plan.functions.get(func).is_some_and(|f| {
                let callers = f.trap.as_ref().map(|t| &*t.tail_callers);
                callers
                    .unwrap_or_default()
                    .iter()
                    .any(|caller| self.calls.rates.get(*caller).is_some_and(|r| !r.disarmed))
            });
            let is_entry = site.roles.iter().any(|r| matches!(r, Role::Entry(_)));
            if ends_others && !is_entry {
                continue;
            }
            let only_this = site
                .roles
                .iter()
                .all(|r| matches!(r, Role::Entry(f) | Role::Return(Some(f)) if *f == func));
            if only_this && let Err(error) = self.tracer.disarm(slot) {
                tracing::debug!(%error, "a site stays armed");
            }
        }
        // Nobody will see how they end, nor may they be mistaken for unwound.
        let open = self.calls.join.take_function(func, self.calls.clock.now());
        self.calls.emit(open);
        if let Some(f) = plan.functions.get(func) {
            self.messages.push(format!("{} {why}: disarmed", f.name));
        }
    }
}
