//! Arguments and results of each traced function: its decoder, chosen before
//! the first hit, and the loading at a hit.

use std::cell::RefCell;
use std::sync::Arc;

use super::adapters::{FileMemory, LiveTypes};
use super::memo::{Memo, Watched, words};
use super::report::Seen;
use super::target::Target;
use crate::addr::{Bias, LiveAddr};
use crate::arch::abi::Abi;
use crate::golang::errors::{ErrorReader, ErrorText};
use crate::golang::family::family_of;
use crate::image::dwarf::Dwarf;
use crate::image::signature::Signatures;
use crate::image::types::{MapKind, TypeTable};
use crate::image::{Function, Image};
use crate::memory::Memory;
use crate::probe::decode::{Decoder, Needs, Origin, Registers};
use crate::probe::plan::Plan;
use crate::record::{ErrorValue, Named};
use crate::sys::{Regs, ptrace};
use crate::value::{self, Dynamic, ErrorWords, Limits, Program, RuntimeTypes};

/// Decoders for the functions of a plan.
pub(super) struct Values {
    image: Arc<Image>,
    bias: Bias,
    dwarf: Option<Arc<Dwarf>>,
    maps: MapKind,
    decoders: Vec<Option<Decoder>>,
    /// For functions of the net family nothing is followed: their facts are
    /// fields of their own, and they are called often.
    shallow: Vec<bool>,
    /// What values point to is shown.
    follows: Vec<bool>,
    full: Limits,
    none: Limits,
    known_args: Memo<Named>,
    known_results: Memo<(Named, Option<ErrorValue>)>,
}

impl Values {
    pub fn new(target: &Target, plan: &Plan) -> Values {
        let image = &target.image;
        let minor = image.go_version().minor();
        let shallow: Vec<bool> = plan
            .functions
            .iter()
            .map(|f| family_of(&f.name, minor).is_some())
            .collect();
        // The built-in table knows the family's names as well as DWARF does, and
        // costs nothing to open.
        let dwarf = if shallow.iter().all(|s| *s) {
            None
        } else {
            target.debug_info().unwrap_or_else(|error| {
                tracing::warn!(%error, "the debug information cannot be used");
                None
            })
        };
        let functions: Vec<Option<Function<'_>>> = plan
            .functions
            .iter()
            .map(|f| image.functions().get(f.index as usize))
            .collect();
        let known: Vec<(Function<'_>, Abi)> = functions
            .iter()
            .zip(&plan.functions)
            .filter_map(|(f, planned)| Some(((*f)?, planned.abi)))
            .collect();
        let full = Limits::default();
        let ask = |f: &Function<'_>| dwarf.as_ref().and_then(|d| d.signature_of(f));
        let mut signatures = Signatures::<FileMemory>::new(image, &target.types)
            .with_dwarf(&ask)
            .of(&known)
            .into_iter();
        let mut follows = vec![false; plan.functions.len()];
        let decoders = functions
            .iter()
            .zip(&plan.functions)
            .zip(shallow.iter().zip(&mut follows))
            .map(|((function, planned), (shallow, follows))| {
                let signature = function.and_then(|_| signatures.next())?;
                let table: &dyn TypeTable = match (&dwarf, signature.source) {
                    (Some(dwarf), crate::image::types::Source::Dwarf) => &**dwarf,
                    _ => &*target.types,
                };
                let decoder = Decoder::new(table, &signature, planned.abi)?;
                decoder.preload(table, &full);
                *follows = !shallow && decoder.follows(table);
                Some(decoder)
            })
            .collect();
        Values {
            image: image.clone(),
            bias: target.bias,
            maps: dwarf.as_ref().map_or(MapKind::Unknown, |d| d.map_kind()),
            dwarf,
            decoders,
            shallow,
            follows,
            full,
            known_args: Memo::default(),
            known_results: Memo::default(),
            none: Limits {
                depth: 0,
                bytes: 0,
                ..Limits::default()
            },
        }
    }

    /// The decoder of a function.
    pub fn decoder(&self, func: usize) -> Option<&Decoder> {
        self.decoders.get(func)?.as_ref()
    }

    /// A function's values are shown with what they point to.
    pub fn follows(&self, func: usize) -> bool {
        self.follows.get(func).copied().unwrap_or(false)
    }

    /// The arguments at an entry hit.
    pub fn args(&self, func: usize, hit: &At<'_>) -> Named {
        let Some(decoder) = self.decoder(func) else {
            return Named::default();
        };
        let key = self.key(func, decoder.args_need(), hit);
        if let Some(known) = key.and_then(|key| self.known_args.get(&key)) {
            return known;
        }
        let memory = Watched::new(hit.seen.memory);
        let floats = decoder.args_need_floats();
        let args: Named = self
            .with_origin(func, decoder, floats, hit, &memory, |from| {
                decoder.args(from)
            })
            .into();
        if let Some(key) = key.filter(|_| !memory.was_read()) {
            self.known_args.put(key, args.clone());
        }
        args
    }

    /// The results at a RET, and the error among them.
    pub fn results(&self, func: usize, hit: &At<'_>) -> (Named, Option<ErrorValue>) {
        let Some(decoder) = self.decoder(func) else {
            return (Named::default(), None);
        };
        let key = self.key(func, decoder.results_need(), hit);
        if let Some(known) = key.and_then(|key| self.known_results.get(&key)) {
            return known;
        }
        let memory = Watched::new(hit.seen.memory);
        let floats = decoder.results_need_floats();
        let found = self.with_origin(func, decoder, floats, hit, &memory, |from| {
            let error = decoder
                .error(from)
                .map(|words| hit.error(words.itab, words.data));
            (Named::from(decoder.results(from)), error)
        });
        let plain = matches!(found.1, None | Some(ErrorValue::Nil));
        if let Some(key) = key.filter(|_| plain && !memory.was_read()) {
            self.known_results.put(key, found.clone());
        }
        found
    }

    /// What values may be known by, when all of it is in integer registers and
    /// nothing is followed.
    fn key(&self, func: usize, needs: Needs, hit: &At<'_>) -> Option<(usize, [u64; 9])> {
        let registers = needs.floats == 0 && needs.stack.is_none();
        let shallow = self.shallow.get(func).copied().unwrap_or(false);
        (registers && shallow).then(|| (func, words(&int_registers(hit.seen.regs), needs.ints)))
    }

    fn with_origin<T>(
        &self,
        func: usize,
        decoder: &Decoder,
        floats: bool,
        hit: &At<'_>,
        memory: &dyn Memory,
        read: impl FnOnce(&Origin<'_>) -> T,
    ) -> T {
        let name = |pc: LiveAddr| {
            let function = self.image.functions().find(self.bias.image(pc))?;
            Some(Arc::from(&*function.name()))
        };
        let program = Program {
            types: hit.types,
            errors: Some(hit.errors),
            function: &name,
            maps: self.maps,
        };
        let types: &dyn TypeTable = match (&self.dwarf, decoder.from_dwarf) {
            (Some(dwarf), true) => &**dwarf,
            _ => &*hit.types.table,
        };
        let shallow = self.shallow.get(func).copied().unwrap_or(false);
        read(&Origin {
            registers: Registers {
                ints: int_registers(hit.seen.regs),
                floats: hit.seen.floats.or_else(|| {
                    let asked = floats && hit.seen.tid != 0;
                    asked.then(|| ptrace::vector_registers(hit.seen.tid).ok())?
                }),
            },
            argp: LiveAddr(hit.seen.regs.rsp.wrapping_add(8)),
            memory,
            types,
            limits: if shallow { &self.none } else { &self.full },
            runtime: &Runtime { program, hit },
        })
    }
}

/// What the loader asks of the program, at a site.
struct Runtime<'a> {
    program: Program<'a>,
    hit: &'a At<'a>,
}

impl RuntimeTypes for Runtime<'_> {
    fn dynamic(&self, rtype: LiveAddr) -> Option<Dynamic<'_>> {
        self.program.dynamic(rtype)
    }

    fn function(&self, pc: LiveAddr) -> Option<Arc<str>> {
        self.program.function(pc)
    }

    fn error_text(&self, words: ErrorWords, memory: &dyn Memory) -> Option<value::ErrorText> {
        let afresh = self.hit.afresh(memory, words.itab.0, words.data);
        let Ok(text) = afresh else {
            return self.program.error_text(words, memory);
        };
        let ErrorText { text, structural } = text?;
        Some(value::ErrorText { text, structural })
    }

    fn map_kind(&self) -> MapKind {
        self.program.map_kind()
    }
}

