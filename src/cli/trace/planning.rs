//! What would be traced: the plan, `--list` and `--plan`, and what is said of
//! functions that are not seen, or not always.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::Context;

use super::args::Preset;
use super::{TraceArgs, find_program};
use crate::arch::scan::Disassembler;
use crate::golang::family::{preset_conn, preset_inner};
use crate::image::pattern::{self, Limits};
use crate::probe::plan::{Event, Plan, Wanted, plan};
use crate::session::{SessionError, Start, Target};

/// So many functions that are not armed are named, per reason, and so many
/// reasons told.
const NAMES_TOLD: usize = 3;
const REASONS_TOLD: usize = 6;
/// So many functions that were inlined are told of one by one.
const INLINED_TOLD: usize = 3;

/// The plan, without the functions `out` (indexes in the program's table).
pub(super) fn make_plan(
    args: &TraceArgs,
    target: &Target,
    start: Start,
    out: &BTreeSet<u32>,
) -> Result<Plan, SessionError> {
    let image = &*target.image;
    let limits = Limits {
        max_matches: args.max_matches,
    };
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    if !args.patterns.is_empty() {
        let found = pattern::resolve(image, &args.patterns, &limits)?;
        wanted.extend(found.iter().map(|m| Wanted {
            function: m.function,
            exact: m.exact,
        }));
    }
    if args.preset == Some(Preset::Conn) {
        let named = image.functions().by_names(preset_conn());
        let functions = preset_conn().iter().zip(named).filter_map(|(name, found)| {
            found.first().copied().or_else(|| {
                let inner = image.functions().by_name(preset_inner(name)?);
                inner.first().copied()
            })
        });
        wanted.extend(functions.map(|function| Wanted {
            function,
            exact: true,
        }));
    }
    let mut seen = BTreeSet::new();
    wanted.retain(|w| {
        let index = w.function.index();
        seen.insert(index) && !out.contains(&index)
    });
    let events: &[Event] = match start {
        Start::Launched => &[
            Event::Panic,
            Event::Goexit,
            Event::GoexitDone,
            Event::Recovery,
            Event::Main,
        ],
        Start::Attached => &[
            Event::Panic,
            Event::Goexit,
            Event::GoexitDone,
            Event::Recovery,
        ],
    };
    let disassembler = Disassembler::new()?;
    let plan = plan(image, &disassembler, &wanted, events);
    if plan.armed() == 0 && !args.list && !args.plan {
        let what = if plan.functions.is_empty() {
            "the program has none of the functions of that preset".to_owned()
        } else {
            plan.explain()
        };
        return Err(SessionError::NothingArmed(what));
    }
    Ok(plan)
}

/// `--list` and `--plan`.
pub(super) fn list(args: &TraceArgs) -> anyhow::Result<()> {
    let target = if let Some(pid) = args.pid {
        Target::of_process(pid)?
    } else {
        let path = find_program(args).with_context(|| {
            let name = args.program.first().cloned().unwrap_or_default();
            format!("no program {} in PATH", name.display())
        })?;
        Target::of_file(&path)?
    };
    let target = target.with_symbols(args.symbols.as_deref())?;
    let plan = make_plan(args, &target, Start::Attached, &BTreeSet::new())?;
    let text = if args.plan {
        super::firing::explain(args, &target, &plan)?
    } else {
        plan.explain()
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if args.list {
        for one in inlined_calls(args, &target) {
            writeln!(out, "{one}")?;
        }
    }
    Ok(())
}

/// What was asked for and is not armed, a line a reason: patterns match many.
pub(super) fn refusals(plan: &Plan) -> Vec<String> {
    let mut reasons = BTreeMap::<String, Vec<&str>>::new();
    for function in plan.functions.iter().filter(|f| f.trap.is_err()) {
        let names = reasons.entry(function.explain()).or_default();
        names.push(&function.name);
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let rest = reasons.split_off(reasons.len().min(REASONS_TOLD));
    let line = |(reason, names): (String, Vec<&str>)| {
        let first = names.get(..NAMES_TOLD).unwrap_or(&names).join(", ");
        match names.len().saturating_sub(NAMES_TOLD) {
            0 => format!("{first}: {reason}"),
            more => format!("{first} and {more} more: {reason}"),
        }
    };
    let mut lines: Vec<String> = reasons.into_iter().map(line).collect();
    match rest.iter().map(|(_, names)| names.len()).sum::<usize>() {
        0 => {}
        more => lines.push(format!(
            "{more} more functions are not armed; --list says which and why"
        )),
    }
    lines
}

/// Calls of what was asked for that no site sees: bodies that the compiler put
/// into others.
fn inlined_calls(args: &TraceArgs, target: &Target) -> Vec<pattern::Inlined> {
    let image = &*target.image;
    let preset = match args.preset {
        Some(Preset::Conn) => preset_conn(),
        None => &[],
    };
    let mut all = pattern::inlined(image, &args.patterns, preset);
    // What stands in for them is traced.
    all.retain(|one| {
        let inner = preset_inner(&one.first.function).map(|name| image.functions().by_name(name));
        inner.is_none_or(|bodies| bodies.is_empty())
    });
    all
}

/// The same in a few lines.
pub(super) fn unseen_calls(args: &TraceArgs, target: &Target) -> Vec<String> {
    let all = inlined_calls(args, target);
    if all.len() <= INLINED_TOLD {
        return all.iter().map(ToString::to_string).collect();
    }
    let names: Vec<&str> = all
        .iter()
        .take(INLINED_TOLD)
        .map(|one| &*one.first.function)
        .collect();
    vec![format!(
        "{} and {} more functions are inlined in places, where their calls are not seen; --list says which",
        names.join(", "),
        all.len() - names.len()
    )]
}
