//! From functions to sites: where traps would go, and why some cannot.
//!
//! A function is entered once a call at the first instruction behind its stack
//! check, and left at its RETs. One that ends in a jump to another function has
//! no RET for that way out: the other one's RETs are its own then, at the same
//! depth, so they become sites too, followed as far as jumps lead. Nothing here
//! touches a process; a plan is data that the session arms. Single instructions
//! that are to be told of are planned by `places`.

mod places;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;

use super::hot::is_hot;
use super::never::{Avoid, Never, may_be_reached};
use crate::addr::{ImageAddr, LiveAddr};
use crate::arch::abi::Abi;
use crate::arch::scan::{Disassembler, Problem, Scan};
use crate::arch::slot::{CannotMove, MAX_INSN, instruction_text, relocate};
use crate::image::{Function, Image, Match, abi_of};
use crate::memory::Memory;
pub use places::{PlaceWanted, PlannedPlace, step_site};

/// Most functions that tail jumps are followed to, from one function.
const MAX_TAIL: usize = 32;

/// Most entries of a jump table that are looked at.
const MAX_TABLE: u64 = 1024;

/// A function that somebody wants traced.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The function.
    pub function: Function<'a>,
    /// Named exactly, not found by an expression.
    pub exact: bool,
}

impl<'a> From<&Match<'a>> for Wanted<'a> {
    fn from(found: &Match<'a>) -> Self {
        Self {
            function: found.function,
            exact: found.exact,
        }
    }
}

/// Why a function cannot be traced.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// On the list, or reached from it.
    #[error("{0}")]
    Never(#[from] Never),
    /// A hot path that an expression matched.
    #[error("one of the runtime's hot paths: name it exactly to trace it all the same")]
    Hot,
    /// Its bytes are not in the file.
    #[error("the file does not hold its code")]
    NoCode,
    /// It could not be looked through.
    #[error("{0}")]
    Scan(#[from] Problem),
    /// The instruction at its entry site must stay where it is.
    #[error("{0}")]
    Move(#[from] CannotMove),
    /// An address that is in no function.
    #[error("no function is at {0}")]
    Nowhere(ImageAddr),
    /// An address in the middle of an instruction.
    #[error("no instruction begins at {0}")]
    Inside(ImageAddr),
}

/// Something that happens in the runtime and tells how calls end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// `runtime.gopanic`: a panic begins to unwind.
    Panic,
    /// `runtime.Goexit`: a goroutine begins to end itself.
    Goexit,
    /// `runtime.goexit1`: a goroutine is at its end.
    GoexitDone,
    /// `runtime.recovery`: a panic was recovered; on g0.
    Recovery,
    /// `runtime.main`: the runtime has set up its signal handlers.
    Main,
}

impl Event {
    /// All of them, with the function whose entry tells.
    pub const ALL: [(Event, &'static str); 5] = [
        (Event::Panic, "runtime.gopanic"),
        (Event::Goexit, "runtime.Goexit"),
        (Event::GoexitDone, "runtime.goexit1"),
        (Event::Recovery, "runtime.recovery"),
        (Event::Main, "runtime.main"),
    ];
}

/// What a hit of a site means; a site may have several roles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// A call of this function (index into [`Plan::functions`]) begins.
    Entry(usize),
    /// A call returns. With an index: that function's own RET, so a call that is
    /// not known began before anybody looked. Without: a RET of a function that
    /// is not traced itself but may stand in for one that jumped to it; unknown
    /// calls there are nobody's.
    Return(Option<usize>),
    /// The runtime says something.
    Event(Event),
    /// A thread passes a place (index into [`Plan::places`]).
    Place(usize),
}

/// An address to be armed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// Where.
    pub at: ImageAddr,
    /// What the file has there and behind.
    pub code: [u8; MAX_INSN],
    /// Length of the displaced instruction.
    pub insn_len: usize,
    /// It may fault: then the signal is delivered with rip set back to the
    /// site, so that Go knows whose fault it was. When nobody is there to do that
    /// (gotap was killed), Go blames the caller: it knows no code at the slot,
    /// but does at the address on top of the stack (`shouldPushSigpanic` in
    /// runtime/signal_unix.go, Go 1.19 to 1.27). Such a site stands before any
    /// frame, so that address is the caller's.
    pub can_fault: bool,
    /// It is the runtime's, or of what that imports: only such code can run with
    /// signals blocked, by a way that the list of the never armed does not know.
    pub doubtful: bool,
    /// Entries first: a RET that is all of a function begins and ends a call.
    pub roles: Vec<Role>,
}

