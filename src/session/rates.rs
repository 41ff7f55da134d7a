//! `--max-rate`: functions that are called too often are let alone.

use super::engine::Engine;
use crate::probe::plan::Role;

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
                rate.disarmed = true;
                self.disarm_function(func, per_second, max);
            }
        }
    }

    fn disarm_function(&mut self, func: usize, per_second: f64, max: u64) {
        let plan = self.plan.clone();
        for (slot, site) in self.sites.clone().into_iter().enumerate() {
            let Some(site) = plan.sites.get(site) else {
                continue;
            };
            let only_this = site
                .roles
                .iter()
                .all(|r| matches!(r, Role::Entry(f) | Role::Return(Some(f)) if *f == func));
            if only_this && let Err(error) = self.tracer.disarm(slot) {
                tracing::debug!(%error, "a site stays armed");
            }
        }
        // Nobody will see how they end, nor may they be mistaken for unwound.
        let now = self.calls.clock.now();
        let open = self.calls.join.take_function(func, now);
        self.calls.emit(open);
        if let Some(f) = plan.functions.get(func) {
            self.messages.push(format!(
                "{} was called {per_second:.0} times a second, more than --max-rate {max}: disarmed",
                f.name
            ));
        }
    }
}
