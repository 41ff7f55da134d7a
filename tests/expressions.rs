//! Expressions over the variables of parked goroutines: what they come to, and
//! what is refused before anything is read.

mod support;

use ::gotap::image::dwarf::Dwarf;
use ::gotap::memory::{Memory, MemoryError};
use ::gotap::script::scope::{DwarfScope, StoppedFrame};
use ::gotap::script::{
    CallNames, Checked, Fact, Facts, Key, Known, Names, Scope, Stopped, compile,
};
use ::gotap::session::look::{Source, Wanted, look};
use ::gotap::value::Limits;
use ::gotap::value::frame::{FrameVariables, Variables};
use support::{Fixture, Target, Variant};

use ::gotap::addr::LiveAddr;
use ::gotap::image::dwarf::ScopePc;
use ::gotap::memory::Patchwork;
use ::gotap::value::frame::Standing;
use ::gotap::value::held::Held;

/// A breakpoint's names: the program's, and the facts of a call.
struct Here<'a> {
    scope: DwarfScope<'a>,
    facts: CallNames,
}

impl Names for Here<'_> {
    fn name(&self, name: &str) -> Option<Known> {
        if self.refused(name).is_some() {
            return None;
        }
        self.facts.name(name)
    }
    fn member(&self, space: &str, name: &str) -> Option<Known> {
        self.facts.member(space, name)
    }
    fn names(&self, space: Option<&str>) -> Vec<String> {
        self.facts.names(space)
    }
    fn refused(&self, name: &str) -> Option<String> {
        (name == "dur").then(|| "`dur` is not known before the call ends".to_owned())
    }
    fn program(&self) -> Option<&dyn Scope> {
        Some(&self.scope)
    }
}

struct There<'a>(StoppedFrame<'a>);

impl Facts for There<'_> {
    fn fact(&self, _: &Key) -> Fact<'_> {
        Fact::Int(77)
    }
    fn program(&self) -> Option<&dyn Stopped> {
        Some(&self.0)
    }
}

struct Program {
    target: Target,
    source: Source,
    dwarf: std::sync::Arc<Dwarf>,
    goids: Vec<u64>,
}

impl Program {
    fn start(variants: &[Variant]) -> Program {
        let fixture = Fixture::build("locals", variants);
        let mut target = Target::start(&fixture, &[]);
        target.expect_line("ready");
        let source = Source::process(target.pid()).expect("the process");
        let dwarf = source.dwarf().expect("DWARF").expect("some");
        let survey = look(&source, &Wanted::default()).expect("a look");
        let goids = survey.goroutines.iter().map(|g| g.goid).collect();
        Program {
            target,
            source,
            dwarf,
            goids,
        }
    }

    /// Shows the frame of a function.
    fn at(&self, function: &str, mut see: impl FnMut(&Variables<'_>, &FrameVariables)) {
        let mut seen = false;
        for goid in &self.goids {
            let mut found = |variables: &Variables<'_>, frames: &[FrameVariables]| {
                if let Some(frame) = frames.iter().find(|f| f.source.function == function)
                    && !seen
                {
                    seen = true;
                    see(variables, frame);
                }
            };
            self.source
                .visit_stack(&self.dwarf, *goid, &Limits::default(), &mut found)
                .expect("a stack");
        }
        assert!(seen, "no frame of {function} in {:?}", self.target.pid());
    }
}

fn names<'a>(variables: &Variables<'a>, frame: &FrameVariables) -> Here<'a> {
    Here {
        scope: DwarfScope::at(variables.image, variables.dwarf, frame.pc, frame.depth),
        facts: CallNames::default(),
    }
}

