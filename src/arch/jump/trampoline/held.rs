//! The code that copies a value with what it points to ([`super::super::held`]).
//!
//! R13 is the record, R12 the object or what was loaded of it, X15 what is carried,
//! or an interface's two words, which so belong together. To come back to an object
//! after something that it points to, the way to it is gone again from the register
//! that it begins with: nothing is brought back from the record.

use std::sync::Arc;

use iced_x86::code_asm::{
    AsmRegister64, CodeLabel, dword_ptr, qword_ptr, r12, r12d, r13, word_ptr, xmm15, xmmword_ptr,
};
use iced_x86::{Code, Register};

use super::{Writer, Wrong};
use crate::arch::jump::capture::Once;
use crate::arch::jump::handed::{COPIED, COPIED_PLACE, SPREAD};
use crate::arch::jump::held::{FIRST_PAGE, Kinds, Part, SHORT};

/// Code that stands behind the rest, because it is rarely run.
pub(super) struct Later {
    begin: CodeLabel,
    back: CodeLabel,
    data: AsmRegister64,
    of: Arc<Kinds>,
    at: i32,
}

/// How an object is come to.
#[derive(Clone)]
pub(super) struct Way {
    root: AsmRegister64,
    steps: Vec<Step>,
}

#[derive(Clone)]
enum Step {
    /// By a pointer in the object before.
    Pointer(i32),
    /// By an interface in it that holds this type.
    Interface { at: i32, type_at: i32, ty: u64 },
}

impl Way {
    /// Over pointers from one in a register.
    pub(super) fn over(root: AsmRegister64, hops: &[i32]) -> Way {
        let steps = hops.iter().map(|hop| Step::Pointer(*hop)).collect();
        Way { root, steps }
    }

    fn and(&self, step: Step) -> Way {
        let mut way = self.clone();
        way.steps.push(step);
        way
    }
}

/// Where an interface's data word is, while R12 has its itab.
#[derive(Clone, Copy)]
enum Data {
    Register(AsmRegister64),
    /// In X15's upper half; the interface is at this offset of the object.
    Carried(i32),
}

