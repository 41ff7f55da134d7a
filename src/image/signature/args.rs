//! Signatures from what pclntab says of a function's arguments: the size and
//! the stack offset of every scalar, nested as structs are, no names, no types,
//! no results. Whether a scalar is a float, the function's own code tells: on
//! its way to `runtime.morestack` it spills its register arguments.

use std::collections::{HashMap, HashSet};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, OpAccess, OpKind, Register,
};

use crate::arch::abi::{Abi, FLOAT_REGISTERS, Location};
use crate::arch::prologue::parse_stack_check;
use crate::image::rtti::RttiTypes;
use crate::image::signature::shape;
use crate::image::types::{Field, Param, Signature, Source, TypeId, TypeKind, TypeTable};
use crate::image::{ArgInfo, ArgShape};
use crate::memory::Memory;

/// Instructions of the block that spills, at most: 24 stores and a call.
const MAX_SPILLS: usize = 32;

/// Instructions of a function without stack check that are looked at.
const MAX_LEAF: usize = 4096;

/// A signature of shapes: scalars are opaque words (`word64`) or floats.
///
/// Ends before the first argument that the compiler did not describe (it stops
/// after ten scalars) or whose place cannot be told. `name` says whether the
/// function takes a dictionary, `code` is the function's own.
pub fn signature<M: Memory>(
    types: &RttiTypes<M>,
    info: &ArgInfo,
    name: &str,
    code: &[u8],
) -> Option<Signature> {
    let spills = spills(code);
    let unclear = spills.is_none() && reads_floats(code);
    let first_spill = spills.iter().flat_map(HashMap::keys).copied().min();
    let area = first_spill
        .into_iter()
        .chain(info.spill_start.map(u64::from))
        .min();
    let mut builder = Builder {
        types,
        spills,
        area,
        unclear,
    };
    let mut signature = Signature {
        params: Vec::new(),
        results: None,
        source: Source::ArgInfo,
    };
    let dictionary = dictionary_place(name);
    if name.contains('[') {
        signature.params.push(builder.left_out(info, dictionary)?);
    }
    for arg in &info.args {
        let start = first_offset(arg);
        let by_register = match (start, &builder.spills, info.spill_start) {
            // The spill area is the last of the argument area. Where it begins
            // is not told: only the first place in it that may hold garbage
            // (cmd/compile/internal/liveness/arg.go), and nothing with -N.
            (Some(at), _, Some(spill)) if at >= u64::from(spill) => Some(true),
            (Some(at), Some(spills), _) => Some(spills.contains_key(&at)),
            _ => None,
        };
        if let (Some(at), Some(true), Some(area)) = (start, by_register, builder.area) {
            // A parameter named _ is not spilled.
            builder.area = Some(area.min(at));
        }
        // Neither tells: an aggregate may be an array on the stack as well as
        // a struct in registers. A scalar goes to a register while there are.
        if by_register.is_none() && start.is_some() && matches!(arg, ArgShape::Aggregate(_)) {
            break;
        }
        let Some((ty, whole)) = builder.build(arg) else {
            break;
        };
        // On the stack although registers are left: there is an array in it.
        let fits = builder.push(&mut signature, ty, by_register, start)
            || (by_register != Some(true))
                .then(|| builder.array(arg))
                .flatten()
                .is_some_and(|ty| builder.push(&mut signature, ty, by_register, start));
        if !fits || !whole {
            break;
        }
    }
    // Nothing could be told: then registers say more.
    (!signature.params.is_empty() || info.args.is_empty()).then_some(())?;
    if let Some(param) = dictionary.and_then(|place| signature.params.get_mut(place)) {
        *param = dictionary_param(types);
    }
    Some(signature)
}

/// Builds types of shapes.
struct Builder<'a, M> {
    types: &'a RttiTypes<M>,
    /// Where the function's registers are spilled, and which are floats.
    spills: Option<HashMap<u64, bool>>,
    /// Where the spill area begins, as far as anything tells.
    area: Option<u64>,
    /// The function takes floats, and nothing says which arguments they are.
    unclear: bool,
}

