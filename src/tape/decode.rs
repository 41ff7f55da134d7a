//! Bytes to records: the way back, for bytes that anybody may have written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use super::encode::{Last, RENUMBER, tag};
use super::wire::{MAX_DEPTH, MAX_VALUES, Malformed, Wire, part, record};
use crate::record::{
    Call, Conn, Direction, End, Endpoint, ErrorValue, Frame, LOCALS_UNASKED, Named, Payload, Record,
};
use crate::value::Value;

/// Words that records hold as our own, not as the target's text.
const WORDS: &[&str] = &[
    "closed",
    "closed since",
    "damaged recording",
    "filter error",
    "nil",
    "no goroutine",
    "not a connection of package net",
    "queue",
    "ring full",
    "too large",
    "unreadable",
];

fn word(text: &str) -> &'static str {
    let known = WORDS.iter().find(|word| **word == text);
    known.copied().unwrap_or("of a later gotap")
}

/// How far a block has been read, and what was numbered in it so far.
#[derive(Default)]
pub struct Progress {
    at: usize,
    strings: Vec<Arc<str>>,
    named: Vec<Named>,
    conns: Vec<Arc<Conn>>,
    last: Last,
}

/// Takes the records out of a block's bytes, one by one.
pub struct Decoder<'a> {
    wire: Wire<'a>,
    len: usize,
    strings: Vec<Arc<str>>,
    named: Vec<Named>,
    conns: Vec<Arc<Conn>>,
    last: Last,
    values: usize,
}

impl<'a> Decoder<'a> {
    /// For a block that was unpacked, from where it was left.
    pub fn new(block: &'a [u8], progress: Progress) -> Decoder<'a> {
        Decoder {
            wire: Wire::new(block.get(progress.at..).unwrap_or_default()),
            len: block.len(),
            strings: progress.strings,
            named: progress.named,
            conns: progress.conns,
            last: progress.last,
            values: 0,
        }
    }

    /// Leaves the block, to come back.
    pub fn leave(self) -> Progress {
        Progress {
            at: self.len.saturating_sub(self.wire.len()),
            strings: self.strings,
            named: self.named,
            conns: self.conns,
            last: self.last,
        }
    }

    /// The next record; `None` at the block's end. Nothing can be told of what
    /// stands behind an error.
    pub fn record(&mut self) -> Result<Option<Record>, Malformed> {
        if self.wire.is_empty() {
            return Ok(None);
        }
        let kind = self.wire.byte()?;
        if kind & RENUMBER != 0 {
            self.strings.clear();
            self.named.clear();
            self.conns.clear();
        }
        match kind & !RENUMBER {
            record::CALL => Ok(Some(Record::Call(Box::new(self.call()?)))),
            record::GAP => {
                let lost = self.wire.number()?;
                let why = word(&self.string()?);
                Ok(Some(Record::Gap { lost, why }))
            }
            _ => Err(Malformed("it is neither a call nor a gap")),
        }
    }

    fn call(&mut self) -> Result<Call, Malformed> {
        self.values = MAX_VALUES;
        let parts = self.wire.number()?;
        let has = |bit| parts & bit != 0;
        let last = self.last;
        let id = last.id.wrapping_add_signed(self.wire.signed()?);
        let time_ns = last.time_ns.wrapping_add(self.wire.signed()?);
        let tid = i64::from(last.tid).wrapping_add(self.wire.signed()?);
        let tid = i32::try_from(tid).map_err(|_| Malformed("a thread's id"))?;
        self.last = Last {
            id,
            time_ns,
            tid,
            goid: last.goid,
        };
        let func = self.string()?;
        let parent = self.number_if(has(part::PARENT))?;
        let parent = parent.map(|less| id.wrapping_sub(less));
        let dur_ns = self.number_if(has(part::DUR))?;
        let more = self.signed_if(has(part::GOID))?;
        let goid = more.map(|more| last.goid.wrapping_add_signed(more));
        self.last.goid = goid.unwrap_or(last.goid);
        let conn = has(part::CONN).then(|| self.conn()).transpose()?;
        let asked = self.number_if(has(part::ASKED))?;
        let n = self.signed_if(has(part::N))?;
        let err = match parts >> part::ERR & 3 {
            0 => None,
            1 => Some(ErrorValue::Nil),
            how => Some(ErrorValue::Text {
                text: self.string()?,
                structural: how == 3,
            }),
        };
        Ok(Call {
            // Of sessions alone, which record nothing.
            taken: Vec::new(),
            locals: Vec::new(),
            no_locals: Some(LOCALS_UNASKED),
            passed: None,
            id,
            parent,
            time_ns,
            dur_ns,
            goid,
            tid,
            func,
            conn,
            direction: match parts >> part::DIRECTION & 3 {
                0 => None,
                1 => Some(Direction::In),
                2 => Some(Direction::Out),
                _ => Some(Direction::Both),
            },
            asked,
            args: self.shared_if(has(part::ARGS))?,
            results: self.shared_if(has(part::RESULTS))?,
            n,
            err,
            end: match parts >> part::END & 7 {
                0 => End::Return,
                1 => End::Panic,
                2 => End::Exit,
                3 => End::Unwound,
                4 => End::Open,
                5 => End::Passed,
                6 => End::Lost,
                _ => return Err(Malformed("how a call ended")),
            },
            since_attach: has(part::SINCE_ATTACH),
            entry_lost: has(part::ENTRY_LOST),
            doubtful: has(part::DOUBTFUL),
            late: has(part::LATE),
            stack: if has(part::STACK) {
                self.stack()?
            } else {
                Vec::new()
            },
            payload: has(part::PAYLOAD).then(|| self.payload()).transpose()?,
        })
    }

    fn payload(&mut self) -> Result<Payload, Malformed> {
        Ok(Payload {
            len: self.wire.number()?,
            bytes: self.wire.counted()?.to_vec(),
        })
    }

    fn signed_if(&mut self, yes: bool) -> Result<Option<i64>, Malformed> {
        yes.then(|| self.wire.signed()).transpose()
    }

    fn shared_if(&mut self, yes: bool) -> Result<Named, Malformed> {
        if yes {
            self.shared()
        } else {
            Ok(Named::default())
        }
    }

    fn string_if(&mut self, yes: bool) -> Result<Option<Arc<str>>, Malformed> {
        yes.then(|| self.string()).transpose()
    }

    fn endpoint_if(&mut self, yes: bool) -> Result<Option<Endpoint>, Malformed> {
        yes.then(|| self.endpoint()).transpose()
    }

    fn note(&mut self) -> Result<&'static str, Malformed> {
        Ok(word(&String::from_utf8_lossy(self.wire.counted()?)))
    }

