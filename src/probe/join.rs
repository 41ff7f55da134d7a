//! Joining hits into calls: pure bookkeeping, no process, no clock of its own.
//!
//! A call is known by its goroutine and its depth: how far below the top of
//! the goroutine's stack its return address lies (`stack.hi - sp`, with sp as
//! it is at the function's first instruction and again at its RET). Stacks
//! move when they grow; depths stay. Threads do not matter at all.
//!
//! A frame at some depth proves that nothing deeper is left: a RET ends every
//! open call at its depth (a wrapper that tail-jumped has the same depth as
//! what it jumped to, and no RET of its own) and declares deeper ones unwound.
//! So does an entry at the same or a smaller depth, unless a tail jump
//! explains it. What unwound them is known from evidence: `gopanic` and
//! `Goexit` are seen as they happen.
//!
//! Where hits are lost (a ring that is full), a call that was open then may have
//! ended unseen. Gone without evidence, it is *lost*, not unwound; and the RET that
//! ends it may be that of a later call at its depth, whose entry was lost: that it
//! is *doubtful* is told with it.

use super::hash::WordMap;
use crate::record::End;

/// Whose calls: a goroutine, or a g without a number (g0: its address).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stack {
    /// By goid.
    Goroutine(u64),
    /// By the address of its g.
    System(u64),
}

/// A call that has begun and not ended.
#[derive(Debug, Clone)]
pub struct OpenCall<T> {
    /// Counts from 1, in the order of entries.
    pub id: u64,
    /// The traced call it happened in.
    pub parent: Option<u64>,
    /// Whose it is.
    pub stack: Stack,
    /// Which function: an index of the caller's.
    pub func: usize,
    /// `stack.hi - sp` at its first instruction.
    pub depth: u64,
    /// Clock at entry; `None` when it was already running at attach.
    pub began_ns: Option<u64>,
    /// Clock when it was first known: at its entry, or when it was found running.
    pub since_ns: u64,
    /// Set once it was reported as slow.
    pub reported: bool,
    /// Found running by a look that may have been out of date: when it proves
    /// gone without a RET, it was so before, and nothing is told of it.
    pub doubtful: bool,
    /// What the caller keeps with it.
    pub data: T,
    /// The last thing that set out to unwind this stack, and when it was done.
    unwinding: Option<End>,
    unwound_ns: Option<u64>,
    /// A recovery has left it its frame: what unwound others need not have
    /// unwound it.
    spared: bool,
    /// Its parent may have ended before, by a hit that was lost.
    stray: bool,
    /// No hit of its own is lost.
    sure: bool,
}

/// A call that ended.
#[derive(Debug)]
pub struct Ended<T> {
    /// The call.
    pub call: OpenCall<T>,
    /// How.
    pub end: End,
    /// When.
    pub at_ns: u64,
    /// Nothing is to be told of it: it was gone before anybody looked.
    pub silent: bool,
    /// Hits were lost while it, or its parent, was open: this end, or the parent,
    /// may be another call's.
    pub doubtful: bool,
}

/// What an entry hit turned out to be.
#[derive(Debug)]
pub enum Entry {
    /// A call began.
    Began {
        /// Its id.
        id: u64,
    },
    /// A jump back to the function's start inside a call that is open: no new call.
    Again,
}

/// What is known of a site when it is entered.
#[derive(Debug, Clone, Copy)]
pub struct EntrySite<'a> {
    /// The function's index.
    pub func: usize,
    /// A branch of the function itself leads to its site.
    pub branch_target: bool,
    /// Functions that end in a tail jump to this one, directly or by way of others.
    pub tail_callers: &'a [usize],
    /// No hit of its sites is ever lost.
    pub sure: bool,
}

/// All open calls of a target.
#[derive(Debug)]
pub struct Join<T> {
    stacks: WordMap<Stack, Vec<OpenCall<T>>>,
    last_id: u64,
    open: usize,
    doubt: Doubt,
}

/// Which calls hits were lost of, perhaps.
#[derive(Debug, Clone, Copy, Default)]
struct Doubt {
    /// Some may be missing here.
    losing: bool,
    /// They may be missing of calls up to this one.
    until: u64,
    /// Some may have been missing by now.
    ever: bool,
}

impl Doubt {
    fn of<T>(self, call: &OpenCall<T>) -> bool {
        (self.losing || call.id <= self.until) && !call.sure
    }
}

impl Stack {
    /// The number that generated code knows it by.
    pub fn number(self) -> u64 {
        match self {
            Stack::Goroutine(id) | Stack::System(id) => id,
        }
    }
}

impl<T> Default for Join<T> {
    fn default() -> Self {
        Join {
            stacks: WordMap::default(),
            last_id: 0,
            open: 0,
            doubt: Doubt::default(),
        }
    }
}

