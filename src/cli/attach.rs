//! `gotap attach`: commands at a prompt, on a live process or a core file.
//!
//! ```text
//! gotap attach 4242
//! gotap attach 4242 --script slow-reads.gotap
//! gotap attach --core core.4242 ./server
//! echo 'goroutines -group reason' | gotap attach 4242
//! ```
//!
//! The target runs on: attaching stops nothing, and nothing is put into it
//! before the first tracepoint. `help` lists the commands, `help COMMAND`
//! explains one; they are Delve's where Delve has them.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::cli::trace::Output;
use crate::repl::start::{Ended, Subject, attach};
use crate::sys::signals;

/// Arguments of `gotap attach`.
#[derive(clap::Args, Debug, Clone)]
#[command(
    override_usage = "gotap attach [OPTIONS] PID\n       gotap attach [OPTIONS] --core FILE [PROGRAM]",
    after_long_help = super::manual::ATTACH
)]
pub struct AttachArgs {
    /// The process; with --core, the core's executable
    #[arg(value_name = "PID", required_unless_present = "core")]
    pub subject: Option<String>,
    /// Look at this core file
    #[arg(long, value_name = "FILE")]
    pub core: Option<PathBuf>,
    /// Run this script first
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Take debug information from this file: the program before it was stripped
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// How everything is written, where commands come from a pipe
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Runs `gotap attach`.
pub fn run(args: &AttachArgs) -> anyhow::Result<()> {
    let subject = match (&args.core, &args.subject) {
        (Some(core), program) => Subject::Core(core.clone(), program.clone().map(PathBuf::from)),
        (None, Some(pid)) => match pid.parse() {
            Ok(pid) => Subject::Process(pid),
            Err(_) => bail!("{pid:?} is no process id (gotap ps lists the Go processes)"),
        },
        (None, None) => bail!("which process? gotap attach PID"),
    };
    signals::prepare().context("cannot set up signal handling")?;
    match attach(
        &subject,
        args.symbols.as_deref(),
        args.script.as_deref(),
        super::run::form(args.output),
    )? {
        Ended::Well => Ok(()),
        Ended::Failed => bail!("not everything could be done"),
    }
}
