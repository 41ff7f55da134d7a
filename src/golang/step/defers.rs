//! What a goroutine has deferred (runtime/panic.go, runtime/runtime2.go:
//! `_defer`). Calls that the compiler wrote out at the function's end
//! (open-coded defers) are not in that list.

use super::calls::is_private_runtime;
use super::frames::SeenFrame;
use super::{Program, calls};
use crate::addr::LiveAddr;
use crate::golang::gs::Goroutine;
use crate::golang::layout::Defer;
use crate::image::Function;
use crate::memory::Memory;

/// Entries of a list; more is a cycle.
const MAX_DEFERS: usize = 1 << 16;

/// One deferred call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deferred {
    /// Where its `_defer` lies.
    pub at: LiveAddr,
    /// Stack pointer of the function that deferred it.
    pub sp: LiveAddr,
    /// The code that is called; 0 when it cannot be told.
    pub code: LiveAddr,
    /// Its closure's object: the code's address, and what it captured.
    pub closure: LiveAddr,
}

struct Entry {
    own: Deferred,
    link: LiveAddr,
    head: LiveAddr,
}

fn read(memory: &dyn Memory, layout: &Defer, at: LiveAddr) -> Option<Entry> {
    let word = |offset| memory.read_addr(at.offset(offset)).ok();
    let callee = word(layout.callee)?;
    // A func value is a pointer to the code's address.
    let code = (!callee.is_null()).then(|| memory.read_addr(callee).ok());
    Some(Entry {
        own: Deferred {
            at,
            sp: word(layout.sp)?,
            code: code.flatten().unwrap_or(LiveAddr(0)),
            closure: callee,
        },
        link: word(layout.link)?,
        head: layout.head.and_then(word).unwrap_or(LiveAddr(0)),
    })
}

/// The deferred calls of a goroutine, the next one first. In the place of a
/// loop over a function stands what its body deferred last.
pub fn deferred(program: &Program<'_>, g: &Goroutine) -> Vec<Deferred> {
    let (memory, layout) = (program.memory, &program.layouts.deferred);
    let mut found = Vec::new();
    let first = memory.read_addr(g.addr.offset(program.layouts.g.defer));
    let mut at = first.unwrap_or(LiveAddr(0));
    while !at.is_null() && found.len() < MAX_DEFERS {
        let Some(entry) = read(memory, layout, at) else {
            break;
        };
        let mut own = entry.own;
        if !entry.head.is_null() {
            // `head` is a pointer to an atomic pointer to the list.
            let inner = memory.read_addr(entry.head).ok();
            let inner = inner.filter(|a| !a.is_null());
            if let Some(first) = inner.and_then(|a| read(memory, layout, a)) {
                own = Deferred {
                    sp: own.sp,
                    ..first.own
                };
            }
        }
        found.push(own);
        at = entry.link;
    }
    found
}

/// The first call that is deferred at the frame `wanted` or further out: what
/// an unwinding past that frame would call first.
pub(super) fn first_at(
    program: &Program<'_>,
    g: &Goroutine,
    frames: &[SeenFrame],
    wanted: usize,
) -> Option<Deferred> {
    let all = deferred(program, g);
    let inner = frames.iter().take(wanted).filter(|f| !f.inlined);
    let below = inner.map(|f| f.cfa).max().unwrap_or(LiveAddr(0));
    all.into_iter().find(|d| d.sp >= below)
}

/// The function that is deferred, behind the compiler's wrapper.
pub fn function_of<'a>(program: &Program<'a>, d: &Deferred) -> Option<Function<'a>> {
    let functions = program.image.functions();
    let function = functions.find(program.bias.image(d.code))?;
    if !function.is_wrapper() {
        return Some(function);
    }
    let called = calls::ways_out(&function).into_iter().find_map(|way| {
        let to = functions.find(way.to.filter(|_| !way.jump)?)?;
        (!is_private_runtime(&to)).then_some(to)
    });
    Some(called.unwrap_or(function))
}
