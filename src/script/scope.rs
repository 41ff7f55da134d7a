//! The variables of a place in a program, by its debug information, as
//! expressions ask for them: before the place is reached, and there.

use std::sync::Arc;

use super::operand::Stopped;
use super::program::Scope;
use crate::image::Image;
use crate::image::dwarf::{Dwarf, PackageName, ScopePc, package_of};
use crate::image::types::{TypeId, TypeKind, TypeTable};
use crate::value::frame::{FrameVariables, Variables};
use crate::value::held::Held;

/// The variables that a statement at a pc can name.
pub struct DwarfScope<'a> {
    dwarf: &'a Dwarf,
    /// The function's package: its variables need no prefix.
    package: String,
    /// Outer blocks first; a later one of a name hides the earlier.
    locals: Vec<(Arc<str>, TypeId)>,
}

impl<'a> DwarfScope<'a> {
    /// Of the function at a place, or of the `depth`th body around the innermost
    /// that is inlined there. Where DWARF knows no function, only full names of
    /// package-level variables are known.
    pub fn at(image: &Image, dwarf: &'a Dwarf, pc: ScopePc, depth: usize) -> DwarfScope<'a> {
        let mut scope = DwarfScope {
            dwarf,
            package: String::new(),
            locals: Vec::new(),
        };
        let (Some(function), Some(source)) = (
            image.functions().find(pc.at),
            image.frames_at(pc.at).into_iter().nth(depth),
        ) else {
            return scope;
        };
        package_of(&source.function).clone_into(&mut scope.package);
        let frames = dwarf.scope_at(&function.name(), function.entry(), pc);
        let own = frames.get(depth).filter(|f| f.inlined == source.inlined);
        for (local, _) in own.map(|f| f.visible(source.line)).unwrap_or_default() {
            let ty = match dwarf.get(local.ty).kind {
                TypeKind::Pointer(to) if local.escaped => to,
                _ => local.ty,
            };
            scope.locals.push((Arc::clone(&local.name), ty));
        }
        scope
    }

    /// Of a function of `package` with these variables.
    pub fn of(dwarf: &'a Dwarf, package: &str, locals: Vec<(Arc<str>, TypeId)>) -> DwarfScope<'a> {
        DwarfScope {
            dwarf,
            package: package.to_owned(),
            locals,
        }
    }

    /// The same with the package of another function, where that one is known
    /// by name alone (`main.`: of package main).
    #[must_use]
    pub fn in_package(mut self, function: &str) -> DwarfScope<'a> {
        package_of(function).clone_into(&mut self.package);
        self
    }

    /// The function's package.
    pub fn package(&self) -> &str {
        &self.package
    }
}

impl Scope for DwarfScope<'_> {
    fn variable(&self, name: &str) -> Option<TypeId> {
        if let Some((_, ty)) = self.locals.iter().rfind(|(known, _)| **known == *name) {
            return Some(*ty);
        }
        match find_package_name(self.dwarf, &self.package, name)?.1 {
            PackageName::Variable(v) => Some(v.ty),
            PackageName::Constant(c) => Some(c.ty),
        }
    }

    fn types(&self) -> &dyn TypeTable {
        self.dwarf
    }

    fn find_type(&self, text: &str) -> Option<TypeId> {
        find_type(self.dwarf, &self.package, text)
    }

    fn own_names(&self) -> Vec<String> {
        self.locals.iter().map(|(n, _)| n.to_string()).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.locals.iter().map(|(n, _)| n.to_string()).collect();
        let prefix = format!("{}.", self.package);
        let own = |name: &str| {
            name.strip_prefix(&prefix)
                .is_some_and(|rest| !rest.contains(['.', '/']))
        };
        if !self.package.is_empty() {
            let found = self.dwarf.package_names_in(&self.package, &own);
            let short = found.iter().filter_map(|(n, _)| n.strip_prefix(&prefix));
            names.extend(short.map(str::to_owned));
        }
        names
    }
}

/// A variable or constant of a package, and its full name: `name` is a bare one
/// of the package `own`, a full one, or one with a package's short name where
/// one package alone has it.
fn find_package_name(dwarf: &Dwarf, own: &str, name: &str) -> Option<(String, PackageName)> {
    let find = |full: String| dwarf.package_name_of(&full).map(|found| (full, found));
    let Some((package, rest)) = name.rsplit_once('.') else {
        return find(format!("{own}.{name}"));
    };
    find(name.to_owned()).or_else(|| {
        let paths = dwarf.packages_named(package);
        let mut all = paths
            .iter()
            .filter_map(|path| find(format!("{path}.{rest}")));
        all.next().filter(|_| all.next().is_none())
    })
}

/// A type by its name in the source of package `own`: every name of a package
/// is put in full, as DWARF has it.
fn find_type(dwarf: &Dwarf, own: &str, text: &str) -> Option<TypeId> {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | '%' | '-');
    let mut full = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if !word(first) {
            full.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or("");
            continue;
        }
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (name, more) = rest.split_at(end);
        rest = more;
        if matches!(name, "any" | "interface") {
            // The linker writes the empty interface so; its braces follow or not.
            full.push_str("interface {}");
            rest = rest.trim_start().strip_prefix("{}").unwrap_or(rest);
            continue;
        }
        if dwarf.find_type(name).is_some() || name.contains('/') {
            full.push_str(name);
            continue;
        }
        let candidates = match name.split_once('.') {
            Some((package, ident)) => dwarf
                .packages_named(package)
                .into_iter()
                .map(|path| format!("{path}.{ident}"))
                .collect(),
            None => vec![format!("{own}.{name}")],
        };
        let found = candidates.iter().find(|c| dwarf.find_type(c).is_some());
        full.push_str(found.map_or(name, String::as_str));
    }
    dwarf.find_type(text).or_else(|| dwarf.find_type(&full))
}

/// A package's variable or constant as code of `function` names it.
pub fn package_variable(
    variables: &Variables<'_>,
    function: &str,
    name: &str,
) -> Option<(TypeId, Held)> {
    let (_, found) = find_package_name(variables.dwarf, package_of(function), name)?;
    let variable = variables.of_package(name, found);
    Some((variable.ty, variable.held))
}

/// A frame that the program has reached, for [`super::Facts::program`].
pub struct StoppedFrame<'a> {
    /// What reads variables.
    pub variables: Variables<'a>,
    /// The frame's own.
    pub frame: &'a FrameVariables,
}

impl Stopped for StoppedFrame<'_> {
    fn held(&self, name: &str) -> Option<(TypeId, Held)> {
        let own = self.frame.variables.iter().rfind(|v| *v.name == *name);
        if let Some(variable) = own {
            return Some((variable.ty, variable.held.clone()));
        }
        package_variable(&self.variables, &self.frame.source.function, name)
    }

    fn variables(&self) -> &Variables<'_> {
        &self.variables
    }
}
