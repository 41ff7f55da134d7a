//! Maps: their length always, their first entries where the layout is known.

use std::sync::Arc;

use super::Value;
use super::load::{Context, Loader, word};
use crate::addr::LiveAddr;
use crate::image::types::{MapKind, Type, TypeId, TypeKind, TypeTable};
use crate::memory::Memory as _;

/// Groups or buckets looked at, empty ones too.
const MAX_GROUPS: u64 = 64;
/// The same where one key is looked for.
const MAX_SEARCHED: u64 = 1 << 17;
/// A group larger than this is not read.
const MAX_GROUP_BYTES: u64 = 8 << 10;
/// Keys and elements larger than this are kept outside, in both layouts
/// (internal/abi/map*.go: `MapMaxKeyBytes`, `MapMaxElemBytes`).
const MAX_INLINE: u64 = 128;
/// More entries than a map in memory can have.
const MAX_LEN: u64 = 1 << 44;

/// Where the eight slots of a group or bucket have their keys and elements.
struct Slots {
    key: TypeId,
    elem: TypeId,
    key_indirect: bool,
    elem_indirect: bool,
    keys: u64,
    key_stride: u64,
    elems: u64,
    elem_stride: u64,
    /// Bytes of a group; of a bucket, the offset of its overflow pointer.
    size: u64,
}

impl Slots {
    fn new(kind: MapKind, key: TypeId, elem: TypeId, types: &dyn TypeTable) -> Option<Slots> {
        let (key_size, key_align, key_indirect) = stored(key, types);
        let (elem_size, elem_align, elem_indirect) = stored(elem, types);
        let eight = |size: u64| size.checked_mul(8);
        let slot_align = key_align.max(elem_align);
        let group_align = slot_align.max(8);
        let (keys, key_stride, elems, elem_stride, size) = match kind {
            MapKind::Unknown => return None,
            // internal/runtime/maps/group.go: control word, slots of key, element.
            MapKind::Swiss => {
                let elem_at = align_up(key_size, elem_align);
                let mut stride = align_up(elem_at + elem_size, slot_align);
                // A trailing element of no size is given room (types.CalcSize).
                if elem_size == 0 {
                    stride = align_up(key_size + 1, slot_align);
                }
                let slots = align_up(8, slot_align);
                let end = slots + eight(stride)?;
                (
                    slots,
                    stride,
                    slots + elem_at,
                    stride,
                    align_up(end, group_align),
                )
            }
            // Control word, keys, elements.
            MapKind::SwissSplit => {
                let keys = align_up(8, key_align);
                let elems = align_up(keys + eight(key_size)?, elem_align);
                let end = elems + eight(elem_size)?;
                let end = if elem_size == 0 { end + 1 } else { end };
                (keys, key_size, elems, elem_size, align_up(end, group_align))
            }
            // runtime/map.go (1.23), `bmap`: tophash, keys, elements, overflow.
            MapKind::Classic => {
                let elems = 8 + eight(key_size)?;
                let end = elems + eight(elem_size)?;
                (8, key_size, elems, elem_size, align_up(end, 8))
            }
        };
        (size <= MAX_GROUP_BYTES).then_some(Slots {
            key,
            elem,
            key_indirect,
            elem_indirect,
            keys,
            key_stride,
            elems,
            elem_stride,
            size,
        })
    }
}

/// Size and alignment of a key or element in its slot, and whether that is a
/// pointer to it.
fn stored(id: TypeId, types: &dyn TypeTable) -> (u64, u64, bool) {
    let size = types.get(id).size;
    if size > MAX_INLINE {
        (8, 8, true)
    } else {
        (size, align(id, types, &mut 256), false)
    }
}

fn align_up(at: u64, align: u64) -> u64 {
    at.next_multiple_of(align.max(1))
}

/// amd64: a basic type is aligned to its size, words to 8. `fields` bounds how
/// many types are looked at in all: descriptions are hostile too.
fn align(id: TypeId, types: &dyn TypeTable, fields: &mut u32) -> u64 {
    let Some(left) = fields.checked_sub(1) else {
        return 8;
    };
    *fields = left;
    let ty = types.get(id);
    match &ty.kind {
        TypeKind::Bool | TypeKind::Int { .. } | TypeKind::Float => ty.size.clamp(1, 8),
        TypeKind::Complex => (ty.size / 2).clamp(1, 8),
        TypeKind::Array { elem, .. } => align(*elem, types, fields),
        TypeKind::Struct(list) => list
            .iter()
            .map(|f| align(f.ty, types, fields))
            .max()
            .unwrap_or(1),
        _ => 8,
    }
}

