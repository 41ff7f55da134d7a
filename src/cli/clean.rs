//! `gotap clean -p PID`: takes out what a gotap that was killed has left in a
//! process, and does nothing else. Traps and jumps alike; what a gotap that
//! lives has put there stays, and its pid is told.

use crate::process::Tracer;
use crate::session::Target;

/// Arguments of `gotap clean`.
#[derive(clap::Args, Debug)]
pub struct CleanArgs {
    /// The process
    #[arg(short, long, value_name = "PID")]
    pid: i32,
}

/// Runs `gotap clean`.
pub fn run(args: &CleanArgs, out: &mut dyn std::io::Write) -> anyhow::Result<()> {
    let target = Target::of_process(args.pid)?;
    let mut tracer = Tracer::attach(args.pid)?;
    let cleaned = tracer.clean_leftover(target.text())?;
    tracer.leave()?;
    if cleaned {
        writeln!(
            out,
            "took out what a gotap that was killed had left in process {}",
            args.pid
        )?;
    } else {
        writeln!(out, "nothing of gotap's is in process {}", args.pid)?;
    }
    Ok(())
}
