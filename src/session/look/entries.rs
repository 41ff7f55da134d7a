//! What a goroutine's struct tells, in the words of a survey.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::Source;
use super::crowd::Cell;
use super::stacks::{Seen, Tops};
use crate::addr::{ImageAddr, LiveAddr};
use crate::golang::census::Resident;
use crate::golang::gs::{Status, Thread};
use crate::golang::labels::{Labels, read_labels};
use crate::memory::MemoryError;
use crate::survey::{Entry, Kind, Names, PlaceId, StackState, Survey, Wait};

/// Addresses of labels that are remembered.
const MAX_LABELS: usize = 65_536;

/// Makes entries of residents.
pub(super) struct Entries<'a> {
    source: &'a Source,
    now: Option<i64>,
    tids: HashMap<LiveAddr, u64>,
    /// By pc, and whether it is a `go` statement: the place, and the bytes from
    /// its function's entry.
    places: HashMap<(u64, bool), (Option<PlaceId>, u32)>,
    labels: HashMap<LiveAddr, Option<Arc<Labels>>>,
    every_label: HashSet<Arc<Labels>>,
    kinds: HashSet<Arc<Kind>>,
    no_reason: Arc<str>,
    unknown: Arc<str>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(
        source: &'a Source,
        now: Option<i64>,
        threads: &HashMap<LiveAddr, Thread>,
    ) -> Self {
        Entries {
            source,
            now,
            tids: threads.iter().map(|(m, t)| (*m, t.tid)).collect(),
            places: HashMap::new(),
            labels: HashMap::new(),
            every_label: HashSet::new(),
            kinds: HashSet::new(),
            no_reason: "".into(),
            unknown: "unknown wait reason".into(),
        }
    }

    /// An entry for one goroutine; it is not in the survey yet.
    pub(super) fn make(
        &mut self,
        r: &Resident,
        stack: Seen,
        survey: &mut Survey,
    ) -> Result<Entry, MemoryError> {
        match stack.state {
            StackState::Unstable => survey.unstable += 1,
            StackState::Unreadable => survey.unreadable += 1,
            _ => {}
        }
        let reason = self.reason(r.g.status, r.g.wait_reason);
        let (created, created_offset) = self.place(made_at(r), true, &mut survey.names);
        let (start, _) = self.place(r.g.startpc, false, &mut survey.names);
        let kind = Kind {
            scanned: r.scanned,
            created,
            created_offset,
            start,
            tid: self.tids.get(&r.g.m).copied(),
            locked: r.locked,
            labels: self.labels(r.labels)?,
            stack_state: stack.state,
            stack: stack.id,
            user: stack.user,
            func: stack.func,
            ..Kind::new(r.g.status, reason)
        };
        Ok(Entry {
            wait: self.wait(r.g.status, r.wait_since),
            parent: NonZeroU64::new(r.parent),
            blocked_on: stack.lock,
            args: stack.args.map(|lines| lines.join("\n").into()),
            at: place_of(r),
            ..Entry::new(r.g.goid, self.kind(kind))
        })
    }

    /// An entry for goroutines that are parked at one spot.
    pub(super) fn fold(&mut self, cell: &Cell, survey: &mut Survey) -> Entry {
        let spot = &cell.spot;
        let reason = self.reason(spot.status, spot.reason);
        let created = LiveAddr(spot.created);
        let (created, created_offset) = self.place(created, true, &mut survey.names);
        let (user, func) = cell.top();
        let kind = Kind {
            created,
            created_offset,
            labels: spot.labels.clone(),
            user,
            func,
            ..Kind::new(spot.status, reason)
        };
        Entry {
            count: cell.rest,
            wait: self.wait(spot.status, cell.since),
            ..Entry::new(cell.first, self.kind(kind))
        }
    }

    /// Of one whose stack was not read: the frames of others at its place.
    pub(super) fn like_others(&mut self, entry: &mut Entry, (user, func): Tops) {
        if (entry.user, entry.func) != (user, func) {
            let kind = Kind {
                user,
                func,
                ..Kind::clone(&entry.kind)
            };
            entry.kind = self.kind(kind);
        }
    }

    /// Equal kinds are kept once.
    fn kind(&mut self, kind: Kind) -> Arc<Kind> {
        kept_once(&mut self.kinds, kind)
    }

    /// Why a goroutine waits.
    fn reason(&self, status: Status, number: u8) -> Arc<str> {
        match status {
            Status::Waiting | Status::Leaked => self
                .source
                .reasons
                .get(usize::from(number))
                .unwrap_or(&self.unknown)
                .clone(),
            _ => self.no_reason.clone(),
        }
    }

    /// runtime/traceback.go: goroutineheader says it of the same states.
    fn wait(&self, status: Status, since: i64) -> Option<Wait> {
        if !matches!(status, Status::Waiting | Status::Syscall | Status::Leaked) || since <= 0 {
            return None;
        }
        let ns = self.now?.checked_sub(since)?;
        u64::try_from(ns).ok().map(Wait::AtLeast)
    }

    /// A `go` statement (runtime/traceback.go: printcreatedby1), or where a
    /// function begins; and how far from the function's entry the pc is.
    fn place(&mut self, pc: LiveAddr, call: bool, names: &mut Names) -> (Option<PlaceId>, u32) {
        if pc.is_null() || self.source.gathering {
            return (None, 0);
        }
        if let Some(known) = self.places.get(&(pc.0, call)) {
            return *known;
        }
        let target = &self.source.target;
        let at = target.bias.image(pc);
        let found = target.image.functions().find(at).map(|function| {
            let back = if call && at > function.entry() {
                ImageAddr(at.0.wrapping_sub(1))
            } else {
                at
            };
            let line = if call {
                function.line_at(back)
            } else {
                function.start_line()
            };
            let id = names.place(
                &function.name(),
                function.file_at(back).unwrap_or_default(),
                line.unwrap_or(0),
            );
            let offset = at.0.saturating_sub(function.entry().0);
            (id, u32::try_from(offset).unwrap_or(0))
        });
        let place = (found.map(|f| f.0), found.map_or(0, |f| f.1));
        self.places.insert((pc.0, call), place);
        place
    }

    /// The pprof labels at an address; equal ones are kept once.
    pub(super) fn labels(&mut self, at: LiveAddr) -> Result<Option<Arc<Labels>>, MemoryError> {
        if at.is_null() {
            return Ok(None);
        }
        if let Some(known) = self.labels.get(&at) {
            return Ok(known.clone());
        }
        let minor = self.source.target.image.go_version().minor();
        let labels = read_labels(&*self.source.memory, minor, at)?;
        let labels = (!labels.is_empty()).then(|| kept_once(&mut self.every_label, labels));
        if self.labels.len() >= MAX_LABELS {
            self.labels.clear();
        }
        self.labels.insert(at, labels.clone());
        Ok(labels)
    }
}

/// The one that equals `value`; it, if there is none.
fn kept_once<T: Eq + Hash>(all: &mut HashSet<Arc<T>>, value: T) -> Arc<T> {
    if let Some(known) = all.get(&value) {
        return known.clone();
    }
    let value = Arc::new(value);
    all.insert(value.clone());
    value
}

/// Another number, and it has moved or waits for something else.
fn place_of(r: &Resident) -> u64 {
    // Odd factors: no two places that differ in one of the three collide.
    let pc = r.g.sched_pc.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let why = u64::from(r.g.wait_reason).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    pc ^ r.g.sched_sp.0.rotate_left(32) ^ why
}

/// The `go` statement; nobody's made the first goroutine
/// (runtime/traceback.go: printcreatedby).
pub(super) fn made_at(r: &Resident) -> LiveAddr {
    match r.g.goid {
        1 => LiveAddr(0),
        _ => r.g.gopc,
    }
}
