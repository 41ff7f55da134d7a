//! What is asked of each call of a function where it happens: conditions that are
//! tested at the entry, and parts of expressions that read the program.
//!
//! All names and types are looked up when a tracepoint is set; a thread that hits
//! a site waits for nothing but reads of its memory.

use std::sync::Arc;

use super::leaving::Leaving;
use super::report::{Reporter, Seen};
use super::target::Target;
use super::values::{At, int_registers};
use crate::addr::{Bias, LiveAddr};
use crate::arch::abi::Abi;
use crate::golang::errors::ErrorReader;
use crate::image::dwarf::{Dwarf, Role, ScopePc, package_of};
use crate::image::signature::Signatures;
use crate::image::types::{Source, TypeId, TypeTable};
use crate::image::{Image, SourceFrame, abi_of};
use crate::probe::decode::{Decoder, Origin, Registers};
use crate::record::Call;
use crate::script::scope::{DwarfScope, StoppedFrame};
use crate::script::{Checked, Fact, Facts, Key, Mentions, Part, Scope, Stopped, Taken};
use crate::session::adapters::FileMemory;
use crate::sys::ptrace;
use crate::value::frame::{FrameVariables, Variable, Variables};
use crate::value::{Limits, NoRuntime, Program, preload};

/// The variables of a traced function where it is entered and where it returns:
/// its parameters, its results, and those of packages.
#[derive(Clone)]
pub struct CallScope {
    image: Arc<Image>,
    dwarf: Arc<Dwarf>,
    decoder: Arc<Decoder>,
    function: Arc<str>,
    bias: Bias,
}

impl std::fmt::Debug for CallScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallScope")
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}

impl CallScope {
    /// Of a function, by its index in the image's table; `None` where the debug information does not know
    /// it.
    pub fn of(target: &Target, index: u32) -> Option<CallScope> {
        let dwarf = target.debug_info().ok()??;
        let function = target.image.functions().get(index as usize)?;
        let name = function.name();
        // What assembly takes on the stack, the scan of a plan knows; here such
        // functions have no variables.
        let abi = abi_of(&function, None);
        if abi != Abi::Internal {
            return None;
        }
        let own = dwarf.clone();
        let ask = move |f: &crate::image::Function<'_>| own.signature_of(f);
        let signature = Signatures::<FileMemory>::new(&target.image, &target.types)
            .with_dwarf(&ask)
            .of(&[(function, abi)])
            .into_iter()
            .next()?;
        if signature.source != Source::Dwarf {
            return None;
        }
        let decoder = Decoder::new(&*dwarf, &signature, abi)?;
        Some(CallScope {
            image: target.image.clone(),
            dwarf,
            decoder: Arc::new(decoder),
            function: (&*name).into(),
            bias: target.bias,
        })
    }

    /// A result has this name.
    pub fn is_result(&self, name: &str) -> bool {
        self.decoder
            .variables()
            .any(|(known, _, result)| result && **known == *name)
    }

    fn scope(&self) -> DwarfScope<'_> {
        let own = self.decoder.variables();
        let locals = own.map(|(name, ty, _)| (name.clone(), ty)).collect();
        DwarfScope::of(&self.dwarf, package_of(&self.function), locals)
    }

    /// Loads the descriptions of all that will be looked at.
    fn prepare(&self, mentioned: &Mentions, limits: &Limits) {
        let own = self.decoder.variables().map(|(_, ty, _)| ty);
        for ty in mentioned.types.iter().copied().chain(own) {
            preload(ty, &*self.dwarf, limits);
        }
        let _ = self.dwarf.type_of_descriptor(0);
        let scope = self.scope();
        for name in &mentioned.variables {
            let _ = scope.variable(name);
        }
    }

    /// The parameters at an entry, or the results at a return.
    fn frame(&self, seen: &Seen<'_>, results: bool) -> FrameVariables {
        let needs_floats = if results {
            self.decoder.results_need_floats()
        } else {
            self.decoder.args_need_floats()
        };
        let limits = Limits::default();
        let from = Origin {
            registers: Registers {
                ints: int_registers(seen.regs),
                floats: seen.floats.or_else(|| {
                    let asked = needs_floats && seen.tid != 0;
                    asked.then(|| ptrace::vector_registers(seen.tid).ok())?
                }),
            },
            argp: LiveAddr(seen.regs.rsp.wrapping_add(8)),
            memory: seen.memory,
            types: &*self.dwarf,
            limits: &limits,
            runtime: &NoRuntime,
        };
        let variables = self
            .decoder
            .held(results, &from)
            .map(|(name, ty, held)| Variable {
                name: name.clone(),
                role: if results { Role::Result } else { Role::Param },
                line: 0,
                shadowed: false,
                escaped: false,
                ty,
                held,
            })
            .collect();
        FrameVariables {
            source: SourceFrame {
                function: self.function.to_string(),
                file: String::new(),
                line: 0,
                inlined: false,
            },
            pc: ScopePc::exact(self.bias.image(LiveAddr(seen.regs.rip))),
            depth: 0,
            cfa: LiveAddr(0),
            known: true,
            variables,
        }
    }
}

