//! `gotap ps`: the Go processes of this machine; `gotap ps PID`: one of them.
//!
//! ```text
//! PID   PPID  NAME        GO        MODULE                               STRIPPED  PATH
//! 812   1     prometheus  go1.19.8  github.com/prometheus/prometheus/…   yes       /usr/bin/prometheus
//! 4242  4100  server      go1.26.8  example.com/shop                     no        /srv/server (deleted)
//! ```
//!
//! Processes that could not be looked at are counted on stderr, by reason;
//! with `-o json` each is a line with an `error`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::process::list::{self, GoProcess, Listing, Unreadable};

/// Lists the Go processes of this machine.
#[derive(clap::Args, Debug, Clone)]
pub struct PsArgs {
    /// Tell how this process is doing: memory, CPU, user, command, connections
    #[arg(value_name = "PID")]
    pub pid: Option<i32>,
    /// Also watch its use of CPUs for this time
    #[arg(value_name = "PERIOD", requires = "pid", value_parser = period)]
    pub period: Option<Duration>,
    /// How to print: a table, or one JSON object a line
    #[arg(short, long, value_enum, default_value_t = PsOutput::Text)]
    pub output: PsOutput,
}

/// How `gotap ps` prints.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum PsOutput {
    /// A table.
    Text,
    /// One object a line.
    Json,
}

/// `2s`, `500ms`; a bare number is seconds, as gops takes it.
fn period(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    parsed
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| "use a number and a unit: 500ms, 2s".to_owned())
}

/// Prints the Go processes to `out`; what could not be read goes to stderr.
pub fn run(args: &PsArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(pid) = args.pid {
        return super::process::run(pid, args.period, args.output == PsOutput::Json, out);
    }
    let listing = list::list()?;
    match args.output {
        PsOutput::Text => {
            write_table(&listing, out)?;
            for line in unreadable_lines(&listing) {
                eprintln!("gotap: {line}");
            }
        }
        PsOutput::Json => write_json(&listing, out)?,
    }
    out.flush()?;
    Ok(())
}

/// The main module's path, or the main package's where the build noted no
/// module (a build from a GOPATH, a distribution's).
fn module(process: &GoProcess) -> &str {
    let build = &process.summary.build;
    match &build.main {
        Some(main) => &main.path,
        None => &build.path,
    }
}

fn write_table(listing: &Listing, out: &mut dyn Write) -> anyhow::Result<()> {
    if listing.go.is_empty() {
        writeln!(out, "no Go processes")?;
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["PID", "PPID", "NAME", "GO", "MODULE", "STRIPPED", "PATH"]);
    for process in &listing.go {
        let stripped = if process.summary.stripped {
            "yes"
        } else {
            "no"
        };
        let mut path = printable(&process.path);
        if process.deleted {
            path.push_str(" (deleted)");
        }
        table.add_row([
            process.pid.to_string(),
            process.ppid.to_string(),
            printable(&process.name),
            printable(process.summary.build.go_version.text()),
            printable(module(process)),
            stripped.to_owned(),
            path,
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// One line per reason: how many, and what to do.
fn unreadable_lines(listing: &Listing) -> Vec<String> {
    let mut reasons = BTreeMap::<&str, Vec<&Unreadable>>::new();
    for process in &listing.unreadable {
        reasons.entry(&process.reason).or_default().push(process);
    }
    let line = |(reason, processes): (&str, Vec<&Unreadable>)| {
        let names: Vec<String> = processes
            .iter()
            .take(3)
            .map(|p| format!("{} {}", p.pid, printable(&p.name)))
            .collect();
        let more = match processes.len().saturating_sub(names.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let hint = if processes.iter().any(|p| p.denied) {
            "; run as root, or with CAP_SYS_PTRACE, to see them"
        } else {
            ""
        };
        let names = names.join(", ");
        let count = match processes.len() {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        };
        format!("{count} could not be looked at ({names}{more}): {reason}{hint}")
    };
    reasons.into_iter().map(line).collect()
}

#[derive(Serialize)]
struct Line<'a> {
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppid: Option<i32>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    go: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

fn write_json(listing: &Listing, out: &mut dyn Write) -> anyhow::Result<()> {
    for process in &listing.go {
        let build = &process.summary.build;
        let line = Line {
            pid: process.pid,
            ppid: Some(process.ppid),
            name: &process.name,
            go: Some(build.go_version.text()),
            module: Some(module(process)),
            version: build.main.as_ref().map(|m| m.version.as_str()),
            stripped: Some(process.summary.stripped),
            path: Some(&process.path),
            deleted: Some(process.deleted),
            error: None,
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    }
    for process in &listing.unreadable {
        let line = Line {
            pid: process.pid,
            ppid: None,
            name: &process.name,
            go: None,
            module: None,
            version: None,
            stripped: None,
            path: None,
            deleted: None,
            error: Some(&process.reason),
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(())
}

/// Names come from the processes: nothing in them may steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{BuildInfo, Summary};

    fn listing() -> Listing {
        let build = BuildInfo::parse("go1.26.8", "path\tx\nmod\texample.com/shop\t(devel)\t\n");
        let process = GoProcess {
            pid: 4242,
            ppid: 1,
            name: "ser\x1b[31mver".to_owned(),
            path: "/srv/server".to_owned(),
            deleted: true,
            summary: Summary {
                build,
                stripped: true,
            },
        };
        let denied = Unreadable {
            pid: 7,
            name: "secret".to_owned(),
            reason: "Permission denied (os error 13)".to_owned(),
            denied: true,
        };
        Listing {
            go: vec![process],
            unreadable: vec![denied],
            others: 3,
        }
    }

    #[test]
    fn a_table_without_control_characters() {
        let mut out = Vec::new();
        write_table(&listing(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "PID   PPID  NAME              GO        MODULE            STRIPPED  PATH",
                "4242  1     ser\\u{1b}[31mver  go1.26.8  example.com/shop  yes       /srv/server (deleted)",
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_counted_with_the_reason() {
        assert_eq!(
            unreadable_lines(&listing()),
            [
                "1 process could not be looked at (7 secret): Permission denied (os error 13); \
              run as root, or with CAP_SYS_PTRACE, to see them"
            ]
        );
        let mut out = Vec::new();
        write_json(&listing(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines[0]["go"], "go1.26.8");
        assert_eq!(lines[0]["version"], "(devel)");
        assert_eq!(lines[1]["error"], "Permission denied (os error 13)");
        assert!(lines[1].get("go").is_none());
    }
}
