//! From a type's name to its descriptor.
//!
//! Up to Go 1.26 `typelinks` is sorted by name and binary searched. From 1.27
//! the descriptors lie in a row and are walked once. Both list unnamed types
//! only; a named one is found by its pointer. What neither lists, code may
//! still refer to: `lea reg, [rip+descriptor]`.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::sync::OnceLock;

use crate::addr::LiveAddr;
use crate::image::rtti::TypeList;
use crate::image::rtti::descriptor::{Kind, Raw, Reader};

/// Descriptors looked at, at most: a program of 700 MB has some 300,000.
const MAX_TYPES: usize = 4 << 20;
/// Bytes of text read at once.
const CHUNK: u64 = 256 << 10;
/// Bytes of `lea r64, [rip+disp32]`.
const LEA: usize = 7;

/// A name to look for.
pub(super) struct Wanted<'a> {
    /// As descriptors spell it: with the package's name, not its path.
    short: String,
    /// The package's path, when the name has one with a slash.
    path: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    pub(super) fn parse(name: &'a str) -> Self {
        let plain = name.trim_start_matches('*');
        let stars = name
            .get(..name.len().saturating_sub(plain.len()))
            .unwrap_or("");
        // Type arguments keep their paths, and so do the parts of composite
        // types: only a leading path is the type's own.
        let head = plain.split(['[', '(', ' ', '{']).next().unwrap_or(plain);
        let slash = head.rfind('/').filter(|_| !head.is_empty());
        let Some((path, short)) = slash.and_then(|at| {
            let dot = head.get(at..)?.find('.')?.checked_add(at)?;
            Some((plain.get(..dot)?, plain.get(at.checked_add(1)?..)?))
        }) else {
            return Self {
                short: name.to_owned(),
                path: None,
            };
        };
        Self {
            short: format!("{stars}{short}"),
            path: Some(path),
        }
    }

    pub(super) fn in_package(path: &'a str, short: &str) -> Self {
        Self {
            short: short.to_owned(),
            path: Some(path),
        }
    }

    /// `raw` is the type looked for.
    fn is(&self, reader: &Reader<'_>, raw: &Raw) -> bool {
        reader.is_named(raw, &self.short) && self.is_from(reader, raw)
    }

    fn is_from(&self, reader: &Reader<'_>, raw: &Raw) -> bool {
        let Some(path) = self.path else {
            return true;
        };
        // The package is noted on the named type, not on pointers to it.
        let mut raw = *raw;
        for _ in 0..8 {
            if Reader::is_declared(&raw) {
                break;
            }
            let Some(elem) = reader.elem(&raw).and_then(|at| reader.raw(at)) else {
                break;
            };
            raw = elem;
        }
        reader.package_path(&raw).is_none_or(|found| found == path)
    }
}

/// Descriptors by the hash of their names: 8 bytes each, sorted.
pub(super) struct NameIndex(Vec<(u32, u32)>);

impl NameIndex {
    fn of(reader: &Reader<'_>, descriptors: impl Iterator<Item = LiveAddr>) -> Self {
        let entry = |at: LiveAddr| {
            let raw = reader.raw(at)?;
            let hash = reader.with_type_name(&raw, hash)?;
            let words = at.0.checked_sub(reader.section.types.0)? / 8;
            Some((hash, u32::try_from(words).ok()?))
        };
        let mut index: Vec<_> = descriptors.filter_map(entry).collect();
        index.sort_unstable();
        index.dedup();
        index.shrink_to_fit();
        Self(index)
    }

    /// Shows the descriptors.
    pub(super) fn each(&self, reader: &Reader<'_>, mut see: impl FnMut(&Raw)) {
        for (_, words) in &self.0 {
            let skip = u64::from(*words).saturating_mul(8);
            if let Some(raw) = reader.raw(reader.section.types.offset(skip)) {
                see(&raw);
            }
        }
    }

    /// The descriptor of the type looked for.
    pub(super) fn find(&self, reader: &Reader<'_>, wanted: &Wanted<'_>) -> Option<LiveAddr> {
        let hash = hash(wanted.short.as_bytes());
        let first = self.0.partition_point(|(h, _)| *h < hash);
        let mut same = self.0.get(first..)?.iter().take_while(|(h, _)| *h == hash);
        same.find_map(|(_, words)| {
            let at = reader
                .section
                .types
                .offset(u64::from(*words).checked_mul(8)?);
            let raw = reader.raw(at)?;
            wanted.is(reader, &raw).then_some(at)
        })
    }
}

fn hash(name: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish() as u32
}

/// Looks where the module lists its types.
pub(super) fn listed(
    reader: &Reader<'_>,
    wanted: &Wanted<'_>,
    index: &OnceLock<NameIndex>,
) -> Option<LiveAddr> {
    match reader.section.list {
        TypeList::Descriptors { .. } => {
            let index = index.get_or_init(|| {
                let mut all = Vec::new();
                each_listed(reader, |raw| all.push(raw.at));
                NameIndex::of(reader, all.into_iter())
            });
            index.find(reader, wanted)
        }
        TypeList::Links { at, count } => {
            let links = Links {
                reader: *reader,
                at,
                count: count.min(MAX_TYPES as u64),
            };
            // An unnamed type is listed itself, a named one by its pointer.
            links
                .find(&wanted.short, |raw| wanted.is_from(reader, raw))
                .or_else(|| {
                    let pointer = format!("*{}", wanted.short);
                    let at = links.find(&pointer, |raw| wanted.is_from(reader, raw))?;
                    reader.elem(&reader.raw(at)?)
                })
        }
    }
}

