//! Tests of the command language: forms, errors with their places, printed
//! forms, hostile input.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::script::tests::{Random, expression};

fn read(source: &str) -> Script {
    let parsed = parse_script(source);
    let errors: Vec<String> = parsed
        .errors
        .iter()
        .map(|e| e.render_at("script", source))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    parsed.script
}

fn one(source: &str) -> Command {
    let mut script = read(source);
    assert_eq!(script.statements.len(), 1, "{source}");
    script.statements.remove(0).command
}

fn printed(source: &str) -> String {
    read(source).to_string()
}

fn point(source: &str) -> Point {
    match one(source) {
        Command::Point(point) => *point,
        other => panic!("{source}: {other:?}"),
    }
}

/// All errors of a text: `LINE:COLUMN message`.
fn errors(source: &str) -> Vec<String> {
    parse_script(source)
        .errors
        .iter()
        .map(|e| {
            let (line, column) = e.line_and_column(source);
            format!("{line}:{column} {}", e.message)
        })
        .collect()
}

#[test]
fn names_are_known_once() {
    let mut seen = HashSet::new();
    for row in VERBS {
        for name in std::iter::once(&row.name).chain(row.aliases) {
            assert!(seen.insert(*name), "{name} is there twice");
            assert_eq!(Verb::by_name(name), Some(row.verb));
        }
        assert_eq!(row.verb.info().name, row.name);
        assert!(!row.about.is_empty() || matches!(row.standing, Standing::LeftOut(_)));
    }
}

#[test]
fn delves_aliases_mean_what_they_mean_there() {
    for (alias, name) in [
        ("b", "break"),
        ("t", "trace"),
        ("c", "continue"),
        ("n", "next"),
        ("s", "step"),
        ("so", "stepout"),
        ("si", "step-instruction"),
        ("ni", "next-instruction"),
        ("bp", "breakpoints"),
        ("cond", "condition"),
        ("p", "print"),
        ("x", "examinemem"),
        ("grs", "goroutines"),
        ("gr", "goroutine"),
        ("tr", "thread"),
        ("bt", "stack"),
        ("ls", "list"),
        ("l", "list"),
        ("disass", "disassemble"),
        ("quit", "exit"),
        ("q", "exit"),
        ("h", "help"),
    ] {
        assert_eq!(Verb::by_name(alias).map(Verb::name), Some(name), "{alias}");
    }
}

#[test]
fn the_script_of_the_manual() {
    let text = r"# slow-reads.gotap
trace net.(*conn).Read if dur > 10ms || err != nil {
    print goid, fd, remote, n, err
    stack 8
}
every 5s { goroutines -group state }
on exit { summary }
for 10m                                          # then detach
";
    assert_eq!(
        printed(text),
        "trace net.(*conn).Read if dur > 10ms || err != nil {\n    print goid, fd, remote, n, err\n    \
         stack 8\n}\nevery 5s {\n    goroutines -group state\n}\non exit {\n    summary\n}\nfor 10m\n"
    );
}

#[test]
fn a_file_that_delve_saved() {
    let text = "break w1 /path/main.go:6\ncondition w1 i%100 == 0\n\
                condition -hitcount w1 > 2\ntoggle w1\n";
    assert_eq!(
        printed(text),
        "break w1 /path/main.go:6\ncondition w1 i % 100 == 0\n\
         condition -hitcount w1 > 2\ntoggle w1\n"
    );
}

#[test]
fn forms_of_locations() {
    let place = |text: &str| point(&format!("b {text}")).location.place;
    let named = |base: &str, line| Place::Named(base.to_owned(), line);
    assert_eq!(place("*0x45f2a0"), Place::Address(0x45_f2a0));
    assert_eq!(place("file.go:12"), named("file.go", Some(12)));
    assert_eq!(place("12"), Place::Line(12));
    assert_eq!(place("+3"), Place::Offset(3));
    assert_eq!(place("-3"), Place::Offset(-3));
    assert_eq!(place("Func"), named("Func", None));
    assert_eq!(
        place("pkg.(*T).Method:7"),
        named("pkg.(*T).Method", Some(7))
    );
    assert_eq!(
        place("full/import/path.(*T).M"),
        named("full/import/path.(*T).M", None)
    );
    assert_eq!(place("/net.*Read/"), Place::Regex("net.*Read".to_owned()));
    assert_eq!(place("/path/main.go:6"), named("/path/main.go", Some(6)));
    assert_eq!(place("\"/a dir/x.go:6\""), named("/a dir/x.go", Some(6)));
    assert_eq!(
        place("main.Map[int, go.shape.string]"),
        named("main.Map[int, go.shape.string]", None)
    );
    assert_eq!(
        point("t w1 main.f if w1 == 1").name.map(|w| w.text),
        Some("w1".into())
    );
}

