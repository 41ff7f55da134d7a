//! The engine: owns process, image and probes on one tracer thread.
//!
//! Who lives here: [`target`] (what is known of a process before it is touched),
//! [`engine`] (the loop from hit to record), [`jump`] (the same by jumps into
//! generated code), `calls` (from what was seen to records), [`control`] (how
//! other threads ask it to stop), an engine on a thread of its own ([`live`]) and
//! changes of its plan while it runs (`replan`), what is asked at a place in the
//! program ([`hook`], `frame`), of a call's variables as it ends (`leaving`), of calls where they happen ([`mod@watch`]), a target that
//! stands still ([`stopped`]) and one that is copied ([`snap`]),
//! steps of a goroutine (`stepping`), the clock, and looks at
//! goroutines without a tracer ([`look`]). Nobody here knows terminals. Allowed
//! in: repl, cli.

mod adapters;
mod calls;
mod clock;
pub mod control;
pub mod engine;
mod frame;
pub mod hook;
pub mod jump;
mod leaving;
pub mod live;
pub mod look;
mod memo;
mod rates;
mod replan;
mod report;
mod running;
mod seen;
pub mod snap;
mod spill;
mod stepping;
pub mod stopped;
pub mod target;
mod values;
pub mod watch;

pub use calls::Prepared;
pub use control::{Control, StopReason};
pub use engine::{CLEANED, Engine, Options, Outcome, Start, Stats};
pub use frame::FrameScope;
pub use hook::{Answer, Hook, Tally, Test};
pub use jump::{JumpEngine, NoJumps};
pub use leaving::Leaving;
pub use live::{Ended, Keeper, Live, Said};
pub use replan::Armed;
pub use snap::{CopyLimits, CopyRule, NotSnapped, Snapped};
pub use stepping::{Stepper, Walk};
pub use stopped::{Errand, Stood, Stop, Who, Why};
pub use target::Target;
pub use values::value_names;
pub use watch::{CallScope, Watch};

use crate::image::ImageError;
use crate::image::pattern::PatternError;
use crate::process::{CoreError, ProcessError};

/// Why a session could not be started or went wrong.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The core file.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// Its executable.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// Its debug information.
    #[error("the debug information cannot be used: {0}")]
    Dwarf(#[from] crate::image::dwarf::DwarfError),
    /// The patterns.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The disassembler could not be made.
    #[error("cannot disassemble: {0}")]
    Disassembler(#[from] crate::arch::scan::ScanError),
    /// An instruction at which nobody can be told of.
    #[error("no breakpoint can be set there: {0}")]
    Place(#[from] crate::probe::plan::Refusal),
    /// Everything that matched was refused.
    #[error("nothing that matches can be armed:\n{0}")]
    NothingArmed(String),
    /// It cannot be done by jumps.
    #[error("--fire jump is not possible: {0}")]
    NoJumps(#[from] NoJumps),
    /// The goroutines.
    #[error(transparent)]
    Goroutines(#[from] crate::golang::gs::GsError),
    /// Its memory.
    #[error(transparent)]
    Memory(#[from] crate::memory::MemoryError),
    /// It is asked of a target that stands still, and this one runs.
    #[error("the target runs: halt stops it")]
    Runs,
    /// Memory of the target could not be read where it must be.
    #[error("cannot read process {pid}: {what}")]
    Unreadable {
        /// Process.
        pid: i32,
        /// What was read.
        what: &'static str,
    },
}