/// Every descriptor that the module lists, and the named types behind listed
/// pointers; some more than once.
pub(super) fn each_listed(reader: &Reader<'_>, mut then: impl FnMut(&Raw)) {
    let mut with_elem = |raw: Raw| {
        then(&raw);
        let elem = (raw.kind == Kind::Pointer)
            .then(|| reader.elem(&raw))
            .flatten();
        let elem = elem.and_then(|at| reader.raw(at));
        if let Some(elem) = elem.filter(Reader::is_declared) {
            then(&elem);
        }
    };
    match reader.section.list {
        TypeList::Descriptors { len } => Descriptors::new(*reader, len)
            .filter_map(|at| reader.raw(at))
            .for_each(&mut with_elem),
        TypeList::Links { at, count } => {
            let count = count.min(MAX_TYPES as u64);
            let links = Links {
                reader: *reader,
                at,
                count,
            };
            (0..count)
                .filter_map(|i| links.get(i))
                .for_each(&mut with_elem);
        }
    }
}

/// `moduledata.typelinks`
struct Links<'a> {
    reader: Reader<'a>,
    at: LiveAddr,
    count: u64,
}

impl Links<'_> {
    fn get(&self, index: u64) -> Option<Raw> {
        let at = self.at.offset(index.checked_mul(4)?);
        let offset = self.reader.memory.read_u32(at).ok()?;
        self.reader
            .raw(self.reader.section.types.offset(u64::from(offset)))
    }

    /// The first type named `name` that `fits`. The linker sorts the list by
    /// name (`cmd/link/internal/ld/typelink.go`).
    fn find(&self, name: &str, fits: impl Fn(&Raw) -> bool) -> Option<LiveAddr> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let raw = self.get(middle)?;
            let less = self
                .reader
                .with_type_name(&raw, |found| found < name.as_bytes())?;
            if less {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        (low..self.count)
            .map_while(|i| self.get(i).filter(|raw| self.reader.is_named(raw, name)))
            .find(fits)
            .map(|raw| raw.at)
    }
}

/// Walks descriptors that lie one after another.
struct Descriptors<'a> {
    reader: Reader<'a>,
    next: LiveAddr,
    end: LiveAddr,
}

impl<'a> Descriptors<'a> {
    fn new(reader: Reader<'a>, len: u64) -> Self {
        let section = reader.section;
        let end = section.types.offset(len).min(section.etypes);
        Self {
            reader,
            next: section.types.offset(8),
            end,
        }
    }
}

impl Iterator for Descriptors<'_> {
    type Item = LiveAddr;

    fn next(&mut self) -> Option<LiveAddr> {
        while self.next < self.end {
            let at = self.next;
            let size = self
                .reader
                .raw(at)
                .and_then(|raw| self.reader.descriptor_size(&raw));
            // Where no descriptor is, the next may begin a word further.
            let step = size.unwrap_or(0).max(8);
            self.next = LiveAddr(at.0.checked_add(step)?.checked_next_multiple_of(8)?);
            if size.is_some() {
                return Some(at);
            }
        }
        None
    }
}

/// Types whose descriptors code refers to, and the types that those are made
/// of, as an index by name.
pub(super) fn referenced(reader: &Reader<'_>) -> NameIndex {
    let mut pending = leas(reader);
    let mut seen: HashSet<LiveAddr> = HashSet::new();
    while let Some(at) = pending.pop() {
        if seen.len() >= MAX_TYPES || seen.contains(&at) {
            continue;
        }
        let Some(raw) = reader.raw(at) else {
            continue;
        };
        seen.insert(at);
        pending.extend(reader.elem(&raw));
        pending.extend(reader.pointer_to(&raw));
        match raw.kind {
            Kind::Struct => {
                pending.extend(reader.fields(&raw).into_iter().flatten().map(|f| f.ty));
            }
            Kind::Map => {
                let (key, value) = reader.map(&raw).unzip();
                pending.extend(key.into_iter().chain(value));
            }
            _ => {}
        }
    }
    NameIndex::of(reader, seen.into_iter())
}

/// Operands of `lea r64, [rip+disp32]` (REX.W 8D /r, mod 00, rm 101) that point
/// into the type section. Scanned by byte, not by instruction: what is not a
/// descriptor is found out when it is read.
fn leas(reader: &Reader<'_>) -> Vec<LiveAddr> {
    let section = reader.section;
    let mut found = Vec::new();
    let mut chunk = vec![0; usize::try_from(CHUNK).unwrap_or(0)];
    let mut at = section.text;
    while at < section.etext {
        let room = section.etext.0.saturating_sub(at.0).min(CHUNK);
        let Some(bytes) = usize::try_from(room).ok().and_then(|n| chunk.get_mut(..n)) else {
            break;
        };
        if reader.memory.read(at, bytes).is_ok() {
            for (place, code) in (0_u64..).zip(bytes.windows(LEA)) {
                let [rex, 0x8d, modrm, displacement @ ..] = code else {
                    continue;
                };
                if rex & 0xfb != 0x48 || modrm & 0xc7 != 0x05 {
                    continue;
                }
                let displacement: [u8; 4] = displacement.try_into().unwrap_or_default();
                let next = at.0.wrapping_add(place).wrapping_add(LEA as u64);
                let target = next.wrapping_add_signed(i64::from(i32::from_le_bytes(displacement)));
                let inside = (section.types.0..section.etypes.0).contains(&target);
                if inside && target.is_multiple_of(8) && found.len() < MAX_TYPES {
                    found.push(LiveAddr(target));
                }
            }
        }
        // An instruction may lie across the boundary: overlap by all but one byte.
        at = at.offset(room.saturating_sub(LEA as u64 - 1).max(1));
        if room < CHUNK {
            break;
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
