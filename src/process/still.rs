//! A process that stands still for a moment, with the registers of its threads.
//!
//! Every thread is seized and interrupted (`PTRACE_SEIZE`, `PTRACE_INTERRUPT`).
//! A thread that is made meanwhile is listed before its maker can be stopped,
//! for a stop is on the way back to the program: when all that are listed
//! stand still, nobody is left who could make another. Nothing is written.
//! Should gotap end in the middle, the kernel lets them go on (ptrace(2):
//! `PTRACE_O_EXITKILL` is not set).

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ProcessError;
use super::die;
use super::procfs;
use crate::sys::signals::Deferred;
use crate::sys::wait::{Stop, Wait, Whom};
use crate::sys::{Regs, ptrace, wait};

/// Times that all threads are listed: each finds those that were made since.
const ROUNDS: usize = 1000;
/// How long the others wait for one that does not stop: it sleeps where
/// nothing can wake it.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for one that waits for a processor.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at threads that were asked to stop.
const GLANCE: Duration = Duration::from_micros(30);

/// A thread that stands still.
#[derive(Debug, Clone, Copy)]
pub struct StillThread {
    /// Its id, as we call it.
    pub tid: i32,
    /// Its id, as its own process calls it: in another pid namespace it is
    /// another number.
    pub own_tid: i32,
    /// Its registers.
    pub regs: Regs,
}

/// A process none of whose threads runs. Dropping it lets them go on.
#[derive(Debug)]
pub struct Still {
    pid: i32,
    seized: BTreeMap<i32, Reached>,
    threads: Vec<StillThread>,
    since: Instant,
    // After the threads: a signal to end us must wait until they run.
    _deferred: Option<Deferred>,
    // ptrace answers the thread that attached.
    _here: PhantomData<*const ()>,
}

/// How far a thread has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Asked to stop.
    Asked,
    /// Stopped, with this signal to be delivered, or 0.
    Stopped(i32),
}

impl Still {
    /// Stops `pid`. What is to be read of it is known by then.
    pub fn stop(pid: i32) -> Result<Still, ProcessError> {
        procfs::check_traceable(pid)?;
        let mut still = Still {
            pid,
            seized: BTreeMap::new(),
            threads: Vec::new(),
            // Ctrl-Z would stop us, and with us a target that stands still.
            _deferred: Deferred::here().ok(),
            since: Instant::now(),
            _here: PhantomData,
        };
        for _ in 0..ROUNDS {
            if !still.ask_all()? {
                still.read_registers();
                return if still.threads.is_empty() {
                    Err(ProcessError::Gone(pid))
                } else {
                    Ok(still)
                };
            }
            die::here("still:asked");
            still.await_all()?;
            die::here("still:stopped");
        }
        Err(ProcessError::Stuck(pid))
    }

    /// Its threads.
    pub fn threads(&self) -> &[StillThread] {
        &self.threads
    }

    /// Lets all go on; for how long they could not.
    pub fn release(mut self) -> Duration {
        die::here("still:release");
        self.let_go();
        self.since.elapsed()
    }

    /// Asks all that are not asked yet. False if there were none.
    fn ask_all(&mut self) -> Result<bool, ProcessError> {
        let mut new = false;
        for tid in procfs::threads(self.pid)? {
            if self.seized.contains_key(&tid) {
                continue;
            }
            match ptrace::seize_quietly(tid) {
                Ok(()) => {}
                // It just ended.
                Err(Errno::ESRCH) => continue,
                Err(Errno::EPERM) => {
                    let status = procfs::status(tid);
                    let tracer = status.as_ref().map_or(0, |s| s.tracer);
                    if tracer != 0 {
                        return Err(ProcessError::AlreadyTraced {
                            pid: self.pid,
                            tracer: procfs::name(tracer),
                            tracer_pid: tracer,
                        });
                    }
                    if status.is_ok_and(|s| !"ZX".contains(s.state)) {
                        return Err(procfs::denied(self.pid));
                    }
                    continue;
                }
                Err(errno) => {
                    return Err(ProcessError::Ptrace {
                        what: "attaching",
                        tid,
                        errno,
                    });
                }
            }
            self.seized.insert(tid, Reached::Asked);
            new = true;
            if ptrace::interrupt(tid) == Err(Errno::ESRCH) {
                // It ends: the wait tells.
                tracing::debug!(tid, "a thread ended before it could be stopped");
            }
        }
        Ok(new)
    }

    fn await_all(&mut self) -> Result<(), ProcessError> {
        let begin = Instant::now();
        let (mut deadline, limit) = (begin + PATIENCE, begin + LIMIT);
        loop {
            let asked: Vec<i32> = self
                .seized
                .iter()
                .filter(|(_, r)| **r == Reached::Asked)
                .map(|(tid, _)| *tid)
                .collect();
            if asked.is_empty() {
                return Ok(());
            }
            let mut news = false;
            for tid in asked {
                news |= self.look_at(tid)?;
            }
            let now = Instant::now();
            if news {
                deadline = now + PATIENCE;
            } else if now >= limit || (now >= deadline && self.sleeps_deep()) {
                return Err(ProcessError::Stuck(self.pid));
            } else {
                std::thread::sleep(GLANCE);
            }
        }
    }

    /// One that is still to stop sleeps in the kernel where no signal reaches
    /// it; others only wait for a processor.
    fn sleeps_deep(&self) -> bool {
        self.seized.iter().any(|(tid, reached)| {
            *reached == Reached::Asked && procfs::status(*tid).is_ok_and(|s| s.state == 'D')
        })
    }

