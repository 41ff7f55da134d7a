//! Which sites jump and which trap, where one session has both.
//!
//! A function's sites fire one way, all of them: between the moment at which its
//! entry is armed and that at which its last return is, a call could end unseen.
//! The same holds for functions that end in a jump to one another, since one's
//! calls end at the other's returns, and for the runtime's functions that tell how
//! calls end. Such sites are a *group*. Groups may differ: hits and records of one
//! goroutine are seen in their order (session/jump/drain.rs).

use std::collections::BTreeMap;

use super::JumpPlan;
use crate::probe::plan::{Event, Plan, Role};

/// How the sites of a plan fire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ways {
    /// Per site its group.
    groups: Vec<usize>,
    /// The groups that trap, and why.
    traps: BTreeMap<usize, String>,
    /// Of this group is `runtime.main`, where the trap handler is installed in
    /// a program that gotap starts: it has no other use.
    main: usize,
}

impl Ways {
    /// By what can jump: a group of which one site cannot traps.
    pub fn of(plan: &Plan, jumps: &JumpPlan) -> Ways {
        let count = plan.functions.len();
        let (events, orphans, main, places) = (count, count + 1, count + 2, count + 3);
        let mut union = Union::new(count + 4);
        let node = |role: &Role| match role {
            Role::Entry(f) | Role::Return(Some(f)) => *f,
            Role::Return(None) => orphans,
            Role::Event(Event::Main) => main,
            Role::Event(_) => events,
            Role::Place(_) => places,
        };
        for site in &plan.sites {
            for pair in site.roles.windows(2) {
                if let [a, b] = pair {
                    union.join(node(a), node(b));
                }
            }
        }
        for (own, function) in plan.functions.iter().enumerate() {
            let Ok(trap) = &function.trap else { continue };
            if trap.foreign_returns > 0 {
                union.join(own, orphans);
            }
            for caller in &trap.tail_callers {
                union.join(own, *caller);
            }
        }
        let groups: Vec<usize> = plan
            .sites
            .iter()
            .map(|site| site.roles.first().map_or(orphans, |r| union.root(node(r))))
            .collect();
        let main = union.root(main);
        let mut traps = BTreeMap::from([(main, "its only use is for traps".to_owned())]);
        for (site, why) in jumps.traps() {
            if let Some(group) = groups.get(site) {
                traps.entry(*group).or_insert_with(|| why.to_string());
            }
        }
        Ways {
            groups,
            traps,
            main,
        }
    }

    /// The group of a site.
    pub fn group(&self, site: usize) -> usize {
        self.groups.get(site).copied().unwrap_or(usize::MAX)
    }

    /// A site jumps.
    pub fn jumps(&self, site: usize) -> bool {
        !self.traps.contains_key(&self.group(site))
    }

    /// A group is to trap after all.
    pub fn set_trap(&mut self, group: usize, why: String) {
        self.traps.entry(group).or_insert(why);
    }

    /// How many sites jump and how many trap.
    pub fn counts(&self) -> (usize, usize) {
        let all = 0..self.groups.len();
        let jump = all.clone().filter(|site| self.jumps(*site)).count();
        let mut others = all.filter(|site| self.group(*site) != self.main);
        let all = others.by_ref().count();
        (jump, all.saturating_sub(jump))
    }

    /// The functions of a plan that trap, by index, and why.
    pub fn trapped<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (usize, &'a str)> {
        plan.functions.iter().enumerate().filter_map(|(own, f)| {
            let trap = f.trap.as_ref().ok()?;
            let why = self.traps.get(&self.group(trap.entry_site))?;
            Some((own, why.as_str()))
        })
    }

    /// Why the runtime's functions that tell how calls end do not jump.
    pub fn events_trap<'a>(&'a self, plan: &Plan) -> Option<&'a str> {
        let site = plan.event_site(Event::Panic)?;
        self.traps.get(&self.group(site)).map(String::as_str)
    }
}

/// Sets that grow together.
struct Union(Vec<usize>);

impl Union {
    fn new(count: usize) -> Union {
        Union((0..count).collect())
    }

    fn root(&mut self, of: usize) -> usize {
        let mut at = of;
        while let Some(up) = self.0.get(at).copied().filter(|up| *up != at) {
            at = up;
        }
        if let Some(place) = self.0.get_mut(of) {
            *place = at;
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if let Some(place) = self.0.get_mut(a.max(b)) {
            *place = a.min(b);
        }
    }
}
