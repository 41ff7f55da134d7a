//! Go's types from DIEs: `DW_AT_go_kind` tells what a structure or typedef
//! really is (cmd/link internal/ld/dwarf.go, `newtype`, Go 1.18 to 1.27).

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError};

use gimli::AttributeValue;

use super::{Dwarf, Slice, short_type_name, signature};
use crate::image::types::{Field, MapKind, Origin, Type, TypeId, TypeKind, TypeTable};

// cmd/internal/dwarf/dwarf.go.
const GO_KIND: gimli::DwAt = gimli::DwAt(0x2900);
const GO_KEY: gimli::DwAt = gimli::DwAt(0x2901);
const GO_ELEM: gimli::DwAt = gimli::DwAt(0x2902);
const GO_EMBEDDED: gimli::DwAt = gimli::DwAt(0x2903);
const GO_RUNTIME_TYPE: gimli::DwAt = gimli::DwAt(0x2904);
const GO_DICT_INDEX: gimli::DwAt = gimli::DwAt(0x2906);

// internal/abi/type.go, `Kind`; the same numbers since Go 1.0.
const KIND_CHAN: u64 = 18;
const KIND_INTERFACE: u64 = 20;
const KIND_MAP: u64 = 21;
const KIND_SLICE: u64 = 23;
const KIND_STRING: u64 = 24;

const MAX_FIELDS: usize = 4096;
const MAX_TYPEDEFS: usize = 16;

/// Where the types are by name: hash of the name, offset. Sorted.
pub(super) type Index = Box<[(u64, u32)]>;

/// What the attributes of a type's DIE say.
#[derive(Default)]
struct Attributes {
    name: String,
    kind: Option<u64>,
    size: Option<u64>,
    encoding: Option<gimli::DwAte>,
    ty: Option<u32>,
    key: Option<u32>,
    elem: Option<u32>,
}

impl TypeTable for Dwarf {
    fn get(&self, id: TypeId) -> Arc<Type> {
        let loaded = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded().get(&id) {
            return Arc::clone(known);
        }
        let ty = Arc::new(match id {
            signature::DICT => signature::dictionary_type(),
            _ => self.read_type(id).unwrap_or_else(|| unknown(id)),
        });
        loaded().insert(id, Arc::clone(&ty));
        ty
    }

    fn map_kind(&self) -> MapKind {
        *self.maps.get_or_init(|| {
            if self.find_type("internal/runtime/maps.Map").is_some() {
                self.swiss_kind()
            } else if self.find_type("runtime.hmap").is_some() {
                MapKind::Classic
            } else {
                MapKind::Unknown
            }
        })
    }
}

fn unknown(id: TypeId) -> Type {
    Type {
        name: Arc::from("?"),
        size: 0,
        kind: TypeKind::Opaque,
        origin: Origin::Dwarf(u64::from(id.0)),
    }
}

impl Dwarf {
    /// A type by its full name (`runtime.g`, `internal/poll.FD`, `[]int`).
    pub fn find_type(&self, name: &str) -> Option<TypeId> {
        let index = self.index.get_or_init(|| self.index_types());
        let wanted = hash(name);
        let from = index.partition_point(|entry| entry.0 < wanted);
        index
            .get(from..)?
            .iter()
            .take_while(|entry| entry.0 == wanted)
            .find(|entry| {
                self.read_die(entry.1 as usize)
                    .is_some_and(|(_, a)| self.parse_attributes(&a).name == name)
            })
            .map(|entry| TypeId(entry.1))
    }

