//! The built-in table: declarations of the functions of the standard library
//! that people trace, and of the types whose layout their calls need.
//!
//! `builtin.txt` is made by `table/generate.go` from the source of Go itself.
//! Its lines are sorted; where versions differ, each variant carries the minor
//! versions that it holds for: `@-19`, `@20-22,24-`.

use std::sync::OnceLock;

use crate::image::rtti::RttiTypes;
use crate::image::signature::parse::{Decl, Expr, Named, parse_type};
use crate::image::signature::shape;
use crate::image::types::{Field, Param, Signature, Source, TypeId, TypeKind, TypeTable};
use crate::memory::Memory;

/// Levels of types within types that are resolved.
const MAX_DEPTH: u32 = 12;

fn lines() -> &'static [&'static str] {
    static LINES: OnceLock<Vec<&'static str>> = OnceLock::new();
    LINES.get_or_init(|| include_str!("builtin.txt").lines().collect())
}

/// The line that begins with `prefix` and holds for Go 1.`minor`, without its
/// version range. For a version that no variant holds for, the newest.
fn line(prefix: &str, minor: u32) -> Option<&'static str> {
    let lines = lines();
    let first = lines.partition_point(|line| *line < prefix);
    let same = lines
        .get(first..)?
        .iter()
        .take_while(|line| line.starts_with(prefix));
    let mut newest = None;
    for line in same {
        let (text, versions) = line.rsplit_once(" @").unwrap_or((line, "-"));
        if holds(versions, minor) {
            return Some(text);
        }
        if newest.is_none() || versions.ends_with('-') {
            newest = Some(text);
        }
    }
    newest
}

/// `versions` is a list of ranges with open ends: `-19`, `20-22,24-`.
fn holds(versions: &str, minor: u32) -> bool {
    versions.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first = first.parse().unwrap_or(0);
        let last = last.parse().unwrap_or(u32::MAX);
        (first..=last).contains(&minor)
    })
}

/// The functions of the table, one for each variant.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let functions = lines()
        .iter()
        .filter(|l| !l.starts_with("type ") && !l.starts_with("package "));
    functions.filter_map(|l| Some(Decl::parse(l.rsplit_once(" @").map_or(*l, |(t, _)| t))?.name))
}

/// The signature of the function that pclntab calls `name`, for Go 1.`minor`.
/// Types are the program's own where it has descriptors of them.
pub fn signature<M: Memory>(types: &RttiTypes<M>, name: &str, minor: u32) -> Option<Signature> {
    let decl = Decl::parse(line(&format!("{name}("), minor)?)?;
    (decl.name == name).then_some(())?;
    let resolver = Resolver { types, minor };
    let params = |list: &[Named<'_>]| -> Option<Vec<Param>> {
        let param = |p: &Named<'_>| {
            let name = (p.name != "_").then(|| p.name.into());
            Some(Param {
                name,
                ty: resolver.resolve(&p.ty, 0)?,
            })
        };
        list.iter().map(param).collect()
    };
    Some(Signature {
        params: params(&decl.params)?,
        results: Some(params(&decl.results)?),
        source: Source::Builtin,
    })
}

/// Makes types of expressions.
struct Resolver<'a, M> {
    types: &'a RttiTypes<M>,
    minor: u32,
}

