//! From patterns to sites, from hits to calls.
//!
//! Who lives here: the plan of sites, which of them can jump, what is never
//! armed, the joining of hits into calls, the decoding of arguments and results.
//! Nobody here knows sinks or terminals. Allowed in: session, cli.

pub mod decode;
pub mod hash;
pub mod hot;
pub mod join;
pub mod jump;
pub mod never;
pub mod plan;
