//! The runtime's own type descriptors (`abi.Type`): every Go program carries
//! them, stripped or not, with the names and offsets of all struct fields.
//!
//! `descriptor` reads one descriptor, `search` finds descriptors by name,
//! `methods` finds a function's signature in the method tables. Everything is
//! read through [`Memory`], so a file and a live process serve alike.
//! Allowed in: golang, value, script, probe, session.

mod descriptor;
mod methods;
mod search;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::addr::{Bias, LiveAddr};
use crate::image::types::{Field, Origin, Type, TypeId, TypeKind, TypeTable};
use crate::image::{GoVersion, ModuleData};
use crate::memory::Memory;

pub use descriptor::Method;
use descriptor::{Kind, Reader};
pub use methods::MethodSignature;

/// Types kept after loading; beyond that the cache begins anew.
const CACHED_TYPES: usize = 4096;

/// Types made here rather than read, at most.
const MADE_TYPES: usize = 65_536;

/// Set in the ids of types that were made here; the other ids are offsets into
/// the type section, in words.
const MADE: u32 = 1 << 31;

/// Where a module's type descriptors are, in the address space of the memory
/// they are read through. The fields are `runtime.moduledata`'s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TypeSection {
    /// Start of the descriptors; name and type offsets count from here.
    pub types: LiveAddr,
    /// Their end.
    pub etypes: LiveAddr,
    /// Start of the code; method tables count from here.
    pub text: LiveAddr,
    /// Its end.
    pub etext: LiveAddr,
    /// What lists the descriptors.
    pub list: TypeList,
    /// Up to Go 1.18 a field's offset is stored as `offset<<1|embedded`
    /// (`runtime/type.go`, `structfield.offsetAnon`).
    pub doubled_offsets: bool,
}

impl TypeSection {
    /// The descriptors of the program with this module data, read through a
    /// memory where the file's addresses are moved by `bias`.
    pub fn of(module: &ModuleData, version: &GoVersion, bias: Bias) -> Self {
        let live = |at| bias.live(at);
        let links = module.typelinks.unwrap_or_default();
        Self {
            types: live(module.types.start),
            etypes: live(module.types.end),
            text: live(module.text.start),
            etext: live(module.text.end),
            list: match module.typedesc_len {
                Some(len) => TypeList::Descriptors { len },
                None => TypeList::Links {
                    at: live(links.start),
                    count: links.len,
                },
            },
            doubled_offsets: version.minor().is_some_and(|minor| minor < 19),
        }
    }
}

/// What lists the descriptors of a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TypeList {
    /// Up to Go 1.26: `moduledata.typelinks`, offsets from `types` sorted by
    /// the types' names. Unnamed types only, which means a pointer for each
    /// named one.
    Links {
        /// Address of the first offset (an `int32`).
        at: LiveAddr,
        /// Number of offsets.
        count: u64,
    },
    /// From Go 1.27: the same types' descriptors lie one after another from
    /// `types`+8 for `moduledata.typedesclen` bytes (`runtime/type.go`,
    /// `moduleTypelinks`); those of named types lie behind them.
    Descriptors {
        /// `moduledata.typedesclen`
        len: u64,
    },
}

/// The types of one module, read on demand.
///
/// A [`TypeId`] of this table stays valid as long as the table lives.
pub struct RttiTypes<M> {
    memory: M,
    section: TypeSection,
    state: Mutex<State>,
    /// Offsets of descriptors by the hash of their names: see `search`.
    listed: OnceLock<search::NameIndex>,
    /// The same for types that only code refers to.
    referenced: OnceLock<search::NameIndex>,
}

#[derive(Default)]
struct State {
    cache: HashMap<TypeId, Arc<Type>>,
    made: Vec<Arc<Type>>,
    /// By name, and whether it is known by name only.
    made_by_name: HashMap<(Arc<str>, bool), TypeId>,
}

impl<M: Memory> RttiTypes<M> {
    /// A table over the descriptors of `section`, read through `memory`.
    /// Nothing is read yet.
    pub fn new(memory: M, section: TypeSection) -> Self {
        Self {
            memory,
            section,
            state: Mutex::default(),
            listed: OnceLock::new(),
            referenced: OnceLock::new(),
        }
    }

    /// Where the descriptors are.
    pub fn section(&self) -> &TypeSection {
        &self.section
    }

    /// The memory that the descriptors are read through.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The type whose descriptor is at `at`, in the address space of the
    /// table's memory: `None` where no descriptor can be.
    pub fn at(&self, at: LiveAddr) -> Option<TypeId> {
        self.reader().raw(at)?;
        self.id(at)
    }

