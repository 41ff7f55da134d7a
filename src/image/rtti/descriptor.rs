//! One `abi.Type` and what hangs on it, as the bytes say.
//!
//! Layouts: `internal/abi/type.go` (up to Go 1.20 `runtime/type.go`); the parts
//! read here have kept their offsets from Go 1.18 to 1.27, except where said.

use crate::addr::LiveAddr;
use crate::image::rtti::TypeSection;
use crate::memory::Memory;

/// `sizeof(abi.Type)`
const TYPE_SIZE: u64 = 48;
/// `sizeof(abi.UncommonType)`
const UNCOMMON_SIZE: u64 = 16;
/// Bytes of a name: generic types spell out their arguments.
const MAX_NAME: u64 = 16 << 10;
/// Fields of a struct, methods of a type, methods of an interface.
const MAX_PARTS: u64 = 1 << 16;

/// TFlag bits.
const UNCOMMON: u8 = 1;
const EXTRA_STAR: u8 = 2;
const NAMED: u8 = 4;

/// `abi.Kind`, with the widths folded away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Bool,
    Int,
    Uint,
    Float,
    Complex,
    Array,
    Chan,
    Func,
    Interface,
    Map,
    Pointer,
    Slice,
    String,
    Struct,
    UnsafePointer,
}

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        // Up to Go 1.25 bits 5 and 6 are flags (direct interface, GC program).
        Some(match byte & 0x1f {
            1 => Self::Bool,
            2..=6 => Self::Int,
            7..=12 => Self::Uint,
            13 | 14 => Self::Float,
            15 | 16 => Self::Complex,
            17 => Self::Array,
            18 => Self::Chan,
            19 => Self::Func,
            20 => Self::Interface,
            21 => Self::Map,
            22 => Self::Pointer,
            23 => Self::Slice,
            24 => Self::String,
            25 => Self::Struct,
            26 => Self::UnsafePointer,
            _ => return None,
        })
    }

    /// Bytes of the kind's own struct; `None` for maps, whose differ by version.
    fn size(self) -> Option<u64> {
        match self {
            Self::Pointer | Self::Slice | Self::Func => Some(56),
            Self::Chan => Some(64),
            Self::Array => Some(72),
            Self::Struct | Self::Interface => Some(80),
            Self::Map => None,
            _ => Some(TYPE_SIZE),
        }
    }
}

/// `sizeof(abi.MapType)`: 1.27, 1.24 to 1.26, up to 1.23 (and 1.24, 1.25 with
/// `GOEXPERIMENT=noswissmap`).
const MAP_SIZES: [u64; 3] = [136, 112, 88];

/// The common part of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    pub(super) at: LiveAddr,
    pub(super) size: u64,
    pub(super) kind: Kind,
    flags: u8,
    name: u64,
    /// Offset of the pointer type's descriptor, 0 for none.
    pointer: u64,
}

/// A struct's field before its type is looked at.
pub(super) struct RawField {
    pub(super) name: String,
    pub(super) ty: LiveAddr,
    pub(super) offset: u64,
    pub(super) embedded: bool,
}

/// A method of a type, as far as the linker kept it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Method {
    /// Its name, without package.
    pub name: String,
    /// Descriptor of its func type (without receiver).
    pub func: Option<LiveAddr>,
    /// Entry of the function that takes the receiver as it is.
    pub code: Option<LiveAddr>,
}

/// A method table entry, its name unread.
pub(super) struct RawMethod {
    name: u64,
    func: u64,
    code: u64,
}

impl RawMethod {
    /// Descriptor of the func type and entry of the code, when both are kept:
    /// the linker writes 0 or -1 for what is unreachable.
    pub(super) fn kept(&self, section: &TypeSection) -> (Option<LiveAddr>, Option<LiveAddr>) {
        let kept = |offset: u64| (offset != 0 && offset != u64::from(u32::MAX)).then_some(offset);
        (
            kept(self.func).map(|o| section.types.offset(o)),
            kept(self.code).map(|o| section.text.offset(o)),
        )
    }
}

/// Reads descriptors of one section.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) memory: &'a dyn Memory,
    pub(super) section: &'a TypeSection,
}