impl Site {
    /// The displaced instruction, for people.
    pub fn instruction(&self) -> String {
        instruction_text(&self.code, self.at.0)
    }
}

/// How a function would be trapped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trap {
    /// Index of its entry site in [`Plan::sites`].
    pub entry_site: usize,
    /// The entry site lies behind a stack check.
    pub after_check: bool,
    /// A branch of the function leads to its entry site: passing it at the same
    /// depth is no new call.
    pub branch_target: bool,
    /// How many RETs it has itself.
    pub returns: usize,
    /// How many RETs of functions it jumps to were added for it.
    pub foreign_returns: usize,
    /// Traced functions (indexes into [`Plan::functions`]) that end in a jump to
    /// this one, directly or by way of others.
    pub tail_callers: Vec<usize>,
    /// Names of functions it may end in whose RETs are not armed, and why; a
    /// call that ends there stays open until something proves it gone.
    pub unseen_ends: Vec<String>,
    /// No RET and no way to one: it panics, exits or runs for ever.
    pub never_returns: bool,
}

/// One function of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FunctionPlan {
    /// As Go writes it.
    pub name: String,
    /// Its index in the image's function table.
    pub index: u32,
    /// Its first instruction.
    pub entry: ImageAddr,
    /// Where the next function begins.
    pub end: ImageAddr,
    /// How arguments come.
    pub abi: Abi,
    /// How it is trapped, or why not.
    pub trap: Result<Trap, Refusal>,
}

impl FunctionPlan {
    /// What `--list` says behind the name.
    pub fn explain(&self) -> String {
        let trap = match &self.trap {
            Err(why) => return format!("not armed: {why}"),
            Ok(trap) => trap,
        };
        let mut text = String::from("trap: 1 entry, ");
        match trap.returns + trap.foreign_returns {
            0 if trap.never_returns => text.push_str("never returns"),
            0 => text.push_str("no return of its own"),
            1 => text.push_str("1 return"),
            n => {
                let _ = write!(text, "{n} returns");
            }
        }
        match trap.foreign_returns {
            0 => {}
            n => {
                let _ = write!(text, " ({n} by tail jump)");
            }
        }
        if trap.branch_target {
            text.push_str(", loops to its entry");
        }
        for end in &trap.unseen_ends {
            text.push_str("; ends unseen in ");
            text.push_str(end);
        }
        text
    }
}

/// Where traps go for a set of functions.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order asked for, each once.
    pub functions: Vec<FunctionPlan>,
    /// Ascending by address.
    pub sites: Vec<Site>,
    /// Single instructions, in the order asked for.
    pub places: Vec<Result<PlannedPlace, Refusal>>,
}

impl Plan {
    /// Functions that can be traced.
    pub fn armed(&self) -> usize {
        self.functions.iter().filter(|f| f.trap.is_ok()).count()
    }

    /// One line a function: name, entry, what would be done.
    pub fn explain(&self) -> String {
        let width = self.functions.iter().map(|f| f.name.len()).max();
        let width = width.unwrap_or(0).min(60);
        let mut out = String::new();
        for f in &self.functions {
            let _ = writeln!(out, "{:width$}  {}  {}", f.name, f.entry, f.explain());
        }
        out
    }

    /// The site of an event, when the program has it.
    pub fn event_site(&self, event: Event) -> Option<usize> {
        let is = |s: &Site| s.roles.contains(&Role::Event(event));
        self.sites.iter().position(is)
    }
}

