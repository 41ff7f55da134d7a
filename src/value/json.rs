//! A value as JSON.
//!
//! | value | JSON |
//! |---|---|
//! | nil | `null` |
//! | bool, integers, floats | `true`, `7`, `1.5`; NaN and infinities as `"NaN"`, `"+Inf"`, `"-Inf"` |
//! | complex | `"(1+2i)"` |
//! | string | `"text"`, invalid UTF-8 replaced; cut: `{"str":"te","len":4}` |
//! | byte slice | `{"bytes":"GET","len":4096}`, invalid UTF-8 replaced |
//! | slice, array | `[1,2]`; cut: `{"list":[1,2],"len":100}` |
//! | struct | `{"A":1}`; fields left out are counted in `"..."` |
//! | map | `{"key":value}`; cut: `{"map":{…},"len":5}` |
//! | pointer, followed | the value; not followed: `"0xc000012345"` |
//! | interface | `{"type":"*os.File","value":…}` |
//! | error, address, time | its text |
//! | duration | nanoseconds, as encoding/json has it |
//! | func | its name |
//! | chan | `{"chan":"0xc…","len":0,"cap":1}` |
//! | word of unknown type | `{"raw":"0x2a"}` |
//! | unreadable | `{"unreadable":"why"}` |
//! | kept nowhere by the compiler | `{"optimised_away":true}` |
//! | left out by a limit | `{"elided":true}` |
//!
//! A map's keys are strings as they are, others as they are displayed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::Value;

/// Deeper values are cut, as for display.
const MAX_DEPTH: u32 = 64;

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Nested(self, 0).serialize(serializer)
    }
}

/// A value, and how deep it stands.
struct Nested<'a>(&'a Value, u32);

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Nested(value, depth) = *self;
        let inner = depth + 1;
        if depth > MAX_DEPTH {
            return single(serializer, "elided", true);
        }
        match value {
            Value::Nil => serializer.serialize_unit(),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Int(i) | Value::Duration(i) => serializer.serialize_i64(*i),
            Value::Uint(u) => serializer.serialize_u64(*u),
            Value::Float(x) if x.is_finite() => serializer.serialize_f64(*x),
            Value::Float(_) | Value::Complex(..) => serializer.collect_str(value),
            Value::Str { bytes, len } => {
                let text = String::from_utf8_lossy(bytes);
                if bytes.len() as u64 >= *len {
                    return serializer.serialize_str(&text);
                }
                with_len(serializer, "str", &text, *len)
            }
            Value::Bytes { bytes, len } => {
                with_len(serializer, "bytes", &String::from_utf8_lossy(bytes), *len)
            }
            Value::Error { text, .. } | Value::Text(text) | Value::Func(text) => {
                serializer.serialize_str(text)
            }
            Value::Pointer { addr, .. } => serializer.collect_str(&format_args!("{addr:#x}")),
            Value::Ref(target) => Nested(target, inner).serialize(serializer),
            Value::List { items, len, .. } => {
                let list = Items(items, inner);
                if items.len() as u64 >= *len {
                    return list.serialize(serializer);
                }
                with_len(serializer, "list", &list, *len)
            }
            Value::Struct {
                fields, omitted, ..
            } => Fields(fields, *omitted, inner).serialize(serializer),
            Value::Map { entries, len, .. } => {
                let map = Entries(entries, inner);
                match len {
                    Some(len) if entries.len() as u64 >= *len => map.serialize(serializer),
                    len => with_len(serializer, "map", &map, *len),
                }
            }
            Value::Chan { len, cap, addr, .. } => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("chan", &format!("{addr:#x}"))?;
                map.serialize_entry("len", len)?;
                map.serialize_entry("cap", cap)?;
                map.end()
            }
            Value::Interface { ty, value } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("type", &**ty)?;
                map.serialize_entry("value", &Nested(value, inner))?;
                map.end()
            }
            Value::Raw(word) => single(serializer, "raw", format!("{word:#x}")),
            Value::Unreadable(why) => single(serializer, "unreadable", &**why),
            Value::OptimisedAway => single(serializer, "optimised_away", true),
            Value::Elided => single(serializer, "elided", true),
        }
    }
}

fn single<S: Serializer>(
    serializer: S,
    key: &str,
    value: impl Serialize,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, &value)?;
    map.end()
}

fn with_len<S: Serializer>(
    serializer: S,
    key: &str,
    value: &(impl Serialize + ?Sized),
    len: impl Serialize,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry(key, value)?;
    map.serialize_entry("len", &len)?;
    map.end()
}

struct Items<'a>(&'a [Value], u32);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|item| Nested(item, self.1)))
    }
}

/// A name once: JSON objects with a name twice are read differently by
/// everybody (Go structs may have several fields named `_`).
fn unique<'a>(seen: &mut HashSet<Cow<'a, str>>, name: Cow<'a, str>) -> Cow<'a, str> {
    let mut unique = name.clone();
    let mut count = 2;
    while !seen.insert(unique.clone()) {
        unique = Cow::Owned(format!("{name}#{count}"));
        count += 1;
    }
    unique
}

struct Fields<'a>(&'a [(Arc<str>, Value)], u64, u32);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Fields(fields, omitted, depth) = *self;
        let mut map = serializer.serialize_map(None)?;
        let mut seen = HashSet::new();
        for (name, value) in fields {
            let name = unique(&mut seen, Cow::Borrowed(&**name));
            map.serialize_entry(&*name, &Nested(value, depth))?;
        }
        if omitted > 0 {
            map.serialize_entry("...", &omitted)?;
        }
        map.end()
    }
}

struct Entries<'a>(&'a [(Value, Value)], u32);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut seen = HashSet::new();
        for (key, value) in self.0 {
            let key = match key {
                Value::Str { bytes, len } if bytes.len() as u64 >= *len => {
                    String::from_utf8_lossy(bytes)
                }
                other => Cow::Owned(other.to_string()),
            };
            let key = unique(&mut seen, key);
            map.serialize_entry(&*key, &Nested(value, self.1))?;
        }
        map.end()
    }
}