/// The names of the arguments and of the results of a plan's functions.
pub fn value_names(target: &Target, plan: &Plan) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let values = Values::new(target, plan);
    let decoders = || values.decoders.iter().flatten();
    let arguments = decoders().flat_map(Decoder::param_names).collect();
    (
        arguments,
        decoders().flat_map(Decoder::result_names).collect(),
    )
}

/// More is needed than what was written down at the site.
pub(super) struct NotInTime;

/// What is seen at a site, and what is known to understand it.
pub(super) struct At<'a> {
    pub seen: &'a Seen<'a>,
    pub types: &'a LiveTypes,
    pub errors: &'a RefCell<ErrorReader>,
}

impl At<'_> {
    /// The error in two words by what was written down of it alone, where that is
    /// enough.
    fn afresh(
        &self,
        memory: &dyn Memory,
        itab: u64,
        data: u64,
    ) -> Result<Option<ErrorText>, NotInTime> {
        let read = || {
            let errors = self.errors.try_borrow().ok()?;
            errors.text_afresh(memory, self.types, itab, data).ok()
        };
        self.seen.in_time(read).flatten().ok_or(NotInTime)
    }

    /// The error in two words.
    pub fn error(&self, itab: u64, data: u64) -> ErrorValue {
        if let Ok(text) = self.afresh(self.seen.memory, itab, data) {
            return told(text);
        }
        let read = self
            .errors
            .borrow_mut()
            .text(self.seen.memory, self.types, itab, data, &mut []);
        match read {
            Ok(text) => told(text),
            Err(_) => ErrorValue::Text {
                text: Arc::from("unreadable"),
                structural: true,
            },
        }
    }
}

fn told(text: Option<ErrorText>) -> ErrorValue {
    match text {
        None => ErrorValue::Nil,
        Some(e) => ErrorValue::Text {
            text: e.text,
            structural: e.structural,
        },
    }
}

/// The integer registers in Go's sequence (cmd/compile/abi-internal.md).
pub(super) fn int_registers(regs: &Regs) -> [u64; 9] {
    [
        regs.rax, regs.rbx, regs.rcx, regs.rdi, regs.rsi, regs.r8, regs.r9, regs.r10, regs.r11,
    ]
}