impl<T> Join<T> {
    /// With ids that follow those given before.
    pub fn counting_from(last_id: u64) -> Join<T> {
        Join {
            last_id,
            ..Join::default()
        }
    }

    /// How many calls are open.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// The last id given: how many calls have begun (or were found running),
    /// those counted before included.
    pub fn begun(&self) -> u64 {
        self.last_id
    }

    /// The calls open on a stack, outermost first.
    pub fn open_on(&self, stack: Stack) -> &[OpenCall<T>] {
        self.stacks.get(&stack).map_or(&[], Vec::as_slice)
    }

    /// A function was entered. `data` is asked only if that is a new call;
    /// calls that this entry proves gone are pushed to `ended`.
    pub fn enter(
        &mut self,
        stack: Stack,
        site: EntrySite<'_>,
        depth: u64,
        now_ns: u64,
        data: impl FnOnce() -> T,
        ended: &mut Vec<Ended<T>>,
    ) -> Entry {
        let doubt = self.doubt;
        let calls = self.stacks.entry(stack).or_default();
        while let Some(top) = calls.last() {
            if top.depth < depth {
                break;
            }
            if top.depth == depth {
                if top.func == site.func && site.branch_target {
                    return Entry::Again;
                }
                if site.tail_callers.contains(&top.func) {
                    break;
                }
            }
            if let Some(call) = calls.pop() {
                self.open -= 1;
                ended.push(gone(call, now_ns, doubt));
            }
        }
        self.last_id += 1;
        self.open += 1;
        let id = self.last_id;
        let parent = calls.last();
        let stray = parent.is_some_and(|parent| doubt.of(parent));
        let parent = parent.map(|c| c.id);
        calls.push(OpenCall {
            id,
            parent,
            stray,
            sure: site.sure,
            stack,
            func: site.func,
            depth,
            began_ns: Some(now_ns),
            since_ns: now_ns,
            reported: false,
            doubtful: false,
            data: data(),
            unwinding: None,
            unwound_ns: None,
            spared: false,
        });
        Entry::Began { id }
    }

    /// A RET at `depth`. False when no call was open there: one that began
    /// before gotap looked.
    pub fn leave(
        &mut self,
        stack: Stack,
        depth: u64,
        now_ns: u64,
        ended: &mut Vec<Ended<T>>,
    ) -> bool {
        let doubt = self.doubt;
        let Some(calls) = self.stacks.get_mut(&stack) else {
            return false;
        };
        let mut found = false;
        while let Some(call) = calls.pop_if(|c| c.depth >= depth) {
            self.open -= 1;
            if call.depth == depth {
                found = true;
                ended.push(ends(call, End::Return, now_ns, doubt));
            } else {
                ended.push(gone(call, now_ns, doubt));
            }
        }
        if calls.is_empty() && self.stacks.len() > 4096 {
            self.stacks.retain(|_, calls| !calls.is_empty());
        }
        found
    }

    /// A call found running at attach: inside `func`, entered before we looked.
    /// Ignored, and no, if a call is open at that depth already. `doubtful`: it may
    /// have returned before the traps were there.
    pub fn found_running(
        &mut self,
        stack: Stack,
        func: usize,
        depth: u64,
        (now_ns, doubtful): (u64, bool),
        data: T,
    ) -> bool {
        let calls = self.stacks.entry(stack).or_default();
        let at = calls.partition_point(|c| c.depth < depth);
        if calls.get(at).is_some_and(|c| c.depth == depth) {
            return false;
        }
        self.last_id += 1;
        self.open += 1;
        let parent = at.checked_sub(1).and_then(|i| calls.get(i)).map(|c| c.id);
        calls.insert(
            at,
            OpenCall {
                id: self.last_id,
                parent,
                stack,
                func,
                depth,
                began_ns: None,
                since_ns: now_ns,
                reported: false,
                doubtful,
                data,
                unwinding: None,
                unwound_ns: None,
                spared: false,
                stray: false,
                sure: false,
            },
        );
        true
    }

