//! The variables of a frame: what DWARF says is in scope, found, its generic
//! types resolved, loaded.

use std::sync::Arc;

use super::held::{Held, gather};
use super::{Limits, RuntimeTypes, Value};
use crate::addr::{Bias, ImageAddr, LiveAddr};
use crate::golang::stack::Frame;
use crate::image::dwarf::{
    Dwarf, Expression, Local, MachineFrame, PackageName, Part, Role, ScopeFrame, ScopePc, Source,
};
use crate::image::types::{TypeId, TypeKind, TypeTable};
use crate::image::{Image, SourceFrame};
use crate::memory::Memory;

/// What variables are read from.
#[derive(Clone, Copy)]
pub struct Variables<'a> {
    /// The executable.
    pub image: &'a Image,
    /// Its debug information.
    pub dwarf: &'a Dwarf,
    /// Where it was loaded.
    pub bias: Bias,
    /// The target's memory.
    pub memory: &'a dyn Memory,
    /// How much of a value is loaded.
    pub limits: &'a Limits,
    /// What the running program's types tell.
    pub rt: &'a dyn RuntimeTypes,
}

/// A variable, its type known and its bytes found.
#[derive(Clone, PartialEq, Debug)]
pub struct Variable {
    /// As the source has it.
    pub name: Arc<str>,
    /// What it is.
    pub role: Role,
    /// The line of its declaration; 0 when the file does not tell.
    pub line: u32,
    /// A later one of the same name hides it from the code.
    pub shadowed: bool,
    /// It was moved to the heap.
    pub escaped: bool,
    /// Its type, in the table of [`Variables::dwarf`].
    pub ty: TypeId,
    /// Where its bytes are.
    pub held: Held,
}

/// A frame as the source has it, with its variables.
#[derive(Clone, PartialEq, Debug)]
pub struct FrameVariables {
    /// Function, file, line.
    pub source: SourceFrame,
    /// Its place in the code.
    pub pc: ScopePc,
    /// Bodies that are inlined inside it at that place.
    pub depth: usize,
    /// Above its return address; 0 where it has none.
    pub cfa: LiveAddr,
    /// False where DWARF does not know the function (assembly).
    pub known: bool,
    /// Parameters and results first, as the source has them.
    pub variables: Vec<Variable>,
}

impl FrameVariables {
    /// No frame: only package variables can be named, those of main without
    /// their package.
    pub fn nowhere() -> FrameVariables {
        FrameVariables {
            source: SourceFrame {
                function: "main.".to_owned(),
                file: String::new(),
                line: 0,
                inlined: false,
            },
            pc: ScopePc::exact(ImageAddr(0)),
            depth: 0,
            cfa: LiveAddr(0),
            known: false,
            variables: Vec::new(),
        }
    }
}

/// Where a frame stands and what its registers hold.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    /// Its place in the function.
    pub pc: ScopePc,
    /// The function's first instruction.
    pub entry: ImageAddr,
    /// Above its return address.
    pub cfa: LiveAddr,
    /// Registers by DWARF's numbers, as far as this frame's are known.
    pub registers: &'a dyn Fn(u16) -> Option<u64>,
}

/// DWARF's number of the stack pointer.
const RSP: u16 = 7;

