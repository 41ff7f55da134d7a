//! A live process's memory behind the [`Memory`] trait.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::uio::RemoteIoVec;

use super::ProcessError;
use crate::addr::LiveAddr;
use crate::memory::{Memory, MemoryError, Piece};
use crate::sys::vm;

/// Bytes that one system call copies at most. Where the kernel does not preempt
/// itself (CONFIG_PREEMPT_NONE), a thread of the target that wakes up on this
/// processor waits for the whole copy: 8 MB, the array of a million goroutines,
/// are some milliseconds.
const ONE_CALL: usize = 128 << 10;

/// Reads by process_vm_readv, writes through `/proc/PID/mem` (which also
/// reaches code and other read-only pages, copy on write).
#[derive(Debug)]
pub struct ProcessMemory {
    pid: i32,
    file: Option<File>,
    remote: RefCell<Vec<RemoteIoVec>>,
}

impl ProcessMemory {
    /// For reading alone.
    pub fn read_only(pid: i32) -> ProcessMemory {
        ProcessMemory {
            pid,
            file: None,
            remote: RefCell::default(),
        }
    }

    /// For reading and writing.
    pub fn open(pid: i32) -> Result<ProcessMemory, ProcessError> {
        let path = format!("/proc/{pid}/mem");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => super::procfs::denied(pid),
                Some(libc::ENOENT | libc::ESRCH) => ProcessError::NoSuchProcess(pid),
                _ => ProcessError::Proc {
                    path: path.into(),
                    source,
                },
            })?;
        Ok(ProcessMemory {
            pid,
            file: Some(file),
            remote: RefCell::default(),
        })
    }

    /// The same, once more.
    pub fn again(&self) -> Result<ProcessMemory, ProcessError> {
        let file = self.file.as_ref().map(File::try_clone).transpose();
        Ok(ProcessMemory {
            pid: self.pid,
            file: file.map_err(|source| ProcessError::Proc {
                path: format!("/proc/{}/mem", self.pid).into(),
                source,
            })?,
            remote: RefCell::default(),
        })
    }

    /// Which process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Can it be read at all? Says what to do when it cannot; `at` is mapped.
    pub fn check(&self, at: LiveAddr) -> Result<(), ProcessError> {
        match vm::read(self.pid, at.0, &mut [0; 1]) {
            Err(Errno::EPERM) => Err(super::procfs::denied(self.pid)),
            Err(Errno::ESRCH) => Err(ProcessError::Gone(self.pid)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A process whose first thread has ended lives on, but only an open
    /// `/proc/PID/mem` still reaches its memory.
    fn read_file(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let len = into.len();
        let file = self.file.as_ref().ok_or(MemoryError::Gone)?;
        match file.read_at(into, at.0) {
            Ok(n) if n == len => Ok(()),
            // No memory any more (mem_rw in the kernel's fs/proc/base.c).
            Ok(0) => Err(MemoryError::Gone),
            Ok(_) | Err(_) => Err(MemoryError::Unmapped { at, len }),
        }
    }

    /// Writes all of `bytes`.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), ProcessError> {
        let failed = |source| ProcessError::Write {
            pid: self.pid,
            at,
            source,
        };
        let Some(file) = &self.file else {
            return Err(failed(std::io::ErrorKind::PermissionDenied.into()));
        };
        file.write_all_at(bytes, at)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ESRCH) => ProcessError::Gone(self.pid),
                // The address space of a process that has exited takes no bytes.
                _ if source.kind() == std::io::ErrorKind::WriteZero => ProcessError::Gone(self.pid),
                _ => failed(source),
            })
    }
}

