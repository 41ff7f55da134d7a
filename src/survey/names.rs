//! Places in the source and stacks, each kept once: a program has millions of
//! goroutines and some hundred stacks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Index of a [`Place`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PlaceId(pub u32);

/// Index of a stack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StackId(pub u32);

/// A place in the source.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The function.
    pub func: Arc<str>,
    /// Its file; empty when that is not known.
    pub file: Arc<str>,
    /// The line; 0 when that is not known.
    pub line: u32,
}

/// A frame of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Line {
    /// Where.
    pub place: PlaceId,
    /// The body is part of the next frame's function.
    pub inlined: bool,
    /// A wrapper that the compiler made; people are not shown it.
    pub hidden: bool,
    /// Bytes from the function's entry to the pc; of inlined bodies 0.
    pub offset: u32,
    /// The pc, in the program's own memory.
    pub pc: u64,
}

/// Places and stacks.
#[derive(Clone, Debug, Default)]
pub struct Names {
    places: Vec<Place>,
    place_ids: HashMap<Place, PlaceId>,
    stacks: Vec<Arc<[Line]>>,
    stack_ids: HashMap<Arc<[Line]>, StackId>,
    texts: HashSet<Arc<str>>,
}

impl Names {
    /// The id of a place.
    pub fn place(&mut self, func: &str, file: &str, line: u32) -> PlaceId {
        let place = Place {
            func: self.text(func),
            file: self.text(file),
            line,
        };
        if let Some(id) = self.place_ids.get(&place) {
            return *id;
        }
        let id = PlaceId(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        self.places.push(place.clone());
        self.place_ids.insert(place, id);
        id
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }

    /// The id of a stack.
    pub fn stack(&mut self, lines: Vec<Line>) -> StackId {
        if let Some(id) = self.stack_ids.get(lines.as_slice()) {
            return *id;
        }
        let id = StackId(u32::try_from(self.stacks.len()).unwrap_or(u32::MAX));
        let lines: Arc<[Line]> = lines.into();
        self.stacks.push(lines.clone());
        self.stack_ids.insert(lines, id);
        id
    }

    /// The place with this id.
    pub fn get(&self, id: PlaceId) -> Option<&Place> {
        self.places.get(id.0 as usize)
    }

    /// The stack with this id, innermost frame first.
    pub fn lines(&self, id: StackId) -> &[Line] {
        self.stacks.get(id.0 as usize).map_or(&[], |s| s)
    }

    /// The place of an optional id.
    pub fn find(&self, id: Option<PlaceId>) -> Option<&Place> {
        self.get(id?)
    }
}

/// The import path of a function's package: `net/http.(*conn).serve` →
/// `net/http`.
pub fn package(func: &str) -> &str {
    let base = func.rfind('/').map_or(0, |at| at + 1);
    // Type arguments have slashes of their own.
    let base = match func.find('[') {
        Some(bracket) if bracket < base => func
            .get(..bracket)
            .and_then(|head| head.rfind('/'))
            .map_or(0, |at| at + 1),
        _ => base,
    };
    let rest = func.get(base..).unwrap_or_default();
    let end = rest.find('.').map_or(func.len(), |dot| base + dot);
    func.get(..end).unwrap_or(func)
}

/// Whether a package is of Go's standard library: no dot in its first element
/// and none of `modules`, the program's own.
pub fn is_standard(package: &str, modules: &[String]) -> bool {
    if package == "main" || package.is_empty() {
        return package.is_empty();
    }
    let first = package.split('/').next().unwrap_or_default();
    let of_module = |m: &String| {
        package
            .strip_prefix(m.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !first.contains('.') && !modules.iter().any(of_module)
}