    /// True when it stands still now, or is gone.
    fn look_at(&mut self, tid: i32) -> Result<bool, ProcessError> {
        let reached = match wait::peek(Whom::Tid(tid), true) {
            Wait::Nothing | Wait::Interrupted => return Ok(false),
            // Left unconsumed: should we die, it is still delivered.
            Wait::Stopped {
                stop: Stop::Signal(signal),
                ..
            } => Reached::Stopped(signal),
            Wait::Stopped { .. } => {
                wait::consume(tid);
                Reached::Stopped(0)
            }
            Wait::Exited { .. } | Wait::Killed { .. } => {
                wait::consume_end(tid);
                self.seized.remove(&tid);
                if tid == self.pid {
                    return Err(ProcessError::Gone(self.pid));
                }
                return Ok(true);
            }
            Wait::NoTracees => {
                self.seized.remove(&tid);
                return Ok(true);
            }
        };
        self.seized.insert(tid, reached);
        Ok(true)
    }

    fn read_registers(&mut self) {
        let elsewhere = procfs::pid_namespace(self.pid)
            != procfs::pid_namespace(std::process::id().cast_signed());
        for tid in self.seized.keys() {
            // Killed meanwhile, if not.
            if let Ok(regs) = ptrace::registers(*tid) {
                let own = elsewhere.then(|| procfs::own_thread_id(*tid)).flatten();
                self.threads.push(StillThread {
                    tid: *tid,
                    own_tid: own.unwrap_or(*tid),
                    regs,
                });
            }
        }
    }

    fn let_go(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        for (tid, reached) in std::mem::take(&mut self.seized) {
            let mut signal = match reached {
                Reached::Stopped(signal) => Some(signal),
                Reached::Asked => None,
            };
            // Only a stopped thread can be let go.
            while signal.is_none() && Instant::now() < deadline {
                match wait::peek(Whom::Tid(tid), true) {
                    Wait::Stopped { stop, .. } => {
                        signal = Some(match stop {
                            Stop::Signal(signal) => signal,
                            _ => 0,
                        });
                    }
                    Wait::Nothing | Wait::Interrupted => std::thread::sleep(GLANCE),
                    Wait::Exited { .. } | Wait::Killed { .. } => {
                        wait::consume_end(tid);
                        break;
                    }
                    Wait::NoTracees => break,
                }
            }
            if let Some(signal) = signal
                && let Err(errno) = ptrace::detach(tid, signal)
            {
                // Killed while it stood still: its end is ours to take.
                tracing::debug!(tid, %errno, "a thread is gone");
                if matches!(
                    wait::peek(Whom::Tid(tid), true),
                    Wait::Exited { .. } | Wait::Killed { .. }
                ) {
                    wait::consume_end(tid);
                }
            }
        }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::LiveAddr;
    use crate::memory::Memory;
    use crate::process::ProcessMemory;
    use std::process::{Child, Command, Stdio};

    /// A shell that counts, and ends with the test.
    struct Counter(Child);

    impl Drop for Counter {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Counter {
        fn start() -> Counter {
            let child = Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .expect("a shell");
            Counter(child)
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).expect("a pid")
        }
    }

    fn await_state(pid: i32, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let state = procfs::status(pid).expect("it is there").state;
            if wanted.contains(state) {
                return;
            }
            assert!(Instant::now() < end, "its state is {state}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn nothing_changes_while_it_stands_still_and_it_goes_on() {
        let counter = Counter::start();
        let pid = counter.pid();
        await_state(pid, "R");
        for _ in 0..20 {
            let still = Still::stop(pid).expect("it stops");
            assert_eq!(procfs::status(pid).expect("there").state, 't');
            let [thread] = still.threads() else {
                panic!("one thread");
            };
            assert_eq!((thread.tid, thread.own_tid), (pid, pid));
            let memory = ProcessMemory::read_only(pid);
            assert!(memory.read_u64(LiveAddr(thread.regs.rsp)).is_ok());
            assert!(still.release() > Duration::ZERO);
            await_state(pid, "R");
        }
    }

    #[test]
    fn one_that_was_stopped_stays_so() {
        let counter = Counter::start();
        let pid = counter.pid();
        await_state(pid, "R");
        crate::sys::signals::send(pid, libc::SIGSTOP).expect("sent");
        await_state(pid, "T");
        let still = Still::stop(pid).expect("it is still");
        assert_eq!(still.threads().len(), 1);
        drop(still);
        await_state(pid, "T");
        crate::sys::signals::send(pid, libc::SIGCONT).expect("sent");
        await_state(pid, "R");
    }

    #[test]
    fn one_that_is_killed_meanwhile_is_no_harm() {
        let mut counter = Counter::start();
        let pid = counter.pid();
        await_state(pid, "R");
        let still = Still::stop(pid).expect("it stops");
        counter.0.kill().expect("killed");
        still.release();
        let status = counter.0.wait().expect("ended");
        assert!(!status.success());
        assert!(matches!(
            Still::stop(pid),
            Err(ProcessError::NoSuchProcess(_))
        ));
    }

    #[test]
    fn signals_that_come_meanwhile_are_delivered() {
        let counter = Counter::start();
        let pid = counter.pid();
        await_state(pid, "R");
        let still = Still::stop(pid).expect("it stops");
        crate::sys::signals::send(pid, libc::SIGTERM).expect("sent");
        drop(still);
        await_state(pid, "Z");
    }
}