impl Variables<'_> {
    /// The type that a descriptor of the runtime describes.
    pub fn described(&self, descriptor: LiveAddr) -> Option<TypeId> {
        let at = self.bias.image(descriptor);
        let offset = at.0.checked_sub(self.image.module().types.start.0)?;
        self.dwarf.type_of_descriptor(offset)
    }

    /// The variables of a frame of a parked goroutine, whose registers are not
    /// known but for the stack pointer: what runs now has overwritten them.
    /// Innermost inlined body first.
    pub fn of_frame(&self, frame: &Frame) -> Vec<FrameVariables> {
        self.of_frame_with(frame, &|_| None)
    }

    /// The same for the innermost frame of a thread that stands still in it, with
    /// its registers by DWARF's numbers.
    pub fn of_frame_with(
        &self,
        frame: &Frame,
        registers: &dyn Fn(u16) -> Option<u64>,
    ) -> Vec<FrameVariables> {
        let sp = frame.sp.0;
        self.of(&Standing {
            pc: match self.bias.image(frame.pc) {
                pc if frame.exact => ScopePc::exact(pc),
                pc => ScopePc::calling(pc),
            },
            entry: frame.entry,
            cfa: frame.return_slot.offset(8),
            registers: &move |number| match number {
                RSP => Some(sp),
                number => registers(number),
            },
        })
    }

    /// The variables of any frame.
    pub fn of(&self, at: &Standing<'_>) -> Vec<FrameVariables> {
        let Some(function) = self.image.functions().find(at.entry) else {
            return Vec::new();
        };
        let scopes = self.dwarf.scope_at(&function.name(), at.entry, at.pc);
        let mut left = scopes.iter().peekable();
        let machine = MachineFrame {
            cfa: at.cfa,
            bias: self.bias,
            registers: at.registers,
            memory: self.memory,
        };
        let sources = self.image.frames_at(at.pc.at);
        let whole = sources.len() == scopes.len();
        let mut out = Vec::new();
        for source in sources {
            // The two tables agree but where one leaves out a body.
            let found = left
                .next_if(|scope| whole || *scope.function == *source.function || !source.inlined);
            let mut variables = Vec::new();
            if let Some(scope) = found {
                let dictionary = &scope.dictionary;
                let dictionary = dictionary.iter().find_map(|d| self.word(d, &machine));
                let mut seen = scope.visible(source.line);
                // The compiler sorts by its own needs.
                seen.sort_by_key(|(local, _)| match local.role {
                    Role::Param => (0, 0, 0),
                    Role::Result => (1, 0, 0),
                    Role::Captured | Role::Local => (2, local.depth, local.line),
                });
                for (local, shadowed) in seen {
                    variables.push(self.variable(local, shadowed, dictionary, &machine));
                }
            }
            out.push(FrameVariables {
                source,
                pc: at.pc,
                depth: out.len(),
                cfa: at.cfa,
                known: found.is_some(),
                variables,
            });
        }
        out
    }

    /// What a closure holds of the function around it, as the frame that calling
    /// it would make: nothing else has a value yet. `None` where the debug
    /// information does not know the function. `closure` is where its object lies.
    pub fn of_closure(&self, entry: ImageAddr, closure: LiveAddr) -> Option<FrameVariables> {
        let function = self.image.functions().find(entry)?;
        let pc = ScopePc::exact(function.entry());
        let scope = self.dwarf.scope_at(&function.name(), function.entry(), pc);
        let own = scope.into_iter().next_back()?;
        let captured = own.variables.iter().filter_map(|local| {
            let at = Held::At(closure.offset(local.in_closure?));
            let (ty, held) = match (&self.dwarf.get(local.ty).kind, local.escaped) {
                (TypeKind::Pointer(to), true) => (*to, at.pointee(self.memory)),
                _ => (local.ty, at),
            };
            Some(Variable {
                name: Arc::clone(&local.name),
                role: Role::Captured,
                line: local.line,
                shadowed: false,
                escaped: local.escaped,
                ty,
                held,
            })
        });
        Some(FrameVariables {
            source: SourceFrame {
                function: function.name().into_owned(),
                file: function.file().unwrap_or_default().to_owned(),
                line: function.start_line().unwrap_or(0),
                inlined: false,
            },
            pc,
            depth: 0,
            cfa: LiveAddr(0),
            known: true,
            variables: captured.collect(),
        })
    }

    /// One variable of a frame whose scope was looked up before, by its name, as
    /// the code of `line` sees it; nothing else is read.
    pub fn find(
        &self,
        at: &Standing<'_>,
        scope: &ScopeFrame,
        line: u32,
        name: &str,
    ) -> Option<Variable> {
        let machine = MachineFrame {
            cfa: at.cfa,
            bias: self.bias,
            registers: at.registers,
            memory: self.memory,
        };
        let seen = scope.visible(line);
        let (local, _) = seen.into_iter().rfind(|(l, _)| *l.name == *name)?;
        let dictionary = scope.dictionary.iter().find_map(|d| self.word(d, &machine));
        Some(self.variable(local, false, dictionary, &machine))
    }

    /// The register, by DWARF's number, that holds all of a variable in a frame, and
    /// nothing is read through it; `None` for one that is elsewhere.
    pub fn register_of(&self, frame: &FrameVariables, name: &str) -> Option<u16> {
        let function = self.image.functions().find(frame.pc.at)?;
        let scopes = self
            .dwarf
            .scope_at(&function.name(), function.entry(), frame.pc);
        let seen = scopes.get(frame.depth)?.visible(frame.source.line);
        let (local, _) = seen.into_iter().rfind(|(l, _)| *l.name == *name)?;
        // Whatever the register holds comes back as it is.
        let tried = |held: u64| {
            let asked = std::cell::Cell::new(None);
            let machine = MachineFrame {
                cfa: LiveAddr(0),
                bias: self.bias,
                registers: &|number| {
                    asked.set(Some(number));
                    Some(held)
                },
                memory: self.memory,
            };
            let parts = self.dwarf.locate(local.places.first()?, &machine).ok()?;
            let [Part { source, .. }] = parts.as_slice() else {
                return None;
            };
            asked.get().filter(|_| *source == Source::Word(held))
        };
        let first = tried(1 << 40)?;
        (tried(3 << 40)? == first && !local.escaped).then_some(first)
    }

    /// All package-level variables and constants whose full name `matches`.
    pub fn package_variables(&self, matches: &dyn Fn(&str) -> bool) -> Vec<Variable> {
        let found = self.dwarf.package_names(matches);
        found
            .into_iter()
            .map(|(name, what)| self.of_package(&name, what))
            .collect()
    }

    /// A package-level variable or constant as a variable named `name`.
    pub fn of_package(&self, name: &str, what: PackageName) -> Variable {
        let (ty, held) = match what {
            PackageName::Variable(v) => (v.ty, Held::At(self.bias.live(v.at))),
            PackageName::Constant(c) => {
                let size = usize::try_from(self.dwarf.get(c.ty).size).unwrap_or(8);
                let bytes = c.value.to_le_bytes();
                (c.ty, Held::bytes(bytes.get(..size).unwrap_or(&bytes)))
            }
        };
        Variable {
            name: Arc::from(name),
            role: Role::Local,
            line: 0,
            shadowed: false,
            escaped: false,
            ty,
            held,
        }
    }

    /// The variable's value.
    pub fn load(&self, variable: &Variable) -> Value {
        variable
            .held
            .load(variable.ty, self.dwarf, self.memory, self.limits, self.rt)
    }

    /// The name of the variable's type, as Go prints it.
    pub fn type_name(&self, variable: &Variable) -> Arc<str> {
        Arc::clone(&self.dwarf.get(variable.ty).name)
    }

    fn variable(
        &self,
        local: &Local,
        shadowed: bool,
        dictionary: Option<u64>,
        machine: &MachineFrame<'_>,
    ) -> Variable {
        let ty = self.resolve(local.ty, dictionary);
        let held = self.held(&local.places, ty, machine);
        let (ty, held) = match (&self.dwarf.get(ty).kind, local.escaped) {
            (TypeKind::Pointer(to), true) => (*to, held.pointee(self.memory)),
            _ => (ty, held),
        };
        Variable {
            name: Arc::clone(&local.name),
            role: local.role,
            line: local.line,
            shadowed,
            escaped: local.escaped,
            ty,
            held,
        }
    }

    /// At the first place that has all of it, else at the first that has some.
    fn held(&self, places: &[Expression], ty: TypeId, machine: &MachineFrame<'_>) -> Held {
        let size = self.dwarf.get(ty).size;
        let mut best = Held::Nowhere;
        for place in places {
            let held = match self.dwarf.locate(place, machine) {
                Ok(parts) => gather(&parts, size, self.memory),
                Err(error) => Held::Unknown(error.to_string().into()),
            };
            if held.is_whole() {
                return held;
            }
            if best == Held::Nowhere {
                best = held;
            }
        }
        best
    }

    fn word(&self, place: &Expression, machine: &MachineFrame<'_>) -> Option<u64> {
        let parts = self.dwarf.locate(place, machine).ok()?;
        gather(&parts, 8, self.memory).word(self.memory)
    }

    /// The real type of what depends on type parameters: its descriptor's
    /// address is in the dictionary.
    fn resolve(&self, ty: TypeId, dictionary: Option<u64>) -> TypeId {
        let real = || {
            let dictionary = LiveAddr(dictionary.filter(|d| *d != 0)?);
            let index = self.dwarf.dictionary_index(ty)?;
            let at = dictionary.offset(index.checked_mul(8)?);
            let real = self.described(self.memory.read_addr(at).ok()?)?;
            // A dictionary of another function would name types of other sizes.
            (self.dwarf.get(real).size == self.dwarf.get(ty).size).then_some(real)
        };
        real().unwrap_or(ty)
    }
}

