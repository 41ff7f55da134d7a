//! ```text
//! set VARIABLE = VALUE
//! set -e
//! ```
//!
//! Changes a variable, field or element of a target that is stopped: a whole
//! number, a float, a bool, or a pointer (nil, an address, the address of another
//! variable). The value must fit. A variable that a general register holds is changed
//! there, of the innermost frame of a goroutine on a thread: what the code has copied
//! elsewhere before keeps its value. What lies in several pieces or in a register for
//! floats, what is optimised away, and strings, maps and the like, which would need
//! memory of the program's own, cannot be changed.
//!
//! `set -e` at the head of a script makes it stop and detach at the first command
//! that fails.
//!
//! ```text
//!     set s.limit = 10
//!     set conn.closed = true
//! ```

use crate::addr::LiveAddr;
use crate::arch::numbers::changeable;
use crate::image::types::{Type, TypeKind, TypeTable as _};
use crate::repl::frames::in_frame;
use crate::repl::shell::{Call, Shell};
use crate::script::command::Verb;
use crate::script::{Expr, ExprError, ExprKind, Fact, check, parse};
use crate::value::held::Held;

/// Changes it.
pub fn run(shell: &mut Shell, call: Call<'_>) -> Result<(), ExprError> {
    let words: Vec<&str> = call.words.iter().map(|w| w.text.as_str()).collect();
    let text = words.join(" ");
    let Some((name, value)) = text.split_once('=').filter(|(_, v)| !v.starts_with('=')) else {
        return Err(call.fail("set VARIABLE = VALUE"));
    };
    let parsed = |text: &str| parse(text.trim()).map_err(|e| call.fail(e.message));
    let to = parsed(name)?;
    if shell.copies.viewed().is_some() {
        return Err(call.fail("a copy is only looked at; snapshot live goes back to the target"));
    }
    if !shell.is_stopped() {
        return Err(call.fail(match shell.source.pid {
            Some(_) => "variables are changed only while the target is stopped: halt, or break",
            None => "a core file cannot be changed",
        }));
    }
    let mut change = None;
    in_frame(shell, &call, &mut |here| {
        let checked = check(&to, here)?;
        let place = checked
            .place(here)
            .map_err(|e| ExprError::new(call.span, e.message))?;
        let Some((ty, held)) = place else {
            return Err(call.fail(format!("`{}` names no variable", name.trim())));
        };
        let types = here.frame.variables.dwarf;
        let ty = types.get(ty);
        if let Some(why) = refused(&ty) {
            return Err(call.fail(why));
        }
        let to = match held {
            Held::At(at) => To::Memory(at),
            Held::Bytes { .. } => {
                let number = match &to.kind {
                    ExprKind::Name(own) => here.variables().register_of(here.frame.frame, own),
                    _ => None,
                };
                To::Register(number.ok_or_else(|| {
                    call.fail(format!(
                        "`{}` is in several pieces there, or a part of what a register holds: \
                         it cannot be changed",
                        name.trim()
                    ))
                })?)
            }
            Held::Nowhere | Held::Unknown(_) => {
                return Err(call.fail(format!(
                    "`{}` is optimised away there, or in a register that was overwritten since",
                    name.trim()
                )));
            }
        };
        let bytes = encoded(&parsed(value)?, here, &ty, &call)?;
        change = Some((to, bytes));
        Ok(())
    })?;
    let Some((to, bytes)) = change else {
        return Err(call.fail("nothing to change"));
    };
    match to {
        To::Memory(at) => {
            let live = shell.tracing.live();
            let live = live.ok_or_else(|| call.fail("the target is gone"))?;
            live.write(at, bytes).map_err(|e| call.fail(e))?;
        }
        To::Register(number) => in_register(shell, &call, number, &bytes)?,
    }
    shell.tell(Verb::Set, &format!("{} = {}\n", name.trim(), value.trim()));
    Ok(())
}

/// Where a variable lies.
enum To {
    Memory(LiveAddr),
    /// By DWARF's number.
    Register(u16),
}

