//! What patterns name, on a stripped program.

use super::fixture::{Build, open};
use crate::image::{Limits, PatternError, resolve};

fn names(patterns: &[&str]) -> Vec<String> {
    let image = open(Build::Stripped);
    resolve(&image, patterns, &Limits::default())
        .unwrap()
        .iter()
        .map(|m| m.function.name().into_owned())
        .collect()
}

fn error(pattern: &str) -> PatternError {
    let image = open(Build::Stripped);
    resolve(&image, &[pattern], &Limits::default()).unwrap_err()
}

#[test]
fn an_exact_name_means_itself_only() {
    assert_eq!(names(&["main.main"]), ["main.main"]);
    assert_eq!(names(&["main.(*inner).Add"]), ["main.(*inner).Add"]);
    assert_eq!(names(&["main.inner.Add"]), ["main.(*inner).Add"]);
    assert_eq!(names(&["dot.v2.Twice"]), ["example.com/image/dot.v2.Twice"]);
    // The body, not the wrapper for assembly that shares its name.
    let image = open(Build::Stripped);
    let found = resolve(&image, &["runtime.main"], &Limits::default()).unwrap();
    assert!(found.iter().all(|m| m.exact && !m.function.is_wrapper()));
}

#[test]
fn expressions_are_unanchored_and_pass_over_generated_functions() {
    let found = names(&["^main\\..*Add"]);
    assert!(found.contains(&"main.(*inner).Add".to_owned()), "{found:?}");
    assert!(
        !found.contains(&"main.(*outer).Add".to_owned()),
        "{found:?}"
    );
    assert!(names(&["main"]).iter().all(|n| !n.starts_with("type:")));
    assert_eq!(names(&["main.(*outer).Add"]), ["main.(*outer).Add"]);
    assert!(matches!(
        error(r"^main\.\(\*outer\)\.Add$"),
        PatternError::GeneratedOnly { .. }
    ));
}

#[test]
fn matches_come_once_and_by_address() {
    let image = open(Build::Stripped);
    let found = resolve(
        &image,
        &["main.*", "main.main", "net|main"],
        &Limits::default(),
    )
    .unwrap();
    let entries: Vec<_> = found.iter().map(|m| m.function.entry()).collect();
    let mut sorted = entries.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(entries, sorted);
    let main = found
        .iter()
        .find(|m| m.function.name() == "main.main")
        .unwrap();
    assert!(main.exact);
}

#[test]
fn the_nearest_names_are_suggested() {
    let text = error("main.(*inner).Addd").to_string();
    assert!(text.contains("neither"), "{text}");
    assert!(text.contains("nearest names: main.(*inner).Add"), "{text}");
    assert!(!text.contains('\n'), "{text}");
    let text = error("main.manyArg5").to_string();
    assert!(text.ends_with("nearest names: main.manyArgs"), "{text}");
    let text = error("Zx9_nothing_like_it").to_string();
    assert_eq!(text, "no function matches \"Zx9_nothing_like_it\"");
}

#[test]
fn a_function_that_exists_only_inlined_is_said_to() {
    let text = error("main.onlyInlined").to_string();
    let expected = "main.onlyInlined exists only inlined, there is no code of its own to trace; \
                    its callers: main.callsInlined (main.go:40)";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        matches!(error("onlyInl.ned$"), PatternError::InlinedOnly { functions, .. }
        if functions == ["main.onlyInlined"])
    );
    // Built without inlining it is there.
    let image = open(Build::NoOptimisation);
    assert!(resolve(&image, &["main.onlyInlined"], &Limits::default()).is_ok());
}

#[test]
fn too_many_matches_are_refused_with_their_number() {
    let image = open(Build::Stripped);
    let error = resolve(&image, &["runtime"], &Limits { max_matches: 10 }).unwrap_err();
    let PatternError::TooMany { count, max: 10 } = error else {
        panic!("{error}");
    };
    assert!(
        error
            .to_string()
            .contains(&format!("--max-matches {count}"))
    );
    let limits = Limits { max_matches: count };
    assert_eq!(resolve(&image, &["runtime"], &limits).unwrap().len(), count);
}
