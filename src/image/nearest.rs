//! Names much like one that does not exist.

use super::Image;
use super::pattern::is_linkers_own;

/// A name is near when at most a third of it differs.
const PART: usize = 3;
/// Longer patterns are not compared: nobody types them.
const MAX_LEN: usize = 512;

/// The `count` functions whose names differ least from `wanted`, nearest first.
///
/// Most names are dismissed by their letters alone: how many of them `wanted`
/// lacks is a lower bound of the edit distance.
pub(crate) fn names(image: &Image, wanted: &str, count: usize) -> Vec<String> {
    if wanted.is_empty() || wanted.len() > MAX_LEN {
        return Vec::new();
    }
    let letters = histogram(wanted.as_bytes());
    let mut bound = (wanted.len() / PART).max(1);
    let mut best: Vec<(usize, String)> = Vec::new();
    for function in image.functions().iter() {
        let whole = function.name();
        // People leave out the directory of the package.
        let forms = [
            Some(&*whole),
            short(&whole).filter(|_| !wanted.contains('/')),
        ];
        let near = forms.into_iter().flatten().filter_map(|form| {
            if missing(&letters, form.as_bytes(), wanted.len()) > bound {
                return None;
            }
            Some(strsim::damerau_levenshtein(wanted, form)).filter(|&d| d <= bound)
        });
        let Some(distance) = near.min() else { continue };
        if is_linkers_own(function.name_bytes()) {
            continue;
        }
        let name = whole.into_owned();
        if best.iter().any(|(_, known)| *known == name) {
            continue;
        }
        let place = best.partition_point(|(d, known)| (*d, known.len()) <= (distance, name.len()));
        best.insert(place, (distance, name));
        best.truncate(count);
        if best.len() == count {
            bound = best.last().map_or(bound, |(d, _)| *d);
        }
    }
    if best.is_empty() {
        return of_package(image, wanted, count);
    }
    best.into_iter().map(|(_, name)| name).collect()
}

/// Where nothing is near: the functions of the same package, nearest first.
fn of_package(image: &Image, wanted: &str, count: usize) -> Vec<String> {
    let Some((package, _)) = wanted.rsplit_once('.').filter(|(p, _)| !p.is_empty()) else {
        return Vec::new();
    };
    let mut found: Vec<(usize, String)> = Vec::new();
    for function in image.functions().iter() {
        let name = function.name();
        let rest = name.strip_prefix(package).and_then(|r| r.strip_prefix('.'));
        let plain = rest.is_some_and(|r| !r.contains(['.', '[']));
        if plain && !is_linkers_own(function.name_bytes()) {
            found.push((
                strsim::damerau_levenshtein(wanted, &name),
                name.into_owned(),
            ));
        }
    }
    found.sort();
    found.dedup();
    found
        .into_iter()
        .take(count)
        .map(|(_, name)| name)
        .collect()
}

/// The name without its package's directory.
fn short(name: &str) -> Option<&str> {
    // Type arguments in brackets have slashes of their own.
    let path = name.split('[').next().unwrap_or_default();
    name.get(path.rfind('/')? + 1..)
}

fn histogram(text: &[u8]) -> [i16; 256] {
    let mut counts = [0; 256];
    for &byte in text {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    counts
}

/// A lower bound of the distance: letters that one has and the other lacks.
fn missing(letters: &[i16; 256], form: &[u8], wanted: usize) -> usize {
    if form.len() > wanted.saturating_mul(2) + 1 {
        return usize::MAX;
    }
    let mut left = *letters;
    let mut common = 0;
    for &byte in form {
        if let Some(count) = left.get_mut(usize::from(byte)).filter(|c| **c > 0) {
            *count -= 1;
            common += 1;
        }
    }
    form.len().max(wanted) - common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_never_exceeds_the_distance() {
        let pairs = [
            ("net.(*conn).Raed", "net.(*conn).Read"),
            ("abc", "xyz"),
            ("main.f", "main.g"),
            ("aaaa", "aa"),
        ];
        for (a, b) in pairs {
            let bound = missing(&histogram(a.as_bytes()), b.as_bytes(), a.len());
            assert!(bound <= strsim::damerau_levenshtein(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_package_without_its_directory() {
        assert_eq!(short("net/http.(*conn).serve"), Some("http.(*conn).serve"));
        assert_eq!(short("a/b.F[c/d.T]"), Some("b.F[c/d.T]"));
        assert_eq!(short("main.F[c/d.T]"), None);
    }
}
