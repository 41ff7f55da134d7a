//! `gotap run`: a script of commands on a live process, without a prompt.
//!
//! ```text
//! gotap run slow-reads.gotap -p 4242
//! gotap run slow-reads.gotap -p 4242 -o json > calls.jsonl
//! ```
//!
//! The script is checked first, as `gotap check` does; one that has an error
//! touches nothing. It ends with its last command, when that leaves nothing to
//! wait for, with `exit`, with the time that `for` sets, or with Ctrl-C.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::cli::trace::Output;
use crate::repl::output::Form;
use crate::repl::start::{Ended, Subject, script};
use crate::sys::signals;

/// Arguments of `gotap run`.
#[derive(clap::Args, Debug, Clone)]
#[command(after_long_help = super::manual::RUN)]
pub struct RunArgs {
    /// The script
    #[arg(value_name = "FILE")]
    pub script: PathBuf,
    /// Run it on this process
    #[arg(short, long, value_name = "PID")]
    pub pid: i32,
    /// Take debug information from this file: the program before it was stripped
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// How everything is written: with json, one object a line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Text or JSON.
pub(super) fn form(output: Output) -> Form {
    match output {
        Output::Text => Form::Text,
        Output::Json => Form::Json,
    }
}

/// Runs `gotap run`.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    signals::prepare().context("cannot set up signal handling")?;
    match script(
        &Subject::Process(args.pid),
        args.symbols.as_deref(),
        &args.script,
        form(args.output),
    )? {
        Ended::Well => Ok(()),
        Ended::Failed => bail!("not all of {} could be done", args.script.display()),
    }
}