#[test]
fn braces_and_semicolons_in_quotes_brackets_and_regexes() {
    let regex = point(r"t /x{2};y/ { print fd; bt }");
    assert_eq!(regex.location.place, Place::Regex("x{2};y".to_owned()));
    assert_eq!(regex.actions.map(|a| a.len()), Some(2));
    let quoted = point(r#"t main.f if s == "a;{b}" # and so on"#);
    assert_eq!(
        quoted.condition.map(|c| c.to_string()),
        Some(r#"s == "a;{b}""#.to_owned())
    );
    // A division is no regular expression.
    assert_eq!(read("p n /2 > 1; p n / 2").statements.len(), 2);
    assert_eq!(read("funcs ^main\\.(a|b;c)$").statements.len(), 1);
}

#[test]
fn prefixes_hold_commands() {
    assert_eq!(printed("gr 5 frame 2 p x"), "goroutine 5 frame 2 print x\n");
    assert_eq!(
        printed("goroutines -with user main.f -exec bt 3"),
        "goroutines -with user main.f -exec stack 3\n"
    );
    assert_eq!(printed("on w1 p err"), "on w1 {\n    print err\n}\n");
}

#[test]
fn places_of_errors() {
    for (source, wanted) in [
        (
            "trcae f",
            "1:1 unknown command `trcae`; did you mean `trace`?",
        ),
        ("trace", "1:1 say where: trace net.(*conn).Read"),
        (
            "\n  trace a b c",
            "2:13 a name and a location are all that may stand before `if`",
        ),
        ("trace f if", "1:11 a condition follows `if`"),
        ("trace f if n ==", "1:16 the expression ends too early"),
        (
            "trace f if n == 0 && (err",
            "1:22 this parenthesis is not closed",
        ),
        ("print goid,, fd", "1:12 print what? print goid, fd, err"),
        ("summary { print fd }", "1:1 `summary` takes no block"),
        ("every 5 { summary }", "1:7 a duration has a unit: every 5s"),
        (
            "every 5s",
            "1:1 `every` needs a block: every 5s { summary }",
        ),
        ("for", "1:1 how long? for 5s"),
        ("trace f {\n  print fd", "1:9 this block is not closed"),
        ("summary }", "1:9 this `}` closes nothing"),
        ("{ summary }", "1:1 a block stands behind a command"),
        (
            "print \"a",
            "1:7 this text has no closing quote on its line",
        ),
        ("trace /a(/", "1:7 bad regular expression: unclosed group"),
        (
            "trace 7 f",
            "1:7 a name is letters and digits, not a number and not `exit`",
        ),
        (
            "trace exit f",
            "1:7 a name is letters and digits, not a number and not `exit`",
        ),
        ("break *zz", "1:7 an address is written *0x45f2a0"),
        (
            "condition -hitcnt 1 > 2",
            "1:11 the options are -hitcount, -per-g-hitcount and -clear",
        ),
        (
            "condition -hitcount 1 ~ 2",
            "1:23 a count is compared by == != < <= > >= or %: -hitcount 1 >= 5",
        ),
        ("on 1", "1:4 a command or a block follows: on 1 print err"),
        ("goroutines -exec", "1:12 a command follows `-exec`"),
    ] {
        assert_eq!(errors(source), [wanted], "{source}");
    }
}

#[test]
fn every_error_is_told() {
    let source = "trace f if ( {\n  prnt fd\n}\nsummry\nstack 8\n";
    let parsed = parse_script(source);
    assert_eq!(
        errors(source),
        [
            "1:13 the expression ends too early",
            "2:3 unknown command `prnt`; did you mean `print`?",
            "4:1 unknown command `summry`; did you mean `summary`?"
        ]
    );
    assert_eq!(parsed.script.to_string(), "stack 8\n");
}

#[test]
fn a_prompt_waits_for_the_end_of_a_block() {
    assert!(is_incomplete("trace f {"));
    assert!(is_incomplete("every 5s {\n summary"));
    assert!(!is_incomplete("trace f { bt }"));
    assert!(!is_incomplete("trace f if \"{\""));
    assert!(!is_incomplete("print \"open"));
}

fn plain_word() -> impl Strategy<Value = Word> {
    prop_oneof![
        "[-a-zA-Z0-9_./*:()]{1,12}",
        any::<String>(),
        Just("#x".to_owned()),
        Just("/a b/".to_owned()),
    ]
    .prop_map(|text| Word {
        text,
        span: Span::default(),
    })
}

fn named_point() -> impl Strategy<Value = Word> {
    "[a-z]{2}[a-z0-9]{0,4}"
        .prop_filter("reserved", |w| w != "exit" && w != "if")
        .prop_map(|text| Word {
            text,
            span: Span::default(),
        })
}

fn location() -> impl Strategy<Value = Location> {
    let name = proptest::sample::select(vec![
        "main.main",
        "net.(*conn).Read",
        "/path/x.go",
        "a b.go",
        "main.Map[int, string]",
    ]);
    prop_oneof![
        any::<u64>().prop_map(Place::Address),
        any::<u32>().prop_map(Place::Line),
        any::<u32>().prop_map(|n| Place::Offset(-i64::from(n))),
        (name, proptest::option::of(any::<u32>()))
            .prop_map(|(name, line)| Place::Named(name.to_owned(), line)),
        "[a-z.*{};\"# ]{1,8}"
            .prop_filter("valid", |r| regex::Regex::new(r).is_ok())
            .prop_map(Place::Regex),
    ]
    .prop_map(|place| Location {
        place,
        span: Span::default(),
    })
}

fn statement() -> impl Strategy<Value = Statement> {
    let at = |command| Statement {
        command,
        span: Span::default(),
    };
    let plain = proptest::sample::select(vec![
        Verb::Funcs,
        Verb::Stack,
        Verb::Config,
        Verb::Threads,
        Verb::Locals,
    ]);
    let op = proptest::sample::select(vec![BinaryOp::Ge, BinaryOp::Lt, BinaryOp::Rem]);
    let leaf = prop_oneof![
        (plain, prop::collection::vec(plain_word(), 0..3))
            .prop_map(|(verb, words)| Command::Plain(verb, words, None)),
        prop::collection::vec(expression(), 1..3).prop_map(Command::Print),
        (1..u64::from(u32::MAX)).prop_map(Command::For),
        Just(Command::StopOnError),
        (named_point(), expression()).prop_map(|(id, e)| Command::Condition(id, Test::Holds(e))),
        (named_point(), op, 1..u64::MAX)
            .prop_map(|(id, op, n)| Command::Condition(id, Test::Hits(op, n))),
        named_point().prop_map(|id| Command::Condition(id, Test::Cleared)),
    ]
    .prop_map(at);
    leaf.prop_recursive(3, 20, 3, move |inner| {
        let block = prop::collection::vec(inner.clone(), 0..3);
        let strength =
            proptest::sample::select(vec![Strength::Trace, Strength::Break, Strength::Snap]);
        prop_oneof![
            (
                (strength, proptest::option::of(1..9_u64), any::<bool>()),
                proptest::option::of(named_point()),
                location(),
                proptest::option::of(expression()),
                proptest::option::of(block.clone())
            )
                .prop_map(|(kind, name, location, condition, actions)| {
                    let (strength, count, consistent) = kind;
                    let copies = match strength {
                        Strength::Snap => Copies { count, consistent },
                        Strength::Trace | Strength::Break => Copies::default(),
                    };
                    Command::Point(Box::new(Point {
                        strength,
                        copies,
                        name,
                        location,
                        condition,
                        actions,
                    }))
                }),
            (1..u64::from(u32::MAX), block.clone()).prop_map(|(ns, b)| Command::Every(ns, b)),
            block.clone().prop_map(Command::OnExit),
            (named_point(), block).prop_map(|(id, b)| Command::On(id, b)),
            ("[0-9]{1,3}", inner).prop_map(|(goid, then)| {
                let word = Word {
                    text: goid,
                    span: Span::default(),
                };
                // A prefix takes no block.
                let then = then.command.block().is_empty() && !takes_block(&then.command);
                Command::Plain(
                    Verb::Goroutine,
                    vec![word],
                    then.then(|| {
                        Box::new(Statement {
                            command: Command::Plain(Verb::Stack, Vec::new(), None),
                            span: Span::default(),
                        })
                    }),
                )
            }),
        ]
        .prop_map(at)
    })
}

fn takes_block(command: &Command) -> bool {
    matches!(
        command,
        Command::Point(_) | Command::Every(..) | Command::OnExit(_) | Command::On(..)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn what_is_printed_parses_back(statements in prop::collection::vec(statement(), 0..4)) {
        let script = Script { statements };
        let printed = script.to_string();
        let again = parse_script(&printed);
        prop_assert!(again.errors.is_empty(), "{:?}\n{}", again.errors, printed);
        prop_assert_eq!(&again.script, &script, "{}", printed);
    }
}

fn mutate(rounds: usize, seed: u64) {
    let seeds = [
        "trace w1 net.(*conn).Read if dur > 10ms || err != nil {\n  print goid, fd; bt 8\n}\n",
        "break /path/main.go:6\ncondition w1 i%100 == 0\ncond -hitcount w1 > 2 # x\ntoggle w1",
        "every 5s { goroutines -with user \"a b\" -exec gr 5 frame 2 p x }\non exit { summary }",
        "t /x{2};y/ if s =~ `a` { on 1 { p \"\\u00e9\", -n } }; set -e\nfor 10m\nb *0x45 ; b +3",
    ];
    let extra: Vec<char> = "(){}[];#/\"`\\'0159eif -,.:*\n\t\u{0}é𝄞".chars().collect();
    let mut random = Random(seed);
    let mut accepted = 0_usize;
    for round in 0..rounds {
        let mut text: Vec<char> = seeds[round % seeds.len()].chars().collect();
        for _ in 0..=random.below(5) {
            let at = random.below(text.len().max(1));
            match random.below(4) {
                0 if at < text.len() => drop(text.remove(at)),
                1 => text.truncate(at.max(1)),
                2 if at < text.len() => text[at] = extra[random.below(extra.len())],
                _ => text.insert(at.min(text.len()), extra[random.below(extra.len())]),
            }
        }
        let source: String = text.into_iter().collect();
        let parsed = parse_script(&source);
        for error in &parsed.errors {
            assert!(!error.render_at("s", &source).is_empty());
        }
        if parsed.errors.is_empty() {
            accepted += 1;
            let printed = parsed.script.to_string();
            let again = parse_script(&printed);
            assert!(again.errors.is_empty(), "{source:?}\n{printed}");
            assert_eq!(again.script, parsed.script, "{source:?}");
        }
    }
    assert!(accepted * 20 > rounds, "{accepted} of {rounds}");
}

#[test]
fn mutated_scripts_never_panic() {
    mutate(100_000, 0x2545_f491_4f6c_dd1d);
}

#[test]
#[ignore = "a million scripts: cargo test --release -- --ignored a_million_mutated_scripts"]
fn a_million_mutated_scripts_never_panic() {
    mutate(1_000_000, 0x9e37_79b9_7f4a_7c15);
}

#[test]
fn hostile_texts_end() {
    for source in [
        "{".repeat(100_000),
        "trace f {".repeat(10_000),
        "goroutine 1 ".repeat(10_000),
        "}".repeat(10_000),
        ";".repeat(100_000),
        "a ".repeat(100_000),
        "print (".repeat(10_000),
        format!("print {}", "a,".repeat(50_000)),
        "x".repeat(2 << 20),
    ] {
        assert!(
            parse_script(&source).errors.len() <= 200,
            "{}",
            source.len()
        );
    }
}
