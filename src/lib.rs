//! gotap watches what a live Go process does with its sockets, from outside.
//!
//! The rooms, lowest first; a room uses only rooms above it in this list
//! (`tests/house.rs` enforces it, ARCHITECTURE.md follows one command through):
//!
//! - [`sys`]: the only `unsafe`: ptrace, wait status, process_vm_readv, signals
//! - [`arch`]: amd64: registers, decoding, slots, Go's ABI as a pure function
//! - [`addr`], [`memory`]: address types and the one trait that reads target bytes
//! - [`image`]: what is known of one ELF file
//! - [`process`]: attach, launch, detach; tracees; site bytes; remote syscalls
//! - [`golang`]: Go's runtime read through [`memory`]
//! - [`value`]: typed values: load under limits, render
//! - [`script`]: the language of expressions and commands
//! - [`record`]: what leaves the engine, as plain data
//! - [`probe`]: patterns → sites; hits → calls
//! - [`tape`]: recordings: records in a file, and back
//! - [`survey`]: what every goroutine is doing, as plain data: groups, verdict
//! - [`sink`]: how records are written
//! - [`session`]: the engine on its tracer thread
//! - [`repl`]: sessions: the commands of the prompt and of scripts
//! - [`cli`]: the command line

pub mod addr;
pub mod arch;
pub mod cli;
pub mod golang;
pub mod image;
pub mod memory;
pub mod probe;
pub mod process;
pub mod record;
pub mod repl;
pub mod script;
pub mod session;
pub mod sink;
pub mod survey;
pub mod sys;
pub mod tape;
pub mod value;
