//! `snap`: at a hit a frozen copy of the target is made, and the target goes on.
//!
//! What is asked before: whether the point still wants one, whether the target
//! has had time since the last, whether there may be one more, and what it would
//! cost. A point that is refused a copy rests, so that nothing is tried at every
//! hit. Copies outlive the engine: the thread that made them stays for them
//! ([`Engine::keep_copies`]), because the kernel kills them with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::engine::Engine;
use super::live::Said;
use super::look::Registers;
use super::report::Seen;
use crate::addr::LiveAddr;
use crate::process::snapshot::{Snapshot, refusal};
use crate::process::tracer::Hit;
use crate::sys::ptrace;

/// The target is held at most so small a part of the time: after a copy nothing
/// is asked for so many times the pause.
const REST: u32 = 10;

/// What all points of a session share: how long a copy may hold the target, and
/// how many there are.
#[derive(Debug)]
pub struct CopyLimits {
    max_pause_ns: AtomicU64,
    max_copies: AtomicUsize,
    held: AtomicUsize,
}

impl CopyLimits {
    /// With settings.
    pub fn new(max_pause: Duration, max_copies: usize) -> CopyLimits {
        let limits = CopyLimits {
            max_pause_ns: AtomicU64::new(0),
            max_copies: AtomicUsize::new(max_copies),
            held: AtomicUsize::new(0),
        };
        limits.change(max_pause, max_copies);
        limits
    }

    /// Other settings.
    pub fn change(&self, max_pause: Duration, max_copies: usize) {
        let ns = u64::try_from(max_pause.as_nanos()).unwrap_or(u64::MAX);
        self.max_pause_ns.store(ns, Ordering::SeqCst);
        self.max_copies.store(max_copies, Ordering::SeqCst);
    }

    /// How long the target may be held.
    pub fn max_pause(&self) -> Duration {
        Duration::from_nanos(self.max_pause_ns.load(Ordering::SeqCst))
    }

    /// Why there can be no more copies now.
    pub fn full(&self) -> Option<String> {
        let (held, most) = (
            self.held.load(Ordering::SeqCst),
            self.max_copies.load(Ordering::SeqCst),
        );
        (held >= most).then(|| {
            format!("{held} copies are held, as many as snap-max-copies allows: snapshot drop N frees one")
        })
    }
}

/// One of the copies that are counted.
#[derive(Debug)]
struct Counted(Arc<CopyLimits>);

