//! A look for people: what there is, what is the matter, the largest groups.

use std::collections::HashMap;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};

use crate::sink::format::Nanos;
use crate::survey::compare::Growth;
use crate::survey::facts::{address, kind, mode};
use crate::survey::group::Group;
use crate::survey::verdict::{short, thousands};
use crate::survey::{
    BlockedOn, Entry, Line, Place, PlaceId, StackState, Survey, Wait, status_word,
};
use crate::value::escaped;

/// Writes the counts and the sentence.
pub fn head(to: &mut dyn Write, survey: &Survey, verdict: Option<&str>) -> io::Result<()> {
    let total = survey.total();
    write!(
        to,
        "{} {}, {}",
        thousands(total),
        if total == 1 {
            "goroutine"
        } else {
            "goroutines"
        },
        escaped(&survey.go_version)
    )?;
    if let Some(procs) = survey.gomaxprocs {
        write!(to, ", GOMAXPROCS {procs}")?;
    }
    write!(to, "; {} of the runtime's own", survey.system)?;
    if survey.dead > 0 {
        write!(to, ", {} ended", thousands(survey.dead))?;
    }
    writeln!(to)?;
    if survey.unstable > 0 || survey.unreadable > 0 {
        writeln!(
            to,
            "{} stacks did not hold still, {} goroutines could not be read",
            thousands(survey.unstable),
            thousands(survey.unreadable)
        )?;
    }
    if let Some(ns) = survey.stopped_ns {
        writeln!(to, "the program was stopped for {}", Nanos(ns))?;
    }
    let counts = survey.counts();
    let mut classes: Vec<_> = counts.class.iter().collect();
    classes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let words: Vec<String> = classes
        .iter()
        .map(|(class, count)| format!("{} {class}", thousands(**count)))
        .collect();
    if !words.is_empty() {
        writeln!(to, "{}", words.join(", "))?;
    }
    if let Some(verdict) = verdict {
        writeln!(to, "\n{}", escaped(verdict))?;
    }
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().copied());
    table
}

fn print(to: &mut dyn Write, mut table: Table) -> io::Result<()> {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}

/// `main.serve server/main.go:88`
fn at(place: Option<&Place>) -> String {
    place.map_or_else(
        || "-".to_owned(),
        |p| escaped(&format!("{} {}:{}", p.func, short(&p.file), p.line)),
    )
}

/// `≥ 5m` for what the runtime noted, `5m seen` for what gotap saw.
fn wait(wait: Option<Wait>) -> String {
    match wait {
        None => "-".to_owned(),
        Some(Wait::AtLeast(ns)) => format!("≥ {}", Nanos(rounded(ns))),
        Some(Wait::Observed(ns)) => format!("{} seen", Nanos(rounded(ns))),
    }
}

/// Seconds from a second on: more says nothing here.
fn rounded(ns: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    if ns < SECOND {
        ns
    } else {
        ns / SECOND * SECOND
    }
}

/// Writes the first `most` groups.
pub fn groups(
    to: &mut dyn Write,
    survey: &Survey,
    groups: &[Group],
    most: usize,
) -> io::Result<()> {
    let peers = groups.iter().any(|g| matches!(g.peer.get(), Some(Some(_))));
    let labels = groups
        .iter()
        .any(|g| matches!(g.labels.get(), Some(Some(_))));
    let mut header = vec!["COUNT", "STATE", "WAIT", "AT", "CREATED BY"];
    if peers {
        header.push("PEER");
    }
    if labels {
        header.push("LABELS");
    }
    let mut table = table(&header);
    for group in groups.iter().take(most) {
        let place = |shared: &crate::survey::group::Shared<_>| match shared.get() {
            Some(id) => at(survey.names.find(*id)),
            None => "…".to_owned(),
        };
        let mark = if group.sampled && group.frame.get().is_some() {
            " (sampled)"
        } else {
            ""
        };
        let mut row = vec![
            thousands(group.count),
            escaped(&group.doing()),
            wait(group.wait_max),
            format!("{}{mark}", place(&group.frame)),
            place(&group.created),
        ];
        if peers {
            row.push(match group.peer.get() {
                Some(Some(peer)) => escaped(&peer.to_string()),
                Some(None) => "-".to_owned(),
                None => "…".to_owned(),
            });
        }
        if labels {
            row.push(match group.labels.get() {
                Some(Some(labels)) => {
                    let all: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    escaped(&all.join(" "))
                }
                Some(None) => "-".to_owned(),
                None => "…".to_owned(),
            });
        }
        table.add_row(row);
    }
    print(to, table)?;
    let more = groups.get(most..).unwrap_or_default();
    if !more.is_empty() {
        let count: usize = more.iter().map(|g| g.count).sum();
        writeln!(
            to,
            "… and {} more groups with {} goroutines (--top N shows more)",
            thousands(more.len()),
            thousands(count)
        )?;
    }
    Ok(())
}

