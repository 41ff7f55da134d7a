//! Starting a program under gotap, seized before its first instruction.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::memory::ProcessMemory;
use super::tracer::{Ending, Tracer};
use super::{ProcessError, procfs};
use crate::sys::spawn::spawn_held;
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{ptrace, wait};

/// How long the threads of a process that ends may take to be gone.
const ENDING: Duration = Duration::from_secs(2);
/// How long exec may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Tracer {
    /// Starts `argv` and stops it at its first instruction, where its image is
    /// mapped and nothing of it has run. With `stdout_to_stderr` its standard
    /// output goes to gotap's standard error. [`Tracer::start`] lets it run.
    pub fn launch(argv: &[OsString], stdout_to_stderr: bool) -> Result<Tracer, ProcessError> {
        Tracer::launch_as(argv, stdout_to_stderr, false)
    }

    /// The same for a program beside a session: it reads no standard input, and has a
    /// process group of its own.
    pub fn launch_apart(argv: &[OsString]) -> Result<Tracer, ProcessError> {
        Tracer::launch_as(argv, true, true)
    }

    fn launch_as(
        argv: &[OsString],
        stdout_to_stderr: bool,
        apart: bool,
    ) -> Result<Tracer, ProcessError> {
        let program = argv
            .first()
            .map(|p| p.to_string_lossy().into_owned())
            .unwrap_or_default();
        let failed = |source| ProcessError::Exec {
            program: program.clone(),
            source,
        };
        let held = spawn_held(argv, stdout_to_stderr, apart).map_err(failed)?;
        let pid = held.pid();
        if let Err(errno) = ptrace::seize(pid) {
            drop(held);
            wait::await_one(pid);
            return Err(ProcessError::Ptrace {
                what: "attaching",
                tid: pid,
                errno,
            });
        }
        let outcome = held.release().map_err(failed)?;
        loop {
            match wait::await_one(pid) {
                Wait::Stopped {
                    stop: Stop::Exec, ..
                } => break,
                Wait::Stopped {
                    stop: Stop::Signal(signal),
                    ..
                } => {
                    let _ = ptrace::cont(pid, signal);
                }
                Wait::Stopped { .. } => {
                    let _ = ptrace::cont(pid, 0);
                }
                Wait::Exited { .. }
                | Wait::Killed { .. }
                | Wait::NoTracees
                | Wait::Nothing
                | Wait::Interrupted => {
                    let source = outcome.error().unwrap_or_else(|| {
                        std::io::Error::other("it ended before it ran its program")
                    });
                    return Err(failed(source));
                }
            }
        }
        // The exec stop is inside the system call, whose result would land in a
        // register that a remote call sets: move to the way out of it.
        let _ = ptrace::interrupt(pid);
        let _ = ptrace::cont(pid, 0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match wait::peek(Whom::Tid(pid), true) {
                Wait::Stopped {
                    stop: Stop::Interrupt,
                    ..
                } => {
                    wait::consume(pid);
                    break;
                }
                Wait::Stopped {
                    stop: Stop::Signal(signal),
                    ..
                } => {
                    let _ = ptrace::cont(pid, signal);
                }
                Wait::Stopped { .. } => {
                    wait::consume(pid);
                    let _ = ptrace::cont(pid, 0);
                }
                Wait::Nothing | Wait::Interrupted if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_micros(50));
                }
                _ => return Err(ProcessError::Gone(pid)),
            }
        }
        let mut tracer = Tracer::new(pid, ProcessMemory::open(pid)?);
        tracer.threads.insert(pid);
        tracer.held = true;
        tracer.never_ran = true;
        Ok(tracer)
    }

    /// Lets a launched program run.
    pub fn start(&mut self) {
        self.never_ran = false;
        if std::mem::take(&mut self.held) {
            let _ = ptrace::cont(self.pid, 0);
        }
    }

    /// Ends a process that gotap started and that has not run anything. Dropping
    /// the tracer does the same.
    pub fn abandon_launch(&mut self) {
        let _ = crate::sys::signals::send(self.pid, libc::SIGKILL);
        let _ = ptrace::cont(self.pid, 0);
        self.held = false;
        self.never_ran = false;
        wait::await_one(self.pid);
        self.threads.clear();
    }

    /// How a launched program ended, if it has: for after [`Tracer::leave`]. Its
    /// first thread may have ended a moment before the others: they are waited for.
    pub fn try_reap(&self) -> Option<Ending> {
        let deadline = Instant::now() + ENDING;
        loop {
            match wait::consume_end(self.pid) {
                Wait::Exited { code, .. } => return Some(Ending::Exited(code)),
                Wait::Killed { signal, .. } => return Some(Ending::Killed(signal)),
                Wait::Nothing if !self.is_alive() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Wait::Stopped { .. } | Wait::Interrupted | Wait::Nothing | Wait::NoTracees => {
                    return None;
                }
            }
        }
    }

    /// True while the process is there and not a zombie.
    pub fn is_alive(&self) -> bool {
        procfs::status(self.pid).is_ok_and(|s| !"ZX".contains(s.state))
    }
}
