//! gotap's own signals: which thread takes them, and how a waiting thread is
//! woken.
//!
//! All threads block the orderly-end signals; one thread takes them with
//! sigwait(3). The tracer thread sleeps in waitid(2), which has no way to be
//! told of anything else, so it is nudged by a signal with an empty handler.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};

/// The signals that end, suspend or resume a session in an orderly way.
pub const ORDERLY: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGXCPU,
];

/// What wakes a thread out of waitid(2).
const NUDGE: Signal = Signal::SIGUSR2;

extern "C" fn woken(_: libc::c_int) {}

/// Blocks the orderly signals and SIGCHLD in this thread and all that it
/// starts, ignores SIGPIPE, and installs the nudge. Call once, before any thread
/// is started.
pub fn prepare() -> Result<(), Errno> {
    let mut set: SigSet = ORDERLY.into_iter().collect();
    set.add(Signal::SIGCHLD);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    // Ignored, as some parents leave it, it would not be sent for stops.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(Signal::SIGCHLD, &default) }?;
    let nudge = SigAction::new(
        SigHandler::Handler(woken),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing, so it is async-signal-safe.
    unsafe { sigaction(NUDGE, &nudge) }?;
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs no code.
    unsafe { sigaction(Signal::SIGPIPE, &ignore) }?;
    Ok(())
}

/// The orderly signals wait while this lives: they come to this thread, if it
/// is the only one, when it is dropped.
#[derive(Debug)]
pub struct Deferred {
    before: SigSet,
}

impl Deferred {
    /// Blocks them in the calling thread, which must be the one that drops this.
    pub fn here() -> Result<Deferred, Errno> {
        let set: SigSet = ORDERLY.into_iter().collect();
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Deferred { before })
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// Sleeps until one of the orderly signals arrives; only for threads that have
/// them blocked.
pub fn wait_orderly() -> Result<Signal, Errno> {
    let set: SigSet = ORDERLY.into_iter().collect();
    set.wait()
}

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT no longer end the program: the first of
/// them is told through the channel, and a second one ends it as ever, for whoever
/// does not want to wait. Call before any other thread is started.
pub fn end_requests() -> Result<Receiver<Signal>, Errno> {
    let ends = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ];
    let set: SigSet = ends.into_iter().collect();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        if let Ok(signal) = set.wait() {
            let _ = tell.send(signal);
        }
        let _ = set.thread_unblock();
        // Whoever has them not blocked is given them.
        loop {
            std::thread::park();
        }
    });
    Ok(told)
}

/// What [`ChildSignals::wait`] heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// SIGCHLD, on behalf of this thread of a child or tracee.
    Of(i32),
    /// The time is over.
    Nothing,
    /// A signal handler of ours ran.
    Interrupted,
}

/// The right to take SIGCHLD, which the kernel sends to the process as a whole:
/// one thread has it at a time.
#[derive(Debug)]
pub struct ChildSignals(());

static CHILD_SIGNALS_TAKEN: AtomicBool = AtomicBool::new(false);

impl ChildSignals {
    /// `None` where SIGCHLD is not blocked ([`prepare`] was not called), and
    /// while another thread has the right.
    pub fn claim() -> Option<ChildSignals> {
        let blocked = SigSet::thread_get_mask().ok()?.contains(Signal::SIGCHLD);
        let free = blocked && !CHILD_SIGNALS_TAKEN.swap(true, Ordering::SeqCst);
        free.then_some(ChildSignals(()))
    }

    /// Sleeps until SIGCHLD comes (or is there already).
    pub fn wait(&self, longest: Duration) -> Heard {
        let set: SigSet = [Signal::SIGCHLD].into_iter().collect();
        let longest = libc::timespec {
            tv_sec: libc::time_t::try_from(longest.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(longest.subsec_nanos().cast_signed()),
        };
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the set and the time are ours and only read; one siginfo_t is written at most.
        let rc = unsafe { libc::sigtimedwait(set.as_ref(), info.as_mut_ptr(), &raw const longest) };
        if rc < 0 {
            return match Errno::last() {
                Errno::EINTR => Heard::Interrupted,
                _ => Heard::Nothing,
            };
        }
        // SAFETY: zeroed is a valid siginfo_t, and the kernel filled what it knows.
        let info = unsafe { info.assume_init() };
        // SAFETY: a SIGCHLD's union holds these fields; one that somebody sent by kill(2) has si_pid at the same place.
        Heard::Of(unsafe { info.si_pid() })
    }
}

impl Drop for ChildSignals {
    fn drop(&mut self) {
        CHILD_SIGNALS_TAKEN.store(false, Ordering::SeqCst);
    }
}

/// Interrupts a thread of ours that sleeps in the kernel. One that is just
/// about to sleep misses it: nudge again until it has answered.
pub fn nudge(tid: i32) {
    let pid = std::process::id() as i32;
    // SAFETY: tgkill has no memory arguments; a stale tid gives ESRCH, and tgid confines it to this process.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, NUDGE as i32) };
}

/// Stops this process as Ctrl-Z would have (SIGTSTP's default action), and
/// returns when it is continued.
pub fn suspend_self() -> Result<(), Errno> {
    nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGSTOP)
}

/// Ends this process at once, as `kill -9` does. For tests of survival.
pub fn kill_self() {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGKILL);
}

/// Sends a signal to a process by pid.
pub fn send(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill has no memory arguments.
    let rc = unsafe { libc::kill(pid, signal) };
    Errno::result(rc).map(drop)
}

/// Sets the orderly signals back to unblocked in a child before it execs.
pub(super) fn unblock_all() {
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigchld_is_heard_where_it_is_blocked_and_by_one_thread_only() {
        let quick = Duration::from_millis(1);
        std::thread::spawn(move || {
            assert!(ChildSignals::claim().is_none(), "it is not blocked yet");
            let set: SigSet = [Signal::SIGCHLD].into_iter().collect();
            pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None).expect("block SIGCHLD");
            let ours = ChildSignals::claim().expect("free");
            assert!(ChildSignals::claim().is_none(), "taken");
            while ours.wait(quick) != Heard::Nothing {}
            let tid = super::super::thread_id();
            let pid = std::process::id() as i32;
            // SAFETY: tgkill has no memory arguments.
            unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGCHLD) };
            assert_eq!(ours.wait(Duration::from_secs(30)), Heard::Of(pid));
            drop(ours);
            assert!(ChildSignals::claim().is_some());
        })
        .join()
        .expect("the thread ran");
    }
}