    /// A call whose RET was seen without its entry: it gets an id of its own.
    pub fn unseen(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A panic (or Goexit) set out to unwind this stack: calls of it that are
    /// later found gone went that way.
    pub fn unwinding(&mut self, stack: Stack, how: End) {
        for call in self.stacks.get_mut(&stack).into_iter().flatten() {
            call.unwinding = Some(how);
            call.unwound_ns = None;
            call.spared = false;
        }
    }

    /// A panic was recovered: frames deeper than `below` are gone. Where that
    /// is not known, the time is noted for when they are found missing.
    pub fn recovered(
        &mut self,
        stack: Stack,
        below: Option<u64>,
        now_ns: u64,
        ended: &mut Vec<Ended<T>>,
    ) {
        let doubt = self.doubt;
        let Some(calls) = self.stacks.get_mut(&stack) else {
            return;
        };
        match below {
            Some(depth) => {
                while let Some(call) = calls.pop_if(|c| c.depth > depth) {
                    self.open -= 1;
                    ended.push(gone(call, now_ns, doubt));
                }
                for call in calls {
                    call.spared = true;
                }
            }
            None => {
                for call in calls {
                    call.unwound_ns = Some(now_ns);
                }
            }
        }
    }

    /// A stack is no more: its goroutine has ended.
    pub fn stack_gone(&mut self, stack: Stack, now_ns: u64, ended: &mut Vec<Ended<T>>) {
        let calls = self.stacks.remove(&stack).unwrap_or_default();
        self.open -= calls.len();
        let doubt = self.doubt;
        ended.extend(calls.into_iter().rev().map(|c| gone(c, now_ns, doubt)));
    }

    /// Hits may be missing from here on, until it is told that they are not.
    pub fn losing(&mut self, losing: bool) {
        if self.doubt.losing || losing {
            self.doubt.until = self.last_id;
            self.doubt.ever = true;
        }
        self.doubt.losing = losing;
    }

    /// Some hit before here may have been lost: an entry that was not seen need not
    /// have been made before anybody looked.
    pub fn has_lost(&self) -> bool {
        self.doubt.ever
    }

    /// Ends all calls the same way, as far as is known: the process ended, or
    /// tracing stops.
    pub fn drain(&mut self, end: End, now_ns: u64) -> Vec<Ended<T>> {
        self.open = 0;
        let doubt = self.doubt;
        let mut all: Vec<_> = self
            .stacks
            .drain()
            .flat_map(|(_, calls)| calls)
            .map(|call| {
                let end = if doubt.of(&call) { End::Lost } else { end };
                ends(call, end, now_ns, doubt)
            })
            .collect();
        all.sort_by_key(|e| e.call.id);
        all
    }

    /// Gives up the open calls of a function that is watched no longer: nobody
    /// will see how they end.
    pub fn take_function(&mut self, func: usize, now_ns: u64) -> Vec<Ended<T>> {
        let doubt = self.doubt;
        let mut taken: Vec<_> = self
            .stacks
            .values_mut()
            .flat_map(|calls| calls.extract_if(.., |c| c.func == func))
            .map(|call| ends(call, End::Open, now_ns, doubt))
            .collect();
        self.open -= taken.len();
        taken.sort_by_key(|e| e.call.id);
        taken
    }

    /// Forgets the oldest of the open calls of some functions, where there are more
    /// than `keep` of them; how many.
    pub fn forget(&mut self, of: impl Fn(usize) -> bool, keep: usize) -> usize {
        let calls = self.stacks.values().flatten();
        let mut ids: Vec<u64> = calls.filter(|c| of(c.func)).map(|c| c.id).collect();
        let many = ids.len().saturating_sub(keep);
        if many == 0 {
            return 0;
        }
        let (_, first, _) = ids.select_nth_unstable(many);
        let first = *first;
        for calls in self.stacks.values_mut() {
            calls.retain(|c| c.id >= first || !of(c.func));
        }
        self.stacks.retain(|_, calls| !calls.is_empty());
        self.open -= many;
        many
    }

    /// Open calls that were known before `before_ns` and were not reported yet;
    /// they are marked as reported. Those that may have ended by a hit that was lost
    /// are left out.
    pub fn take_slow(&mut self, before_ns: u64, mut each: impl FnMut(&OpenCall<T>, Stack)) {
        let doubt = self.doubt;
        for (stack, calls) in &mut self.stacks {
            for call in calls {
                if !call.reported && !doubt.of(call) && call.since_ns <= before_ns {
                    call.reported = true;
                    each(call, *stack);
                }
            }
        }
    }
}

/// A call that is gone without a RET.
fn gone<T>(call: OpenCall<T>, now_ns: u64, doubt: Doubt) -> Ended<T> {
    let evidence = call.unwinding.filter(|_| !call.spared);
    let end = match (evidence, doubt.of(&call)) {
        (None, true) => End::Lost,
        _ => call.unwinding.unwrap_or(End::Unwound),
    };
    let at_ns = call.unwound_ns.unwrap_or(now_ns);
    let silent = call.doubtful && end != End::Lost;
    Ended {
        silent,
        ..ends(call, end, at_ns, doubt)
    }
}

fn ends<T>(call: OpenCall<T>, end: End, at_ns: u64, doubt: Doubt) -> Ended<T> {
    Ended {
        doubtful: call.stray || doubt.of(&call),
        call,
        end,
        at_ns,
        silent: false,
    }
}

#[cfg(test)]
mod tests;
