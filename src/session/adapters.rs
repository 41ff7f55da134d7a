//! The image's own bytes behind the memory trait.
//!
//! Type descriptors are read from the file alone, in the file's own addresses:
//! they never change, and reading them costs the target nothing.

use std::sync::Arc;

use crate::addr::LiveAddr;
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

/// The program's types, found by the addresses that its values hold.
pub type LiveTypes = dynamic::LiveTypes<Arc<RttiTypes<FileMemory>>>;
