//! The one table of what can be asked of a goroutine: filters, JSON and
//! scripts use the same names.

use std::num::NonZeroU64;

use super::{BlockedOn, Class, Entry, Names, Wait, status_word};
use crate::script::{Fact, Facts, Key, Known, Names as ScriptNames, Type};

/// A row of [`GOROUTINE_FACTS`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As it is written in a filter and in JSON.
    pub name: &'static str,
    /// Its type in an expression.
    pub ty: Type,
    /// The only texts that it can be; empty when it can be any.
    pub words: &'static [&'static str],
    /// For the manual.
    pub about: &'static str,
}

const fn row(name: &'static str, ty: Type, about: &'static str) -> Row {
    Row {
        name,
        ty,
        words: &[],
        about,
    }
}

const fn of_words(name: &'static str, words: &'static [&'static str], about: &'static str) -> Row {
    Row {
        name,
        ty: Type::Str,
        words,
        about,
    }
}

const STATUS: &[&str] = &[
    "runnable",
    "running",
    "syscall",
    "waiting",
    "copystack",
    "preempted",
    "leaked",
];

/// Every fact of a goroutine. `wait` and `deadline` are for expressions only
/// (JSON has `wait_ns`, `deadline_ns`).
pub const GOROUTINE_FACTS: &[Row] = &[
    row("goid", Type::Int, "goroutine id"),
    of_words("status", STATUS, "as the runtime has it"),
    row("reason", Type::Str, "why it waits, in the runtime's words"),
    row("wait", Type::Duration, "how long it has waited, at least"),
    row("wait_ns", Type::Int, "the same in nanoseconds"),
    of_words("wait_kind", &["at_least", "observed"], "how that is known"),
    of_words("class", Class::WORDS, "what it waits for, in one word"),
    row("fd", Type::Int, "descriptor that it waits for"),
    row("network", Type::Str, "tcp, udp, unix, pipe …"),
    row("local", Type::Str, "this end's address"),
    row("remote", Type::Str, "the other end's address"),
    of_words("mode", &["read", "write"], "which way it waits"),
    row("deadline", Type::Duration, "time left until it gives up"),
    row("deadline_ns", Type::Int, "the same in nanoseconds"),
    row("func", Type::Str, "innermost function outside of runtime"),
    row(
        "user",
        Type::Str,
        "innermost function of the program itself",
    ),
    row("file", Type::Str, "file of that function's frame"),
    row("line", Type::Int, "line of that frame"),
    row("created_func", Type::Str, "function that made it"),
    row("created_file", Type::Str, "file of the go statement"),
    row("created_line", Type::Int, "line of the go statement"),
    row("start", Type::Str, "function that it began with"),
    row("parent", Type::Int, "goroutine that made it"),
    row("tid", Type::Int, "its thread"),
    row("locked", Type::Bool, "it may run on one thread alone"),
    row("blocked_on", Type::Str, "kind of what it waits for"),
    row("address", Type::Int, "address of that lock or channel"),
    row("stack", Type::Str, "names of its frames, a line each"),
];

/// The names of a filter on goroutines; `labels.NAME` is a pprof label.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoroutineNames;

impl ScriptNames for GoroutineNames {
    fn name(&self, name: &str) -> Option<Known> {
        if name == "labels" {
            return Some(Known::Space);
        }
        let row = GOROUTINE_FACTS.iter().find(|row| row.name == name)?;
        Some(Known::Fact {
            key: Key::Value(row.name.into()),
            ty: row.ty,
            words: row.words,
        })
    }

    fn member(&self, space: &str, name: &str) -> Option<Known> {
        (space == "labels").then(|| Known::Fact {
            key: Key::Arg(name.into()),
            ty: Type::Str,
            words: &[],
        })
    }

    fn names(&self, space: Option<&str>) -> Vec<String> {
        match space {
            None => GOROUTINE_FACTS.iter().map(|r| r.name.to_owned()).collect(),
            Some(_) => Vec::new(),
        }
    }
}

/// A goroutine as filters see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The goroutine.
    pub entry: &'a Entry,
    /// What its ids stand for.
    pub names: &'a Names,
}

