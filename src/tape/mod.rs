//! Recordings: records in a file, compact, to be read again without the program
//! that they are of.
//!
//! Who lives here: the bytes of a record ([`wire`], [`encode`], [`decode`]), and
//! the file that holds them in blocks ([`mod@file`]). Bytes of a file are as hostile
//! as a target's: lengths are bounded, nothing panics, memory is bounded by a
//! block. Nobody here knows a process. Allowed in: sink, session, cli.
//!
//! ```text
//! "GOTAPTR\x02"                          the last byte counts layouts
//! block*
//!   "GTBK" kind:u8 0 0 0 raw:u32 packed:u32 records:u32 check:u32
//!   packed bytes: a zstd frame with its checksum, `raw` bytes when unpacked
//! ```
//!
//! The first block tells of the program and the command ([`Head`]), the last of
//! what was not written ([`Tail`]); between them are blocks of records. Each
//! block stands for itself: strings and connections are numbered anew in it.
//! So a file that ends anywhere is readable up to there, and a damaged block
//! costs what is in it, which is counted.

pub mod decode;
pub mod encode;
pub mod file;
#[cfg(test)]
mod tests;
pub mod wire;

pub use file::{Head, Item, Tail, TapeError, TapeReader, TapeWriter};
