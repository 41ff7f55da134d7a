//! The variables of a frame at a place that was looked up before it is reached:
//! when a thread comes there, nothing but its registers and memory is read.

use std::cell::RefCell;
use std::sync::Arc;

use super::adapters::LiveTypes;
use super::report::Seen;
use crate::addr::{Bias, ImageAddr, LiveAddr};
use crate::arch::numbers::dwarf_register;
use crate::golang::errors::ErrorReader;
use crate::image::dwarf::{Dwarf, Role, ScopeFrame, ScopePc};
use crate::image::types::{TypeId, TypeTable};
use crate::image::{Image, SourceFrame};
use crate::record::Named;
use crate::script::Stopped;
use crate::script::scope::package_variable;
use crate::value::frame::{Standing, Variables};
use crate::value::held::Held;
use crate::value::{Limits, Program, Value, preload};

/// What is in scope at a place, looked up before it is reached.
#[derive(Clone, Debug)]
pub struct FrameScope {
    dwarf: Arc<Dwarf>,
    pc: ImageAddr,
    entry: ImageAddr,
    /// From the stack pointer to the return address, bytes.
    frame: u64,
    function: Arc<str>,
    line: u32,
    scope: ScopeFrame,
}

impl FrameScope {
    /// Of the innermost body at a place; `None` where the debug information does
    /// not know it.
    pub fn at(image: &Image, dwarf: &Arc<Dwarf>, pc: ImageAddr) -> Option<FrameScope> {
        FrameScope::of(
            image,
            dwarf,
            pc,
            |all| all.into_iter().next(),
            |all| all.into_iter().next(),
        )
    }

    /// Of the function itself that a place is in, whatever is inlined there.
    pub fn outermost(image: &Image, dwarf: &Arc<Dwarf>, pc: ImageAddr) -> Option<FrameScope> {
        FrameScope::of(image, dwarf, pc, |mut all| all.pop(), |mut all| all.pop())
    }

    fn of(
        image: &Image,
        dwarf: &Arc<Dwarf>,
        pc: ImageAddr,
        source: impl FnOnce(Vec<SourceFrame>) -> Option<SourceFrame>,
        scope: impl FnOnce(Vec<ScopeFrame>) -> Option<ScopeFrame>,
    ) -> Option<FrameScope> {
        let function = image.functions().find(pc)?;
        let source = source(image.frames_at(pc))?;
        let scopes = dwarf.scope_at(&function.name(), function.entry(), ScopePc::exact(pc));
        Some(FrameScope {
            dwarf: dwarf.clone(),
            pc,
            entry: function.entry(),
            frame: u64::try_from(function.sp_delta(pc)?).ok()?,
            function: Arc::from(&*source.function),
            line: source.line,
            scope: scope(scopes)?,
        })
    }

    /// Loads the descriptions of the types of all its variables.
    pub(super) fn prepare(&self, limits: &Limits) {
        for local in &self.scope.variables {
            preload(local.ty, &*self.dwarf, limits);
        }
        let _ = self.dwarf.type_of_descriptor(0);
    }

    /// Shows the frame of a thread that is at the place.
    pub(super) fn visit<T>(
        &self,
        around: &Around<'_>,
        seen: &Seen<'_>,
        see: &mut dyn FnMut(&Frame<'_>) -> T,
    ) -> T {
        let vectors = || crate::sys::ptrace::vector_registers(seen.tid).ok();
        let registers = |number: u16| match number {
            17.. => {
                let index = usize::from(number - 17);
                let low = vectors()?.get(index)?.first_chunk::<8>().copied()?;
                Some(u64::from_le_bytes(low))
            }
            number => dwarf_register(seen.regs, &[], number),
        };
        let standing = Standing {
            pc: ScopePc::exact(self.pc),
            entry: self.entry,
            cfa: LiveAddr(seen.regs.rsp.wrapping_add(self.frame).wrapping_add(8)),
            registers: &registers,
        };
        let name = |pc: LiveAddr| {
            let function = around.image.functions().find(around.bias.image(pc))?;
            Some(Arc::from(&*function.name()))
        };
        let program = Program {
            types: around.types,
            errors: Some(around.errors),
            function: &name,
            maps: self.dwarf.map_kind(),
        };
        see(&Frame {
            variables: Variables {
                image: around.image,
                dwarf: &self.dwarf,
                bias: around.bias,
                memory: seen.memory,
                limits: around.limits,
                rt: &program,
            },
            standing,
            scope: self,
        })
    }
}

/// What variables are understood by.
pub(super) struct Around<'a> {
    /// The executable.
    pub image: &'a Image,
    /// Where it was loaded.
    pub bias: Bias,
    /// The running program's types.
    pub types: &'a LiveTypes,
    /// Texts of errors.
    pub errors: &'a RefCell<ErrorReader>,
    /// How much of a value is loaded.
    pub limits: &'a Limits,
}

/// The frame at a place.
pub(super) struct Frame<'a> {
    variables: Variables<'a>,
    standing: Standing<'a>,
    scope: &'a FrameScope,
}

impl Frame<'_> {
    /// The body that it is in.
    pub fn function(&self) -> &str {
        &self.scope.function
    }

    /// Parameters and results, and local variables, as far as they are wanted.
    pub fn load(
        &self,
        (parameters, own): (bool, bool),
        limits: &Limits,
    ) -> (Named, Vec<(Arc<str>, Value)>) {
        let (mut arguments, mut locals) = (Vec::new(), Vec::new());
        if !parameters && !own {
            return (arguments.into(), locals);
        }
        let variables = Variables {
            limits,
            ..self.variables
        };
        let scope = &self.scope.scope;
        for (local, shadowed) in scope.visible(self.scope.line) {
            let into = match matches!(local.role, Role::Param | Role::Result) {
                true if parameters => &mut arguments,
                false if own => &mut locals,
                _ => continue,
            };
            if shadowed {
                continue;
            }
            let line = self.scope.line;
            if let Some(found) = variables.find(&self.standing, scope, line, &local.name) {
                into.push((local.name.clone(), variables.load(&found)));
            }
        }
        (arguments.into(), locals)
    }
}

impl Stopped for Frame<'_> {
    fn held(&self, name: &str) -> Option<(TypeId, Held)> {
        let scope = self.scope;
        let own = self
            .variables
            .find(&self.standing, &scope.scope, scope.line, name);
        match own {
            Some(found) => Some((found.ty, found.held)),
            None => package_variable(&self.variables, &scope.function, name),
        }
    }

    fn variables(&self) -> &Variables<'_> {
        &self.variables
    }
}