/// Changes the low bytes of a register of the chosen goroutine's thread.
fn in_register(
    shell: &mut Shell,
    call: &Call<'_>,
    number: u16,
    bytes: &[u8],
) -> Result<(), ExprError> {
    let goid = shell.goroutine.unwrap_or(0);
    let stands = shell.source.stands(goid).map_err(|e| call.fail(e))?;
    let Some((tid, mut regs)) = stands.and_then(|s| s.thread) else {
        return Err(call.fail(format!("goroutine {goid} is on no thread")));
    };
    let Some(register) = changeable(&mut regs, number) else {
        return Err(
            call.fail("it is in a register that is not changed: one for floats, or Go's own")
        );
    };
    let mut word = register.to_le_bytes();
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    *register = u64::from_le_bytes(word);
    let live = shell.tracing.live();
    let live = live.ok_or_else(|| call.fail("the target is gone"))?;
    live.set_registers(tid, regs).map_err(|e| call.fail(e))?;
    shell.source.changed(tid, regs);
    Ok(())
}

fn refused(ty: &Type) -> Option<String> {
    let plain = matches!(
        ty.kind,
        TypeKind::Bool
            | TypeKind::Int { .. }
            | TypeKind::Float
            | TypeKind::Pointer(_)
            | TypeKind::UnsafePointer
    );
    (!plain).then(|| {
        format!(
            "a {} cannot be set: only whole numbers, floats, bools and pointers are",
            ty.name
        )
    })
}

/// The value as the type's bytes.
fn encoded(
    value: &Expr,
    here: &crate::repl::frames::Here<'_>,
    ty: &Type,
    call: &Call<'_>,
) -> Result<Vec<u8>, ExprError> {
    let checked = check(value, here)?;
    let pointer = matches!(ty.kind, TypeKind::Pointer(_) | TypeKind::UnsafePointer);
    let wrong = || call.fail(format!("that is no {}", ty.name));
    if pointer && let Some(at) = checked.address(here).map_err(|e| call.fail(e.message))? {
        return Ok(at.to_le_bytes().to_vec());
    }
    let fact = checked.eval(here).map_err(|e| call.fail(e.message))?;
    let size = usize::try_from(ty.size).unwrap_or(0);
    let fits = |number: i128, signed: bool| {
        let bits = u32::try_from(ty.size * 8).ok().filter(|b| *b <= 64)?;
        let (low, high) = if signed {
            (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
        } else {
            (0, (1_i128 << bits) - 1)
        };
        let bytes = number.to_le_bytes();
        (low..=high)
            .contains(&number)
            .then(|| bytes.get(..size).map(<[u8]>::to_vec))?
    };
    match (&ty.kind, fact) {
        (TypeKind::Bool, Fact::Bool(b)) => Ok(vec![u8::from(b)]),
        (TypeKind::Int { signed }, Fact::Int(n)) => {
            fits(n, *signed).ok_or_else(|| call.fail(format!("{n} does not fit into {}", ty.name)))
        }
        (TypeKind::Int { signed }, Fact::Duration(ns)) => {
            fits(ns.into(), *signed).ok_or_else(wrong)
        }
        (TypeKind::Float, fact) => {
            let number = match fact {
                Fact::Float(x) => x,
                #[allow(clippy::cast_precision_loss, reason = "as Go converts a constant")]
                Fact::Int(n) => n as f64,
                _ => return Err(wrong()),
            };
            match size {
                #[allow(clippy::cast_possible_truncation, reason = "as Go converts it")]
                4 => Ok((number as f32).to_le_bytes().to_vec()),
                _ => Ok(number.to_le_bytes().to_vec()),
            }
        }
        (TypeKind::Pointer(_) | TypeKind::UnsafePointer, Fact::Nil) => Ok(vec![0; size]),
        (TypeKind::Pointer(_) | TypeKind::UnsafePointer, Fact::Int(n)) => {
            fits(n, false).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}
