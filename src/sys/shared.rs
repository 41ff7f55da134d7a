//! Memory that gotap shares with another process.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;

/// A shared, writable mapping of a whole file, as words that anybody may change
/// at any time. The file must not shrink while it is mapped.
#[derive(Debug)]
pub struct Shared {
    map: memmap2::MmapRaw,
}

impl Deref for Shared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        #[allow(clippy::cast_ptr_alignment, reason = "mappings begin at a page")]
        let at = self.map.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping lives as long as self, is page aligned and holds
        // len bytes; AtomicU64 is as large as a word, any bits are valid for it,
        // and it may be written by others, through other mappings too.
        unsafe { std::slice::from_raw_parts(at, self.map.len() / 8) }
    }
}

/// Maps `len` bytes of a file that others have mapped too. `file` is sealed
/// against shrinking first where that is possible (memfd_create(2)), or the
/// other side could have gotap killed by SIGBUS.
pub fn map_shared(file: &File, len: u64) -> io::Result<Shared> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
    if file.metadata()?.len() < len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it is shorter than it should be",
        ));
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let map = memmap2::MmapOptions::new().len(len).map_raw(file)?;
    Ok(Shared { map })
}
