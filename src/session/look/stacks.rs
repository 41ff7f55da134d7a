//! Stacks of goroutines, and the frames in them.

use std::collections::HashMap;

use super::{Registers, Source};
use crate::addr::LiveAddr;
use crate::golang::args;
use crate::golang::blocked::{Lock, Named, lock_of};
use crate::golang::census::Resident;
use crate::golang::gs::{Status, Thread, word_at};
use crate::golang::onthread::Position;
use crate::golang::parked::{Outcome, Parked, read_stacks};
use crate::golang::stack::{Ended, Frame, Stack, StackCopy, Unwinder};
use crate::memory::{MemoryError, Patchwork};
use crate::survey::names::{is_standard, package};
use crate::survey::{BlockedOn, Line, PlaceId, StackId, StackState, Survey};

/// Bytes of the stack of a goroutine on a thread.
pub(super) const MAX_STACK: u64 = 4 << 20;
/// Shapes of stacks that are remembered, and stacks of each.
const MAX_SHAPES: usize = 4096;
const MOLDS: usize = 8;
/// Frames of such a stack.
const MAX_MOLD: usize = 256;
/// Frames of one stack.
const MAX_FRAMES: usize = 1 << 17;

/// A wrapper that calls this is shown (runtime/traceback.go: elideWrapperCalling).
pub(super) fn shows_wrappers(callee: &str) -> bool {
    matches!(
        callee,
        "runtime.gopanic" | "runtime.sigpanic" | "runtime.panicwrap"
    )
}

/// What one goroutine's stack told.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub state: StackState,
    pub id: Option<StackId>,
    pub user: Option<PlaceId>,
    pub func: Option<PlaceId>,
    pub args: Option<Vec<String>>,
    pub lock: Option<Box<BlockedOn>>,
    pub said: Option<Said>,
}

/// Where a stack says which lock is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Said {
    pub lock: Lock,
    /// Bytes from the stack pointer to the address of a semaphore.
    pub at: u64,
    /// Bytes from the lock to that semaphore.
    pub from: u64,
}

pub(super) const UNREAD: Seen = Seen {
    state: StackState::Unread,
    id: None,
    user: None,
    func: None,
    args: None,
    lock: None,
    said: None,
};

/// The innermost frame of the program's own code, and outside of runtime.
pub(super) type Tops = (Option<PlaceId>, Option<PlaceId>);

/// What stacks have in common that may be one and the same.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    pc: u64,
    len: usize,
    exact: bool,
    status: Status,
}

/// A stack that was unwound: one with these words unwinds in the same way.
struct Mold {
    /// Return addresses, by their distance from the stack pointer.
    words: Vec<(u64, u64)>,
    seen: Seen,
}

impl Mold {
    fn of(stack: &Stack, parked: &Parked<'_>, seen: &Seen) -> Option<Mold> {
        // Arguments are each goroutine's own.
        if seen.args.is_some() || stack.frames.len() > MAX_MOLD {
            return None;
        }
        if seen.lock.is_some() && seen.said.is_none() {
            return None;
        }
        let returns = match stack.ended {
            Ended::Top => stack.frames.len().saturating_sub(1),
            _ => stack.frames.len(),
        };
        let slots = stack.frames.iter().take(returns).map(|f| f.return_slot);
        let words = slots
            .map(|slot| Some((slot.0.wrapping_sub(parked.sp.0), word(parked, slot)?)))
            .collect::<Option<Vec<_>>>()?;
        Some(Mold {
            words,
            seen: Seen {
                lock: None,
                ..seen.clone()
            },
        })
    }

    /// What such a stack tells, if it is one.
    fn seen(&self, parked: &Parked<'_>) -> Option<Seen> {
        let same = |(at, value): &(u64, u64)| word_at(parked.bytes, *at) == *value;
        if !self.words.iter().all(same) {
            return None;
        }
        let mut seen = self.seen.clone();
        if let Some(said) = seen.said {
            let address = word_at(parked.bytes, said.at).wrapping_sub(said.from);
            seen.lock = Some(Box::new(BlockedOn::Lock(said.lock, address)));
        }
        Some(seen)
    }
}

