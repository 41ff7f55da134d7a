//! Values of the target as text and as JSON, by their two grammars in
//! [`crate::value`].

use std::fmt::Write as _;

use crate::value::Value;

/// Appends a value as Go would print it, safe for a terminal.
pub(super) fn render_value(out: &mut String, value: &Value) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value}");
}

/// Appends a value as JSON.
pub(super) fn json_value(out: &mut Vec<u8>, value: &Value) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        // A value without a form in JSON must not spoil its line.
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}
