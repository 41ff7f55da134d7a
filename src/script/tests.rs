//! Tests of the language: forms, errors with their carets, meaning, hostile
//! input.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::record::End;
use crate::value::Value;

fn parsed(source: &str) -> Expr {
    parse(source).unwrap_or_else(|error| panic!("{}", error.render(source)))
}

fn names() -> CallNames {
    CallNames::with_signatures(
        ["b", "req", "n"].map(Arc::from),
        ["n", "err", "resp"].map(Arc::from),
    )
}

fn refused(source: &str) -> String {
    match compile_condition(source, &names()) {
        Ok(_) => panic!("{source} was accepted"),
        Err(error) => error.to_string(),
    }
}

/// Facts of a test, by their written name.
#[derive(Default)]
struct Given(
    HashMap<&'static str, Fact<'static>>,
    Vec<(&'static str, Value)>,
);

impl Facts for Given {
    fn fact(&self, key: &Key) -> Fact<'_> {
        match key {
            Key::Call(fact) => {
                let row = CALL_FACTS.iter().find(|row| row.fact == *fact).unwrap();
                self.0.get(row.name).cloned().unwrap_or(Fact::Absent)
            }
            Key::Arg(name) | Key::Result(name) | Key::Value(name) => self
                .1
                .iter()
                .find(|(known, _)| *known == &**name)
                .map_or(Fact::Absent, |(_, value)| Fact::from_value(value)),
        }
    }
}

fn read_call() -> Given {
    Given(
        HashMap::from([
            ("fd", Fact::Int(7)),
            ("n", Fact::Int(0)),
            (
                "err",
                Fact::Str("read tcp: connection reset by peer".into()),
            ),
            ("dur", Fact::Duration(5_500_000)),
            ("remote", Fact::Str("10.0.0.2:5".into())),
            ("end", Fact::Str("return".into())),
            ("since_attach", Fact::Bool(false)),
        ]),
        vec![
            (
                "req",
                Value::Ref(Box::new(Value::Struct {
                    ty: "http.Request".into(),
                    fields: vec![
                        ("ID".into(), Value::Int(42)),
                        ("Next".into(), Value::Nil),
                        (
                            "Method".into(),
                            Value::Str {
                                bytes: b"GET".to_vec(),
                                len: 3,
                            },
                        ),
                    ],
                    omitted: 0,
                })),
            ),
            (
                "b",
                Value::Bytes {
                    bytes: b"GET /".to_vec(),
                    len: 500,
                },
            ),
        ],
    )
}

