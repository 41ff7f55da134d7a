//! Two looks at one program: which creation sites grew, and who stayed where
//! it was.

use std::collections::BTreeMap;

use super::{Entry, Place, PlaceId, Survey, Wait};
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
    let mut known: Vec<u64> = before.goroutines.iter().map(|e| e.goid).collect();
    known.sort_unstable();
    for (id, (count, _)) in by_site(before, &|_| false) {
        row(&mut sites, before.names.find(id)).before += count;
    }
    let is_new = |e: &Entry| known.binary_search(&e.goid).is_err();
    for (id, (count, new)) in by_site(after, &is_new) {
        let site = row(&mut sites, after.names.find(id));
        site.after += count;
        site.new += new;
    }
    let mut changed: Vec<Growth> = sites
        .into_values()
        .filter(|g| g.before != g.after)
        .collect();
    changed.sort_by_key(|g| (-g.grown(), std::cmp::Reverse(g.after)));
    changed
}

/// How many goroutines each creation site has, and of how many `is_new` holds.
fn by_site(
    survey: &Survey,
    is_new: &dyn Fn(&Entry) -> bool,
) -> BTreeMap<Option<PlaceId>, (usize, usize)> {
    let mut sites = BTreeMap::new();
    for one in &survey.goroutines {
        let (count, new) = sites.entry(one.created).or_insert((0, 0));
        *count += one.count;
        *new += if is_new(one) { one.count } else { 0 };
    }
    sites
}

/// Remembers since when goroutines have been seen at one place.
#[derive(Default, Debug)]
pub struct Sightings {
    /// In the order of their numbers.
    seen: Vec<Sighting>,
}

/// One goroutine, where it was, and since when.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    goid: u64,
    at: u64,
    since: u64,
}

impl Sightings {
    /// Notes a look at `now_ns` (of a clock that only goes forward), and tells
    /// the survey what earlier looks saw. Places alone do not prove that it did
    /// not run meanwhile: it was seen there, no more is said.
    pub fn note(&mut self, survey: &mut Survey, now_ns: u64) {
        let mut seen = Vec::with_capacity(survey.goroutines.len());
        for one in &mut survey.goroutines {
            let counts = !matches!(one.status, Status::Running | Status::CopyStack);
            if !counts {
                continue;
            }
            let before = self.seen.binary_search_by_key(&one.goid, |s| s.goid);
            let before = before.ok().and_then(|at| self.seen.get(at));
            let since = match before {
                Some(before) if before.at == one.at => before.since,
                _ => now_ns,
            };
            let observed = now_ns.saturating_sub(since);
            if observed > one.wait.map_or(0, Wait::ns) {
                one.wait = Some(Wait::Observed(observed));
            }
            seen.push(Sighting {
                goid: one.goid,
                at: one.at,
                since,
            });
        }
        seen.sort_unstable_by_key(|s| s.goid);
        self.seen = seen;
    }
}
