//! What README, ARCHITECTURE, help and manual pages say is there, is there, and
//! the other way round.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ::gotap::cli::Cli;
use ::gotap::script::CALL_FACTS;
use clap::CommandFactory;
use regex::Regex;
use support::gotap;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The part of a Markdown file under a heading.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let start = text
        .find(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading:?}"));
    let rest = &text[start + 1..];
    rest[1..].find("\n## ").map_or(rest, |end| &rest[..=end])
}

fn printed(args: &[&str]) -> String {
    gotap::run(args).must_succeed().text()
}

#[test]
fn the_readme_has_every_command() {
    let readme = read("README.md");
    let listed: BTreeSet<String> = Regex::new(r"(?m)^\| `gotap (\w+)")
        .expect("a pattern")
        .captures_iter(section(&readme, "Commands"))
        .map(|c| c[1].to_owned())
        .collect();
    let mut cli = Cli::command();
    cli.build();
    let real: BTreeSet<String> = cli
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, real, "the table of commands in README.md");
}

#[test]
fn the_readme_has_the_options_as_help_prints_them() {
    let help = printed(&["trace", "-h"]);
    let indented: String = help
        .lines()
        .map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("    {line}\n"),
        })
        .collect();
    assert!(
        read("README.md").contains(indented.trim_end()),
        "README.md does not have the output of `gotap trace -h`:\n\n{indented}"
    );
}

#[test]
fn help_and_manual_have_every_option() {
    let mut cli = Cli::command();
    cli.build();
    let trace = cli.find_subcommand("trace").expect("a command");
    let help = printed(&["trace", "--help"]);
    let page = printed(&["man", "trace"]).replace("\\-", "-");
    for option in trace.get_arguments().filter_map(clap::Arg::get_long) {
        let option = format!("--{option}");
        assert!(help.contains(&option), "{option} in --help");
        assert!(page.contains(&option), "{option} in the manual page");
    }
}

#[test]
fn every_field_is_told_of() {
    let readme = read("README.md");
    let fields = section(&readme, "Fields");
    let help = printed(&["trace", "--help"]);
    let names = Regex::new(r"[a-z_]+").expect("a pattern");
    let in_help: Vec<&str> = names.find_iter(&help).map(|m| m.as_str()).collect();
    for fact in CALL_FACTS {
        assert!(
            fields.contains(&format!("`{}`", fact.name)),
            "`{}` in the fields of README.md",
            fact.name
        );
        assert!(in_help.contains(&fact.name), "{} in --help", fact.name);
    }
}

#[test]
fn what_the_architecture_names_exists() {
    let text = read("ARCHITECTURE.md") + &read("NEW_GO_VERSION.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = Regex::new(r"`((?:[a-z_]+/)+(?:[a-z_]+\.rs)?|[a-z_]+\.rs)`").expect("a pattern");
    let mut seen = 0;
    for found in paths.captures_iter(&text) {
        let path = &found[1];
        let exists = |base: &Path| base.join(path).exists();
        // One that is named alone is in the room that the text is about.
        let somewhere = || {
            path.matches('/').count() <= usize::from(path.ends_with('/'))
                && ["image", "sink", "session", "process", "probe", "arch"]
                    .iter()
                    .any(|room| root.join("src").join(room).join(path).exists())
        };
        assert!(
            exists(root) || exists(&root.join("src")) || somewhere(),
            "there is no {path}"
        );
        seen += 1;
    }
    assert!(seen > 50, "only {seen} paths seen");
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let link = Regex::new(r"\]\(([^)#:]+)\)").expect("a pattern");
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "NEW_GO_VERSION.md",
        "CHANGELOG.md",
    ] {
        for found in link.captures_iter(&read(file)) {
            assert!(
                root.join(&found[1]).exists(),
                "{file} links to {}",
                &found[1]
            );
        }
    }
}

#[test]
fn manual_pages_are_well_formed() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().to_str().expect("a path");
    gotap::run(&["man", "--to", to]).must_succeed();
    let request =
        Regex::new(r"^\.(ie|el|ds|TH|SH|SS|TP|br|RS|RE|IP|nf|fi|PP)\b").expect("a pattern");
    let mut pages = 0;
    for entry in fs::read_dir(folder.path()).expect("read the folder") {
        let path = entry.expect("an entry").path();
        let page = fs::read_to_string(&path).expect("read the page");
        for line in page.lines().filter(|l| l.starts_with(['.', '\''])) {
            assert!(request.is_match(line), "{}: {line}", path.display());
        }
        assert!(
            page.contains(".TH ") && page.contains(".SH NAME"),
            "{}",
            path.display()
        );
        pages += 1;
    }
    // gotap's own, and one for each command but `help`.
    let mut cli = Cli::command();
    cli.build();
    assert_eq!(pages, cli.get_subcommands().count());
    let trace = printed(&["man", "trace"]);
    for heading in ["EXAMPLES", "EXIT CODES", "ENVIRONMENT"] {
        assert!(trace.contains(&format!(".SH \"{heading}\"")), "{heading}");
    }
}

#[test]
fn bash_takes_the_completions() {
    let script = printed(&["completions", "bash"]);
    // What bash would offer for `gotap trace --pre`.
    let asked = format!(
        "{script}\nCOMP_WORDS=(gotap trace --pre)\nCOMP_CWORD=2\n_gotap gotap --pre trace\necho \"${{COMPREPLY[@]}}\"\n"
    );
    let bash = Command::new("bash")
        .args(["--norc", "-c", &asked])
        .stdin(Stdio::null())
        .output()
        .expect("run bash");
    assert!(bash.status.success());
    assert_eq!(String::from_utf8_lossy(&bash.stderr), "");
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "--preset");
}
