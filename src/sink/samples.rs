//! Records for tests: one of each kind, and a writer that keeps what it is
//! given.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::record::{
    Call, Conn, Direction, End, Endpoint, ErrorValue, Frame, LOCALS_UNASKED, Payload, Record,
};
use crate::value::Value;

/// 2026-01-01T12:01:02.123456789Z
const TIME: i64 = 1_767_268_862_123_456_789;

/// Memory that a sink writes to and a test reads.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    pub(crate) fn writer(&self) -> Box<dyn Write + Send> {
        Box::new(self.clone())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn inet(text: &str) -> Endpoint {
    Endpoint::Inet(text.parse().unwrap(), "".into())
}

fn pointer(ty: &str) -> Value {
    Value::Pointer {
        ty: ty.into(),
        addr: 0xc000_0120,
    }
}

pub(crate) fn bytes(text: &[u8], len: u64) -> Value {
    Value::Bytes {
        bytes: text.to_vec(),
        len,
    }
}

/// A call of a function that has nothing to do with sockets.
pub(crate) fn plain(id: u64) -> Call {
    Call {
        id,
        parent: None,
        time_ns: TIME + id as i64 * 1_000_000,
        dur_ns: Some(12_300),
        goid: Some(1),
        tid: 4242,
        func: "main.foo".into(),
        conn: None,
        direction: None,
        asked: None,
        args: vec![("a".into(), Value::Int(99)), ("b".into(), Value::Int(9801))].into(),
        results: vec![("r0".into(), Value::Int(9900))].into(),
        n: None,
        err: None,
        end: End::Return,
        since_attach: false,
        entry_lost: false,
        doubtful: false,
        late: false,
        stack: Vec::new(),
        payload: None,
        locals: Vec::new(),
        no_locals: Some(LOCALS_UNASKED),
        passed: None,
        taken: Vec::new(),
    }
}

/// `net.(*conn).Read` that returned 64 bytes.
pub(crate) fn read(id: u64) -> Call {
    Call {
        dur_ns: Some(1_204_000),
        goid: Some(34),
        func: "net.(*conn).Read".into(),
        conn: Some(
            Conn {
                fd: Some(7),
                network: Some("tcp".into()),
                local: Some(inet("127.0.0.1:8080")),
                remote: Some(inet("127.0.0.1:53211")),
                note: None,
            }
            .into(),
        ),
        direction: Some(Direction::In),
        asked: Some(4096),
        args: vec![
            ("c".into(), pointer("*net.conn")),
            ("b".into(), bytes(b"", 4096)),
        ]
        .into(),
        results: vec![("n".into(), Value::Int(64)), ("err".into(), Value::Nil)].into(),
        n: Some(64),
        err: Some(ErrorValue::Nil),
        ..plain(id)
    }
}

/// A call of the net family that returned `n` and an error.
fn returned(call: Call, n: i64, err: ErrorValue) -> Call {
    let error = match &err {
        ErrorValue::Text { text, structural } => Value::Error {
            text: text.clone(),
            structural: *structural,
        },
        ErrorValue::Nil => Value::Nil,
    };
    Call {
        n: Some(n),
        results: vec![("n".into(), Value::Int(n)), ("err".into(), error)].into(),
        err: Some(err),
        ..call
    }
}

pub(crate) fn error(text: &str) -> ErrorValue {
    ErrorValue::Text {
        text: text.into(),
        structural: false,
    }
}

/// One of each kind.
pub(crate) fn all() -> Vec<Record> {
    let reset = "read tcp 10.0.0.1:80->10.0.0.2:5: connection reset by peer";
    let mut calls = vec![
        plain(1),
        read(2),
        returned(read(3), 0, error("EOF")),
        Call {
            goid: Some(123_456),
            conn: Some(
                Conn {
                    fd: Some(12),
                    network: Some("tcp".into()),
                    local: Some(inet("[fe80::1]:80")),
                    remote: Some(inet("[fe80::2]:5")),
                    note: None,
                }
                .into(),
            ),
            ..returned(read(4), 0, error(reset))
        },
        Call {
            parent: Some(6),
            func: "net.(*conn).Write".into(),
            direction: Some(Direction::Out),
            asked: Some(1_048_576),
            ..returned(read(5), 1_048_576, ErrorValue::Nil)
        },
        Call {
            func: "net.(*TCPConn).ReadFrom".into(),
            direction: Some(Direction::Out),
            asked: None,
            args: vec![
                ("c".into(), pointer("*net.TCPConn")),
                ("r".into(), Value::Text("*os.File".into())),
            ]
            .into(),
            ..returned(read(6), 1_048_576, ErrorValue::Nil)
        },
        Call {
            func: "net.(*conn).SetReadDeadline".into(),
            direction: Some(Direction::Both),
            asked: None,
            n: None,
            args: vec![
                ("c".into(), pointer("*net.conn")),
                ("t".into(), Value::Text("2026-01-01 12:00:00 UTC".into())),
            ]
            .into(),
            results: vec![("r0".into(), Value::Nil)].into(),
            ..read(7)
        },
        Call {
            conn: Some(
                Conn {
                    note: Some("closed"),
                    network: Some("unix".into()),
                    local: Some(Endpoint::Unix("@gotap".into())),
                    remote: Some(Endpoint::Unix("".into())),
                    fd: None,
                }
                .into(),
            ),
            ..read(8)
        },
        Call {
            since_attach: true,
            late: true,
            dur_ns: None,
            ..read(9)
        },
    ];
    for (at, end) in [End::Panic, End::Exit, End::Unwound, End::Open]
        .into_iter()
        .enumerate()
    {
        calls.push(Call {
            end,
            results: Arc::default(),
            dur_ns: Some(1_500_000_000),
            ..plain(10 + at as u64)
        });
    }
    calls.push(Call {
        goid: None,
        args: vec![("s".into(), bytes(b"x\x1b[2J\xff", 5))].into(),
        func: "main.a\x1b[31m\u{9b}\u{202e}\x7f".into(),
        err: Some(ErrorValue::Text {
            text: "main.codeError{Code:5}".into(),
            structural: true,
        }),
        results: vec![("r0".into(), Value::Raw(0x1f)), ("err".into(), Value::Nil)].into(),
        ..plain(14)
    });
    calls.push(Call {
        payload: Some(Payload {
            bytes: b"GET / HTTP/1.1\r\nHost: \xc3\xa9\x00\xff\"".to_vec(),
            len: 4096,
        }),
        stack: vec![
            Frame {
                func: "net.(*conn).Read".into(),
                file: "/usr/lib/go/src/net/net.go".into(),
                line: 194,
                inlined: false,
            },
            Frame {
                func: "main.(*Server).read".into(),
                file: "./server.go".into(),
                line: 88,
                inlined: true,
            },
        ],
        ..read(15)
    });
    calls.push(Call {
        end: End::Lost,
        results: Arc::default(),
        dur_ns: None,
        ..plain(16)
    });
    calls.push(Call {
        entry_lost: true,
        dur_ns: None,
        ..read(17)
    });
    calls.push(Call {
        doubtful: true,
        ..read(18)
    });
    let mut records: Vec<Record> = calls.into_iter().map(record).collect();
    records.push(Record::Gap {
        lost: 12,
        why: "queue",
    });
    records
}

pub(crate) fn record(call: Call) -> Record {
    Record::Call(Box::new(call))
}
