//! What the benches of live programs share.
//!
//! [`live`] is what the tests have for building, running and asking Go programs;
//! [`meter`] reads clocks and memory of processes; [`dlv`] runs the other
//! tracer; [`table`] prints both sides of a run. `benches/trace.rs` comes in.
#![allow(dead_code, reason = "shared with the tests, which use more of it")]

pub mod dlv;
#[path = "../../tests/support/mod.rs"]
pub mod live;
pub mod meter;
pub mod table;
