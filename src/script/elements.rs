//! Elements and slices of the program's variables.

use super::error::{EvalError, Span};
use super::operand::{Operand, Stopped, lost};
use super::program::Elements;
use crate::addr::LiveAddr;
use crate::image::types::TypeId;
use crate::value::held::Held;

/// Where elements are, how many there are, and how many there is room for.
fn extent(
    inner: &Operand,
    of: Elements,
    stopped: &dyn Stopped,
    span: Span,
) -> Result<(Held, u64, u64), EvalError> {
    match (inner, of) {
        (Operand::List { at, len, .. }, _) => Ok((Held::At(*at), *len, *len)),
        (Operand::Value(_, held), Elements::Array(len)) => Ok((held.clone(), len, len)),
        (Operand::Value(_, held), Elements::Slice | Elements::Text) => {
            let word = |at: u64| {
                let part = held.part(at, 8);
                part.word(stopped.memory()).ok_or_else(|| lost(&part, span))
            };
            let (at, len) = (word(0)?, word(8)?);
            let cap = if of == Elements::Slice {
                word(16)?
            } else {
                len
            };
            if len > cap || cap > 1 << 47 {
                return Err(EvalError::new(span, format!("{len:#x} is no length")));
            }
            Ok((Held::At(LiveAddr(at)), len, cap))
        }
        _ => Err(EvalError::new(span, "this has no elements")),
    }
}

pub(super) fn element(
    inner: &Operand,
    of: Elements,
    elem: TypeId,
    index: i128,
    stopped: &dyn Stopped,
    span: Span,
) -> Result<Operand, EvalError> {
    if let Operand::Missing(why) = inner {
        return Ok(Operand::Missing(why.clone()));
    }
    let (held, len, _) = extent(inner, of, stopped, span)?;
    let Some(index) = u64::try_from(index).ok().filter(|i| *i < len) else {
        let message = format!("index {index} is out of range: {len} elements");
        return Err(EvalError::new(span, message));
    };
    if of == Elements::Text {
        let Held::At(at) = held else {
            return Err(lost(&held, span));
        };
        let byte = stopped.memory().read_u8(at.offset(index));
        let byte = byte.map_err(|e| EvalError::new(span, e.to_string()))?;
        return Ok(Operand::Byte(byte));
    }
    let size = stopped.types().get(elem).size;
    Ok(Operand::Value(
        elem,
        held.part(index.saturating_mul(size), size),
    ))
}

pub(super) fn slice(
    inner: &Operand,
    of: Elements,
    elem: TypeId,
    (from, to): (Option<i128>, Option<i128>),
    stopped: &dyn Stopped,
    span: Span,
) -> Result<Operand, EvalError> {
    if let Operand::Missing(why) = inner {
        return Ok(Operand::Missing(why.clone()));
    }
    let (held, len, cap) = extent(inner, of, stopped, span)?;
    let from = from.unwrap_or(0);
    let to = to.unwrap_or_else(|| len.into());
    let most = if of == Elements::Slice { cap } else { len };
    let (Ok(low), Ok(high)) = (u64::try_from(from), u64::try_from(to)) else {
        return Err(EvalError::new(span, "a bound is below 0"));
    };
    if low > high || high > most {
        let message = format!("{low}:{high} is out of range: {len} elements, room for {most}");
        return Err(EvalError::new(span, message));
    }
    let Held::At(at) = held else {
        return Err(EvalError::new(
            span,
            "it is in registers: take elements one by one",
        ));
    };
    let size = match of {
        Elements::Text => 1,
        Elements::Array(_) | Elements::Slice | Elements::List => stopped.types().get(elem).size,
    };
    let at = at.offset(low.saturating_mul(size));
    let len = high.saturating_sub(low);
    match (inner, of) {
        (Operand::Value(ty, _), Elements::Slice | Elements::Text) => {
            let words = [at.0, len, most.saturating_sub(low)];
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            let header = if of == Elements::Slice { 24 } else { 16 };
            let header = bytes.get(..header).unwrap_or_default();
            Ok(Operand::Value(*ty, Held::bytes(header)))
        }
        _ => Ok(Operand::List { elem, at, len }),
    }
}
