//! All that the runtime's own structs tell of every goroutine, read in one
//! walk while the program runs (runtime/runtime2.go: g).
//!
//! Status and reason, since when it waits, who made it and where, its labels
//! and its thread. Nothing is stopped: what is read of one `g` comes from one
//! read, of two from two moments.

use std::collections::HashMap;

use crate::addr::{Bias, LiveAddr};
use crate::golang::globals::Globals;
use crate::golang::gs::{self, Goroutine, GsError, Status, word_at};
use crate::golang::layout::Layouts;
use crate::golang::net::read_go_string;
use crate::image::Image;
use crate::memory::{Memory, MemoryError};

/// No release has more reasons than a byte can count.
const MAX_REASONS: u64 = 256;
/// Bytes of the longest reason; the longest of 1.27 has 34.
const MAX_REASON: usize = 128;
/// The collector scans its stack (runtime/runtime2.go: _Gscan).
const SCAN: u32 = 0x1000;

/// A goroutine and what its struct says besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resident {
    /// Status, stack, where it is.
    pub g: Goroutine,
    /// The collector was looking at its stack.
    pub scanned: bool,
    /// It may run on one thread alone (runtime.LockOSThread).
    pub locked: bool,
    /// Since when it waits, CLOCK_MONOTONIC nanoseconds; 0 unless a
    /// collection happened meanwhile (runtime/mgcmark.go: markroot).
    pub wait_since: i64,
    /// Number of the goroutine that made it; 0 before Go 1.21.
    pub parent: u64,
    /// First `sudog` of what it waits for: a channel operation or a select.
    pub waiting: LiveAddr,
    /// Its pprof labels, or 0.
    pub labels: LiveAddr,
    /// Its timer, or 0.
    pub timer: LiveAddr,
    /// When its time.Sleep ends (from Go 1.23 on), else 0.
    pub sleep_when: i64,
}

impl Resident {
    /// Parses the bytes of a `g`.
    pub fn parse(layouts: &Layouts, addr: LiveAddr, bytes: &[u8]) -> Resident {
        let l = &layouts.g;
        let word = |offset| gs::word_at(bytes, offset);
        Resident {
            g: Goroutine::parse(layouts, addr, bytes),
            scanned: word(l.atomicstatus) as u32 & SCAN != 0,
            locked: word(l.lockedm) != 0,
            wait_since: word(l.waitsince) as i64,
            parent: l.parent_goid.map_or(0, word),
            waiting: LiveAddr(word(l.waiting)),
            labels: LiveAddr(word(l.labels)),
            timer: LiveAddr(word(l.timer)),
            sleep_when: l.sleep_when.map_or(0, word) as i64,
        }
    }
}

/// How many structs hold no goroutine of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Others {
    /// Goroutines of the runtime: collector workers, scavenger, finalizers …
    pub system: usize,
    /// Structs of goroutines that ended, kept for others.
    pub dead: usize,
    /// Structs that were just made.
    pub idle: usize,
    /// Structs that could not be read, or said nothing that makes sense.
    pub unreadable: usize,
}

