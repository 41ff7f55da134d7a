//! Records come back as they went; files that are cut, flipped or made up are
//! read as far as they can be.

use std::io::Write;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::encode::Encoder;
use super::file::MAGIC;
use super::{Head, Item, Tail, TapeError, TapeReader, TapeWriter};
use crate::record::{Call, Conn, Endpoint, Record};
use crate::sink::samples::{all, plain, read, record};
use crate::value::Value;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn head() -> Head {
    Head {
        gotap: "0".into(),
        program: "/bin/server".into(),
        pid: 7,
        arguments: vec!["b".into()],
        ..Head::default()
    }
}

/// A file of these records, a block after every `each`.
fn tape(records: &[Record], each: usize) -> Vec<u8> {
    let kept = Kept::default();
    let mut writer = TapeWriter::new(Box::new(kept.clone()), &head()).unwrap();
    for (i, record) in records.iter().enumerate() {
        writer.record(record).unwrap();
        if (i + 1) % each == 0 {
            writer.write_block().unwrap();
        }
    }
    writer.finish(&Tail { filtered: 3 }).unwrap();
    kept.0.lock().unwrap().clone()
}

fn items(bytes: &[u8]) -> Result<Vec<Item>, TapeError> {
    let mut reader = TapeReader::new(bytes)?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok(items)
}

fn records(items: &[Item]) -> Vec<Record> {
    let records = items.iter().filter_map(|item| match item {
        Item::Record(record) => Some(record.clone()),
        _ => None,
    });
    records.collect()
}

/// One of each kind of value.
fn values() -> Call {
    let text = |t: &str| -> Arc<str> { t.into() };
    let inner = Value::Struct {
        ty: text("main.T"),
        fields: vec![
            (text("A"), Value::Uint(u64::MAX)),
            (text("B"), Value::Float(f64::MIN_POSITIVE)),
        ],
        omitted: 3,
    };
    let kinds = vec![
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Complex(1.5, -0.0),
        Value::Str {
            bytes: vec![0xff, 0, b'x'],
            len: 1 << 40,
        },
        Value::Error {
            text: text("EOF"),
            structural: true,
        },
        Value::Duration(-5),
        Value::Ref(Box::new(inner.clone())),
        Value::List {
            ty: text("[]int"),
            items: vec![Value::Int(1), Value::Elided],
            len: 9,
        },
        Value::Map {
            ty: text("map[string]int"),
            entries: vec![(Value::Text(text("k")), Value::Raw(u64::MAX))],
            len: None,
        },
        Value::Chan {
            ty: text("chan int"),
            len: Some(1),
            cap: None,
            addr: 0xc000_0000,
        },
        Value::Func(text("main.f")),
        Value::Interface {
            ty: text("*os.File"),
            value: Box::new(inner),
        },
        Value::Unreadable(text("why")),
        Value::OptimisedAway,
    ];
    let named = kinds.into_iter().enumerate();
    Call {
        args: named.map(|(i, v)| (format!("a{i}").into(), v)).collect(),
        id: u64::MAX,
        time_ns: i64::MIN,
        dur_ns: Some(u64::MAX),
        goid: Some(u64::MAX),
        tid: i32::MIN,
        parent: Some(1),
        late: true,
        ..plain(1)
    }
}

fn endpoints() -> Vec<Record> {
    let conn = |local: Endpoint, remote: Endpoint| Conn {
        fd: Some(-1),
        network: Some("udp".into()),
        local: Some(local),
        remote: Some(remote),
        note: Some("closed since"),
    };
    let inet = |text: &str, zone: &str| Endpoint::Inet(text.parse().unwrap(), zone.into());
    let call = |conn: Conn| {
        record(Call {
            conn: Some(conn.into()),
            ..read(5)
        })
    };
    vec![
        call(conn(inet("[fe80::1%3]:80", "eth0"), inet("1.2.3.4:5", ""))),
        call(conn(
            Endpoint::Ip("1.2.3.4".parse().unwrap()),
            Endpoint::Ip("::1".parse().unwrap()),
        )),
        call(conn(Endpoint::Unix("@x".into()), Endpoint::Unix("".into()))),
    ]
}

#[test]
fn records_come_back_as_they_went() {
    let mut given = all();
    given.push(record(values()));
    given.extend(endpoints());
    // The same again: strings and connections have numbers by now.
    given.extend(given.clone());
    for each in [1, 3, 1000] {
        let items = items(&tape(&given, each)).unwrap();
        assert_eq!(records(&items), given);
        assert_eq!(items.last(), Some(&Item::End(Tail { filtered: 3 })));
        assert_eq!(items.len(), given.len() + 1);
    }
    let bytes = tape(&given, 10);
    let reader = TapeReader::new(&bytes[..]).unwrap();
    assert_eq!(*reader.head(), head());
}