impl Facts for Asked<'_> {
    fn fact(&self, key: &Key) -> Fact<'_> {
        match key {
            Key::Value(name) => self.named(name),
            Key::Arg(label) => {
                let labels = self.entry.labels.as_deref();
                let found = labels.and_then(|l| l.iter().find(|(k, _)| **k == **label));
                Fact::text(found.map(|(_, v)| v.as_str()))
            }
            Key::Call(_) | Key::Result(_) => Fact::Absent,
        }
    }
}

impl Asked<'_> {
    fn named(&self, name: &str) -> Fact<'_> {
        let e = self.entry;
        let net = e.net.as_deref();
        let place = |id| self.names.find(id);
        let frame = place(e.user.or(e.func));
        match name {
            "goid" => Fact::int(Some(e.goid)),
            "status" => Fact::text(Some(status_word(e.status))),
            "reason" => Fact::text(Some(&*e.reason).filter(|r| !r.is_empty())),
            "wait" => e
                .wait
                .map_or(Fact::Absent, |w| Fact::Duration(w.ns() as i64)),
            "wait_ns" => Fact::int(e.wait.map(Wait::ns)),
            "wait_kind" => Fact::text(e.wait.map(Wait::kind)),
            "class" => Fact::text(Some(e.class.as_str())),
            "fd" => Fact::int(net.and_then(|n| n.fd)),
            "network" => Fact::text(net.and_then(|n| n.network.as_deref())),
            "local" => Fact::text(net.and_then(|n| n.local.as_ref()).map(ToString::to_string)),
            "remote" => Fact::text(net.and_then(|n| n.remote.as_ref()).map(ToString::to_string)),
            "mode" => Fact::text(net.and_then(|n| n.write).map(mode)),
            "deadline" => net
                .and_then(|n| n.deadline_ns)
                .map_or(Fact::Absent, Fact::Duration),
            "deadline_ns" => Fact::int(net.and_then(|n| n.deadline_ns)),
            "func" => Fact::text(place(e.func).map(|p| &*p.func)),
            "user" => Fact::text(place(e.user).map(|p| &*p.func)),
            "file" => Fact::text(frame.map(|p| &*p.file)),
            "line" => Fact::int(frame.map(|p| p.line)),
            "created_func" => Fact::text(place(e.created).map(|p| &*p.func)),
            "created_file" => Fact::text(place(e.created).map(|p| &*p.file)),
            "created_line" => Fact::int(place(e.created).map(|p| p.line)),
            "start" => Fact::text(place(e.start).map(|p| &*p.func)),
            "parent" => Fact::int(e.parent.map(NonZeroU64::get)),
            "tid" => Fact::int(e.tid),
            "locked" => Fact::Bool(e.locked),
            "blocked_on" => Fact::text(e.blocked_on.as_deref().map(kind)),
            "address" => Fact::int(e.blocked_on.as_deref().and_then(address)),
            "stack" => Fact::text(e.stack.map(|id| self.stack(id))),
            _ => Fact::Absent,
        }
    }

    fn stack(&self, id: super::StackId) -> String {
        let lines = self.names.lines(id).iter();
        let names: Vec<&str> = lines
            .filter_map(|l| self.names.get(l.place))
            .map(|p| &*p.func)
            .collect();
        names.join("\n")
    }
}

/// `read` or `write`.
pub fn mode(write: bool) -> &'static str {
    if write { "write" } else { "read" }
}

/// In one word, what is waited for.
pub fn kind(on: &BlockedOn) -> &'static str {
    match on {
        BlockedOn::Channels(list) if list.len() == 1 => "chan",
        BlockedOn::Channels(_) => "select",
        BlockedOn::Lock(lock, _) => lock.as_str(),
        BlockedOn::Sleep(_) => "sleep",
        BlockedOn::Syscall(_) => "syscall",
    }
}

/// The address of the lock, or of the only channel.
pub fn address(on: &BlockedOn) -> Option<u64> {
    match on {
        BlockedOn::Channels(list) => match list.as_slice() {
            [only] => Some(only.at),
            _ => None,
        },
        BlockedOn::Lock(_, at) => Some(*at),
        BlockedOn::Sleep(_) | BlockedOn::Syscall(_) => None,
    }
}
