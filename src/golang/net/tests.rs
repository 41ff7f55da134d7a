use super::*;
use crate::addr::LiveAddr;
use crate::golang::dynamic::{LiveTypes, type_section};
use crate::golang::testing::{Flavour, Running, hex};
use crate::image::rtti::RttiTypes;
use std::cell::Cell;

/// Counts how often the kernel would be entered.
struct Counting<'a> {
    inner: &'a dyn Memory,
    reads: Cell<u32>,
}

impl Memory for Counting<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.reads.set(self.reads.get() + 1);
        self.inner.read(at, into)
    }
    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        self.reads.set(self.reads.get() + 1);
        self.inner.read_many(pieces)
    }
}

fn told(end: Option<&Endpoint>) -> String {
    match end {
        Some(Endpoint::Unix(name)) if name.is_empty() => "-".to_owned(),
        Some(end) => end.to_string(),
        None => "-".to_owned(),
    }
}

/// The program prints receivers, their fd and both ends.
fn check(flavour: Flavour) {
    let running = Running::start("parked", flavour);
    let table = RttiTypes::new(running.image.memory(), type_section(&running.image));
    let types = LiveTypes {
        table: &table,
        bias: running.bias,
    };
    let layouts = Layouts::resolve(running.image.go_version().minor(), Some(&table));
    let mut reader = ConnReader::new(Arc::new(layouts));
    let memory = Counting {
        inner: &running.memory,
        reads: Cell::new(0),
    };
    let mut asked = Vec::new();
    for w in running.said("conn") {
        let kind = match w[1].as_str() {
            "conn" => Receiver::Conn,
            "netfd" => Receiver::NetFd,
            "pollfd" => Receiver::PollFd,
            "tls" => Receiver::TlsConn,
            "tcplistener" => Receiver::TcpListener,
            other => panic!("{other}"),
        };
        asked.push((kind, [hex(&w[2]), 0], w[3..].to_vec()));
    }
    for w in running.said("iface") {
        asked.push((
            Receiver::Interface,
            [hex(&w[2]), hex(&w[3])],
            w[4..].to_vec(),
        ));
    }
    assert!(asked.len() > 20, "{}", asked.len());
    for round in 0..2 {
        for (kind, words, want) in &asked {
            memory.reads.set(0);
            let mut goid = [0; 8];
            let mut extra = [Piece {
                at: LiveAddr(words[0]),
                into: &mut goid,
                ok: false,
            }];
            let facts = reader
                .facts(&memory, &types, *kind, *words, &mut extra)
                .unwrap();
            assert!(extra[0].ok);
            let what = format!("{kind:?} {want:?}: {facts:?}");
            assert_eq!(facts.fd.unwrap().to_string(), want[0], "{what}");
            assert!(
                facts.network.as_ref().unwrap().starts_with(&want[1]),
                "{what}"
            );
            assert_eq!(told(facts.local.as_ref()), want[2], "{what}");
            assert_eq!(told(facts.remote.as_ref()), want[3], "{what}");
            assert_eq!(facts.note, None);
            if round == 1 {
                assert_eq!(memory.reads.get(), 1, "{what}");
            }
        }
    }
    let closed = &running.said("closed")[0];
    let facts = reader
        .facts(
            &memory,
            &types,
            Receiver::Conn,
            [hex(&closed[2]), 0],
            &mut [],
        )
        .unwrap();
    assert_eq!((facts.fd, facts.note), (None, Some("closed")));
    let file = &running.said("file")[0];
    let facts = reader
        .facts(&memory, &types, Receiver::File, [hex(&file[1]), 0], &mut [])
        .unwrap();
    assert_eq!(facts.fd.unwrap().to_string(), file[2]);
    for (word, note) in [(0, "nil"), (0x1238, "unreadable")] {
        let facts = reader
            .facts(&memory, &types, Receiver::Conn, [word, 0], &mut [])
            .unwrap();
        assert_eq!(facts.note, Some(note));
    }
}

#[test]
fn connections_are_what_the_program_says() {
    check(Flavour::Plain);
}

#[test]
fn connections_of_a_stripped_program() {
    check(Flavour::Stripped);
}

#[test]
fn connections_of_a_position_independent_program() {
    check(Flavour::Pie);
}

#[test]
fn connections_of_an_unoptimised_program() {
    check(Flavour::Unoptimised);
}