impl Scope for CallScope {
    fn variable(&self, name: &str) -> Option<TypeId> {
        self.scope().variable(name)
    }

    fn types(&self) -> &dyn TypeTable {
        &*self.dwarf
    }

    fn find_type(&self, text: &str) -> Option<TypeId> {
        self.scope().find_type(text)
    }

    fn names(&self) -> Vec<String> {
        self.scope().names()
    }

    fn own_names(&self) -> Vec<String> {
        self.scope().own_names()
    }
}

/// A condition that may be tested at the entry.
#[derive(Clone, Debug)]
struct Early {
    condition: Checked,
    /// Facts that, where they are not known at the entry, may be known at the end:
    /// the peer of a datagram.
    facts: Vec<Key>,
}

/// What is asked of the calls of one function.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    scope: Option<CallScope>,
    early: Vec<Early>,
    /// Nothing but the goroutine and the program's variables decides early.
    quick: bool,
    at_entry: Vec<Part>,
    at_return: Vec<Part>,
    leaving: Option<Arc<Leaving>>,
    limits: Limits,
}

/// What a [`Watch`] is made of.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The function's variables, where they are known.
    pub scope: Option<CallScope>,
    /// A call that meets none of these at its entry is not told of; empty where
    /// every call is.
    pub early: Vec<Checked>,
    /// Taken at the entry.
    pub at_entry: Vec<Part>,
    /// Taken at the return.
    pub at_return: Vec<Part>,
    /// Its local variables are wanted as it returns.
    pub locals: bool,
    /// Where that is; looked up when the function is planned.
    pub leaving: Option<Arc<Leaving>>,
    /// How much of what is printed is loaded.
    pub limits: Limits,
}

impl Watch {
    /// Looks up all that will be needed at a hit.
    pub fn new(questions: Questions) -> Watch {
        use crate::script::CallFact::{Func, Goid, Tid};
        let Questions {
            scope,
            early,
            at_entry,
            at_return,
            leaving,
            limits,
            locals: _,
        } = questions;
        if let Some(leaving) = &leaving {
            leaving.prepare(&limits);
        }
        if let Some(scope) = &scope {
            let parts = at_entry.iter().chain(&at_return).map(|p| &p.expr);
            for one in parts.chain(&early) {
                scope.prepare(&one.mentions(), &limits);
            }
        }
        let early: Vec<Early> = early
            .into_iter()
            .map(|condition| {
                let mut facts = condition.mentions().keys;
                facts.retain(|key| !matches!(key, Key::Call(Goid | Tid | Func)));
                Early { condition, facts }
            })
            .collect();
        Watch {
            quick: early.iter().all(|e| e.facts.is_empty()),
            scope,
            early,
            at_entry,
            at_return,
            leaving,
            limits,
        }
    }

