//! One JSON object for one look.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroU64;

use serde::{Serialize, Serializer};

use crate::survey::compare::Growth;
use crate::survey::facts::{address, kind, mode};
use crate::survey::group::Group;
use crate::survey::{BlockedOn, Chan, Entry, Place, PlaceId, Survey, Wait, status_word};
use crate::value::Value;
use crate::value::frame::FrameValues;

#[derive(Serialize)]
struct Whole<'a> {
    time: Option<String>,
    pid: Option<i32>,
    go_version: &'a str,
    total: usize,
    system: usize,
    dead: usize,
    idle: usize,
    by_status: BTreeMap<&'static str, usize>,
    by_reason: BTreeMap<&'a str, usize>,
    by_class: BTreeMap<&'static str, usize>,
    groups: Vec<Row<'a>>,
    fds: Vec<Waited>,
    verdict: Option<String>,
    unreadable: usize,
    unstable: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutines: Option<Each<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    count: usize,
    sampled: bool,
    status: Option<&'static str>,
    reason: Option<&'a str>,
    wait_max_ns: Option<u64>,
    func: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    created_func: Option<&'a str>,
    created_file: Option<&'a str>,
    created_line: Option<u32>,
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<&'a str, &'a str>>,
}

#[derive(Serialize)]
struct Waited {
    fd: i64,
    network: Option<String>,
    local: Option<String>,
    remote: Option<String>,
    readers: Vec<u64>,
    writers: Vec<u64>,
    deadline_ns: Option<i64>,
}

#[derive(Serialize)]
struct One<'a> {
    goid: u64,
    status: &'static str,
    reason: Option<&'a str>,
    wait_ns: Option<u64>,
    wait_kind: Option<&'static str>,
    class: &'static str,
    fd: Option<i64>,
    network: Option<&'a str>,
    local: Option<String>,
    remote: Option<String>,
    mode: Option<&'static str>,
    deadline_ns: Option<i64>,
    blocked_on: Option<On<'a>>,
    func: Option<&'a str>,
    user: Option<&'a str>,
    start: Option<&'a str>,
    created_func: Option<&'a str>,
    created_file: Option<&'a str>,
    created_line: Option<u32>,
    parent: Option<u64>,
    tid: Option<u64>,
    locked: bool,
    labels: BTreeMap<&'a str, &'a str>,
    stack_state: &'static str,
    stack: Vec<Frame<'a>>,
}

#[derive(Serialize)]
struct On<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<Channel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sleep_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    syscall: Option<i64>,
}

#[derive(Serialize)]
struct Channel<'a> {
    address: String,
    elem: Option<&'a str>,
    len: u64,
    cap: u64,
    closed: bool,
    timer: bool,
}

#[derive(Serialize)]
struct Frame<'a> {
    func: &'a str,
    file: &'a str,
    line: u32,
    inlined: bool,
}

/// Goroutines one by one: put together as they are written, there may be
/// millions.
struct Each<'a> {
    survey: &'a Survey,
    list: &'a [&'a Entry],
}

impl Serialize for Each<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.list.iter().map(|e| one(self.survey, e)))
    }
}

/// What is written beside the look itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// The process.
    pub pid: Option<i32>,
    /// The groups.
    pub groups: &'a [Group],
    /// The sentence.
    pub verdict: Option<&'a str>,
}

