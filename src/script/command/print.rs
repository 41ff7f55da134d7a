//! The printed form of commands, which parses back to the same tree.

use std::fmt::{self, Write as _};

use super::{Command, Point, Script, Statement, Test, Word};
use crate::script::ast::Literal;

/// A word, in quotes where it needs them.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if super::reader::is_plain_word(self.0) {
            f.write_str(self.0)
        } else {
            write!(f, "{}", Literal::Str(self.0.to_owned()))
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted(&self.text).fmt(f)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(f, &self.statements, 0)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        command(f, &self.command, 0)
    }
}

fn lines(f: &mut fmt::Formatter<'_>, statements: &[Statement], depth: usize) -> fmt::Result {
    for one in statements {
        indent(f, depth)?;
        command(f, &one.command, depth)?;
        f.write_char('\n')?;
    }
    Ok(())
}

fn indent(f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    (0..depth).try_for_each(|_| f.write_str("    "))
}

fn block(f: &mut fmt::Formatter<'_>, statements: &[Statement], depth: usize) -> fmt::Result {
    f.write_str(" {\n")?;
    lines(f, statements, depth + 1)?;
    indent(f, depth)?;
    f.write_char('}')
}

fn command(f: &mut fmt::Formatter<'_>, command: &Command, depth: usize) -> fmt::Result {
    f.write_str(command.verb().name())?;
    match command {
        Command::Point(found) => point(f, found, depth),
        Command::Every(ns, inner) => {
            write!(f, " {}", Literal::Duration(*ns))?;
            block(f, inner, depth)
        }
        Command::For(ns) => write!(f, " {}", Literal::Duration(*ns)),
        Command::OnExit(inner) => {
            f.write_str(" exit")?;
            block(f, inner, depth)
        }
        Command::On(id, inner) => {
            write!(f, " {id}")?;
            block(f, inner, depth)
        }
        Command::Condition(id, test) => match test {
            Test::Holds(expr) => write!(f, " {id} {expr}"),
            Test::Hits(op, n) => write!(f, " -hitcount {id} {} {n}", op.as_str()),
            Test::HitsPerGoroutine(op, n) => {
                write!(f, " -per-g-hitcount {id} {} {n}", op.as_str())
            }
            Test::Cleared => write!(f, " -clear {id}"),
        },
        Command::Print(exprs) => {
            for (i, expr) in exprs.iter().enumerate() {
                let before = if i == 0 { " " } else { ", " };
                write!(f, "{before}{expr}")?;
            }
            Ok(())
        }
        Command::Whatis(expr) => write!(f, " {expr}"),
        Command::StopOnError => f.write_str(" -e"),
        Command::Plain(_, words, then) => {
            for word in words {
                write!(f, " {word}")?;
            }
            match then {
                Some(then) => {
                    f.write_char(' ')?;
                    self::command(f, &then.command, depth)
                }
                None => Ok(()),
            }
        }
    }
}

fn point(f: &mut fmt::Formatter<'_>, point: &Point, depth: usize) -> fmt::Result {
    if let Some(count) = point.copies.count {
        write!(f, " -count {count}")?;
    }
    if point.copies.consistent {
        f.write_str(" -consistent")?;
    }
    if let Some(name) = &point.name {
        write!(f, " {name}")?;
    }
    write!(f, " {}", point.location)?;
    if let Some(condition) = &point.condition {
        write!(f, " if {condition}")?;
    }
    match &point.actions {
        Some(actions) => block(f, actions, depth),
        None => Ok(()),
    }
}
