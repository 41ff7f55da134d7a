//! Memory and type descriptions that mean harm: whatever the bytes are, the
//! loader ends, within its limits, without a panic.

use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::addr::LiveAddr;
use crate::image::types::{Field, MapKind, Origin, Type, TypeId, TypeKind, TypeTable};
use crate::memory::{Memory, MemoryError};

/// Every address below `end` reads as a word of `words`, chosen by address:
/// pointers lead to pointers, for ever.
struct Endless {
    words: Vec<u64>,
    end: u64,
    reads: Cell<u64>,
    bytes: Cell<u64>,
}

impl Memory for Endless {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.reads.set(self.reads.get() + 1);
        self.bytes.set(self.bytes.get() + into.len() as u64);
        if at.0 >= self.end {
            return Err(MemoryError::Unmapped {
                at,
                len: into.len(),
            });
        }
        for (place, byte) in (at.0..).zip(into) {
            let count = self.words.len() as u64;
            let index = usize::try_from((place / 8) % count).expect("small");
            let word = self.words.get(index).copied().unwrap_or(0).to_le_bytes();
            *byte = word[usize::try_from(place % 8).expect("small")];
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Table(Vec<Arc<Type>>, MapKind);

impl TypeTable for Table {
    fn get(&self, id: TypeId) -> Arc<Type> {
        Arc::clone(&self.0[id.0 as usize % self.0.len()])
    }

    fn map_kind(&self) -> MapKind {
        self.1
    }
}

struct Any<'a>(&'a Table);

impl RuntimeTypes for Any<'_> {
    fn dynamic(&self, rtype: LiveAddr) -> Option<Dynamic<'_>> {
        let ty = TypeId(u32::try_from(rtype.0 % 64).expect("small"));
        (!rtype.0.is_multiple_of(5)).then(|| Dynamic {
            name: Arc::clone(&self.0.get(ty).name),
            ty,
            types: self.0,
        })
    }

    fn error_text(&self, words: ErrorWords, memory: &dyn Memory) -> Option<ErrorText> {
        memory.read_u64(LiveAddr(words.data)).ok()?;
        words.rtype.0.is_multiple_of(3).then(|| ErrorText {
            text: "\u{1b}error".into(),
            structural: true,
        })
    }
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..4096,
        2 => Just(0),
        1 => 0_u64..16,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
        1 => Just(1 << 63),
        1 => Just(0x8080_8080_8080_8000),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => prop::sample::select(vec![0_u64, 1, 2, 4, 8, 16, 24, 40, 128, 136]),
        1 => any::<u64>(),
    ]
}

fn kind() -> impl Strategy<Value = TypeKind> {
    let id = || (0_u32..24).prop_map(TypeId);
    let field = (size(), id()).prop_map(|(offset, ty)| Field {
        name: "f\n".into(),
        offset,
        ty,
        embedded: false,
    });
    prop_oneof![
        Just(TypeKind::Bool),
        any::<bool>().prop_map(|signed| TypeKind::Int { signed }),
        Just(TypeKind::Float),
        Just(TypeKind::Complex),
        Just(TypeKind::String),
        Just(TypeKind::UnsafePointer),
        id().prop_map(TypeKind::Pointer),
        id().prop_map(TypeKind::Slice),
        (id(), size()).prop_map(|(elem, len)| TypeKind::Array { elem, len }),
        prop::collection::vec(field, 0..40).prop_map(TypeKind::Struct),
        any::<bool>().prop_map(|empty| TypeKind::Interface { empty }),
        (id(), id()).prop_map(|(key, value)| TypeKind::Map { key, value }),
        id().prop_map(TypeKind::Chan),
        Just(TypeKind::Func),
        Just(TypeKind::Opaque),
    ]
}

fn name() -> impl Strategy<Value = Arc<str>> {
    prop::sample::select(vec![
        "main.T\u{202e}\u{1b}[31m",
        "time.Time",
        "time.Duration",
        "net.IP",
        "net.HardwareAddr",
        "net.TCPAddr",
        "net.UnixAddr",
        "netip.Addr",
        "netip.AddrPort",
        "error",
    ])
    .prop_map(Arc::from)
}

fn table() -> impl Strategy<Value = Table> {
    let ty = (name(), size(), kind()).prop_map(|(name, size, kind)| {
        Arc::new(Type {
            name,
            size,
            kind,
            origin: Origin::Builtin,
        })
    });
    let maps = prop::sample::select(vec![
        MapKind::Unknown,
        MapKind::Classic,
        MapKind::Swiss,
        MapKind::SwissSplit,
    ]);
    (prop::collection::vec(ty, 1..24), maps).prop_map(|(types, maps)| Table(types, maps))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn loading_ends_within_its_limits(
        table in table(),
        words in prop::collection::vec(word(), 1..64),
        own in prop::collection::vec(any::<u8>(), 0..64),
        depth in 0_u32..6,
    ) {
        let memory = Endless { words, end: 1 << 48, reads: Cell::new(0), bytes: Cell::new(0) };
        let limits = Limits { depth, ..Limits::default() };
        let items = [
            (TypeId(0), Place::At(LiveAddr(8))),
            (TypeId(1), Place::Bytes(&own)),
        ];
        preload(TypeId(0), &table, &limits);
        let values = load_all(&items, &table, &memory, &limits, &Any(&table));
        prop_assert_eq!(values.len(), 2);
        for value in &values {
            let text = value.to_string();
            prop_assert!(text.len() < 1 << 20, "{} bytes of text", text.len());
            prop_assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
            let json = serde_json::to_string(value).expect("JSON");
            prop_assert!(json.len() < 1 << 20);
            serde_json::from_str::<serde_json::Value>(&json).expect("JSON that can be read");
        }
        prop_assert!(memory.reads.get() < 4096, "{} reads", memory.reads.get());
        prop_assert!(memory.bytes.get() < 16 << 20, "{} bytes read", memory.bytes.get());
    }
}

#[test]
fn lengths_no_memory_holds_are_unreadable() {
    let types = Table(
        vec![
            Arc::new(Type {
                name: "string".into(),
                size: 16,
                kind: TypeKind::String,
                origin: Origin::Builtin,
            }),
            Arc::new(Type {
                name: "[]string".into(),
                size: 24,
                kind: TypeKind::Slice(TypeId(0)),
                origin: Origin::Builtin,
            }),
        ],
        MapKind::Unknown,
    );
    let memory = Endless {
        words: vec![0x41],
        end: 1 << 20,
        reads: Cell::new(0),
        bytes: Cell::new(0),
    };
    let show = |ty: u32, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let limits = Limits::default();
        load(
            TypeId(ty),
            &types,
            Place::Bytes(&bytes),
            &memory,
            &limits,
            &NoRuntime,
        )
        .to_string()
    };
    assert_eq!(
        show(0, &[8, 1 << 63]),
        "(unreadable: string at 0x8: 0x8000000000000000 is no length)"
    );
    assert_eq!(
        show(0, &[1 << 40, 5]),
        "(unreadable: string at 0x10000000000: not mapped (length 5))"
    );
    assert_eq!(
        show(1, &[8, u64::MAX, u64::MAX]),
        "(unreadable: []string: length 0xffffffffffffffff, capacity 0xffffffffffffffff)"
    );
    assert_eq!(
        show(1, &[8, 9, 3]),
        "(unreadable: []string: length 0x9, capacity 0x3)"
    );
    assert_eq!(show(1, &[8, 9]), "(unreadable: []string: 16 bytes given)");
}