impl Counted {
    fn new(limits: &Arc<CopyLimits>) -> Counted {
        limits.held.fetch_add(1, Ordering::SeqCst);
        Counted(limits.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How a point copies. Shared with whoever lists points.
#[derive(Debug)]
pub struct CopyRule {
    /// Copies after which it rests.
    count: u64,
    /// All threads are stopped before.
    consistent: bool,
    left: AtomicU64,
    /// By the session's clock: nothing is asked before.
    ready_ns: AtomicU64,
    /// It was said that there are too many copies.
    told_full: AtomicBool,
    limits: Arc<CopyLimits>,
}

impl CopyRule {
    /// For so many copies.
    pub fn new(count: u64, consistent: bool, limits: &Arc<CopyLimits>) -> CopyRule {
        CopyRule {
            count,
            consistent,
            left: AtomicU64::new(count),
            ready_ns: AtomicU64::new(0),
            told_full: AtomicBool::new(false),
            limits: limits.clone(),
        }
    }

    /// It is to make as many again.
    pub fn renew(&self) {
        self.left.store(self.count, Ordering::SeqCst);
    }

    /// Nobody need be asked at a hit.
    pub(super) fn rests(&self, now: u64) -> bool {
        self.left.load(Ordering::SeqCst) == 0 || now < self.ready_ns.load(Ordering::SeqCst)
    }
}

/// News of a copy.
#[derive(Debug)]
pub struct Snapped {
    /// The point's number.
    pub id: usize,
    /// The thread that hit.
    pub tid: i32,
    /// Its goroutine, when it ran one.
    pub goid: Option<u64>,
    /// Where it stood.
    pub at: LiveAddr,
    /// The copy; dropping it ends it.
    pub copy: Snapshot,
    /// What the threads' registers were, where they were taken.
    pub threads: Vec<Registers>,
    /// All threads were stopped before.
    pub consistent: bool,
    /// When: by CLOCK_MONOTONIC in nanoseconds, and by the calendar.
    pub moment: Option<(i64, jiff::Timestamp)>,
    /// How many more its point makes; 0: it rests.
    pub left: u64,
    _counted: Counted,
}

/// A copy that was not made; the point rests.
#[derive(Debug)]
pub struct NotSnapped {
    /// The point's number.
    pub id: usize,
    /// Why, in a line.
    pub why: String,
}

impl Engine {
    /// Makes all ready for copies, if any hook may want one: what is mapped for
    /// them is mapped before anybody waits at a hit.
    pub(super) fn prepare_copies(&mut self) {
        let wanted = self.options.hooks.iter().any(|hook| hook.copies.is_some());
        if let Some(text) = self.text.filter(|_| wanted)
            && let Err(error) = self.tracer.prepare_snapshots(text)
        {
            self.messages
                .push(format!("there will be no snapshots: {error}"));
        }
    }

    /// A point wants a copy of the target as it is at a hit, which is still to be
    /// passed.
    pub(super) fn snap(&mut self, hit: &Hit, id: usize) {
        let rule = self.options.hooks.iter().find(|hook| hook.id == id);
        let Some(rule) = rule.and_then(|hook| hook.copies.clone()) else {
            return;
        };
        if let Some(why) = rule.limits.full() {
            if !rule.told_full.swap(true, Ordering::SeqCst) {
                self.messages
                    .push(format!("snap {id}: {why}; hits pass until then"));
            }
            return;
        }
        rule.told_full.store(false, Ordering::SeqCst);
        let said = match self.take_copy(hit, id, &rule) {
            Ok(snapped) => Said::Snapped(Box::new(snapped)),
            Err(why) => {
                rule.left.store(0, Ordering::SeqCst);
                Said::NotSnapped(NotSnapped { id, why })
            }
        };
        self.snapped.push(said);
    }

    fn take_copy(&mut self, hit: &Hit, id: usize, rule: &CopyRule) -> Result<Snapped, String> {
        let pid = self.tracer.pid();
        let Some(text) = self.text else {
            return Err("its code is not known".to_owned());
        };
        match refusal(pid, rule.limits.max_pause()) {
            Ok(None) => {}
            Ok(Some(why)) => return Err(why),
            Err(error) => return Err(error.to_string()),
        }
        let seen = Seen::stopped(&hit.regs, hit.tid, self.tracer.memory());
        let goid = self.calls.reporter.g(&seen).and_then(|g| g.goid());
        let vectors = ptrace::vector_registers(hit.tid).ok();
        let moment = super::look::moment();
        let copy = self
            .tracer
            .snapshot(Some(hit), text, rule.consistent)
            .map_err(|error| error.to_string())?;
        let threads = copy
            .threads
            .iter()
            .map(|t| {
                let mut regs = Registers::of(t.tid, t.own_tid, &t.regs);
                if t.tid == hit.tid
                    && let Some(all) = vectors
                {
                    let low = |x: [u8; 16]| x.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
                    regs.vectors = Some(all.map(low));
                }
                regs
            })
            .collect();
        let left = rule.left.fetch_sub(1, Ordering::SeqCst).saturating_sub(1);
        let rest = u64::try_from((copy.pause * REST).as_nanos()).unwrap_or(u64::MAX);
        let ready = self.calls.clock.now().saturating_add(rest);
        rule.ready_ns.store(ready, Ordering::SeqCst);
        Ok(Snapped {
            id,
            tid: hit.tid,
            goid,
            at: LiveAddr(hit.regs.rip),
            threads,
            consistent: rule.consistent,
            moment,
            left,
            _counted: Counted::new(&rule.limits),
            copy,
        })
    }

    /// Stays for the copies that were made, after the target was left, until
    /// all are dropped.
    pub(super) fn keep_copies(&mut self) {
        // What nobody was told of, nobody drops.
        self.snapped.clear();
        self.tracer.keep_snapshots();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_rests_after_its_copies_and_for_a_while_after_each() {
        let limits = Arc::new(CopyLimits::new(Duration::from_millis(50), 1));
        let rule = CopyRule::new(1, false, &limits);
        assert!(!rule.rests(5));
        rule.ready_ns.store(7, Ordering::SeqCst);
        assert!(rule.rests(6) && !rule.rests(7));
        rule.left.store(0, Ordering::SeqCst);
        assert!(rule.rests(8));
        rule.renew();
        assert!(!rule.rests(8));
    }

    #[test]
    fn copies_are_counted_while_they_are_held() {
        let limits = Arc::new(CopyLimits::new(Duration::from_millis(50), 2));
        let one = Counted::new(&limits);
        assert_eq!(limits.full(), None);
        let two = Counted::new(&limits);
        let full = limits.full().expect("two are held");
        assert!(
            full.contains("snapshot drop") && !full.contains('\n'),
            "{full}"
        );
        drop(one);
        assert_eq!(limits.full(), None);
        limits.change(Duration::from_millis(20), 1);
        assert!(limits.full().is_some());
        assert_eq!(limits.max_pause(), Duration::from_millis(20));
        drop(two);
        assert_eq!(limits.full(), None);
    }
}
