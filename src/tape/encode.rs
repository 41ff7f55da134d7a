//! Records to bytes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::wire::{MAX_DEPTH, MAX_RAW, MAX_VALUES, part, put, put_signed, record};
use crate::probe::hash::WordMap;
use crate::record::{Call, Conn, Direction, End, Endpoint, ErrorValue, Named, Record};
use crate::value::Value;

/// The bytes of one block's records. Strings and connections are written once
/// and numbered.
#[derive(Default)]
pub struct Encoder {
    out: Vec<u8>,
    records: u32,
    /// By where they lie: that costs no look at their bytes.
    strings: WordMap<(usize, usize), u64>,
    /// Keeps them where they are.
    held: Vec<Arc<str>>,
    /// Arguments and results, likewise.
    named: WordMap<usize, u64>,
    held_named: Vec<Named>,
    conns: WordMap<Option<i64>, (Arc<Conn>, u64)>,
    conn_count: u64,
    last: Last,
    values: usize,
}

/// The record before: numbers are told by how they differ.
#[derive(Default, Clone, Copy)]
pub(super) struct Last {
    pub id: u64,
    pub time_ns: i64,
    pub goid: u64,
    pub tid: i32,
}

impl Encoder {
    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// No record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The block's bytes and how many records they are.
    pub fn block(&self) -> (&[u8], u32) {
        (&self.out, self.records)
    }

    /// A further block begins.
    pub fn reset(&mut self) {
        self.out.clear();
        self.renumber();
        self.records = 0;
        self.last = Last::default();
    }

    fn renumber(&mut self) {
        self.strings.clear();
        self.held.clear();
        self.named.clear();
        self.held_named.clear();
        self.conns.clear();
        self.conn_count = 0;
    }

    /// Appends a record. False when it has more values than a recording takes:
    /// then a gap of one stands in its place.
    pub fn record(&mut self, record: &Record) -> bool {
        self.records = self.records.saturating_add(1);
        match record {
            Record::Call(call) => {
                self.values = MAX_VALUES;
                let (start, last) = (self.out.len(), self.last);
                self.call(call);
                if self.values == 0 || self.out.len() - start > MAX_RAW / 2 {
                    // What was numbered within is not in the file.
                    self.out.truncate(start);
                    self.last = last;
                    self.renumber();
                    self.out.push(record::GAP | RENUMBER);
                    put(&mut self.out, 1);
                    self.string(&Arc::from("too large"));
                    return false;
                }
            }
            Record::Gap { lost, why } => {
                self.out.push(record::GAP);
                put(&mut self.out, *lost);
                self.string(&Arc::from(*why));
            }
        }
        true
    }

    fn call(&mut self, call: &Call) {
        let mut parts = 0;
        let mut has = |bit, yes| parts |= if yes { bit } else { 0 };
        has(part::PARENT, call.parent.is_some());
        has(part::DUR, call.dur_ns.is_some());
        has(part::GOID, call.goid.is_some());
        has(part::CONN, call.conn.is_some());
        has(part::ASKED, call.asked.is_some());
        has(part::N, call.n.is_some());
        has(part::SINCE_ATTACH, call.since_attach);
        has(part::ENTRY_LOST, call.entry_lost);
        has(part::DOUBTFUL, call.doubtful);
        has(part::LATE, call.late);
        has(part::STACK, !call.stack.is_empty());
        has(part::PAYLOAD, call.payload.is_some());
        has(part::ARGS, !call.args.is_empty());
        has(part::RESULTS, !call.results.is_empty());
        parts |= match call.direction {
            None => 0,
            Some(Direction::In) => 1,
            Some(Direction::Out) => 2,
            Some(Direction::Both) => 3,
        } << part::DIRECTION;
        parts |= match call.end {
            End::Return => 0,
            End::Panic => 1,
            End::Exit => 2,
            End::Unwound => 3,
            End::Open => 4,
            End::Passed => 5,
            End::Lost => 6,
        } << part::END;
        parts |= match &call.err {
            None => 0,
            Some(ErrorValue::Nil) => 1,
            Some(ErrorValue::Text { structural, .. }) => 2 + u64::from(*structural),
        } << part::ERR;
        let last = self.last;
        self.out.push(record::CALL);
        put(&mut self.out, parts);
        put_signed(&mut self.out, call.id.wrapping_sub(last.id).cast_signed());
        put_signed(&mut self.out, call.time_ns.wrapping_sub(last.time_ns));
        put_signed(
            &mut self.out,
            i64::from(call.tid).wrapping_sub(i64::from(last.tid)),
        );
        self.last.id = call.id;
        self.last.time_ns = call.time_ns;
        self.last.tid = call.tid;
        self.string(&call.func);
        if let Some(parent) = call.parent {
            put(&mut self.out, call.id.wrapping_sub(parent));
        }
        if let Some(dur) = call.dur_ns {
            put(&mut self.out, dur);
        }
        if let Some(goid) = call.goid {
            put_signed(&mut self.out, goid.wrapping_sub(last.goid).cast_signed());
            self.last.goid = goid;
        }
        if let Some(conn) = &call.conn {
            self.conn(conn);
        }
        if let Some(asked) = call.asked {
            put(&mut self.out, asked);
        }
        if let Some(n) = call.n {
            put_signed(&mut self.out, n);
        }
        if let Some(ErrorValue::Text { text, .. }) = &call.err {
            self.string(text);
        }
        if !call.args.is_empty() {
            self.shared(&call.args);
        }
        if !call.results.is_empty() {
            self.shared(&call.results);
        }
        if !call.stack.is_empty() {
            self.values = self.values.saturating_sub(call.stack.len());
            put(&mut self.out, call.stack.len() as u64);
            for frame in &call.stack {
                self.string(&frame.func);
                self.string(&frame.file);
                put(
                    &mut self.out,
                    u64::from(frame.line) << 1 | u64::from(frame.inlined),
                );
            }
        }
        if let Some(payload) = &call.payload {
            put(&mut self.out, payload.len);
            self.counted(&payload.bytes);
        }
    }

