//! Two looks at one program: which creation sites grew, and who stayed where
//! it was.

use std::collections::{BTreeMap, HashMap};

use super::{Place, Survey, Wait};
use crate::golang::gs::Status;

/// A creation site, at two looks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Growth {
    /// The `go` statement; `None` for the first goroutine and those of C threads.
    pub created: Option<Place>,
    /// Goroutines at the first look.
    pub before: usize,
    /// At the second.
    pub after: usize,
    /// Of those at the second, new since the first.
    pub new: usize,
}

impl Growth {
    /// How many more.
    pub fn grown(&self) -> i64 {
        self.after as i64 - self.before as i64
    }
}

/// Creation sites whose number of goroutines changed, those that grew most
/// first.
pub fn growth(before: &Survey, after: &Survey) -> Vec<Growth> {
    type Sites = BTreeMap<Option<(String, String, u32)>, Growth>;
    fn row<'a>(sites: &'a mut Sites, place: Option<&Place>) -> &'a mut Growth {
        let key = place.map(|p| (p.func.to_string(), p.file.to_string(), p.line));
        sites.entry(key).or_insert_with(|| Growth {
            created: place.cloned(),
            before: 0,
            after: 0,
            new: 0,
        })
    }
    let mut sites = Sites::new();
    let last = before.goroutines.iter().map(|e| e.goid).max().unwrap_or(0);
    let known: std::collections::HashSet<u64> = before.goroutines.iter().map(|e| e.goid).collect();
    for one in &before.goroutines {
        row(&mut sites, before.names.find(one.created)).before += one.count;
    }
    for one in &after.goroutines {
        let site = row(&mut sites, after.names.find(one.created));
        site.after += one.count;
        if one.goid > last || !known.contains(&one.goid) {
            site.new += one.count;
        }
    }
    let mut changed: Vec<Growth> = sites
        .into_values()
        .filter(|g| g.before != g.after)
        .collect();
    changed.sort_by_key(|g| (-g.grown(), std::cmp::Reverse(g.after)));
    changed
}

/// Remembers since when goroutines have been seen at one place.
#[derive(Default, Debug)]
pub struct Sightings {
    /// By number: where it was, why, and since when.
    seen: HashMap<u64, ((u64, u64), String, u64)>,
}

impl Sightings {
    /// Notes a look at `now_ns` (of a clock that only goes forward), and tells
    /// the survey what earlier looks saw. Places alone do not prove that it did
    /// not run meanwhile: it was seen there, no more is said.
    pub fn note(&mut self, survey: &mut Survey, now_ns: u64) {
        let mut seen = HashMap::with_capacity(survey.goroutines.len());
        for one in &mut survey.goroutines {
            let counts = !matches!(one.status, Status::Running | Status::CopyStack);
            if !counts {
                continue;
            }
            let since = match self.seen.get(&one.goid) {
                Some((at, reason, since)) if *at == one.at && **reason == *one.reason => *since,
                _ => now_ns,
            };
            let observed = now_ns.saturating_sub(since);
            if observed > one.wait.map_or(0, Wait::ns) {
                one.wait = Some(Wait::Observed(observed));
            }
            seen.insert(one.goid, (one.at, one.reason.to_string(), since));
        }
        self.seen = seen;
    }
}
