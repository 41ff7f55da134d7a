//! What leaves the engine: one record a call. Plain data, owned, `Send`.
//!
//! A record holds everything that a sink, a filter or a script may ask of the
//! call; nothing in it has to be read from the target again.

use std::sync::Arc;

pub use crate::golang::endpoint::Endpoint;
use crate::script::Taken;
use crate::value::Value;

mod facts;

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// It reached a RET.
    Return,
    /// A panic unwound it.
    Panic,
    /// `runtime.Goexit`, or the process ended.
    Exit,
    /// It is gone without a RET, and it cannot be told which way.
    Unwound,
    /// Its end was among the records that were lost; or it may have been: records
    /// were lost while it was open, and nothing was seen of it since.
    Lost,
    /// Still running: when tracing stopped, or when `--slow` reported it.
    Open,
    /// It did not: a line inside the function was passed.
    Passed,
}

impl End {
    /// The word used in JSON and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Return => "return",
            End::Panic => "panic",
            End::Exit => "exit",
            End::Unwound => "unwound",
            End::Lost => "lost",
            End::Open => "open",
            End::Passed => "passed",
        }
    }
}

/// Which connection a call of the net family is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Conn {
    /// The file descriptor; `None` when it could not be read.
    pub fd: Option<i64>,
    /// Go's name: `tcp`, `tcp4`, `udp`, `unix` …
    pub network: Option<Arc<str>>,
    /// This end.
    pub local: Option<Endpoint>,
    /// The other end.
    pub remote: Option<Endpoint>,
    /// What the receiver itself is closed or nil; said instead of an fd.
    pub note: Option<&'static str>,
}

/// Which way the bytes of a call go, for the arrow in the text output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Read, ReadFrom, Accept: `local ← remote`
    In,
    /// Write, WriteTo, Dial: `local → remote`
    Out,
    /// Close, deadlines: `local ↔ remote`
    Both,
}

/// The error a call returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ErrorValue {
    /// `nil`
    Nil,
    /// What its Error method prints, or its structure.
    Text {
        /// The text.
        text: Arc<str>,
        /// The Error method is the program's own code: shown as `pkg.Type{fields}`.
        structural: bool,
    },
}

/// One frame of a call stack, innermost first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Function name.
    pub func: Arc<str>,
    /// Source file, as the compiler recorded it.
    pub file: Arc<str>,
    /// Line; 0 when unknown.
    pub line: u32,
    /// Its body was inlined into the next frame's function.
    pub inlined: bool,
}

/// The first bytes that were read or written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payload {
    /// At most as many as asked for.
    pub bytes: Vec<u8>,
    /// How many the call moved.
    pub len: u64,
}

/// Arguments or results with their names. Shared: those of many calls are the
/// same.
pub type Named = Arc<[(Arc<str>, Value)]>;
/// A line inside of a function that a thread passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passed {
    /// The number of the tracepoint.
    pub point: usize,
    /// Source file.
    pub file: Arc<str>,
    /// Line.
    pub line: u32,
}

/// An entry joined with how that call ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// Counts from 1 in the order of entries.
    pub id: u64,
    /// The traced call of the same goroutine that this one happened in.
    pub parent: Option<u64>,
    /// Wall clock of the entry hit, nanoseconds since the Unix epoch; of the
    /// end where the entry was not seen.
    pub time_ns: i64,
    /// From entry to end; `None` when the entry or the end was not seen.
    /// For an open call: how long it has been running.
    pub dur_ns: Option<u64>,
    /// Goroutine id; `None` on g0 and threads without one.
    pub goid: Option<u64>,
    /// Thread that made the entry hit (the end's, for `since_attach` and
    /// `entry_lost`; 0 as long as it has not ended).
    pub tid: i32,
    /// Function name as Go spells it.
    pub func: Arc<str>,
    /// For the net family.
    pub conn: Option<Arc<Conn>>,
    /// For the net family.
    pub direction: Option<Direction>,
    /// Length of the buffer handed in, for the net family.
    pub asked: Option<u64>,
    /// Parameters, receiver first; names or `a0`, `a1` …
    pub args: Named,
    /// Results; names or `r0`, `r1` … Empty unless it ended by `Return`.
    pub results: Named,
    /// The count of bytes that the call returned (the `int`/`int64` result of
    /// the Read/Write family).
    pub n: Option<i64>,
    /// The last result, when it is an `error`.
    pub err: Option<ErrorValue>,
    /// How it ended.
    pub end: End,
    /// It was already running when gotap attached.
    pub since_attach: bool,
    /// Its entry was not seen, and records had been lost by then: it was among
    /// them, or the call was already running when gotap attached. `time_ns` is the
    /// end's.
    pub entry_lost: bool,
    /// Records were lost while it ran, or while the call ran that it is said to
    /// have happened in: what is told of its end may be that of a later call in
    /// its place, and its parent may have ended before.
    pub doubtful: bool,
    /// Some value or error text was read from memory after the call had gone on
    /// (by jumps): it may have changed since.
    pub late: bool,
    /// Where it was called from, innermost first; empty unless asked for.
    pub stack: Vec<Frame>,
    /// With `--payload`.
    pub payload: Option<Payload>,
    /// Local variables, of a line that was passed, or of the function as the call
    /// returned; empty unless asked for.
    pub locals: Vec<(Arc<str>, Value)>,
    /// Why a call that returned has none to tell of; [`LOCALS_UNASKED`] at first.
    pub no_locals: Option<&'static str>,
    /// It is no call: a line inside of a function was passed.
    pub passed: Option<Passed>,
    /// What was asked for besides, by number, taken at the entry or the return.
    pub taken: Vec<(u32, Taken)>,
}

/// Nobody wanted a call's local variables when it ended.
pub const LOCALS_UNASKED: &str = "they were not asked for yet when the call ended";

/// What a sink is given.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// A call.
    Call(Box<Call>),
    /// Something was lost.
    Gap {
        /// How many records.
        lost: u64,
        /// Where: `queue`, `filter error` …
        why: &'static str,
    },
}
