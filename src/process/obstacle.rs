//! What keeps a process from being jumped in: a reason of one line, after which
//! gotap traps instead.
//!
//! [`find`] asks /proc alone and touches nothing; what shows only when it is
//! tried is told apart by [`of`] from the error that it gave.

use std::io::ErrorKind;

use nix::errno::Errno;

use super::ProcessError;
use super::procfs;
use super::room::find_room;

/// Why no jumps can be put into a process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The processor checks return addresses of a thread against a copy
    /// (Documentation/arch/x86/shstk.rst): code of ours that ends calls is not
    /// tried under it.
    #[error("thread {0} has a shadow stack")]
    ShadowStack(i32),
    /// There is nothing free that a jump of 32 bits reaches.
    #[error("there is no room for {0} bytes within 2 GB of its code")]
    NoRoom(u64),
    /// Executable memory is forbidden.
    #[error("it may not map executable memory: {0} (SELinux, or a filter of system calls)")]
    NoExecutable(Errno),
    /// A system call that is needed is forbidden.
    #[error("it may not {what}: {errno} (a filter of system calls)")]
    Filtered {
        /// What was tried.
        what: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// Its code is not to be written.
    #[error("its code cannot be written: {0} (the kernel's proc_mem.force_override forbids it)")]
    ReadOnlyText(String),
}

/// What stands in the way of jumps in process `pid` with its code at `text`, as
/// far as /proc tells; `len` bytes are to be mapped near the code.
pub fn find(pid: i32, text: (u64, u64), len: u64) -> Result<Option<Obstacle>, ProcessError> {
    for tid in procfs::threads(pid)? {
        if has_shadow_stack(&procfs::thread_features(pid, tid)) {
            return Ok(Some(Obstacle::ShadowStack(tid)));
        }
    }
    match find_room(pid, &procfs::mappings(pid)?, text.0, text.1, len) {
        Ok(_) => Ok(None),
        Err(ProcessError::NoRoom { len, .. }) => Ok(Some(Obstacle::NoRoom(len))),
        Err(error) => Err(error),
    }
}

/// The obstacle that an error means, when it means one: the way by traps may do
/// without what failed.
pub fn of(error: &ProcessError) -> Option<Obstacle> {
    match error {
        ProcessError::NoRoom { len, .. } => Some(Obstacle::NoRoom(*len)),
        ProcessError::Remote { what, errno } if is_forbidden(*errno) => Some(if is_map(what) {
            Obstacle::NoExecutable(*errno)
        } else {
            Obstacle::Filtered {
                what,
                errno: *errno,
            }
        }),
        ProcessError::Filtered { what, errno } => Some(Obstacle::Filtered {
            what,
            errno: *errno,
        }),
        // mem_rw of fs/proc/base.c: EIO where a page may not be written.
        ProcessError::Write { source, .. }
            if source.kind() == ErrorKind::PermissionDenied
                || source.raw_os_error() == Some(libc::EIO) =>
        {
            Some(Obstacle::ReadOnlyText(source.to_string()))
        }
        _ => None,
    }
}

fn is_forbidden(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM | Errno::ENOSYS)
}

fn is_map(what: &str) -> bool {
    what.starts_with("map memory")
}

/// `x86_Thread_features` of /proc/PID/task/TID/status (proc(5)).
fn has_shadow_stack(features: &str) -> bool {
    features.split_whitespace().any(|one| one == "shstk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_stack_is_a_word_of_the_features() {
        assert!(has_shadow_stack("shstk wrss"));
        assert!(has_shadow_stack("wrss shstk"));
        assert!(!has_shadow_stack(""));
        assert!(!has_shadow_stack("wrss"));
    }

    #[test]
    fn each_has_its_line() {
        let forbidden = |what| ProcessError::Remote {
            what,
            errno: Errno::EACCES,
        };
        let line = |error| of(&error).map(|o| o.to_string()).unwrap_or_default();
        assert!(line(forbidden("map memory")).starts_with("it may not map executable memory"));
        assert!(line(forbidden("make shared memory")).starts_with("it may not make shared"));
        let write = |code| ProcessError::Write {
            pid: 1,
            at: 2,
            source: std::io::Error::from_raw_os_error(code),
        };
        assert!(line(write(libc::EIO)).starts_with("its code cannot be written"));
        assert_eq!(of(&write(libc::ENOSPC)), None);
        assert_eq!(of(&ProcessError::Gone(1)), None);
        let room = line(ProcessError::NoRoom { pid: 1, len: 4096 });
        assert!(room.contains("4096 bytes"), "{room}");
        for text in [line(forbidden("map memory")), room] {
            assert!(!text.contains('\n'));
        }
    }

    #[test]
    fn this_process_has_room_for_a_page_and_none_for_everything() {
        let me = std::process::id() as i32;
        let here = this_process_has_room_for_a_page_and_none_for_everything as *const () as u64;
        let text = (here & !0xfff, (here & !0xfff) + 0x1000);
        assert_eq!(find(me, text, 0x4000).unwrap(), None);
        let all = find(me, text, 1 << 33).unwrap();
        assert_eq!(all, Some(Obstacle::NoRoom(1 << 33)));
    }
}
