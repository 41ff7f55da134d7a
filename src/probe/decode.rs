//! A function's arguments and results, read where its signature says they are.
//!
//! At the first instruction behind the stack check arguments are where the
//! caller put them, at a RET results are where the callee put them: in
//! registers by Go's ABI, or on the stack above the return address.

use std::sync::Arc;

use crate::addr::LiveAddr;
use crate::arch::abi::{self, INT_REGISTERS, Location, Reg};
use crate::image::signature::locate;
use crate::image::types::{Param, Signature, Source, TypeId, TypeKind, TypeTable};
use crate::memory::Memory;
use crate::value::held::Held;
use crate::value::{Limits, Place, RuntimeTypes, Value, load_all, preload};

/// The largest value that is gathered from registers, bytes: nine integer and
/// fifteen float registers' worth.
const MAX_GATHERED: usize = 24 * 8;

/// Registers shown where nothing is known of the results: as many as
/// `(n int, err error)` takes.
const RAW_RESULTS: usize = 3;

/// The registers that Go passes values in.
#[derive(Debug, Clone, Copy)]
pub struct Registers {
    /// RAX RBX RCX RDI RSI R8 R9 R10 R11.
    pub ints: [u64; 9],
    /// X0 to X15, when they were read.
    pub floats: Option<[[u8; 16]; 16]>,
}

/// A parameter or result and its place.
#[derive(Debug, Clone)]
struct Part {
    name: Arc<str>,
    ty: TypeId,
    size: usize,
    location: Location,
    is_error: bool,
}

/// How one function's values are read.
#[derive(Debug, Clone)]
pub struct Decoder {
    params: Vec<Part>,
    results: Vec<Part>,
    /// Its types are the DWARF table's, not the descriptors'.
    pub from_dwarf: bool,
    /// Only shapes are known: aggregates are words without names.
    shapes_only: bool,
    /// Nothing is known of the results: the first registers are shown as they are.
    raw_results: bool,
    /// Where the receiver (or first argument) is spilled to, from argp.
    pub first_spill: Option<u64>,
}

/// What must be known of a thread to read values: registers, and the part of
/// its stack above the return address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Bit n: the integer register of that place in Go's sequence.
    pub ints: u16,
    /// Bit n: Xn.
    pub floats: u16,
    /// Bytes from argp: first, and behind the last.
    pub stack: Option<(u64, u64)>,
}

impl Needs {
    /// Every integer register, and nothing else.
    pub const REGISTERS: Needs = Needs {
        ints: 0x1ff,
        floats: 0,
        stack: None,
    };

    /// What both need.
    #[must_use]
    pub fn and(self, other: Needs) -> Needs {
        let stack = match (self.stack, other.stack) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, None) | (None, one) => one,
        };
        Needs {
            ints: self.ints | other.ints,
            floats: self.floats | other.floats,
            stack,
        }
    }
}

/// An error among the results: its two words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorResult {
    /// Which result.
    pub index: usize,
    /// The itab; 0 for nil.
    pub itab: u64,
    /// The data word.
    pub data: u64,
}

/// Structs within structs that are looked through.
const MAX_NESTED: usize = 8;

/// A value of this type points to more that is shown with it.
fn points(ty: TypeId, table: &dyn TypeTable, deeper: usize) -> bool {
    let Some(deeper) = deeper.checked_sub(1) else {
        return true;
    };
    match &table.get(ty).kind {
        TypeKind::String
        | TypeKind::Pointer(_)
        | TypeKind::Slice(_)
        | TypeKind::Interface { .. }
        | TypeKind::Map { .. }
        | TypeKind::Chan(_)
        | TypeKind::Func => true,
        TypeKind::Array { elem, .. } => points(*elem, table, deeper),
        TypeKind::Struct(fields) => fields.iter().any(|f| points(f.ty, table, deeper)),
        TypeKind::Bool
        | TypeKind::Int { .. }
        | TypeKind::Float
        | TypeKind::Complex
        | TypeKind::UnsafePointer
        | TypeKind::Opaque => false,
    }
}

