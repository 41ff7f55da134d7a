//! A value on one line, as Go people read it: `%#v`, shortened.
//!
#![doc = include_str!("grammar.md")]

use std::fmt::{self, Write as _};

use super::Value;
use super::escape::{push_escaped, quoted};

/// Deeper values are cut: no value that the loader makes is.
const MAX_DEPTH: u32 = 64;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        push(&mut out, self, 0);
        f.pad(&out)
    }
}

fn push(out: &mut String, value: &Value, depth: u32) {
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    // Writing to a String cannot fail.
    let _ = match value {
        Value::Nil => out.write_str("nil"),
        Value::Bool(b) => write!(out, "{b}"),
        Value::Int(i) => write!(out, "{i}"),
        Value::Uint(u) => write!(out, "{u}"),
        Value::Float(x) => {
            push_float(out, *x);
            Ok(())
        }
        Value::Complex(re, im) => {
            out.push('(');
            push_float(out, *re);
            if !(im.is_sign_negative() || im.is_infinite()) {
                out.push('+');
            }
            push_float(out, *im);
            out.write_str("i)")
        }
        Value::Str { bytes, len } => {
            out.push_str(&quoted(bytes));
            push_more(out, bytes.len(), *len, "");
            Ok(())
        }
        Value::Bytes { bytes, len } => {
            let _ = write!(out, "[]uint8 len {len}");
            if !bytes.is_empty() {
                out.push(' ');
                out.push_str(&quoted(bytes));
                push_more(out, bytes.len(), *len, "");
            }
            Ok(())
        }
        Value::Error { text, .. } if depth == 0 => {
            push_escaped(out, text);
            Ok(())
        }
        Value::Error { text, .. } => write!(out, "error({})", quoted(text.as_bytes())),
        Value::Duration(ns) => {
            push_duration(out, *ns);
            Ok(())
        }
        Value::Text(text) => {
            push_escaped(out, text);
            Ok(())
        }
        Value::Func(name) => {
            push_escaped(out, name);
            Ok(())
        }
        Value::Pointer { ty, addr } => {
            out.push('(');
            push_escaped(out, ty);
            write!(out, ")({addr:#x})")
        }
        Value::Ref(inner) => {
            out.push('&');
            push(out, inner, depth + 1);
            Ok(())
        }
        Value::Raw(word) => write!(out, "raw({word:#x})"),
        Value::Unreadable(why) => {
            out.push_str("(unreadable: ");
            push_escaped(out, why);
            out.write_str(")")
        }
        Value::OptimisedAway => out.write_str("(optimised away)"),
        Value::Elided => out.write_str("..."),
        Value::Chan { .. } | Value::List { .. } | Value::Struct { .. } | Value::Map { .. } => {
            push_composite(out, value, depth);
            Ok(())
        }
        Value::Interface { ty, value } => {
            push_interface(out, ty, value, depth);
            Ok(())
        }
    };
}

fn push_composite(out: &mut String, value: &Value, depth: u32) {
    match value {
        Value::Chan { ty, len, cap, addr } => {
            out.push('(');
            push_escaped(out, ty);
            let _ = write!(out, ")({addr:#x})");
            if let (Some(len), Some(cap)) = (len, cap) {
                let _ = write!(out, " len {len}/{cap}");
            }
        }
        Value::List { ty, items, len } => {
            push_escaped(out, ty);
            out.push('{');
            for (at, item) in items.iter().enumerate() {
                out.push_str(comma(at));
                push(out, item, depth + 1);
            }
            push_more(out, items.len(), *len, comma(items.len()));
            out.push('}');
        }
        Value::Struct {
            ty,
            fields,
            omitted,
        } => {
            push_escaped(out, ty);
            out.push('{');
            for (at, (name, field)) in fields.iter().enumerate() {
                out.push_str(comma(at));
                push_escaped(out, name);
                out.push(':');
                push(out, field, depth + 1);
            }
            push_more(out, 0, *omitted, comma(fields.len()));
            out.push('}');
        }
        Value::Map { ty, entries, len } => {
            push_escaped(out, ty);
            out.push('{');
            for (at, (key, elem)) in entries.iter().enumerate() {
                out.push_str(comma(at));
                push(out, key, depth + 1);
                out.push(':');
                push(out, elem, depth + 1);
            }
            let separator = comma(entries.len());
            if let Some(len) = len {
                push_more(out, entries.len(), *len, separator);
            } else {
                out.push_str(separator);
                out.push_str("...");
            }
            out.push('}');
        }
        _ => {}
    }
}

