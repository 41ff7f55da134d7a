//! One clock for durations, and its relation to the wall clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

    /// Takes over a wall clock that was set meanwhile.
    pub fn adjust(&mut self) {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall = i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX);
        self.wall_at_start_ns = wall.wrapping_sub_unsigned(self.now());
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