impl Decoder {
    /// For a signature whose types are in `table`; `None` when some type's
    /// size is not known, so that nothing behind it can be placed.
    pub fn new(table: &dyn TypeTable, signature: &Signature, abi: abi::Abi) -> Option<Decoder> {
        let layout = locate(table, signature, abi)?;
        let part = |(index, (param, slot)): (usize, (&Param, &abi::Slot)), prefix: char| {
            let ty = table.get(param.ty);
            Some(Part {
                name: match &param.name {
                    Some(name) => name.clone(),
                    None => format!("{prefix}{index}").into(),
                },
                ty: param.ty,
                size: usize::try_from(ty.size).ok()?,
                location: slot.location.clone(),
                is_error: &*ty.name == "error"
                    && matches!(ty.kind, TypeKind::Interface { empty: false }),
            })
        };
        let params = signature.params.iter().zip(&layout.params).enumerate();
        let results = signature
            .results
            .iter()
            .flatten()
            .zip(&layout.results)
            .enumerate();
        Some(Decoder {
            params: params.map(|p| part(p, 'a')).collect::<Option<_>>()?,
            results: results.map(|p| part(p, 'r')).collect::<Option<_>>()?,
            from_dwarf: signature.source == Source::Dwarf,
            shapes_only: signature.source == Source::ArgInfo,
            raw_results: signature.results.is_none() && abi == abi::Abi::Internal,
            first_spill: layout.params.first().and_then(|slot| slot.spill),
        })
    }

    /// Names of the parameters that are shown.
    pub fn param_names(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        shown(&self.params).map(|p| p.name.clone())
    }

    /// Names of the results.
    pub fn result_names(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        shown(&self.results).map(|p| p.name.clone())
    }

    /// Names and types of parameters, then of results (true), as far as the
    /// source has them.
    pub fn variables(&self) -> impl Iterator<Item = (&Arc<str>, TypeId, bool)> + '_ {
        let params = shown(&self.params).map(|p| (&p.name, p.ty, false));
        params.chain(shown(&self.results).map(|p| (&p.name, p.ty, true)))
    }

    /// Where the bytes of the parameters are at an entry, or of the results at
    /// a RET.
    pub fn held<'d>(
        &'d self,
        results: bool,
        from: &'d Origin<'_>,
    ) -> impl Iterator<Item = (&'d Arc<str>, TypeId, Held)> + 'd {
        let parts = if results { &self.results } else { &self.params };
        shown(parts).map(|part| {
            let held = match &part.location {
                Location::Stack { offset } => Held::At(from.argp.offset(*offset)),
                Location::Registers(_) => match gather(part, &from.registers) {
                    Some(bytes) => Held::bytes(&bytes),
                    None => Held::Nowhere,
                },
            };
            (&part.name, part.ty, held)
        })
    }

    /// Something that is shown lies in memory that a value points to: a string's
    /// bytes, a slice's elements. Errors are left aside: they have a reader of
    /// their own.
    pub fn follows(&self, table: &dyn TypeTable) -> bool {
        let parts = shown(&self.params).chain(shown(&self.results));
        let mut parts = parts.filter(|part| !part.is_error);
        !self.shapes_only && parts.any(|part| points(part.ty, table, MAX_NESTED))
    }

    /// Loads the descriptions of all types now, so that nothing has to be looked
    /// up while a thread waits.
    pub fn preload(&self, table: &dyn TypeTable, limits: &Limits) {
        for part in self.params.iter().chain(&self.results) {
            preload(part.ty, table, limits);
        }
    }

    /// What [`Decoder::args`] looks at, but for what values point to.
    pub fn args_need(&self) -> Needs {
        needs(&self.params)
    }

    /// What [`Decoder::results`] and [`Decoder::error`] look at.
    pub fn results_need(&self) -> Needs {
        if self.raw_results {
            return Needs {
                ints: (1 << RAW_RESULTS) - 1,
                ..Needs::default()
            };
        }
        needs(&self.results)
    }

    /// Some argument is in a float register.
    pub fn args_need_floats(&self) -> bool {
        needs_floats(&self.params)
    }

    /// Some result is in a float register.
    pub fn results_need_floats(&self) -> bool {
        needs_floats(&self.results)
    }

    /// The arguments, at a function's entry site. `argp` is RSP+8 there.
    pub fn args(&self, from: &Origin<'_>) -> Vec<(Arc<str>, Value)> {
        let mut args = load_parts(&self.params, from);
        if self.shapes_only {
            for (_, value) in &mut args {
                *value = unnamed(std::mem::replace(value, Value::Nil));
            }
        }
        args
    }

    /// The results, at a RET. `argp` is RSP+8 there.
    pub fn results(&self, from: &Origin<'_>) -> Vec<(Arc<str>, Value)> {
        if self.raw_results {
            return raw_registers(&from.registers);
        }
        load_parts(&self.results, from)
    }

    /// Its last result is an `error`.
    pub fn gives_error(&self) -> bool {
        self.results.last().is_some_and(|part| part.is_error)
    }

    /// The last result, when it is an `error`.
    pub fn error(&self, from: &Origin<'_>) -> Option<ErrorResult> {
        let index = self.results.len().checked_sub(1)?;
        let part = self.results.get(index).filter(|p| p.is_error)?;
        let mut words = [0; 16];
        match &part.location {
            Location::Registers(_) => {
                let bytes = gather(part, &from.registers)?;
                words.copy_from_slice(bytes.get(..16)?);
            }
            Location::Stack { offset } => {
                from.memory
                    .read(from.argp.offset(*offset), &mut words)
                    .ok()?;
            }
        }
        let (itab, data) = words.split_at(8);
        Some(ErrorResult {
            index,
            itab: u64::from_le_bytes(itab.try_into().ok()?),
            data: u64::from_le_bytes(data.try_into().ok()?),
        })
    }
}

