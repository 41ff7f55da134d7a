//! JSON on a terminal. A target may hold anything: sequences that repaint the
//! screen, characters that turn the direction of a line. Nothing of that
//! reaches a terminal; for text see [`crate::value::escaped`].

use std::fmt::Write as _;

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
    fn escaped_json_means_the_same() {
        let text = "é\u{7f}\u{9b}\u{61c}\u{180e}\u{202e}\u{2066}\u{feff}\u{fffa}→\u{ad}";
        let mut json = serde_json::to_vec(text).unwrap();
        escape_json(&mut json, 0);
        let json = String::from_utf8(json).unwrap();
        assert!(!json.chars().any(|c| c.is_control() || acts(c)), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
