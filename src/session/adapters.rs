//! The image's own bytes behind the memory trait.
//!
//! Type descriptors are read from the file alone, in the file's own addresses:
//! they never change, and reading them costs the target nothing.

use std::sync::Arc;

use crate::addr::{Bias, LiveAddr};
use crate::golang::dynamic;
use crate::image::Image;
use crate::image::rtti::RttiTypes;
use crate::memory::{Memory, MemoryError};

/// An image's own bytes, at the addresses the file gives them.
#[derive(Debug, Clone)]
pub struct FileMemory(pub Arc<Image>);

impl Memory for FileMemory {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.memory().read(at, into)
    }
}

/// What of the file can never be another in the process: bytes of segments that
/// are not writable. Reading them needs no process.
#[derive(Debug, Clone)]
pub struct Constants {
    /// The file.
    pub image: Arc<Image>,
    /// Where it was loaded.
    pub bias: Bias,
}

impl Constants {
    /// Fills `into`; false when not all of it is constant.
    pub fn read(&self, at: LiveAddr, into: &mut [u8]) -> bool {
        let at = self.bias.image(at);
        let segments = self.image.segments();
        let found = segments
            .iter()
            .any(|segment| segment.contains(at) && !segment.writable)
            .then(|| self.image.bytes(at, into.len()));
        found.flatten().is_some_and(|bytes| {
            into.copy_from_slice(bytes);
            true
        })
    }
}

/// The program's types, found by the addresses that its values hold.
pub type LiveTypes = dynamic::LiveTypes<Arc<RttiTypes<FileMemory>>>;