/// Where values are read from at one hit.
pub struct Origin<'a> {
    /// The thread's registers.
    pub registers: Registers,
    /// Just above the return address.
    pub argp: LiveAddr,
    /// The target.
    pub memory: &'a dyn Memory,
    /// The table that the decoder's types are in.
    pub types: &'a dyn TypeTable,
    /// How much is loaded.
    pub limits: &'a Limits,
    /// What the program's own type data tells.
    pub runtime: &'a dyn RuntimeTypes,
}

/// The registers that results begin in, by name: whether the function gives any
/// at all is not known.
fn raw_registers(registers: &Registers) -> Vec<(Arc<str>, Value)> {
    INT_REGISTERS
        .iter()
        .zip(registers.ints)
        .take(RAW_RESULTS)
        .map(|(name, word)| (Arc::from(*name), Value::Raw(word)))
        .collect()
}

/// A struct of which only the shape is known, as the list of words it is.
fn unnamed(value: Value) -> Value {
    match value {
        Value::Struct {
            fields, omitted, ..
        } => Value::List {
            ty: Arc::from(""),
            len: fields.len() as u64 + omitted,
            items: fields
                .into_iter()
                .map(|(_, field)| unnamed(field))
                .collect(),
        },
        other => other,
    }
}

/// A dictionary of a generic function is the compiler's business.
fn shown(parts: &[Part]) -> impl Iterator<Item = &Part> {
    parts.iter().filter(|p| !p.name.starts_with('.'))
}

fn needs_floats(parts: &[Part]) -> bool {
    parts.iter().any(|p| match &p.location {
        Location::Registers(pieces) => pieces.iter().any(|p| matches!(p.reg, Reg::Float(_))),
        Location::Stack { .. } => false,
    })
}

fn needs(parts: &[Part]) -> Needs {
    let mut all = Needs::default();
    for part in parts {
        match &part.location {
            Location::Registers(pieces) => {
                for piece in pieces {
                    match piece.reg {
                        Reg::Int(i) => all.ints |= 1_u16.checked_shl(i.into()).unwrap_or(0),
                        Reg::Float(i) => all.floats |= 1_u16.checked_shl(i.into()).unwrap_or(0),
                    }
                }
            }
            Location::Stack { offset } => {
                let end = offset.saturating_add(part.size as u64);
                let stack = Some((*offset, end));
                all = all.and(Needs {
                    stack,
                    ..Needs::default()
                });
            }
        }
    }
    all
}

fn load_parts(parts: &[Part], from: &Origin<'_>) -> Vec<(Arc<str>, Value)> {
    let gathered: Vec<Option<Vec<u8>>> = shown(parts).map(|p| gather(p, &from.registers)).collect();
    let mut items = Vec::with_capacity(parts.len());
    for (part, bytes) in shown(parts).zip(&gathered) {
        let place = match (&part.location, bytes) {
            (Location::Stack { offset }, _) => Place::At(from.argp.offset(*offset)),
            (Location::Registers(_), Some(bytes)) => Place::Bytes(bytes),
            (Location::Registers(_), None) => Place::Bytes(&[]),
        };
        items.push((part.ty, place));
    }
    let values = load_all(&items, from.types, from.memory, from.limits, from.runtime);
    shown(parts).map(|p| p.name.clone()).zip(values).collect()
}