/// Writes a look as one line; `list` are the goroutines to tell of one by one.
pub fn write(
    to: &mut dyn Write,
    survey: &Survey,
    beside: &Beside<'_>,
    list: Option<&[&Entry]>,
) -> io::Result<()> {
    let counts = survey.counts();
    let whole = Whole {
        time: survey
            .time_ns
            .and_then(|ns| jiff::Timestamp::from_nanosecond(ns.into()).ok())
            .map(|t| t.to_string()),
        pid: beside.pid,
        go_version: &survey.go_version,
        total: survey.total(),
        system: survey.system,
        dead: survey.dead,
        idle: survey.idle,
        by_status: counts.status,
        by_reason: counts.reason.iter().map(|(k, v)| (&**k, *v)).collect(),
        by_class: counts.class,
        groups: beside.groups.iter().map(|g| row(survey, g)).collect(),
        fds: fds(survey),
        verdict: beside.verdict.map(str::to_owned),
        unreadable: survey.unreadable,
        unstable: survey.unstable,
        stopped_ns: survey.stopped_ns,
        goroutines: list.map(|list| Each { survey, list }),
    };
    serde_json::to_writer(&mut *to, &whole)?;
    to.write_all(b"\n")
}

fn place(survey: &Survey, id: Option<PlaceId>) -> Option<&Place> {
    survey.names.find(id)
}

fn row<'a>(survey: &'a Survey, group: &'a Group) -> Row<'a> {
    let frame = place(survey, group.frame.get().copied().flatten());
    let created = place(survey, group.created.get().copied().flatten());
    Row {
        count: group.count,
        sampled: group.sampled,
        status: group.status.get().map(|s| status_word(*s)),
        reason: group
            .reason
            .get()
            .map(|r| &**r)
            .filter(|r: &&str| !r.is_empty()),
        wait_max_ns: group.wait_max.map(Wait::ns),
        func: frame.map(|p| &*p.func),
        file: frame.map(|p| &*p.file),
        line: frame.map(|p| p.line),
        created_func: created.map(|p| &*p.func),
        created_file: created.map(|p| &*p.file),
        created_line: created.map(|p| p.line),
        peer: group
            .peer
            .get()
            .and_then(|p| p.as_ref())
            .map(ToString::to_string),
        labels: group
            .labels
            .get()
            .and_then(|l| l.as_deref())
            .map(|l| l.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()),
    }
}

fn fds(survey: &Survey) -> Vec<Waited> {
    survey
        .descriptors()
        .into_iter()
        .map(|d| Waited {
            fd: d.fd,
            network: d.network.map(|n| n.to_string()),
            local: d.local.map(|e| e.to_string()),
            remote: d.remote.map(|e| e.to_string()),
            readers: d.readers,
            writers: d.writers,
            deadline_ns: d.deadline_ns,
        })
        .collect()
}

fn one<'a>(survey: &'a Survey, e: &'a Entry) -> One<'a> {
    let net = e.net.as_deref();
    let created = place(survey, e.created);
    let lines = e.stack.map_or(&[][..], |id| survey.names.lines(id));
    One {
        goid: e.goid,
        status: status_word(e.status),
        reason: Some(&*e.reason).filter(|r| !r.is_empty()),
        wait_ns: e.wait.map(Wait::ns),
        wait_kind: e.wait.map(Wait::kind),
        class: e.class.as_str(),
        fd: net.and_then(|n| n.fd),
        network: net.and_then(|n| n.network.as_deref()),
        local: net.and_then(|n| n.local.as_ref()).map(ToString::to_string),
        remote: net.and_then(|n| n.remote.as_ref()).map(ToString::to_string),
        mode: net.and_then(|n| n.write).map(mode),
        deadline_ns: net.and_then(|n| n.deadline_ns),
        blocked_on: e.blocked_on.as_deref().map(on),
        func: place(survey, e.func).map(|p| &*p.func),
        user: place(survey, e.user).map(|p| &*p.func),
        start: place(survey, e.start).map(|p| &*p.func),
        created_func: created.map(|p| &*p.func),
        created_file: created.map(|p| &*p.file),
        created_line: created.map(|p| p.line),
        parent: e.parent.map(NonZeroU64::get),
        tid: e.tid,
        locked: e.locked,
        labels: e
            .labels
            .iter()
            .flat_map(|l| l.iter())
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect(),
        stack_state: e.stack_state.as_str(),
        stack: lines
            .iter()
            .filter_map(|l| {
                let p = survey.names.get(l.place)?;
                Some(Frame {
                    func: &p.func,
                    file: &p.file,
                    line: p.line,
                    inlined: l.inlined,
                })
            })
            .collect(),
    }
}

