//! Sessions: the commands of the prompt and of scripts, run the same way.
//!
//! Who lives here: how sessions begin and end ([`start`]), their loop
//! ([`shell`], `waiting`), where lines come from ([`prompt`], [`complete`]), the commands
//! ([`commands`]), locations to functions ([`resolve`]), tracepoints made ready
//! ([`mod@compile`], [`names`], [`asked`]), breakpoints too ([`breaks`], [`blocks`]), and kept
//! ([`points`]), the tracer while there are any ([`mod@tracing`]), a target that
//! stands still ([`stops`]), frozen copies of it ([`copies`]), variables of goroutines
//! ([`frames`]), records and actions on their way out ([`watcher`], [`output`]), what
//! is wrong with a script ([`mod@check`]), settings ([`config`]), files that Delve
//! wrote ([`delve`]). Nobody here calls ptrace. Allowed in: cli.

pub mod asked;
pub mod blocks;
pub mod breaks;
pub mod check;
pub mod commands;
pub mod compile;
pub mod complete;
pub mod config;
pub mod copies;
pub mod delve;
pub mod frames;
pub mod names;
pub mod output;
pub mod points;
pub mod prompt;
pub mod resolve;
pub mod shell;
pub mod start;
mod stepping;
pub mod stops;
mod terminal;
pub mod tracing;
mod waiting;
pub mod watcher;
