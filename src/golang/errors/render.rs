//! Filling an Error method's text from the value's fields.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::known::{Method, method_of};
use super::{Dynamic, ErrorText};
use crate::addr::LiveAddr;
use crate::golang::dynamic::DynamicTypes;
use crate::golang::layout::Layouts;
use crate::golang::net::read_go_string;
use crate::image::types::{Type, TypeId, TypeKind};
use crate::memory::{Memory, MemoryError};

/// Errors inside errors are followed this deep.
pub(super) const MAX_DEPTH: u32 = 12;
/// Longest string of one field.
const MAX_STRING: usize = 1024;
/// Longest text of one error.
const MAX_TEXT: usize = 4096;
/// Itabs remembered.
const MAX_TYPES: usize = 16_384;

/// Where a value is: in memory, or it is the interface's data word itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    At(LiveAddr),
    Word(u64),
}

/// One rendering.
pub(super) struct Renderer<'a> {
    /// For what never changes: itabs.
    pub raw: &'a dyn Memory,
    /// For everything else.
    pub memory: &'a dyn Memory,
    pub types: &'a dyn DynamicTypes,
    pub layouts: &'a Layouts,
    pub minor: Option<u32>,
    pub dynamics: &'a RefCell<HashMap<u64, Option<Dynamic>>>,
}

/// Text so far.
#[derive(Default)]
pub(super) struct Out {
    pub text: String,
    pub structural: bool,
}

impl Out {
    pub(super) fn push(&mut self, text: &str) {
        let room = MAX_TEXT.saturating_sub(self.text.len());
        if text.len() <= room {
            self.text.push_str(text);
        } else if !self.text.ends_with('…') {
            let cut = (0..=room).rev().find(|&i| text.is_char_boundary(i));
            self.text
                .push_str(cut.and_then(|i| text.get(..i)).unwrap_or(""));
            self.text.push('…');
        }
    }
}

/// A field's value is not what the template expects.
pub(super) enum Fault {
    /// Another layout than known: fall back to the structure.
    Unlike,
    Memory(MemoryError),
}

impl From<MemoryError> for Fault {
    fn from(e: MemoryError) -> Self {
        Fault::Memory(e)
    }
}

pub(super) type Filled<T = ()> = Result<T, Fault>;

