//! The one table of what can be asked of a call: filters, JSON output and
//! scripts use the same names.

use std::sync::Arc;

use super::check::Type;
use super::program::Scope;

/// A fact of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallFact {
    /// `id`
    Id,
    /// `parent`
    Parent,
    /// `time`
    Time,
    /// `dur`
    Dur,
    /// `dur_ns`
    DurNs,
    /// `goid`
    Goid,
    /// `tid`
    Tid,
    /// `func`
    Func,
    /// `fd`
    Fd,
    /// `network`
    Network,
    /// `local`
    Local,
    /// `remote`
    Remote,
    /// `note`
    Note,
    /// `len`
    Len,
    /// `n`
    N,
    /// `err`
    Err,
    /// `end`
    End,
    /// `since_attach`
    SinceAttach,
    /// `entry_lost`
    EntryLost,
    /// `doubtful`
    Doubtful,
    /// `late`
    Late,
    /// `stack`
    Stack,
    /// `payload`
    Payload,
    /// `payload_len`
    PayloadLen,
}

/// A row of [`CALL_FACTS`].
#[derive(Clone, Copy, Debug)]
pub struct FactInfo {
    /// As it is written in an expression and in JSON.
    pub name: &'static str,
    /// Which fact.
    pub fact: CallFact,
    /// Its type in an expression.
    pub ty: Type,
    /// The only texts that it can be; empty when it can be any.
    pub words: &'static [&'static str],
    /// For the manual.
    pub about: &'static str,
}

const fn row(name: &'static str, fact: CallFact, ty: Type, about: &'static str) -> FactInfo {
    FactInfo {
        name,
        fact,
        ty,
        words: &[],
        about,
    }
}

/// The words of `end`; [`crate::record::End::as_str`] gives the same.
const ENDS: &[&str] = &[
    "return", "panic", "exit", "unwound", "lost", "open", "passed",
];

/// Every fact of a call, in the order of the JSON fields. `dur` is for
/// expressions only (JSON has `dur_ns`); `args` and `results`, which JSON has
/// as objects, are reached as `args.NAME` and `results.NAME`.
pub const CALL_FACTS: &[FactInfo] = &[
    row(
        "id",
        CallFact::Id,
        Type::Int,
        "counts calls from 1 in the order of entries",
    ),
    row(
        "parent",
        CallFact::Parent,
        Type::Int,
        "id of the traced call that this one happened in",
    ),
    row(
        "time",
        CallFact::Time,
        Type::Str,
        "when it was entered, RFC 3339 in UTC",
    ),
    row("dur", CallFact::Dur, Type::Duration, "from entry to end"),
    row(
        "dur_ns",
        CallFact::DurNs,
        Type::Int,
        "the same in nanoseconds",
    ),
    row("goid", CallFact::Goid, Type::Int, "goroutine id"),
    row("tid", CallFact::Tid, Type::Int, "thread id"),
    row("func", CallFact::Func, Type::Str, "the function's name"),
    row("fd", CallFact::Fd, Type::Int, "file descriptor"),
    row("network", CallFact::Network, Type::Str, "tcp, udp, unix, …"),
    row("local", CallFact::Local, Type::Str, "this end's address"),
    row(
        "remote",
        CallFact::Remote,
        Type::Str,
        "the other end's address",
    ),
    row(
        "note",
        CallFact::Note,
        Type::Str,
        "what the connection itself is, when it has no fd: closed, nil",
    ),
    row(
        "len",
        CallFact::Len,
        Type::Int,
        "length of the buffer handed in",
    ),
    row("n", CallFact::N, Type::Int, "bytes that the call returned"),
    row("err", CallFact::Err, Type::Str, "the error's text, or nil"),
    FactInfo {
        name: "end",
        fact: CallFact::End,
        ty: Type::Str,
        words: ENDS,
        about: "return, panic, exit, unwound, lost, open, or passed: a line",
    },
    row(
        "since_attach",
        CallFact::SinceAttach,
        Type::Bool,
        "it was running when gotap attached",
    ),
    row(
        "entry_lost",
        CallFact::EntryLost,
        Type::Bool,
        "its entry was lost, or it was running when gotap attached",
    ),
    row(
        "doubtful",
        CallFact::Doubtful,
        Type::Bool,
        "records were lost while it ran: its end may be that of a later call",
    ),
    row(
        "late",
        CallFact::Late,
        Type::Bool,
        "by jumps: some value or error text was read after the call had gone on",
    ),
    row(
        "stack",
        CallFact::Stack,
        Type::Str,
        "the callers' names, innermost first, a line each",
    ),
    row(
        "payload",
        CallFact::Payload,
        Type::Str,
        "the first bytes read or written",
    ),
    row(
        "payload_len",
        CallFact::PayloadLen,
        Type::Int,
        "how many bytes there were",
    ),
];

