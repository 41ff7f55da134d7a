//! Package-level variables and constants, by name.

use gimli::AttributeValue;

use super::units::Unit;
use super::{Dwarf, Slice, Variable, names};
use crate::addr::ImageAddr;
use crate::image::types::TypeId;

/// A constant of a package: the compiler keeps those of integer types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Constant {
    /// Its type.
    pub ty: TypeId,
    /// Its value, sign extended.
    pub value: i64,
}

/// What a name of a package stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackageName {
    /// A variable.
    Variable(Variable),
    /// A constant.
    Constant(Constant),
}

impl Dwarf {
    /// A package-level variable by its full name (`runtime.allglen`).
    pub fn variable(&self, name: &str) -> Option<Variable> {
        match self.package_name_of(name)? {
            PackageName::Variable(variable) => Some(variable),
            PackageName::Constant(_) => None,
        }
    }

    /// A package-level variable or constant by its full name
    /// (`net/http.DefaultClient`).
    pub fn package_name_of(&self, name: &str) -> Option<PackageName> {
        let package = names::package_of(name);
        self.units.named(package).find_map(|unit| {
            let mut found = None;
            self.walk_names(unit, &|known| known == name, &mut |_, what| {
                found = Some(what);
                false
            });
            found
        })
    }

    /// Import paths of the packages whose name is `short` (`http`): a
    /// variable may be named by it.
    pub fn packages_named(&self, short: &str) -> Vec<&str> {
        let known = self.units.list.iter().filter(|unit| unit.go);
        let named = known.filter(|unit| {
            let last = unit.name.rsplit('/').next().unwrap_or("");
            unit.package.as_deref().unwrap_or(last) == short
        });
        let mut paths: Vec<&str> = named.map(|unit| &*unit.name).collect();
        paths.dedup();
        paths
    }

    /// Variables and constants of all packages whose full name `matches`, in
    /// the order of packages. Walks every package.
    pub fn package_names(&self, matches: &dyn Fn(&str) -> bool) -> Vec<(String, PackageName)> {
        let mut found = Vec::new();
        for unit in self.units.list.iter().filter(|unit| unit.go) {
            self.walk_names(unit, matches, &mut |name, what| {
                found.push((name.to_owned(), what));
                true
            });
        }
        found
    }

    /// The same of one package, by its import path.
    pub fn package_names_in(
        &self,
        package: &str,
        matches: &dyn Fn(&str) -> bool,
    ) -> Vec<(String, PackageName)> {
        let mut found = Vec::new();
        for unit in self.units.named(package) {
            self.walk_names(unit, matches, &mut |name, what| {
                found.push((name.to_owned(), what));
                true
            });
        }
        found
    }

    /// Shows what a unit declares until `see` says false.
    fn walk_names(
        &self,
        unit: &Unit,
        matches: &dyn Fn(&str) -> bool,
        see: &mut dyn FnMut(&str, PackageName) -> bool,
    ) {
        // What was read before a broken entry is still good.
        let _ = self.walk_top(unit, |_, tag, attributes| {
            if !matches!(tag, gimli::DW_TAG_variable | gimli::DW_TAG_constant) {
                return true;
            }
            let name = attributes.iter().find(|a| a.name() == gimli::DW_AT_name);
            let Some(name) = name.and_then(|a| self.text(&a.value())) else {
                return true;
            };
            if !matches(&name) {
                return true;
            }
            match self.parse_package_name(unit, attributes) {
                Some(what) => see(&name, what),
                None => true,
            }
        });
    }

    fn parse_package_name(
        &self,
        unit: &Unit,
        attributes: &[gimli::Attribute<Slice<'_>>],
    ) -> Option<PackageName> {
        let mut ty = None;
        let mut at = None;
        let mut value = None;
        for attribute in attributes {
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_type, AttributeValue::DebugInfoRef(to)) => ty = Some(to.0),
                (gimli::DW_AT_location, AttributeValue::Block(block)) => {
                    at = self.location(unit, block);
                }
                (gimli::DW_AT_location, AttributeValue::Exprloc(e)) => {
                    at = self.location(unit, e.0);
                }
                (gimli::DW_AT_const_value, given) => value = given.sdata_value(),
                _ => {}
            }
        }
        let ty = TypeId(u32::try_from(ty?).ok()?);
        match (at, value) {
            (Some(at), _) => Some(PackageName::Variable(Variable { at, ty })),
            (None, Some(value)) => Some(PackageName::Constant(Constant { ty, value })),
            (None, None) => None,
        }
    }

    fn location(&self, unit: &Unit, block: Slice<'_>) -> Option<ImageAddr> {
        let mut ops = gimli::Expression(block).operations(unit.encoding);
        match ops.next().ok()?? {
            gimli::Operation::Address { address } => Some(ImageAddr(address)),
            gimli::Operation::AddressIndex { index } => self
                .address(unit, &AttributeValue::DebugAddrIndex(index))
                .map(ImageAddr),
            _ => None,
        }
    }
}