/// The bytes of a value that lies in registers.
fn gather(part: &Part, registers: &Registers) -> Option<Vec<u8>> {
    let Location::Registers(pieces) = &part.location else {
        return None;
    };
    if part.size > MAX_GATHERED {
        return None;
    }
    let mut bytes = vec![0; part.size];
    for piece in pieces {
        let whole = match piece.reg {
            Reg::Int(i) => registers.ints.get(usize::from(i))?.to_le_bytes().to_vec(),
            Reg::Float(i) => registers.floats.as_ref()?.get(usize::from(i))?.to_vec(),
        };
        let from = whole.get(..usize::from(piece.size))?;
        let at = usize::try_from(piece.offset).ok()?;
        bytes
            .get_mut(at..at.checked_add(from.len())?)?
            .copy_from_slice(from);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::types::{Origin as TypeOrigin, Type};
    use crate::memory::Patchwork;
    use crate::value::NoRuntime;

    struct Table;

    impl TypeTable for Table {
        fn get(&self, id: TypeId) -> Arc<Type> {
            let (name, size, kind) = match id.0 {
                0 => ("int", 8, TypeKind::Int { signed: true }),
                1 => ("string", 16, TypeKind::String),
                2 => ("error", 16, TypeKind::Interface { empty: false }),
                3 => ("float64", 8, TypeKind::Float),
                _ => (
                    "[2]int",
                    16,
                    TypeKind::Array {
                        elem: TypeId(0),
                        len: 2,
                    },
                ),
            };
            let origin = TypeOrigin::Builtin;
            Arc::new(Type {
                name: name.into(),
                size,
                kind,
                origin,
            })
        }
    }

    fn signature(params: &[u32], results: &[u32]) -> Signature {
        let list = |ids: &[u32]| {
            ids.iter()
                .map(|id| Param {
                    name: None,
                    ty: TypeId(*id),
                })
                .collect::<Vec<_>>()
        };
        Signature {
            params: list(params),
            results: Some(list(results)),
            source: Source::Builtin,
        }
    }

    fn origin<'a>(memory: &'a Patchwork, limits: &'a Limits, ints: [u64; 9]) -> Origin<'a> {
        let mut floats = [[0; 16]; 16];
        floats[0][..8].copy_from_slice(&1.5f64.to_le_bytes());
        Origin {
            registers: Registers {
                ints,
                floats: Some(floats),
            },
            argp: LiveAddr(0x1000),
            memory,
            types: &Table,
            limits,
            runtime: &NoRuntime,
        }
    }

    #[test]
    fn arguments_come_from_registers_and_the_stack() {
        // int, string, [2]int (stack), float64
        let decoder = Decoder::new(&Table, &signature(&[0, 1, 4, 3], &[]), abi::Abi::Internal)
            .expect("all types are known");
        assert!(decoder.args_need_floats());
        let memory = Patchwork {
            pieces: vec![
                (
                    LiveAddr(0x1000),
                    [7u64.to_le_bytes(), 8u64.to_le_bytes()].concat(),
                ),
                (LiveAddr(0x2000), b"hello".to_vec()),
            ],
        };
        let limits = Limits::default();
        let args = decoder.args(&origin(&memory, &limits, [42, 0x2000, 5, 0, 0, 0, 0, 0, 0]));
        let shown: Vec<String> = args.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            shown,
            ["a0=42", "a1=\"hello\"", "a2=[2]int{7, 8}", "a3=1.5"]
        );
    }

    #[test]
    fn unknown_results_are_the_first_registers_as_they_are() {
        let unknown = Signature {
            results: None,
            source: Source::ArgInfo,
            ..signature(&[0], &[])
        };
        let decoder = Decoder::new(&Table, &unknown, abi::Abi::Internal).expect("int is known");
        let (memory, limits) = (Patchwork::default(), Limits::default());
        let results = decoder.results(&origin(&memory, &limits, [1, 2, 3, 4, 0, 0, 0, 0, 0]));
        let shown: Vec<String> = results.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(shown, ["rax=raw(0x1)", "rbx=raw(0x2)", "rcx=raw(0x3)"]);
    }

    #[test]
    fn an_error_is_the_last_results_two_words() {
        let decoder = Decoder::new(&Table, &signature(&[], &[0, 2]), abi::Abi::Internal)
            .expect("all types are known");
        let memory = Patchwork::default();
        let limits = Limits::default();
        let from = origin(&memory, &limits, [3, 0xaa, 0xbb, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            decoder.error(&from),
            Some(ErrorResult {
                index: 1,
                itab: 0xaa,
                data: 0xbb
            })
        );
    }
}
