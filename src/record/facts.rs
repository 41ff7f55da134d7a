//! A call as the environment of an expression.

use crate::record::{Call, Endpoint, ErrorValue, Frame};
use crate::script::{CallFact, Fact, Facts, Key, Taken};
use crate::value::Value;

impl Facts for Call {
    fn taken(&self, slot: u32) -> Option<&Taken> {
        let found = self.taken.iter().find(|(known, _)| *known == slot);
        found.map(|(_, taken)| taken)
    }

    fn fact(&self, key: &Key) -> Fact<'_> {
        match key {
            Key::Call(fact) => self.call_fact(*fact),
            Key::Arg(name) => find(&self.args, name),
            Key::Result(name) => find(&self.results, name),
            Key::Value(name) => match find(&self.args, name) {
                Fact::Absent => find(&self.results, name),
                found => found,
            },
        }
    }
}

fn find<'a>(values: &'a [(std::sync::Arc<str>, Value)], name: &str) -> Fact<'a> {
    values
        .iter()
        .find(|(known, _)| &**known == name)
        .map_or(Fact::Absent, |(_, value)| Fact::from_value(value))
}

impl Call {
    /// One fact of the table, as expressions see it.
    pub fn call_fact(&self, fact: CallFact) -> Fact<'_> {
        let conn = self.conn.as_ref();
        match fact {
            CallFact::Id => Fact::int(Some(self.id)),
            CallFact::Parent => Fact::int(self.parent),
            CallFact::Time => Fact::text(Some(rfc3339(self.time_ns))),
            CallFact::Dur => self.dur_ns.map_or(Fact::Absent, |ns| {
                Fact::Duration(i64::try_from(ns).unwrap_or(i64::MAX))
            }),
            CallFact::DurNs => Fact::int(self.dur_ns),
            CallFact::Goid => Fact::int(self.goid),
            CallFact::Tid => Fact::int((self.tid != 0).then_some(self.tid)),
            CallFact::Func => Fact::text(Some(&*self.func)),
            CallFact::Fd => Fact::int(conn.and_then(|conn| conn.fd)),
            CallFact::Network => Fact::text(conn.and_then(|conn| conn.network.as_deref())),
            CallFact::Local => address(conn.and_then(|conn| conn.local.as_ref())),
            CallFact::Remote => address(conn.and_then(|conn| conn.remote.as_ref())),
            CallFact::Note => Fact::text(conn.and_then(|conn| conn.note)),
            CallFact::Len => Fact::int(self.asked),
            CallFact::N => Fact::int(self.n),
            CallFact::Err => match &self.err {
                None => Fact::Absent,
                Some(ErrorValue::Nil) => Fact::Nil,
                Some(ErrorValue::Text { text, .. }) => Fact::text(Some(&**text)),
            },
            CallFact::End => Fact::text(Some(self.end.as_str())),
            CallFact::Late => Fact::Bool(self.late),
            CallFact::SinceAttach => Fact::Bool(self.since_attach),
            CallFact::EntryLost => Fact::Bool(self.entry_lost),
            CallFact::Doubtful => Fact::Bool(self.doubtful),
            CallFact::Stack => Fact::text((!self.stack.is_empty()).then(|| names(&self.stack))),
            CallFact::Payload => Fact::text(
                self.payload
                    .as_ref()
                    .map(|payload| String::from_utf8_lossy(&payload.bytes)),
            ),
            CallFact::PayloadLen => Fact::int(self.payload.as_ref().map(|payload| payload.len)),
        }
    }
}

fn address(endpoint: Option<&Endpoint>) -> Fact<'_> {
    Fact::text(
        endpoint
            .filter(|endpoint| !endpoint.is_unnamed())
            .map(ToString::to_string),
    )
}

fn names(stack: &[Frame]) -> String {
    let names: Vec<&str> = stack.iter().map(|frame| &*frame.func).collect();
    names.join("\n")
}

/// Wall clock nanoseconds as RFC 3339 in UTC with nine decimals; the text
/// orders as the times do.
fn rfc3339(time_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time_ns))
        .map_or_else(|_| time_ns.to_string(), |time| format!("{time:.9}"))
}
