//! Jumps into generated code: what a trampoline writes down, its machine code,
//! the ring that records go to, and the injected pages that hold it all.
//!
//! `capture`: what is recorded and where in a record it lies; `held`: what is
//! copied with what it points to; `gate`: whether anything is; `handed`: what an
//! entry hands to its RET; `trampoline`: the
//! code; `ring`: shared memory, and reading it; `pages`: the injected code with
//! its owner's name, built and read back. Pure: no process, no symbols. Anybody
//! below may come in.

pub mod capture;
pub mod gate;
pub mod handed;
pub mod held;
pub mod pages;
pub mod ring;
pub mod trampoline;

pub use capture::{Capture, Int, Shape};
pub use gate::{Gate, Mark, Test};
pub use pages::{JumpPages, JumpSite, PagesError};
pub use ring::{Next, Reader, RingLayout};
pub use trampoline::{CannotGenerate, GOffsets, Trampoline, generate};