/// Shows `each` every goroutine, in the order of their addresses, and whether
/// it is the runtime's own: those that are not are as many as
/// runtime.NumGoroutine says. None is kept: a program may have millions.
pub fn walk<E: From<GsError> + From<MemoryError>>(
    image: &Image,
    memory: &dyn Memory,
    layouts: &Layouts,
    globals: &Globals,
    bias: Bias,
    each: &mut dyn FnMut(&Resident, bool) -> Result<(), E>,
) -> Result<Others, E> {
    let mut addrs = gs::read_allgs(memory, globals, bias)?;
    let listed = addrs.len();
    addrs.retain(|a| *a != 0);
    addrs.sort_unstable();
    addrs.dedup();
    let mut others = Others::default();
    let mut read = 0_usize;
    let mut system = SystemStarts::default();
    gs::visit_structs::<E>(memory, &addrs, layouts.g.size, &mut |addr, bytes| {
        read += 1;
        let status = word_at(bytes, layouts.g.atomicstatus) as u32;
        match Status::parse(status) {
            Status::Dead | Status::DeadExtra => others.dead += 1,
            Status::Idle => others.idle += 1,
            Status::Other(_) => others.unreadable += 1,
            Status::Runnable
            | Status::Running
            | Status::Syscall
            | Status::Waiting
            | Status::CopyStack
            | Status::Preempted
            | Status::Leaked => {
                let one = Resident::parse(layouts, addr, bytes);
                let own = !system.has(image, bias, one.g.startpc);
                others.system += usize::from(!own);
                each(&one, !own)?;
            }
        }
        Ok(())
    })?;
    others.unreadable += listed.saturating_sub(read);
    Ok(others)
}

/// The goroutines whose structs lie at `addrs`, in the order of addresses;
/// unreadable ones are left out.
pub fn read_at(
    memory: &dyn Memory,
    layouts: &Layouts,
    addrs: Vec<u64>,
) -> Result<Vec<Resident>, MemoryError> {
    gs::read_structs(memory, addrs, layouts.g.size, |addr, bytes| {
        Resident::parse(layouts, addr, bytes)
    })
}

/// Which start functions are the runtime's own.
#[derive(Default)]
struct SystemStarts {
    known: HashMap<u64, bool>,
    last: Option<(LiveAddr, bool)>,
}

impl SystemStarts {
    /// runtime/traceback.go: isSystemGoroutine, as it answers when the
    /// goroutine is made: that is what runtime.NumGoroutine counts by.
    fn has(&mut self, image: &Image, bias: Bias, startpc: LiveAddr) -> bool {
        if let Some((_, known)) = self.last.filter(|(at, _)| *at == startpc) {
            return known;
        }
        let known = *self.known.entry(startpc.0).or_insert_with(|| {
            let function = image.functions().find(bias.image(startpc));
            function.is_some_and(|f| is_system(&f.name()))
        });
        self.last = Some((startpc, known));
        known
    }
}

fn is_system(start: &str) -> bool {
    let users = matches!(
        start,
        "runtime.main" | "runtime.corostart" | "runtime.handleAsyncEvent"
    );
    start.starts_with("runtime.") && !users
}

/// The program's own words for why goroutines wait, by `g.waitreason`
/// (runtime/runtime2.go: waitReasonStrings).
pub fn wait_reasons(
    memory: &dyn Memory,
    globals: &Globals,
    bias: Bias,
) -> Result<Vec<String>, GsError> {
    let at = bias.live(
        globals
            .wait_reasons
            .ok_or(GsError::NoGlobal("runtime.waitReasonStrings"))?,
    );
    let count = globals.wait_reason_count.unwrap_or(0).min(MAX_REASONS);
    let mut words = Vec::new();
    for index in 0..count {
        let at = at.offset(index.wrapping_mul(16));
        let text = || -> Result<String, MemoryError> {
            let (ptr, len) = (memory.read_u64(at)?, memory.read_u64(at.offset(8))?);
            let (bytes, _) = read_go_string(memory, ptr, len, MAX_REASON)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        match text() {
            Ok(text) => words.push(text),
            Err(MemoryError::Unmapped { .. }) => words.push(String::new()),
            Err(gone @ MemoryError::Gone) => return Err(gone.into()),
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::is_system;

    #[test]
    fn main_and_iterators_are_the_programs_own() {
        assert!(is_system("runtime.bgsweep"));
        assert!(is_system("runtime.runFinalizers"));
        assert!(is_system("runtime.(*traceAdvancerState).start.func1"));
        assert!(!is_system("runtime.main"));
        assert!(!is_system("runtime.corostart"));
        assert!(!is_system("main.main.func1"));
        assert!(!is_system("runtime/pprof.profileWriter"));
    }
}
