//! The commands: one file each, whose header is its manual.
//!
//! Who lives here: argument parsing, what is printed around the data, exit
//! codes. Data goes to stdout; all else to stderr as `gotap: message`.
//! Exit codes: 0 done, 1 it went wrong, 2 wrong usage. Nobody may come in but
//! `main`.

mod attach;
mod check;
mod clean;
mod demo;
mod extras;
mod gops;
mod goroutines;
mod manual;
mod messages;
mod process;
mod ps;
mod run;
mod show;
mod subject;
mod trace;
mod viewed;
mod written;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The exit code that clap has for it, too.
const WRONG_USAGE: u8 = 2;

/// Watches what a live Go process does with its sockets, from outside, without
/// stopping or restarting it.
#[derive(Parser, Debug)]
#[command(name = "gotap", version, about, long_about = None, max_term_width = 100, after_long_help = manual::GOTAP)]
pub struct Cli {
    /// Say on stderr what gotap itself does (RUST_LOG refines it)
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Trace calls of functions in a live Go process, or in one that is started
    Trace(Box<trace::TraceArgs>),
    /// Print what `trace --record` has written, filtered and summarised
    #[command(after_long_help = manual::SHOW)]
    Show(show::ShowArgs),
    /// Tell what every goroutine is doing, and which connection it waits on
    Goroutines(goroutines::GoroutinesArgs),
    /// Print one goroutine's stack, with arguments
    Stack(goroutines::StackArgs),
    /// List the Go processes of this machine, or tell how one is doing
    Ps(ps::PsArgs),
    /// Print runtime.MemStats of a process or a core file, as gops prints it
    #[command(
        override_usage = gops::usage("memstats"),
        after_long_help = manual::MEMSTATS
    )]
    Memstats(gops::GopsArgs),
    /// Print how many goroutines, threads, Ps and CPUs a process or a core has
    #[command(override_usage = gops::usage("stats"))]
    Stats(gops::GopsArgs),
    /// Print the Go version that built a process's or a core's program
    #[command(override_usage = gops::usage("version"))]
    Version(gops::GopsArgs),
    /// Ask and trace at a prompt, while the process runs on
    Attach(attach::AttachArgs),
    /// Run a script of commands on a live process
    Run(run::RunArgs),
    /// Find what is wrong with a script, without touching a process
    Check(check::CheckArgs),
    /// Take out what a gotap that was killed has left in a process
    Clean(clean::CleanArgs),
    /// Build and run a small Go server and client, and trace their connections
    Demo(demo::DemoArgs),
    /// Print a completion script for a shell
    Completions(extras::CompletionsArgs),
    /// Print the manual page (or write all of them into a directory)
    Man(extras::ManArgs),
}

impl Command {
    /// What clap cannot tell of a command's arguments: its name and why.
    fn check(&self) -> Result<(), (&'static str, subject::Misuse)> {
        let of = |name| move |misuse| (name, misuse);
        match self {
            Command::Trace(args) => args.check().map_err(of("trace")),
            Command::Show(args) => args.check().map_err(of("show")),
            Command::Goroutines(args) => args.check().map_err(of("goroutines")),
            Command::Stack(args) => args.subject.check().map_err(of("stack")),
            Command::Memstats(args) => args.subject.check().map_err(of("memstats")),
            Command::Stats(args) => args.subject.check().map_err(of("stats")),
            Command::Version(args) => args.subject.check().map_err(of("version")),
            Command::Ps(_)
            | Command::Attach(_)
            | Command::Run(_)
            | Command::Check(_)
            | Command::Clean(_)
            | Command::Demo(_)
            | Command::Completions(_)
            | Command::Man(_) => Ok(()),
        }
    }
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    if let Err((name, (kind, what))) = cli.command.check() {
        let mut gotap = Cli::command();
        gotap.build();
        let command = gotap.find_subcommand_mut(name);
        let _ = command.map(|command| command.error(kind, what).print());
        return ExitCode::from(WRONG_USAGE);
    }
    start_diagnostics(cli.verbose);
    let result = match &cli.command {
        Command::Trace(args) => trace::run(args),
        Command::Show(args) => show::run(args),
        Command::Memstats(args) => gops::memstats(args, &mut std::io::stdout().lock()),
        Command::Stats(args) => gops::stats(args, &mut std::io::stdout().lock()),
        Command::Version(args) => gops::version(args, &mut std::io::stdout().lock()),
        Command::Goroutines(args) => goroutines::run(args, &mut buffered()),
        Command::Stack(args) => goroutines::stack(args, &mut buffered()),
        Command::Ps(args) => ps::run(args, &mut std::io::stdout().lock()),
        Command::Attach(args) => attach::run(args),
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args, &mut std::io::stdout().lock()),
        Command::Clean(args) => clean::run(args, &mut std::io::stdout().lock()),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => extras::completions(args),
        Command::Man(args) => extras::man(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            messages::print(&describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// stdout for much text: by itself it is written line by line. The command
/// flushes it.
fn buffered() -> impl std::io::Write {
    std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock())
}

/// An error and what caused it; causes that were already named are left out.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// A reader that has seen enough is no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn start_diagnostics(verbose: bool) {
    use tracing_subscriber::EnvFilter;
    let default = if verbose { "gotap=debug" } else { "gotap=warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
}
