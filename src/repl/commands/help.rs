//! ```text
//! help [COMMAND]                                                    alias: h
//! ```
//!
//! Lists the commands, or prints the manual of one.

use std::fmt::Write as _;

use crate::repl::shell::{Call, Shell};
use crate::script::ExprError;
use crate::script::command::{Standing, VERBS, Verb};

/// Prints it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let text = match call.words {
        [] => overview(),
        [word] => {
            let verb = Verb::by_name(&word.text).ok_or_else(|| {
                ExprError::new(word.span, format!("there is no command `{}`", word.text))
            })?;
            manual(verb)
        }
        [_, extra, ..] => return Err(ExprError::new(extra.span, "one command is enough")),
    };
    shell.answer(Verb::Help, &text);
    Ok(())
}

fn overview() -> String {
    let mut text = String::new();
    for row in VERBS {
        if row.standing != Standing::Works {
            continue;
        }
        let names: Vec<&str> = std::iter::once(row.name)
            .chain(row.aliases.iter().copied())
            .collect();
        let _ = writeln!(text, "{:<24} {}", names.join(", "), row.about);
    }
    text.push_str("`help COMMAND` explains one\n");
    text
}

/// The header of a command's file, or its line of the table.
pub fn manual(verb: Verb) -> String {
    if let Some(source) = header(verb) {
        let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
        let lines = lines.filter(|line| !line.trim_start().starts_with("```"));
        return lines.fold(String::new(), |text, line| {
            text + line.strip_prefix(' ').unwrap_or(line) + "\n"
        });
    }
    let row = verb.info();
    match row.standing {
        Standing::LeftOut(why) => format!("{why}\n"),
        Standing::Works => format!("{} {}\n\n{}\n", row.name, row.usage, row.about),
    }
}

fn header(verb: Verb) -> Option<&'static str> {
    Some(match verb {
        Verb::Trace => include_str!("trace.rs"),
        Verb::Break => include_str!("breaks.rs"),
        Verb::Halt => include_str!("halt.rs"),
        Verb::Display => include_str!("display.rs"),
        Verb::Deferred => include_str!("deferred.rs"),
        Verb::Regs => include_str!("regs.rs"),
        Verb::Set => include_str!("set.rs"),
        Verb::Thread => include_str!("thread.rs"),
        Verb::ExamineMem => include_str!("examinemem.rs"),
        Verb::Breakpoints => include_str!("breakpoints.rs"),
        Verb::Clear => include_str!("clear.rs"),
        Verb::ClearAll => include_str!("clearall.rs"),
        Verb::Toggle => include_str!("toggle.rs"),
        Verb::Condition => include_str!("condition.rs"),
        Verb::On => include_str!("on.rs"),
        Verb::Continue => include_str!("cont.rs"),
        Verb::Next => include_str!("next.rs"),
        Verb::Step => include_str!("step.rs"),
        Verb::StepOut => include_str!("stepout.rs"),
        Verb::StepInstruction => include_str!("step_instruction.rs"),
        Verb::NextInstruction => include_str!("next_instruction.rs"),
        Verb::Goroutines => include_str!("goroutines.rs"),
        Verb::Goroutine => include_str!("goroutine.rs"),
        Verb::Threads => include_str!("threads.rs"),
        Verb::Stack => include_str!("stack.rs"),
        Verb::Print => include_str!("print.rs"),
        Verb::Args => include_str!("args.rs"),
        Verb::Locals => include_str!("locals.rs"),
        Verb::Vars => include_str!("vars.rs"),
        Verb::Whatis => include_str!("whatis.rs"),
        Verb::Frame | Verb::Up | Verb::Down => include_str!("frame.rs"),
        Verb::Funcs => include_str!("funcs.rs"),
        Verb::Types => include_str!("types.rs"),
        Verb::Packages => include_str!("packages.rs"),
        Verb::Snap => include_str!("snap.rs"),
        Verb::Snapshot => include_str!("snapshot.rs"),
        Verb::Snapshots => include_str!("snapshots.rs"),
        Verb::Source => include_str!("source.rs"),
        Verb::Sources => include_str!("sources.rs"),
        Verb::List => include_str!("list.rs"),
        Verb::Disassemble => include_str!("disassemble.rs"),
        Verb::Libraries => include_str!("libraries.rs"),
        Verb::Fds => include_str!("fds.rs"),
        Verb::Conns => include_str!("conns.rs"),
        Verb::Summary => include_str!("summary.rs"),
        Verb::Transcript => include_str!("transcript.rs"),
        Verb::Dump => include_str!("dump.rs"),
        Verb::Config => include_str!("config.rs"),
        Verb::Exit => include_str!("exit.rs"),
        Verb::Help => include_str!("help.rs"),
        _ => return None,
    })
}