impl<M: Memory> Builder<'_, M> {
    /// The first parameter of a function with a bracket in its name: the
    /// compiler takes it for the dictionary and leaves it out, though it be a
    /// method's receiver (ssagen/pgen.go, emitArgInfo). `None` when its size
    /// cannot be told.
    fn left_out(&self, info: &ArgInfo, dictionary: Option<usize>) -> Option<Param> {
        let next = info.args.iter().find_map(first_offset);
        let size = match (self.area, next) {
            (Some(area), Some(next)) => next.checked_sub(area)?,
            _ if dictionary == Some(0) => 8,
            (Some(_), None) => 8,
            (None, _) => return None,
        };
        let ty = word(self.types, u8::try_from(size).ok().filter(|s| *s == 8)?)?;
        Some(Param { name: None, ty })
    }

    /// Adds a parameter if it lands where the compiler says it is.
    fn push(
        &self,
        signature: &mut Signature,
        ty: TypeId,
        by_register: Option<bool>,
        start: Option<u64>,
    ) -> bool {
        signature.params.push(Param { name: None, ty });
        let fits = self.fits(signature, by_register, start).unwrap_or(false);
        if !fits {
            signature.params.pop();
        }
        fits
    }

    /// The last parameter lands where the compiler says it is.
    fn fits(
        &self,
        signature: &Signature,
        by_register: Option<bool>,
        start: Option<u64>,
    ) -> Option<bool> {
        let layout = shape::locate(self.types, signature, Abi::Internal)?;
        let slot = layout.params.last()?;
        Some(match (&slot.location, start) {
            // Without bytes: nowhere.
            (Location::Stack { .. }, None) => true,
            (Location::Stack { offset }, Some(at)) => by_register != Some(true) && *offset == at,
            (Location::Registers(_), None) => false,
            (Location::Registers(_), Some(at)) => {
                // Where the spill area begins depends on what is still to come:
                // places in it are compared.
                let ours = slot.spill?.checked_sub(layout.spill_start)?;
                let theirs = self.area.and_then(|area| at.checked_sub(area));
                by_register != Some(false) && theirs.is_none_or(|theirs| theirs == ours)
            }
        })
    }

    /// The type of an argument, and whether nothing of it was left out.
    fn build(&self, arg: &ArgShape) -> Option<(TypeId, bool)> {
        match arg {
            ArgShape::Scalar { offset, size } => {
                Some((self.scalar(u64::from(*offset), *size)?, true))
            }
            ArgShape::Aggregate(parts) => {
                let base = first_offset(arg).unwrap_or(0);
                let (mut fields, mut whole, mut end, mut align) = (Vec::new(), true, 0, 1);
                for part in parts {
                    if matches!(part, ArgShape::More | ArgShape::FarScalar) {
                        whole = false;
                        break;
                    }
                    let (ty, complete) = self.build(part)?;
                    let shape = shape::shape(self.types, ty)?;
                    let offset = first_offset(part).map_or(end, |at| at.saturating_sub(base));
                    end = offset.checked_add(shape.size())?;
                    align = align.max(shape.align());
                    fields.push((offset, ty));
                    whole &= complete;
                    if !complete {
                        break;
                    }
                }
                let size = end.checked_next_multiple_of(align)?;
                (!fields.is_empty() || whole).then_some(())?;
                Some((self.structure(&fields, size), whole))
            }
            ArgShape::FarScalar | ArgShape::More => None,
        }
    }

    /// A type of the argument's size that never goes to registers.
    fn array(&self, arg: &ArgShape) -> Option<TypeId> {
        let ArgShape::Aggregate(parts) = arg else {
            return None;
        };
        let (id, whole) = self.build(arg)?;
        let ty = self.types.get(id);
        let TypeKind::Struct(fields) = &ty.kind else {
            return None;
        };
        let elem = fields.first()?.ty;
        let step = self.types.get(elem).size;
        let len = parts.len() as u64;
        let same =
            whole && fields.iter().all(|f| f.ty == elem) && step.checked_mul(len) == Some(ty.size);
        if same && len > 1 {
            let name = format!("[{len}]{}", self.types.get(elem).name);
            let kind = TypeKind::Array { elem, len };
            return Some(self.types.make(&name, ty.size, kind));
        }
        // An array of what has no bytes keeps a struct out of registers.
        let empty = self
            .types
            .make("struct {}", 0, TypeKind::Struct(Vec::new()));
        let kind = TypeKind::Array {
            elem: empty,
            len: 2,
        };
        let stopper = self.types.make("[2]struct {}", 0, kind);
        let mut parts = vec![(0, stopper)];
        parts.extend(fields.iter().map(|f| (f.offset, f.ty)));
        Some(self.structure(&parts, ty.size))
    }

    fn scalar(&self, offset: u64, size: u8) -> Option<TypeId> {
        if self.unclear && matches!(size, 4 | 8) {
            return None;
        }
        let float = self.spills.as_ref().and_then(|s| s.get(&offset)).copied();
        if float == Some(true) && matches!(size, 4 | 8) {
            let name = if size == 4 { "float32" } else { "float64" };
            return Some(self.types.make(name, u64::from(size), TypeKind::Float));
        }
        word(self.types, size)
    }

    fn structure(&self, fields: &[(u64, TypeId)], size: u64) -> TypeId {
        let names: Vec<_> = fields
            .iter()
            .map(|(_, ty)| self.types.get(*ty).name.clone())
            .collect();
        // Two structs may have the same parts at other places.
        let places: Vec<_> = fields.iter().map(|(at, _)| at.to_string()).collect();
        let name = format!("struct {{ {} }} @{}", names.join("; "), places.join(","));
        let field = |(offset, ty): &(u64, TypeId)| Field {
            name: format!("+{offset}").into(),
            offset: *offset,
            ty: *ty,
            embedded: false,
        };
        let kind = TypeKind::Struct(fields.iter().map(field).collect());
        self.types.make(&name, size, kind)
    }
}