impl Reader<'_> {
    /// The descriptor at `at`, if it can be one.
    pub(super) fn raw(&self, at: LiveAddr) -> Option<Raw> {
        self.contains(at, TYPE_SIZE).then_some(())?;
        let mut b = [0; TYPE_SIZE as usize];
        self.memory.read(at, &mut b).ok()?;
        self.parse(at, &b)
    }

    /// The descriptor at `at` from its bytes.
    pub(super) fn parse(&self, at: LiveAddr, b: &[u8; TYPE_SIZE as usize]) -> Option<Raw> {
        let [align, field_align] = [b[21], b[22]];
        let aligned = align.is_power_of_two() && field_align.is_power_of_two() && align <= 64;
        let size = u64::from_le_bytes(*b.first_chunk()?);
        let pointers = u64::from_le_bytes(*b.get(8..)?.first_chunk()?);
        let name = u64::from(u32::from_le_bytes(*b.get(40..)?.first_chunk()?));
        let pointer = u64::from(u32::from_le_bytes(*b.get(44..)?.first_chunk()?));
        let sane = aligned
            && pointers <= size
            && size < 1 << 48
            && at.0.is_multiple_of(8)
            && name != 0
            && self.contains(self.section.types.offset(name), 2);
        sane.then_some(Raw {
            at,
            size,
            kind: Kind::parse(b[23])?,
            flags: b[20],
            name,
            pointer,
        })
    }

    /// The type's name as Go prints it.
    pub(super) fn type_name(&self, raw: &Raw) -> Option<String> {
        let (name, _) = self.name(self.section.types.offset(raw.name))?;
        Some(match name.strip_prefix('*') {
            Some(rest) if raw.flags & EXTRA_STAR != 0 => rest.to_owned(),
            _ => name,
        })
    }

    /// Whether the type's name is `wanted`, without allocating.
    pub(super) fn is_named(&self, raw: &Raw, wanted: &str) -> bool {
        self.with_type_name(raw, |name| name == wanted.as_bytes())
            .unwrap_or(false)
    }

    /// Gives the bytes of the type's name to `then`.
    pub(super) fn with_type_name<T>(&self, raw: &Raw, then: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let at = self.section.types.offset(raw.name);
        self.with_name(at, |name, _| match name.strip_prefix(b"*") {
            Some(rest) if raw.flags & EXTRA_STAR != 0 => then(rest),
            _ => then(name),
        })
    }

    /// The type is declared with a name (or predeclared).
    pub(super) fn is_declared(raw: &Raw) -> bool {
        raw.flags & NAMED != 0
    }

    /// The name at `at` and its flag byte (bit 0 exported, 3 embedded).
    fn name(&self, at: LiveAddr) -> Option<(String, u8)> {
        self.with_name(at, |name, flags| {
            (String::from_utf8_lossy(name).into_owned(), flags)
        })
    }

    fn with_name<T>(&self, at: LiveAddr, then: impl FnOnce(&[u8], u8) -> T) -> Option<T> {
        // A flag byte, the length as a varint, the bytes. Most are short: one
        // read gets head and all.
        let mut head = [0; 64];
        let room = self
            .section
            .etypes
            .0
            .checked_sub(at.0)?
            .min(head.len() as u64);
        let head = head.get_mut(..usize::try_from(room).ok()?)?;
        self.contains(at, room).then_some(())?;
        self.memory.read(at, head).ok()?;
        let (flags, rest) = head.split_first()?;
        let (mut len, mut skip) = (0_u64, 0_usize);
        for byte in rest.iter().take(3) {
            len |= u64::from(byte & 0x7f) << (7 * skip);
            skip = skip.saturating_add(1);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let whole = usize::try_from(len).ok()?;
        if let Some(name) = rest.get(skip..)?.get(..whole) {
            return Some(then(name, *flags));
        }
        let start = at.offset(1).offset(skip as u64);
        (len <= MAX_NAME && self.contains(start, len)).then_some(())?;
        let name = self.memory.read_vec(start, whole).ok()?;
        Some(then(&name, *flags))
    }

    /// The element of a pointer, slice, array or channel.
    pub(super) fn elem(&self, raw: &Raw) -> Option<LiveAddr> {
        let has = matches!(
            raw.kind,
            Kind::Pointer | Kind::Slice | Kind::Array | Kind::Chan
        );
        has.then(|| self.memory.read_addr(raw.at.offset(TYPE_SIZE)).ok())?
    }

    /// An array's element and length.
    pub(super) fn array(&self, raw: &Raw) -> Option<(LiveAddr, u64)> {
        let len = self.memory.read_u64(raw.at.offset(64)).ok()?;
        Some((self.elem(raw)?, len))
    }

    /// A map's key and element.
    pub(super) fn map(&self, raw: &Raw) -> Option<(LiveAddr, LiveAddr)> {
        let key = self.memory.read_addr(raw.at.offset(48)).ok()?;
        Some((key, self.memory.read_addr(raw.at.offset(56)).ok()?))
    }

    /// Number of methods that an interface type asks for.
    pub(super) fn interface_methods(&self, raw: &Raw) -> Option<u64> {
        self.memory.read_u64(raw.at.offset(64)).ok()
    }

    /// A struct's fields.
    pub(super) fn fields(&self, raw: &Raw) -> Option<Vec<RawField>> {
        let list = self.memory.read_addr(raw.at.offset(56)).ok()?;
        let count = self.memory.read_u64(raw.at.offset(64)).ok()?;
        let bytes = count.checked_mul(24)?;
        (count <= MAX_PARTS && self.contains(list, bytes)).then_some(())?;
        let table = self
            .memory
            .read_vec(list, usize::try_from(bytes).ok()?)
            .ok()?;
        let mut fields = Vec::new();
        for row in table.chunks_exact(24) {
            let word = |at: usize| -> Option<u64> {
                Some(u64::from_le_bytes(*row.get(at..)?.first_chunk()?))
            };
            let (name, flags) = self.name(LiveAddr(word(0)?))?;
            let (offset, embedded) = match (self.section.doubled_offsets, word(16)?) {
                (false, offset) => (offset, flags & 8 != 0),
                (true, both) => (both >> 1, both & 1 != 0),
            };
            fields.push(RawField {
                name,
                ty: LiveAddr(word(8)?),
                offset,
                embedded,
            });
        }
        Some(fields)
    }

    /// Parameters and results of a func type.
    pub(super) fn func(&self, raw: &Raw) -> Option<(Vec<LiveAddr>, Vec<LiveAddr>)> {
        (raw.kind == Kind::Func).then_some(())?;
        let params = u64::from(self.memory.read_u16(raw.at.offset(48)).ok()?);
        // The top bit of the results' count says variadic.
        let results = u64::from(self.memory.read_u16(raw.at.offset(50)).ok()? & 0x7fff);
        let uncommon = if raw.flags & UNCOMMON == 0 {
            0
        } else {
            UNCOMMON_SIZE
        };
        let list = raw.at.offset(56).offset(uncommon);
        let bytes = params.checked_add(results)?.checked_mul(8)?;
        self.contains(list, bytes).then_some(())?;
        let table = self
            .memory
            .read_vec(list, usize::try_from(bytes).ok()?)
            .ok()?;
        let mut all = table
            .as_chunks()
            .0
            .iter()
            .map(|b| LiveAddr(u64::from_le_bytes(*b)));
        let params = all.by_ref().take(usize::try_from(params).ok()?).collect();
        Some((params, all.collect()))
    }

    /// Descriptor of the type's pointer type, where the program has one.
    pub(super) fn pointer_to(&self, raw: &Raw) -> Option<LiveAddr> {
        (raw.pointer != 0).then(|| self.section.types.offset(raw.pointer))
    }

    /// The import path of a named type's package.
    pub(super) fn package_path(&self, raw: &Raw) -> Option<String> {
        let (at, _) = self.uncommon(raw)?;
        let offset = self.memory.read_u32(at).ok().filter(|o| *o != 0)?;
        Some(self.name(self.section.types.offset(u64::from(offset)))?.0)
    }

    /// Where the uncommon part of the type is, and its bytes.
    fn uncommon(&self, raw: &Raw) -> Option<(LiveAddr, [u8; UNCOMMON_SIZE as usize])> {
        (raw.flags & UNCOMMON != 0).then_some(())?;
        let read = |offset: u64| {
            let at = raw.at.offset(offset);
            let mut b = [0; UNCOMMON_SIZE as usize];
            self.memory.read(at, &mut b).ok()?;
            Some((at, b))
        };
        if let Some(size) = raw.kind.size() {
            return read(size);
        }
        // A map's methods follow its uncommon part at once, the last word of
        // that part is unused, and a map with that part has a package. Looked
        // for from behind: the words of the map type itself may look alike.
        MAP_SIZES.into_iter().find_map(|size| {
            read(size).filter(|(_, b)| {
                b.get(8..) == Some(&[16, 0, 0, 0, 0, 0, 0, 0])
                    && u16::from_le_bytes([b[4], b[5]]) >= u16::from_le_bytes([b[6], b[7]])
                    && b.get(..4) != Some(&[0; 4])
            })
        })
    }

    /// The method table, unresolved.
    pub(super) fn raw_methods(&self, raw: &Raw) -> Option<Vec<RawMethod>> {
        let (at, b) = self.uncommon(raw)?;
        let count = u64::from(u16::from_le_bytes([b[4], b[5]]));
        let offset = u32::from_le_bytes([b[8], b[9], b[10], b[11]]);
        let list = at.offset(u64::from(offset));
        let bytes = count.checked_mul(16)?;
        (count > 0 && self.contains(list, bytes)).then_some(())?;
        let table = self
            .memory
            .read_vec(list, usize::try_from(bytes).ok()?)
            .ok()?;
        let methods = table.chunks_exact(16).filter_map(|row| {
            let word = |at: usize| -> Option<u64> {
                Some(u64::from(u32::from_le_bytes(
                    *row.get(at..)?.first_chunk()?,
                )))
            };
            Some(RawMethod {
                name: word(0)?,
                func: word(4)?,
                code: word(12)?,
            })
        });
        Some(methods.collect())
    }

    /// The methods that the linker kept.
    pub(super) fn methods(&self, raw: &Raw) -> Vec<Method> {
        let methods = self.raw_methods(raw).unwrap_or_default();
        let resolve = |m: RawMethod| {
            let (func, code) = m.kept(self.section);
            let name = self.name(self.section.types.offset(m.name))?.0;
            Some(Method { name, func, code })
        };
        methods.into_iter().filter_map(resolve).collect()
    }

    /// Bytes of the descriptor with all that follows it at once
    /// (`abi.Type.DescriptorSize`, Go 1.27).
    pub(super) fn descriptor_size(&self, raw: &Raw) -> Option<u64> {
        let [newest_map, ..] = MAP_SIZES;
        let base = raw.kind.size().unwrap_or(newest_map);
        let parts = match raw.kind {
            Kind::Func => {
                let params = self.memory.read_u16(raw.at.offset(48)).ok()?;
                let results = self.memory.read_u16(raw.at.offset(50)).ok()? & 0x7fff;
                u64::from(params)
                    .checked_add(u64::from(results))?
                    .checked_mul(8)?
            }
            Kind::Interface => self.interface_methods(raw)?.checked_mul(8)?,
            Kind::Struct => {
                let count = self.memory.read_u64(raw.at.offset(64)).ok()?;
                count.checked_mul(24)?
            }
            _ => 0,
        };
        let mut methods = 0;
        if raw.flags & UNCOMMON != 0 {
            let mut b = [0; UNCOMMON_SIZE as usize];
            self.memory.read(raw.at.offset(base), &mut b).ok()?;
            let count = u64::from(u16::from_le_bytes([b[4], b[5]]));
            methods = count.checked_mul(16)?.checked_add(UNCOMMON_SIZE)?;
        }
        base.checked_add(parts)?.checked_add(methods)
    }

    /// All of `len` bytes at `at` lie in the section.
    fn contains(&self, at: LiveAddr, len: u64) -> bool {
        let end = at.0.checked_add(len);
        at >= self.section.types && end.is_some_and(|end| end <= self.section.etypes.0)
    }
}
