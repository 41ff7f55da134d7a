//! How other threads reach the tracer thread, which sleeps in waitid(2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::time::Duration;

use crate::sys::signals;

/// How often the tracer thread looks at flags and clocks when nothing hits.
pub const TICK: Duration = Duration::from_millis(20);

/// Why tracing is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The user or the system asked (Ctrl-C, SIGTERM, …).
    Asked,
    /// `--for` is over.
    Time,
    /// `-n` calls were written.
    Limit,
    /// Nobody reads the output any more.
    OutputClosed,
}

impl StopReason {
    fn code(self) -> u8 {
        match self {
            StopReason::Asked => 1,
            StopReason::Time => 2,
            StopReason::Limit => 3,
            StopReason::OutputClosed => 4,
        }
    }

    fn from_code(code: u8) -> Option<StopReason> {
        [
            StopReason::Asked,
            StopReason::Time,
            StopReason::Limit,
            StopReason::OutputClosed,
        ]
        .into_iter()
        .find(|r| r.code() == code)
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicU8,
    suspend: AtomicBool,
    tick: AtomicBool,
    ask: AtomicBool,
    tracer: AtomicI32,
    over: AtomicBool,
}

/// A handle on a running engine; clones reach the same one.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Shared>);

impl Control {
    /// Asks for an orderly end; the first reason counts.
    pub fn stop(&self, reason: StopReason) {
        let _ = self
            .0
            .stop
            .compare_exchange(0, reason.code(), Ordering::SeqCst, Ordering::SeqCst);
        self.nudge();
    }

    /// Asks to disarm and let go, as for Ctrl-Z.
    pub fn suspend(&self) {
        self.0.suspend.store(true, Ordering::SeqCst);
        self.nudge();
    }

    /// The reason, once somebody asked for the end.
    pub fn stopped(&self) -> Option<StopReason> {
        StopReason::from_code(self.0.stop.load(Ordering::SeqCst))
    }

    /// Takes the wish to suspend.
    pub fn take_suspend(&self) -> bool {
        self.0.suspend.swap(false, Ordering::SeqCst)
    }

    /// Somebody asked for that.
    pub fn is_suspending(&self) -> bool {
        self.0.suspend.load(Ordering::SeqCst)
    }

    /// Tells the tracer thread that something is asked of it.
    pub fn ask(&self) {
        self.0.ask.store(true, Ordering::SeqCst);
        self.nudge();
    }

    /// Takes that wish.
    pub fn take_ask(&self) -> bool {
        self.0.ask.load(Ordering::Relaxed) && self.0.ask.swap(false, Ordering::SeqCst)
    }

    /// True once a tick.
    pub fn take_tick(&self) -> bool {
        self.0.tick.load(Ordering::Relaxed) && self.0.tick.swap(false, Ordering::Relaxed)
    }

    /// This thread traces from now on.
    pub fn adopt(&self) {
        self.0
            .tracer
            .store(crate::sys::thread_id(), Ordering::SeqCst);
    }

    /// The engine has ended: the ticker may go.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::SeqCst);
    }

    /// It has.
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::SeqCst)
    }

    fn nudge(&self) {
        let tid = self.0.tracer.load(Ordering::SeqCst);
        if tid != 0 {
            signals::nudge(tid);
        }
    }

    /// Starts the thread that wakes the tracer thread every [`TICK`]. A nudge
    /// that comes just before the tracer sleeps is lost: the next one is not.
    pub fn start_ticker(&self) {
        let control = self.clone();
        std::thread::spawn(move || {
            while !control.0.over.load(Ordering::SeqCst) {
                std::thread::sleep(TICK);
                control.0.tick.store(true, Ordering::Relaxed);
                control.nudge();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        let control = Control::default();
        assert_eq!(control.stopped(), None);
        control.stop(StopReason::Limit);
        control.stop(StopReason::Asked);
        assert_eq!(control.stopped(), Some(StopReason::Limit));
    }

    #[test]
    fn suspending_is_taken_once() {
        let control = Control::default();
        control.suspend();
        assert!(control.take_suspend());
        assert!(!control.take_suspend());
    }
}
