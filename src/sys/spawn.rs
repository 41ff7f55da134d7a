//! Starting a program so that it can be seized before its first instruction.

use std::ffi::CString;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::{ForkResult, Pid, fork, pipe2};

/// A child that waits before exec until [`Held::release`].
#[derive(Debug)]
pub struct Held {
    pid: Pid,
    go: OwnedFd,
    failure: OwnedFd,
}

/// Forks a child that will run `argv` (found in PATH as a shell would) once
/// released. With `stdout_to_stderr` its standard output goes to ours' error,
/// so that gotap's stdout stays data. `apart`: it reads nothing from where gotap reads
/// commands, and what is typed at the terminal reaches it neither as a signal: it has a
/// process group of its own. The child belongs to the calling thread.
pub fn spawn_held(argv: &[OsString], stdout_to_stderr: bool, apart: bool) -> io::Result<Held> {
    let nul = |_| io::Error::new(io::ErrorKind::InvalidInput, "an argument holds a NUL byte");
    let args: Vec<CString> = argv
        .iter()
        .map(|a| CString::new(a.as_bytes()).map_err(nul))
        .collect::<Result<_, _>>()?;
    let Some(program) = args.first() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no program named",
        ));
    };
    let mut pointers: Vec<*const libc::c_char> = args.iter().map(|a| a.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let null = || std::fs::File::open("/dev/null");
    let nothing = apart.then(null).transpose()?;
    let (go_read, go_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (fail_read, fail_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: the child calls only async-signal-safe functions until it execs or _exits; all memory it uses was prepared above.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Held {
            pid: child,
            go: go_write,
            failure: fail_read,
        }),
        ForkResult::Child => {
            super::signals::unblock_all();
            let mut byte = [0u8];
            // Both ends of `go` were inherited: without closing ours a dead parent would leave us waiting.
            drop(go_write);
            let released = nix::unistd::read(&go_read, &mut byte) == Ok(1);
            if released {
                if let Some(nothing) = &nothing {
                    let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
                    let _ = nix::unistd::dup2_stdin(nothing.as_fd());
                }
                if stdout_to_stderr {
                    let _ = nix::unistd::dup2_stdout(io::stderr().as_fd());
                }
                let _ = reset_sigpipe();
                // SAFETY: program and pointers are NUL-terminated and outlive the call.
                unsafe { libc::execvp(program.as_ptr(), pointers.as_ptr()) };
                let errno = nix::errno::Errno::last_raw().to_le_bytes();
                let _ = nix::unistd::write(&fail_write, &errno);
            }
            // SAFETY: _exit ends the child without running destructors or atexit handlers.
            unsafe { libc::_exit(127) }
        }
    }
}

fn reset_sigpipe() -> nix::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(Signal::SIGPIPE, &default) }.map(drop)
}

impl Held {
    /// The child's process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Lets the child exec. Why that failed, if it did, is told by the reader
    /// given back: four bytes of errno, or end of file on success.
    pub fn release(self) -> io::Result<ExecOutcome> {
        nix::unistd::write(&self.go, &[1])?;
        Ok(ExecOutcome {
            failure: self.failure,
        })
    }
}

/// Tells whether a released child's exec failed.
#[derive(Debug)]
pub struct ExecOutcome {
    failure: OwnedFd,
}

impl ExecOutcome {
    /// The error of exec(2), if it failed. Blocks until the child has tried.
    pub fn error(self) -> Option<io::Error> {
        debug_assert!(self.failure.as_raw_fd() >= 0);
        let mut bytes = [0u8; 4];
        let mut file = std::fs::File::from(self.failure);
        match file.read_exact(&mut bytes) {
            Ok(()) => Some(io::Error::from_raw_os_error(i32::from_le_bytes(bytes))),
            Err(_) => None,
        }
    }
}
