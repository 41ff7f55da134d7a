//! `gotap check`: what is wrong with a script, without touching a process.
//!
//! ```text
//! gotap check slow-reads.gotap
//! gotap check slow-reads.gotap -p 4242
//! gotap check slow-reads.gotap ./server
//! ```
//!
//! With a process or an executable the functions that the script names are
//! looked up, and its expressions are checked against their arguments; without,
//! any name may be a variable's. Of a process only the executable is read.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::repl::check::check;
use crate::session::Target;

/// Arguments of `gotap check`.
#[derive(clap::Args, Debug, Clone)]
pub struct CheckArgs {
    /// The script
    #[arg(value_name = "FILE")]
    pub script: PathBuf,
    /// Check its names against this process's program
    #[arg(short, long, value_name = "PID", conflicts_with = "binary")]
    pub pid: Option<i32>,
    /// Check its names against this executable
    #[arg(value_name = "BINARY")]
    pub binary: Option<PathBuf>,
    /// Take debug information from this file: the program before it was stripped
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
}

/// Runs `gotap check`.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = args.script.display().to_string();
    let text =
        std::fs::read_to_string(&args.script).with_context(|| format!("cannot read {name}"))?;
    let program = match (args.pid, &args.binary) {
        (Some(pid), _) => Some(Target::of_process(pid)?),
        (None, Some(path)) => Some(Target::of_file(path)?),
        (None, None) => None,
    };
    if let (Some(target), Some(symbols)) = (&program, &args.symbols) {
        target.image.add_symbols(symbols)?;
    }
    let found = check(program.as_ref(), &name, &text);
    for one in &found {
        writeln!(out, "{}", one.0)?;
    }
    out.flush()?;
    match found.len() {
        0 => Ok(()),
        1 => bail!("one error in {name}"),
        n => bail!("{n} errors in {name}"),
    }
}
