//! Reading another process's memory: process_vm_readv(2).

use std::io::IoSliceMut;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// The most pieces one call takes (`UIO_MAXIOV`).
pub const MAX_PIECES: usize = 1024;

/// Reads one range; the number of bytes read, less than asked for where the
/// mapping ends.
pub fn read(pid: i32, at: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let remote = [RemoteIoVec {
        base: at as usize,
        len: into.len(),
    }];
    process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(into)], &remote)
}

/// Reads many ranges in one call. The kernel stops at the first it cannot read:
/// the result is the number of bytes of the ranges before it.
pub fn read_many(
    pid: i32,
    into: &mut [IoSliceMut<'_>],
    from: &[RemoteIoVec],
) -> Result<usize, Errno> {
    process_vm_readv(Pid::from_raw(pid), into, from)
}
