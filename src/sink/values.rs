//! Values of the target as text and as JSON, by their two grammars in
//! [`crate::value`].

use std::fmt::Write as _;

use crate::value::Value;

/// Characters that one value may take of a line; JSON has the rest.
const WIDEST: usize = 100;

/// Appends a value as Go would print it, safe for a terminal; one that is very
/// long is cut off, with `…`.
pub(super) fn render_value(out: &mut String, value: &Value) {
    let start = out.len();
    // Writing to a String cannot fail.
    let _ = write!(out, "{value}");
    let written = out.get(start..).unwrap_or_default();
    if let Some((cut, _)) = written.char_indices().nth(WIDEST) {
        out.truncate(start + cut);
        out.push('…');
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut() {
        let text = |len| {
            let mut out = String::from("a=");
            render_value(&mut out, &Value::Text("é".repeat(len).into()));
            out
        };
        assert_eq!(text(100), format!("a={}", "é".repeat(100)));
        assert_eq!(text(101), format!("a={}…", "é".repeat(100)));
    }
}
