use super::*;
use crate::golang::dynamic::{LiveTypes, type_section};
use crate::golang::testing::{Flavour, Running, hex};
use crate::image::rtti::RttiTypes;

/// The program prints every error's two words and what its Error method says.
fn check(flavour: Flavour) {
    let running = Running::start("errtexts", flavour);
    let table = RttiTypes::new(running.image.memory(), type_section(&running.image));
    let types = LiveTypes {
        table: &table,
        bias: running.bias,
    };
    let minor = running.image.go_version().minor();
    let layouts = Arc::new(Layouts::resolve(minor, Some(&table)));
    let mut reader = ErrorReader::new(layouts, minor);
    let mut wrong = Vec::new();
    let mut count = 0;
    // Twice: the second time from what is remembered.
    for _ in 0..2 {
        for line in running.lines.iter().filter(|l| l.starts_with("err ")) {
            let mut words = line.splitn(5, ' ').skip(1);
            let (itab, data) = (hex(words.next().unwrap()), hex(words.next().unwrap()));
            let structural = words.next().unwrap() == "true";
            let text = words.next().unwrap();
            let got = reader
                .text(&running.memory, &types, itab, data, &mut [])
                .unwrap()
                .unwrap();
            let quoted = render::quote(got.text.as_bytes());
            if quoted != text || got.structural != structural {
                wrong.push(format!("want {text}\n got {quoted} {}", got.structural));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 400, "{count}");
}

#[test]
fn texts_are_what_error_methods_return() {
    check(Flavour::Plain);
}

#[test]
fn texts_in_a_stripped_program() {
    check(Flavour::Stripped);
}

#[test]
fn texts_in_a_position_independent_program() {
    check(Flavour::Pie);
}

#[test]
fn nil_and_garbage() {
    use crate::memory::Patchwork;
    let path = crate::golang::testing::fixture("errtexts", Flavour::Plain);
    let image = crate::image::Image::open(&path).unwrap();
    let table = RttiTypes::new(image.memory(), type_section(&image));
    let types = LiveTypes {
        table: &table,
        bias: crate::addr::Bias(0),
    };
    let layouts = Arc::new(Layouts::resolve(Some(26), None));
    let mut reader = ErrorReader::new(layouts, Some(26));
    let memory = Patchwork::default();
    assert_eq!(reader.text(&memory, &types, 0, 0, &mut []), Ok(None));
    let garbage = reader
        .text(&memory, &types, 0x1234, 0x5678, &mut [])
        .unwrap()
        .unwrap();
    assert!(
        garbage.structural && garbage.text.contains("0x1234"),
        "{garbage:?}"
    );
}

#[test]
fn quoting_is_that_of_strconv() {
    assert_eq!(
        render::quote(b"a\"b\\\n\x01\xff\x7f"),
        r#""a\"b\\\n\x01\xff\x7f""#
    );
}
