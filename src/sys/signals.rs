//! gotap's own signals: which thread takes them, and how a waiting thread is
//! woken.
//!
//! All threads block the orderly-end signals; one thread takes them with
//! sigwait(3). The tracer thread sleeps in waitid(2), which has no way to be
//! told of anything else, so it is nudged by a signal with an empty handler.

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

/// Blocks the orderly signals in this thread and all that it starts, ignores
/// SIGPIPE, and installs the nudge. Call once, before any thread is started.
pub fn prepare() -> Result<(), Errno> {
    let set: SigSet = ORDERLY.into_iter().collect();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
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

/// Sleeps until one of the orderly signals arrives; only for threads that have
/// them blocked.
pub fn wait_orderly() -> Result<Signal, Errno> {
    let set: SigSet = ORDERLY.into_iter().collect();
    set.wait()
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
