//! Text and bytes of the target on a terminal.
//!
//! A target may hold anything: sequences that repaint the screen, characters
//! that turn the direction of a line. Nothing of that reaches a terminal.

use std::fmt::Write as _;

/// Appends `text` with everything escaped that a terminal would act on.
pub fn push_escaped(out: &mut String, text: &str) {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        push_char(out, c);
    }
}

/// `text` with everything escaped that a terminal would act on.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_escaped(&mut out, text);
    out
}

/// Appends bytes as Go's `%q` prints them, without the quotes: UTF-8 text as it
/// is, `\n`, `\r`, `\t`, `\\`, `\"`, anything else as `\xHH` or `\uHHHH`. No two
/// inputs give the same output.
pub fn push_bytes(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                c => push_char(out, c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Escapes, in JSON that begins at byte `start`, what JSON itself leaves as it
/// is though a terminal would act on it. Such characters stand inside strings
/// only, so `\u` and four digits mean the same.
pub fn escape_json(json: &mut Vec<u8>, start: usize) {
    // DEL, and the first bytes of every other such character in UTF-8.
    let suspect = |b: &u8| matches!(b, 0x7f | 0xc2 | 0xd8 | 0xe1 | 0xe2 | 0xef);
    if !json.get(start..).is_some_and(|new| new.iter().any(suspect)) {
        return;
    }
    let new = json.split_off(start);
    let mut text = String::with_capacity(new.len() + 16);
    for c in String::from_utf8_lossy(&new).chars() {
        if c.is_control() || acts(c) {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    json.extend_from_slice(text.as_bytes());
}

fn push_char(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if u32::from(c) < 0x80 && c.is_control() => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        c if c.is_control() || acts(c) => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// Characters that no control character is but that change how others look:
/// line separators, marks of direction (Unicode Annex 9), invisible ones.
fn acts(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        assert_eq!(escaped("net.(*conn).Read"), "net.(*conn).Read");
        assert_eq!(escaped("a\x1b[2J\u{9b}31mé"), "a\\x1b[2J\\u009b31mé");
        assert_eq!(escaped("x\u{202e}y\u{2028}"), "x\\u202ey\\u2028");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let text = "é\u{7f}\u{9b}\u{61c}\u{180e}\u{202e}\u{2066}\u{feff}\u{fffa}→\u{ad}";
        let mut json = serde_json::to_vec(text).unwrap();
        escape_json(&mut json, 0);
        let json = String::from_utf8(json).unwrap();
        assert!(!json.chars().any(|c| c.is_control() || acts(c)), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn bytes_are_printed_as_go_quotes_them() {
        let mut out = String::new();
        push_bytes(&mut out, b"GET /\r\n\x00\x7f\xff\xc3\xa9\\\"");
        assert_eq!(out, r#"GET /\r\n\x00\x7f\xffé\\\""#);
    }
}
