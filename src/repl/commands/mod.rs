//! The commands of a session, one file each, whose header is its manual.
//!
//! Who lives here: what each command does, and `help`, which prints the
//! headers. Nobody may come in but the shell.

pub mod args;
pub mod breakpoints;
pub mod breaks;
pub mod clear;
pub mod clearall;
pub mod condition;
pub mod config;
pub mod conns;
pub mod cont;
pub mod deferred;
pub mod disassemble;
pub mod display;
pub mod dump;
pub mod examinemem;
pub mod exit;
pub mod fds;
pub mod frame;
pub mod funcs;
pub mod goroutine;
pub mod goroutines;
pub mod halt;
pub mod help;
pub mod libraries;
pub mod list;
pub mod locals;
pub mod next;
pub mod next_instruction;
pub mod on;
pub mod packages;
pub mod print;
pub mod regs;
pub mod set;
pub mod snap;
pub mod snapshot;
pub mod snapshots;
pub mod source;
pub mod sources;
pub mod stack;
pub mod step;
pub mod step_instruction;
pub mod stepout;
pub mod summary;
pub mod thread;
pub mod threads;
pub mod toggle;
pub mod trace;
pub mod transcript;
pub mod types;
pub mod vars;
pub mod whatis;

use std::fmt::Write as _;

use super::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::{Standing, Verb};

/// Runs a command that is known to be usable.
pub fn run(shell: &mut Shell, verb: Verb, call: Call<'_>) -> Result<(), ExprError> {
    match verb {
        Verb::Breakpoints => breakpoints::run(shell, call),
        Verb::Clear => clear::run(shell, call),
        Verb::ClearAll => clearall::run(shell, call),
        Verb::Toggle => toggle::run(shell, call),
        Verb::Continue => cont::run(shell, call),
        Verb::Halt => halt::run(shell, call),
        Verb::Next => next::run(shell, call),
        Verb::Step => step::run(shell, call),
        Verb::StepOut => stepout::run(shell, call),
        Verb::StepInstruction => step_instruction::run(shell, call),
        Verb::NextInstruction => next_instruction::run(shell, call),
        Verb::Display => display::run(shell, call),
        Verb::Deferred => deferred::run(shell, call),
        Verb::Regs => regs::run(shell, call),
        Verb::Set => set::run(shell, call),
        Verb::Thread => thread::run(shell, call),
        Verb::ExamineMem => examinemem::run(shell, call),
        Verb::Args => args::run(shell, call),
        Verb::Locals => locals::run(shell, call),
        Verb::Vars => vars::run(shell, call),
        Verb::Frame => frame::run(shell, call),
        Verb::Up | Verb::Down => frame::step(shell, call, verb),
        Verb::Goroutines => goroutines::run(shell, call),
        Verb::Goroutine => goroutine::run(shell, call),
        Verb::Threads => threads::run(shell, call),
        Verb::Stack => stack::run(shell, call),
        Verb::Funcs => funcs::run(shell, call),
        Verb::Types => types::run(shell, call),
        Verb::Packages => packages::run(shell, call),
        Verb::Sources => sources::run(shell, call),
        Verb::List => list::run(shell, call),
        Verb::Disassemble => disassemble::run(shell, call),
        Verb::Libraries => libraries::run(shell, call),
        Verb::Fds => fds::run(shell, call),
        Verb::Conns => conns::run(shell, call),
        Verb::Summary => summary::run(shell, call),
        Verb::Snapshot => snapshot::run(shell, call),
        Verb::Snapshots => snapshots::run(shell, call),
        Verb::Transcript => transcript::run(shell, call),
        Verb::Config => config::run(shell, call),
        Verb::Dump => dump::run(shell, call),
        Verb::Exit => exit::run(shell, call),
        Verb::Help => help::run(shell, call),
        other => Err(call.fail(match other.info().standing {
            Standing::LeftOut(why) => why.to_owned(),
            Standing::Works => format!("`{0}` is not used so: help {0}", other.name()),
        })),
    }
}

/// A copy holds no descriptors.
fn not_of_copies(shell: &Shell, call: &Call<'_>) -> Result<(), ExprError> {
    match shell.copies.viewed() {
        Some(_) => Err(call.fail(
            "a copy holds no descriptors; goroutines tells which connection each waits for, \
             snapshot live goes back to the target",
        )),
        None => Ok(()),
    }
}

/// `[REGEX]`: all, or those that it fits.
fn pattern(call: &Call<'_>) -> Result<regex::Regex, ExprError> {
    match call.words {
        [] => Ok(regex::Regex::new("").unwrap_or_else(|_| unreachable!("it is empty"))),
        [one] => {
            let text = one.text.strip_prefix('/').and_then(|t| t.strip_suffix('/'));
            regex::Regex::new(text.unwrap_or(&one.text)).map_err(|error| {
                ExprError::new(one.span, crate::script::check::regex_message(&error))
            })
        }
        [_, extra, ..] => Err(ExprError::new(
            extra.span,
            "one regular expression is enough",
        )),
    }
}

/// Sorted lines that an expression fits, so many of them.
fn lines(shell: &Shell, verb: Verb, call: &Call<'_>, all: Vec<String>) -> Result<(), ExprError> {
    let pattern = pattern(call)?;
    let mut found: Vec<String> = all.into_iter().filter(|l| pattern.is_match(l)).collect();
    found.sort_unstable();
    found.dedup();
    let most = shell.config.max_lines;
    let more = found.len().saturating_sub(most);
    found.truncate(most);
    let mut text: String = found
        .iter()
        .map(|line| crate::value::escaped(line) + "\n")
        .collect();
    if text.is_empty() {
        text.push_str("(none)\n");
    }
    if more > 0 {
        let _ = writeln!(text, "… and {more} more (config max-lines N shows more)");
    }
    shell.answer(verb, &text);
    Ok(())
}
