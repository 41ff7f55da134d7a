//! What is the matter, in one sentence, when there is evidence for one.

use std::collections::HashMap;
use std::fmt::Write;

use super::group::other_end;
use super::{BlockedOn, Class, Entry, Survey, Wait};
use crate::golang::blocked::Lock;
use crate::golang::endpoint::Endpoint;
use crate::golang::gs::Status;

/// Fewer than this many goroutines that do the same are no verdict.
const FEW: usize = 10;

/// Waiting for one lock are told of when they are one in so many.
pub const LOCKED_SHARE: usize = 4;

/// The lock that most goroutines wait for, and how many do.
pub fn busiest_lock(survey: &Survey) -> Option<(Lock, u64, usize)> {
    let mut waiting: HashMap<(Lock, u64), usize> = HashMap::new();
    for one in &survey.goroutines {
        if let Some(BlockedOn::Lock(lock @ (Lock::Mutex | Lock::RwMutex), at)) =
            one.blocked_on.as_deref()
        {
            *waiting.entry((*lock, *at)).or_default() += one.count;
        }
    }
    waiting
        .into_iter()
        .map(|((lock, at), count)| (lock, at, count))
        .max_by_key(|(_, at, count)| (*count, std::cmp::Reverse(*at)))
}

/// The sentence, if there is one.
pub fn verdict(survey: &Survey) -> Option<String> {
    stuck(survey)
        .or_else(|| locked(survey))
        .or_else(|| starved(survey))
        .or_else(|| same_peer(survey))
}

/// Nobody can run, and nothing that is waited for comes from outside.
fn stuck(survey: &Survey) -> Option<String> {
    let for_each_other = |e: &Entry| {
        e.class == Class::Blocked
            && &*e.reason != "sleep"
            && !matches!(e.blocked_on.as_deref(), Some(BlockedOn::Sleep(_)))
            && match e.blocked_on.as_deref() {
                Some(BlockedOn::Channels(list)) => !list.iter().any(|c| c.timer),
                _ => true,
            }
    };
    let all = &survey.goroutines;
    if all.is_empty() || survey.unreadable > 0 || !all.iter().all(for_each_other) {
        return None;
    }
    Some(format!(
        "nothing can run: all {} wait for each other (a deadlock, unless a timer wakes one)",
        goroutines(survey.total())
    ))
}

/// Many wait for one lock.
fn locked(survey: &Survey) -> Option<String> {
    let (lock, at, count) = busiest_lock(survey)?;
    if count < FEW || count * LOCKED_SHARE < survey.total() {
        return None;
    }
    let waiting = |e: &&Entry| matches!(e.blocked_on.as_deref(), Some(BlockedOn::Lock(l, a)) if (*l, *a) == (lock, at));
    let longest = survey
        .goroutines
        .iter()
        .filter(waiting)
        .max_by_key(|e| (e.wait.map_or(0, Wait::ns), std::cmp::Reverse(e.goid)));
    let mut text = format!(
        "{} wait for the {} at {at:#x}",
        goroutines(count),
        lock.as_str()
    );
    if let Some(place) = longest.and_then(|e| survey.names.find(e.user.or(e.func))) {
        let _ = write!(text, ", first at {}:{}", short(&place.file), place.line);
    }
    let candidates: Vec<String> = survey
        .candidates
        .iter()
        .take(3)
        .filter_map(|goid| survey.goroutines.iter().find(|e| e.goid == *goid))
        .map(|e| match survey.names.find(e.user.or(e.func)) {
            Some(place) => format!(
                "goroutine {} (in {}:{})",
                e.goid,
                short(&place.file),
                place.line
            ),
            None => format!("goroutine {}", e.goid),
        })
        .collect();
    if !candidates.is_empty() {
        let _ = write!(text, "; candidates to hold it: {}", candidates.join(", "));
        let more = survey.candidates.len().saturating_sub(candidates.len());
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
    }
    Some(text)
}

/// Many could run and do not.
fn starved(survey: &Survey) -> Option<String> {
    let runnable: Vec<&Entry> = survey
        .goroutines
        .iter()
        .filter(|e| e.class == Class::Runnable)
        .collect();
    let count: usize = runnable.iter().map(|e| e.count).sum();
    if count < FEW || count * 2 < survey.total() {
        return None;
    }
    let mut text = format!(
        "{} of {} goroutines could run and wait for a processor",
        thousands(count),
        thousands(survey.total())
    );
    if let Some(procs) = survey.gomaxprocs {
        let _ = write!(text, " (GOMAXPROCS is {procs})");
    }
    let oldest = runnable.iter().filter_map(|e| e.wait).map(Wait::ns).max();
    if let Some(ns) = oldest {
        let _ = write!(text, ", the oldest for {}", span(ns));
    }
    Some(text)
}

/// Most wait for the same other end.
fn same_peer(survey: &Survey) -> Option<String> {
    let mut waiting: HashMap<&Endpoint, (usize, Vec<&Entry>)> = HashMap::new();
    for one in &survey.goroutines {
        let reads = one.net.as_deref().is_some_and(|n| n.write == Some(false));
        if one.class == Class::Network
            && one.status == Status::Waiting
            && reads
            && let Some(peer) = other_end(one)
        {
            let (count, list) = waiting.entry(peer).or_default();
            *count += one.count;
            list.push(one);
        }
    }
    let total = survey.total();
    let (peer, (all, list)) = waiting
        .into_iter()
        .filter(|(_, (count, _))| *count >= FEW && *count * 2 >= total)
        .max_by(|(a, (many, _)), (b, (more, _))| {
            many.cmp(more)
                .then_with(|| b.to_string().cmp(&a.to_string()))
        })?;
    let mut text = format!(
        "{} of {} goroutines wait to read from {peer}",
        thousands(all),
        thousands(total)
    );
    if let Some(ns) = list.iter().filter_map(|e| e.wait).map(Wait::ns).max() {
        let _ = write!(text, ", the oldest for {} or more", span(ns));
    }
    let mut made: HashMap<_, usize> = HashMap::new();
    for one in &list {
        *made.entry(one.created).or_default() += one.count;
    }
    let most = made.into_iter().max_by_key(|(id, count)| (*count, *id));
    if let Some((id, count)) = most
        && count * 2 > all
        && let Some(place) = survey.names.find(id)
    {
        let whole = if count == all { "" } else { "most " };
        let _ = write!(
            text,
            "; {whole}created at {}:{}",
            short(&place.file),
            place.line
        );
    }
    Some(text)
}

fn goroutines(count: usize) -> String {
    match count {
        1 => "1 goroutine".to_owned(),
        n => format!("{} goroutines", thousands(n)),
    }
}

/// `9812` → `9,812`.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The last two elements of a path.
pub fn short(file: &str) -> &str {
    let mut cuts = file.rmatch_indices('/').map(|(at, _)| at + 1);
    cuts.nth(1)
        .and_then(|at| file.get(at..))
        .unwrap_or_else(|| file.strip_prefix('/').unwrap_or(file))
}

/// `14 min`, `2.5 h`, `300 ms`: two figures, for sentences.
pub fn span(ns: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
    ];
    for (unit, name) in UNITS {
        if ns >= unit {
            let whole = ns / unit;
            let tenth = ns % unit / (unit / 10);
            return if whole >= 10 || tenth == 0 {
                format!("{whole} {name}")
            } else {
                format!("{whole}.{tenth} {name}")
            };
        }
    }
    "less than 1 ms".to_owned()
}
