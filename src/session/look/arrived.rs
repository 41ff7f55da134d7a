//! The arguments of a goroutine that stands where its function begins: they are
//! still in registers, and the places on the stack where they are to be kept
//! hold something older.

use std::cell::RefCell;

use super::Source;
use crate::addr::{ImageAddr, LiveAddr};
use crate::arch::abi::{Location, Reg};
use crate::arch::prologue::parse_stack_check;
use crate::arch::scan::Disassembler;
use crate::golang::errors::ErrorReader;
use crate::image::signature::{Signatures, locate};
use crate::image::types::{Source as From, TypeTable};
use crate::image::{Function, abi_of};
use crate::probe::plan::{Wanted, plan};
use crate::record::Named;
use crate::session::SessionError;
use crate::session::adapters::FileMemory;
use crate::session::seen::Seen;
use crate::session::values::{At, Values, int_registers};
use crate::sys::Regs;

/// Words of registers, by how far from the first argument on the stack each is
/// to be kept.
pub(super) type Spilled = Vec<(u64, u64)>;

impl Source {
    /// The arguments of a goroutine that stands where its function begins, by
    /// name (`a0`, `a1` … where names are not known), as `trace` shows them.
    /// `None` where it stands elsewhere.
    pub fn args_at_entry(&self, goid: u64) -> Result<Option<Named>, SessionError> {
        let stands = self.stands(goid)?;
        let Some((tid, regs)) = stands.and_then(|s| s.thread) else {
            return Ok(None);
        };
        let target = &self.target;
        let image = &target.image;
        let at = target.bias.image(LiveAddr(regs.rip));
        let Some(function) = image.functions().find(at).filter(|f| is_at_entry(f, at)) else {
            return Ok(None);
        };
        let Ok(disassembler) = Disassembler::new() else {
            return Ok(None);
        };
        let exact = true;
        let plan = plan(image, &disassembler, &[Wanted { function, exact }], &[]);
        let own = u64::try_from(tid).ok();
        let vectors = self.threads.iter().find(|t| Some(t.tid) == own);
        let seen = Seen {
            floats: vectors.and_then(|t| t.vectors.as_ref()).map(low_halves),
            ..Seen::stopped(&regs, 0, &*self.memory)
        };
        let types = target.live_types();
        let minor = image.go_version().minor();
        let errors = RefCell::new(ErrorReader::new(target.layouts.clone(), minor));
        let hit = At {
            seen: &seen,
            types: &types,
            errors: &errors,
        };
        Ok(Some(Values::new(target, &plan).args(0, &hit)))
    }

    /// The same as the words that a traceback shows, before they are kept.
    pub(super) fn spilled_at_entry(
        &self,
        function: &Function<'_>,
        regs: &Regs,
        vectors: Option<&[u64; 16]>,
    ) -> Spilled {
        let target = &self.target;
        let at = target.bias.image(LiveAddr(regs.rip));
        if !is_at_entry(function, at) {
            return Spilled::new();
        }
        let dwarf = target.debug_info().ok().flatten();
        let ask = |f: &Function<'_>| dwarf.as_ref().and_then(|d| d.signature_of(f));
        let scan = function.code().and_then(|code| {
            let disassembler = Disassembler::new().ok()?;
            Some(disassembler.scan_function(code, function.entry().0))
        });
        let abi = abi_of(function, scan.as_ref());
        let found = Signatures::<FileMemory>::new(&target.image, &target.types)
            .with_dwarf(&ask)
            .of(&[(*function, abi)]);
        let Some(signature) = found.first() else {
            return Spilled::new();
        };
        let table: &dyn TypeTable = match (&dwarf, signature.source) {
            (Some(dwarf), From::Dwarf) => &**dwarf,
            _ => &*target.types,
        };
        let Some(layout) = locate(table, signature, abi) else {
            return Spilled::new();
        };
        let ints = int_registers(regs);
        let mut spilled = Spilled::new();
        for slot in &layout.params {
            let (Some(spill), Location::Registers(pieces)) = (slot.spill, &slot.location) else {
                continue;
            };
            for piece in pieces {
                let word = match piece.reg {
                    Reg::Int(i) => ints.get(usize::from(i)).copied(),
                    Reg::Float(i) => vectors.and_then(|v| v.get(usize::from(i)).copied()),
                };
                if let Some(word) = word {
                    spilled.push((spill.wrapping_add(piece.offset), word));
                }
            }
        }
        spilled
    }
}

/// At the first instruction, or the first behind the stack check: nothing has
/// touched the arguments' registers.
fn is_at_entry(function: &Function<'_>, at: ImageAddr) -> bool {
    if at == function.entry() {
        return true;
    }
    let check = function.code().and_then(parse_stack_check);
    check.is_some_and(|check| function.entry().offset(check.len as u64) == at)
}

fn low_halves(vectors: &[u64; 16]) -> [[u8; 16]; 16] {
    let mut floats = [[0; 16]; 16];
    for (register, low) in floats.iter_mut().zip(vectors) {
        for (to, from) in register.iter_mut().zip(low.to_le_bytes()) {
            *to = from;
        }
    }
    floats
}
