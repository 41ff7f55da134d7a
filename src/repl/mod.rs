//! Sessions: the commands of the prompt and of scripts, run the same way.
//!
//! Who lives here: locations to functions ([`resolve`]), tracepoints made ready
//! ([`mod@compile`], [`names`]), what is wrong with a script ([`mod@check`]).
//! Nobody here calls ptrace. Allowed in: cli.

pub mod check;
pub mod compile;
pub mod names;
pub mod resolve;
