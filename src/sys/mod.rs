//! The only room with `unsafe`: thin, safe wrappers of what the kernel offers.
//!
//! Who lives here: ptrace requests, wait status, process_vm_readv, signals,
//! spawning. Nobody here knows Go or symbols. Every room may come in.
#![allow(unsafe_code)]

mod mapfile;

pub use mapfile::{Mapped, map_file};
