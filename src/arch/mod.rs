//! amd64: registers, decoding, slots, Go's ABI as a pure function.

pub mod abi;