    /// Nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.early.is_empty()
            && self.at_entry.is_empty()
            && self.at_return.is_empty()
            && self.leaving.is_none()
    }

    /// Whether a call can be dismissed before anything but its goroutine is known.
    pub(super) fn is_quick(&self) -> bool {
        self.quick && !self.early.is_empty()
    }

    /// True for a call that nobody wants to be told of.
    pub(super) fn dismisses(&self, call: &Call, at: &At<'_>) -> bool {
        if self.early.is_empty() {
            return false;
        }
        self.with(call, at, false, &mut |facts| {
            // What goes wrong is found again, and told, when the call ends.
            self.early.iter().all(|one| {
                one.condition.holds(facts) == Ok(false)
                    && !one.facts.iter().any(|key| facts.fact(key) == Fact::Absent)
            })
        })
    }

    /// What is to be taken now.
    pub(super) fn take(&self, call: &Call, at: &At<'_>, results: bool) -> Vec<(u32, Taken)> {
        let parts = if results {
            &self.at_return
        } else {
            &self.at_entry
        };
        if parts.is_empty() {
            return Vec::new();
        }
        self.with(call, at, results, &mut |facts| {
            parts
                .iter()
                .map(|part| (part.slot, part.take(facts, &self.limits)))
                .collect()
        })
    }

    fn with<T>(
        &self,
        call: &Call,
        at: &At<'_>,
        results: bool,
        run: &mut dyn FnMut(&dyn Facts) -> T,
    ) -> T {
        let Some(scope) = &self.scope else {
            return run(call);
        };
        let frame = scope.frame(at.seen, results);
        let name = |pc: LiveAddr| {
            let function = scope.image.functions().find(scope.bias.image(pc))?;
            Some(Arc::from(&*function.name()))
        };
        let errors: &std::cell::RefCell<ErrorReader> = at.errors;
        let program = Program {
            types: at.types,
            errors: Some(errors),
            function: &name,
            maps: scope.dwarf.map_kind(),
        };
        let stopped = StoppedFrame {
            variables: Variables {
                image: &scope.image,
                dwarf: &scope.dwarf,
                bias: scope.bias,
                memory: at.seen.memory,
                limits: &self.limits,
                rt: &program,
            },
            frame: &frame,
        };
        run(&Here { call, stopped })
    }
}

impl Reporter {
    /// Nobody wants to be told of a call that begins, of which `call` is all that
    /// is known.
    pub fn dismisses(&self, watch: &Watch, call: &Call, seen: &Seen<'_>) -> bool {
        watch.dismisses(call, &self.at(seen))
    }

    /// Takes what was asked for at an entry, or a return, besides.
    pub fn take(&self, watch: &Watch, call: &mut Call, seen: &Seen<'_>, results: bool) {
        let taken = watch.take(call, &self.at(seen), results);
        call.taken.extend(taken);
    }

    /// Takes the local variables of a call that returns, where they are wanted.
    pub fn take_locals(
        &self,
        watch: &Watch,
        call: &mut Call,
        seen: &Seen<'_>,
        recovered: Option<(u64, u64)>,
    ) {
        if let Some(leaving) = &watch.leaving {
            leaving.take(call, &self.at(seen), &watch.limits, recovered);
        }
    }
}

/// A call where it happens: its facts so far, and the program.
struct Here<'a> {
    call: &'a Call,
    stopped: StoppedFrame<'a>,
}

impl Facts for Here<'_> {
    fn fact(&self, key: &Key) -> Fact<'_> {
        self.call.fact(key)
    }

    fn taken(&self, slot: u32) -> Option<&Taken> {
        self.call.taken(slot)
    }

    fn program(&self) -> Option<&dyn Stopped> {
        Some(&self.stopped)
    }
}

/// Whether a call of a function has a fact at its entry already. `gives`: the
/// function's connection is its result.
pub fn known_at_entry(key: &Key, gives: bool) -> bool {
    use crate::script::CallFact as F;
    match key {
        Key::Call(F::Fd | F::Network | F::Local | F::Remote) => !gives,
        Key::Call(fact) => matches!(
            fact,
            F::Goid | F::Tid | F::Func | F::Time | F::Len | F::Stack
        ),
        Key::Arg(_) => true,
        Key::Result(_) | Key::Value(_) => false,
    }
}