#[test]
fn a_file_that_ends_anywhere_is_readable_up_to_there() {
    let given = all();
    let bytes = tape(&given, 1);
    let mut most = 0;
    for cut in 0..bytes.len() {
        let Ok(items) = items(&bytes[..cut]) else {
            assert_eq!(most, 0, "cut at {cut}");
            continue;
        };
        let got = records(&items);
        assert!(got.len() >= most, "cut at {cut}");
        most = got.len();
        assert_eq!(got, given[..most]);
        assert!(matches!(items.last(), Some(Item::Torn { .. })));
    }
    assert_eq!(most, given.len());
}

#[test]
fn a_damaged_block_costs_what_is_in_it() {
    let given = all();
    let bytes = tape(&given, 5);
    let starts: Vec<usize> = (0..bytes.len() - 4)
        .filter(|at| bytes[*at..].starts_with(b"GTBK"))
        .collect();
    let mut hurt = bytes.clone();
    // In the middle of the second block of records.
    let at = (starts[2] + 24 + starts[3]) / 2;
    hurt[at] ^= 0x40;
    let items = items(&hurt).unwrap();
    let lost: u64 = items
        .iter()
        .map(|item| match item {
            Item::Damaged { lost, .. } => *lost,
            _ => 0,
        })
        .sum();
    assert_eq!(lost, 5);
    assert_eq!(records(&items).len(), given.len() - 5);
    assert!(matches!(items.last(), Some(Item::End(_))));
}

#[test]
fn what_is_none_is_told() {
    assert!(matches!(items(b""), Err(TapeError::NotOurs)));
    assert!(matches!(items(b"{\"id\":1}\n"), Err(TapeError::NotOurs)));
    assert!(matches!(items(b"GOTAPTR\x03"), Err(TapeError::Layout(3))));
    assert!(matches!(items(b"GOTAPTR\x00"), Err(TapeError::Layout(0))));
    assert!(matches!(items(b"GOTAPTR\x01"), Err(TapeError::NoHead)));
    assert!(matches!(items(&MAGIC), Err(TapeError::NoHead)));
}

/// A value with more within than a recording takes: a gap of one, and what
/// follows is whole.
#[test]
fn what_is_too_large_is_a_gap() {
    let big = Value::List {
        ty: "[]int".into(),
        items: vec![Value::Nil; 200_000],
        len: 200_000,
    };
    let mut call = plain(1);
    call.args = vec![("a".into(), big)].into();
    let given = [record(read(1)), record(call), record(read(3))];
    let items = items(&tape(&given, 10)).unwrap();
    let gap = Record::Gap {
        lost: 1,
        why: "too large",
    };
    assert_eq!(records(&items), [given[0].clone(), gap, given[2].clone()]);
}

#[test]
fn a_block_forgets_the_one_before() {
    let mut encoder = Encoder::default();
    encoder.record(&record(read(1)));
    let first = encoder.block().0.to_vec();
    encoder.record(&record(read(2)));
    assert!(encoder.block().0.len() < first.len() * 2);
    encoder.reset();
    encoder.record(&record(read(1)));
    assert_eq!(encoder.block().0, first);
}

fn hurt(bytes: &mut Vec<u8>, changes: &[(u16, u8, u8)]) {
    for (at, how, byte) in changes {
        let at = usize::from(*at) % bytes.len().max(1);
        match how % 4 {
            0 => bytes[at] = *byte,
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => bytes.insert(at, *byte),
            _ => bytes.truncate(at.max(8)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Blocks whose checks hold and whose bytes are nonsense.
    #[test]
    fn hostile_records_never_panic(changes in proptest::collection::vec(any::<(u16, u8, u8)>(), 1..8)) {
        let mut encoder = Encoder::default();
        for record in all().iter().chain(&endpoints()).chain([&record(values())]) {
            encoder.record(record);
        }
        let mut raw = encoder.block().0.to_vec();
        hurt(&mut raw, &changes);
        let mut decoder = super::decode::Decoder::new(&raw, super::decode::Progress::default());
        let mut taken = 0;
        while let Ok(Some(_)) = decoder.record() {
            taken += 1;
            prop_assert!(taken <= raw.len());
        }
    }

    /// Files of which anything may have been changed.
    #[test]
    fn hostile_files_never_panic(changes in proptest::collection::vec(any::<(u16, u8, u8)>(), 1..8)) {
        let mut bytes = tape(&all(), 4);
        hurt(&mut bytes, &changes);
        if let Ok(items) = items(&bytes) {
            prop_assert!(records(&items).len() <= all().len() * 2);
        }
    }
}
