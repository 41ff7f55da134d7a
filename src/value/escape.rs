//! Text from the target, made safe for a terminal and readable.

use std::fmt::Write as _;

/// Appends `text` with what a terminal might act on (control characters,
/// direction marks, anything without a glyph) written as Go writes it in a
/// string literal: `\n`, `\x1b`, `\u202e`.
pub fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        push_char(out, c, None);
    }
}

/// `text`, escaped as by [`push_escaped`].
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_escaped(&mut out, text);
    out
}

/// Bytes as a Go string literal (strconv.Quote): in double quotes, with `\"`
/// and `\\`; bytes that are no UTF-8 as `\xff`.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(&mut out, c, Some('"'));
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('"');
    out
}

fn push_char(out: &mut String, c: char, quote: Option<char>) {
    let written = match c {
        '\u{7}' => out.write_str("\\a"),
        '\u{8}' => out.write_str("\\b"),
        '\u{c}' => out.write_str("\\f"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\u{b}' => out.write_str("\\v"),
        '\\' if quote.is_some() => out.write_str("\\\\"),
        '"' if quote == Some('"') => out.write_str("\\\""),
        _ if is_printable(c) => out.write_char(c),
        _ if u32::from(c) < 0x80 => write!(out, "\\x{:02x}", u32::from(c)),
        _ if u32::from(c) < 0x1_0000 => write!(out, "\\u{:04x}", u32::from(c)),
        _ => write!(out, "\\U{:08x}", u32::from(c)),
    };
    // Writing to a String cannot fail.
    let _ = written;
}

/// True for what has a glyph of its own: `char::escape_debug` knows which
/// characters are control, format, private, unassigned or space. Combining
/// marks, which it escapes too, are escaped here as well: at the start of a
/// text they would join what stands before it.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        _ => c.escape_debug().len() == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_passes() {
        let hostile =
            "a\u{1b}[2J\r\u{9b}\u{202e}\u{200f}\u{2066}\u{feff}\u{2028}\u{e000}\u{ad}é€😀";
        assert_eq!(
            escaped(hostile),
            r"a\x1b[2J\r\u009b\u202e\u200f\u2066\ufeff\u2028\ue000\u00adé€😀"
        );
        assert_eq!(escaped("say \"\\\""), "say \"\\\"");
    }

    #[test]
    fn quoting_is_that_of_go() {
        assert_eq!(
            quoted(b"GET / HTTP\r\n\"\\\xff\xe2\x82"),
            r#""GET / HTTP\r\n\"\\\xff\xe2\x82""#
        );
        assert_eq!(quoted("héllo\u{7f}\0".as_bytes()), r#""héllo\x7f\x00""#);
    }
}
