//! Both renderings, kind by kind.

use std::sync::Arc;

use super::*;

fn s(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn string(text: &str) -> Value {
    Value::Str {
        bytes: text.as_bytes().to_vec(),
        len: text.len() as u64,
    }
}

fn structure(fields: Vec<(&str, Value)>, omitted: u64) -> Value {
    Value::Struct {
        ty: s("main.T"),
        fields: fields.into_iter().map(|(n, v)| (s(n), v)).collect(),
        omitted,
    }
}

fn interface(ty: &str, value: Value) -> Value {
    Value::Interface {
        ty: s(ty),
        value: Box::new(value),
    }
}

#[test]
fn every_kind_has_both_renderings() {
    let ab = || structure(vec![("A", Value::Int(1)), ("B", string("x"))], 0);
    let cases = [
        (Value::Nil, "nil", "null"),
        (Value::Bool(true), "true", "true"),
        (Value::Int(-7), "-7", "-7"),
        (
            Value::Uint(u64::MAX),
            "18446744073709551615",
            "18446744073709551615",
        ),
        (Value::Float(1.5), "1.5", "1.5"),
        (Value::Float(f64::NAN), "NaN", r#""NaN""#),
        (Value::Float(f64::NEG_INFINITY), "-Inf", r#""-Inf""#),
        (Value::Complex(1.0, -2.0), "(1-2i)", r#""(1-2i)""#),
        (
            Value::Complex(0.5, 1e9),
            "(0.5+1e+09i)",
            r#""(0.5+1e+09i)""#,
        ),
        (string("a\"\n\u{1b}"), r#""a\"\n\x1b""#, r#""a\"\n\u001b""#),
        (
            Value::Str {
                bytes: b"\xffabc".to_vec(),
                len: 1000,
            },
            r#""\xffabc"...+996 more"#,
            "{\"str\":\"\u{fffd}abc\",\"len\":1000}",
        ),
        (
            Value::Bytes {
                bytes: b"GET / HTTP".to_vec(),
                len: 4096,
            },
            r#"[]uint8 len 4096 "GET / HTTP"...+4086 more"#,
            r#"{"bytes":"GET / HTTP","len":4096}"#,
        ),
        (
            Value::Bytes {
                bytes: vec![],
                len: 0,
            },
            "[]uint8 len 0",
            r#"{"bytes":"","len":0}"#,
        ),
        (
            Value::Error {
                text: s("EOF\r"),
                structural: false,
            },
            r"EOF\r",
            r#""EOF\r""#,
        ),
        (Value::Duration(1_500_000_000), "1.5s", "1500000000"),
        (
            Value::Pointer {
                ty: s("*main.T"),
                addr: 0xc0_0001_2345,
            },
            "(*main.T)(0xc000012345)",
            r#""0xc000012345""#,
        ),
        (
            Value::Ref(Box::new(ab())),
            r#"&main.T{A:1, B:"x"}"#,
            r#"{"A":1,"B":"x"}"#,
        ),
        (
            Value::List {
                ty: s("[]int"),
                items: vec![Value::Int(1), Value::Int(2)],
                len: 100,
            },
            "[]int{1, 2, ...+98 more}",
            r#"{"list":[1,2],"len":100}"#,
        ),
        (
            Value::List {
                ty: s("[]int"),
                items: vec![],
                len: 0,
            },
            "[]int{}",
            "[]",
        ),
        (
            structure(vec![("_", Value::Int(1)), ("_", Value::Elided)], 3),
            "main.T{_:1, _:..., ...+3 more}",
            r#"{"_":1,"_#2":{"elided":true},"...":3}"#,
        ),
        (
            Value::Map {
                ty: s("map[string]int"),
                entries: vec![(string("a"), Value::Int(1))],
                len: Some(4),
            },
            r#"map[string]int{"a":1, ...+3 more}"#,
            r#"{"map":{"a":1},"len":4}"#,
        ),
        (
            Value::Map {
                ty: s("map[int]bool"),
                entries: vec![(Value::Int(2), Value::Bool(true))],
                len: Some(1),
            },
            "map[int]bool{2:true}",
            r#"{"2":true}"#,
        ),
        (
            Value::Map {
                ty: s("map[int]bool"),
                entries: vec![],
                len: None,
            },
            "map[int]bool{...}",
            r#"{"map":{},"len":null}"#,
        ),
        (
            Value::Chan {
                ty: s("<-chan int"),
                len: Some(1),
                cap: Some(4),
                addr: 0x10,
            },
            "(<-chan int)(0x10) len 1/4",
            r#"{"chan":"0x10","len":1,"cap":4}"#,
        ),
        (Value::Func(s("main.f")), "main.f", r#""main.f""#),
        (
            interface("string", string("x")),
            r#""x""#,
            r#"{"type":"string","value":"x"}"#,
        ),
        (
            interface("uint8", Value::Uint(3)),
            "uint8(3)",
            r#"{"type":"uint8","value":3}"#,
        ),
        (
            interface("*int", Value::Ref(Box::new(Value::Int(3)))),
            "(*int)(&3)",
            r#"{"type":"*int","value":3}"#,
        ),
        (
            interface("*main.T", Value::Ref(Box::new(ab()))),
            r#"&main.T{A:1, B:"x"}"#,
            r#"{"type":"*main.T","value":{"A":1,"B":"x"}}"#,
        ),
        (
            interface("*main.T", Value::Nil),
            "(*main.T)(nil)",
            r#"{"type":"*main.T","value":null}"#,
        ),
        (
            interface("io.Reader", Value::Raw(0x20)),
            "io.Reader(raw(0x20))",
            r#"{"type":"io.Reader","value":{"raw":"0x20"}}"#,
        ),
        (Value::Raw(42), "raw(0x2a)", r#"{"raw":"0x2a"}"#),
        (
            Value::Text(s("10.0.0.1:80")),
            "10.0.0.1:80",
            r#""10.0.0.1:80""#,
        ),
        (
            Value::Unreadable(s("gone\u{202e}")),
            r"(unreadable: gone\u202e)",
            "{\"unreadable\":\"gone\u{202e}\"}",
        ),
        (Value::Elided, "...", r#"{"elided":true}"#),
    ];
    for (value, display, json) in cases {
        assert_eq!(value.to_string(), display);
        assert_eq!(serde_json::to_string(&value).expect("JSON"), json);
    }
}

#[test]
fn an_error_inside_a_struct_is_told_from_its_fields() {
    let error = Value::Error {
        text: s("a, b"),
        structural: false,
    };
    let value = structure(vec![("Err", error)], 0);
    assert_eq!(value.to_string(), r#"main.T{Err:error("a, b")}"#);
}

/// What Go 1.26 prints for these.
#[test]
fn floats_and_durations_are_those_of_go() {
    for (x, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (100_000.0, "100000"),
        (1e6, "1e+06"),
        (123_456_789.0, "1.23456789e+08"),
        (0.0001, "0.0001"),
        (1e-5, "1e-05"),
        (12345.678, "12345.678"),
        (1e100, "1e+100"),
    ] {
        assert_eq!(Value::Float(x).to_string(), text);
    }
    for (ns, text) in [
        (0, "0s"),
        (1, "1ns"),
        (999, "999ns"),
        (1_000, "1µs"),
        (1_500, "1.5µs"),
        (1_500_000, "1.5ms"),
        (999_999_999, "999.999999ms"),
        (1_000_000_000, "1s"),
        (60_000_000_000, "1m0s"),
        (90_000_000_000, "1m30s"),
        (3_661_500_000_000, "1h1m1.5s"),
        (-5_000_000_000, "-5s"),
        (i64::MAX, "2562047h47m16.854775807s"),
        (i64::MIN, "-2562047h47m16.854775808s"),
    ] {
        assert_eq!(Value::Duration(ns).to_string(), text);
    }
}

#[test]
fn width_and_alignment_apply_to_the_whole_text() {
    assert_eq!(format!("{:>5}|", Value::Int(1)), "    1|");
}

#[test]
fn a_value_nested_too_deep_is_cut_not_followed() {
    let mut value = Value::Int(1);
    for _ in 0..10_000 {
        value = Value::Ref(Box::new(value));
    }
    assert!(value.to_string().ends_with("..."));
    assert!(
        serde_json::to_string(&value)
            .expect("JSON")
            .contains("elided")
    );
    // Taken apart here: dropping it whole would recurse as deep.
    while let Value::Ref(inner) = value {
        value = *inner;
    }
}