fn on(blocked: &BlockedOn) -> On<'_> {
    let hex = |at: u64| format!("{at:#x}");
    On {
        kind: kind(blocked),
        address: address(blocked).map(hex),
        channels: match blocked {
            BlockedOn::Channels(list) => list.iter().map(channel).collect(),
            _ => Vec::new(),
        },
        sleep_ns: match blocked {
            BlockedOn::Sleep(ns) => Some(*ns),
            _ => None,
        },
        syscall: match blocked {
            BlockedOn::Syscall(number) => Some(*number),
            _ => None,
        },
    }
}

fn channel(c: &Chan) -> Channel<'_> {
    Channel {
        address: format!("{:#x}", c.at),
        elem: c.elem.as_deref(),
        len: c.len,
        cap: c.cap,
        closed: c.closed,
        timer: c.timer,
    }
}

/// Writes one goroutine as a line.
pub fn one_line(to: &mut dyn Write, survey: &Survey, entry: &Entry) -> io::Result<()> {
    serde_json::to_writer(&mut *to, &one(survey, entry))?;
    to.write_all(b"\n")
}

#[derive(Serialize)]
struct Full<'a> {
    #[serde(flatten)]
    one: One<'a>,
    frames: Vec<FullFrame<'a>>,
}

#[derive(Serialize)]
struct FullFrame<'a> {
    #[serde(flatten)]
    frame: Frame<'a>,
    variables: Vec<Variable<'a>>,
}

#[derive(Serialize)]
struct Variable<'a> {
    name: &'a str,
    role: &'static str,
    #[serde(rename = "type")]
    ty: &'a str,
    line: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shadowed: bool,
    value: &'a Value,
}

fn full_frame(f: &FrameValues) -> FullFrame<'_> {
    let variables = f.values.iter().map(|v| Variable {
        name: &v.name,
        role: v.role,
        ty: &v.ty,
        line: v.line,
        shadowed: v.shadowed,
        value: &v.value,
    });
    FullFrame {
        frame: Frame {
            func: &f.source.function,
            file: &f.source.file,
            line: f.source.line,
            inlined: f.source.inlined,
        },
        variables: variables.collect(),
    }
}

/// Writes one goroutine as a line, with the variables of each frame.
pub fn full_line(
    to: &mut dyn Write,
    survey: &Survey,
    entry: &Entry,
    frames: &[FrameValues],
) -> io::Result<()> {
    let full = Full {
        one: one(survey, entry),
        frames: frames.iter().map(full_frame).collect(),
    };
    serde_json::to_writer(&mut *to, &full)?;
    to.write_all(b"\n")
}

#[derive(Serialize)]
struct Diff<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    before: usize,
    after: usize,
    sites: Vec<Site<'a>>,
}

#[derive(Serialize)]
struct Site<'a> {
    created_func: Option<&'a str>,
    created_file: Option<&'a str>,
    created_line: Option<u32>,
    before: usize,
    after: usize,
    new: usize,
}

/// Writes what changed between two looks as a line.
pub fn growth(
    to: &mut dyn Write,
    pid: Option<i32>,
    before: &Survey,
    after: &Survey,
    sites: &[Growth],
) -> io::Result<()> {
    let diff = Diff {
        pid,
        before: before.total(),
        after: after.total(),
        sites: sites
            .iter()
            .map(|s| Site {
                created_func: s.created.as_ref().map(|p| &*p.func),
                created_file: s.created.as_ref().map(|p| &*p.file),
                created_line: s.created.as_ref().map(|p| p.line),
                before: s.before,
                after: s.after,
                new: s.new,
            })
            .collect(),
    };
    serde_json::to_writer(&mut *to, &diff)?;
    to.write_all(b"\n")
}