/// Plans traps for `wanted`, and for `events` besides when anything is armed.
pub fn plan(
    image: &Image,
    disassembler: &Disassembler,
    wanted: &[Wanted<'_>],
    events: &[Event],
) -> Plan {
    plan_with(image, disassembler, wanted, &[], events)
}

/// The same, and single instructions to be told of besides.
pub fn plan_with(
    image: &Image,
    disassembler: &Disassembler,
    wanted: &[Wanted<'_>],
    places: &[PlaceWanted],
    events: &[Event],
) -> Plan {
    let mut planner = Planner {
        image,
        disassembler,
        avoid: Avoid::new(),
        scans: HashMap::new(),
        sites: BTreeMap::new(),
        by_index: HashMap::new(),
        functions: Vec::new(),
        places: Vec::new(),
    };
    for one in wanted {
        planner.add(one);
    }
    planner.add_places(places);
    planner.follow_tail_jumps();
    if planner.functions.iter().any(|f| f.trap.is_ok()) {
        planner.add_events(events);
    }
    planner.finish()
}

struct Planner<'a> {
    image: &'a Image,
    disassembler: &'a Disassembler,
    avoid: Avoid,
    /// By index in the function table.
    scans: HashMap<u32, Result<Rc<Scan>, Refusal>>,
    sites: BTreeMap<u64, Site>,
    /// Index in the function table → index of the plan.
    by_index: HashMap<u32, usize>,
    functions: Vec<FunctionPlan>,
    places: Vec<Result<PlannedPlace, Refusal>>,
}

impl Planner<'_> {
    fn add(&mut self, wanted: &Wanted<'_>) {
        let function = &wanted.function;
        if self.by_index.contains_key(&function.index()) {
            return;
        }
        let own = self.functions.len();
        self.by_index.insert(function.index(), own);
        let name = function.name().into_owned();
        let trap = if !wanted.exact && is_hot(&name) {
            // The reason from the list of the never armed is the better one.
            let never = self.avoid.why(self.image, self.disassembler, function);
            Err(never.map_or(Refusal::Hot, Refusal::Never))
        } else {
            self.trap(function, own)
        };
        let abi = self.abi(function);
        self.functions.push(FunctionPlan {
            name,
            index: function.index(),
            entry: function.entry(),
            end: function.end(),
            abi,
            trap,
        });
    }

    fn trap(&mut self, function: &Function<'_>, own: usize) -> Result<Trap, Refusal> {
        let never = self.avoid.why(self.image, self.disassembler, function);
        never.map_or(Ok(()), Err)?;
        let scan = self.scan(function)?;
        self.site(function, scan.site, Role::Entry(own))?;
        for ret in &scan.rets {
            self.site(function, *ret, Role::Return(Some(own)))?;
        }
        Ok(Trap {
            // Replaced by the site's index in the end.
            entry_site: 0,
            after_check: scan.check.is_some(),
            branch_target: scan.reenters_site() || self.table_leads_to(&scan, function),
            returns: scan.rets.len(),
            never_returns: scan.rets.is_empty() && scan.tail_jumps.is_empty(),
            ..Trap::default()
        })
    }

    /// A scan that can be trusted.
    fn scan(&mut self, function: &Function<'_>) -> Result<Rc<Scan>, Refusal> {
        if let Some(known) = self.scans.get(&function.index()) {
            return known.clone();
        }
        let scan = match function.code() {
            None => Err(Refusal::NoCode),
            Some(code) => {
                let scan = self.disassembler.scan_function(code, function.entry().0);
                match scan.problems.first() {
                    Some(problem) => Err(Refusal::Scan(*problem)),
                    None => Ok(Rc::new(scan)),
                }
            }
        };
        self.scans.insert(function.index(), scan.clone());
        scan
    }

    /// Adds a role to a site, which is made if it is new.
    fn site(&mut self, function: &Function<'_>, at: u64, role: Role) -> Result<(), CannotMove> {
        if let Some(site) = self.sites.get_mut(&at) {
            if !site.roles.contains(&role) {
                site.roles.push(role);
            }
            return Ok(());
        }
        let offset = at.wrapping_sub(function.entry().0) as usize;
        let rest = function.code().and_then(|code| code.get(offset..));
        let mut code = [0xcc; MAX_INSN];
        for (to, from) in code.iter_mut().zip(rest.unwrap_or_default()) {
            *to = *from;
        }
        // Any slot within reach does for asking whether it can be moved.
        let slot = relocate(&code, at, at.wrapping_add(1 << 20))?;
        self.sites.insert(
            at,
            Site {
                at: ImageAddr(at),
                code,
                insn_len: slot.insn_len,
                can_fault: slot.can_fault,
                doubtful: may_be_reached(&function.name()),
                roles: vec![role],
            },
        );
        Ok(())
    }

    /// An entry of one of the function's jump tables is its entry site.
    fn table_leads_to(&self, scan: &Scan, function: &Function<'_>) -> bool {
        let memory = self.image.memory();
        let inside = function.entry().0..function.end().0;
        scan.jump_tables
            .iter()
            .filter_map(|t| t.table)
            .any(|table| {
                (0..MAX_TABLE)
                    .map_while(|i| memory.read_u64(LiveAddr(table.wrapping_add(i * 8))).ok())
                    .take_while(|to| inside.contains(to))
                    .any(|to| to == scan.site)
            })
    }

    fn abi(&mut self, function: &Function<'_>) -> Abi {
        let scan = self.scan(function).ok();
        abi_of(function, scan.as_deref())
    }

    /// Adds the RETs of functions that planned ones jump to, and notes which
    /// planned functions lead to which.
    fn follow_tail_jumps(&mut self) {
        let planned: Vec<(usize, u32)> = self
            .functions
            .iter()
            .enumerate()
            .filter(|(_, f)| f.trap.is_ok())
            .map(|(own, f)| (own, f.index))
            .collect();
        for (own, index) in planned {
            let found = self.follow_from(own, index);
            for to in found.planned {
                if let Some(trap) = self.trap_of(to) {
                    trap.tail_callers.push(own);
                }
            }
            if let Some(trap) = self.trap_of(own) {
                trap.foreign_returns = found.returns;
                trap.unseen_ends = found.unseen;
            }
        }
    }

    fn trap_of(&mut self, own: usize) -> Option<&mut Trap> {
        self.functions.get_mut(own)?.trap.as_mut().ok()
    }

    fn follow_from(&mut self, own: usize, index: u32) -> Followed {
        let functions = self.image.functions();
        let mut found = Followed::default();
        let mut seen = HashSet::from([index]);
        let mut work = VecDeque::from([index]);
        while let Some(index) = work.pop_front() {
            let Some(Ok(scan)) = self.scans.get(&index).cloned() else {
                continue;
            };
            if let Some(jump) = scan.tail_jumps.iter().find(|j| j.target.is_none()) {
                let text = format!("a computed jump at {:#x}", jump.at);
                found.unseen.push(text);
            }
            for target in scan.tail_jumps.iter().filter_map(|jump| jump.target) {
                let Some(next) = functions.find(ImageAddr(target)) else {
                    found.unseen.push(format!("code at {target:#x}"));
                    continue;
                };
                if !seen.insert(next.index()) {
                    continue;
                }
                if seen.len() > MAX_TAIL {
                    found.unseen.push(format!("{} and more", next.name()));
                    return found;
                }
                match self.end_in(&next, own) {
                    Ok(End::Planned(to)) => found.planned.push(to),
                    Ok(End::Foreign(returns)) => found.returns += returns,
                    Err(why) => {
                        found.unseen.push(format!("{} ({why})", next.name()));
                        continue;
                    }
                }
                work.push_back(next.index());
            }
        }
        found
    }

    /// A planned function may end in this one.
    fn end_in(&mut self, next: &Function<'_>, own: usize) -> Result<End, Refusal> {
        if let Some(to) = self.by_index.get(&next.index()).copied()
            && to != own
            && self.trap_of(to).is_some()
        {
            return Ok(End::Planned(to));
        }
        let never = self.avoid.why(self.image, self.disassembler, next);
        never.map_or(Ok(()), Err)?;
        if is_hot(&next.name()) {
            return Err(Refusal::Hot);
        }
        let scan = self.scan(next)?;
        for ret in &scan.rets {
            self.site(next, *ret, Role::Return(None))?;
        }
        Ok(End::Foreign(scan.rets.len()))
    }

    fn add_events(&mut self, events: &[Event]) {
        let wanted = Event::ALL
            .iter()
            .filter(|(event, _)| events.contains(event));
        let (kinds, names): (Vec<Event>, Vec<&str>) = wanted.copied().unzip();
        let found = self.image.functions().by_names(&names);
        for (event, functions) in kinds.into_iter().zip(found) {
            let Some(function) = functions.first() else {
                continue;
            };
            if let Ok(scan) = self.scan(function) {
                let _ = self.site(function, scan.site, Role::Event(event));
            }
        }
    }

    fn finish(mut self) -> Plan {
        let mut sites: Vec<Site> = self.sites.into_values().collect();
        // A function refused half way may have left sites behind.
        let functions = &self.functions;
        let armed = |own: usize| functions.get(own).is_some_and(|f| f.trap.is_ok());
        for site in &mut sites {
            site.roles.retain(|role| match role {
                Role::Entry(own) | Role::Return(Some(own)) => armed(*own),
                Role::Return(None) | Role::Event(_) | Role::Place(_) => true,
            });
            site.roles.sort_by_key(|role| match role {
                Role::Event(_) => 0,
                Role::Entry(_) => 1,
                Role::Return(_) => 2,
                Role::Place(_) => 3,
            });
        }
        sites.retain(|site| !site.roles.is_empty());
        for (i, site) in sites.iter().enumerate() {
            for role in &site.roles {
                if let Role::Entry(own) = role
                    && let Some(f) = self.functions.get_mut(*own)
                    && let Ok(trap) = &mut f.trap
                {
                    trap.entry_site = i;
                }
            }
        }
        Plan {
            functions: self.functions,
            sites,
            places: self.places,
        }
    }
}

#[derive(Default)]
struct Followed {
    returns: usize,
    planned: Vec<usize>,
    unseen: Vec<String>,
}

enum End {
    Planned(usize),
    Foreign(usize),
}

#[cfg(test)]
mod tests;