fn evaluated(checked: &Checked, variables: &Variables<'_>, frame: &FrameVariables) -> String {
    let there = There(StoppedFrame {
        variables: *variables,
        frame,
    });
    let limits = Limits {
        depth: 2,
        ..Limits::default()
    };
    match checked.value(&there, &limits) {
        Ok(Some(value)) => value.to_string(),
        Ok(None) => "absent".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// Compares each expression with what it comes to.
fn come_to(program: &Program, function: &str, table: &[(&str, &str)]) {
    program.at(function, |variables, frame| {
        let names = names(variables, frame);
        for (text, want) in table {
            let got = match compile(text, &names) {
                Ok(checked) => evaluated(&checked, variables, frame),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, *want, "{function}: {text}");
        }
    });
}

const COMPOSITES: &[(&str, &str)] = &[
    ("items[1]", "2"),
    ("items[1:]", "[]int{2, 3}"),
    ("items[:0]", "[]int{}"),
    ("len(items[1:2])", "1"),
    ("cap(items[1:2])", "2"),
    ("len(items) + cap(items)", "6"),
    ("items[len(items)-1]", "3"),
    ("items[3]", "error: index 3 is out of range: 3 elements"),
    (
        "items[2:9]",
        "error: 2:9 is out of range: 3 elements, room for 3",
    ),
    ("names[0] == \"a\"", "true"),
    ("names[0][0]", "97"),
    ("pt.X + pt.Y * 2", "11"),
    ("pt == pt && pt != arr[0]", "true"),
    ("w.S =~ \"^w$\"", "true"),
    ("arr[1].Y", "4"),
    (
        "arr[1:]",
        "[]main.point{main.point{X:3, Y:4}, main.point{X:5, Y:6}}",
    ),
    ("len(arr)", "3"),
    ("pp.X", "7"),
    ("*pp", "main.point{X:7, Y:8}"),
    ("(&pt).X", "3"),
    ("*&pt", "main.point{X:3, Y:4}"),
    ("&pt == &pt", "true"),
    ("&pt == pp", "false"),
    ("np == nil", "true"),
    ("np.X", "error: a nil pointer"),
    ("np.X == 0", "false"),
    ("pp != nil && pp.X == 7", "true"),
    ("m[\"b\"]", "2"),
    ("m[\"z\"]", "error: the map has no key \"z\""),
    ("m[\"z\"] == 0", "false"),
    (
        "nm[\"z\"] == nil",
        "bad expression: this is an integer, which is never nil\n  nm[\"z\"] == nil\n  ^^^^^^^^^^^^^^",
    ),
    ("mi[2]", "\"y\""),
    ("big[99]", "9801"),
    ("len(big)", "100"),
    ("len(nm)", "0"),
    ("e", "\"dynamic\""),
    ("e == \"dynamic\"", "true"),
    ("e.(string)", "\"dynamic\""),
    ("e.(int)", "error: a string, not int"),
    ("a.(dog).Name", "\"rex\""),
    ("a.(main.dog).Age", "4"),
    ("pa.(*dog).Age", "5"),
    ("pa.(*main.dog) != nil", "true"),
    ("a.(*dog)", "error: a main.dog, not *main.dog"),
    ("na == nil", "true"),
    ("err", "broken"),
    ("err != nil && err =~ \"bro\"", "true"),
    ("len(ch)", "1"),
    ("cap(ch)", "3"),
    ("cyc.Next.Next.Name", "\"self\""),
    ("cyc == cyc.Next", "true"),
    ("fn != nil && nf == nil", "true"),
    ("raw =~ \"^GET\"", "true"),
    ("raw[0]", "71"),
    ("anon.B[0]", "\"q\""),
    ("nested[1][0]", "2"),
    ("nested[2] == nil", "true"),
    ("when > \"2024-05\"", "true"),
    ("ip == \"10.0.0.1\"", "true"),
    ("packageInt", "7"),
    ("main.packageMap[\"two\"]", "2"),
    ("packageNode.Name + \"!\"", "\"global!\""),
    ("answer == 42", "true"),
    ("goid", "77"),
    ("hit.n", "77"),
];

const SCALARS: &[(&str, &str)] = &[
    ("n", "5"),
    ("hit.n", "77"),
    ("d > 1s && d < 1500.5ms", "true"),
    ("d * 2", "3s"),
    ("f / 2", "1.25"),
    ("i8 + 10", "2"),
    ("u64 > 1", "true"),
    ("-i", "42"),
    ("!b", "false"),
    ("s[1:3]", "\"é\""),
    ("len(s)", "7"),
    ("r == 120", "true"),
    ("f32 == 0.1", "true"),
    ("k == 3", "true"),
    ("err == nil", "true"),
];

#[test]
fn expressions_come_to_what_the_program_has() {
    let program = Program::start(&[Variant::NoOpt]);
    come_to(&program, "main.composites", COMPOSITES);
    come_to(&program, "main.scalars", SCALARS);
    come_to(
        &program,
        "main.shadows",
        &[("x", "200"), ("y + \"?\"", "\"outer!?\"")],
    );
    come_to(
        &program,
        "main.escapes",
        &[
            ("local.Y", "6"),
            ("p == &local", "true"),
            ("&arg == nil", "false"),
        ],
    );
    come_to(&program, "main.captures.func1", &[("byRef + pt.X", "14")]);
    come_to(
        &program,
        "main.generic[go.shape.struct { X int; Y int },go.shape.*main.point]",
        &[("v.Y", "2"), ("many[0].X", "3"), ("p.X", "1")],
    );
    come_to(
        &program,
        "main.(*list[go.shape.string,go.shape.float64]).wait",
        &[
            ("l.vals[\"k\"]", "1.5"),
            ("l.keys[0] == ks[0]", "true"),
            ("*l.head", "2.5"),
        ],
    );
}

#[test]
fn what_was_optimised_away_is_an_error_at_a_hit() {
    let program = Program::start(&[]);
    come_to(
        &program,
        "main.composites",
        &[
            ("items[1]", "2"),
            ("e == \"x\"", "error: optimised away here"),
            ("mi[1]", "\"x\""),
        ],
    );
}

#[test]
fn wrong_expressions_get_a_caret() {
    let program = Program::start(&[Variant::NoOpt]);
    let wrong = |text: &str, message: &str, caret: &str| {
        let shown = format!("bad expression: {message}\n  {text}\n  {caret}");
        come_to(&program, "main.composites", &[(text, &shown)]);
    };
    wrong(
        "itemz[0] == 1",
        "unknown name `itemz`; did you mean `items`?",
        "^^^^^",
    );
    wrong(
        "pt.Depth",
        "unknown field `Depth`; there are X Y",
        "   ^^^^^",
    );
    wrong(
        "items[\"x\"]",
        "an index is an integer, this is text",
        "      ^^^",
    );
    wrong("arr[3]", "there are 3 elements, counted from 0", "    ^");
    wrong(
        "m[1]",
        "the map's keys are of type string, this is an integer",
        "  ^",
    );
    wrong(
        "len(pt)",
        "this is of type main.point, which has no len",
        "    ^^",
    );
    wrong(
        "cap(m)",
        "this is of type map[string]int, which has no cap",
        "    ^",
    );
    wrong(
        "pt[0]",
        "this is of type main.point, which cannot be indexed",
        "^^^^^",
    );
    wrong(
        "*items",
        "this is of type []int, which is no pointer",
        " ^^^^^",
    );
    wrong(
        "pt.X == \"3\"",
        "`==` between an integer and text makes no sense; text stands in quotes",
        "        ^^^",
    );
    wrong("pp < pp", "`<` is not for a pointer", "^^^^^^^");
    wrong("items == items", "`==` is not for a list", "^^^^^^^^^^^^^^");
    wrong(
        "a.Name",
        "an interface has no fields; say what it holds, as in `a.(T).Name`",
        "  ^^^^",
    );
    wrong("a.(cat)", "the program has no type `cat`", "   ^^^");
    wrong(
        "pt.(dog)",
        "this is of type main.point, which is no interface",
        "^^",
    );
    wrong("items[0", "this bracket is not closed", "     ^");
    wrong(
        "dur > 5ms",
        "`dur` is not known before the call ends",
        "^^^",
    );
}

/// Every byte read is damaged by a rule that the number of the image chooses.
struct Damaged<'a> {
    inner: &'a dyn Memory,
    image: u64,
}

impl Memory for Damaged<'_> {
    fn read(&self, at: ::gotap::addr::LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.inner.read(at, into)?;
        for (i, byte) in into.iter_mut().enumerate() {
            let place = at.0.wrapping_add(i as u64);
            let mut random =
                (place ^ self.image.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            random ^= random >> 29;
            // From one byte in four to one in some hundred.
            if random.is_multiple_of(4 << (self.image % 6)) {
                *byte ^= (random >> 40) as u8;
            }
        }
        Ok(())
    }
}

#[test]
fn a_thousand_damaged_memories_do_no_harm() {
    let program = Program::start(&[Variant::NoOpt]);
    let functions = ["main.composites", "main.escapes", "main.captures.func1"];
    let mut broken = 0;
    for image in 0..1000 {
        let function = functions[usize::try_from(image).expect("small") % functions.len()];
        let expressions: Vec<&str> = match function {
            "main.composites" => COMPOSITES.iter().map(|(text, _)| *text).collect(),
            _ => Vec::new(),
        };
        program.at(function, |variables, frame| {
            let damaged = Damaged {
                inner: variables.memory,
                image,
            };
            let limits = Limits {
                depth: 16,
                ..Limits::default()
            };
            let variables = Variables {
                memory: &damaged,
                limits: &limits,
                ..*variables
            };
            for one in &frame.variables {
                let text = variables.load(one).to_string();
                broken += usize::from(text.contains("unreadable"));
            }
            let names = names(&variables, frame);
            for text in &expressions {
                if let Ok(checked) = compile(text, &names) {
                    let text = evaluated(&checked, &variables, frame);
                    broken += usize::from(text.starts_with("error"));
                }
            }
        });
    }
    assert!(broken > 1000, "only {broken} were noticed");
}

/// At a function's first instruction its arguments are in registers.
#[test]
fn arguments_at_an_entry_are_in_registers() {
    for variants in [&[Variant::NoOpt][..], &[]] {
        let program = Program::start(variants);
        program.at("main.main", |variables, _| {
            let found = variables.image.functions().by_names(&["main.scalars"]);
            let function = found[0].first().expect("a function");
            let text = LiveAddr(0x1000);
            let memory = Patchwork {
                pieces: vec![(text, b"held".to_vec())],
            };
            // Go's sequence of integer registers (abi-internal.md): RAX RBX RCX
            // RDI RSI; X0 is 17 (System V ABI, AMD64 supplement).
            let registers = |number: u16| match number {
                0 => Some(1),
                3 => Some((-7_i64).cast_unsigned()),
                2 => Some(0xffff_ff09),
                5 => Some(text.0),
                4 => Some(4),
                17 => Some(0.25_f64.to_bits()),
                _ => None,
            };
            let variables = Variables {
                memory: &memory,
                ..*variables
            };
            let frames = variables.of(&Standing {
                pc: ScopePc::exact(function.entry()),
                entry: function.entry(),
                cfa: LiveAddr(0x9000),
                registers: &registers,
            });
            let frame = frames.last().expect("a frame");
            let args: Vec<String> = frame
                .variables
                .iter()
                .take(5)
                .map(|v| format!("{} {}", v.name, variables.load(v)))
                .collect();
            let want = ["b true", "i -7", "u8 9", "f 0.25", "s \"held\""];
            assert_eq!(args, want, "{:?}", program.source.pid);
            assert!(matches!(frame.variables[1].held, Held::Bytes { .. }));
        });
    }
}

#[test]
fn package_variables_and_constants_are_found_by_name() {
    let program = Program::start(&[Variant::NoOpt]);
    program.at("main.main", |variables, _| {
        let own = |name: &str| name.starts_with("main.");
        let found = variables.package_variables(&own);
        let text = |name: &str| {
            let one = found.iter().find(|v| &*v.name == name);
            let one = one.unwrap_or_else(|| panic!("no {name}"));
            format!("{} {}", variables.type_name(one), variables.load(one))
        };
        assert_eq!(text("main.packageInt"), "int 7");
        assert_eq!(text("main.answer"), "int 42");
        assert_eq!(
            text("main.packageMap"),
            "map[string]int map[string]int{\"one\":1, \"two\":2}"
        );
        assert_eq!(
            text("main.packageNode"),
            "*main.node &main.node{Name:\"global\", Next:nil}"
        );
    });
}
