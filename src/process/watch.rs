//! Whose stop is looked at next, at a price that does not grow with the number
//! of threads.
//!
//! waitid(2) for any one of a thousand tracees looks at all of them, once before
//! it sleeps and once after (kernel/exit.c, do_wait). So threads that hit lately
//! are asked by name first, and the sleep is in sigtimedwait(2): SIGCHLD names
//! the thread. It is not queued twice, so a name may be missing: that of a thread
//! which stopped before the SIGCHLD of another was taken. One look at all, right
//! then, would find it, but it costs more than a hit does, and nothing cheaper is
//! known (a pidfd tells of ends alone). So a look at all comes soon after a
//! SIGCHLD, and now and then in any case.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::procfs;
use crate::sys::signals::{ChildSignals, Heard};
use crate::sys::wait::{self, Wait, Whom};

/// Up to so many tracees, waiting for any costs a few microseconds at most, and
/// is never late.
const FEW: usize = 128;
/// Every so many looks it is another thread's turn.
const TURN: u32 = 8;
/// How many threads are asked by name.
const HOT: usize = 8;
/// For how many looks a thread that hit counts among them.
const LATELY: u32 = 256;
/// After a SIGCHLD, all are looked at again once this has passed for each tracee
/// there is: such looks take 2 % of the time then.
const SOON: Duration = Duration::from_micros(1);
/// A thread whose SIGCHLD fell together with the last of many waits at most this
/// long. A timer that is due before the kernel's own tick would have to be set
/// at each sleep, which costs as much as the rest of it.
const DOUBT: Duration = Duration::from_millis(4);
/// How long nobody looks at all of them when nothing was heard.
const RARELY: Duration = Duration::from_millis(20);

/// How often one thread is looked at before we sleep in between, and how long.
const AWAKE: u32 = 32;
pub(super) const GLANCE: Duration = Duration::from_micros(50);

/// What the tracer remembers between two looks.
#[derive(Debug)]
pub(super) struct Watch {
    /// Who hit lately, and in which look.
    hot: Vec<(i32, u32)>,
    next: usize,
    /// Who hit last: it runs again, or SIGCHLD has named it since.
    last: i32,
    signals: Option<ChildSignals>,
    /// The last look at all that found nothing.
    looked: Instant,
    /// A SIGCHLD was taken since: it may have stood for more than one thread.
    heard: bool,
    looks: u32,
    /// Threads whose turn is still to come.
    turns: Vec<i32>,
}

impl Watch {
    /// For the calling thread.
    pub(super) fn new() -> Watch {
        Watch {
            hot: Vec::with_capacity(HOT),
            next: 0,
            last: 0,
            signals: ChildSignals::claim(),
            looked: Instant::now(),
            heard: true,
            looks: 0,
            turns: Vec::new(),
        }
    }

    /// A thread hit a site.
    pub(super) fn saw(&mut self, tid: i32) {
        let now = (tid, self.looks);
        self.last = tid;
        if let Some(known) = self.hot.iter_mut().find(|(t, _)| *t == tid) {
            *known = now;
        } else if self.hot.len() < HOT {
            self.hot.push(now);
        } else if let Some(oldest) = self
            .hot
            .iter_mut()
            .max_by_key(|(_, look)| now.1.wrapping_sub(*look))
        {
            *oldest = now;
        }
    }

    /// A thread is gone.
    pub(super) fn forget(&mut self, tid: i32) {
        self.hot.retain(|(t, _)| *t != tid);
    }

    /// All threads but one are gone.
    pub(super) fn forget_all(&mut self) {
        self.hot.clear();
        self.turns.clear();
    }

    /// Sleeps until one of these tracees has something to report; nothing is
    /// consumed. The kernel tells of the first that has something to say, so
    /// those that hit all the time would hide the others: one after another is
    /// asked in between.
    pub(super) fn look(&mut self, threads: &HashSet<i32>) -> Wait {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(TURN) {
            // Everybody's turn comes within some two thousand looks.
            for _ in 0..=threads.len() / (2 * FEW) {
                if let Some(found) = self.turn(threads).and_then(ask) {
                    return found;
                }
            }
        }
        if threads.len() <= FEW {
            return wait::peek(Whom::Any, false);
        }
        if let Some(found) = self.ask_hot() {
            return found;
        }
        let Some(signals) = &self.signals else {
            return wait::peek(Whom::Any, false);
        };
        let tracees = u32::try_from(threads.len()).unwrap_or(u32::MAX);
        let soon = SOON.saturating_mul(tracees);
        loop {
            let (due, longest) = if self.heard {
                (soon.min(RARELY), DOUBT)
            } else {
                (RARELY, RARELY)
            };
            let now = Instant::now();
            if now.saturating_duration_since(self.looked) >= due {
                match wait::peek(Whom::Any, true) {
                    Wait::Nothing => (self.looked, self.heard) = (now, false),
                    found => return found,
                }
                continue;
            }
            match signals.wait(longest) {
                Heard::Of(tid) => {
                    self.heard = true;
                    if let Some(found) = ask(tid) {
                        return found;
                    }
                }
                Heard::Nothing => {}
                Heard::Interrupted => return Wait::Interrupted,
            }
        }
    }

    fn turn(&mut self, threads: &HashSet<i32>) -> Option<i32> {
        if self.turns.is_empty() {
            self.turns.extend(threads);
        }
        self.turns.pop()
    }

    /// In turn, so that none of them is asked last every time.
    fn ask_hot(&mut self) -> Option<Wait> {
        let now = self.looks;
        self.hot
            .retain(|(_, look)| now.wrapping_sub(*look) < LATELY);
        let count = self.hot.len();
        (0..count).find_map(|_| {
            self.next = self.next.wrapping_add(1);
            let (tid, _) = *self.hot.get(self.next % count)?;
            if tid == self.last { None } else { ask(tid) }
        })
    }
}

fn ask(tid: i32) -> Option<Wait> {
    match wait::peek(Whom::Tid(tid), true) {
        Wait::Nothing | Wait::NoTracees | Wait::Interrupted => None,
        found => Some(found),
    }
}

/// Waits for what a thread that runs a few instructions has to report. It may
/// die instead, of an exec that another thread makes; the exec waits until all
/// who died of it are seen, and the first thread until it is over (`de_thread`
/// in fs/exec.c).
pub(super) fn await_change(tid: i32) -> Wait {
    let mut glances = 0u32;
    loop {
        match wait::peek(Whom::Tid(tid), true) {
            Wait::Nothing | Wait::Interrupted => {}
            change => return change,
        }
        glances = glances.wrapping_add(1);
        if glances < AWAKE {
            std::thread::yield_now();
            continue;
        }
        std::thread::sleep(GLANCE);
        let Ok(now) = procfs::status(tid) else {
            return Wait::NoTracees;
        };
        while let Wait::Exited { tid: other, .. } | Wait::Killed { tid: other, .. } =
            wait::peek_end()
            // How the process ended is for others to hear.
            && other != now.tgid
        {
            wait::consume_end(other);
        }
        if "ZX".contains(now.state) {
            return Wait::NoTracees;
        }
    }
}