    fn number_if(&mut self, yes: bool) -> Result<Option<u64>, Malformed> {
        if yes {
            self.wire.number().map(Some)
        } else {
            Ok(None)
        }
    }

    fn stack(&mut self) -> Result<Vec<Frame>, Malformed> {
        let count = self.wire.number()?;
        let mut frames = Vec::new();
        for _ in 0..count {
            let (func, file) = (self.string()?, self.string()?);
            let line = self.wire.number()?;
            self.spend()?;
            frames.push(Frame {
                func,
                file,
                line: u32::try_from(line >> 1).map_err(|_| Malformed("a line's number"))?,
                inlined: line & 1 != 0,
            });
        }
        Ok(frames)
    }

    /// One more value of this record.
    fn spend(&mut self) -> Result<(), Malformed> {
        let left = self.values.checked_sub(1);
        self.values = left.ok_or(Malformed("too many values"))?;
        Ok(())
    }

    fn string(&mut self) -> Result<Arc<str>, Malformed> {
        let number = self.wire.number()?;
        let Some(index) = number.checked_sub(1) else {
            let bytes = self.wire.counted()?;
            let text: Arc<str> = Arc::from(&*String::from_utf8_lossy(bytes));
            self.strings.push(text.clone());
            return Ok(text);
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let known = self.strings.get(index).cloned();
        known.ok_or(Malformed("a string that was not told"))
    }

    fn conn(&mut self) -> Result<Arc<Conn>, Malformed> {
        let number = self.wire.number()?;
        if let Some(index) = number.checked_sub(1) {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let known = self.conns.get(index).cloned();
            return known.ok_or(Malformed("a connection that was not told"));
        }
        let parts = self.wire.byte()?;
        let conn = Conn {
            fd: self.signed_if(parts & 1 != 0)?,
            network: self.string_if(parts & 2 != 0)?,
            local: self.endpoint_if(parts & 4 != 0)?,
            remote: self.endpoint_if(parts & 8 != 0)?,
            note: (parts & 16 != 0).then(|| self.note()).transpose()?,
        };
        let conn = Arc::new(conn);
        self.conns.push(conn.clone());
        Ok(conn)
    }

    fn octets<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.wire.bytes(N as u64)?;
        bytes.try_into().map_err(|_| Malformed("it is cut off"))
    }

