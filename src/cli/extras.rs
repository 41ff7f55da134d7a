//! `gotap completions SHELL` and `gotap man`: made from the same definition of
//! the command line that parses it, so that they are never out of date.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
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
    let mut gotap = super::Cli::command().disable_help_subcommand(true);
    // Options of all commands are handed down, and names joined: gotap-trace.
    gotap.build();
    if let Some(directory) = &args.to {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        for command in std::iter::once(&gotap).chain(gotap.get_subcommands()) {
            let name = command.get_display_name().unwrap_or(command.get_name());
            let path = directory.join(format!("{name}.1"));
            std::fs::write(&path, page(command)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(());
    }
    let command = match &args.command {
        None => &gotap,
        Some(name) => gotap
            .find_subcommand(name)
            .with_context(|| format!("there is no command {name:?}; see gotap --help"))?,
    };
    std::io::stdout().write_all(&page(command)?)?;
    Ok(())
}

/// A command's page. What help has below the options is laid out by hand: each
/// of its headings becomes a section, whose lines stay as they are.
fn page(command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let below = command.get_after_long_help().map(ToString::to_string);
    let bare = command
        .clone()
        .after_help(None::<&str>)
        .after_long_help(None::<&str>);
    let mut page = Vec::new();
    clap_mangen::Man::new(bare).render(&mut page)?;
    for line in below.unwrap_or_default().lines() {
        match line.strip_suffix(':').filter(|l| !l.starts_with(' ')) {
            Some(heading) => {
                let heading = heading.to_uppercase();
                writeln!(page, ".fi\n.SH \"{}\"\n.nf", roff(&heading))?;
            }
            None => writeln!(page, "{}", roff(line.strip_prefix("  ").unwrap_or(line)))?,
        }
    }
    page.extend_from_slice(b".fi\n");
    Ok(page)
}

/// Text that roff prints as it is (groff_char(7)).
fn roff(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    match text.chars().next() {
        Some('.') => format!("\\&{text}"),
        _ => text,
    }
}
