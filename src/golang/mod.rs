//! Go's runtime and standard library read through [`crate::memory::Memory`]:
//! field offsets by name ([`layout`]), globals of a stripped binary
//! ([`globals`]), goroutines ([`gs`], all that their structs tell: [`census`],
//! what they wait for: [`polled`], [`blocked`], [`labels`]), stacks ([`parked`],
//! [`onthread`], [`stack`], [`inside`]), where steps end ([`step`]), which rest in the middle of code ([`resting`]),
//! memory statistics ([`memstats`]), connections ([`net`]), error values
//! ([`errors`]) and what is known of the functions that people trace ([`family`]).
//! Nobody here knows how memory is read; allowed in: value, script, probe, record, sink, session, cli.

pub mod args;
pub mod blocked;
pub mod census;
pub mod copied;
pub mod dynamic;
pub mod endpoint;
pub mod errors;
pub mod family;
pub mod globals;
pub mod gs;
pub mod inside;
pub mod labels;
pub mod layout;
pub mod memstats;
pub mod net;
pub mod onthread;
pub mod parked;
pub mod polled;
pub mod resting;
pub mod stack;
pub mod step;
#[cfg(test)]
mod testing;
pub mod vitals;
pub mod witness;