/// Unwinds, remembering what each pc stands for.
pub(super) struct Reader<'a> {
    source: &'a Source,
    unwinder: Unwinder,
    modules: Vec<String>,
    args: bool,
    /// By pc as it is looked up: its frames, innermost first.
    lines: HashMap<u64, Vec<Line>>,
    /// Of each stack, the frames that people look for.
    tops: HashMap<StackId, Tops>,
    standard: HashMap<PlaceId, bool>,
    /// Stacks that were unwound, the last first.
    molds: HashMap<Shape, Vec<Mold>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source, args: bool) -> Self {
        let build = source.target.image.build_info();
        let modules = build.main.iter().chain(&build.deps);
        Reader {
            source,
            unwinder: Unwinder::new(),
            modules: modules.map(|m| m.path.clone()).collect(),
            args,
            lines: HashMap::new(),
            tops: HashMap::new(),
            standard: HashMap::new(),
            molds: HashMap::new(),
        }
    }

    /// Reads the stacks of all of `residents`, and brings those up to date with
    /// what was read.
    pub(super) fn read(
        &mut self,
        residents: &mut [Resident],
        threads: &HashMap<LiveAddr, Thread>,
        survey: &mut Survey,
    ) -> Result<Vec<Seen>, MemoryError> {
        let mut seen = vec![UNREAD; residents.len()];
        let mut fresh: Vec<(usize, Resident)> = Vec::new();
        let mut running = Vec::new();
        let source = self.source;
        read_stacks(
            &*source.memory,
            &source.target.layouts,
            residents,
            &mut |index, outcome| {
                let state = |state| Seen { state, ..UNREAD };
                let one = match outcome {
                    Outcome::Parked(parked) => {
                        survey.stacks_read += 1;
                        fresh.push((index, parked.now));
                        self.unwind(&parked, false, None, survey)
                    }
                    Outcome::Running => {
                        running.push(index);
                        state(StackState::Running)
                    }
                    Outcome::Unstable => state(StackState::Unstable),
                    Outcome::Unreadable => state(StackState::Unreadable),
                    Outcome::Ended => state(StackState::Unread),
                };
                if let Some(slot) = seen.get_mut(index) {
                    *slot = one;
                }
            },
        )?;
        for (index, now) in fresh {
            if let Some(resident) = residents.get_mut(index) {
                *resident = now;
            }
        }
        for index in running {
            let Some(r) = residents.get_mut(index) else {
                continue;
            };
            r.g.status = Status::Running;
            if let Some(one) = self.on_thread(r, threads, survey)?
                && let Some(slot) = seen.get_mut(index)
            {
                *slot = one;
            }
        }
        Ok(seen)
    }

    /// A goroutine on a thread that stands still.
    fn on_thread(
        &mut self,
        r: &Resident,
        threads: &HashMap<LiveAddr, Thread>,
        survey: &mut Survey,
    ) -> Result<Option<Seen>, MemoryError> {
        let found = self.source.standing(&mut self.unwinder, r, threads);
        let (Position { pc, sp, exact }, bytes) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(MemoryError::Unmapped { .. }) => {
                return Ok(Some(Seen {
                    state: StackState::Unreadable,
                    ..UNREAD
                }));
            }
            Err(gone @ MemoryError::Gone) => return Err(gone),
        };
        survey.stacks_read += 1;
        let parked = Parked {
            now: *r,
            pc,
            sp,
            bytes: &bytes,
            cut: bytes.len() as u64 == MAX_STACK,
        };
        let tid = threads.get(&r.g.m).map(|t| t.tid);
        // A position that is not the registers' own was noted elsewhere.
        let own = |t: &&Registers| Some(t.tid) == tid && (t.pc, t.sp) == (pc, sp);
        let own = self.source.threads.iter().find(own);
        Ok(Some(self.unwind(&parked, exact, own, survey)))
    }

    /// Unwinds a stack, unless one with the same return addresses at the same
    /// places is known; `exact` when its pc is the next instruction, not a
    /// return address.
    fn unwind(
        &mut self,
        parked: &Parked<'_>,
        exact: bool,
        own: Option<&Registers>,
        survey: &mut Survey,
    ) -> Seen {
        if self.source.gathering {
            return UNREAD;
        }
        let shape = Shape {
            pc: parked.pc.0,
            len: parked.bytes.len(),
            exact,
            status: parked.now.g.status,
        };
        if let Some(known) = self.molds.get(&shape)
            && let Some(seen) = known.iter().find_map(|mold| mold.seen(parked))
        {
            return seen;
        }
        let (seen, mold) = self.unwind_anew(parked, exact, own, survey);
        if let Some(mold) = mold {
            if self.molds.len() >= MAX_SHAPES {
                self.molds.clear();
            }
            let known = self.molds.entry(shape).or_default();
            known.truncate(MOLDS - 1);
            known.insert(0, mold);
        }
        seen
    }

    fn unwind_anew(
        &mut self,
        parked: &Parked<'_>,
        exact: bool,
        own: Option<&Registers>,
        survey: &mut Survey,
    ) -> (Seen, Option<Mold>) {
        let target = &self.source.target;
        let nothing = Patchwork::default();
        let copy = StackCopy {
            at: parked.sp,
            bytes: parked.bytes,
            beyond: &nothing,
        };
        let from = (parked.pc, parked.sp);
        let image = &target.image;
        let Ok(mut stack) = self
            .unwinder
            .unwind(image, target.bias, &copy, from, MAX_FRAMES)
        else {
            let seen = Seen {
                state: StackState::Unreadable,
                ..UNREAD
            };
            return (seen, None);
        };
        if let Some(frame) = stack.frames.first_mut() {
            // What a parked goroutine saved is a return address, unless it has
            // not run yet (runtime/traceback.go: symPC).
            frame.exact = exact || target.bias.image(frame.pc) == frame.entry;
        }
        let mut lines = Vec::new();
        let mut texts = self.args.then(Vec::new);
        for (index, frame) in stack.frames.iter().enumerate() {
            let found = self.frame(frame, &lines, survey);
            if let Some(texts) = &mut texts {
                let own = own.filter(|_| index == 0);
                texts.extend(found.iter().map(|l| self.text(frame, l, parked, own)));
            }
            lines.extend(found);
        }
        let (lock, said) = Self::lock(&stack.frames, &lines, parked, survey).unzip();
        let id = survey.names.stack(lines);
        let (user, func) = self.top(id, survey);
        let whole = stack.ended == Ended::Top && !parked.cut;
        let seen = Seen {
            state: if whole {
                StackState::Whole
            } else {
                StackState::Partial
            },
            id: Some(id),
            user,
            func,
            args: texts,
            lock: lock.map(Box::new),
            said: said.flatten(),
        };
        let mold = Mold::of(&stack, parked, &seen);
        (seen, mold)
    }

    /// The frames that one frame of the machine stands for.
    fn frame(&mut self, frame: &Frame, inner: &[Line], survey: &mut Survey) -> Vec<Line> {
        let target = &self.source.target;
        let at = frame.lookup(target.bias);
        let lines = self.lines.entry(at.0).or_insert_with(|| {
            let pc = target.bias.image(frame.pc).0;
            let offset = pc.saturating_sub(frame.entry.0);
            let frames = target.image.frames_at(at);
            frames
                .iter()
                .map(|f| Line {
                    place: survey.names.place(&f.function, &f.file, f.line),
                    inlined: f.inlined,
                    hidden: frame.wrapper && !f.inlined,
                    offset: if f.inlined {
                        0
                    } else {
                        u32::try_from(offset).unwrap_or(0)
                    },
                    pc: frame.pc.0,
                })
                .collect()
        });
        let mut lines = lines.clone();
        let callee = inner.last().and_then(|l| survey.names.get(l.place));
        if callee.is_some_and(|p| shows_wrappers(&p.func)) {
            for line in &mut lines {
                line.hidden = false;
            }
        }
        lines
    }

    /// A frame's arguments; inlined bodies have none of their own. `own` are the
    /// registers in it, where they are known.
    fn text(
        &self,
        frame: &Frame,
        line: &Line,
        parked: &Parked<'_>,
        own: Option<&Registers>,
    ) -> String {
        if line.inlined {
            return "...".to_owned();
        }
        let target = &self.source.target;
        let Some(function) = target.image.functions().find(frame.entry) else {
            return String::new();
        };
        let mut at = frame.lookup(target.bias);
        if target.image.go_version().minor().is_some_and(|m| m < 21) {
            // Its liveness was looked up at the call of what is inlined here.
            at = function.outermost(at);
        }
        let args = frame.return_slot.offset(8);
        let spilled = own.and_then(|own| {
            let regs = own.regs.as_ref()?;
            let found = self
                .source
                .spilled_at_entry(&function, regs, own.vectors.as_ref());
            Some(found)
        });
        let spilled = spilled.unwrap_or_default();
        let known = |a: LiveAddr| {
            let kept = spilled.iter().find(|(to, _)| args.offset(*to) == a);
            kept.map(|(_, word)| *word)
        };
        let image = &target.image;
        args::render(image, &function, at, args, &known, &|a| word(parked, a))
    }

    /// The lock that it waits for, and where on the stack that is said.
    fn lock(
        frames: &[Frame],
        lines: &[Line],
        parked: &Parked<'_>,
        survey: &Survey,
    ) -> Option<(BlockedOn, Option<Said>)> {
        /// Between the park and sync's own function stand fewer frames.
        const NEAR: usize = 16;
        if parked.now.g.status != Status::Waiting {
            return None;
        }
        let mut physical = frames.iter();
        let named: Vec<Named<'_>> = lines
            .iter()
            .take(NEAR)
            .filter_map(|l| {
                let args = if l.inlined {
                    None
                } else {
                    physical.next().map(|f| f.return_slot.offset(8))
                };
                let function = &*survey.names.get(l.place)?.func;
                Some(Named { function, args })
            })
            .collect();
        let lies = std::cell::Cell::new(LiveAddr(0));
        let (lock, at) = lock_of(&named, &|a| {
            lies.set(a);
            word(parked, a)
        })?;
        // Of a descriptor's two semaphores the address itself tells which it is.
        let said = match lock {
            Lock::PollFd => None,
            _ => word(parked, lies.get()).map(|semaphore| Said {
                lock,
                at: lies.get().0.wrapping_sub(parked.sp.0),
                from: semaphore.wrapping_sub(at.0),
            }),
        };
        Some((BlockedOn::Lock(lock, at.0), said))
    }

    /// The innermost frame of the program's own code, and outside of runtime.
    fn top(&mut self, id: StackId, survey: &Survey) -> Tops {
        if let Some(known) = self.tops.get(&id) {
            return *known;
        }
        let (mut user, mut func) = (None, None);
        for line in survey.names.lines(id).iter().filter(|l| !l.hidden) {
            let Some(place) = survey.names.get(line.place) else {
                continue;
            };
            if func.is_none() && !place.func.starts_with("runtime.") {
                func = Some(line.place);
            }
            let standard = *self
                .standard
                .entry(line.place)
                .or_insert_with(|| is_standard(package(&place.func), &self.modules));
            if !standard {
                user = Some(line.place);
                break;
            }
        }
        self.tops.insert(id, (user, func));
        (user, func)
    }
}

/// A word of the copy of a stack.
fn word(parked: &Parked<'_>, at: LiveAddr) -> Option<u64> {
    let skip = at.0.checked_sub(parked.sp.0)?;
    let end = usize::try_from(skip.checked_add(8)?).ok()?;
    (end <= parked.bytes.len()).then(|| word_at(parked.bytes, skip))
}

/// Those of `suspects` whose stacks hold `address`: the runtime notes no owner
/// of a lock, these may be it.
pub(super) fn holders(
    source: &Source,
    suspects: &[Resident],
    address: u64,
) -> Result<Vec<u64>, MemoryError> {
    let mut found = Vec::new();
    read_stacks(
        &*source.memory,
        &source.target.layouts,
        suspects,
        &mut |_, outcome| {
            let Outcome::Parked(parked) = outcome else {
                return;
            };
            let (words, _) = parked.bytes.as_chunks::<8>();
            if words.iter().any(|w| u64::from_le_bytes(*w) == address) {
                found.push(parked.now.g.goid);
            }
        },
    )?;
    found.sort_unstable();
    Ok(found)
}
