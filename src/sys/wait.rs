//! Waiting for tracees, and the one decoder from raw status to an enum.
//!
//! Raw waitid(2) on purpose: a stop must stay unconsumed (`WNOWAIT`) until it
//! is dealt with, so that its signal is still delivered if gotap dies; and
//! `nix`'s decoder refuses stops by real-time signals.

use nix::errno::Errno;

/// What a wait reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A tracee stopped.
    Stopped {
        /// Which thread.
        tid: i32,
        /// Why.
        stop: Stop,
    },
    /// A thread (or, for the leader, the process) exited.
    Exited {
        /// Which thread.
        tid: i32,
        /// Exit status.
        code: i32,
    },
    /// A thread (the process) was killed by a signal.
    Killed {
        /// Which thread.
        tid: i32,
        /// By which signal.
        signal: i32,
        /// A core was dumped.
        core: bool,
    },
    /// A signal handler of ours ran.
    Interrupted,
    /// With `nohang`: nobody has anything to report.
    Nothing,
    /// There is nobody to wait for.
    NoTracees,
}

/// Why a tracee stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// About to be given this signal.
    Signal(i32),
    /// The beginning or the end of a system call, when that was asked for.
    Syscall,
    /// `PTRACE_EVENT_STOP` by interrupt, or a new tracee's first stop.
    Interrupt,
    /// `PTRACE_EVENT_STOP` of a group stop by this signal.
    Group(i32),
    /// A new thread of the same process; the event message is its id.
    Clone,
    /// A child with its own memory.
    Fork,
    /// A child that shares memory until it execs.
    Vfork,
    /// A new program runs.
    Exec,
    /// An event that was not asked for.
    Other(i32),
}

/// Decodes `si_code`/`si_status` as waitid(2) gives them for a tracee.
pub fn decode(tid: i32, code: i32, status: i32) -> Wait {
    match code {
        libc::CLD_EXITED => Wait::Exited { tid, code: status },
        libc::CLD_KILLED => Wait::Killed {
            tid,
            signal: status,
            core: false,
        },
        libc::CLD_DUMPED => Wait::Killed {
            tid,
            signal: status,
            core: true,
        },
        _ => Wait::Stopped {
            tid,
            stop: decode_stop(status),
        },
    }
}

/// linux/ptrace.h
const PTRACE_EVENT_STOP: i32 = 128;

/// With `PTRACE_O_TRACESYSGOOD`, see ptrace(2).
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

fn decode_stop(status: i32) -> Stop {
    let signal = status & 0xff;
    match status >> 8 {
        0 if signal == SYSCALL_STOP => Stop::Syscall,
        0 => Stop::Signal(signal),
        PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Stop::Interrupt,
        PTRACE_EVENT_STOP => Stop::Group(signal),
        libc::PTRACE_EVENT_CLONE => Stop::Clone,
        libc::PTRACE_EVENT_FORK => Stop::Fork,
        libc::PTRACE_EVENT_VFORK => Stop::Vfork,
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        other => Stop::Other(other),
    }
}

/// Every change of state that a tracer is told of.
const CHANGES: i32 = libc::WEXITED | libc::WSTOPPED;

/// Whom to wait for.
#[derive(Debug, Clone, Copy)]
pub enum Whom {
    /// Any tracee or child of this thread.
    Any,
    /// This one.
    Tid(i32),
}

/// Waits for a change of state of this thread's tracees, without consuming it
/// ([`consume`] does that). `nohang` returns at once.
pub fn peek(whom: Whom, nohang: bool) -> Wait {
    let hang = if nohang { libc::WNOHANG } else { 0 };
    wait(whom, CHANGES | libc::WNOWAIT | hang)
}

/// [`peek`] for ends alone: stops of others do not stand before them.
pub fn peek_end() -> Wait {
    wait(Whom::Any, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG)
}

/// Takes a reported stop off, so that it is not reported again. Never for a
/// signal stop that still has to be delivered: the kernel forgets the signal if
/// the tracer dies after this. An end that came meanwhile stays to be seen.
pub fn consume(tid: i32) {
    let _ = wait(Whom::Tid(tid), libc::WSTOPPED | libc::WNOHANG);
}

/// Takes a reported end off: the thread is gone for good.
pub fn consume_end(tid: i32) -> Wait {
    wait(Whom::Tid(tid), libc::WEXITED | libc::WNOHANG)
}

/// Waits until `tid` changes state, and consumes that.
pub fn await_one(tid: i32) -> Wait {
    loop {
        match wait(Whom::Tid(tid), CHANGES) {
            Wait::Interrupted => {}
            other => return other,
        }
    }
}

fn wait(whom: Whom, flags: i32) -> Wait {
    let (kind, id) = match whom {
        Whom::Any => (libc::P_ALL, 0),
        Whom::Tid(tid) => (libc::P_PID, tid as libc::id_t),
    };
    let flags = flags | libc::__WALL | libc::__WNOTHREAD;
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: waitid writes at most one siginfo_t at the pointer given.
    let rc = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), flags) };
    if rc < 0 {
        return match Errno::last() {
            Errno::EINTR => Wait::Interrupted,
            _ => Wait::NoTracees,
        };
    }
    // SAFETY: zeroed is a valid siginfo_t, and waitid filled what it knows.
    let info = unsafe { info.assume_init() };
    // SAFETY: for SIGCHLD-shaped info (waitid always gives that) these fields are the union's valid ones; zero if nothing was reported.
    let tid = unsafe { info.si_pid() };
    if tid == 0 {
        return Wait::Nothing;
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    decode(tid, info.si_code, status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_stop_is_told_apart() {
        let stopped = |status| decode(7, libc::CLD_TRAPPED, status);
        let stop = |stop| Wait::Stopped { tid: 7, stop };
        assert_eq!(stopped(5), stop(Stop::Signal(libc::SIGTRAP)));
        assert_eq!(stopped(5 | 0x80), stop(Stop::Syscall));
        assert_eq!(
            stopped(33),
            stop(Stop::Signal(33)),
            "real-time signals have numbers only"
        );
        assert_eq!(stopped(128 << 8 | 5), stop(Stop::Interrupt));
        assert_eq!(stopped(0x80 << 8 | 0x13), stop(Stop::Group(libc::SIGSTOP)));
        assert_eq!(stopped(3 << 8 | 5), stop(Stop::Clone));
        assert_eq!(stopped(1 << 8 | 5), stop(Stop::Fork));
        assert_eq!(stopped(2 << 8 | 5), stop(Stop::Vfork));
        assert_eq!(stopped(4 << 8 | 5), stop(Stop::Exec));
        assert_eq!(stopped(6 << 8 | 5), stop(Stop::Other(6)));
        assert_eq!(
            decode(7, libc::CLD_EXITED, 3),
            Wait::Exited { tid: 7, code: 3 }
        );
        assert_eq!(
            decode(7, libc::CLD_DUMPED, 6),
            Wait::Killed {
                tid: 7,
                signal: 6,
                core: true
            }
        );
    }

    #[test]
    fn a_thread_without_tracees_has_nobody_to_wait_for() {
        std::thread::spawn(|| assert_eq!(peek(Whom::Any, true), Wait::NoTracees))
            .join()
            .expect("the thread ran");
    }
}
