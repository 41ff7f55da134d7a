//! `gotap attach`: commands at a prompt, on a live process or a core file.
//!
//! ```text
//! gotap attach 4242
//! gotap attach 4242 --script slow-reads.gotap
//! gotap attach --core core.4242 ./server
//! echo 'goroutines -group reason' | gotap attach 4242
//! gotap attach -- ./server -addr :8080
//! ```
//!
//! A program that is started so stands where none of its own packages has run
//! anything yet, until `continue`. It reads no standard input, its standard
//! output goes to standard error, and Ctrl-C does not reach it. On the way out it is
//! asked whether to kill it; where nobody sits at a prompt it runs on.
//!
//! The target runs on: attaching stops nothing, and nothing is put into it
//! before the first tracepoint. `help` lists the commands, `help COMMAND`
//! explains one; they are Delve's where Delve has them.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::cli::trace::Output;
use crate::repl::start::{Ended, Subject, attach};
use crate::sys::signals;

/// Arguments of `gotap attach`.
#[derive(clap::Args, Debug, Clone)]
#[command(
    override_usage = "gotap attach [OPTIONS] PID\n       gotap attach [OPTIONS] --core FILE [PROGRAM]\n       gotap attach [OPTIONS] -- PROGRAM [ARGS]",
    after_long_help = super::manual::ATTACH
)]
pub struct AttachArgs {
    /// The process; with --core, the core's executable
    #[arg(value_name = "PID", required_unless_present_any = ["core", "program"])]
    pub subject: Option<String>,
    /// Start this program; it stands before main until `continue`
    #[arg(last = true, value_name = "PROGRAM", conflicts_with_all = ["core", "subject"])]
    pub program: Vec<OsString>,
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
        (None, None) if !args.program.is_empty() => Subject::Program(args.program.clone()),
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
