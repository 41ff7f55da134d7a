//! Typed values: load under limits, render.
//!
//! Who lives here: the [`Value`] tree, its loader ([`load`], over
//! [`crate::memory`]), the variables of a frame ([`frame`], [`held`]), its two renderings: as Go would print it (`Display`,
//! grammar in `display.rs`) and as JSON (`Serialize`, grammar in `json.rs`).
//! Nobody here knows ptrace.
//! Allowed in: script, probe, record, sink, session, cli.

mod display;
mod escape;
pub mod frame;
mod given;
pub mod held;
mod json;
mod known;
mod load;
mod maps;
mod program;
mod staged;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod render_tests;
#[cfg(test)]
mod tests;

pub use escape::{escaped, push_escaped, quoted};
pub use given::{Dynamic, ErrorText, ErrorWords, Limits, NoRuntime, Place, RuntimeTypes};
pub use load::{find_key, load, load_all, pointer_shaped, preload};
pub use program::Program;

use std::sync::Arc;

/// How values are written, for manuals: the grammar of `Display`.
pub const GRAMMAR: &str = include_str!("grammar.md");

/// A value of the target, loaded: it holds no address that must be read again.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `nil`: pointer, slice, map, chan, func, interface.
    Nil,
    /// `bool`
    Bool(bool),
    /// Signed integers.
    Int(i64),
    /// Unsigned integers.
    Uint(u64),
    /// Floats.
    Float(f64),
    /// Complex numbers.
    Complex(f64, f64),
    /// A string: the first bytes of it, and its whole length.
    Str {
        /// As many bytes as the limits allow.
        bytes: Vec<u8>,
        /// `len(s)` in the target.
        len: u64,
    },
    /// An error value, as its Error method would print it.
    Error {
        /// The text.
        text: Arc<str>,
        /// The Error method is the program's own: shown as `pkg.Type{fields}`.
        structural: bool,
    },
    /// A duration, in nanoseconds (`time.Duration`).
    Duration(i64),
    /// A pointer that was not followed.
    Pointer {
        /// Go's name of the pointer's type.
        ty: Arc<str>,
        /// Where it points.
        addr: u64,
    },
    /// A pointer that was followed: prints as `&` and the value.
    Ref(Box<Value>),
    /// Slices and arrays.
    List {
        /// Go's name of the type.
        ty: Arc<str>,
        /// As many elements as the limits allow.
        items: Vec<Value>,
        /// `len(v)` in the target.
        len: u64,
    },
    /// A byte slice: the first bytes, and its whole length.
    Bytes {
        /// As many bytes as the limits allow.
        bytes: Vec<u8>,
        /// `len(b)` in the target.
        len: u64,
    },
    /// A struct.
    Struct {
        /// Go's name of the type.
        ty: Arc<str>,
        /// Names and values, in order.
        fields: Vec<(Arc<str>, Value)>,
        /// Fields left out by the limits.
        omitted: u64,
    },
    /// A map.
    Map {
        /// Go's name of the type.
        ty: Arc<str>,
        /// As many entries as the limits allow.
        entries: Vec<(Value, Value)>,
        /// `len(m)` in the target, when it could be read.
        len: Option<u64>,
    },
    /// A channel.
    Chan {
        /// Go's name of the type.
        ty: Arc<str>,
        /// Elements queued, when it could be read.
        len: Option<u64>,
        /// Capacity, when it could be read.
        cap: Option<u64>,
        /// Where the hchan lies.
        addr: u64,
    },
    /// A function value: its name, or its address.
    Func(Arc<str>),
    /// An interface's dynamic type and value.
    Interface {
        /// Go's name of the dynamic type.
        ty: Arc<str>,
        /// The value in it.
        value: Box<Value>,
    },
    /// A register or word whose type is not known.
    Raw(u64),
    /// Text that reads better than the structure (`net.IP`, addresses, times).
    Text(Arc<str>),
    /// It could not be read; why.
    Unreadable(Arc<str>),
    /// The compiler kept it nowhere, or in a register that is overwritten.
    OptimisedAway,
    /// Left out by the depth limit.
    Elided,
}
