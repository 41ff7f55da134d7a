//! Descriptors of processes (pidfd_open(2), Linux 5.3): a signal to one reaches
//! that process or nobody, whatever its number means by then.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// A process, whether it still runs or not.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Of a process that is there.
    pub fn open(pid: i32) -> Result<PidFd, Errno> {
        // SAFETY: pidfd_open takes two numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = Errno::result(fd)?;
        // SAFETY: the kernel gave it to us just now, and nobody else has it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends a signal (pidfd_send_signal(2)); 0 only asks whether it is there.
    /// ESRCH for one that has ended and was waited for.
    pub fn send(&self, signal: i32) -> Result<(), Errno> {
        let fd = self.0.as_raw_fd();
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: no information is passed, so no memory of ours is read.
        let rc = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, nothing, 0) };
        Errno::result(rc).map(drop)
    }

    /// Waits until all its threads have ended (poll(2) on a descriptor of a process
    /// tells that), by whatever thread.
    pub fn await_end(&self) {
        let mut one = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        loop {
            // SAFETY: one descriptor, which lives as long as the call.
            let rc = unsafe { libc::poll(&raw mut one, 1, -1) };
            if Errno::result(rc) != Err(Errno::EINTR) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reaches_one_process_alone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let fd = PidFd::open(child.id().cast_signed()).expect("a descriptor");
        assert_eq!(fd.send(0), Ok(()));
        assert_eq!(fd.send(libc::SIGKILL), Ok(()));
        fd.await_end();
        child.wait().expect("ended");
        assert_eq!(fd.send(libc::SIGKILL), Err(Errno::ESRCH));
    }
}