fn push_interface(out: &mut String, ty: &str, value: &Value, depth: u32) {
    let says_its_type = match value {
        Value::Str { .. } => ty == "string",
        Value::Bool(_) => ty == "bool",
        Value::Int(_) => ty == "int",
        Value::Float(_) => ty == "float64",
        Value::Complex(..) => ty == "complex128",
        Value::Bytes { .. } => ty == "[]uint8",
        Value::Ref(inner) => !matches!(
            **inner,
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::Str { .. }
        ),
        Value::Nil | Value::Uint(_) | Value::Raw(_) | Value::Elided | Value::Func(_) => false,
        Value::Error { .. }
        | Value::Duration(_)
        | Value::Pointer { .. }
        | Value::List { .. }
        | Value::Struct { .. }
        | Value::Map { .. }
        | Value::Chan { .. }
        | Value::Interface { .. }
        | Value::Text(_)
        | Value::OptimisedAway
        | Value::Unreadable(_) => true,
    };
    if says_its_type {
        push(out, value, depth + 1);
        return;
    }
    // A conversion to a pointer type wants parentheses in Go.
    let parentheses = ty.starts_with(['*', '<']) || ty.starts_with("func");
    if parentheses {
        out.push('(');
    }
    push_escaped(out, ty);
    out.push_str(if parentheses { ")(" } else { "(" });
    push(out, value, depth + 1);
    out.push(')');
}

fn comma(at: usize) -> &'static str {
    if at == 0 { "" } else { ", " }
}

fn push_more(out: &mut String, shown: usize, len: u64, separator: &str) {
    let left = len.saturating_sub(shown as u64);
    if left > 0 {
        let _ = write!(out, "{separator}...+{left} more");
    }
}

/// As strconv.FormatFloat(x, 'g', -1, 64): the fewest digits that give the
/// number back, with an exponent below 1e-4 and from 1e6 on.
fn push_float(out: &mut String, x: f64) {
    if x.is_nan() {
        out.push_str("NaN");
        return;
    }
    if x.is_infinite() {
        out.push_str(if x > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    let shortest = format!("{x:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let _ = if x != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    } else {
        write!(out, "{x}")
    };
}

/// As time.Duration.String (time/time.go).
fn push_duration(out: &mut String, ns: i64) {
    let sign = if ns < 0 { "-" } else { "" };
    let all = ns.unsigned_abs();
    out.push_str(sign);
    let _ = match all {
        0 => out.write_str("0s"),
        1..1_000 => write!(out, "{all}ns"),
        1_000..1_000_000 => {
            push_fraction(out, all, 1_000);
            out.write_str("µs")
        }
        1_000_000..1_000_000_000 => {
            push_fraction(out, all, 1_000_000);
            out.write_str("ms")
        }
        _ => {
            const SECOND: u64 = 1_000_000_000;
            let minutes = all / (60 * SECOND);
            if minutes >= 60 {
                let _ = write!(out, "{}h", minutes / 60);
            }
            if minutes > 0 {
                let _ = write!(out, "{}m", minutes % 60);
            }
            push_fraction(out, all % (60 * SECOND), SECOND);
            out.write_str("s")
        }
    };
}

/// `all / unit` with as many decimals as it has.
fn push_fraction(out: &mut String, all: u64, unit: u64) {
    let _ = write!(out, "{}", all / unit);
    let rest = all % unit;
    if rest > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}