    fn counted(&mut self, bytes: &[u8]) {
        put(&mut self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A string's number, or 0 and the string, which has the next number then.
    fn string(&mut self, text: &Arc<str>) {
        let place = (text.as_ptr().addr(), text.len());
        if let Some(number) = self.strings.get(&place) {
            put(&mut self.out, *number);
            return;
        }
        self.out.push(0);
        self.counted(text.as_bytes());
        self.held.push(text.clone());
        self.strings.insert(place, self.held.len() as u64);
    }

    /// A connection likewise. Of each descriptor the last is remembered.
    fn conn(&mut self, conn: &Arc<Conn>) {
        if let Some((known, number)) = self.conns.get(&conn.fd)
            && (Arc::ptr_eq(known, conn) || known == conn)
        {
            put(&mut self.out, *number);
            return;
        }
        self.out.push(0);
        self.conn_count += 1;
        self.conns.insert(conn.fd, (conn.clone(), self.conn_count));
        let has = |bit, yes| if yes { bit } else { 0 };
        self.out.push(
            has(1, conn.fd.is_some())
                | has(2, conn.network.is_some())
                | has(4, conn.local.is_some())
                | has(8, conn.remote.is_some())
                | has(16, conn.note.is_some()),
        );
        if let Some(fd) = conn.fd {
            put_signed(&mut self.out, fd);
        }
        if let Some(network) = &conn.network {
            self.string(network);
        }
        for endpoint in [&conn.local, &conn.remote].into_iter().flatten() {
            self.endpoint(endpoint);
        }
        if let Some(note) = conn.note {
            self.counted(note.as_bytes());
        }
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        match endpoint {
            Endpoint::Inet(SocketAddr::V4(at), zone) => {
                self.out.push(0);
                self.out.extend(at.ip().octets());
                self.out.extend(at.port().to_le_bytes());
                self.string(zone);
            }
            Endpoint::Inet(SocketAddr::V6(at), zone) => {
                self.out.push(1);
                self.out.extend(at.ip().octets());
                self.out.extend(at.port().to_le_bytes());
                put(&mut self.out, at.flowinfo().into());
                put(&mut self.out, at.scope_id().into());
                self.string(zone);
            }
            Endpoint::Ip(IpAddr::V4(ip)) => {
                self.out.push(2);
                self.out.extend(ip.octets());
            }
            Endpoint::Ip(IpAddr::V6(ip)) => {
                self.out.push(3);
                self.out.extend(ip.octets());
            }
            Endpoint::Unix(path) => {
                self.out.push(4);
                self.string(path);
            }
        }
    }

    /// A list's number, or 0 and the list.
    fn shared(&mut self, list: &Named) {
        let place = list.as_ptr().addr();
        if let Some(number) = self.named.get(&place) {
            put(&mut self.out, *number);
            return;
        }
        self.out.push(0);
        self.named(list, 0);
        self.held_named.push(list.clone());
        self.named.insert(place, self.held_named.len() as u64);
    }

    fn named(&mut self, values: &[(Arc<str>, Value)], depth: u32) {
        put(&mut self.out, values.len() as u64);
        for (name, value) in values {
            self.string(name);
            self.value(value, depth);
        }
    }

    /// The order of the tags is that of [`Value`]'s kinds.
    fn value(&mut self, value: &Value, depth: u32) {
        self.values = self.values.saturating_sub(1);
        if self.values == 0 {
            return;
        }
        if depth >= MAX_DEPTH {
            self.out.push(tag::ELIDED);
            return;
        }
        let inner = depth + 1;
        match value {
            Value::Nil => self.out.push(tag::NIL),
            Value::Bool(yes) => self.out.extend([tag::BOOL, u8::from(*yes)]),
            Value::Int(v) => {
                self.out.push(tag::INT);
                put_signed(&mut self.out, *v);
            }
            Value::Uint(v) => {
                self.out.push(tag::UINT);
                put(&mut self.out, *v);
            }
            Value::Float(v) => {
                self.out.push(tag::FLOAT);
                self.out.extend(v.to_bits().to_le_bytes());
            }
            Value::Complex(re, im) => {
                self.out.push(tag::COMPLEX);
                self.out.extend(re.to_bits().to_le_bytes());
                self.out.extend(im.to_bits().to_le_bytes());
            }
            Value::Str { bytes, len } => self.bytes_of(tag::STR, bytes, *len),
            Value::Bytes { bytes, len } => self.bytes_of(tag::BYTES, bytes, *len),
            Value::Error { text, structural } => {
                self.out.extend([tag::ERROR, u8::from(*structural)]);
                self.string(text);
            }
            Value::Duration(v) => {
                self.out.push(tag::DURATION);
                put_signed(&mut self.out, *v);
            }
            Value::Pointer { ty, addr } => {
                self.out.push(tag::POINTER);
                self.string(ty);
                put(&mut self.out, *addr);
            }
            Value::Ref(to) => {
                self.out.push(tag::REF);
                self.value(to, inner);
            }
            Value::List { ty, items, len } => {
                self.out.push(tag::LIST);
                self.string(ty);
                put(&mut self.out, *len);
                put(&mut self.out, items.len() as u64);
                for item in items {
                    self.value(item, inner);
                }
            }
            Value::Struct {
                ty,
                fields,
                omitted,
            } => {
                self.out.push(tag::STRUCT);
                self.string(ty);
                put(&mut self.out, *omitted);
                self.named(fields, inner);
            }
            Value::Map { ty, entries, len } => {
                self.out.push(tag::MAP);
                self.string(ty);
                self.optional(*len);
                put(&mut self.out, entries.len() as u64);
                for (key, value) in entries {
                    self.value(key, inner);
                    self.value(value, inner);
                }
            }
            Value::Chan { ty, len, cap, addr } => {
                self.out.push(tag::CHAN);
                self.string(ty);
                self.optional(*len);
                self.optional(*cap);
                put(&mut self.out, *addr);
            }
            Value::Func(name) => self.text(tag::FUNC, name),
            Value::Interface { ty, value } => {
                self.out.push(tag::INTERFACE);
                self.string(ty);
                self.value(value, inner);
            }
            Value::Raw(word) => {
                self.out.push(tag::RAW);
                put(&mut self.out, *word);
            }
            Value::Text(text) => self.text(tag::TEXT, text),
            Value::Unreadable(why) => self.text(tag::UNREADABLE, why),
            Value::OptimisedAway => self.out.push(tag::OPTIMISED_AWAY),
            Value::Elided => self.out.push(tag::ELIDED),
        }
    }

    fn text(&mut self, tag: u8, text: &Arc<str>) {
        self.out.push(tag);
        self.string(text);
    }

    fn bytes_of(&mut self, tag: u8, bytes: &[u8], len: u64) {
        self.out.push(tag);
        put(&mut self.out, len);
        self.counted(bytes);
    }

    /// 0, or 1 and the number.
    fn optional(&mut self, value: Option<u64>) {
        match value {
            None => self.out.push(0),
            Some(value) => {
                self.out.push(1);
                put(&mut self.out, value);
            }
        }
    }
}

/// Beside [`record::GAP`]: strings and connections are numbered anew from here.
pub(super) const RENUMBER: u8 = 0x80;

/// What a value begins with.
pub(super) mod tag {
    pub const NIL: u8 = 0;
    pub const BOOL: u8 = 1;
    pub const INT: u8 = 2;
    pub const UINT: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const COMPLEX: u8 = 5;
    pub const STR: u8 = 6;
    pub const BYTES: u8 = 7;
    pub const ERROR: u8 = 8;
    pub const DURATION: u8 = 9;
    pub const POINTER: u8 = 10;
    pub const REF: u8 = 11;
    pub const LIST: u8 = 12;
    pub const STRUCT: u8 = 13;
    pub const MAP: u8 = 14;
    pub const CHAN: u8 = 15;
    pub const FUNC: u8 = 16;
    pub const INTERFACE: u8 = 17;
    pub const RAW: u8 = 18;
    pub const TEXT: u8 = 19;
    pub const UNREADABLE: u8 = 20;
    pub const OPTIMISED_AWAY: u8 = 21;
    pub const ELIDED: u8 = 22;
}
