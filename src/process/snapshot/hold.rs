//! What holds a copy: by its descriptor, for a number may have become another's.

use nix::errno::Errno;

use crate::sys::PidFd;

/// A copy that is held. It is killed when this is dropped, on any thread; the
/// tracer's thread sees it go.
#[derive(Debug)]
pub struct Hold {
    pid: i32,
    handle: PidFd,
}

impl Hold {
    pub(super) fn new(pid: i32) -> Result<Hold, Errno> {
        let handle = PidFd::open(pid)?;
        Ok(Hold { pid, handle })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// It is still there: nobody killed it for want of memory.
    pub fn is_there(&self) -> bool {
        self.handle.send(0).is_ok()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Err(errno) = self.handle.send(libc::SIGKILL) {
            tracing::debug!(pid = self.pid, %errno, "a copy was gone before");
        }
    }
}