impl<M: Memory> Resolver<'_, M> {
    /// `None` where a size would be needed that nobody knows.
    fn resolve(&self, expr: &Expr<'_>, depth: u32) -> Option<TypeId> {
        (depth < MAX_DEPTH).then_some(())?;
        let depth = depth.saturating_add(1);
        let (size, kind) = match expr {
            Expr::Name(name) => return self.named(name, depth),
            Expr::Pointer(elem) => (8, TypeKind::Pointer(self.behind(elem, depth))),
            Expr::Slice(elem) => (24, TypeKind::Slice(self.behind(elem, depth))),
            Expr::Chan(_, elem) => (8, TypeKind::Chan(self.behind(elem, depth))),
            Expr::Map(key, value) => {
                let (key, value) = (self.behind(key, depth), self.behind(value, depth));
                (8, TypeKind::Map { key, value })
            }
            Expr::Func(_) => (8, TypeKind::Func),
            Expr::Interface { empty } => (16, TypeKind::Interface { empty: *empty }),
            Expr::Array(len, elem) => {
                let elem = self.resolve(elem, depth)?;
                let size = self.types.get(elem).size.checked_mul(*len)?;
                (size, TypeKind::Array { elem, len: *len })
            }
            Expr::Struct(fields) => self.structure(fields, depth)?,
        };
        Some(self.types.make(&expr.text(), size, kind))
    }

    /// A type behind a pointer: its layout is not needed for the call.
    fn behind(&self, expr: &Expr<'_>, depth: u32) -> TypeId {
        let known = match expr {
            // Not from the table: types refer to themselves through pointers.
            Expr::Name(name) if depth > 3 => basic(self.types, name).or_else(|| self.found(name)),
            _ => self.resolve(expr, depth),
        };
        known.unwrap_or_else(|| self.types.make(&expr.text(), 0, TypeKind::Opaque))
    }

    fn named(&self, name: &str, depth: u32) -> Option<TypeId> {
        if let Some(id) = basic(self.types, name).or_else(|| self.found(name)) {
            return Some(id);
        }
        let row = line(&format!("type {name} = "), self.minor)?;
        let underlying = parse_type(row.split_once(" = ")?.1)?;
        let id = self.resolve(&underlying, depth)?;
        let (size, kind) = (self.types.get(id).size, self.types.get(id).kind.clone());
        Some(self.types.make(name, size, kind))
    }

    /// The program's own descriptor of a named type.
    fn found(&self, name: &str) -> Option<TypeId> {
        let package = name.split_once('.')?.0;
        let row = line(&format!("package {package} = "), self.minor);
        let path = row
            .and_then(|row| Some(row.split_once(" = ")?.1))
            .unwrap_or(package);
        self.types.find_listed(path, name)
    }

    fn structure(&self, fields: &[Named<'_>], depth: u32) -> Option<(u64, TypeKind)> {
        let (mut at, mut align, mut last) = (0_u64, 1, 1);
        let mut placed = Vec::new();
        for field in fields {
            let ty = self.resolve(&field.ty, depth)?;
            let part = shape::shape(self.types, ty)?;
            at = at.checked_next_multiple_of(part.align())?;
            placed.push(Field {
                name: field.name.into(),
                offset: at,
                ty,
                embedded: field.embedded,
            });
            last = part.size();
            at = at.checked_add(last)?;
            align = align.max(part.align());
        }
        // A last field without bytes is given one, so that its address does
        // not lie behind the struct (types/size.go, CalcStructSize).
        if last == 0 && at > 0 {
            at = at.checked_add(1)?;
        }
        Some((
            at.checked_next_multiple_of(align)?,
            TypeKind::Struct(placed),
        ))
    }
}

/// The predeclared types.
fn basic<M: Memory>(types: &RttiTypes<M>, name: &str) -> Option<TypeId> {
    let int = |signed| TypeKind::Int { signed };
    let (name, size, kind) = match name {
        "bool" => (name, 1, TypeKind::Bool),
        "int" | "int64" => (name, 8, int(true)),
        "uint" | "uint64" | "uintptr" => (name, 8, int(false)),
        "int32" => (name, 4, int(true)),
        "rune" => ("int32", 4, int(true)),
        "uint32" => (name, 4, int(false)),
        "int16" => (name, 2, int(true)),
        "uint16" => (name, 2, int(false)),
        "int8" => (name, 1, int(true)),
        "byte" | "uint8" => ("uint8", 1, int(false)),
        "float32" => (name, 4, TypeKind::Float),
        "float64" => (name, 8, TypeKind::Float),
        "complex64" => (name, 8, TypeKind::Complex),
        "complex128" => (name, 16, TypeKind::Complex),
        "string" => (name, 16, TypeKind::String),
        "error" => (name, 16, TypeKind::Interface { empty: false }),
        "any" => ("interface {}", 16, TypeKind::Interface { empty: true }),
        "unsafe.Pointer" => (name, 8, TypeKind::UnsafePointer),
        _ => return None,
    };
    Some(types.make(name, size, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_line_is_read() {
        assert!(lines().is_sorted());
        for line in lines() {
            let text = line.rsplit_once(" @").map_or(*line, |(text, _)| text);
            if text.starts_with("package ") {
                continue;
            }
            let read = match text.strip_prefix("type ") {
                Some(row) => row
                    .split_once(" = ")
                    .and_then(|(_, ty)| parse_type(ty))
                    .is_some(),
                None => Decl::parse(text).is_some(),
            };
            assert!(read, "{line}");
        }
    }

    #[test]
    fn variants_hold_for_their_versions() {
        let dial = |minor| line("net.(*netFD).dial(", minor).unwrap_or("");
        assert!(dial(19).contains("ctrlFn func()"), "{}", dial(19));
        assert!(dial(20).contains("ctrlCtxFn func()"), "{}", dial(20));
        assert_eq!(dial(u32::MAX), dial(27));
        assert!(holds("-19", 1) && !holds("-19", 20));
        assert!(holds("20-22,24-", 30) && !holds("20-22,24-", 23));
    }
}