/// A variable and its value.
#[derive(Clone, PartialEq, Debug)]
pub struct NamedValue {
    /// As the source has it.
    pub name: Arc<str>,
    /// `param`, `result`, `local`, `captured`.
    pub role: &'static str,
    /// As Go prints it.
    pub ty: Arc<str>,
    /// The line of its declaration; 0 when the file does not tell.
    pub line: u32,
    /// A later one of the same name hides it from the code.
    pub shadowed: bool,
    /// The value.
    pub value: Value,
}

/// A frame as the source has it, with its variables' values.
#[derive(Clone, PartialEq, Debug)]
pub struct FrameValues {
    /// Function, file, line.
    pub source: SourceFrame,
    /// False where DWARF does not know the function (assembly).
    pub known: bool,
    /// Parameters and results first.
    pub values: Vec<NamedValue>,
}

impl Variables<'_> {
    /// Loads all of a frame's variables.
    pub fn load_frame(&self, frame: &FrameVariables) -> FrameValues {
        let load = |v: &Variable| NamedValue {
            name: Arc::clone(&v.name),
            role: v.role.as_str(),
            ty: self.type_name(v),
            line: v.line,
            shadowed: v.shadowed,
            value: self.load(v),
        };
        FrameValues {
            values: frame.variables.iter().map(load).collect(),
            source: frame.source.clone(),
            known: frame.known,
        }
    }
}
