//! A session whose commands come through a pipe, one asked after another.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use ::gotap::script::command::{Command as Parsed, Statement, parse_script};
use regex::Regex;

use super::{LATER, SOON, gotap, poll};

/// A session whose commands come through a pipe; answers and errors in order.
pub struct Piped {
    child: Child,
    to: Option<PipeWriter>,
    lines: Receiver<String>,
    /// The goroutine of the last stop.
    goid: String,
    /// Verbs that were run.
    pub ran: BTreeSet<&'static str>,
    /// For messages.
    pub label: String,
}

impl Piped {
    /// `gotap ARGS`.
    pub fn start(args: &[&str], label: &str) -> Piped {
        let (from, to) = std::io::pipe().expect("a pipe");
        let (out, into) = std::io::pipe().expect("a pipe");
        let mut command: Command = gotap::command(args);
        command.stdin(Stdio::from(from));
        command.stderr(into.try_clone().expect("a copy"));
        let child = command.stdout(into).spawn().expect("gotap");
        drop(command);
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Piped {
            child,
            to: Some(to),
            lines,
            goid: String::new(),
            ran: BTreeSet::new(),
            label: label.to_owned(),
        }
    }

    /// Runs a command: what it answered. Another behind it, whose answer is known,
    /// marks the end: errors are written at once, answers one after another.
    pub fn ask(&mut self, line: &str) -> String {
        const MARK: &str = "Lists the packages that the program's functions belong to.";
        let line = line.replace("{goid}", &self.goid);
        note(&parse_script(&line).script.statements, &mut self.ran);
        let to = self.to.as_mut().expect("it is open");
        writeln!(to, "{line}\nhelp packages").expect("typed");
        let mut left = if line == "help packages" { 2 } else { 1 };
        let mut answer = String::new();
        let end = Instant::now() + SOON;
        while left > 0 {
            let patience = end.saturating_duration_since(Instant::now());
            let Ok(got) = self.lines.recv_timeout(patience) else {
                panic!("{}: {line}: no answer; so far:\n{answer}", self.label);
            };
            left -= usize::from(got == MARK);
            answer.push_str(&got);
            answer.push('\n');
        }
        // The manual of the mark has two lines before it.
        let manual = answer.rfind("packages [REGEX]").unwrap_or(answer.len());
        answer.truncate(manual);
        if let Some(found) = Regex::new(r"> goroutine (\d+) ")
            .expect("a pattern")
            .captures(&answer)
        {
            found[1].clone_into(&mut self.goid);
        }
        answer
    }

    /// Asks, and the answer has these, in order.
    pub fn has(&mut self, line: &str, wanted: &[&str]) -> String {
        let answer = self.ask(line);
        let mut rest = answer.as_str();
        for part in wanted {
            let part = part.replace("{goid}", &self.goid);
            let at = rest
                .find(&part)
                .unwrap_or_else(|| panic!("{}: {line}: {part:?} is not in\n{answer}", self.label));
            rest = &rest[at + part.len()..];
        }
        answer
    }

    /// Asks, and is refused for this, in one line.
    pub fn refused(&mut self, line: &str, why: &str) {
        let answer = self.has(line, &[why]);
        let told: Vec<&str> = answer
            .lines()
            .filter(|l| l.starts_with("gotap: "))
            .collect();
        assert_eq!(told.len(), 1, "{}: {line}:\n{answer}", self.label);
    }

    /// Asks, and the answer fits.
    pub fn matches(&mut self, line: &str, pattern: &str) -> String {
        let answer = self.ask(line);
        let pattern = Regex::new(pattern).expect("a pattern");
        assert!(
            pattern.is_match(&answer),
            "{}: {line}: {pattern}:\n{answer}",
            self.label
        );
        answer
    }

    /// Asks again until the answer has this.
    pub fn until(&mut self, line: &str, wanted: &str) -> String {
        let mut all = String::new();
        let came = poll(SOON, || {
            let answer = self.ask(line);
            all.push_str(&answer);
            answer.contains(wanted)
        });
        assert!(
            came,
            "{}: {line}: {wanted:?} never came:\n{all}",
            self.label
        );
        all
    }

    /// Types a line whose answer nobody waits for.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.to.as_mut().expect("it is open"), "{line}").expect("typed");
    }

    /// Closes the pipe and waits for the end.
    pub fn finish(&mut self) {
        self.to = None;
        assert!(
            poll(LATER, || self.child.try_wait().is_ok_and(|s| s.is_some())),
            "{}: it does not end",
            self.label
        );
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The verbs of commands, and of those in their blocks.
pub fn note(statements: &[Statement], ran: &mut BTreeSet<&'static str>) {
    for one in statements {
        ran.insert(one.command.verb().name());
        note(one.command.block(), ran);
        if let Parsed::Plain(_, _, Some(then)) = &one.command {
            note(std::slice::from_ref(then), ran);
        }
    }
}
