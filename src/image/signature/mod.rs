//! What a function takes and gives, from the best source there is: DWARF, the
//! method tables of the runtime's types, a built-in table, pclntab's argument
//! info, and where nothing says anything, registers.
//!
//! `builtin` and its reader `parse` are the table, `args` the argument info,
//! `shape` leads on to places. Allowed in: value, probe, session.

mod args;
mod builtin;
mod parse;
mod shape;
#[cfg(test)]
mod tests;

use crate::addr::LiveAddr;
use crate::arch::abi::{Abi, INT_REGISTERS};
use crate::image::rtti::RttiTypes;
use crate::image::types::{Param, Signature, Source, TypeKind};
use crate::image::{Function, Image};
use crate::memory::Memory;

pub use args::dictionary_place;
pub use builtin::signature as builtin_signature;
pub use shape::{locate, shape};

/// Stack words shown of an assembly function that nobody describes.
const MAX_WORDS: u64 = 12;

/// A function's signature from DWARF, where that has one.
pub type FromDwarf<'a> = &'a dyn Fn(&Function<'_>) -> Option<Signature>;

/// Chooses signatures.
pub struct Signatures<'a, M> {
    image: &'a Image,
    types: &'a RttiTypes<M>,
    dwarf: Option<FromDwarf<'a>>,
}

impl<'a, M: Memory> Signatures<'a, M> {
    /// A chooser for the functions of `image`, whose type descriptors are
    /// `types`. Without DWARF.
    pub fn new(image: &'a Image, types: &'a RttiTypes<M>) -> Self {
        Self {
            image,
            types,
            dwarf: None,
        }
    }

    /// Asks `dwarf` first. Its answers name types of its own table; those of
    /// every other [`Source`] are in the [`RttiTypes`].
    #[must_use]
    pub fn with_dwarf(mut self, dwarf: FromDwarf<'a>) -> Self {
        self.dwarf = Some(dwarf);
        self
    }

    /// One signature a function, in order. Method tables are walked once for
    /// all of them, so ask once.
    /// Each function comes with its calling convention (see [`super::abi_of`]).
    pub fn of(&self, functions: &[(Function<'_>, Abi)]) -> Vec<Signature> {
        let mut found: Vec<Option<Signature>> = functions
            .iter()
            .map(|(f, _)| self.dwarf.and_then(|dwarf| dwarf(f)))
            .collect();
        let open: Vec<usize> = (0..)
            .zip(&found)
            .filter(|(_, f)| f.is_none())
            .map(|(i, _)| i)
            .collect();
        let entry = |index: &usize| {
            let at = functions.get(*index).map_or(0, |(f, _)| f.entry().0);
            let offset = at.wrapping_sub(self.image.module().text.start.0);
            LiveAddr(self.types.section().text.0.wrapping_add(offset))
        };
        let entries: Vec<LiveAddr> = open.iter().map(entry).collect();
        let methods = self.types.signatures_for(&entries);
        for (index, method) in open.into_iter().zip(methods) {
            let (Some((function, _)), Some(slot)) = (functions.get(index), found.get_mut(index))
            else {
                continue;
            };
            let method = method.and_then(|m| m.signature(self.types));
            *slot = method
                .map(|m| self.with_names(m, function))
                .filter(|s| self.is_located(s))
                .or_else(|| self.builtin(function).filter(|s| self.is_located(s)))
                .or_else(|| self.arguments(function));
        }
        let registers = |(found, (function, abi)): (Option<Signature>, &(Function<'_>, Abi))| {
            found.unwrap_or_else(|| self.registers(function, *abi))
        };
        found.into_iter().zip(functions).map(registers).collect()
    }

    fn is_located(&self, signature: &Signature) -> bool {
        locate(self.types, signature, Abi::Internal).is_some()
    }

    fn minor(&self) -> u32 {
        // An unknown version is taken for a new one.
        self.image.go_version().minor().unwrap_or(u32::MAX)
    }

    fn builtin(&self, function: &Function<'_>) -> Option<Signature> {
        builtin::signature(self.types, &function.name(), self.minor())
    }

    /// Method tables have no names; where the built-in table knows the
    /// function too and agrees in number, they are taken from it.
    fn with_names(&self, mut method: Signature, function: &Function<'_>) -> Signature {
        let Some(named) = self.builtin(function) else {
            return method;
        };
        let take = |to: &mut [Param], from: Vec<Param>| {
            if to.len() == from.len() {
                for (to, from) in to.iter_mut().zip(from) {
                    to.name = from.name;
                }
            }
        };
        take(&mut method.params, named.params);
        if let (Some(to), Some(from)) = (&mut method.results, named.results) {
            take(to, from);
        }
        method
    }

    fn arguments(&self, function: &Function<'_>) -> Option<Signature> {
        if function.is_asm() {
            return None;
        }
        let info = function.arg_info()?;
        let code = function.code().unwrap_or_default();
        args::signature(self.types, &info, &function.name(), code)
    }

    /// Nothing is known: the integer registers in the order of arguments, or
    /// for ABI0 the words of the stack; none for a Go function without
    /// argument info, which has no arguments.
    fn registers(&self, function: &Function<'_>, abi: Abi) -> Signature {
        let names: Vec<String> = match abi {
            Abi::Internal if !function.is_asm() && function.args_size() == 0 => Vec::new(),
            Abi::Internal => INT_REGISTERS.iter().map(|&r| r.to_owned()).collect(),
            Abi::Abi0 => {
                let bytes = u64::try_from(function.args_size()).unwrap_or(0);
                (0..(bytes / 8).min(MAX_WORDS))
                    .map(|n| format!("+{}", n * 8))
                    .collect()
            }
        };
        let word = self.types.make("word64", 8, TypeKind::Opaque);
        let param = |name: String| Param {
            name: Some(name.into()),
            ty: word,
        };
        Signature {
            params: names.into_iter().map(param).collect(),
            results: None,
            source: Source::Registers,
        }
    }
}
