//! `gotap completions SHELL` and `gotap man`: made from the same definition of
//! the command line that parses it, so that they are never out of date.

use std::io::Write;
use std::path::PathBuf;

use clap::CommandFactory;

/// Prints a completion script.
#[derive(clap::Args, Debug)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints manual pages.
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// Write gotap.1, gotap-trace.1 and so on into this directory
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Which command's page to print (default: gotap's own)
    command: Option<String>,
}

/// Writes the script to stdout.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "gotap", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}

/// Writes the page to stdout, or all pages into a directory.
pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    let command = super::Cli::command();
    if let Some(directory) = &args.to {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(command, directory)?;
        return Ok(());
    }
    let page = match &args.command {
        None => command,
        Some(name) => {
            let Some(found) = command.get_subcommands().find(|c| c.get_name() == name) else {
                anyhow::bail!("there is no command {name:?}; see gotap --help");
            };
            found.clone().display_name(format!("gotap-{name}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    std::io::stdout().write_all(&text)?;
    Ok(())
}