    fn endpoint(&mut self) -> Result<Endpoint, Malformed> {
        let narrow = |value: u64| u32::try_from(value).map_err(|_| Malformed("an address"));
        Ok(match self.wire.byte()? {
            0 => {
                let ip = Ipv4Addr::from(self.octets::<4>()?);
                let port = u16::from_le_bytes(self.octets()?);
                Endpoint::Inet(SocketAddr::V4(SocketAddrV4::new(ip, port)), self.string()?)
            }
            1 => {
                let ip = Ipv6Addr::from(self.octets::<16>()?);
                let port = u16::from_le_bytes(self.octets()?);
                let flow = narrow(self.wire.number()?)?;
                let scope = narrow(self.wire.number()?)?;
                let at = SocketAddrV6::new(ip, port, flow, scope);
                Endpoint::Inet(SocketAddr::V6(at), self.string()?)
            }
            2 => Endpoint::Ip(IpAddr::from(self.octets::<4>()?)),
            3 => Endpoint::Ip(IpAddr::from(self.octets::<16>()?)),
            4 => Endpoint::Unix(self.string()?),
            _ => return Err(Malformed("the kind of an address")),
        })
    }

    fn shared(&mut self) -> Result<Named, Malformed> {
        let number = self.wire.number()?;
        if let Some(index) = number.checked_sub(1) {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let known = self.named.get(index).cloned();
            return known.ok_or(Malformed("a list that was not told"));
        }
        let list: Named = self.named(0)?.into();
        self.named.push(list.clone());
        Ok(list)
    }

    fn named(&mut self, depth: u32) -> Result<Vec<(Arc<str>, Value)>, Malformed> {
        let count = self.wire.number()?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push((self.string()?, self.value(depth)?));
        }
        Ok(values)
    }

    fn values(&mut self, depth: u32) -> Result<Vec<Value>, Malformed> {
        let count = self.wire.number()?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth)?);
        }
        Ok(values)
    }

    fn float(&mut self) -> Result<f64, Malformed> {
        Ok(f64::from_bits(u64::from_le_bytes(self.octets()?)))
    }

    fn optional(&mut self) -> Result<Option<u64>, Malformed> {
        let yes = self.wire.byte()? != 0;
        self.number_if(yes)
    }

    fn value(&mut self, depth: u32) -> Result<Value, Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed("values in values in values"));
        }
        self.spend()?;
        let inner = depth + 1;
        Ok(match self.wire.byte()? {
            tag::NIL => Value::Nil,
            tag::BOOL => Value::Bool(self.wire.byte()? != 0),
            tag::INT => Value::Int(self.wire.signed()?),
            tag::UINT => Value::Uint(self.wire.number()?),
            tag::FLOAT => Value::Float(self.float()?),
            tag::COMPLEX => Value::Complex(self.float()?, self.float()?),
            tag::STR => Value::Str {
                len: self.wire.number()?,
                bytes: self.wire.counted()?.to_vec(),
            },
            tag::BYTES => Value::Bytes {
                len: self.wire.number()?,
                bytes: self.wire.counted()?.to_vec(),
            },
            tag::ERROR => Value::Error {
                structural: self.wire.byte()? != 0,
                text: self.string()?,
            },
            tag::DURATION => Value::Duration(self.wire.signed()?),
            tag::POINTER => Value::Pointer {
                ty: self.string()?,
                addr: self.wire.number()?,
            },
            tag::REF => Value::Ref(Box::new(self.value(inner)?)),
            tag::LIST => Value::List {
                ty: self.string()?,
                len: self.wire.number()?,
                items: self.values(inner)?,
            },
            tag::STRUCT => Value::Struct {
                ty: self.string()?,
                omitted: self.wire.number()?,
                fields: self.named(inner)?,
            },
            tag::MAP => {
                let (ty, len) = (self.string()?, self.optional()?);
                let count = self.wire.number()?;
                let mut entries = Vec::new();
                for _ in 0..count {
                    entries.push((self.value(inner)?, self.value(inner)?));
                }
                Value::Map { ty, entries, len }
            }
            tag::CHAN => Value::Chan {
                ty: self.string()?,
                len: self.optional()?,
                cap: self.optional()?,
                addr: self.wire.number()?,
            },
            tag::FUNC => Value::Func(self.string()?),
            tag::INTERFACE => Value::Interface {
                ty: self.string()?,
                value: Box::new(self.value(inner)?),
            },
            tag::RAW => Value::Raw(self.wire.number()?),
            tag::TEXT => Value::Text(self.string()?),
            tag::UNREADABLE => Value::Unreadable(self.string()?),
            tag::OPTIMISED_AWAY => Value::OptimisedAway,
            tag::ELIDED => Value::Elided,
            _ => return Err(Malformed("the kind of a value")),
        })
    }
}
