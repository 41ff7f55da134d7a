//! Which parts of a call a line for people shows, and in which order.

use std::sync::Arc;

use crate::record::{Call, ErrorValue};
use crate::value::{Value, push_escaped, quoted};

/// One thing that a call returned.
pub(super) enum Outcome<'c> {
    /// The count of bytes.
    N(i64),
    /// The error.
    Err(&'c ErrorValue),
    /// Anything else.
    Value(&'c str, &'c Value),
}

/// What the call returned: the count of bytes first, the error last. Both are
/// among the results too, and are shown once.
pub(super) fn outcomes(call: &Call) -> Vec<Outcome<'_>> {
    let mut results: &[(Arc<str>, Value)] = &call.results;
    if call.err.is_some()
        && let Some((_, others)) = results.split_last()
    {
        results = others;
    }
    let mut count = call.n;
    let mut shown = Vec::with_capacity(results.len() + 2);
    shown.extend(count.map(Outcome::N));
    for (name, value) in results {
        if count.is_some_and(|n| is_integer(value, n)) {
            count = None;
        } else if !(call.conn.is_some() && says_conn(value)) {
            shown.push(Outcome::Value(name, value));
        }
    }
    shown.extend(call.err.as_ref().map(Outcome::Err));
    shown
}

/// What Accept and Dial return stands in the line as the connection already;
/// no connection, or no address, as the error.
fn says_conn(value: &Value) -> bool {
    match value {
        Value::Pointer { ty, .. } => ty.starts_with("*net.") && ty.ends_with("Conn"),
        Value::Interface { value, .. } => says_conn(value),
        Value::Nil => true,
        _ => false,
    }
}

fn is_integer(value: &Value, n: i64) -> bool {
    match value {
        Value::Int(value) => *value == n,
        Value::Uint(value) | Value::Raw(value) => *value == n as u64,
        _ => false,
    }
}

/// The arguments worth showing beside a connection: without the receiver,
/// which the connection stands for, and without the buffer, whose length is
/// shown; all of them for other calls.
pub(super) fn arguments(call: &Call) -> impl Iterator<Item = (&str, &Value)> {
    let of_conn = call.conn.is_some();
    let receiver = of_conn && is_method(&call.func);
    let buffer = of_conn && call.asked.is_some();
    call.args
        .iter()
        .enumerate()
        .filter(move |(at, (_, value))| {
            let is_buffer = matches!(value, Value::Bytes { .. } | Value::List { .. });
            !(receiver && *at == 0 || buffer && is_buffer)
        })
        .map(|(_, (name, value))| (&**name, value))
}

/// `pkg.(*T).M` or `pkg.T.M`: a dot, beside those of the import path, stands
/// between two names.
fn is_method(func: &str) -> bool {
    let name = func.rsplit('/').next().unwrap_or(func);
    name.contains(".(*") || name.split('.').count() > 2
}

/// `nil`, the text, in quotes when it is more than a word; marked when it is
/// not what the program would print.
pub(super) fn push_error(out: &mut String, error: &ErrorValue) {
    match error {
        ErrorValue::Nil => out.push_str("nil"),
        ErrorValue::Text { text, structural } => {
            // Unquoted is what cannot be taken for anything else.
            let plain = |c: char| c.is_ascii_graphic() && !"\"\\`".contains(c);
            let word = !text.is_empty() && &**text != "nil" && text.chars().all(plain);
            if word || *structural {
                push_escaped(out, text);
            } else {
                out.push_str(&quoted(text.as_bytes()));
            }
            if *structural {
                out.push_str(" (fields)");
            }
        }
    }
}
