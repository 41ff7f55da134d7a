//! A live process: attach, launch, detach; its threads as they come and go;
//! the bytes at sites; system calls made in its name. And a process as it was
//! when it ended ([`core`]).
//!
//! Who lives here: everything that calls ptrace, on the one tracer thread.
//! Nobody here knows symbols or Go. Allowed in: session (and ps, which only lists).

mod by_hand;
mod children;
pub mod core;
pub mod details;
mod die;
mod extend;
pub mod halt;
pub mod jump;
mod launch;
mod leave;
mod leftover;
pub mod list;
pub mod memory;
pub mod obstacle;
pub mod procfs;
pub mod quiet;
pub mod region;
mod remote;
mod room;
pub mod snapshot;
pub mod sockets;
mod still;
pub mod tracer;
mod watch;

pub use core::{Core, CoreError};
pub use halt::Alone;
pub use jump::{Jumped, Jumps};
pub use memory::ProcessMemory;
pub use still::{Still, StillThread};
pub use tracer::{Event, Tracer};

use std::path::PathBuf;

/// What can go wrong with a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is none.
    #[error("no process with pid {0}")]
    NoSuchProcess(i32),
    /// A thread id was given.
    #[error("{tid} is a thread of process {pid}: use -p {pid}")]
    IsThread {
        /// What was given.
        tid: i32,
        /// Its process.
        pid: i32,
    },
    /// It ended while gotap worked on it.
    #[error("process {0} ended")]
    Gone(i32),
    /// A zombie, or a kernel thread: nothing to trace.
    #[error("process {pid} {why}")]
    NotTraceable {
        /// Process.
        pid: i32,
        /// Why.
        why: &'static str,
    },
    /// Somebody else traces it.
    #[error("process {pid} is already traced by {tracer} (pid {tracer_pid}); end that first")]
    AlreadyTraced {
        /// Process.
        pid: i32,
        /// The tracer's name.
        tracer: String,
        /// The tracer's pid.
        tracer_pid: i32,
    },
    /// A gotap that is alive has this target armed.
    #[error("process {pid} is traced by another gotap (pid {owner}); end that first")]
    OwnedByGotap {
        /// Process.
        pid: i32,
        /// The other gotap.
        owner: i32,
    },
    /// The kernel refuses.
    #[error("no permission to trace process {pid}: {advice}")]
    Denied {
        /// Process.
        pid: i32,
        /// What to do.
        advice: String,
    },
    /// A file under /proc could not be read.
    #[error("cannot read {path}: {source}")]
    Proc {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A ptrace request failed.
    #[error("{what} on thread {tid} failed: {errno}")]
    Ptrace {
        /// The request.
        what: &'static str,
        /// The thread.
        tid: i32,
        /// Why.
        errno: nix::errno::Errno,
    },
    /// A system call made in the target failed.
    #[error("the target could not {what}: {errno}")]
    Remote {
        /// What was tried.
        what: &'static str,
        /// Why.
        errno: nix::errno::Errno,
    },
    /// The same, and it filters its system calls.
    #[error(
        "the target could not {what}: {errno}; it filters its system calls (seccomp): run gotap with CAP_SYS_ADMIN, which may suspend that for its own"
    )]
    Filtered {
        /// What was tried.
        what: &'static str,
        /// Why.
        errno: nix::errno::Errno,
    },
    /// Its memory could not be written.
    #[error("cannot write the memory of process {pid} at {at:#x}: {source}")]
    Write {
        /// Process.
        pid: i32,
        /// Where.
        at: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The code differs from the file's.
    #[error(
        "the code of process {pid} at {at:#x} is not what its file says ({found:02x} for {expected:02x}): another tool has changed it"
    )]
    ForeignBytes {
        /// Process.
        pid: i32,
        /// Where.
        at: u64,
        /// What is there.
        found: u8,
        /// What should be.
        expected: u8,
    },
    /// No free room within reach of the code.
    #[error("no room for {len} bytes within 2 GB of the code of process {pid}")]
    NoRoom {
        /// Process.
        pid: i32,
        /// How much.
        len: u64,
    },
    /// The injected region could not be built or read back.
    #[error("cannot put trace code into process {pid}: {why}")]
    Region {
        /// Process.
        pid: i32,
        /// Why.
        why: String,
    },
    /// No frozen copy is to be had.
    #[error("no snapshot of process {pid}: {why}")]
    Snapshot {
        /// Process.
        pid: i32,
        /// Why.
        why: String,
    },
    /// It is another program now.
    #[error("process {0} started another program meanwhile (exec)")]
    Replaced(i32),
    /// A thread does not stop.
    #[error("a thread of process {0} does not stop: it is stuck in the kernel; try again")]
    Stuck(i32),
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Exec {
        /// What was to be started.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}