impl Renderer<'_> {
    /// The whole text of an error value; its itab is not nil.
    pub(super) fn error(&self, itab: u64, data: u64) -> Result<ErrorText, MemoryError> {
        let mut out = Out::default();
        match self.interface(itab, data, 0, &mut out) {
            Ok(()) => {}
            Err(MemoryError::Unmapped { at, .. }) => {
                out.push(&format!("(unreadable at {at})"));
                out.structural = true;
            }
            Err(gone @ MemoryError::Gone) => return Err(gone),
        }
        Ok(ErrorText {
            text: out.text.into(),
            structural: out.structural,
        })
    }

    /// The type behind an itab, and its Error method when known.
    pub(super) fn dynamic(&self, itab: u64) -> Result<Option<Dynamic>, MemoryError> {
        if let Some(known) = self.dynamics.borrow().get(&itab) {
            return Ok(known.clone());
        }
        let descriptor = match self
            .raw
            .read_addr(LiveAddr(itab).offset(self.layouts.itab.ty))
        {
            Ok(at) => at,
            Err(MemoryError::Unmapped { .. }) => return Ok(None),
            Err(gone @ MemoryError::Gone) => return Err(gone),
        };
        let found = self.types.described(descriptor).map(|ty| {
            let package = self.types.package_of(descriptor);
            Dynamic {
                method: method_of(&ty.name, package.as_deref()),
                ty,
            }
        });
        let mut dynamics = self.dynamics.borrow_mut();
        if dynamics.len() < MAX_TYPES {
            dynamics.insert(itab, found.clone());
        }
        Ok(found)
    }

    /// Appends the text of an error interface.
    pub(super) fn interface(
        &self,
        itab: u64,
        data: u64,
        depth: u32,
        out: &mut Out,
    ) -> Result<(), MemoryError> {
        if itab == 0 {
            out.push("<nil>");
            return Ok(());
        }
        if depth > MAX_DEPTH {
            out.push("…");
            out.structural = true;
            return Ok(());
        }
        let Some(Dynamic { ty, method }) = self.dynamic(itab)? else {
            out.push(&format!("(error of unknown type, itab {itab:#x})"));
            out.structural = true;
            return Ok(());
        };
        let (place, held) = self.held(&ty, data);
        if let Some(method) = method {
            let start = out.text.len();
            let filled = if matches!(place, Place::At(at) if at.is_null()) && held.size != 0 {
                // Methods of nil pointers: net's say <nil>, others would panic.
                out.push("<nil>");
                Ok(())
            } else {
                match method {
                    Method::Template(template) => self.template(template, place, &held, depth, out),
                    Method::Since(minor, before, since) => {
                        let new = self.minor.is_none_or(|m| m >= minor);
                        let template = if new { since } else { before };
                        self.template(template, place, &held, depth, out)
                    }
                    Method::Special(special) => self.special(special, place, &held, depth, out),
                }
            };
            match filled {
                Ok(()) => return Ok(()),
                Err(Fault::Memory(e)) => return Err(e),
                Err(Fault::Unlike) => out.text.truncate(start),
            }
        }
        out.structural = true;
        self.structure(&ty, place, &held, depth, out)
    }

    /// What an interface's data word stands for: the value itself for types
    /// that are one pointer (cmd/compile: types.IsDirectIface), else where it is.
    pub(super) fn held(&self, ty: &Arc<Type>, data: u64) -> (Place, Arc<Type>) {
        match ty.kind {
            TypeKind::Pointer(elem) => (Place::At(LiveAddr(data)), self.types.get(elem)),
            _ if self.is_pointer_shaped(ty, 0) => (Place::Word(data), Arc::clone(ty)),
            _ => (Place::At(LiveAddr(data)), Arc::clone(ty)),
        }
    }

    fn is_pointer_shaped(&self, ty: &Type, depth: u32) -> bool {
        if ty.size != 8 || depth > 4 {
            return false;
        }
        match &ty.kind {
            TypeKind::Pointer(_)
            | TypeKind::UnsafePointer
            | TypeKind::Map { .. }
            | TypeKind::Chan(_)
            | TypeKind::Func => true,
            TypeKind::Array { elem, len: 1 } => {
                self.is_pointer_shaped(&self.types.get(*elem), depth.saturating_add(1))
            }
            TypeKind::Struct(fields) => fields
                .iter()
                .map(|f| self.types.get(f.ty))
                .find(|t| t.size != 0)
                .is_some_and(|t| self.is_pointer_shaped(&t, depth.saturating_add(1))),
            _ => false,
        }
    }

    /// A field by name: where it is in the struct, and its type.
    pub(super) fn field(held: &Type, name: &str) -> Filled<(u64, TypeId)> {
        let TypeKind::Struct(fields) = &held.kind else {
            return Err(Fault::Unlike);
        };
        fields
            .iter()
            .find(|f| &*f.name == name)
            .map(|f| (f.offset, f.ty))
            .ok_or(Fault::Unlike)
    }

    /// `N` bytes at `offset` of a value.
    pub(super) fn bytes<const N: usize>(
        &self,
        place: Place,
        offset: u64,
    ) -> Result<[u8; N], MemoryError> {
        let mut bytes = [0; N];
        match place {
            Place::At(at) => self.memory.read(at.offset(offset), &mut bytes)?,
            Place::Word(word) => {
                let word = word.to_le_bytes();
                let from = usize::try_from(offset).unwrap_or(8);
                for (to, from) in bytes.iter_mut().zip(word.iter().skip(from)) {
                    *to = *from;
                }
            }
        }
        Ok(bytes)
    }

    pub(super) fn word(&self, place: Place, offset: u64) -> Result<u64, MemoryError> {
        self.bytes::<8>(place, offset).map(u64::from_le_bytes)
    }

    /// An interface's two words.
    pub(super) fn pair(&self, place: Place, offset: u64) -> Result<(u64, u64), MemoryError> {
        let bytes = self.bytes::<16>(place, offset)?;
        let (a, b) = bytes.split_at(8);
        let word = |b: &[u8]| b.try_into().map_or(0, u64::from_le_bytes);
        Ok((word(a), word(b)))
    }

    /// A string value, cut at a bound.
    pub(super) fn string(&self, place: Place, offset: u64) -> Result<Vec<u8>, MemoryError> {
        let (ptr, len) = self.pair(place, offset)?;
        let (mut bytes, len) = read_go_string(self.memory, ptr, len, MAX_STRING)?;
        if len > bytes.len() as u64 {
            bytes.extend_from_slice("…".as_bytes());
        }
        Ok(bytes)
    }

    /// A string field by name.
    pub(super) fn string_field(&self, place: Place, held: &Type, name: &str) -> Filled<String> {
        let (offset, ty) = Self::field(held, name)?;
        if self.types.get(ty).kind != TypeKind::String {
            return Err(Fault::Unlike);
        }
        let bytes = self.string(place, offset)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// An integer of any width, widened.
    pub(super) fn integer(
        &self,
        place: Place,
        offset: u64,
        ty: &Type,
    ) -> Result<i128, MemoryError> {
        let TypeKind::Int { signed } = ty.kind else {
            return Ok(0);
        };
        Ok(match ty.size {
            1 => {
                let [b] = self.bytes::<1>(place, offset)?;
                if signed {
                    i128::from(b as i8)
                } else {
                    i128::from(b)
                }
            }
            2 => {
                let b = self.bytes(place, offset)?;
                if signed {
                    i128::from(i16::from_le_bytes(b))
                } else {
                    i128::from(u16::from_le_bytes(b))
                }
            }
            4 => {
                let b = self.bytes(place, offset)?;
                if signed {
                    i128::from(i32::from_le_bytes(b))
                } else {
                    i128::from(u32::from_le_bytes(b))
                }
            }
            _ => {
                let b = self.bytes(place, offset)?;
                if signed {
                    i128::from(i64::from_le_bytes(b))
                } else {
                    i128::from(u64::from_le_bytes(b))
                }
            }
        })
    }

    /// An integer field by name.
    pub(super) fn integer_field(&self, place: Place, held: &Type, name: &str) -> Filled<i128> {
        let (offset, ty) = Self::field(held, name)?;
        let ty = self.types.get(ty);
        if !matches!(ty.kind, TypeKind::Int { .. }) {
            return Err(Fault::Unlike);
        }
        Ok(self.integer(place, offset, &ty)?)
    }

    /// An interface field by name.
    pub(super) fn interface_field(
        &self,
        place: Place,
        held: &Type,
        name: &str,
    ) -> Filled<(u64, u64)> {
        let (offset, ty) = Self::field(held, name)?;
        if !matches!(
            self.types.get(ty).kind,
            TypeKind::Interface { empty: false }
        ) {
            return Err(Fault::Unlike);
        }
        Ok(self.pair(place, offset)?)
    }

    fn template(
        &self,
        template: &str,
        place: Place,
        held: &Type,
        depth: u32,
        out: &mut Out,
    ) -> Filled {
        let mut rest = template;
        while let Some((text, tail)) = rest.split_once('{') {
            out.push(text);
            let Some((inside, tail)) = tail.split_once('}') else {
                return Err(Fault::Unlike);
            };
            rest = tail;
            let (name, how) = inside.split_once(':').unwrap_or((inside, ""));
            let (offset, ty) = if name.is_empty() {
                (0, Arc::new(held.clone()))
            } else {
                let (offset, ty) = Self::field(held, name)?;
                (offset, self.types.get(ty))
            };
            match &ty.kind {
                TypeKind::String => {
                    let bytes = self.string(place, offset)?;
                    if how == "q" {
                        out.push(&quote(&bytes));
                    } else {
                        out.push(&String::from_utf8_lossy(&bytes));
                    }
                }
                TypeKind::Int { .. } => {
                    let number = self.integer(place, offset, &ty)?;
                    if how == "03" {
                        out.push(&format!("{number:03}"));
                    } else {
                        out.push(&number.to_string());
                    }
                }
                TypeKind::Interface { empty: false } => {
                    let (itab, data) = self.pair(place, offset)?;
                    self.interface(itab, data, depth.saturating_add(1), out)?;
                }
                _ => return Err(Fault::Unlike),
            }
        }
        out.push(rest);
        Ok(())
    }
}

/// strconv.Quote.
pub(super) fn quote(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Writing to a String does not fail.
            let _ = match c {
                '"' => out.write_str("\\\""),
                '\\' => out.write_str("\\\\"),
                '\u{7}' => out.write_str("\\a"),
                '\u{8}' => out.write_str("\\b"),
                '\u{c}' => out.write_str("\\f"),
                '\n' => out.write_str("\\n"),
                '\r' => out.write_str("\\r"),
                '\t' => out.write_str("\\t"),
                '\u{b}' => out.write_str("\\v"),
                c if c < ' ' || c == '\u{7f}' => write!(out, "\\x{:02x}", c as u32),
                c if c.is_control() || (c.is_whitespace() && c != ' ') || c == '\u{feff}' => {
                    write!(out, "\\u{:04x}", c as u32)
                }
                c => out.write_char(c),
            };
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('"');
    out
}