impl Memory for ProcessMemory {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        if into.is_empty() {
            return Ok(());
        }
        let len = into.len();
        let mut from = at;
        for part in into.chunks_mut(ONE_CALL) {
            let wanted = part.len();
            match vm::read(self.pid, from.0, part) {
                Ok(n) if n == wanted => {}
                Err(Errno::ESRCH) => self.read_file(from, part)?,
                Ok(_) | Err(_) => return Err(MemoryError::Unmapped { at, len }),
            }
            from = from.offset(wanted as u64);
        }
        Ok(())
    }

    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        let mut rest = pieces;
        while !rest.is_empty() {
            let taken = one_batch(rest);
            if let ([large, ..], 0) = (&mut *rest, taken) {
                large.ok = match self.read(large.at, large.into) {
                    Err(MemoryError::Gone) => return Err(MemoryError::Gone),
                    read => read.is_ok(),
                };
                rest = rest.split_at_mut(1).1;
                continue;
            }
            let (batch, _) = rest.split_at_mut(taken);
            let got = {
                let mut remote = self.remote.borrow_mut();
                remote.clear();
                remote.extend(batch.iter().map(|p| RemoteIoVec {
                    base: p.at.0 as usize,
                    len: p.into.len(),
                }));
                let mut local: Vec<IoSliceMut<'_>> =
                    batch.iter_mut().map(|p| IoSliceMut::new(p.into)).collect();
                match vm::read_many(self.pid, &mut local, &remote) {
                    Ok(n) => n,
                    Err(Errno::ESRCH) if self.file.is_none() => return Err(MemoryError::Gone),
                    Err(Errno::ESRCH) => {
                        for piece in batch.iter_mut() {
                            piece.ok = self.read_file(piece.at, piece.into).is_ok();
                        }
                        rest = rest.split_at_mut(taken).1;
                        continue;
                    }
                    Err(_) => 0,
                }
            };
            // Whole pieces up to `got` were read; the one behind them could not be.
            let (mut done, mut bytes) = (0, 0);
            for piece in batch.iter_mut() {
                bytes += piece.into.len();
                if bytes > got {
                    break;
                }
                piece.ok = true;
                done += 1;
            }
            if let Some(failed) = batch.get_mut(done) {
                failed.ok = false;
                done += 1;
            }
            rest = rest.split_at_mut(done).1;
        }
        Ok(())
    }
}

/// How many of the first pieces one call reads; 0 where the first is too large
/// for one.
fn one_batch(pieces: &[Piece<'_>]) -> usize {
    let mut bytes = 0usize;
    let fits = |piece: &&Piece<'_>| {
        bytes = bytes.saturating_add(piece.into.len());
        bytes <= ONE_CALL
    };
    let pieces = pieces.iter().take(vm::MAX_PIECES);
    pieces.take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_one_call_is_read_whole() {
        let mem = ProcessMemory::read_only(std::process::id() as i32);
        let words: Vec<u64> = (0..(5 * ONE_CALL / 16) as u64).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let at = LiveAddr(words.as_ptr() as u64);
        let mut all = vec![0; bytes.len()];
        mem.read(at, &mut all).expect("we are alive");
        assert_eq!(all, bytes);

        let piece = |into| Piece {
            at,
            into,
            ok: false,
        };
        let (mut a, mut b, mut c) = (vec![0; 8], vec![0; bytes.len()], vec![0; ONE_CALL]);
        let mut pieces = [piece(&mut a), piece(&mut b), piece(&mut c)];
        mem.read_many(&mut pieces).expect("we are alive");
        assert!(pieces.iter().all(|p| p.ok));
        assert_eq!(
            (&a[..], &b[..], &c[..]),
            (&bytes[..8], &bytes[..], &bytes[..ONE_CALL])
        );
    }

    #[test]
    fn our_own_bytes_read_back_and_a_hole_is_named() {
        let mem = ProcessMemory::read_only(std::process::id() as i32);
        let words = [1u64, 2, 3];
        let at = LiveAddr(words.as_ptr() as u64);
        assert_eq!(mem.read_u64(at.offset(8)), Ok(2));
        assert!(matches!(
            mem.read_u64(LiveAddr(8)),
            Err(MemoryError::Unmapped { .. })
        ));

        let (mut a, mut b, mut c) = ([0; 8], [0; 8], [0; 8]);
        let mut pieces = [
            Piece {
                at,
                into: &mut a,
                ok: false,
            },
            Piece {
                at: LiveAddr(8),
                into: &mut b,
                ok: true,
            },
            Piece {
                at: at.offset(16),
                into: &mut c,
                ok: false,
            },
        ];
        mem.read_many(&mut pieces).expect("we are alive");
        assert_eq!(
            pieces.iter().map(|p| p.ok).collect::<Vec<_>>(),
            [true, false, true]
        );
        assert_eq!((u64::from_le_bytes(a), u64::from_le_bytes(c)), (1, 3));
    }
}
