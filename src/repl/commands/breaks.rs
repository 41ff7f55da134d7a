//! ```text
//! break [NAME] LOCATION [if CONDITION] [{ COMMANDS }]              alias: b
//! ```
//!
//! Stops the whole target when a thread comes to a place, until `continue`. The
//! location is a function, a line (`server.go:88`; of the file of the stop `88`
//! and, from its line on, `+3`), an instruction (`*0x45f2a0`), or a regular
//! expression of functions between slashes. A function's calls stop where it is
//! entered, with the arguments as they came; one that is built without
//! optimisation behind its prologue.
//!
//! The condition is tested at each hit, and only a hit that meets it stops the
//! target. It names the variables in scope there (`req.ID == 42`), and at an
//! entry the arguments and the facts of a call that begins: `goid`, `tid`,
//! `func`, `fd`, `local`, `remote`, `len`. What is known at a call's end (`dur`,
//! `n`, `err`) is refused. A condition that goes wrong at a hit is told once,
//! `breakpoints` shows it, and the target runs on.
//!
//! The block is run at each stop; `continue` in it lets the target go on, and in
//! a script it goes on behind the block in any case. To record calls without
//! stopping anything there is `trace`. A stop that nobody ends:
//! `config max-stop 5s`.
//!
//! ```text
//!     break main.(*Server).handle if req.ID == 42 { locals; goroutines -group state; continue }
//! ```

use std::fmt::Write as _;

use crate::repl::compile::compile;
use crate::repl::points::Tracepoint;
use crate::repl::shell::Shell;
use crate::script::command::{Location, Place, Point};
use crate::script::{ExprError, Span};
use crate::value::escaped;

/// Sets one.
pub fn run(shell: &mut Shell, point: &Point, span: Span) -> Result<(), ExprError> {
    let (mut made, compiled) = ready(shell, point, span, "there is nothing to stop")?;
    let (verb, refused) = (made.point.strength.verb(), compiled.refused);
    made.rule = shell.copies.rule_for(&made.point);
    let target = shell.source.target.clone();
    let mut text = String::new();
    for place in &made.places {
        let live = target.bias.live(place.at);
        let source = shell.place_at(live);
        let at = source.map_or_else(String::new, |p| {
            format!("for {} {}:{}", p.function, shell.near(&p.file), p.line)
        });
        let line = format!("{} {} set at {live} {at}", made.title(), made.label());
        let _ = writeln!(text, "{}", escaped(line.trim_end()));
    }
    set(shell, made, span)?;
    for line in refused.iter().take(3) {
        let _ = writeln!(text, "  {line}");
    }
    shell.tell(verb, &text);
    Ok(())
}

/// What was said of how a point is set.
pub(super) struct Told {
    /// Sites in all.
    pub entries: usize,
    /// The same.
    pub returns: usize,
    /// What is not armed, and why.
    pub refused: Vec<String>,
}

/// A point of any strength made ready for a program that runs, under the next number.
pub(super) fn ready(
    shell: &Shell,
    point: &Point,
    span: Span,
    nothing: &str,
) -> Result<(Tracepoint, Told), ExprError> {
    let fail = |message: String| ExprError::new(span, message);
    if shell.source.pid.is_none() {
        return Err(fail(format!("a core file runs no code: {nothing}")));
    }
    if let Some(name) = &point.name
        && shell.points().find(&name.text).is_some()
    {
        return Err(ExprError::new(
            name.span,
            format!("there is a point `{}` already", name.text),
        ));
    }
    let mut point = point.clone();
    from_here(shell, &mut point.location)?;
    let target = shell.source.target.clone();
    let mut compiled = compile(Some(&target), &point).map_err(|errors| {
        let first = errors.into_iter().next();
        first.unwrap_or_else(|| fail("it cannot be set".into()))
    })?;
    let told = Told {
        entries: compiled.entries,
        returns: compiled.returns,
        refused: std::mem::take(&mut compiled.refused),
    };
    let id = shell.points().next_id();
    Ok((Tracepoint::new(id, point, compiled), told))
}

/// Adds it and arms it, or leaves all as it was.
pub(super) fn set(shell: &mut Shell, made: Tracepoint, span: Span) -> Result<(), ExprError> {
    let id = made.id;
    shell.points().add(made);
    if let Err(error) = shell.apply_points() {
        shell.points().remove(|p| p.id == id);
        let _ = shell.apply_points();
        return Err(ExprError::new(span, error));
    }
    Ok(())
}

/// A line alone counts from where the target stands.
pub fn from_here(shell: &Shell, location: &mut Location) -> Result<(), ExprError> {
    let span = location.span;
    let standing = shell.standing.as_ref().and_then(|s| s.place.as_ref());
    let line = match (&location.place, standing) {
        (Place::Line(line), Some(_)) => *line,
        (Place::Offset(by), Some(here)) => u32::try_from(i64::from(here.line).saturating_add(*by))
            .map_err(|_| ExprError::new(span, "there is no such line"))?,
        _ => return Ok(()),
    };
    if let Some(here) = standing {
        location.place = Place::Named(here.file.clone(), Some(line));
    }
    Ok(())
}