fn holds(source: &str) -> bool {
    let checked = compile_condition(source, &names()).unwrap_or_else(|error| panic!("{error}"));
    checked
        .holds(&read_call())
        .unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn number(source: &str) -> Literal {
    match parsed(source).kind {
        ExprKind::Literal(literal) => literal,
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn precedence_is_gos() {
    for (source, printed) in [
        ("a||b&&c==d+e*f", "a || b && c == d + e * f"),
        ("((a||b)&&c)", "(a || b) && c"),
        ("a-b-c", "a - b - c"),
        ("a-(b-c)", "a - (b - c)"),
        ("!a==b", "!a == b"),
        ("!(a==b)", "!(a == b)"),
        ("-a*-b", "-a * -b"),
        ("a =~ \"x\" && b !~ `y`", "a =~ \"x\" && b !~ \"y\""),
        ("args.req.ID==4", "args.req.ID == 4"),
    ] {
        assert_eq!(parsed(source).to_string(), printed);
    }
}

#[test]
fn literals() {
    for (source, value) in [
        ("0", 0),
        ("1_000", 1000),
        ("0xfF", 255),
        ("0b101", 5),
        ("0o17", 15),
        ("4KiB", 4096),
        ("1.5MiB", 1_572_864),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(number(source), Literal::Int(value), "{source}");
    }
    for (source, ns) in [
        ("5ms", 5_000_000),
        ("1.5s", 1_500_000_000),
        ("10µs", 10_000),
        ("10\u{3bc}s", 10_000),
        ("10us", 10_000),
        ("2h", 7_200_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("2m3.1s", 123_100_000_000),
        ("7ns", 7),
    ] {
        assert_eq!(number(source), Literal::Duration(ns), "{source}");
    }
    assert_eq!(number("1.5"), Literal::Float(1.5));
    assert_eq!(number("1e3"), Literal::Float(1000.0));
    assert_eq!(number("2.5e-1"), Literal::Float(0.25));
    assert_eq!(
        number(r#""a\"\t\u00e9\x41\101""#),
        Literal::Str("a\"\téAA".into())
    );
    assert_eq!(number(r"`10\.0`"), Literal::Str(r"10\.0".into()));
}

#[test]
fn errors_point_at_the_place() {
    insta::assert_snapshot!(
        [
            "feed == 7",
            "fd == 7 && errr != nil",
            "args.bb == 1",
            "args",
            "dur > 5",
            "err",
            "err == 7",
            "fd =~ \"7\"",
            "err =~ remote",
            "err =~ \"(\"",
            "end == \"panicked\"",
            "(fd == 7",
            "fd == 7)",
            "fd = 7",
            "fd == 7 and n == 0",
            "fd ==",
            "",
            "dur > 5 ms",
            "dur > 5mss",
            "dur > 0.1ns",
            "remote =~ \"10\\.\"",
            "err == \"reset",
            "fd == 'x'",
            "fd == 99999999999999999999",
            "n / 0 == 1",
            "since_attach < true",
            "len(b) > 1",
            "err ==\tnil\n  && fed == 1",
            "remöte == \"ä\" || nope",
            "!fd",
            "-err == nil",
            "1 || 2",
            "nil == nil",
            "fd.x == 1",
        ]
        .map(refused)
        .join("\n\n"),
    );
}

#[test]
fn meaning() {
    for source in [
        "fd == 7 && n == 0",
        "err != nil",
        "err =~ \"reset\"",
        "err !~ `^write`",
        "dur > 5ms && dur <= 5.5ms",
        "remote =~ \"10\\\\.\"",
        "n > 0 || fd != 3",
        "!since_attach",
        "end == \"return\"",
        "fd + 1 == 2 * 4",
        "fd % 4 == 3",
        "-fd < 0",
        "fd / 2 == 3",
        "fd / 2.0 == 3.5",
        "dur * 2 == 11ms",
        "dur / 1ms == 5",
        "dur > 0",
        "dur - 500µs == 5ms",
        "remote == \"10.0.0.2\" + \":5\"",
        "args.req.ID == 42",
        "req.ID == 42 && req.Method == \"GET\"",
        "req.Next == nil",
        "req.Next.Next == nil",
        "req != nil",
        "b =~ \"^GET\"",
        "hit.n == 0",
        "results.resp == nil",
    ] {
        assert!(holds(source), "{source}");
    }
    for source in ["err == nil", "fd == 8", "dur < 5ms", "since_attach"] {
        assert!(!holds(source), "{source}");
    }
}

#[test]
fn comparing_an_absent_fact_is_false() {
    for source in [
        "goid == 1",
        "goid != 1",
        "goid > 1",
        "goid <= 1",
        "goid != nil",
        "network =~ \"t\"",
        "network !~ \"t\"",
        "goid + 1 == 1",
        "-goid != 0",
    ] {
        assert!(!holds(source), "{source}");
    }
    for source in [
        "goid == nil",
        "nil == goid",
        "!(goid == 1)",
        "goid + 1 == nil",
    ] {
        assert!(holds(source), "{source}");
    }
}

#[test]
fn a_nil_error_is_a_value() {
    let mut facts = read_call();
    facts.0.insert("err", Fact::Nil);
    for (source, expected) in [
        ("err == nil", true),
        ("err != nil", false),
        ("err != \"EOF\"", true),
        ("err == \"EOF\"", false),
        ("err =~ \".\"", false),
        ("err !~ \".\"", true),
    ] {
        let checked = compile_condition(source, &names()).unwrap();
        assert_eq!(checked.holds(&facts), Ok(expected), "{source}");
    }
}

#[test]
fn what_is_known_at_the_call_only_fails_there() {
    let facts = read_call();
    for (source, message) in [
        (
            "req.ID == \"x\"",
            "`==` cannot compare an integer with text",
        ),
        ("req.Nope == 1", "no field `Nope`"),
        (
            "req == 1",
            "`==` cannot compare a structure with an integer",
        ),
        ("req.ID / (n - n) == 1", "division by zero"),
        (
            "9223372036854775807ns + dur > 1s",
            "the result is too large",
        ),
        ("req.Method", "true or false is needed, this is text"),
    ] {
        let checked = compile_condition(source, &names()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            checked.holds(&facts).unwrap_err().message,
            message,
            "{source}"
        );
    }
}

#[test]
fn a_checked_expression_says_what_it_asks_for() {
    let checked = compile_condition("fd == 7 && (fd > 1 || args.b == nil)", &names()).unwrap();
    assert_eq!(
        checked.keys(),
        [Key::Call(CallFact::Fd), Key::Arg("b".into())]
    );
}

#[test]
fn without_signatures_any_argument_may_be_named() {
    assert!(compile_condition("args.x == 1", &CallNames::default()).is_ok());
    assert!(compile_condition("x == 1", &CallNames::default()).is_err());
}

#[test]
fn the_words_of_end_are_those_of_the_record() {
    let all = [
        End::Return,
        End::Panic,
        End::Exit,
        End::Unwound,
        End::Lost,
        End::Open,
        End::Passed,
    ];
    let row = CallFact::by_name("end").unwrap();
    assert_eq!(row.words, all.map(End::as_str));
}

#[test]
fn hostile_depth_is_refused() {
    // Half of what a thread of the standard library gets.
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(deep_inputs)
        .unwrap()
        .join()
        .unwrap();
}

fn deep_inputs() {
    for source in [
        "(".repeat(60_000),
        "!".repeat(60_000),
        "-".repeat(60_000),
        format!("{}1{}", "(".repeat(30_000), ")".repeat(30_000)),
        format!("a{}", ".a".repeat(30_000)),
        format!("1{}", "+1".repeat(30_000)),
        format!("1{}", "||1".repeat(20_000)),
        "x".repeat(100_000),
    ] {
        assert!(parse(&source).is_err());
    }
    // What a generated filter may look like is not.
    let long = vec!["fd == 1"; 400].join(" || ");
    assert!(!holds(&long));
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        Just(Literal::Nil),
        any::<bool>().prop_map(Literal::Bool),
        any::<u64>().prop_map(Literal::Int),
        any::<f64>()
            .prop_filter("literals are finite and not signed", |x| x.is_finite()
                && x.is_sign_positive())
            .prop_map(Literal::Float),
        any::<String>().prop_map(Literal::Str),
        (0..=i64::MAX as u64).prop_map(Literal::Duration),
        (0..10_000u64).prop_map(|s| Literal::Duration(s * 1_000_000_000)),
    ]
}

fn unary_op() -> impl Strategy<Value = UnaryOp> {
    proptest::sample::select(vec![
        UnaryOp::Not,
        UnaryOp::Neg,
        UnaryOp::Deref,
        UnaryOp::Address,
    ])
}

fn type_text() -> impl Strategy<Value = String> {
    let types = [
        "int",
        "*main.T",
        "[]string",
        "map[string]*a.B",
        "func(int) (a, b)",
    ];
    proptest::sample::select(types.map(str::to_owned).to_vec())
}

fn word() -> impl Strategy<Value = String> {
    "[a-z_][a-zA-Z0-9_é]{0,6}".prop_filter("keywords", |word| {
        !["nil", "true", "false"].contains(&word.as_str())
    })
}

pub(super) fn expression() -> impl Strategy<Value = Expr> {
    let at = |kind| Expr {
        kind,
        span: Span::default(),
    };
    let leaf = prop_oneof![
        literal().prop_map(ExprKind::Literal),
        word().prop_map(ExprKind::Name),
    ]
    .prop_map(at);
    leaf.prop_recursive(8, 60, 2, move |inner| {
        let op = proptest::sample::select(BinaryOp::ALL.to_vec());
        prop_oneof![
            (inner.clone(), word()).prop_map(|(base, name)| {
                ExprKind::Select(
                    Box::new(base),
                    ast::Field {
                        name,
                        span: Span::default(),
                    },
                )
            }),
            (inner.clone(), unary_op())
                .prop_map(|(operand, op)| { ExprKind::Unary(op, Box::new(operand)) }),
            (inner.clone(), type_text()).prop_map(|(base, text)| {
                let span = Span::default();
                ExprKind::Assert(Box::new(base), ast::TypeText { text, span })
            }),
            (inner.clone(), any::<bool>()).prop_map(|(operand, len)| {
                let builtin = if len { Builtin::Len } else { Builtin::Cap };
                ExprKind::Call(builtin, Box::new(operand))
            }),
            (inner.clone(), inner.clone())
                .prop_map(|(base, index)| { ExprKind::Index(Box::new(base), Box::new(index)) }),
            (
                inner.clone(),
                proptest::option::of(inner.clone()),
                proptest::option::of(word()),
            )
                .prop_map(move |(base, from, to)| {
                    let to = to.map(|name| Box::new(at(ExprKind::Name(name))));
                    ExprKind::Slice(Box::new(base), from.map(Box::new), to)
                }),
            (op, inner.clone(), inner).prop_map(|(op, a, b)| ExprKind::Binary(
                op,
                Box::new(a),
                Box::new(b)
            )),
        ]
        .prop_map(at)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn what_is_printed_parses_back(expr in expression()) {
        let printed = expr.to_string();
        let again = parse(&printed);
        prop_assert_eq!(again.as_ref(), Ok(&expr), "{}", printed);
    }
}

/// xorshift64: the same inputs at every run.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn mutated_input_never_panics() {
    let seeds = [
        "fd == 7 && n == 0 || err =~ \"reset\"",
        "dur > 1h5m3.25s && !(args.req.ID >= 0x1f)",
        "remote !~ `10\\.` || -n * 4KiB % 3 == 1e3 - 2.5",
        "len(args.b[1:]) == cap(*x.(*T)) && m[\"k\"][i-1:] == &y",
        "end == \"panic\" && results.n != nil && \"\\u00e9\\x41\" + \"b\" == \"c\"",
    ];
    let extra: Vec<char> = "()[]:,*!&|=~<>.\"`\\'0159eExh_µ.nms \n\u{0}é𝄞"
        .chars()
        .collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let facts = read_call();
    let names = names();
    let mut accepted = 0;
    for round in 0..100_000 {
        let mut text: Vec<char> = seeds[round % seeds.len()].chars().collect();
        for _ in 0..=random.below(4) {
            let at = random.below(text.len().max(1));
            match random.below(4) {
                0 if at < text.len() => drop(text.remove(at)),
                1 => text.truncate(at.max(1)),
                2 if at < text.len() => text[at] = extra[random.below(extra.len())],
                _ => text.insert(at.min(text.len()), extra[random.below(extra.len())]),
            }
        }
        let source: String = text.into_iter().collect();
        match parse(&source) {
            Err(error) => assert!(!error.render(&source).is_empty()),
            Ok(expr) => {
                assert_eq!(parse(&expr.to_string()).as_ref(), Ok(&expr), "{source}");
                match check(&expr, &names) {
                    Err(error) => assert!(!error.render(&source).is_empty()),
                    Ok(checked) => {
                        accepted += 1;
                        let _ = checked.eval(&facts);
                    }
                }
            }
        }
    }
    assert!(
        accepted > 1000,
        "{accepted}: the mutations leave nothing to check"
    );
}