    /// The full names of all types, sorted, each once.
    pub fn type_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for unit in self.units.named("runtime") {
            // What was read before a broken entry is still good.
            let _ = self.walk_top(unit, |_, tag, attributes| {
                if is_type(tag)
                    && let Some(name) = attributes.iter().find(|a| a.name() == gimli::DW_AT_name)
                {
                    names.extend(self.text(&name.value()).map(Cow::into_owned));
                }
                true
            });
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Names and offsets of the fields of a struct, by its full name.
    pub fn struct_fields(&self, name: &str) -> Option<Vec<(Arc<str>, u64)>> {
        match &self.get(self.find_type(name)?).kind {
            TypeKind::Struct(fields) => Some(
                fields
                    .iter()
                    .map(|f| (Arc::clone(&f.name), f.offset))
                    .collect(),
            ),
            _ => None,
        }
    }

    /// The type that the descriptor (`abi.Type`) describes which lies `offset`
    /// bytes after `moduledata.types`: that is what `DW_AT_go_runtime_type` is
    /// (cmd/link internal/ld/dwarf.go, `DW_CLS_GO_TYPEREF`).
    pub fn type_of_descriptor(&self, offset: u64) -> Option<TypeId> {
        let list = self.by_rtype.get_or_init(|| self.index_descriptors());
        let at = list.binary_search_by_key(&offset, |entry| entry.0).ok()?;
        list.get(at).map(|entry| TypeId(entry.1))
    }

    /// For a type that depends on a generic function's type parameters: which
    /// word of the dictionary is the address of the real type's descriptor
    /// (`DW_AT_go_dict_index`, Go 1.18). What [`TypeTable::get`] tells of such
    /// a type is its shape.
    pub fn dictionary_index(&self, id: TypeId) -> Option<u64> {
        let (tag, attributes) = self.read_die(id.0 as usize)?;
        if tag != gimli::DW_TAG_typedef {
            return None;
        }
        let index = attributes.iter().find(|a| a.name() == GO_DICT_INDEX)?;
        index.value().udata_value()
    }

    /// GOEXPERIMENT=mapsplitgroup (Go 1.27) keeps keys and elements apart: the
    /// first group type found tells, by its fields.
    fn swiss_kind(&self) -> MapKind {
        let mut kind = None;
        for unit in self.units.named("runtime") {
            let _ = self.walk_top(unit, |at, tag, attributes| {
                let is_group = tag == gimli::DW_TAG_structure_type
                    && self
                        .parse_attributes(attributes)
                        .name
                        .trim_start_matches("noalg.")
                        .starts_with("map.group[");
                if is_group && let TypeKind::Struct(fields) = &self.get(TypeId(at)).kind {
                    kind = match fields.len() {
                        2 => Some(MapKind::Swiss),
                        3 => Some(MapKind::SwissSplit),
                        _ => None,
                    };
                }
                kind.is_none()
            });
        }
        kind.unwrap_or(MapKind::Unknown)
    }

    /// The linker puts all types into the runtime's unit.
    fn index_types(&self) -> Index {
        let mut out = Vec::new();
        for unit in self.units.named("runtime") {
            let _ = self.walk_top(unit, |at, tag, attributes| {
                if is_type(tag)
                    && let Some(name) = attributes.iter().find(|a| a.name() == gimli::DW_AT_name)
                    && let Some(name) = self.text(&name.value())
                {
                    // A typedef stands before what it names.
                    out.push((hash(&name), at));
                }
                true
            });
        }
        out.sort_unstable();
        out.into_boxed_slice()
    }

    fn index_descriptors(&self) -> Box<[(u64, u32)]> {
        let mut out = Vec::new();
        for unit in self.units.named("runtime") {
            let _ = self.walk_top(unit, |at, tag, attributes| {
                if is_type(tag)
                    && let Some(rtype) = attributes.iter().find(|a| a.name() == GO_RUNTIME_TYPE)
                    && let Some(rtype) = self.address(unit, &rtype.value())
                    && rtype != 0
                {
                    out.push((rtype, at));
                }
                true
            });
        }
        out.sort_unstable();
        out.into_boxed_slice()
    }

    /// The tag and the attributes of one DIE.
    pub(super) fn read_die(
        &self,
        at: usize,
    ) -> Option<(gimli::DwTag, Vec<gimli::Attribute<Slice<'_>>>)> {
        let die = self.find_die(at)?;
        let mut entries = die.entries()?;
        let abbreviation = entries.read_abbreviation().ok()??;
        let mut attributes = Vec::new();
        entries
            .read_attributes(abbreviation.attributes(), &mut attributes)
            .ok()?;
        Some((abbreviation.tag(), attributes))
    }

    fn parse_attributes(&self, attributes: &[gimli::Attribute<Slice<'_>>]) -> Attributes {
        let mut out = Attributes::default();
        for attribute in attributes {
            let value = attribute.value();
            let reference = match &value {
                AttributeValue::DebugInfoRef(to) => u32::try_from(to.0).ok(),
                _ => None,
            };
            match attribute.name() {
                gimli::DW_AT_name => out.name = self.text(&value).unwrap_or_default().into(),
                gimli::DW_AT_byte_size => out.size = value.udata_value(),
                gimli::DW_AT_encoding => {
                    if let AttributeValue::Encoding(encoding) = value {
                        out.encoding = Some(encoding);
                    }
                }
                gimli::DW_AT_type => out.ty = reference,
                GO_KIND => out.kind = value.udata_value(),
                GO_KEY => out.key = reference,
                GO_ELEM => out.elem = reference,
                _ => {}
            }
        }
        out
    }

    fn read_type(&self, id: TypeId) -> Option<Type> {
        let mut at = id.0;
        let mut name = String::new();
        for _ in 0..MAX_TYPEDEFS {
            let (tag, attributes) = self.read_die(at as usize)?;
            let die = self.parse_attributes(&attributes);
            // `.param0`: a type parameter; what it stands for has the name.
            if name.is_empty() && !die.name.starts_with('.') {
                name.clone_from(&die.name);
            }
            if tag == gimli::DW_TAG_typedef
                && !matches!(die.kind, Some(KIND_MAP | KIND_CHAN | KIND_INTERFACE))
            {
                at = die.ty?;
                continue;
            }
            let (kind, size) = self.read_kind(at, tag, &die)?;
            let package = |path: &str| self.package_name(path);
            return Some(Type {
                name: short_type_name(&name, &package).into(),
                size,
                kind,
                origin: Origin::Dwarf(u64::from(id.0)),
            });
        }
        None
    }

    /// A package's name where its import path does not end in it.
    fn package_name(&self, path: &str) -> Option<String> {
        let find = |path: &str| {
            let unit = self.units.named(path).next()?;
            Some(unit.package.as_deref()?.to_owned())
        };
        find(path).or_else(|| find(&path.replace("%2e", ".")))
    }

    fn read_kind(&self, at: u32, tag: gimli::DwTag, die: &Attributes) -> Option<(TypeKind, u64)> {
        let kind = match tag {
            gimli::DW_TAG_typedef => match die.kind? {
                KIND_MAP => TypeKind::Map {
                    key: TypeId(die.key?),
                    value: TypeId(die.elem?),
                },
                KIND_CHAN => TypeKind::Chan(TypeId(die.elem?)),
                _ => {
                    let (_, attributes) = self.read_die(die.ty? as usize)?;
                    let empty = self.parse_attributes(&attributes).name == "runtime.eface";
                    return Some((TypeKind::Interface { empty }, 16));
                }
            },
            gimli::DW_TAG_base_type => match die.encoding? {
                gimli::DW_ATE_boolean => TypeKind::Bool,
                gimli::DW_ATE_float => TypeKind::Float,
                gimli::DW_ATE_complex_float => TypeKind::Complex,
                gimli::DW_ATE_signed | gimli::DW_ATE_signed_char => TypeKind::Int { signed: true },
                _ => TypeKind::Int { signed: false },
            },
            gimli::DW_TAG_pointer_type => match die.ty {
                Some(to) if !die.name.is_empty() => TypeKind::Pointer(TypeId(to)),
                _ => TypeKind::UnsafePointer,
            },
            gimli::DW_TAG_subroutine_type => TypeKind::Func,
            gimli::DW_TAG_array_type => TypeKind::Array {
                elem: TypeId(die.ty?),
                len: self.read_count(at)?,
            },
            gimli::DW_TAG_structure_type => match die.kind {
                Some(KIND_STRING) => TypeKind::String,
                Some(KIND_SLICE) => TypeKind::Slice(TypeId(die.elem?)),
                _ => TypeKind::Struct(self.read_fields(at)?),
            },
            _ => TypeKind::Opaque,
        };
        Some((kind, die.size.unwrap_or(8)))
    }

    fn read_count(&self, at: u32) -> Option<u64> {
        let mut count = None;
        self.walk_children(at, |tag, attributes| {
            if tag == gimli::DW_TAG_subrange_type {
                count = attributes
                    .iter()
                    .find(|a| a.name() == gimli::DW_AT_count)
                    .and_then(|a| a.value().udata_value());
            }
            count.is_none()
        })?;
        count
    }

    fn read_fields(&self, at: u32) -> Option<Vec<Field>> {
        let mut fields = Vec::new();
        self.walk_children(at, |tag, attributes| {
            if tag == gimli::DW_TAG_member
                && let Some(field) = self.parse_field(attributes)
            {
                fields.push(field);
            }
            fields.len() < MAX_FIELDS
        })?;
        Some(fields)
    }

    fn parse_field(&self, attributes: &[gimli::Attribute<Slice<'_>>]) -> Option<Field> {
        let mut name = None;
        let mut offset = 0;
        let mut ty = None;
        let mut embedded = false;
        for attribute in attributes {
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_name, value) => name = self.text(&value),
                (gimli::DW_AT_data_member_location, value) => offset = value.udata_value()?,
                (gimli::DW_AT_type, AttributeValue::DebugInfoRef(to)) => {
                    ty = Some(TypeId(u32::try_from(to.0).ok()?));
                }
                (GO_EMBEDDED, AttributeValue::Flag(is)) => embedded = is,
                _ => {}
            }
        }
        Some(Field {
            name: Arc::from(&*name?),
            offset,
            ty: ty?,
            embedded,
        })
    }

    /// Shows the children of a DIE until `see` says false.
    fn walk_children<'a>(
        &'a self,
        at: u32,
        mut see: impl FnMut(gimli::DwTag, &[gimli::Attribute<Slice<'a>>]) -> bool,
    ) -> Option<()> {
        let die = self.find_die(at as usize)?;
        let mut entries = die.entries()?;
        let mut attributes = Vec::new();
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation().ok()? else {
                if entries.next_depth() <= 0 {
                    break;
                }
                continue;
            };
            if depth == 0 && !abbreviation.has_children() {
                break;
            }
            if depth != 1 {
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                continue;
            }
            entries
                .read_attributes(abbreviation.attributes(), &mut attributes)
                .ok()?;
            if !see(abbreviation.tag(), &attributes) {
                break;
            }
        }
        Some(())
    }
}

fn is_type(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_typedef
            | gimli::DW_TAG_base_type
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_array_type
            | gimli::DW_TAG_subroutine_type
    )
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
