//! Go types and function signatures as plain data, wherever they were learnt
//! from: DWARF, the runtime's own type descriptors, or a built-in table.
//!
//! Types live in a [`TypeTable`] and name each other by [`TypeId`]; a pointer's
//! element is resolved lazily so that one signature never pulls in a program.

use std::sync::Arc;

/// Index of a type in its [`TypeTable`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TypeId(pub u32);

/// Where the description of a type that is not loaded yet can be found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// Offset of a DIE in `.debug_info`.
    Dwarf(u64),
    /// Address of an `abi.Type` descriptor, in the address space of the memory
    /// that the table's loader reads.
    Rtti(u64),
    /// Made here (built-in signatures, basic types).
    Builtin,
}

/// A Go type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Type {
    /// As Go prints it: `net.IP`, `*net.TCPConn`, `[]uint8`, `map[string]int`.
    pub name: Arc<str>,
    /// Bytes.
    pub size: u64,
    /// What it is made of.
    pub kind: TypeKind,
    /// Where it was learnt.
    pub origin: Origin,
}

/// The structure of a type (of its underlying type, when it is a named one).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TypeKind {
    /// `bool`
    Bool,
    /// `int…`, `uint…`, `uintptr`; the width is the type's size.
    Int {
        /// False for the `uint` family.
        signed: bool,
    },
    /// `float32`, `float64`
    Float,
    /// `complex64`, `complex128`
    Complex,
    /// `string`: pointer, length
    String,
    /// `unsafe.Pointer`
    UnsafePointer,
    /// `*T`
    Pointer(TypeId),
    /// `[]T`: pointer, length, capacity
    Slice(TypeId),
    /// `[len]T`
    Array {
        /// Element.
        elem: TypeId,
        /// Number of elements.
        len: u64,
    },
    /// Fields in memory order.
    Struct(Vec<Field>),
    /// Two words; the first is an itab (`empty` false) or a type (`empty` true).
    Interface {
        /// `any` and other interfaces without methods.
        empty: bool,
    },
    /// One pointer to the runtime's map.
    Map {
        /// Key.
        key: TypeId,
        /// Element.
        value: TypeId,
    },
    /// One pointer to the runtime's hchan.
    Chan(TypeId),
    /// One pointer to a funcval.
    Func,
    /// Known by name and size only.
    Opaque,
}

/// A struct's field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name; an embedded field is named as its type.
    pub name: Arc<str>,
    /// Bytes from the struct's start.
    pub offset: u64,
    /// Its type.
    pub ty: TypeId,
    /// Declared without a name.
    pub embedded: bool,
}

/// A parameter or result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Param {
    /// Its name, where the source knows one (`_` and unnamed: none).
    pub name: Option<Arc<str>>,
    /// Its type.
    pub ty: TypeId,
}

/// Where a signature was learnt, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// `.debug_info`: names and types of everything.
    Dwarf,
    /// A method table of the runtime's type data: types, no names.
    MethodTable,
    /// gotap's table of functions that people trace.
    Builtin,
    /// pclntab's argument info: shapes of arguments, no results.
    ArgInfo,
    /// Nothing: ABI registers, shown raw and marked so.
    Registers,
}

/// What a function takes and gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// The receiver first when there is one. For an instance of a generic
    /// function the dictionary is a parameter named `.dict`.
    pub params: Vec<Param>,
    /// The results; `None` when the source does not tell (ArgInfo, Registers).
    pub results: Option<Vec<Param>>,
    /// Where this was learnt.
    pub source: Source,
}

/// How the program's runtime lays out a map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MapKind {
    /// Not known: a map's length is read, its entries are not.
    #[default]
    Unknown,
    /// `runtime.hmap` and buckets of eight: up to Go 1.23, later with
    /// GOEXPERIMENT=noswissmap.
    Classic,
    /// `internal/runtime/maps.Map`, from Go 1.24: groups of eight slots.
    Swiss,
    /// The same with GOEXPERIMENT=mapsplitgroup (Go 1.27): a group has its
    /// eight keys first, then its eight elements.
    SwissSplit,
}

impl MapKind {
    /// What Go 1.`minor` does, with the experiments it was built with
    /// (`GOEXPERIMENT` in the build settings, or after `X:` in the version).
    pub fn of(minor: u32, experiments: &str) -> MapKind {
        let has = |name: &str| {
            experiments
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|e| e == name)
        };
        match minor {
            0..24 => MapKind::Classic,
            _ if has("noswissmap") => MapKind::Classic,
            _ if has("mapsplitgroup") => MapKind::SwissSplit,
            _ => MapKind::Swiss,
        }
    }
}

/// Loads types on demand.
pub trait TypeTable {
    /// The type; an `Opaque` one when its description cannot be read.
    fn get(&self, id: TypeId) -> Arc<Type>;

    /// How maps are laid out, where the table can tell.
    fn map_kind(&self) -> MapKind {
        MapKind::Unknown
    }
}
