//! A file's bytes in the page cache, read in place.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A read-only mapping of a whole file. An empty file maps to no bytes.
#[derive(Debug, Default)]
pub struct Mapped(Option<memmap2::Mmap>);

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Maps a file privately and read-only.
///
/// Meant for executables: while one runs the kernel refuses to write to it
/// (ETXTBSY), and installers replace files by renaming. And for core files,
/// which only grow while they are written.
pub fn map_file(file: &File) -> io::Result<Mapped> {
    if file.metadata()?.len() == 0 {
        return Ok(Mapped(None));
    }
    // SAFETY: the bytes are only ever looked at as u8, through bounds-checked
    // slices of the length at the time of mapping, so a change of content is
    // harmless. Shortening the file meanwhile would raise SIGBUS: the files
    // mapped here are executables, which the kernel keeps from being written
    // to while they run and which are replaced by rename otherwise, and core
    // files, which nobody shortens once they are begun.
    let map = unsafe { memmap2::Mmap::map(file) }?;
    Ok(Mapped(Some(map)))
}
