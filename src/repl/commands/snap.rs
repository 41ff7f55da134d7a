//! ```text
//! snap [-count N] [-consistent] [NAME] LOCATION [if CONDITION] [{ COMMANDS }]
//! ```
//!
//! A breakpoint for production: when a thread comes to a place, the target is
//! forked from outside and runs on; the frozen copy stays as the target was at
//! that moment, and every command that looks works on it for as long as one likes
//! (`snapshot 1`). Locations and conditions are those of `break`; the condition is
//! tested at the hit, and only a hit that meets it makes a copy.
//!
//! The copy holds none of the target's descriptors: connections end and ports are
//! free as if it were not there. It never runs. It goes with `snapshot drop`, with
//! the session, and with gotap, also when that is killed.
//!
//! What it costs: the whole target is held while page tables are copied, some
//! 25 ms for a GB in memory, and what it writes to while a copy is held is doubled.
//! Both are estimated first. gotap refuses a copy that would take longer than
//! `config snap-max-pause` (50ms), that the memory or the tasks of the target's
//! control group, or the machine's memory, have no room for, or where a seccomp
//! filter might kill the target for it. If memory runs out all the same, a copy is
//! the first to be killed.
//!
//! After one copy the point rests: it is switched off, and nothing of it stays in
//! the target. `toggle` sets it again. With -count N it rests after N copies; of
//! `config snap-max-copies` (4) that are held at a time, and with a pause of ten
//! times the last one between two, so that the target is never held for more than
//! a tenth of the time. Hits that come meanwhile pass. A point that is refused a
//! copy says why, and rests.
//!
//! Goroutines that ran on other threads at that moment are listed without a stack:
//! their registers are not known. With -consistent all threads are stopped and
//! their registers taken first, which holds the target a little longer.
//!
//! The block is run on each copy. In a script the copy is dropped behind its
//! block; at a prompt it stays.
//!
//! When to use which: `trace` to see calls go by, `snap` to look around at one
//! moment of a program that must go on, `break` to hold it and step.
//!
//! ```text
//!     snap main.(*Server).handle if req.ID == 43
//!     snap -count 3 main.serve if len(s.sessions) > 1000 { locals; goroutines -group state }
//! ```

use crate::process::snapshot::refusal;
use crate::repl::shell::Shell;
use crate::script::command::Point;
use crate::script::{ExprError, Span};

/// Sets one, unless a copy would be refused already now.
pub fn run(shell: &mut Shell, point: &Point, span: Span) -> Result<(), ExprError> {
    let fail = |message: String| ExprError::new(span, message);
    let Some(pid) = shell.source.pid else {
        return Err(fail(
            "a core file is a copy already: every command looks at it".into(),
        ));
    };
    if let Some(full) = shell.copies.limits().full() {
        return Err(fail(full));
    }
    let longest = shell.copies.limits().max_pause();
    match refusal(pid, longest) {
        Ok(None) => super::breaks::run(shell, point, span),
        Ok(Some(why)) => Err(fail(why)),
        Err(error) => Err(fail(error.to_string())),
    }
}
