//! The bounded queue between the tracer's thread and the one that writes.
//!
//! A thread of the target waits while the tracer puts a record in, so the
//! tracer must neither wait for a reader nor pay for waking one at each record:
//! the reader takes everything at once by swapping two buffers under the lock,
//! and after a batch it lingers a moment before it asks to be woken again.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::Record;

/// How long the reader gathers after a batch: too short for a person to see,
/// and at most a thousand wake-ups a second.
const LINGER: Duration = Duration::from_millis(1);
/// After so long without a record, the reader is told once.
const QUIET: Duration = Duration::from_millis(120);
/// So many records end the lingering.
const ENOUGH: usize = 1024;

/// The tracer's end.
pub struct Sender {
    shared: Arc<Shared>,
}

/// The writer's end.
pub struct Receiver {
    shared: Arc<Shared>,
    /// The last call gave records: more are likely to follow.
    busy: bool,
}

/// A queue that holds at most `capacity` records (at least one).
pub fn queue(capacity: usize) -> (Sender, Receiver) {
    let capacity = capacity.max(1);
    let shared = Arc::new(Shared {
        capacity,
        enough: ENOUGH.min(capacity.div_ceil(2)),
        lost: AtomicU64::new(0),
        wake: Condvar::new(),
        state: Mutex::new(State {
            records: Vec::new(),
            lost: 0,
            reader: Reader::Busy,
            sender_gone: false,
            receiver_gone: false,
        }),
    });
    let receiver = Receiver {
        shared: Arc::clone(&shared),
        busy: false,
    };
    (Sender { shared }, receiver)
}

struct Shared {
    capacity: usize,
    enough: usize,
    lost: AtomicU64,
    wake: Condvar,
    state: Mutex<State>,
}

struct State {
    records: Vec<Record>,
    /// Lost after the last of `records`: nothing is taken in again before the
    /// reader has emptied it.
    lost: u64,
    reader: Reader,
    sender_gone: bool,
    receiver_gone: bool,
}

impl State {
    /// True when what was put in calls the reader, who then counts as busy.
    fn calls_reader(&mut self, enough: usize) -> bool {
        let wake = match self.reader {
            Reader::Busy => false,
            Reader::Waiting => true,
            Reader::Lingering => self.records.len() >= enough,
        };
        if wake {
            self.reader = Reader::Busy;
        }
        wake
    }
}

/// What the reader does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// It comes by itself.
    Busy,
    /// It waits for the first record.
    Waiting,
    /// It waits for [`Shared::enough`] records or a moment, whichever is first.
    Lingering,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of the other thread leaves the state whole: each change of it
        // is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Puts a record in, and never waits for the reader. False when it was not
    /// taken: the queue is full, and the record counts as lost, or the receiver
    /// is gone, and nobody wants it.
    pub fn send(&self, record: Record) -> bool {
        let mut state = self.shared.lock();
        if state.receiver_gone {
            return false;
        }
        if state.records.len() >= self.shared.capacity {
            state.lost += 1;
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        state.records.push(record);
        if state.calls_reader(self.shared.enough) {
            drop(state);
            self.shared.wake.notify_one();
        }
        true
    }

    /// [`Sender::send`] of many at once; `records` is empty afterwards.
    pub fn send_all(&self, records: &mut Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        if state.receiver_gone {
            drop(state);
            records.clear();
            return;
        }
        let room = self.shared.capacity.saturating_sub(state.records.len());
        let lost = records.len().saturating_sub(room) as u64;
        // What is lost is said behind what is there.
        let rest = records.split_off(records.len().min(room));
        if state.records.is_empty() {
            mem::swap(&mut state.records, records);
        } else {
            state.records.append(records);
        }
        state.lost += lost;
        self.shared.lost.fetch_add(lost, Ordering::Relaxed);
        let wake = state.calls_reader(self.shared.enough);
        drop(state);
        if wake {
            self.shared.wake.notify_one();
        }
        drop(rest);
    }

    /// [`Sender::send`] that waits for room as long as the receiver makes some
    /// within `patience`. For when nobody of the target waits any more.
    pub fn send_within(&self, record: Record, patience: Duration) -> bool {
        let mut least = usize::MAX;
        let mut since = Instant::now();
        loop {
            let (waiting, gone) = {
                let state = self.shared.lock();
                (state.records.len(), state.receiver_gone)
            };
            if gone || waiting < self.shared.capacity || since.elapsed() > patience {
                return self.send(record);
            }
            if waiting < least {
                (least, since) = (waiting, Instant::now());
            }
            std::thread::sleep(LINGER);
        }
    }

    /// How many records wait for the receiver; none when it is gone.
    pub fn waiting(&self) -> usize {
        self.shared.lock().records.len()
    }

    /// How many records were lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// The receiver is gone: nothing will be written any more.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().receiver_gone
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.lock().sender_gone = true;
        self.shared.wake.notify_one();
    }
}

impl Receiver {
    /// Waits for records and puts all that there are into `batch`, which is
    /// emptied first; where records were lost stands a [`Record::Gap`]. False,
    /// with an empty batch, when the sender is gone and nothing is left. After
    /// records, an empty batch says once that none has come for a while.
    pub fn receive(&mut self, batch: &mut Vec<Record>) -> bool {
        batch.clear();
        let shared = &*self.shared;
        let mut state = shared.lock();
        if self.busy {
            state = linger(shared, state);
        }
        while state.records.is_empty() && state.lost == 0 {
            if state.sender_gone {
                return false;
            }
            state.reader = Reader::Waiting;
            if self.busy {
                self.busy = false;
                let (now, waited) = shared
                    .wake
                    .wait_timeout(state, QUIET)
                    .unwrap_or_else(PoisonError::into_inner);
                state = now;
                if waited.timed_out() && state.records.is_empty() && state.lost == 0 {
                    return true;
                }
                continue;
            }
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.reader = Reader::Busy;
        mem::swap(&mut state.records, batch);
        let lost = mem::take(&mut state.lost);
        drop(state);
        if lost > 0 {
            batch.push(Record::Gap { lost, why: "queue" });
        }
        self.busy = true;
        true
    }
}

fn linger<'s>(shared: &'s Shared, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
    let end = Instant::now() + LINGER;
    while !state.sender_gone && state.records.len() < shared.enough {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        state.reader = Reader::Lingering;
        state = shared
            .wake
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
    state.reader = Reader::Busy;
    state
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receiver_gone = true;
        let records = mem::take(&mut state.records);
        drop(state);
        drop(records);
    }
}
