//! What a function takes and gives, from its DIE's formal parameters.
//!
//! A function whose body the compiler also inlines elsewhere has its names and
//! types on an abstract DIE; the one with the address refers to it entry by
//! entry (`DW_AT_abstract_origin`), and adds what the abstract one has not:
//! unnamed results (cmd/compile internal/dwarfgen/dwinl.go, Go 1.26).

use std::sync::Arc;

use gimli::AttributeValue;

use super::Dwarf;
use crate::addr::ImageAddr;
use crate::image::types::{Origin, Param, Signature, Source, Type, TypeId, TypeKind};
use crate::image::{ArgInfo, ArgShape, Function};

/// More parameters than any Go function has.
const MAX_PARAMS: usize = 512;

/// The type of a dictionary where DWARF leaves it out (up to Go 1.26): no DIE
/// begins at the last offset.
pub(super) const DICT: TypeId = TypeId(u32::MAX);

/// What a DIE of a parameter, or of a function, says.
#[derive(Debug, Default, Clone)]
struct Entry {
    /// Offset of its DIE.
    at: usize,
    name: Option<Arc<str>>,
    ty: Option<TypeId>,
    origin: Option<usize>,
    result: bool,
}

impl Dwarf {
    /// The signature of a function, when DWARF tells all of it: not for
    /// assembly, whose DIEs have no parameters, and not where the compiler left
    /// one out ([`Dwarf::omits_blank_params`]).
    pub fn signature_of(&self, function: &Function<'_>) -> Option<Signature> {
        if function.is_asm() {
            return None;
        }
        let signature = self.signature(&function.name(), function.entry())?;
        let whole = !self.omits_blank_params()
            || function
                .arg_info()
                .is_none_or(|info| fits(&signature, &info));
        whole.then_some(signature)
    }

    /// What the DIE of the function that begins at `entry` says; `name` as the
    /// pclntab has it says which package to look in first.
    /// [`Dwarf::signature_of`] knows when that is not the whole truth.
    pub fn signature(&self, name: &str, entry: ImageAddr) -> Option<Signature> {
        let at = self.find_function(name, entry)?;
        let (function, own) = self.read_function(at as usize)?;
        let formals = match function.origin {
            None => own,
            Some(origin) => self.with_origin(own, self.read_function(origin)?.1),
        };
        let mut params = Vec::new();
        let mut results = Vec::new();
        let mut seen: Vec<Arc<str>> = Vec::new();
        for formal in formals {
            // Where defers are compiled in, results are listed twice
            // (net.(*Dialer).DialContext, Go 1.26): Go has no two of one name.
            if let Some(name) = formal.name.as_ref().filter(|n| &***n != "_") {
                if seen.contains(name) {
                    continue;
                }
                seen.push(Arc::clone(name));
            }
            let param = Param {
                name: formal.name.filter(|n| is_written(n)),
                ty: formal.ty?,
            };
            if formal.result {
                results.push(param);
            } else {
                params.push(param);
            }
        }
        add_dictionary(name, &mut params);
        Some(Signature {
            params,
            results: Some(results),
            source: Source::Dwarf,
        })
    }

    /// Fills the entries that refer to the abstract function, and puts those
    /// that only it has where it has them.
    fn with_origin(&self, own: Vec<Entry>, origin: Vec<Entry>) -> Vec<Entry> {
        let mut out: Vec<Entry> = own
            .into_iter()
            .map(|entry| match entry.origin {
                None => entry,
                Some(at) => origin
                    .iter()
                    .find(|o| o.at == at)
                    .cloned()
                    .or_else(|| self.read_entry(at))
                    .unwrap_or(entry),
            })
            .collect();
        let mut next = 0;
        for entry in origin {
            if let Some(found) = out.iter().position(|o| o.at == entry.at) {
                next = found + 1;
            } else {
                out.insert(next.min(out.len()), entry);
                next += 1;
            }
        }
        out
    }

    /// A function's own DIE and its formal parameters, in order.
    fn read_function(&self, at: usize) -> Option<(Entry, Vec<Entry>)> {
        let die = self.find_die(at)?;
        let unit = die.unit;
        let mut entries = die.entries()?;
        let mut attributes = Vec::with_capacity(8);
        let mut function = None;
        let mut formals = Vec::new();
        while !entries.is_empty() && formals.len() < MAX_PARAMS {
            let depth = entries.next_depth();
            let here = unit.start.saturating_add(entries.next_offset().0);
            let Some(abbreviation) = entries.read_abbreviation().ok()? else {
                if entries.next_depth() <= 0 {
                    break;
                }
                continue;
            };
            let wanted = match abbreviation.tag() {
                gimli::DW_TAG_subprogram => depth == 0,
                gimli::DW_TAG_formal_parameter => depth == 1,
                _ => false,
            };
            if !wanted {
                if depth == 0 {
                    return None;
                }
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                continue;
            }
            entries
                .read_attributes(abbreviation.attributes(), &mut attributes)
                .ok()?;
            let entry = self.parse_entry(here, &attributes);
            if depth == 0 {
                function = Some(entry);
                if !abbreviation.has_children() {
                    break;
                }
            } else {
                formals.push(entry);
            }
        }
        Some((function?, formals))
    }