/// Entries found so far, and how much may still be looked at.
struct Walk<'a> {
    slots: Slots,
    ctx: Context<'a>,
    entries: Vec<(Value, Value)>,
    wanted: usize,
    groups: u64,
    /// Look for the element of this key instead.
    key: Option<&'a Value>,
    found: Option<LiveAddr>,
}

impl Loader<'_> {
    /// The map whose header is at `at`; both layouts begin with the length
    /// (`hmap.count`, `Map.used`).
    pub(super) fn map(
        &self,
        ty: &Type,
        key: TypeId,
        elem: TypeId,
        at: LiveAddr,
        ctx: Context<'_>,
    ) -> Value {
        let Ok(header) = self.memory.read_vec(at, 40) else {
            return super::load::unreadable(format!("{} at {at}: not mapped", ty.name));
        };
        let len = word(&header, 0).filter(|len| *len < MAX_LEN);
        let entries = match (len, ctx.deeper()) {
            (Some(1..), Some(inner)) => self.entries(key, elem, &header, len, inner),
            _ => Vec::new(),
        };
        Value::Map {
            ty: Arc::clone(&ty.name),
            entries,
            len,
        }
    }

    fn entries(
        &self,
        key: TypeId,
        elem: TypeId,
        header: &[u8],
        len: Option<u64>,
        ctx: Context<'_>,
    ) -> Vec<(Value, Value)> {
        let kind = match ctx.types.map_kind() {
            MapKind::Unknown => self.rt.map_kind(),
            known => known,
        };
        let Some(slots) = Slots::new(kind, key, elem, ctx.types) else {
            return Vec::new();
        };
        let len = usize::try_from(len.unwrap_or(0)).unwrap_or(usize::MAX);
        let mut walk = Walk {
            slots,
            ctx,
            entries: Vec::new(),
            wanted: len.min(self.limits.elements),
            groups: MAX_GROUPS,
            key: None,
            found: None,
        };
        // What cannot be read ends the walk; the length tells what is missing.
        let _ = self.walk(kind, header, &mut walk);
        if walk.entries.len() == len {
            sort(&mut walk.entries);
        }
        walk.entries
    }

    /// Where the element of a key lies in the map whose header is at `at`;
    /// `Ok(None)`: there is no such key. The hash's seed is not used: all
    /// groups are looked at.
    pub(super) fn find_key(
        &self,
        (key, elem): (TypeId, TypeId),
        at: LiveAddr,
        wanted: &Value,
        types: &dyn TypeTable,
    ) -> Result<Option<LiveAddr>, &'static str> {
        let header = self.memory.read_vec(at, 40).map_err(|_| "not mapped")?;
        match word(&header, 0) {
            Some(0) => return Ok(None),
            Some(len) if len < MAX_LEN => {}
            _ => return Err("its length makes no sense"),
        }
        let kind = match types.map_kind() {
            MapKind::Unknown => self.rt.map_kind(),
            known => known,
        };
        let slots = Slots::new(kind, key, elem, types).ok_or("its layout is not known")?;
        let mut walk = Walk {
            slots,
            ctx: Context::new(types, &self.limits),
            entries: Vec::new(),
            wanted: usize::MAX,
            groups: MAX_SEARCHED,
            key: Some(wanted),
            found: None,
        };
        let walked = self.walk(kind, &header, &mut walk);
        match (walk.found, walked) {
            (Some(at), _) => Ok(Some(at)),
            (None, Some(())) => Ok(None),
            (None, None) if walk.groups == 0 => Err("it is too large to be searched"),
            (None, None) => Err("it could not be read whole"),
        }
    }

    fn walk(&self, kind: MapKind, header: &[u8], walk: &mut Walk<'_>) -> Option<()> {
        match kind {
            MapKind::Classic => self.walk_classic(header, walk),
            _ => self.walk_swiss(header, walk),
        }
    }

    /// internal/runtime/maps/map.go, `Map` (1.24): used, seed, dirPtr, dirLen.
    fn walk_swiss(&self, header: &[u8], walk: &mut Walk<'_>) -> Option<()> {
        let (directory, tables) = (word(header, 2)?, word(header, 3)?);
        if tables == 0 {
            return self.walk_group(LiveAddr(directory), walk);
        }
        let shown = usize::try_from(tables.min(walk.most())).ok()?;
        let directory = self
            .memory
            .read_vec(LiveAddr(directory), shown.checked_mul(8)?)
            .ok()?;
        let mut last = 0;
        for index in 0..shown {
            let table = word(&directory, index)?;
            // A table of a smaller depth stands in several entries in a row.
            if table == last {
                continue;
            }
            last = table;
            // table.go, `table`: 16 bytes, then groups: data, lengthMask.
            let head = self.memory.read_vec(LiveAddr(table), 32).ok()?;
            let (groups, mask) = (word(&head, 2)?, word(&head, 3)?);
            for group in 0..=mask.min(walk.most()) {
                if walk.done() {
                    return Some(());
                }
                let offset = group.saturating_mul(walk.slots.size);
                self.walk_group(LiveAddr(groups).offset(offset), walk)?;
            }
        }
        Some(())
    }

    /// A slot is full when the top bit of its control byte is clear.
    fn walk_group(&self, at: LiveAddr, walk: &mut Walk<'_>) -> Option<()> {
        walk.groups = walk.groups.checked_sub(1)?;
        let size = usize::try_from(walk.slots.size).ok()?;
        let group = self.memory.read_vec(at, size).ok()?;
        for slot in 0..8_u64 {
            let control = *group.get(usize::try_from(slot).ok()?)?;
            if control & 0x80 == 0 {
                self.push_slot(at, &group, slot, walk);
            }
        }
        Some(())
    }

    /// runtime/map.go (1.23), `hmap`: count, flags, B (at 9), …, buckets (16),
    /// oldbuckets (24). While it grows, what is not evacuated lies in the old.
    fn walk_classic(&self, header: &[u8], walk: &mut Walk<'_>) -> Option<()> {
        const SAME_SIZE_GROW: u8 = 8;
        let (flags, log) = (*header.get(8)?, *header.get(9)?);
        let buckets = 1_u64.checked_shl(u32::from(log))?;
        let old = word(header, 3)?;
        self.walk_buckets(word(header, 2)?, buckets, walk)?;
        if old != 0 {
            let count = match flags & SAME_SIZE_GROW {
                0 => buckets / 2,
                _ => buckets,
            };
            self.walk_buckets(old, count, walk)?;
        }
        Some(())
    }

    fn walk_buckets(&self, at: u64, count: u64, walk: &mut Walk<'_>) -> Option<()> {
        let size = walk.slots.size.checked_add(8)?;
        for bucket in 0..count.min(walk.most()) {
            let mut at = LiveAddr(at).offset(bucket.saturating_mul(size));
            while !at.is_null() && !walk.done() {
                walk.groups = walk.groups.checked_sub(1)?;
                let bytes = self.memory.read_vec(at, usize::try_from(size).ok()?).ok()?;
                // tophash: below 5 are marks; 2 to 4 in the first: evacuated.
                if !matches!(bytes.first()?, 2..=4) {
                    for slot in 0..8_u64 {
                        if *bytes.get(usize::try_from(slot).ok()?)? >= 5 {
                            self.push_slot(at, &bytes, slot, walk);
                        }
                    }
                }
                let overflow = usize::try_from(walk.slots.size).ok()?;
                at = LiveAddr(word(bytes.get(overflow..)?, 0)?);
            }
        }
        Some(())
    }

    fn push_slot(&self, at: LiveAddr, group: &[u8], slot: u64, walk: &mut Walk<'_>) {
        if walk.done() {
            return;
        }
        let slots = &walk.slots;
        let load = |id: TypeId, from: u64, stride: u64, indirect: bool| {
            let at = usize::try_from(from.saturating_add(slot.saturating_mul(stride))).ok()?;
            let bytes = group.get(at..)?;
            if indirect {
                return Some(self.load_at(id, LiveAddr(word(bytes, 0)?), walk.ctx));
            }
            let size = usize::try_from(walk.ctx.types.get(id).size).ok()?;
            Some(self.value(id, bytes.get(..size)?, walk.ctx))
        };
        let key = load(slots.key, slots.keys, slots.key_stride, slots.key_indirect);
        if let Some(wanted) = walk.key {
            self.nodes.set(self.limits.nodes);
            if key.is_some_and(|key| key == *wanted) {
                let from = slots
                    .elems
                    .saturating_add(slot.saturating_mul(slots.elem_stride));
                walk.found = if slots.elem_indirect {
                    self.memory.read_addr(at.offset(from)).ok()
                } else {
                    Some(at.offset(from))
                };
            }
            return;
        }
        let elem = load(
            slots.elem,
            slots.elems,
            slots.elem_stride,
            slots.elem_indirect,
        );
        if let (Some(key), Some(elem)) = (key, elem) {
            walk.entries.push((key, elem));
        }
    }
}

impl Walk<'_> {
    fn done(&self) -> bool {
        self.entries.len() >= self.wanted || self.found.is_some()
    }

    /// Tables, groups, buckets that are looked at, one in another.
    fn most(&self) -> u64 {
        match self.key {
            Some(_) => MAX_SEARCHED,
            None => MAX_GROUPS,
        }
    }
}

/// As fmt prints them; only when all are there.
fn sort(entries: &mut [(Value, Value)]) {
    entries.sort_by(|(a, _), (b, _)| match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
        (Value::Str { bytes: a, .. }, Value::Str { bytes: b, .. }) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
}
