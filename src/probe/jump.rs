//! Which sites of a plan can jump into generated code instead of trapping, and
//! why the others cannot.
//!
//! `arch/unit` proves it from a function's bytes; what only the program's file
//! tells is added here: entries of jump tables, where a recovered panic lands,
//! how deep the stack is, who is written in assembly. Data, like the plan that
//! it belongs to; nothing here touches a process.

mod ways;

pub use ways::Ways;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use super::plan::{Event, Plan, Role, Site};
use crate::addr::{ImageAddr, LiveAddr};
use crate::arch::abi::Abi;
use crate::arch::scan::{Disassembler, Scan};
use crate::arch::unit::{CannotJump, Found, Unit, find_units};
use crate::image::{FLAG_SP_WRITE, Function, Image, PCDATA_UNSAFE_POINT, abi_of};
use crate::memory::Memory;

/// More entries than any switch has: a table is read as long as it leads into
/// the function, and functions are bounded.
const MAX_TABLE: u64 = 1 << 16;

/// `abi.UnsafePointUnsafe` (internal/abi/symtab.go): no asynchronous preemption.
const UNSAFE: i32 = -2;

/// How one site would fire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JumpSite {
    /// The bytes that a jump replaces, at the file's addresses, or why it traps.
    pub unit: Result<Unit, CannotJump>,
    /// Places strictly inside the unit where a goroutine may rest that was
    /// preempted by a signal (runtime/preempt.go: asyncPreempt). None for most
    /// stack checks: then parked goroutines need not be looked at for it.
    pub rests: Vec<ImageAddr>,
}

/// How the sites of a plan would fire.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JumpPlan {
    /// One for each of [`Plan::sites`], in their order.
    pub sites: Vec<JumpSite>,
}

/// Plans jumps for the sites of `plan`. What cannot jump has its reason, and
/// no two units share a byte.
pub fn plan_jumps(image: &Image, disassembler: &Disassembler, plan: &Plan) -> JumpPlan {
    let mut known: HashMap<u32, Units> = HashMap::new();
    let sites = plan.sites.iter().map(|site| {
        let Some(function) = image.functions().find(site.at) else {
            return JumpSite {
                unit: Err(CannotJump::NotGo),
                rests: Vec::new(),
            };
        };
        let units = known
            .entry(function.index())
            .or_insert_with(|| Units::of(image, disassembler, &function));
        let unit = units.at(site.at).and_then(|unit| {
            let told = function.sp_delta(ImageAddr(unit.at));
            match told {
                Some(told) if i64::from(told) == i64::from(unit.to_return) => Ok(unit),
                _ => Err(CannotJump::Depth {
                    computed: unit.to_return,
                    told: told.unwrap_or(-1),
                }),
            }
        });
        let rests = unit.as_ref().map_or_else(
            |_| Vec::new(),
            |unit| {
                let inner = unit.inner_starts().map(ImageAddr);
                inner.filter(|pc| may_rest(&function, *pc)).collect()
            },
        );
        JumpSite { unit, rests }
    });
    let mut sites: Vec<JumpSite> = sites.collect();
    drop_overlaps(&mut sites);
    JumpPlan { sites }
}

/// A goroutine may be preempted asynchronously at `pc` and go on there later
/// (runtime/preempt.go: isAsyncSafePoint).
fn may_rest(function: &Function<'_>, pc: ImageAddr) -> bool {
    function.pcdata_at(PCDATA_UNSAFE_POINT, pc) != UNSAFE
}

/// Units of different functions are apart by the functions' ends; this is the
/// last word on it.
fn drop_overlaps(sites: &mut [JumpSite]) {
    let mut last: Option<Range<u64>> = None;
    let mut order: Vec<&mut JumpSite> = sites.iter_mut().collect();
    let start = |site: &&mut JumpSite| site.unit.as_ref().map_or(u64::MAX, |unit| unit.at);
    order.sort_by_key(start);
    for site in order {
        let Ok(unit) = &site.unit else { break };
        let range = unit.range();
        match &last {
            Some(before) if range.start < before.end => {
                site.unit = Err(CannotJump::Overlaps(before.start));
                site.rests.clear();
            }
            _ => last = Some(range),
        }
    }
}

/// The units of one function.
struct Units {
    site: u64,
    found: Result<Found, CannotJump>,
}

impl Units {
    fn of(image: &Image, disassembler: &Disassembler, function: &Function<'_>) -> Units {
        let code = function.code().unwrap_or_default();
        let scan = disassembler.scan_function(code, function.entry().0);
        let found = may_jump(function, &scan)
            .and_then(|()| landings(image, function, &scan))
            .map(|landings| find_units(code, &scan, &landings));
        Units {
            site: scan.site,
            found,
        }
    }

    fn at(&self, at: ImageAddr) -> Result<Unit, CannotJump> {
        let found = self.found.as_ref().map_err(|why| *why)?;
        if at.0 == self.site {
            return found.entry.clone();
        }
        let own = found.returns.iter().find(|(ret, _)| *ret == at.0);
        own.map_or(Err(CannotJump::Undecodable(at.0)), |(_, unit)| unit.clone())
    }
}

