//! The only room with `unsafe`: thin, safe wrappers of what the kernel offers.
//!
//! Who lives here: ptrace requests, wait status, process_vm_readv, signals,
//! spawning, mapping files, the time stamp counter, prefetching, turns on the processor.
//! Nobody here knows Go or symbols.
//! Every room may come in; ptrace itself is for `process/` on the tracer thread.
#![allow(unsafe_code)]

mod mapfile;
mod pidfd;
mod prefetch;
pub mod ptrace;
pub mod sched;
mod shared;
pub mod signals;
pub mod spawn;
pub mod tsc;
pub mod vm;
pub mod wait;

pub use mapfile::{Mapped, map_file};
pub use pidfd::PidFd;
pub use prefetch::prefetch;
pub use shared::{Shared, map_shared};

/// General purpose registers of a stopped thread (`struct user_regs_struct`).
pub type Regs = libc::user_regs_struct;

/// Registers that are all 0.
pub fn no_registers() -> Regs {
    // SAFETY: user_regs_struct is a plain struct of integers, for which 0 is valid.
    unsafe { std::mem::zeroed() }
}

/// The kernel's id of the calling thread (gettid(2)).
pub fn thread_id() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// True when the file descriptor is a terminal.
pub fn is_terminal(fd: &impl std::os::fd::AsFd) -> bool {
    nix::unistd::isatty(fd).unwrap_or(false)
}

/// Lines that a terminal shows; `None` when it is none, or does not say
/// (tty_ioctl(4): TIOCGWINSZ).
pub fn terminal_rows(fd: &impl std::os::fd::AsFd) -> Option<usize> {
    use std::os::fd::AsRawFd;
    let mut size = std::mem::MaybeUninit::<libc::winsize>::zeroed();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: TIOCGWINSZ writes one winsize at the pointer given.
    let rc = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, size.as_mut_ptr()) };
    // SAFETY: zeroed is a valid winsize.
    let size = unsafe { size.assume_init() };
    (rc == 0 && size.ws_row > 0).then_some(usize::from(size.ws_row))
}
