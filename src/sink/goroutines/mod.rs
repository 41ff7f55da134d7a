//! How a look at goroutines is written.
//!
//! Who lives here: the table for people ([`table`]), a stack with the variables
//! of its frames ([`full`]), one JSON object
//! ([`json`]), the text of the runtime's own tracebacks ([`traceback`]) and a
//! profile for `go tool pprof` ([`profile`]). Allowed in: session, cli.

pub mod full;
pub mod json;
pub mod profile;
pub mod table;
#[cfg(test)]
mod tests;
pub mod traceback;