impl Writer<'_> {
    /// An interface in two registers: its itab is put down, and if that is not nil
    /// the rest is done elsewhere.
    pub(super) fn interface(
        &mut self,
        (itab, data): (AsmRegister64, AsmRegister64),
        of: &Arc<Kinds>,
        at: i32,
    ) -> Result<(), Wrong> {
        let a = &mut self.a;
        let (begin, mut back) = (a.create_label(), a.create_label());
        a.mov(r12, itab)?;
        a.mov(qword_ptr(r13 + at), r12)?;
        a.test(r12, r12)?;
        a.jne(begin)?;
        a.set_label(&mut back)?;
        a.zero_bytes()?;
        self.later.push(Later {
            begin,
            back,
            data,
            of: of.clone(),
            at,
        });
        Ok(())
    }

    /// What was put off; R12 has an itab. The record has all its `words` then.
    pub(super) fn put_off(&mut self, words: usize) -> Result<(), Wrong> {
        for mut later in std::mem::take(&mut self.later) {
            self.a.set_label(&mut later.begin)?;
            self.a.mov(word_ptr(r13 + 30), words as i32)?;
            self.a.mov(qword_ptr(r13 + (later.at + 8)), later.data)?;
            let way = Way::over(later.data, &[]);
            self.kinds(&later.of, Data::Register(later.data), &way, later.at)?;
            self.a.jmp(later.back)?;
        }
        Ok(())
    }

    /// Goes to `anew` unless the object was copied, and is the same still. What is
    /// compared last is what is written last: it belongs to the rest.
    pub(super) fn unless_copied(
        &mut self,
        way: &Way,
        once: &Once,
        anew: CodeLabel,
    ) -> Result<(), Wrong> {
        self.walk(way, anew)?;
        self.copied_place()?;
        self.rip(Code::Mov_r32_rm32, Some(Register::R12D), once.age)?;
        self.a.cmp(qword_ptr(r13 + 24), r12)?;
        self.a.jne(anew)?;
        for (name, at) in once.names.into_iter().zip([8, 16]) {
            self.walk(way, anew)?;
            self.a.mov(r12, qword_ptr(r12 + name))?;
            self.a.cmp(qword_ptr(r13 + at), r12)?;
            self.a.jne(anew)?;
        }
        self.walk(way, anew)?;
        self.a.cmp(qword_ptr(r13), r12)?;
        self.a.jne(anew)?;
        Ok(())
    }

    /// The object was copied, and the record is whole.
    pub(super) fn was_copied(
        &mut self,
        way: &Way,
        once: &Once,
        out: CodeLabel,
    ) -> Result<(), Wrong> {
        self.walk(way, out)?;
        self.copied_place()?;
        self.a.mov(qword_ptr(r13), 0)?;
        for (name, at) in once.names.into_iter().zip([8, 16]) {
            self.walk(way, out)?;
            self.a.mov(r12, qword_ptr(r12 + name))?;
            self.a.mov(qword_ptr(r13 + at), r12)?;
        }
        self.rip(Code::Mov_r32_rm32, Some(Register::R12D), once.age)?;
        self.a.mov(qword_ptr(r13 + 24), r12)?;
        self.walk(way, out)?;
        self.a.mov(qword_ptr(r13), r12)?;
        self.a.jmp(out)?;
        Ok(())
    }

    /// The place of the object in R12 among those that were copied, to R13.
    fn copied_place(&mut self) -> Result<(), Wrong> {
        self.a.mov(r13, SPREAD.cast_signed())?;
        self.a.imul_2(r13, r12)?;
        self.a.shr(r13, 64 - COPIED.trailing_zeros())?;
        self.a.shl(r13, COPIED_PLACE.trailing_zeros())?;
        self.rip(
            Code::Add_r64_rm64,
            Some(Register::R13),
            self.ring.copied_pointer(),
        )
    }

    /// An object that is come to over pointers: the last of them, 0 when there is
    /// a nil on the way, and its parts.
    pub(super) fn copied(&mut self, way: &Way, parts: &[Part], at: i32) -> Result<(), Wrong> {
        let mut done = self.a.create_label();
        self.a.mov(qword_ptr(r13 + at), 0)?;
        self.walk(way, done)?;
        self.a.mov(qword_ptr(r13 + at), r12)?;
        self.parts(parts, way, at + 8)?;
        self.a.set_label(&mut done)?;
        self.a.zero_bytes()?;
        Ok(())
    }

    /// Brings an object to R12.
    fn walk(&mut self, way: &Way, no: CodeLabel) -> Result<(), Wrong> {
        self.a.mov(r12, way.root)?;
        self.not_nil(no)?;
        for step in &way.steps {
            match step {
                Step::Pointer(at) => self.a.mov(r12, qword_ptr(r12 + *at))?,
                Step::Interface { at, type_at, ty } => {
                    let a = &mut self.a;
                    a.movups(xmm15, xmmword_ptr(r12 + *at))?;
                    a.movq(r12, xmm15)?;
                    self.not_nil(no)?;
                    self.a.mov(r12, qword_ptr(r12 + *type_at))?;
                    self.unless_type(*ty, no)?;
                    self.upper()?;
                }
            }
            self.not_nil(no)?;
        }
        Ok(())
    }

    fn not_nil(&mut self, no: CodeLabel) -> Result<(), Wrong> {
        self.a.cmp(r12, FIRST_PAGE)?;
        self.a.jb(no)?;
        Ok(())
    }

    /// X15's upper half to R12.
    fn upper(&mut self) -> Result<(), Wrong> {
        self.a.psrldq(xmm15, 8)?;
        self.a.movq(r12, xmm15)?;
        Ok(())
    }

    /// R12 is a type word.
    fn unless_type(&mut self, ty: u64, no: CodeLabel) -> Result<(), Wrong> {
        if let Ok(short) = i32::try_from(ty) {
            self.a.cmp(r12, short)?;
        } else {
            let known = self.types.iter().find(|(known, _)| *known == ty);
            let label = if let Some((_, label)) = known {
                *label
            } else {
                let label = self.a.create_label();
                self.types.push((ty, label));
                label
            };
            self.a.cmp(r12, qword_ptr(label))?;
        }
        self.a.jne(no)?;
        Ok(())
    }

    /// The type words that code compares with; behind the last instruction.
    pub(super) fn constants(&mut self) -> Result<(), Wrong> {
        for (ty, mut label) in std::mem::take(&mut self.types) {
            self.a.set_label(&mut label)?;
            self.a.dq(&[ty])?;
        }
        Ok(())
    }

    /// What an interface holds whose itab is in R12; what is put down of it is at
    /// `to` of the record.
    fn kinds(&mut self, of: &Kinds, data: Data, way: &Way, to: i32) -> Result<(), Wrong> {
        let mut done = self.a.create_label();
        self.not_nil(done)?;
        self.a.mov(r12, qword_ptr(r12 + of.type_at))?;
        self.a.mov(qword_ptr(r13 + (to + 16)), r12)?;
        for kind in &of.kinds {
            let mut next = self.a.create_label();
            self.unless_type(kind.ty, next)?;
            let way = match data {
                Data::Register(register) => {
                    self.a.mov(r12, register)?;
                    Way::over(register, &[])
                }
                Data::Carried(at) => {
                    self.upper()?;
                    way.and(Step::Interface {
                        at,
                        type_at: of.type_at,
                        ty: kind.ty,
                    })
                }
            };
            self.not_nil(done)?;
            self.parts(&kind.parts, &way, to + 24)?;
            self.a.jmp(done)?;
            self.a.set_label(&mut next)?;
            self.a.zero_bytes()?;
        }
        self.a.set_label(&mut done)?;
        self.a.zero_bytes()?;
        Ok(())
    }

    /// Parts of the object in R12, to `to` of the record.
    fn parts(&mut self, parts: &[Part], way: &Way, to: i32) -> Result<(), Wrong> {
        let (mut to, mut there) = (to, true);
        let mut done = self.a.create_label();
        for part in parts {
            if !there {
                self.a.mov(qword_ptr(r13 + to), 0)?;
                self.walk(way, done)?;
            }
            there = matches!(part, Part::Words { .. });
            match part {
                Part::Words { at, count } => self.words(*at, *count, to)?,
                Part::Interface { at, of } => {
                    let a = &mut self.a;
                    a.movups(xmm15, xmmword_ptr(r12 + *at))?;
                    a.movups(xmmword_ptr(r13 + to), xmm15)?;
                    a.movq(r12, xmm15)?;
                    self.kinds(of, Data::Carried(*at), way, to)?;
                }
                Part::Short { at } => self.short(*at, to)?,
                Part::Pointer { at, parts } => {
                    let mut nil = self.a.create_label();
                    self.a.mov(r12, qword_ptr(r12 + *at))?;
                    self.a.mov(qword_ptr(r13 + to), r12)?;
                    self.not_nil(nil)?;
                    self.parts(parts, &way.and(Step::Pointer(*at)), to + 8)?;
                    self.a.set_label(&mut nil)?;
                    self.a.zero_bytes()?;
                }
            }
            let words = i32::try_from(part.words()).map_err(|_| Wrong::Capture)?;
            to = to.checked_add(words * 8).ok_or(Wrong::Capture)?;
        }
        self.a.set_label(&mut done)?;
        self.a.zero_bytes()?;
        Ok(())
    }

    fn words(&mut self, at: i32, count: u32, to: i32) -> Result<(), Wrong> {
        let count = i32::try_from(count).map_err(|_| Wrong::Capture)?;
        let a = &mut self.a;
        for pair in 0..count / 2 {
            a.movups(xmm15, xmmword_ptr(r12 + (at + pair * 16)))?;
            a.movups(xmmword_ptr(r13 + (to + pair * 16)), xmm15)?;
        }
        if count % 2 != 0 {
            let last = (count - 1) * 8;
            a.movq(xmm15, qword_ptr(r12 + (at + last)))?;
            a.movq(qword_ptr(r13 + (to + last)), xmm15)?;
        }
        Ok(())
    }

    /// Bytes that the slice has, no others.
    fn short(&mut self, at: i32, to: i32) -> Result<(), Wrong> {
        let mut four = self.a.create_label();
        let mut done = self.a.create_label();
        let a = &mut self.a;
        a.movups(xmm15, xmmword_ptr(r12 + at))?;
        a.movups(xmmword_ptr(r13 + to), xmm15)?;
        // The length below, the pointer above.
        a.pshufd(xmm15, xmm15, 0x4e)?;
        a.movq(r12, xmm15)?;
        a.cmp(r12, SHORT[0])?;
        a.jne(four)?;
        self.upper()?;
        self.not_nil(done)?;
        let a = &mut self.a;
        a.movups(xmm15, xmmword_ptr(r12))?;
        a.movups(xmmword_ptr(r13 + (to + 16)), xmm15)?;
        a.jmp(done)?;
        a.set_label(&mut four)?;
        a.cmp(r12, SHORT[1])?;
        a.jne(done)?;
        self.upper()?;
        self.not_nil(done)?;
        let a = &mut self.a;
        a.mov(r12d, dword_ptr(r12))?;
        a.mov(qword_ptr(r13 + (to + 16)), r12)?;
        a.set_label(&mut done)?;
        a.zero_bytes()?;
        Ok(())
    }
}
