//! One trait for reading a target's bytes, whatever stands behind it: a live
//! process, a core file, an ELF file's own bytes, an array in a test.
//!
//! Bytes of a target are hostile: readers bound every length they take from
//! it, and treat an unreadable address as an answer, not as a failure.

mod kept;
mod paged;

pub use kept::Keeping;
pub use paged::Paged;

use crate::addr::LiveAddr;

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Nothing is mapped there (or not readable).
    #[error("cannot read {len} bytes at {at}: not mapped")]
    Unmapped {
        /// Where the read began.
        at: LiveAddr,
        /// How many bytes were asked for.
        len: usize,
    },
    /// The target is gone.
    #[error("the process ended while its memory was read")]
    Gone,
}

/// One piece of a batched read.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Where to read.
    pub at: LiveAddr,
    /// Where the bytes go; its length is the number of bytes read.
    pub into: &'a mut [u8],
    /// Set by [`Memory::read_many`]: all of `into` was filled.
    pub ok: bool,
}

/// [`Memory::read_many`] into buffers of its own: what lies at each place, `None`
/// where it could not be read.
pub fn read_each(
    memory: &dyn Memory,
    places: &[(LiveAddr, usize)],
) -> Result<Vec<Option<Vec<u8>>>, MemoryError> {
    let mut buffers: Vec<Vec<u8>> = places.iter().map(|(_, len)| vec![0; *len]).collect();
    let mut pieces: Vec<Piece<'_>> = places
        .iter()
        .zip(&mut buffers)
        .map(|((at, _), into)| Piece {
            at: *at,
            into,
            ok: false,
        })
        .collect();
    memory.read_many(&mut pieces)?;
    let oks: Vec<bool> = pieces.iter().map(|piece| piece.ok).collect();
    let each = oks.into_iter().zip(buffers);
    Ok(each.map(|(ok, bytes)| ok.then_some(bytes)).collect())
}

/// Something whose bytes can be read by address.
pub trait Memory {
    /// Fills `into` from `at`, all of it or an error.
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError>;

    /// Reads several places in as few kernel entries as possible, noting per
    /// piece whether it was read. The default reads them one by one.
    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        for piece in pieces {
            match self.read(piece.at, piece.into) {
                Ok(()) => piece.ok = true,
                Err(MemoryError::Unmapped { .. }) => piece.ok = false,
                Err(gone @ MemoryError::Gone) => return Err(gone),
            }
        }
        Ok(())
    }

    /// A little-endian u64.
    fn read_u64(&self, at: LiveAddr) -> Result<u64, MemoryError> {
        let mut b = [0; 8];
        self.read(at, &mut b)?;
        Ok(u64::from_le_bytes(b))
    }

    /// A little-endian u32.
    fn read_u32(&self, at: LiveAddr) -> Result<u32, MemoryError> {
        let mut b = [0; 4];
        self.read(at, &mut b)?;
        Ok(u32::from_le_bytes(b))
    }

    /// A little-endian u16.
    fn read_u16(&self, at: LiveAddr) -> Result<u16, MemoryError> {
        let mut b = [0; 2];
        self.read(at, &mut b)?;
        Ok(u16::from_le_bytes(b))
    }

    /// One byte.
    fn read_u8(&self, at: LiveAddr) -> Result<u8, MemoryError> {
        let mut b = [0; 1];
        self.read(at, &mut b)?;
        Ok(b[0])
    }

    /// A pointer.
    fn read_addr(&self, at: LiveAddr) -> Result<LiveAddr, MemoryError> {
        self.read_u64(at).map(LiveAddr)
    }

    /// `len` bytes; the caller has bounded `len`.
    fn read_vec(&self, at: LiveAddr, len: usize) -> Result<Vec<u8>, MemoryError> {
        let mut v = vec![0; len];
        self.read(at, &mut v)?;
        Ok(v)
    }
}

impl<M: Memory + ?Sized> Memory for std::rc::Rc<M> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read(at, into)
    }

    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        (**self).read_many(pieces)
    }
}

/// Bytes at chosen addresses: a target for tests, a recorded piece of one.
#[derive(Debug, Default, Clone)]
pub struct Patchwork {
    /// Non-overlapping pieces: where each begins, and its bytes.
    pub pieces: Vec<(LiveAddr, Vec<u8>)>,
}

impl Memory for Patchwork {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let unmapped = MemoryError::Unmapped {
            at,
            len: into.len(),
        };
        for (start, bytes) in &self.pieces {
            let Some(skip) = at.0.checked_sub(start.0) else {
                continue;
            };
            let Some(rest) = usize::try_from(skip).ok().and_then(|s| bytes.get(s..)) else {
                continue;
            };
            if let Some(found) = rest.get(..into.len()) {
                into.copy_from_slice(found);
                return Ok(());
            }
        }
        Err(unmapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patchwork_reads_inside_a_piece_only() {
        let m = Patchwork {
            pieces: vec![(LiveAddr(0x1000), vec![1, 2, 3, 4, 5, 6, 7, 8])],
        };
        assert_eq!(m.read_u32(LiveAddr(0x1002)), Ok(0x0605_0403));
        assert!(m.read_u64(LiveAddr(0x1001)).is_err());
        assert!(m.read_u8(LiveAddr(u64::MAX)).is_err());
    }
}