/// Writes goroutines one by one. Their lines are made twice, for the widths and
/// to be written: a million of them are not kept.
pub fn list(to: &mut dyn Write, survey: &Survey, list: &[&Entry]) -> io::Result<()> {
    let header = ["GOID", "STATE", "WAIT", "ON", "AT", "CREATED BY"].map(str::to_owned);
    let mut places = HashMap::new();
    let mut widths = header.each_ref().map(|cell| cell.chars().count());
    for one in list {
        for (width, cell) in widths.iter_mut().zip(line(survey, one, &mut places)) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    let mut write = |cells: &[String]| {
        text.clear();
        for (cell, width) in cells.iter().zip(widths) {
            let pad = width.saturating_sub(cell.chars().count()) + 2;
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', pad));
        }
        writeln!(to, "{}", text.trim_end())
    };
    write(&header)?;
    for one in list {
        write(&line(survey, one, &mut places))?;
    }
    Ok(())
}

fn line(
    survey: &Survey,
    one: &Entry,
    places: &mut HashMap<Option<PlaceId>, String>,
) -> [String; 6] {
    let state = if one.reason.is_empty() {
        status_word(one.status)
    } else {
        &one.reason
    };
    let mut state = escaped(state);
    if one.locked {
        state.push_str(", locked");
    }
    let mut place = |id| {
        let text = places.entry(id);
        text.or_insert_with(|| at(survey.names.find(id))).clone()
    };
    [
        one.goid.to_string(),
        state,
        wait(one.wait),
        on(one),
        place(one.user.or(one.func)),
        place(one.created),
    ]
}

/// What a goroutine waits for, in a few words.
fn on(one: &Entry) -> String {
    if let Some(net) = one.net.as_deref() {
        let mut words = Vec::new();
        if let Some(write) = net.write {
            words.push(mode(write).to_owned());
        }
        if let Some(fd) = net.fd {
            words.push(format!("fd {fd}"));
        }
        words.extend(net.network.as_deref().map(escaped));
        let ends: Vec<String> = [&net.local, &net.remote]
            .into_iter()
            .flatten()
            .filter(|e| !e.is_unnamed())
            .map(|e| escaped(&e.to_string()))
            .collect();
        if !ends.is_empty() {
            words.push(ends.join("->"));
        }
        match net.deadline_ns {
            Some(ns) if ns < 0 => words.push("(deadline passed)".to_owned()),
            Some(ns) => words.push(format!("(until {})", Nanos(ns.unsigned_abs()))),
            None => {}
        }
        return words.join(" ");
    }
    let Some(blocked) = one.blocked_on.as_deref() else {
        return "-".to_owned();
    };
    match blocked {
        BlockedOn::Channels(list) => {
            let all: Vec<String> = list
                .iter()
                .take(3)
                .map(|c| {
                    let elem = c.elem.as_deref().unwrap_or("?");
                    format!("chan {} {:#x} {}/{}", escaped(elem), c.at, c.len, c.cap)
                })
                .collect();
            let more = list.len().saturating_sub(all.len());
            match more {
                0 => all.join(", "),
                n => format!("{}, {n} more", all.join(", ")),
            }
        }
        BlockedOn::Lock(..) => format!(
            "{} {:#x}",
            kind(blocked),
            address(blocked).unwrap_or_default()
        ),
        BlockedOn::Sleep(ns) if *ns < 0 => "sleep, over".to_owned(),
        BlockedOn::Sleep(ns) => format!("sleep, {} left", Nanos(ns.unsigned_abs())),
        BlockedOn::Syscall(number) => format!("syscall {number}"),
    }
}

/// Writes one goroutine's stack with its arguments, `most` frames of it.
pub fn stack(to: &mut dyn Write, survey: &Survey, one: &Entry, most: usize) -> io::Result<()> {
    list(to, survey, &[one])?;
    writeln!(to)?;
    let args = one.arguments();
    if let Some(id) = one.stack {
        let lines = survey.names.lines(id).iter().enumerate();
        // As in tracebacks of the runtime, which `frame N` counts by too.
        for (i, line) in lines.filter(|(i, l)| *i == 0 || !l.hidden).take(most) {
            frame(to, survey, line, args.get(i).copied().unwrap_or("..."))?;
        }
    }
    stack_end(to, one.stack_state)
}

/// Says what a stack lacks.
pub fn stack_end(to: &mut dyn Write, state: StackState) -> io::Result<()> {
    match state {
        StackState::Whole => Ok(()),
        StackState::Partial => writeln!(to, "(the frames above these are not known)"),
        StackState::Running => writeln!(
            to,
            "(it runs: where it is, only its thread's registers tell)"
        ),
        state => writeln!(to, "(its stack is {})", state.as_str()),
    }
}

fn frame(to: &mut dyn Write, survey: &Survey, line: &Line, args: &str) -> io::Result<()> {
    let Some(place) = survey.names.get(line.place) else {
        return Ok(());
    };
    let args = if line.inlined { "..." } else { args };
    writeln!(to, "{}({args})", escaped(&place.func))?;
    let inlined = if line.inlined { " (inlined)" } else { "" };
    writeln!(to, "    {}:{}{inlined}", escaped(&place.file), place.line)
}

/// Writes which creation sites grew.
pub fn growth(to: &mut dyn Write, sites: &[Growth], most: usize) -> io::Result<()> {
    if sites.is_empty() {
        return writeln!(
            to,
            "no creation site has more or fewer goroutines than before"
        );
    }
    let mut table = table(&["CHANGE", "BEFORE", "AFTER", "NEW", "CREATED BY"]);
    for site in sites.iter().take(most) {
        table.add_row([
            format!("{:+}", site.grown()),
            thousands(site.before),
            thousands(site.after),
            thousands(site.new),
            at(site.created.as_ref()),
        ]);
    }
    print(to, table)?;
    let more = sites.len().saturating_sub(most);
    if more > 0 {
        writeln!(to, "… and {more} more (--top N shows more)")?;
    }
    Ok(())
}