/// `size` bytes of which nothing else is known.
pub(super) fn word<M: Memory>(types: &RttiTypes<M>, size: u8) -> Option<TypeId> {
    let name = match size {
        1 => "word8",
        2 => "word16",
        4 => "word32",
        8 => "word64",
        _ => return None,
    };
    Some(types.make(name, u64::from(size), TypeKind::Opaque))
}

/// The offset of the first scalar.
fn first_offset(arg: &ArgShape) -> Option<u64> {
    match arg {
        ArgShape::Scalar { offset, .. } => Some(u64::from(*offset)),
        ArgShape::Aggregate(parts) => parts.iter().find_map(first_offset),
        ArgShape::FarScalar | ArgShape::More => None,
    }
}

fn dictionary_param<M: Memory>(types: &RttiTypes<M>) -> Param {
    let ty = types.make("unsafe.Pointer", 8, TypeKind::UnsafePointer);
    Param {
        name: Some(".dict".into()),
        ty,
    }
}

/// Where in the parameters an instance of a generic function takes its
/// dictionary: first, or behind the receiver. Closures have it from the
/// function around them.
pub fn dictionary_place(name: &str) -> Option<usize> {
    // Comparison functions of generic types are no instances.
    let shape = name
        .find("[go.shape.")
        .filter(|_| !name.starts_with("type:") && !name.starts_with("type."))?;
    let before = name.get(..shape)?;
    let after = closing(name.get(shape..)?)?;
    let pointer = before
        .rfind('/')
        .map_or(before, |at| before.get(at..).unwrap_or(before));
    if pointer.contains("(*") {
        // main.(*list[go.shape.int]).push
        let method = after.strip_prefix(").")?;
        return (!method.contains('.')).then_some(1);
    }
    match after.strip_prefix('.') {
        None => after.is_empty().then_some(0),
        Some(method) => {
            let closure = ["func", "gowrap", "deferwrap"]
                .iter()
                .any(|c| method.starts_with(c))
                || method.starts_with(|c: char| c.is_ascii_digit());
            (!closure && !method.contains('.')).then_some(1)
        }
    }
}

/// What follows the bracket that closes the one `text` begins with.
fn closing(text: &str) -> Option<&str> {
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth = depth.saturating_add(1),
            ']' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return text.get(at.checked_add(1)?..);
        }
    }
    None
}

/// The offsets from argp to which the function spills its register arguments
/// before it calls `runtime.morestack`, and whether from a floating point
/// register (cmd/internal/obj/x86/obj6.go, stacksplit). `None` for a function
/// without stack check.
fn spills(code: &[u8]) -> Option<HashMap<u64, bool>> {
    let grow = parse_stack_check(code)?.grow;
    let block = code.get(usize::try_from(grow).ok()?..)?;
    let mut found = HashMap::new();
    let decoder = Decoder::new(64, block, DecoderOptions::NONE);
    for instruction in decoder.into_iter().take(MAX_SPILLS) {
        if instruction.flow_control() != FlowControl::Next {
            break;
        }
        let store = instruction.op0_kind() == OpKind::Memory
            && instruction.memory_base() == Register::RSP
            && instruction.op1_kind() == OpKind::Register;
        // argp is the stack pointer behind the return address.
        if let Some(offset) = instruction
            .memory_displacement64()
            .checked_sub(8)
            .filter(|_| store)
        {
            found.insert(offset, instruction.op1_register().is_xmm());
        }
    }
    Some(found)
}

/// The code, read from its beginning to its end, uses a floating point register
/// that it has not written: an argument.
fn reads_floats(code: &[u8]) -> bool {
    let mut written = HashSet::new();
    let mut factory = InstructionInfoFactory::new();
    let decoder = Decoder::new(64, code, DecoderOptions::NONE);
    for instruction in decoder.into_iter().take(MAX_LEAF) {
        let info = factory.info(&instruction);
        // `pxor x, x` and its like write without reading: iced knows.
        for used in info.used_registers() {
            if !used.register().is_vector_register() {
                continue;
            }
            let register = used.register().number();
            let reads = matches!(
                used.access(),
                OpAccess::Read | OpAccess::ReadWrite | OpAccess::CondRead | OpAccess::ReadCondWrite
            );
            if reads && register < usize::from(FLOAT_REGISTERS) && !written.contains(&register) {
                return true;
            }
            written.insert(register);
        }
    }
    false
}
