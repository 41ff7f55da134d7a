//! Go's runtime and standard library read through [`crate::memory::Memory`]:
//! field offsets by name ([`layout`]), globals of a stripped binary
//! ([`globals`]), goroutines ([`gs`]), stacks ([`stack`], [`inside`]),
//! memory statistics ([`memstats`]), connections ([`net`]), error values ([`errors`]) and what is known of the
//! functions that people trace ([`family`]).
//! Nobody here knows how memory is read; allowed in: value, script, probe, record, sink, session, cli.

pub mod dynamic;
pub mod endpoint;
pub mod errors;
pub mod family;
pub mod globals;
pub mod gs;
pub mod inside;
pub mod layout;
pub mod memstats;
pub mod net;
pub mod stack;
#[cfg(test)]
mod testing;
pub mod witness;
