//! Values of the target as text and as JSON.

use std::fmt::Write as _;

use serde_json::json;

use super::escape::{push_bytes, push_escaped};
use crate::value::Value;

/// Appends a value as Go would print it, safe for a terminal.
pub(super) fn render_value(out: &mut String, value: &Value) {
    match value {
        Value::Nil => out.push_str("nil"),
        Value::Bool(b) => drop(write!(out, "{b}")),
        Value::Int(n) => drop(write!(out, "{n}")),
        Value::Uint(n) => drop(write!(out, "{n}")),
        Value::Float(x) => drop(write!(out, "{x}")),
        Value::Raw(n) => drop(write!(out, "{n:#x}?")),
        Value::Str { bytes, .. } | Value::Bytes { bytes, .. } => {
            out.push('"');
            push_bytes(out, bytes);
            out.push('"');
        }
        Value::Error { text, .. } | Value::Text(text) | Value::Func(text) => {
            push_escaped(out, text);
        }
        other => push_escaped(out, &format!("{other:?}")),
    }
}

/// Appends a value as JSON.
pub(super) fn json_value(out: &mut Vec<u8>, value: &Value) {
    let value = match value {
        Value::Nil => json!(null),
        Value::Bool(b) => json!(b),
        Value::Int(n) => json!(n),
        Value::Uint(n) | Value::Raw(n) => json!(n),
        Value::Float(x) => json!(x),
        Value::Str { bytes, .. } | Value::Bytes { bytes, .. } => {
            json!(String::from_utf8_lossy(bytes))
        }
        Value::Error { text, .. } | Value::Text(text) | Value::Func(text) => json!(&**text),
        other => json!(format!("{other:?}")),
    };
    let _ = serde_json::to_writer(out, &value);
}