impl CallFact {
    /// Its row in [`CALL_FACTS`].
    pub fn by_name(name: &str) -> Option<&'static FactInfo> {
        CALL_FACTS.iter().find(|row| row.name == name)
    }
}

/// What an evaluator asks its environment for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// A fact of the table.
    Call(CallFact),
    /// `args.NAME`
    Arg(Arc<str>),
    /// `results.NAME`
    Result(Arc<str>),
    /// A bare name: of an argument, else of a result.
    Value(Arc<str>),
}

/// What a name stands for.
#[derive(Clone, PartialEq, Debug)]
pub enum Known {
    /// Something to ask for.
    Fact {
        /// What.
        key: Key,
        /// Its type.
        ty: Type,
        /// The only texts that it can be; empty when it can be any.
        words: &'static [&'static str],
    },
    /// A prefix such as `args`: a dot and a name must follow.
    Space,
}

/// The names that an expression may use, for the checker.
pub trait Names {
    /// What a bare name stands for.
    fn name(&self, name: &str) -> Option<Known>;
    /// What `space.name` stands for, where `space` is a [`Known::Space`].
    fn member(&self, space: &str, name: &str) -> Option<Known>;
    /// All names, or all of a space, for "did you mean".
    fn names(&self, space: Option<&str>) -> Vec<String>;
    /// Why a name that is known elsewhere cannot be used here (`dur` of a
    /// breakpoint at an entry).
    fn refused(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }
    /// The program is not at hand: what needs its variables is taken as it is.
    fn unknown_program(&self) -> bool {
        false
    }
    /// A fact that says what the variable of this name says, and is known anyway.
    fn same_as_fact(&self, name: &str) -> bool {
        let _ = name;
        false
    }
    /// The program's variables, which win over facts of the same name;
    /// `hit.NAME` is always the fact.
    fn program(&self) -> Option<&dyn Scope> {
        None
    }
}

/// The names of a filter on calls: the table, and the arguments and results of
/// the functions that are traced. A fact wins over an argument of the same
/// name, which is still there as `args.NAME`; `hit.NAME` is always the fact.
#[derive(Clone, Default, Debug)]
pub struct CallNames {
    signatures: Option<Signatures>,
}

#[derive(Clone, Default, Debug)]
struct Signatures {
    args: Vec<Arc<str>>,
    results: Vec<Arc<str>>,
}

impl CallNames {
    /// With the names of arguments and results of every traced function: others
    /// are then refused. `CallNames::default()` knows no signatures and takes
    /// any name after `args.` and `results.`, but no bare ones.
    pub fn with_signatures(
        args: impl IntoIterator<Item = Arc<str>>,
        results: impl IntoIterator<Item = Arc<str>>,
    ) -> Self {
        let sorted = |mut names: Vec<Arc<str>>| {
            names.sort_unstable();
            names.dedup();
            names
        };
        Self {
            signatures: Some(Signatures {
                args: sorted(args.into_iter().collect()),
                results: sorted(results.into_iter().collect()),
            }),
        }
    }

    fn any(key: Key) -> Known {
        Known::Fact {
            key,
            ty: Type::Any,
            words: &[],
        }
    }

    fn call_fact(name: &str) -> Option<Known> {
        let row = CallFact::by_name(name)?;
        Some(Known::Fact {
            key: Key::Call(row.fact),
            ty: row.ty,
            words: row.words,
        })
    }
}

fn has(names: &[Arc<str>], name: &str) -> bool {
    names.iter().any(|known| &**known == name)
}

impl Names for CallNames {
    fn name(&self, name: &str) -> Option<Known> {
        if let "args" | "results" | "hit" = name {
            return Some(Known::Space);
        }
        Self::call_fact(name).or_else(|| {
            let known = self.signatures.as_ref()?;
            (has(&known.args, name) || has(&known.results, name))
                .then(|| Self::any(Key::Value(name.into())))
        })
    }

    fn member(&self, space: &str, name: &str) -> Option<Known> {
        match (space, &self.signatures) {
            ("hit", _) => Self::call_fact(name),
            ("args", Some(known)) if !has(&known.args, name) => None,
            ("results", Some(known)) if !has(&known.results, name) => None,
            ("args", _) => Some(Self::any(Key::Arg(name.into()))),
            ("results", _) => Some(Self::any(Key::Result(name.into()))),
            _ => None,
        }
    }

    fn names(&self, space: Option<&str>) -> Vec<String> {
        let facts = CALL_FACTS.iter().map(|row| row.name.to_owned());
        let owned = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (args, results) = match &self.signatures {
            Some(known) => (owned(&known.args), owned(&known.results)),
            None => (Vec::new(), Vec::new()),
        };
        match space {
            Some("hit") => facts.collect(),
            Some("args") => args,
            Some("results") => results,
            Some(_) => Vec::new(),
            None => facts.chain(args).chain(results).collect(),
        }
    }
}