/// What keeps all sites of a function from jumping.
fn may_jump(function: &Function<'_>, scan: &Scan) -> Result<(), CannotJump> {
    if function.is_asm() {
        return Err(CannotJump::Assembly);
    }
    // A Go name has its package: what has none came from the C linker.
    if !function.name_bytes().contains(&b'.') {
        return Err(CannotJump::NotGo);
    }
    if abi_of(function, Some(scan)) == Abi::Abi0 {
        return Err(CannotJump::Stackish);
    }
    if function.flags() & FLAG_SP_WRITE != 0 {
        return Err(CannotJump::MovesStack);
    }
    match scan.problems.first() {
        Some(_) => Err(CannotJump::Undecodable(function.entry().0)),
        None => Ok(()),
    }
}

/// Where control comes by other ways than the function's own branches.
fn landings(image: &Image, function: &Function<'_>, scan: &Scan) -> Result<Vec<u64>, CannotJump> {
    let mut landings = Vec::new();
    // A panic that was recovered goes on at the call of deferreturn
    // (runtime/panic.go: recovery).
    landings.extend(
        function
            .deferreturn()
            .map(|offset| function.entry().offset(u64::from(offset)).0),
    );
    let memory = image.memory();
    let inside = function.entry().0..function.end().0;
    for jump in &scan.jump_tables {
        let unknown = CannotJump::UnknownJump(jump.at);
        let table = jump.table.ok_or(unknown)?;
        let entry = |i: u64| LiveAddr(table.wrapping_add(i.wrapping_mul(8)));
        let entries = (0..MAX_TABLE).map_while(|i| memory.read_u64(entry(i)).ok());
        let before = landings.len();
        landings.extend(entries.take_while(|to| inside.contains(to)));
        let found = landings.len().saturating_sub(before) as u64;
        if found == 0 || found == MAX_TABLE {
            return Err(unknown);
        }
    }
    Ok(landings)
}

impl JumpPlan {
    /// How many sites jump.
    pub fn jumps(&self) -> usize {
        self.sites.iter().filter(|site| site.unit.is_ok()).count()
    }

    /// The units, with the index of their site.
    pub fn units(&self) -> impl Iterator<Item = (usize, &Unit)> {
        let sites = self.sites.iter().enumerate();
        sites.filter_map(|(index, site)| Some((index, site.unit.as_ref().ok()?)))
    }

    /// The sites that trap, and why.
    pub fn traps(&self) -> impl Iterator<Item = (usize, CannotJump)> {
        let sites = self.sites.iter().enumerate();
        sites.filter_map(|(index, site)| Some((index, *site.unit.as_ref().err()?)))
    }

    /// What `gotap trace --plan` prints: a line a function, below it one a site
    /// with its bytes, in the end how many of each. `plan` is the one that this
    /// was made from.
    pub fn explain(&self, plan: &Plan) -> String {
        let mut out = String::new();
        for (own, function) in plan.functions.iter().enumerate() {
            let _ = write!(out, "{}  {}", function.name, function.entry);
            if let Err(why) = &function.trap {
                let _ = writeln!(out, "  not armed: {why}");
                continue;
            }
            out.push('\n');
            self.explain_sites(&mut out, plan, |role| match role {
                Role::Entry(f) | Role::Return(Some(f)) => *f == own,
                Role::Return(None) | Role::Event(_) | Role::Place(_) => false,
            });
        }
        let mut rest = |what: &str, has: fn(&Role) -> bool| {
            if plan.sites.iter().any(|site| site.roles.iter().any(has)) {
                let _ = writeln!(out, "{what}");
                self.explain_sites(&mut out, plan, has);
            }
        };
        rest("returns of functions that these end in", |role| {
            matches!(role, Role::Return(None))
        });
        rest("how calls end, told by the runtime", |role| {
            matches!(role, Role::Event(_))
        });
        let (all, jumps) = (self.sites.len(), self.jumps());
        let traps = all.saturating_sub(jumps);
        let _ = writeln!(
            out,
            "{} functions, {all} sites: {jumps} jump, {traps} trap",
            plan.armed()
        );
        out
    }

    fn explain_sites(&self, out: &mut String, plan: &Plan, has: impl Fn(&Role) -> bool) {
        for (site, jump) in plan.sites.iter().zip(&self.sites) {
            for role in site.roles.iter().filter(|role| has(role)) {
                let kind = match role {
                    Role::Entry(_) => "entry ",
                    Role::Return(_) => "return",
                    Role::Place(_) => "place ",
                    Role::Event(event) => {
                        let named = Event::ALL.iter().find(|(one, _)| one == event);
                        named.map_or("", |(_, name)| name)
                    }
                };
                let _ = writeln!(out, "  {kind}  {}", explain_site(site, jump));
            }
        }
    }
}

fn explain_site(site: &Site, jump: &JumpSite) -> String {
    match &jump.unit {
        Ok(unit) => {
            let (at, code) = (ImageAddr(unit.at), hex(&unit.code));
            format!("{at}  jump  {code:32}  {}", unit.instructions())
        }
        Err(why) => {
            let code = hex(site.code.get(..site.insn_len).unwrap_or_default());
            let (at, insn) = (site.at, site.instruction());
            format!("{at}  trap  {code:32}  {insn}  ({why})")
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

#[cfg(test)]
mod tests;