    /// The type named `name`, as Go prints types: `net.netFD`, `*net.OpError`,
    /// `[]uint8`. A package path instead of a package name is heeded:
    /// `crypto/tls.Conn`. `None` when the program has no such descriptor.
    ///
    /// Costs a binary search up to Go 1.26, else one walk over all descriptors
    /// at first use; types that only code refers to are looked for once, in
    /// the whole text, when the list does not have the name.
    pub fn find_type(&self, name: &str) -> Option<TypeId> {
        let wanted = search::Wanted::parse(name);
        let reader = self.reader();
        let listed = search::listed(&reader, &wanted, &self.listed);
        let found = listed.or_else(|| {
            let index = self.referenced.get_or_init(|| search::referenced(&reader));
            index.find(&reader, &wanted)
        });
        self.id(found?)
    }

    /// The names of all types that the module lists, sorted, each once.
    pub fn listed_names(&self) -> Vec<String> {
        let reader = self.reader();
        let mut names = Vec::new();
        search::each_listed(&reader, |raw| {
            let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            names.extend(reader.with_type_name(raw, name));
        });
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of all types that the module lists or its code refers to, and of
    /// what those are made of, sorted, each once; packages by their last element.
    pub fn known_names(&self) -> Vec<String> {
        let reader = self.reader();
        let mut names = self.listed_names();
        let index = self.referenced.get_or_init(|| search::referenced(&reader));
        index.each(&reader, |raw| {
            let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            names.extend(reader.with_type_name(raw, name));
        });
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The struct type named `name`; see [`Self::find_type`].
    pub fn find_struct(&self, name: &str) -> Option<TypeId> {
        let id = self.find_type(name)?;
        matches!(self.get(id).kind, TypeKind::Struct(_)).then_some(id)
    }

    /// Offset and type of a field, by name and then by name inside that field:
    /// `["pfd", "pd", "runtimeCtx"]` in `net.netFD`. Pointers are not followed.
    pub fn field(&self, of: TypeId, path: &[&str]) -> Option<(u64, TypeId)> {
        let mut at = (0_u64, of);
        for name in path {
            let TypeKind::Struct(fields) = &self.get(at.1).kind else {
                return None;
            };
            let field = fields.iter().find(|f| &*f.name == *name)?;
            at = (at.0.checked_add(field.offset)?, field.ty);
        }
        Some(at)
    }

    /// Offset of a field; see [`Self::field`].
    pub fn field_offset(&self, of: TypeId, path: &[&str]) -> Option<u64> {
        self.field(of, path).map(|(offset, _)| offset)
    }

    /// Parameters (without receiver) and results of a func type; a variadic
    /// parameter is the slice that it is.
    pub fn func_types(&self, func: TypeId) -> Option<(Vec<TypeId>, Vec<TypeId>)> {
        let reader = self.reader();
        let (params, results) = reader.func(&reader.raw(self.address(func)?)?)?;
        let ids = |list: Vec<LiveAddr>| -> Option<Vec<TypeId>> {
            list.into_iter().map(|at| self.at(at)).collect()
        };
        Some((ids(params)?, ids(results)?))
    }

    /// The import path of the package that declares a named type.
    pub fn package_path(&self, id: TypeId) -> Option<String> {
        let reader = self.reader();
        reader.package_path(&reader.raw(self.address(id)?)?)
    }

    /// The methods that the linker kept of a type.
    pub fn methods(&self, of: TypeId) -> Vec<Method> {
        let reader = self.reader();
        let raw = self.address(of).and_then(|at| reader.raw(at));
        raw.map(|raw| reader.methods(&raw)).unwrap_or_default()
    }

    /// Signatures from the method tables of the functions that begin at
    /// `entries`, in the order of `entries`. One pass over all method tables.
    pub fn signatures_for(&self, entries: &[LiveAddr]) -> Vec<Option<MethodSignature>> {
        methods::signatures_for(self, entries)
    }

    /// Where the type's descriptor is; `None` for one made here.
    pub fn address(&self, id: TypeId) -> Option<LiveAddr> {
        let words = (id.0 & MADE == 0).then_some(u64::from(id.0))?;
        Some(self.section.types.offset(words.checked_mul(8)?))
    }

    /// Adds a type that has no descriptor. The same name gives the same id:
    /// the first description stays (but one known by name only is another).
    pub fn make(&self, name: &str, size: u64, kind: TypeKind) -> TypeId {
        let name: Arc<str> = Arc::from(name);
        let key = (name.clone(), matches!(kind, TypeKind::Opaque));
        let mut state = self.lock();
        if let Some(id) = state.made_by_name.get(&key) {
            return *id;
        }
        let id = TypeId(MADE | u32::try_from(state.made.len()).unwrap_or(0));
        // `get` describes the id past the last as opaque.
        if state.made.len() < MADE_TYPES {
            state.made.push(Arc::new(Type {
                name,
                size,
                kind,
                origin: Origin::Builtin,
            }));
            state.made_by_name.insert(key, id);
        }
        id
    }

    /// A type by the path of its package and its name as descriptors spell it,
    /// looked for only where the module lists its types.
    pub(crate) fn find_listed(&self, path: &str, name: &str) -> Option<TypeId> {
        let wanted = search::Wanted::in_package(path, name);
        self.id(search::listed(&self.reader(), &wanted, &self.listed)?)
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            memory: &self.memory,
            section: &self.section,
        }
    }

    /// The id of the descriptor at `at`, which must lie in the section.
    fn id(&self, at: LiveAddr) -> Option<TypeId> {
        let offset = at.0.checked_sub(self.section.types.0)?;
        let inside = at < self.section.etypes && offset.is_multiple_of(8);
        let words = u32::try_from(offset / 8).ok().filter(|w| w & MADE == 0)?;
        inside.then_some(TypeId(words))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves a cache, not an invariant.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The type of a part (element, field); opaque when out of bounds.
    fn part(&self, at: LiveAddr) -> TypeId {
        self.id(at)
            .unwrap_or_else(|| self.make("?", 0, TypeKind::Opaque))
    }

    fn load(&self, at: LiveAddr) -> Type {
        let reader = self.reader();
        let origin = Origin::Rtti(at.0);
        let opaque = |name: &str, size| Type {
            name: name.into(),
            size,
            kind: TypeKind::Opaque,
            origin,
        };
        let Some(raw) = reader.raw(at) else {
            return opaque("?", 0);
        };
        let name = reader.type_name(&raw).unwrap_or_else(|| "?".into());
        let kind = match raw.kind {
            Kind::Bool => Some(TypeKind::Bool),
            Kind::Int => Some(TypeKind::Int { signed: true }),
            Kind::Uint => Some(TypeKind::Int { signed: false }),
            Kind::Float => Some(TypeKind::Float),
            Kind::Complex => Some(TypeKind::Complex),
            Kind::String => Some(TypeKind::String),
            Kind::UnsafePointer => Some(TypeKind::UnsafePointer),
            Kind::Func => Some(TypeKind::Func),
            Kind::Pointer => reader.elem(&raw).map(|t| TypeKind::Pointer(self.part(t))),
            Kind::Slice => reader.elem(&raw).map(|t| TypeKind::Slice(self.part(t))),
            Kind::Chan => reader.elem(&raw).map(|t| TypeKind::Chan(self.part(t))),
            Kind::Array => reader.array(&raw).map(|(elem, len)| TypeKind::Array {
                elem: self.part(elem),
                len,
            }),
            Kind::Map => reader.map(&raw).map(|(key, value)| TypeKind::Map {
                key: self.part(key),
                value: self.part(value),
            }),
            Kind::Interface => reader
                .interface_methods(&raw)
                .map(|n| TypeKind::Interface { empty: n == 0 }),
            Kind::Struct => reader.fields(&raw).map(|fields| {
                let field = |f: descriptor::RawField| Field {
                    name: f.name.into(),
                    offset: f.offset,
                    ty: self.part(f.ty),
                    embedded: f.embedded,
                };
                TypeKind::Struct(fields.into_iter().map(field).collect())
            }),
        };
        match kind {
            Some(kind) => Type {
                name: name.into(),
                size: raw.size,
                kind,
                origin,
            },
            None => opaque(&name, raw.size),
        }
    }
}

impl<M: Memory> TypeTable for RttiTypes<M> {
    fn get(&self, id: TypeId) -> Arc<Type> {
        if let Some(at) = self.address(id) {
            if let Some(ty) = self.lock().cache.get(&id) {
                return ty.clone();
            }
            // Loaded without the lock: parts may have to be made.
            let ty = Arc::new(self.load(at));
            let mut state = self.lock();
            if state.cache.len() >= CACHED_TYPES {
                state.cache.clear();
            }
            return state.cache.entry(id).or_insert(ty).clone();
        }
        let index = usize::try_from(id.0 & !MADE).unwrap_or(usize::MAX);
        let made = self.lock().made.get(index).cloned();
        made.unwrap_or_else(|| {
            Arc::new(Type {
                name: "?".into(),
                size: 0,
                kind: TypeKind::Opaque,
                origin: Origin::Builtin,
            })
        })
    }
}