    fn read_entry(&self, at: usize) -> Option<Entry> {
        let (_, attributes) = self.read_die(at)?;
        Some(self.parse_entry(at, &attributes))
    }

    fn parse_entry(&self, at: usize, attributes: &[gimli::Attribute<super::Slice<'_>>]) -> Entry {
        let mut entry = Entry {
            at,
            ..Entry::default()
        };
        for attribute in attributes {
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_name, value) => {
                    entry.name = self.text(&value).map(|name| Arc::from(&*name));
                }
                (gimli::DW_AT_type, AttributeValue::DebugInfoRef(to)) => {
                    entry.ty = u32::try_from(to.0).ok().map(TypeId);
                }
                (gimli::DW_AT_abstract_origin, AttributeValue::DebugInfoRef(to)) => {
                    entry.origin = Some(to.0);
                }
                (gimli::DW_AT_variable_parameter, AttributeValue::Flag(is)) => entry.result = is,
                _ => {}
            }
        }
        entry
    }
}

/// True when a signature has as many parameters as the function's argument
/// info. Where it has not ([`Dwarf::omits_blank_params`]) registers must not be
/// assigned by it: what follows the missing one would be read from the wrong
/// place.
pub fn fits(signature: &Signature, info: &ArgInfo) -> bool {
    let is_dictionary = |p: &&Param| p.name.as_deref() == Some(".dict");
    let dictionaries = signature.params.iter().filter(is_dictionary).count();
    let given = signature.params.len().saturating_sub(dictionaries);
    match info.args.split_last() {
        Some((ArgShape::More, noted)) => given >= noted.len(),
        _ => given == info.args.len(),
    }
}

/// False for what the compiler made up for a parameter without a name: `~r0`,
/// `~p1`, `~b2`, and for `_`.
fn is_written(name: &str) -> bool {
    !(name.is_empty() || name == "_" || name.starts_with('~'))
}

/// The dictionary of an instance of a generic function is passed after the
/// receiver; DWARF names it from Go 1.27 on. Closures find theirs in what they
/// captured.
fn add_dictionary(name: &str, params: &mut Vec<Param>) {
    if params.iter().any(|p| p.name.as_deref() == Some(".dict")) {
        return;
    }
    let Some(place) = dictionary_place(name) else {
        return;
    };
    let dict = Param {
        name: Some(Arc::from(".dict")),
        ty: DICT,
    };
    params.insert(place.min(params.len()), dict);
}

/// Which parameter the dictionary is: none for what is not an instance over
/// shapes, or is a closure inside one.
fn dictionary_place(name: &str) -> Option<usize> {
    let open = name.find("[go.shape.").or_else(|| {
        let at = name.find('[')?;
        name.get(at..)?.contains("go.shape.").then_some(at)
    })?;
    let tail = name.get(open..)?;
    let mut depth = 0_u32;
    let mut end = tail.len();
    for (at, c) in tail.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    end = at + 1;
                    break;
                }
            }
            _ => {}
        }
    }
    // `(*L[…]).Put`, `L[…].Get`; what has more dots is a closure inside one.
    let rest = tail.get(end..)?;
    let inside_receiver = rest.starts_with(')');
    match rest.trim_start_matches(')') {
        "" => Some(0),
        method => {
            let method = method.strip_prefix('.')?;
            let closure = method.contains('.') || (!inside_receiver && is_closure(method));
            (!closure).then_some(1)
        }
    }
}

/// `func1`, `func2-range1`, `gowrap1`, `deferwrap1`: names the compiler makes.
fn is_closure(method: &str) -> bool {
    ["func", "gowrap", "deferwrap"].iter().any(|prefix| {
        method
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// The type of a dictionary: a pointer-sized word.
pub(super) fn dictionary_type() -> Type {
    Type {
        name: Arc::from("uintptr"),
        size: 8,
        kind: TypeKind::Int { signed: false },
        origin: Origin::Builtin,
    }
}

#[cfg(test)]
mod tests {
    use super::dictionary_place;

    #[test]
    fn the_dictionary_comes_after_the_receiver() {
        for (name, place) in [
            ("main.gen[go.shape.int]", Some(0)),
            (
                "main.gen[go.shape.[]uint8,go.shape.map[string]int]",
                Some(0),
            ),
            ("main.(*L[go.shape.string,go.shape.int]).Put", Some(1)),
            ("main.L[go.shape.string].Get", Some(1)),
            ("main.gen[go.shape.int].func1", None),
            ("main.(*L[go.shape.string]).Put.func1", None),
            ("net/http.(*ServeMux).m.Keys[go.shape.int].func1", None),
            ("main.gen[int]", None),
            ("main.main", None),
        ] {
            assert_eq!(dictionary_place(name), place, "{name}");
        }
    }
}
