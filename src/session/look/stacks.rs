//! Stacks of goroutines, and the frames in them.

use std::collections::HashMap;

use super::Source;
use crate::addr::LiveAddr;
use crate::golang::args;
use crate::golang::blocked::{Named, lock_of};
use crate::golang::census::Resident;
use crate::golang::gs::{Status, Thread, word_at};
use crate::golang::onthread::{OnThread, Position};
use crate::golang::parked::{Outcome, Parked, read_stacks};
use crate::golang::stack::{Ended, Frame, StackCopy, Unwinder};
use crate::memory::{MemoryError, Patchwork};
use crate::survey::names::{is_standard, package};
use crate::survey::{BlockedOn, Line, PlaceId, StackId, StackState, Survey};

/// Bytes of the stack of a goroutine on a thread.
const MAX_STACK: u64 = 4 << 20;
/// Frames of one stack.
const MAX_FRAMES: usize = 1 << 17;

/// What one goroutine's stack told.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub state: StackState,
    pub id: Option<StackId>,
    pub user: Option<PlaceId>,
    pub func: Option<PlaceId>,
    pub args: Option<Vec<String>>,
    pub lock: Option<Box<BlockedOn>>,
}

pub(super) const UNREAD: Seen = Seen {
    state: StackState::Unread,
    id: None,
    user: None,
    func: None,
    args: None,
    lock: None,
};

/// The innermost frame of the program's own code, and outside of runtime.
pub(super) type Tops = (Option<PlaceId>, Option<PlaceId>);

/// Unwinds, remembering what each pc stands for.
pub(super) struct Reader<'a> {
    source: &'a Source,
    unwinder: Unwinder,
    modules: Vec<String>,
    args: bool,
    /// Built with a sanitizer.
    sanitized: bool,
    /// By pc as it is looked up: its frames, innermost first.
    lines: HashMap<u64, Vec<Line>>,
    /// Of each stack, the frames that people look for.
    tops: HashMap<StackId, Tops>,
    standard: HashMap<PlaceId, bool>,
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
            sanitized: ["-race", "-msan", "-asan"]
                .iter()
                .any(|flag| build.setting(flag) == Some("true")),
            lines: HashMap::new(),
            tops: HashMap::new(),
            standard: HashMap::new(),
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
                        self.unwind(&parked, false, survey)
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
        let Some(thread) = threads.get(&r.g.m) else {
            return Ok(None);
        };
        let found = self.source.threads.iter().find(|t| t.tid == thread.tid);
        let Some(regs) = found else {
            return Ok(None);
        };
        let target = &self.source.target;
        let on_thread = OnThread {
            image: &target.image,
            bias: target.bias,
            layouts: &target.layouts,
            memory: &*self.source.memory,
            sanitized: self.sanitized,
        };
        let at = on_thread.find(&mut self.unwinder, r, thread, (regs.pc, regs.sp))?;
        let Some(Position { pc, sp, exact }) = at else {
            return Ok(None);
        };
        let len = r.g.stack_hi.0.saturating_sub(sp.0).min(MAX_STACK);
        let bytes = match self
            .source
            .memory
            .read_vec(sp, usize::try_from(len).unwrap_or(0))
        {
            Ok(bytes) => bytes,
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
            cut: len == MAX_STACK,
        };
        Ok(Some(self.unwind(&parked, exact, survey)))
    }

    /// Unwinds a stack; `exact` when its pc is the next instruction, not a
    /// return address.
    fn unwind(&mut self, parked: &Parked<'_>, exact: bool, survey: &mut Survey) -> Seen {
        if self.source.gathering {
            return UNREAD;
        }
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
            return Seen {
                state: StackState::Unreadable,
                ..UNREAD
            };
        };
        if let Some(frame) = stack.frames.first_mut() {
            // What a parked goroutine saved is a return address, unless it has
            // not run yet (runtime/traceback.go: symPC).
            frame.exact = exact || target.bias.image(frame.pc) == frame.entry;
        }
        let mut lines = Vec::new();
        let mut texts = self.args.then(Vec::new);
        for frame in &stack.frames {
            let found = self.frame(frame, &lines, survey);
            if let Some(texts) = &mut texts {
                texts.extend(found.iter().map(|l| self.text(frame, l, parked)));
            }
            lines.extend(found);
        }
        let lock = Self::lock(&stack.frames, &lines, parked, survey);
        let id = survey.names.stack(lines);
        let (user, func) = self.top(id, survey);
        let whole = stack.ended == Ended::Top && !parked.cut;
        Seen {
            state: if whole {
                StackState::Whole
            } else {
                StackState::Partial
            },
            id: Some(id),
            user,
            func,
            args: texts,
            lock,
        }
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
        // A wrapper that calls these is shown (runtime/traceback.go:
        // elideWrapperCalling).
        let callee = inner.last().and_then(|l| survey.names.get(l.place));
        let panics = callee.is_some_and(|p| {
            matches!(
                &*p.func,
                "runtime.gopanic" | "runtime.sigpanic" | "runtime.panicwrap"
            )
        });
        if panics {
            for line in &mut lines {
                line.hidden = false;
            }
        }
        lines
    }

    /// A frame's arguments; inlined bodies have none of their own.
    fn text(&self, frame: &Frame, line: &Line, parked: &Parked<'_>) -> String {
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
        args::render(&target.image, &function, at, args, &|a| word(parked, a))
    }

    /// The lock that it waits for.
    fn lock(
        frames: &[Frame],
        lines: &[Line],
        parked: &Parked<'_>,
        survey: &Survey,
    ) -> Option<Box<BlockedOn>> {
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
        let (lock, at) = lock_of(&named, &|a| word(parked, a))?;
        Some(Box::new(BlockedOn::Lock(lock, at.0)))
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
