//! A look at a process that stands still for it.
//!
//! A first look, with nothing stopped, meets the types and functions that the
//! second will need. Then every thread is stopped, what a look reads is read
//! and kept, and they go on; the look itself is made of what was kept.

use std::rc::Rc;
use std::time::Duration;

use super::{Registers, Source, Wanted, look, look_and_learn, monotonic};
use crate::memory::Keeping;
use crate::process::{ProcessMemory, Still, StillThread};
use crate::session::{SessionError, Target};
use crate::survey::Survey;

/// A process that is stopped to be looked at.
pub struct Stoppable {
    source: Source,
    memory: Rc<Keeping<ProcessMemory>>,
    pid: i32,
    rehearsed: bool,
}

impl Stoppable {
    /// Opens it; nothing is stopped yet.
    pub fn process(pid: i32) -> Result<Stoppable, SessionError> {
        let target = Target::of_process(pid)?;
        let memory = Rc::new(Keeping::new(super::readable(&target, pid)?));
        Ok(Stoppable {
            source: Source::new(target, Box::new(memory.clone()), Some(pid))?,
            memory,
            pid,
            rehearsed: false,
        })
    }

    /// What is looked at.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Looks once. The survey says how long the program was stopped.
    pub fn look(&mut self, wanted: &Wanted) -> Result<Survey, SessionError> {
        if !self.rehearsed {
            self.source.hints = look_and_learn(&self.source, wanted)?.1;
            self.rehearsed = true;
        }
        let stopped = self.gather(wanted)?;
        // It stays so until the next look: who asks more of the source is told
        // of the same moment.
        self.memory.replay();
        let (mut survey, hints) = look_and_learn(&self.source, wanted)?;
        self.source.hints.extend(hints);
        survey.stopped_ns = Some(u64::try_from(stopped.as_nanos()).unwrap_or(u64::MAX));
        Ok(survey)
    }

    /// Reads what the look will ask for, while nothing runs.
    fn gather(&mut self, wanted: &Wanted) -> Result<Duration, SessionError> {
        let still = Still::stop(self.pid)?;
        self.source.threads = still.threads().iter().map(Registers::from).collect();
        self.source.moment = monotonic().zip(Some(jiff::Timestamp::now()));
        self.memory.keep();
        self.source.gathering = true;
        let gathered = look(&self.source, wanted);
        self.source.gathering = false;
        let stopped = still.release();
        gathered?;
        Ok(stopped)
    }
}

impl From<&StillThread> for Registers {
    fn from(thread: &StillThread) -> Registers {
        Registers::of(thread.tid, thread.own_tid, &thread.regs)
    }
}
