//! Goroutines as the runtime itself prints them (runtime.Stack, the goroutine
//! profile with debug=2), for readers of such text.
//!
//! Follows runtime/traceback.go of the program's release: goroutineheader,
//! traceback1, traceback2, showframe, printcreatedby.

use std::io::{self, Write};

use crate::golang::gs::Status;
use crate::survey::{Entry, Line, Place, Survey, Wait, status_word};

/// Frames shown from either end (from Go 1.21 on).
const INNER: usize = 50;
const OUTER: usize = 50;
/// Frames of the machine that are looked at, before.
const MOST: usize = 100;

/// Writes `list` in the way of Go 1.`minor`.
pub fn write(
    to: &mut dyn Write,
    survey: &Survey,
    minor: Option<u32>,
    list: &[&Entry],
) -> io::Result<()> {
    for (i, one) in list.iter().enumerate() {
        if i > 0 {
            writeln!(to)?;
        }
        goroutine(to, survey, minor, one)?;
    }
    Ok(())
}

fn goroutine(
    to: &mut dyn Write,
    survey: &Survey,
    minor: Option<u32>,
    one: &Entry,
) -> io::Result<()> {
    header(to, one)?;
    if one.status == Status::Running && one.stack.is_none() {
        // As it prints those whose registers it cannot see
        // (tracebackothers).
        writeln!(to, "\tgoroutine running on other thread; stack unavailable")?;
    } else {
        frames(to, survey, minor, one)?;
    }
    created(to, survey, minor, one)
}

fn header(to: &mut dyn Write, one: &Entry) -> io::Result<()> {
    let status = if one.reason.is_empty() {
        status_word(one.status)
    } else {
        &one.reason
    };
    write!(to, "goroutine {} [{status}", one.goid)?;
    if one.status == Status::Leaked {
        write!(to, " (leaked)")?;
    }
    if one.scanned {
        write!(to, " (scan)")?;
    }
    if let Some(Wait::AtLeast(ns)) = one.wait {
        let minutes = ns / 60_000_000_000;
        if minutes >= 1 && one.status != Status::Leaked {
            write!(to, ", {minutes} minutes")?;
        }
    }
    if one.locked {
        write!(to, ", locked to thread")?;
    }
    writeln!(to, "]:")
}

/// A frame as it is printed.
struct Shown<'a> {
    place: &'a Place,
    line: &'a Line,
    args: Option<&'a str>,
}

fn frames(to: &mut dyn Write, survey: &Survey, minor: Option<u32>, one: &Entry) -> io::Result<()> {
    let Some(id) = one.stack else {
        return writeln!(to, "\tgoroutine's stack is {}", one.stack_state.as_str());
    };
    let mut lines = survey.names.lines(id);
    let old = minor.is_some_and(|m| m < 21);
    let mut ends = lines.iter().enumerate().filter(|(_, l)| !l.inlined);
    let cut = ends.nth(MOST - 1).filter(|_| old).map(|(i, _)| i + 1);
    if let Some(end) = cut {
        lines = lines.get(..end).unwrap_or(lines);
    }
    let args = one.arguments();
    let all: Vec<Shown<'_>> = lines
        .iter()
        .enumerate()
        .filter_map(|(i, line)| {
            Some(Shown {
                place: survey.names.get(line.place)?,
                line,
                args: args.get(i).copied(),
            })
        })
        .collect();
    let mut shown: Vec<&Shown<'_>> = Vec::new();
    for frame in &all {
        if shows(frame, shown.is_empty(), minor) {
            shown.push(frame);
        }
    }
    if shown.is_empty() {
        // Nothing but the runtime's frames: then these.
        shown = all.iter().collect();
    }
    if old {
        // It counts those that it printed, not those that it left out.
        let full = shown.len() == MOST;
        for frame in shown {
            frame_lines(to, frame)?;
        }
        if full {
            writeln!(to, "...additional frames elided...")?;
        }
        return Ok(());
    }
    let elided = shown.len().saturating_sub(INNER + OUTER);
    for (i, frame) in shown.iter().enumerate() {
        if i == INNER && elided > 0 {
            writeln!(to, "...{elided} frames elided...")?;
        }
        if i < INNER || i >= INNER + elided {
            frame_lines(to, frame)?;
        }
    }
    Ok(())
}

/// runtime/traceback.go: showfuncinfo.
fn shows(frame: &Shown<'_>, first: bool, minor: Option<u32>) -> bool {
    let name = &*frame.place.func;
    if frame.line.hidden {
        return false;
    }
    match name {
        "runtime.gopanic" => return !first,
        "runtime.runFinalizers" | "runtime.runCleanups" if minor.is_none_or(|m| m >= 25) => {
            return true;
        }
        _ => {}
    }
    name.contains('.') && (!name.starts_with("runtime.") || is_exported(name, minor))
}

/// runtime/traceback.go: isExportedRuntime.
fn is_exported(name: &str, minor: Option<u32>) -> bool {
    let capital = |s: &str| s.starts_with(|c: char| c.is_ascii_uppercase());
    let Some(name) = name.strip_prefix("runtime.") else {
        return false;
    };
    if minor.is_some_and(|m| m < 23) {
        return capital(name);
    }
    match name.rsplit_once('.') {
        Some((receiver, method)) => {
            let receiver = receiver
                .strip_prefix("(*")
                .and_then(|r| r.strip_suffix(')'))
                .unwrap_or(receiver);
            capital(method) && (receiver.is_empty() || capital(receiver))
        }
        None => capital(name),
    }
}

/// runtime/symtab.go: funcNamePiecesForPrint; runtime/traceback.go:
/// printFuncName.
fn printed(name: &str) -> String {
    if name == "runtime.gopanic" {
        return "panic".to_owned();
    }
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => {
            let head = name.get(..=open).unwrap_or_default();
            let tail = name.get(close..).unwrap_or_default();
            format!("{head}...{tail}")
        }
        _ => name.to_owned(),
    }
}

fn frame_lines(to: &mut dyn Write, frame: &Shown<'_>) -> io::Result<()> {
    let args = match (frame.line.inlined, frame.args) {
        (true, _) | (false, None) => "...",
        (false, Some(args)) => args,
    };
    writeln!(to, "{}({args})", printed(&frame.place.func))?;
    write!(to, "\t{}:{}", frame.place.file, frame.place.line)?;
    if !frame.line.inlined && frame.line.offset > 0 {
        write!(to, " +{:#x}", frame.line.offset)?;
    }
    writeln!(to)
}

fn created(to: &mut dyn Write, survey: &Survey, minor: Option<u32>, one: &Entry) -> io::Result<()> {
    let Some(place) = survey.names.find(one.created).filter(|_| one.goid != 1) else {
        return Ok(());
    };
    let name = &*place.func;
    if name.starts_with("runtime.") && !is_exported(name, minor) {
        return Ok(());
    }
    write!(to, "created by {}", printed(name))?;
    if let Some(parent) = one.parent {
        write!(to, " in goroutine {parent}")?;
    }
    write!(to, "\n\t{}:{}", place.file, place.line)?;
    if one.created_offset > 0 {
        write!(to, " +{:#x}", one.created_offset)?;
    }
    writeln!(to)
}
