//! From the processor's time stamps to the session's clock.

use crate::session::clock::Clock;
use crate::sys::tsc;

/// The rate is measured over this time at least, nanoseconds.
const BASE_NS: u64 = 10_000_000;
/// Looks at both clocks, of which the closest pair counts.
const LOOKS: usize = 8;

/// Converts time stamps; to be brought up to date now and then.
#[derive(Debug)]
pub struct Ticks {
    first: (u64, u64),
    anchor: (u64, u64),
    ns_per_tick: f64,
}

impl Ticks {
    /// Measures the rate: takes ten milliseconds.
    pub fn new(clock: &Clock) -> Ticks {
        let first = look(clock);
        while clock.now().saturating_sub(first.1) < BASE_NS {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let mut ticks = Ticks {
            first,
            anchor: first,
            ns_per_tick: 1.0,
        };
        ticks.adjust(clock);
        ticks
    }

    /// Measures the rate again, over all the time since the beginning.
    pub fn adjust(&mut self, clock: &Clock) {
        let now = look(clock);
        let ticks = now.0.saturating_sub(self.first.0);
        if ticks > 0 {
            self.ns_per_tick = now.1.saturating_sub(self.first.1) as f64 / ticks as f64;
            self.anchor = now;
        }
    }

    /// The session clock's nanoseconds at a time stamp.
    pub fn ns(&self, stamp: u64) -> u64 {
        let since = stamp.wrapping_sub(self.anchor.0).cast_signed();
        let ns = (since as f64 * self.ns_per_tick) as i64;
        self.anchor.1.saturating_add_signed(ns)
    }
}

/// A time stamp and the clock's time of the same moment.
fn look(clock: &Clock) -> (u64, u64) {
    let pair = |_| {
        let before = tsc::now();
        let ns = clock.now();
        let after = tsc::now();
        let width = after.saturating_sub(before);
        (width, before.wrapping_add(width / 2), ns)
    };
    let best = (0..LOOKS).map(pair).min_by_key(|(width, ..)| *width);
    best.map_or((0, 0), |(_, stamp, ns)| (stamp, ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stamps_follow_the_clock() {
        let clock = Clock::new();
        let ticks = Ticks::new(&clock);
        let (before, stamp, after) = (clock.now(), tsc::now(), clock.now());
        let at = ticks.ns(stamp);
        // The rate over ten milliseconds is good to some ten microseconds a second.
        assert!(
            at + 5_000 >= before && at <= after + 5_000,
            "{before} {at} {after}"
        );
    }
}
