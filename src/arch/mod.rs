//! amd64, and Go's ways with it; knows bytes and addresses, no processes.
//!
//! `prologue`: Go's stack checks; `scan`: a whole function disassembled;
//! `slot`: one instruction moved elsewhere; `handler`: the SIGTRAP handler's
//! machine code; `region`: the injected page, built and read back; `unit`: what a
//! jump replaces; `jump`: trampolines and their ring; `snapshot`: the code that
//! forks a target from outside;
//! `abi`: a signature's registers. Anybody below may come in.

pub mod abi;
pub mod handler;
pub mod jump;
pub mod prologue;
pub mod region;
pub mod scan;
pub mod slot;
pub mod snapshot;
pub mod unit;

#[cfg(test)]
mod testing;
