//! One clock for durations, and its relation to the wall clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How often both clocks are looked at, at most, to bring them together.
const LOOKS: usize = 8;
/// Looks that are this close together are close enough.
const CLOSE_NS: u64 = 2_000;

/// Monotonic nanoseconds since the session began; wall time by offset.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    wall_at_start_ns: i64,
}

impl Clock {
    /// Starts at 0 now.
    pub fn new() -> Clock {
        let mut clock = Clock {
            start: Instant::now(),
            wall_at_start_ns: 0,
        };
        clock.adjust();
        clock
    }

    /// Nanoseconds since the session began.
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Wall clock of a moment of this clock, nanoseconds since the Unix epoch.
    pub fn wall(&self, at_ns: u64) -> i64 {
        self.wall_at_start_ns.wrapping_add_unsigned(at_ns)
    }

    /// Takes over a wall clock that was set meanwhile. Of several looks at both
    /// clocks the one counts between whose halves the thread was not put aside.
    pub fn adjust(&mut self) {
        let look = |_| {
            let before = self.now();
            let wall = SystemTime::now();
            let between = self.now().saturating_sub(before);
            (between, before, wall)
        };
        let mut looks = (0..LOOKS).map(look);
        let mut best = looks.next();
        while let Some((between, ..)) = best
            && between > CLOSE_NS
            && let Some(next) = looks.next()
        {
            best = best.into_iter().chain([next]).min_by_key(|(b, ..)| *b);
        }
        let Some((between, before, wall)) = best else {
            return;
        };
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX);
        self.wall_at_start_ns = wall.wrapping_sub_unsigned(before + between / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_moves_with_the_clock() {
        let clock = Clock::new();
        assert_eq!(clock.wall(1_000) - clock.wall(0), 1_000);
        assert!(clock.now() <= clock.now());
    }
}
